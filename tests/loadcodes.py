"""A run made by hand: a call for every final response there is, and for each way to have none.

`EXPECTED` and `MEANS` have every metric of it, computed by hand from the formulas of RFC 6076;
`CALLS` says how many there are of what, so that each number can be found again.
"""

from __future__ import annotations

import msgspec

from sipherd.load.records import CallAttempt, MediaStats, RegisterAttempt, RunEvent
from sipherd.protocol.events import PhoneDied
from sipherd.protocol.states import PhoneState

__all__ = ["EXPECTED", "FINAL", "MEANS", "SUCCESS", "calls", "deaths", "registers"]

# The IANA registry "Response Codes" of SIP, final ones.
SUCCESS = (200, 202, 204)
REDIRECTION = (300, 301, 302, 305, 380)
CLIENT = (
    *(400, 401, 402, 403, 404, 405, 406, 407, 408, 410, 412, 413, 414, 415, 416, 417),
    *(420, 421, 422, 423, 424, 425, 428, 429, 430, 433, 436, 437, 438, 439, 440, 469, 470),
    *(480, 481, 482, 483, 484, 485, 486, 487, 488, 489, 491, 493, 494),
)
SERVER = (500, 501, 502, 503, 504, 505, 513, 555, 580)
GLOBAL = (600, 603, 604, 606, 607, 608)
FINAL = (*SUCCESS, *REDIRECTION, *CLIENT, *SERVER, *GLOBAL)
"""3 + 5 + 46 + 9 + 6 = 69."""

CALLS = {
    "ended by a BYE and its 200": 3,  # one for each 2xx
    "ended by a BYE that was answered 481": 1,
    "answered, and its phone died a second later": 1,
    "redirected": 5,
    "rejected with 4xx to 6xx": 61,
    "sent, and nobody answered": 2,  # Timer B; ICMP, for which we make a 503 of our own
    "never sent": 1,
}
"""74, of which 73 were sent and 5 answered."""

EXPECTED: dict[str, float] = {
    "attempts": 74,
    "invites": 73,
    "answered": 5,
    "as_intended": 100 * 4 / 74,  # not the one whose phone died
    "not_intended": 70,
    "ser": 100 * 5 / (73 - 5),
    "seer": 100 * (5 + 4) / (73 - 5),  # 480, 486, 600, 603
    "isa": 100 * 4 / 73,  # 408, 500, 503, 504; not our own 503
    "scr": 100 * 3 / 73,
    "asr": 100 * 5 / 73,
    "acd": (3 * 2.0 + 2.0 + 1.0) / 5,
    "no_response": 100 * 2 / 73,
    "refused": 1,
    "crashed": 1,
    "retransmissions": 6,
    "loss": 100 * 2 / (98 + 2 + 100),
    "one_way": 1,
    "registers": 5,
    "ira": 100 * 2 / 5,  # 403, and Timer F; not the 302
    "deaths": 2,
}
"""Those that are one number: percent, seconds, counts."""

MEANS: dict[str, tuple[int, float, float]] = {
    "srd_ok": (5, 0.010, 0.010),
    "srd_failed": (58, 0.020, 0.020),  # 61 failed, 3 of them by 401, 402 and 407
    "pdd": (5, 0.010, 0.010),
    "setup": (5, 0.5, 0.5),
    "sdd_ok": (3, 0.002, 0.002),
    "sdd_failed": (1, 0.004, 0.004),
    "sdt_ok": (4, 2.0, 2.0),
    "sdt_failed": (1, 1.0, 1.0),
    "rrd": (2, 0.020, 0.030),
    "late": (73, 0.292 / 73, 0.292),  # one of them
    "mos": (2, 4.2, 4.4),
    "jitter": (2, 0.003, 0.004),
    "round_trip": (1, 0.030, 0.030),
}
"""Those that are many: how many values, their mean, the greatest."""


def _call(**fields: object) -> CallAttempt:
    plain = {
        "number": 1,
        "intended": 0.0,
        "started": 0.0,
        "caller": "alice",
        "callee": "bob",
        "drawn": "answer",
        "outcome": "answer",
    }
    return msgspec.convert(plain | fields, CallAttempt)


def _answered(code: int = 200, **fields: object) -> CallAttempt:
    """100 at 1 ms, 180 at 10 ms, 2xx at 500 ms, BYE at 2.5 s, its 200 2 ms later."""
    plain = {
        "responses": [(100, 0.001), (180, 0.010), (code, 0.5)],
        "final_code": code,
        "answered": 0.5,
        "bye_sent": 2.5,
        "bye_answered": 2.502,
        "bye_code": 200,
        "ended": 2.502,
        "cause": "hung_up",
        "ended_by": "caller",
    }
    return _call(**(plain | fields))


def _failed(code: int) -> CallAttempt:
    """100 at 1 ms, the code at 20 ms."""
    return _call(
        responses=[(100, 0.001), (code, 0.020)],
        final_code=code,
        ended=0.020,
        outcome="redirect" if code < 400 else "reject",
        cause="rejected",
    )


def calls() -> list[CallAttempt]:
    """The calls, ten a second."""
    heard = MediaStats(sent=100, received=98, lost=2, mos=4.0, jitter_ms=2.0, round_trip_ms=30.0)
    good = MediaStats(sent=100, received=100, lost=0, mos=4.4, jitter_ms=4.0)
    nothing = MediaStats(sent=100, received=0, lost=0, one_way=True)
    no_bye = {"bye_sent": None, "bye_answered": None, "bye_code": None}
    made = [
        _answered(200, caller_media=heard, callee_media=good),
        _answered(202, caller_media=nothing),
        _answered(204),
        _answered(bye_code=481, bye_answered=2.504, ended=2.504),
        _answered(**no_bye, ended=1.5, outcome="crashed", cause="phone_crashed", ended_by=""),
        *(_failed(code) for code in FINAL if code >= 300),
        _call(outcome="no_response", cause="no_response", ended=32.0, retransmissions=6),
        _call(outcome="no_response", cause="unreachable", final_code=503, ended=0.001),
        _call(outcome="refused", started=None, cause="no_phone"),
    ]
    numbered = []
    for number, one in enumerate(made, start=1):
        at = number / 10
        late = 0.292 if number == 4 else 0.0
        started = None if one.started is None else at + late
        numbered.append(msgspec.structs.replace(one, number=number, intended=at, started=started))
    return numbered


def registers() -> list[RegisterAttempt]:
    """Two that went well, one redirected, one refused, one that nobody answered."""
    return [
        RegisterAttempt(at=0.0, phone="alice", delay=0.010, code=200),
        RegisterAttempt(at=0.0, phone="bob", delay=0.030, code=200),
        RegisterAttempt(at=1.0, phone="alice", delay=0.010, code=302),
        RegisterAttempt(at=2.0, phone="alice", delay=0.010, code=403),
        RegisterAttempt(at=3.0, phone="bob"),
    ]


def deaths() -> list[RunEvent]:
    """Two."""
    died = PhoneDied(
        cause="SIGKILL", uptime=3.0, state=PhoneState.READY, calls=("c1",), next_action="restart"
    )
    return [RunEvent.of(t, died, "alice", n) for n, t in ((1, 2.0), (2, 3.0))]
