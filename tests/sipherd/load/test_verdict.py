"""PASS, FAIL or INVALID."""

from __future__ import annotations

import msgspec
import pytest

from sipherd.load.gates import parse
from sipherd.load.metrics import Tally, tally
from sipherd.load.records import BoxSample, CallAttempt, Leftovers, PhoneSample
from sipherd.load.verdict import Exit, Limits, Verdict, give

GATES = [parse("as_intended >= 99")]


def attempts(count: int = 100, **fields: object) -> list[CallAttempt]:
    plain = {
        "intended": 1.0,
        "started": 1.0,
        "caller": "alice",
        "drawn": "answer",
        "outcome": "answer",
        "final_code": 200,
    }
    return [msgspec.convert(plain | fields | {"number": n}, CallAttempt) for n in range(count)]


def fine(count: int = 60) -> list[BoxSample]:
    return [BoxSample(t=n + 1.0, loop_lag=0.003, cpu=0.4) for n in range(count)]


def spoilt(samples: int, **fields: object) -> list[BoxSample]:
    """A minute in which this was so in some of its seconds."""
    bad = [msgspec.structs.replace(s, **fields) for s in fine()[:samples]]
    return [*bad, *fine()[samples:]]


SATURATED = [
    *spoilt(2, cpu=0.97, supervisor_lag=0.2)[:2],
    *spoilt(2, cpu=0.98, phone_lag=0.2)[:2],
    *fine()[4:],
]
"""Each loop was late seldom enough, one or the other too often."""
GOOD = tally(attempts())
BAD = tally(attempts(98) + attempts(2, outcome="reject", final_code=404))


def test_pass() -> None:
    got = give(GOOD, GATES, box=fine(), leftovers=Leftovers())
    assert (got.kind, got.exit, got.reasons) == ("PASS", Exit.GOOD, ())


def test_a_callee_that_rejects_is_a_failure_and_no_fault_of_the_box() -> None:
    got = give(BAD, GATES, box=fine())
    assert (got.kind, got.exit) == ("FAIL", 1)
    assert [f.text for f in got.reasons] == ["as_intended is 98 %, wanted >= 99 %"]


def test_no_call_at_all_is_a_failure() -> None:
    got = give(Tally(), GATES)
    assert got.kind == "FAIL"
    assert "there was nothing to measure" in got.reasons[0].text


def test_invalid_comes_before_fail() -> None:
    got = give(BAD, GATES, box=SATURATED)
    assert (got.kind, got.exit) == ("INVALID", 3)
    assert [f.kind for f in got.reasons] == ["cpu"]
    assert [f.kind for f in got.failed] == ["gate"]


@pytest.mark.parametrize(
    ("samples", "kind", "says"),
    [
        (spoilt(4, loop_lag=0.5), "loop_lag", "of the runner was more than 100 ms late in 7 %"),
        (spoilt(4, phone_lag=0.5), "loop_lag", "of the phones"),
        (spoilt(4, supervisor_lag=0.5), "loop_lag", "of the supervisor"),
        (
            SATURATED,
            "cpu",
            "100 ms in 7 % of the samples, at worst at 98 %",
        ),
        (spoilt(1, socket_drops=3), "socket_drops", "dropped 3 datagrams"),
        (spoilt(2, rtp_exhausted=2), "rtp_ports", "4 calls were refused"),
    ],
)
def test_the_box_was_the_limit(samples: list[BoxSample], kind: str, says: str) -> None:
    got = give(GOOD, GATES, box=samples)
    assert got.kind == "INVALID"
    (finding,) = got.reasons
    assert finding.kind == kind
    assert says in finding.text
    assert "\n" not in finding.text


@pytest.mark.parametrize(
    "samples",
    [
        spoilt(3, loop_lag=0.5),
        spoilt(3, cpu=1.0, loop_lag=0.11),
        spoilt(60, cpu=1.0, loop_lag=0.03),  # busy with something else, and nobody waits
        [*fine(10), *spoilt(2, loop_lag=0.5)[:2]],
        [],
        fine(1),
    ],
)
def test_a_hiccup_is_not_a_limit(samples: list[BoxSample]) -> None:
    assert give(GOOD, GATES, box=samples).kind == "PASS"


def test_the_warm_up_is_left_out() -> None:
    assert give(GOOD, GATES, box=spoilt(10, cpu=1.0, socket_drops=5), since=10.0).kind == "PASS"


def test_late_starts() -> None:
    one = tally(attempts(99) + attempts(1, started=9.0))
    assert give(one, GATES).kind == "PASS"
    two = tally(attempts(98) + attempts(2, started=9.0))
    got = give(two, GATES)
    assert [f.kind for f in got.reasons] == ["late_starts"]
    assert got.kind == "INVALID"
    assert "by 8 s or more, the worst by 8 s (limit 100 ms)" in got.reasons[0].text
    assert give(two, GATES, limits=Limits(late=10.0)).kind == "PASS"


def test_calls_that_were_never_started() -> None:
    """An overloaded runner is late with all, and does not get to the last ones."""
    behind = tally(attempts(90) + attempts(10, started=None, outcome="unfinished"))
    got = give(behind, GATES)
    assert [f.kind for f in got.reasons] == ["late_starts"]
    assert "10 of 100 calls were still not started" in got.reasons[0].text


def test_a_run_cut_short_is_invalid() -> None:
    got = give(GOOD, GATES, interrupted="the runner was killed after 33 s of 60 s")
    assert (got.kind, got.reasons[0].kind) == ("INVALID", "interrupted")


def test_what_is_left_over() -> None:
    got = give(GOOD, GATES, leftovers=Leftovers(calls=2, rtp_ports=4))
    assert got.kind == "FAIL"
    assert [f.text for f in got.reasons] == ["left after the drain: 2 calls, 4 RTP ports"]


def test_a_phone_that_grew() -> None:
    mib = 1024 * 1024
    samples = [
        PhoneSample(t=t, phone="bob", incarnation=2, memory=20 * mib + t * 2000, fds=9, threads=1)
        for t in range(0, 7200, 10)
    ]
    got = give(GOOD, GATES, phones=samples)
    assert got.kind == "FAIL"
    (finding,) = got.reasons
    assert finding.kind == "growth"
    assert finding.text.startswith(
        "bob (incarnation 2): memory grew from 20.7 to 33 MiB in 2 h, 6.9 MiB an hour"
    )
    assert give(GOOD, GATES, phones=samples[:50]).kind == "PASS"


def test_a_verdict_is_kept_as_plain_data() -> None:
    got = give(BAD, GATES, box=SATURATED, leftovers=Leftovers(dialogs=1))
    plain = msgspec.to_builtins(got)
    assert msgspec.convert(plain, Verdict) == got
    assert msgspec.json.decode(msgspec.json.encode(got), type=Verdict) == got


def test_exit_codes_of_the_design() -> None:
    assert [e.value for e in Exit] == [0, 1, 2, 3, 4, 130]
