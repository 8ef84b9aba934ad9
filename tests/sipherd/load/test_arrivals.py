"""Intended start times: exact counts, the integral of the rate, Poisson from the seed."""

from __future__ import annotations

import math
from itertools import islice, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipherd.load.arrivals import RateCurve, intended_starts, number_of_calls
from sipherd.load.profile import Arrival, LoadLimits, LoadProfile, Stage


def profile(arrival: Arrival, **fields: Any) -> LoadProfile:
    return LoadProfile(callers=("*",), callees=("*",), arrival=arrival, **fields)


def tenths(low: int, high: int) -> st.SearchStrategy[float]:
    """Numbers with one decimal, as people write them."""
    return st.integers(low, high).map(lambda number: number / 10)


stages = st.lists(
    st.builds(Stage, rate=tenths(0, 500), seconds=tenths(1, 200), ramp=st.booleans()),
    min_size=1,
    max_size=5,
).filter(lambda some: any(stage.rate for stage in some))


def test_twenty_a_second_for_a_minute_are_1200_evenly_spaced() -> None:
    starts = list(intended_starts(profile(Arrival(rate=20.0), duration=60.0)))
    assert starts == [number / 20 for number in range(1200)]


@pytest.mark.parametrize(
    ("rate", "seconds", "calls"),
    [(0.1, 30.0, 3), (0.1, 30.1, 4), (3.0, 1.0, 3), (0.3, 10.0, 3), (1.1, 10.0, 11), (7.0, 0.5, 4)],
)
def test_rates_and_times_are_what_is_written(rate: float, seconds: float, calls: int) -> None:
    run = profile(Arrival(rate=rate), duration=seconds)
    starts = list(intended_starts(run))
    assert len(starts) == number_of_calls(run) == calls
    assert starts == [pytest.approx(number / rate) for number in range(calls)]


def test_without_a_duration_the_total_ends_the_run() -> None:
    run = profile(Arrival(rate=4.0), limits=LoadLimits(total=3))
    assert list(intended_starts(run)) == [0, 0.25, 0.5]
    assert number_of_calls(run) == 3


def test_the_total_may_come_before_the_duration_or_after_it() -> None:
    assert (
        number_of_calls(profile(Arrival(rate=4.0), duration=1.0, limits=LoadLimits(total=3))) == 3
    )
    assert (
        number_of_calls(profile(Arrival(rate=4.0), duration=1.0, limits=LoadLimits(total=9))) == 4
    )


def test_a_ramp_starts_calls_where_its_integral_passes_whole_numbers() -> None:
    ramp = Arrival(stages=(Stage(rate=2.0, seconds=4.0, ramp=True),))
    # N(t) = t^2 / 4: 0, 1, 2, 3 at 0, 2, sqrt(8), sqrt(12); 4 is the end.
    assert list(intended_starts(profile(ramp))) == [
        pytest.approx(math.sqrt(4 * calls)) for calls in range(4)
    ]


def test_stages_one_after_the_other() -> None:
    arrival = Arrival(
        stages=(
            Stage(rate=2.0, seconds=1.0),
            Stage(rate=0.0, seconds=10.0),
            Stage(rate=1.0, seconds=2.0),
        )
    )
    assert list(intended_starts(profile(arrival))) == [0, 0.5, 11, 12]


def test_a_pause_at_the_start_delays_the_first_call() -> None:
    arrival = Arrival(stages=(Stage(rate=0.0, seconds=3.0), Stage(rate=1.0, seconds=2.0)))
    assert list(intended_starts(profile(arrival))) == [3, 4]


def test_a_duration_beyond_the_stages_goes_on_with_the_last_rate() -> None:
    arrival = Arrival(stages=(Stage(rate=2.0, seconds=1.0),))
    assert list(intended_starts(profile(arrival, duration=2.0))) == [0, 0.5, 1, 1.5]


def test_a_duration_within_the_stages_cuts_them_off() -> None:
    ramp = Arrival(stages=(Stage(rate=2.0, seconds=4.0, ramp=True),))
    assert len(list(intended_starts(profile(ramp, duration=3.0)))) == math.ceil(9 / 4)


