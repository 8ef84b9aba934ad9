"""Metrics over a hand-made set of attempts with every final response there is."""

from __future__ import annotations

import random

import msgspec
import pytest

import loadcodes
from loadcodes import FINAL, SUCCESS
from sipherd.load import delays
from sipherd.load.metrics import (
    DISTRIBUTIONS,
    METRICS,
    Tally,
    UnknownMetricError,
    metric,
    tally,
)
from sipherd.load.records import CallAttempt, MediaStats, RegisterAttempt


def made(number: int = 1, **fields: object) -> CallAttempt:
    plain = {
        "number": number,
        "intended": 1.0,
        "started": 1.0,
        "caller": "alice",
        "callee": "bob",
        "drawn": "answer",
        "outcome": "answer",
    }
    return msgspec.convert(plain | fields, CallAttempt)


def answered(number: int = 1, **fields: object) -> CallAttempt:
    """100 at 1 ms, 180 at 10 ms, 2xx at 500 ms, BYE at 2.5 s, its 200 2 ms later."""
    plain = {
        "responses": [(100, 0.001), (180, 0.010), (200, 0.5)],
        "final_code": 200,
        "answered": 0.5,
        "bye_sent": 2.5,
        "bye_answered": 2.502,
        "bye_code": 200,
        "ended": 2.502,
        "cause": "hung_up",
        "ended_by": "caller",
    }
    return made(number, **(plain | fields))


def failed(code: int, number: int = 1, **fields: object) -> CallAttempt:
    """100 at 1 ms, then the code at 20 ms."""
    plain = {
        "responses": [(100, 0.001), (code, 0.020)],
        "final_code": code,
        "ended": 0.020,
        "outcome": "redirect" if code < 400 else "reject",
        "cause": "rejected",
    }
    return made(number, **(plain | fields))


def every_code() -> list[CallAttempt]:
    """One attempt for each final response, and one of each way to have none."""
    attempts = [answered(code) for code in SUCCESS]
    attempts = [
        msgspec.structs.replace(
            a, final_code=code, responses=((100, 0.001), (180, 0.010), (code, 0.5))
        )
        for a, code in zip(attempts, SUCCESS, strict=True)
    ]
    attempts += [failed(code) for code in FINAL if code >= 300]
    attempts += [
        made(outcome="no_response", cause="no_response", ended=32.0),  # Timer B
        # ICMP: the 503 is of our own making.
        made(outcome="no_response", cause="unreachable", final_code=503, ended=0.001),
        made(outcome="refused", started=None, cause="no phone"),
    ]
    return [msgspec.structs.replace(a, number=n) for n, a in enumerate(attempts, start=1)]


def known(of: Tally) -> dict[str, float]:
    """The metrics that are defined."""
    return {name: value for name, value in of.summary().items() if value is not None}


def test_every_response_code() -> None:
    assert len(FINAL) == 3 + 5 + 46 + 9 + 6 == 69
    got = tally(every_code())

    # 69 answered by somebody, 2 by nobody; the refused one was never sent.
    assert got.value("attempts") == 72
    assert got.value("invites") == 71
    assert got.value("refused") == 1
    assert got.value("answered") == 3
    # Section 4.6: 3 of 71 - 5.
    assert got.value("ser") == pytest.approx(100 * 3 / 66)
    # Section 4.7: those, and 480, 486, 600, 603.
    assert got.value("seer") == pytest.approx(100 * 7 / 66)
    # Section 4.8: 408, 500, 503, 504; not the 503 that was our own.
    assert got.value("isa") == pytest.approx(100 * 4 / 71)
    # Section 4.9: all three were completed.
    assert got.value("scr") == pytest.approx(100 * 3 / 71)
    assert got.value("asr") == pytest.approx(100 * 3 / 71)
    assert got.value("no_response") == pytest.approx(100 * 2 / 71)
    assert got.value("acd") == pytest.approx(2.0)
    # Each was drawn to be answered.
    assert got.value("as_intended") == pytest.approx(100 * 3 / 72)
    assert got.value("not_intended") == 69
    # Section 4.3: told by 180 the ones, by the failure the others; a redirection tells nothing, and
    # 401, 402 and 407 are no failures there.
    assert got.distributions["srd_ok"].count == 3
    assert got.value("srd_ok_mean") == pytest.approx(0.010)
    assert got.distributions["srd_failed"].count == 69 - 3 - 5 - 3
    assert got.value("srd_failed_mean") == pytest.approx(0.020)
    assert got.value("pdd_p50") == pytest.approx(0.010, rel=0.001)
    assert got.distributions["pdd"].count == 3
    # Sections 4.4 and 4.5.
    assert got.value("sdd_ok_mean") == pytest.approx(0.002)
    assert got.value("sdt_ok_mean") == pytest.approx(2.0)
    assert got.value("sdd_failed_mean") is None
    assert got.value("sdt_failed_max") is None
    assert got.value("setup_p99") == pytest.approx(0.5, rel=0.001)

    assert got.final_codes == dict.fromkeys(FINAL, 1)
    assert got.responses[100] == 69
    assert got.responses[180] == 3
    assert got.outcomes == {
        **{"answer": 3, "redirect": 5, "reject": 61, "no_response": 2, "refused": 1}
    }
    assert got.causes == {"rejected": 66, "no_response": 1, "unreachable": 1, "no phone": 1}
    assert got.phones_not_intended == {"alice": 69, "bob": 69}


