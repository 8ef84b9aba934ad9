"""Slopes that odd samples can't bend, and who grew."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipherd.load.records import PhoneSample
from sipherd.load.soak import Allowance, grown, slopes, theil_sen

MIB = 1024 * 1024


def sampled(
    per_hour: float = 0.0, noise: float = 0.0, phone: str = "bob", incarnation: int = 1
) -> list[PhoneSample]:
    """An hour of a process at 20 MiB, a sample each 10 s."""
    chance = random.Random(7)
    return [
        PhoneSample(
            t=float(t),
            phone=phone,
            incarnation=incarnation,
            memory=round(20 * MIB + per_hour * t / 3600 + chance.uniform(-noise, noise)),
            fds=14,
            threads=1,
        )
        for t in range(0, 3600, 10)
    ]


@given(
    slope=st.floats(-1e3, 1e3),
    start=st.floats(-1e3, 1e3),
    xs=st.lists(st.integers(0, 10_000), min_size=10, max_size=40, unique=True),
)
@settings(max_examples=50)
def test_the_slope_of_a_line_with_outliers_is_that_of_the_line(
    slope: float, start: float, xs: list[int]
) -> None:
    points = [(float(x), start + slope * x) for x in sorted(xs)]
    for at in range(0, len(points), 5):  # every fifth is anything
        points[at] = (points[at][0], 1e9 if at % 2 else -1e9)
    assert theil_sen(points) == pytest.approx(slope, abs=1e-3 + abs(slope) * 1e-6)


def test_no_slope_of_a_point() -> None:
    assert theil_sen([]) is None
    assert theil_sen([(1.0, 2.0)]) is None
    assert theil_sen([(1.0, 2.0), (1.0, 3.0)]) is None


def test_flat_with_noise_is_flat() -> None:
    found = list(slopes(sampled(noise=MIB)))
    assert [s.resource for s in found] == ["memory", "fds", "threads"]
    assert abs(found[0].per_hour) < 0.5 * MIB
    assert found[1].per_hour == 0.0
    assert grown(found, Allowance()) == []


def test_a_leak_is_found_with_its_slope() -> None:
    (leak,) = grown(slopes(sampled(per_hour=6 * MIB, noise=MIB)), Allowance())
    assert (leak.phone, leak.incarnation, leak.resource) == ("bob", 1, "memory")
    assert leak.per_hour == pytest.approx(6 * MIB, rel=0.1)
    assert leak.first == pytest.approx(20.3 * MIB, rel=0.03)
    assert leak.last == pytest.approx(25.7 * MIB, rel=0.03)
    assert leak.seconds == 3590


def test_each_process_has_its_own_slope() -> None:
    """A phone that was started again has not grown: it began anew."""
    first = sampled(per_hour=1 * MIB)
    second = sampled(per_hour=1 * MIB, incarnation=2)
    found = list(slopes([*second, *first, *sampled(phone="alice")]))
    assert [(s.phone, s.incarnation) for s in found[::3]] == [("alice", 1), ("bob", 1), ("bob", 2)]
    assert grown(found, Allowance()) == []


def test_the_warm_up_is_left_out() -> None:
    """20 MiB come in the first minutes and stay."""
    filling = [
        PhoneSample(
            t=float(t), phone="bob", incarnation=1, memory=min(t, 600) * MIB // 30, fds=9, threads=1
        )
        for t in range(0, 3600, 10)
    ]
    assert grown(slopes(filling, since=600.0), Allowance()) == []


def test_a_short_run_has_no_verdict_on_growth() -> None:
    short = [s for s in sampled(per_hour=600 * MIB) if s.t < 590]
    assert grown(slopes(short), Allowance()) == []
    assert grown(slopes(short), Allowance(seconds=60.0)) != []


def test_a_peak_at_the_end_is_no_growth() -> None:
    samples = sampled()
    peak = [*samples[:-30], *(s for s in sampled(per_hour=9 * MIB)[-30:])]
    assert grown(slopes(peak), Allowance()) == []


def test_descriptors_and_threads() -> None:
    samples = [
        PhoneSample(
            t=float(t),
            phone="bob",
            incarnation=1,
            memory=MIB,
            fds=9 + t // 600,
            threads=1 + t // 900,
        )
        for t in range(0, 3600, 10)
    ]
    assert [s.resource for s in grown(slopes(samples), Allowance())] == ["fds", "threads"]
