"""A load run that nobody lived through, as records: for tests of what is drawn from it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from sipherd.load.figures import figures
from sipherd.load.findings import JudgedGate, Judgement, Report
from sipherd.load.metrics import tally
from sipherd.load.records import (
    BoxSample,
    CallAttempt,
    Outcome,
    PhoneSample,
    Responses,
    RunEvent,
    RunFacts,
)
from sipherd.load.survey import report
from sipherd.protocol.events import BoxOverloaded, FaultInjected, NurseryDied, PhoneDied, PhoneMoved
from sipherd.protocol.states import PhoneState

#: 2026-11-24 12:00:00 UTC.
NOON = 1795521600.0

MIX: dict[str, tuple[Outcome, float]] = {
    "answer": ("answer", 0.7),
    "busy": ("busy", 0.1),
    "no answer": ("no_answer", 0.08),
    "cancel after 2 s": ("cancel", 0.07),
    "declined": ("reject", 0.05),
}
_CODES: dict[Outcome, int] = {"busy": 486, "no_answer": 480, "cancel": 487, "reject": 603}


def attempt(number: int = 1, **changes: object) -> CallAttempt:
    """An attempt that was answered and hung up as the profile wanted it."""
    at = (number - 1) / 10
    usual: dict[str, object] = {
        "number": number,
        "intended": at,
        "started": at + 0.001,
        "caller": "alice",
        "callee": "bob",
        "to_uri": "sip:1002@127.0.0.1:5062",
        "drawn": "answer",
        "outcome": "answer",
        "sip_call_id": f"call-{number}",
        "responses": ((100, 0.002), (180, 0.010), (200, 0.5)),
        "answered": 0.5,
        "ended": 5.5,
        "bye_sent": 5.498,
        "bye_answered": 5.5,
        "hold": 5.0,
        "ended_by": "caller",
        "cause": "hung_up",
        "final_code": 200,
    }
    return msgspec.convert(usual | changes, CallAttempt)


def facts(**changes: object) -> RunFacts:
    """A finished run of two phones, a minute long."""
    usual: dict[str, object] = {
        "name": "2026-11-24T12-00-00",
        "started_at": NOON,
        "profile": {"rate": 20, "duration": 60, "seed": 7},
        "herd": "lab",
        "phones": ("alice", "bob"),
        "state": "finished",
        "ended": 60.0,
    }
    return msgspec.convert(usual | changes, RunFacts)


def attempts(calls: int, rate: float, phones: int, seed: int = 7) -> list[CallAttempt]:
    """`calls` attempts, `rate` a second, of half of the phones to the other half."""
    draw = random.Random(seed)
    names = list(MIX)
    weights = [share for _, share in MIX.values()]
    seconds = calls / rate
    bad_from, bad_to = 0.55 * seconds, 0.63 * seconds
    found = []
    for number in range(1, calls + 1):
        intended = (number - 1) / rate
        drawn = draw.choices(names, weights)[0]
        expected = MIX[drawn][0]
        caller = f"phone-{draw.randrange(0, phones // 2) + 1:03}"
        callee = f"phone-{draw.randrange(phones // 2, phones) + 1:03}"
        in_trouble = bad_from < intended < bad_to
        slow = 8.0 if in_trouble else 1.0
        ringing = draw.lognormvariate(-5.2, 0.5) * slow
        base: dict[str, object] = {
            "intended": intended,
            "started": intended + draw.expovariate(1 / (0.0008 * slow)),
            "caller": caller,
            "callee": callee,
            "drawn": drawn,
            "expected": expected,
            "outcome": expected,
            "sip_call_id": f"{draw.getrandbits(64):016x}@127.0.0.1",
            "caller_incarnation": 1,
            "callee_incarnation": 1,
        }
        begun: Responses = ((100, ringing / 2), (180, ringing))
        luck = draw.random()
        if in_trouble and luck < 0.04:
            base |= {"outcome": "crashed", "cause": "phone_crashed", "ended": 0.4}
            base |= {"responses": begun, "answered": None, "final_code": None}
        elif luck < 0.003 or (in_trouble and luck < 0.12):
            base |= {"outcome": "reject", "cause": "rejected", "final_code": 503, "ended": ringing}
            base |= {"responses": ((100, ringing / 2), (503, ringing)), "answered": None}
        elif in_trouble and luck < 0.15:
            base |= {"outcome": "no_response", "cause": "no_response", "final_code": None}
            base |= {"responses": (), "answered": None, "ended": 32.0, "retransmissions": 6}
        elif expected == "answer":
            hold = draw.expovariate(1 / 8)
            base |= {"responses": (*begun, (200, ringing + 1)), "answered": ringing + 1}
            base |= {"ended": ringing + 1 + hold, "hold": hold}
            base |= {"bye_sent": ringing + 1 + hold - 0.002, "bye_answered": ringing + 1 + hold}
        else:
            wait = {"busy": 0.02, "no_answer": 5.0, "cancel": 2.0, "reject": 0.3}[expected]
            code = _CODES[expected]
            cause = "cancelled" if expected == "cancel" else "rejected"
            base |= {"responses": (*begun, (code, ringing + wait)), "answered": None}
            base |= {"ended": ringing + wait, "final_code": code, "cause": cause}
        if base["answered"] is None:
            base |= {"bye_sent": None, "bye_answered": None, "hold": 0.0, "ended_by": ""}
        found.append(attempt(number, **base))
    return found


def events(seconds: float) -> list[RunEvent]:
    """Five phones are killed, the nursery dies, the box is overloaded for a moment."""
    at = 0.55 * seconds
    found = []
    for i, phone in enumerate(("phone-003", "phone-007", "phone-012", "phone-015", "phone-020")):
        t = at + i * 0.01 * seconds
        fault = FaultInjected(fault="kill")
        died = PhoneDied(
            cause="SIGKILL (perhaps out of memory)",
            uptime=t + 4,
            state=PhoneState.READY,
            calls=(f"c{i}",),
            next_action="restart in 0 ms",
        )
        back = PhoneMoved(state=PhoneState.READY, previous=PhoneState.STARTING)
        found += [
            RunEvent.of(t, fault, phone, 1),
            RunEvent.of(t + 0.003, died, phone, 1),
            RunEvent.of(t + 0.009, back, phone, 2),
        ]
    found.append(RunEvent.of(at + 0.06 * seconds, NurseryDied(pid=4711, cause="SIGKILL")))
    overload = BoxOverloaded(sign="phones_late", phones_late=12, supervisor_late=0.0)
    found.append(RunEvent.of(at + 0.02 * seconds, overload))
    return found


def box(seconds: float) -> list[BoxSample]:
    """A busy box, and one that has too much to do for a while."""
    found = []
    for t in range(1, int(seconds) + 1):
        much = 0.55 * seconds < t < 0.63 * seconds
        found.append(
            BoxSample(
                t=t,
                cpu=0.97 if much else 0.3 + 0.05 * (t % 3),
                loop_lag=0.04 if much else 0.001,
                socket_drops=3 if much else 0,
            )
        )
    return found


def samples(seconds: float, phones: Sequence[str]) -> list[PhoneSample]:
    """Phones that take 2.3 MB, and one that leaks."""
    return [
        PhoneSample(
            t=t,
            phone=phone,
            incarnation=1,
            memory=2_300_000 + 1000 * i + (t * 20_000 if i == 0 else 0),
            fds=12,
            threads=1,
        )
        for t in range(5, int(seconds), 10)
        for i, phone in enumerate(phones)
    ]


def run(calls: int = 1200, rate: float = 20.0, phones: int = 20, **changes: object) -> Report:
    """The report of a whole run with every kind of trouble in it; it failed."""
    seconds = calls / rate + 12
    made = attempts(calls, rate, phones)
    names = tuple(f"phone-{i + 1:03}" for i in range(phones))
    about = facts(
        name="nightly <b>&amp; more</b>",
        phones=names,
        ended=seconds,
        profile={
            "callers": "phone-0*",
            "rate": rate,
            "duration": calls / rate,
            "warm_up": 0.05 * seconds,
            "mix": {name: share for name, (_, share) in MIX.items()},
            "seed": 7,
        },
        environment={
            "sipherd": "0.1.0",
            "host": "lab-3",
            "kernel": "6.1.0-18-amd64",
            "cpu": "2 x Xeon E5-2680 v4",
            "memory": "24 GiB",
            "limits": {"open_files": 65536, "processes": 4096},
        },
        **changes,
    )
    good = sum(one.outcome == one.expected for one in made)
    share = 100 * good / len(made)
    judgement = Judgement(
        word="FAIL",
        why=("as_intended >= 99: it was 98.2 %",),
        gates=(
            JudgedGate(
                gate="as_intended >= 99",
                state="failed",
                measured=f"{share:.2f} %",
                evidence="rejected (503) 74, no response 18, phone crashed 31; from 0:33 to 0:37",
            ),
            JudgedGate(
                gate="srd_ok_p95 < 200ms", state="passed", measured="14.2 ms", evidence="of 986"
            ),
            JudgedGate(gate="mos_p5 > 3.8", state="undefined", measured="-", evidence="no media"),
        ),
    )
    return report(
        about,
        made,
        events(calls / rate),
        figures(tally(made)),
        judgement,
        box=box(seconds),
        phones=samples(min(seconds, 600), names),
    )