def test_every_metric_of_a_run_made_by_hand() -> None:
    """Nothing is counted that was not computed by hand."""
    calls = loadcodes.calls()
    assert len(calls) == sum(loadcodes.CALLS.values())
    got = tally(calls, loadcodes.registers(), loadcodes.deaths())
    assert {name: got.value(name) for name in METRICS} == pytest.approx(loadcodes.EXPECTED)
    assert loadcodes.MEANS.keys() == DISTRIBUTIONS.keys()
    for name, (count, mean, greatest) in loadcodes.MEANS.items():
        assert got.distributions[name].count == count, name
        assert got.value(f"{name}_mean") == pytest.approx(mean), name
        assert got.value(f"{name}_max") == pytest.approx(greatest), name


def test_over_nothing_a_ratio_is_undefined() -> None:
    empty = Tally()
    counts = {name for name, of in METRICS.items() if of.unit == "count"}
    for name, value in empty.summary().items():
        assert value == (0.0 if name in counts else None), name


def test_ratios_without_their_denominator() -> None:
    redirected = tally([failed(302)])
    assert redirected.value("ser") is None  # 1 INVITE less 1 redirected
    assert redirected.value("seer") is None
    assert redirected.value("isa") == 0.0
    assert redirected.value("asr") == 0.0
    unsent = tally([made(outcome="refused", started=None)])
    assert unsent.value("ser") is None
    assert unsent.value("isa") is None
    assert unsent.value("as_intended") == 0.0
    assert unsent.value("late_max") is None


@pytest.mark.parametrize(
    ("attempt", "delay"),
    [
        (answered(), (0.010, True)),
        (answered(responses=[(100, 0.001), (183, 0.004), (180, 0.010), (200, 0.5)]), (0.004, True)),
        (answered(responses=[(100, 0.001), (200, 0.5)]), (0.5, True)),  # no provisional but 100
        (failed(486), (0.020, False)),
        (failed(486, responses=[(180, 0.010), (486, 5.0)]), (0.010, False)),
        (failed(404, responses=[(407, 0.002), (404, 0.009)]), (0.009, False)),  # not the challenge
        (failed(407, responses=[(407, 0.002), (407, 0.009)]), None),  # no failure (4.3.2)
        (failed(302), None),
        (made(outcome="no_response", cause="no_response"), None),
        (made(outcome="no_response", cause="unreachable", final_code=503), None),
    ],
)
def test_session_request_delay(attempt: CallAttempt, delay: tuple[float, bool] | None) -> None:
    assert delays.request(attempt) == delay


@pytest.mark.parametrize(
    ("fields", "disconnect", "duration", "completed"),
    [
        ({}, (0.002, True), (2.0, True), 1),
        ({"bye_code": 481}, (0.002, False), (2.0, True), 0),
        # Timer F, 32 s after the BYE.
        (
            {"bye_answered": None, "bye_code": None, "ended": 34.5},
            *((32.0, False), (34.0, False), 0),
        ),
        # Its phone died one second after the answer: no BYE.
        (
            {"bye_sent": None, "bye_answered": None, "bye_code": None, "ended": 1.5},
            *(None, (1.0, False), 0),
        ),
    ],
)
def test_how_a_session_ends(
    fields: dict[str, object],
    disconnect: tuple[float, bool] | None,
    duration: tuple[float, bool],
    completed: int,
) -> None:
    attempt = answered(1, **fields)
    got = delays.disconnect(attempt)
    assert got == (None if disconnect is None else pytest.approx(disconnect))
    assert delays.duration(attempt) == pytest.approx(duration)
    assert tally([attempt]).value("scr") == 100 * completed
    assert tally([attempt]).value("ser") == 100


def test_a_challenge_and_its_retry_are_one_attempt() -> None:
    got = tally([answered(responses=[(407, 0.002), (100, 0.003), (180, 0.012), (200, 0.5)])])
    assert got.value("invites") == 1
    assert got.value("ser") == 100
    assert got.final_codes == {200: 1}
    assert got.responses[407] == 1
    assert got.value("srd_ok_max") == 0.012  # from the first INVITE


def test_as_intended_is_not_ser() -> None:
    """Busy and cancelled as drawn: SER is low by design, and nothing went wrong."""
    busy = {"drawn": "busy", "expected": "busy", "outcome": "busy"}
    cancelled = {"drawn": "cancel", "expected": "cancel", "outcome": "cancel"}
    got = tally([answered(1), failed(486, 2, **busy), failed(487, 3, **cancelled), failed(404, 4)])
    assert got.value("as_intended") == 75
    assert got.value("ser") == 25
    assert got.drawn == {"answer": 2, "busy": 1, "cancel": 1}
    assert got.drawn_as_intended == {"answer": 1, "busy": 1, "cancel": 1}