@given(rate=tenths(1, 1000), seconds=tenths(1, 300))
def test_constant_arrivals_are_as_many_as_fit(rate: float, seconds: float) -> None:
    run = profile(Arrival(rate=rate), duration=seconds)
    starts = list(intended_starts(run))
    exact = round(rate * 10) * round(seconds * 10)
    assert len(starts) == number_of_calls(run) == -(-exact // 100)
    assert starts[0] == 0
    assert starts[-1] < seconds
    for earlier, later in pairwise(starts):
        assert later - earlier == pytest.approx(1 / rate)


@given(stages)
def test_stages_have_as_many_calls_as_their_area(some: list[Stage]) -> None:
    run = profile(Arrival(stages=tuple(some)))
    starts = list(intended_starts(run))
    area, rate = 0, 0  # of tenths of a call per second, and of a second: exact
    for stage in some:
        last, seconds = round(stage.rate * 10), round(stage.seconds * 10)
        area += ((rate if stage.ramp else last) + last) * seconds
        rate = last
    assert len(starts) == number_of_calls(run) == -(-area // 200)
    assert starts == sorted(starts)
    curve = RateCurve(run.arrival, None)
    for calls, start in enumerate(starts):
        assert curve.expected_calls(start) == pytest.approx(calls, abs=1e-6, rel=1e-9)
        assert 0 <= start <= curve.moments[-1]


@given(stages, st.integers(0, 2**32))
@settings(max_examples=50)
def test_poisson_arrivals_are_in_order_within_the_run_and_the_seeds(
    some: list[Stage], seed: int
) -> None:
    run = profile(Arrival(stages=tuple(some), poisson=True), seed=seed)
    starts = list(intended_starts(run))
    assert starts == sorted(starts) == list(intended_starts(run))
    assert len(starts) == number_of_calls(run)
    assert all(0 <= start <= sum(stage.seconds for stage in some) for start in starts)


@pytest.mark.parametrize("seed", range(1, 21))
def test_poisson_arrivals_are_within_three_sigma(seed: int) -> None:
    run = profile(Arrival(rate=20.0, poisson=True), duration=60.0, seed=seed)
    assert abs(number_of_calls(run) - 1200) <= 3 * math.sqrt(1200)


def test_poisson_gaps_are_exponential() -> None:
    run = profile(Arrival(rate=10.0, poisson=True), limits=LoadLimits(total=20_000), seed=5)
    starts = list(intended_starts(run))
    gaps = [later - earlier for earlier, later in pairwise([0.0, *starts])]
    mean = sum(gaps) / len(gaps)
    # Standard error: 0.1 / sqrt(20,000) = 0.0007.
    assert mean == pytest.approx(0.1, abs=0.003)
    # As many above the mean as exp(-1), with a standard error of 0.0034.
    above = sum(gap > 0.1 for gap in gaps) / len(gaps)
    assert above == pytest.approx(math.exp(-1), abs=0.014)


def test_poisson_arrivals_follow_a_ramp() -> None:
    ramp = Arrival(stages=(Stage(rate=100.0, seconds=100.0, ramp=True),), poisson=True)
    starts = list(intended_starts(profile(ramp)))
    # 5,000 in all, a quarter of them in the first half: 1,250 with a standard deviation of 35.
    assert abs(sum(start < 50 for start in starts) - 1250) < 3.5 * 36


def test_another_seed_gives_other_arrivals() -> None:
    one, other = (
        list(intended_starts(profile(Arrival(rate=5.0, poisson=True), duration=9.0, seed=seed)))
        for seed in (1, 2)
    )
    assert one != other


def test_what_a_seed_gives_stays_so() -> None:
    run = profile(Arrival(rate=10.0, poisson=True), duration=60.0, seed=1)
    first = [round(start, 6) for start in islice(intended_starts(run), 3)]
    assert first == [0.121107, 0.393023, 0.517044]
