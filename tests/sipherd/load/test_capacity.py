"""Whether a run can be done here: calls at the same time, and what they need, in numbers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipherd.load.capacity import expected_calls, shortages
from sipherd.load.machine import Machine
from sipherd.load.pairing import pairs_of
from sipherd.load.profile import Arrival, Entry, HoldTime, LoadLimits, LoadProfile, Stage
from sipherd.protocol.limits import Limits
from sipherd.protocol.spec import HerdPorts, HerdSpec, PhoneSpec, PortRange

LARGE = Machine(processors=64.0, memory=10**12, tasks=10**6, descriptors=10**6)


def profile(rate: float = 20.0, hold: float | HoldTime = 5.0, **fields: Any) -> LoadProfile:
    basic = {
        "callers": ("*",),
        "callees": ("*",),
        "arrival": Arrival(rate=rate),
        "hold": hold if isinstance(hold, HoldTime) else HoldTime(mean=hold),
        "duration": 60.0,
    }
    return LoadProfile(**basic | fields)


def herd(phones: int = 20, *, ports: HerdPorts | None = None, **fields: Any) -> HerdSpec:
    fields = {"media": "none"} | fields
    return HerdSpec(
        phones=tuple(PhoneSpec(name=f"p{n}", **fields) for n in range(1, phones + 1)),
        ports=ports or HerdPorts(),
    )


def lacks(
    run: LoadProfile, of: HerdSpec, machine: Machine = LARGE, *, running: bool = False
) -> list[str]:
    return shortages(run, of, pairs_of(run, of.phones), machine, running=running)


def test_calls_at_the_same_time_are_rate_by_hold() -> None:
    expected = expected_calls(profile(rate=20.0, hold=5.0))
    assert expected == (20, 5, 100, 100)


def test_calls_at_random_are_now_and_then_more() -> None:
    expected = expected_calls(profile(arrival=Arrival(rate=20.0, poisson=True)))
    assert (expected.average, expected.most) == (100, 130)


def test_evenly_spaced_calls_of_varying_length_are_no_more_than_the_longest_allow() -> None:
    assert expected_calls(profile(hold=0, mix=(Entry(),))).most == 0
    uniform = profile(hold=HoldTime.between(4.0, 6.0))
    assert expected_calls(uniform) == (20, 5, 100, 120)
    exponential = profile(hold=HoldTime(kind="exponential", mean=5.0))
    assert expected_calls(exponential).most == 130


def test_what_is_not_answered_takes_as_long_as_it_rings() -> None:
    mix = (
        Entry(after=1.0, weight=2),  # 6 s
        Entry(kind="busy", weight=2),  # nothing
        Entry(kind="cancel", after=2.0),  # 2 s
        Entry(kind="no_answer"),  # 60 s, or what the phones say
    )
    assert expected_calls(profile(mix=mix)).seconds == pytest.approx((12 + 0 + 2 + 60) / 6)
    assert expected_calls(profile(mix=mix), 10.0).seconds == pytest.approx((12 + 0 + 2 + 10) / 6)


def test_never_more_than_there_are_calls() -> None:
    assert expected_calls(profile(rate=1.0, hold=600.0)).most == 60
    total = LoadLimits(total=7)
    assert expected_calls(profile(limits=total))[2:] == (7, 7)
    assert expected_calls(profile(limits=total, duration=None))[2:] == (7, 7)


def test_a_ramp_has_most_calls_at_its_end_and_a_peak_shortly_after_it() -> None:
    up = Arrival(stages=(Stage(rate=20.0, seconds=60.0, ramp=True),))
    # The last 5 s of 60: (20 + 18.33) / 2 * 5.
    assert expected_calls(profile(arrival=up, duration=None)).average == pytest.approx(95.83, 1e-3)
    up_and_down = Arrival(
        stages=(
            Stage(rate=20.0, seconds=60.0, ramp=True),
            Stage(rate=0.0, seconds=60.0, ramp=True),
        )
    )
    # 2.5 s on both sides of the peak: 19.17 on either end, (20 + 19.17) / 2 * 5.
    expected = expected_calls(profile(arrival=up_and_down, duration=None))
    assert expected.average == pytest.approx(97.92, 1e-3)
    assert expected.rate == 20


def test_a_spike_counts_for_what_it_is() -> None:
    spike = Arrival(stages=(Stage(rate=100.0, seconds=1.0), Stage(rate=1.0, seconds=100.0)))
    assert expected_calls(profile(arrival=spike, hold=50.0)).average == pytest.approx(149)


@given(
    rate=st.integers(1, 500),
    hold=st.integers(0, 50),
    seconds=st.integers(1, 200),
    poisson=st.booleans(),
)
def test_the_average_is_rate_by_hold_unless_the_run_is_shorter(
    rate: int, hold: int, seconds: int, poisson: bool
) -> None:
    arrival = Arrival(rate=float(rate), poisson=poisson)
    expected = expected_calls(profile(arrival=arrival, hold=float(hold), duration=float(seconds)))
    assert expected.average == pytest.approx(rate * min(hold, seconds))
    assert expected.average <= expected.most + 1e-6


def test_a_run_that_can_be_done() -> None:
    assert lacks(profile(), herd()) == []


def test_a_limit_below_what_is_to_be_expected() -> None:
    run = profile(limits=LoadLimits(concurrent=99))
    assert lacks(run, herd()) == [
        "$.load.limits.concurrent: expects 100 calls at the same time (20/s, each 5 s, 100 on "
        "average), the limit is 99: calls would start late; "
        "expected a higher limit, a lower rate or shorter calls"
    ]
    assert lacks(profile(limits=LoadLimits(concurrent=100)), herd()) == []


def test_phones_that_take_fewer_calls_than_they_get() -> None:
    # A call every second at each, for 5 s: 5 that it placed and 5 that it got.
    assert lacks(profile(), herd(max_calls=10)) == []
    assert lacks(profile(), herd(max_calls=9)) == [
        "$.phones: max_calls is 9 at p1 and 19 more, where 10 calls at the same time are to be "
        "expected of 100 calls at the same time (20/s, each 5 s, 100 on average); "
        "expected higher max_calls, more phones, a lower rate or shorter calls"
    ]


def test_calls_by_lot_need_more_room_at_a_phone_than_calls_by_turns() -> None:
    phones = herd(10, media="audio")
    assert lacks(profile(rate=1.0, hold=2.0), phones) == []
    (problem,) = lacks(profile(rate=1.0, hold=2.0, pairing="random"), phones)
    assert problem.startswith("$.phones: max_calls is 2 at p1 and 9 more, where 3 calls at the")


def test_only_the_phone_that_is_called_is_short() -> None:
    run = profile(rate=1.0, callees=("p1",), callers=("p2", "p3"))
    assert lacks(run, herd(3, max_calls=4))[0].startswith(
        "$.phones: max_calls is 4 at p1, where 5 "
    )
    fixed = profile(rate=1.0, callees=("p1",), callers=("p2", "p3"), pairing="fixed")
    assert lacks(fixed, herd(3, max_calls=4))[0].startswith("$.phones: max_calls is 4 at p1, wher")


def test_ranges_that_are_too_small() -> None:
    narrow = HerdPorts(sip=PortRange(5060, 5063))
    found = lacks(profile(), herd(ports=narrow))
    assert found[0].startswith("$.ports.sip: 20 phones need a SIP port each, in steps of 2, the ra")
    assert lacks(profile(), herd(ports=narrow), running=True) == []


def test_descriptors() -> None:
    audio = herd(media="audio", max_calls=50)
    # A phone: its own 25 and two for each of 10 calls.  The supervisor: 6 for each of 20 phones.
    assert lacks(profile(), audio, LARGE._replace(descriptors=120)) == []
    assert lacks(profile(), audio, LARGE._replace(descriptors=44)) == [
        "descriptors: p1 and 19 more would need 45, the limit is 44; "
        "expected a higher one, more phones or fewer calls at the same time",
        "descriptors: 20 phones need 120 in the supervisor, the limit is 44; "
        "expected a higher one (ulimit -Hn) or fewer phones",
    ]
    limited = herd(media="audio", max_calls=50, limits=Limits(descriptors=64))
    assert lacks(profile(hold=10.0), limited)[0].startswith(
        "descriptors: p1 and 19 more would need 65,"
    )
    assert lacks(profile(hold=10.0), herd(limits=Limits(descriptors=64))) == []  # no media


def test_processes() -> None:
    assert lacks(profile(), herd(), LARGE._replace(tasks=71)) == [
        "processes: 20 phones need 72 processes and threads, there is room for 71; "
        "expected a higher limit (pids.max, kernel.pid_max) or fewer phones"
    ]
    assert lacks(profile(), herd(), LARGE._replace(tasks=72)) == []
    assert lacks(profile(), herd(), LARGE._replace(tasks=0), running=True) == []


def test_memory() -> None:
    assert lacks(profile(), herd(), LARGE._replace(memory=92 * 10**6)) == [
        "memory: 20 phones and 200 call legs at the same time need 93 MB, "
        "92 MB are available; expected fewer phones or calls"
    ]
    assert lacks(profile(), herd(), LARGE._replace(memory=93 * 10**6)) == []
    assert lacks(profile(), herd(), LARGE._replace(memory=2 * 10**6), running=True) == [
        "memory: 200 call legs at the same time need 3 MB, 2 MB are available; "
        "expected fewer phones or calls"
    ]


def test_five_thousand_calls_a_second_are_refused_with_the_numbers() -> None:
    two_cores = LARGE._replace(processors=2.0)
    assert lacks(profile(rate=5000.0, hold=0.0), herd(), two_cores) == [
        "processors: 5000 calls per second need 20.0, there are 2; "
        "expected at most 500 calls per second",
        "supervisor: 5000 calls per second need 5.0 processors in it, it can use one; "
        "expected at most 1000 calls per second of one herd",
    ]
    many_cores = LARGE._replace(processors=128.0)
    (only,) = lacks(profile(rate=5000.0, hold=0.0), herd(), many_cores)
    assert only.startswith("supervisor: ")
    strangers = profile(rate=5000.0, hold=0.0, callees=("sip:a@pbx.lab",))
    assert lacks(strangers, herd(), two_cores) == [
        "processors: 5000 calls per second need 10.0, there are 2; "
        "expected at most 1000 calls per second",
        "supervisor: 5000 calls per second need 2.5 processors in it, it can use one; "
        "expected at most 2000 calls per second of one herd",
    ]


def test_what_nobody_tells_is_no_limit() -> None:
    assert lacks(profile(), herd(), Machine(64.0, None, None, None)) == []