def test_the_warm_up_is_in_no_metric() -> None:
    got = tally([answered(1), failed(503, 2, warm_up=True)])
    assert got.value("as_intended") == 100
    assert got.value("attempts") == 1
    assert got.value("isa") == 0
    assert got.counts["warm_up"] == 1


def test_registrations() -> None:
    got = tally(
        [],
        [
            RegisterAttempt(at=0, phone="a", delay=0.010, code=200),
            RegisterAttempt(at=0, phone="b", delay=0.030, code=200),
            RegisterAttempt(at=0, phone="c", delay=5.0, code=403),
            RegisterAttempt(at=0, phone="d", delay=5.0, code=401),  # the last word
            RegisterAttempt(at=0, phone="e", delay=5.0, code=503),
            RegisterAttempt(at=0, phone="f", delay=5.0, code=600),
            RegisterAttempt(at=0, phone="g", delay=5.0, code=302),  # neither
            RegisterAttempt(at=0, phone="h"),  # Timer F
        ],
    )
    assert got.value("ira") == pytest.approx(100 * 5 / 8)
    assert got.value("registers") == 8
    assert got.value("rrd_mean") == pytest.approx(0.020)  # successful ones alone
    assert got.register_codes[200] == 2


def test_media() -> None:
    def side(received: int, lost: int, mos: float | None, **more: object) -> MediaStats:
        plain = {"sent": 100, "received": received, "lost": lost, "mos": mos}
        return msgspec.convert(plain | more, MediaStats)

    got = tally(
        [
            answered(
                caller_media=side(98, 2, 4.0, jitter_ms=2.0, round_trip_ms=30.0),
                callee_media=side(100, 0, 4.4, jitter_ms=4.0),
            ),
            answered(caller_media=side(0, 0, None, one_way=True)),
            answered(),
        ]
    )
    assert got.value("loss") == pytest.approx(1.0)
    assert got.value("mos_p5") == pytest.approx(4.0, rel=0.001)
    assert got.value("mos_mean") == pytest.approx(4.2)
    assert got.value("jitter_mean") == pytest.approx(0.003)
    assert got.value("round_trip_max") == pytest.approx(0.030)
    assert got.value("one_way") == 1


def test_how_late_attempts_started() -> None:
    got = tally([answered(started=1.2), answered()])
    assert got.value("late_max") == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("seeer", "did you mean seer"),
        ("srd_ok", "srd_ok is many values: say which, as in srd_ok_p95"),
        ("srd_ok_p101", "a percentile is at most p100"),
        ("srd_ok_p", "no metric is called 'srd_ok_p'"),
        ("zzz", "there are as_intended, ser,"),
        ("", "no metric is called ''"),
    ],
)
def test_no_such_metric(name: str, says: str) -> None:
    with pytest.raises(UnknownMetricError) as refused:
        Tally().value(name)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_percentiles_by_name() -> None:
    assert metric("srd_ok_p99.9").unit == "seconds"
    assert metric("mos_p5").unit == "score"
    got = tally(
        answered(n, responses=[(180, n / 1000), (200, 2.0)], answered=2.0) for n in range(1, 101)
    )
    assert got.value("srd_ok_p95") == pytest.approx(0.095, rel=0.001)
    assert got.value("srd_ok_p99.9") == pytest.approx(0.1, rel=0.001)
    assert got.value("srd_ok_min") == 0.001


def test_each_metric_has_a_name_that_a_gate_can_have() -> None:
    summary = Tally().summary()
    assert set(METRICS) < set(summary)
    for of in DISTRIBUTIONS:
        assert f"{of}_p95" in summary
    assert all(metric(name) for name in summary)


@pytest.mark.parametrize(("seed", "parts"), [(1, 1), (2, 2), (3, 5), (4, 80)])
def test_merged_is_as_if_counted_together(seed: int, parts: int) -> None:
    """In whatever parts, and in whatever order."""
    chance = random.Random(seed)
    attempts = every_code()
    together = tally(attempts, [RegisterAttempt(at=0, phone="a", delay=0.01, code=200)])
    chance.shuffle(attempts)
    merged = tally([], [RegisterAttempt(at=0, phone="a", delay=0.01, code=200)])
    for part in range(parts):
        merged.merge(tally(attempts[part::parts]))
    assert merged.counters() == together.counters()
    assert known(merged) == pytest.approx(known(together), rel=1e-9)


def test_a_strangers_bye_completes_the_call_and_has_no_delay_that_we_could_know() -> None:
    hung_up_on = answered(callee="", ended_by="callee", bye_sent=2.5, bye_answered=2.5)
    of = tally([hung_up_on])
    assert of.value("scr") == 100
    assert of.value("sdd_ok_mean") is None
    assert of.value("sdt_ok_mean") == pytest.approx(2.0, rel=1e-3)
    assert tally([msgspec.structs.replace(hung_up_on, callee="bob")]).value("sdd_ok_mean") == 0
