"""The mix is exact, in an order that the seed gives; hold times have their distribution."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import islice, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipherd.load.mix import draw, drawn_entries, hold_times, quotas, quotas_of
from sipherd.load.profile import Arrival, Entry, HoldTime, LoadProfile

weights = st.lists(st.integers(1, 10_000).map(lambda w: w / 100), min_size=1, max_size=8)


def profile(**fields: Any) -> LoadProfile:
    basic = {"callers": ("*",), "callees": ("*",), "arrival": Arrival(rate=20.0), "duration": 60.0}
    return LoadProfile(**basic | fields)


@pytest.mark.parametrize(
    ("shares", "total", "expected"),
    [
        ([70, 20, 10], 1200, (840, 240, 120)),
        ([1, 1, 1], 10, (4, 3, 3)),
        ([1, 1, 1], 11, (4, 4, 3)),
        ([0.1, 0.2, 0.7], 10, (1, 2, 7)),
        ([1, 1000], 10, (0, 10)),
        ([5], 3, (3,)),
        ([1, 2], 0, (0, 0)),
    ],
)
def test_quotas(shares: list[float], total: int, expected: tuple[int, ...]) -> None:
    assert quotas(shares, total) == expected


@given(weights, st.integers(0, 100_000))
def test_quotas_are_the_exact_shares_rounded(shares: list[float], total: int) -> None:
    counts = quotas(shares, total)
    assert sum(counts) == total
    for share, count in zip(shares, counts, strict=True):
        assert abs(count - total * share / sum(shares)) < 1 + 1e-6


@given(weights, st.integers(0, 1000))
def test_a_larger_weight_never_has_a_smaller_quota(shares: list[float], total: int) -> None:
    ranked = sorted(zip(shares, quotas(shares, total), strict=True))
    for (lighter, fewer), (heavier, more) in pairwise(ranked):
        assert lighter == heavier or fewer <= more


@given(st.lists(st.integers(0, 50), max_size=6), st.integers(0, 2**32))
def test_all_that_is_in_the_urn_is_drawn(counts: list[int], seed: int) -> None:
    drawn = list(draw(counts, random.Random(seed)))
    assert [drawn.count(index) for index in range(len(counts))] == counts
    assert drawn == list(draw(counts, random.Random(seed)))


def test_every_order_is_as_likely_as_any_other() -> None:
    rng = random.Random(3)
    orders = Counter("".join(map(str, draw([2, 1, 1], rng))) for _ in range(12_000))
    assert len(orders) == 12
    # 1,000 each with a standard deviation of 30.
    assert all(abs(count - 1000) < 130 for count in orders.values())


def test_the_mix_of_a_run_is_its_quotas() -> None:
    run = profile(
        mix=(
            Entry(kind="answer", weight=6),
            Entry(kind="busy", weight=2),
            Entry(kind="cancel", after=1.0, weight=1),
            Entry(kind="answer", name="slow", after=5.0, weight=1),
        )
    )
    assert quotas_of(run) == {"answer": 720, "busy": 240, "cancel": 120, "slow": 120}
    drawn = list(drawn_entries(run))
    assert Counter(entry.name for entry in drawn) == quotas_of(run)
    assert drawn == list(drawn_entries(run))
    assert drawn != list(drawn_entries(profile(mix=run.mix, seed=2)))
    # Nothing is left for the end: half of the calls have about half of each.
    assert abs(sum(entry.kind == "busy" for entry in drawn[:600]) - 120) < 40


@pytest.mark.parametrize(
    "hold",
    [
        HoldTime(mean=3.0),
        HoldTime.between(1.0, 9.0),
        HoldTime(kind="normal", mean=5.0, spread=1.0),
        HoldTime(kind="normal", mean=1.0, spread=5.0),
        HoldTime(kind="exponential", mean=4.0),
    ],
    ids=lambda hold: f"{hold.kind}-{hold.mean:g}",
)
def test_hold_times_have_the_average_they_say(hold: HoldTime) -> None:
    times = list(islice(hold_times(profile(hold=hold)), 20_000))
    assert min(times) >= 0
    mean = sum(times) / len(times)
    deviation = math.sqrt(sum((time - mean) ** 2 for time in times) / len(times))
    assert abs(mean - hold.average) <= 4 * deviation / math.sqrt(len(times)) + 1e-12
    assert times[:9] == list(islice(hold_times(profile(hold=hold)), 9))


def test_hold_times_of_each_kind() -> None:
    def some(hold: HoldTime) -> list[float]:
        return list(islice(hold_times(profile(hold=hold)), 20_000))

    assert set(some(HoldTime(mean=3.0))) == {3.0}
    uniform = some(HoldTime.between(1.0, 9.0))
    assert 1 <= min(uniform) < 1.1
    assert 8.9 < max(uniform) <= 9
    normal = some(HoldTime(kind="normal", mean=5.0, spread=1.0))
    assert sum(abs(time - 5) < 1 for time in normal) / 20_000 == pytest.approx(0.683, abs=0.015)
    exponential = some(HoldTime(kind="exponential", mean=4.0))
    assert sum(time > 4 for time in exponential) / 20_000 == pytest.approx(0.368, abs=0.015)


def test_a_change_of_the_mix_changes_no_hold_time() -> None:
    hold = HoldTime(kind="exponential", mean=4.0)
    one = profile(hold=hold)
    other = profile(hold=hold, mix=(Entry(), Entry(kind="busy", weight=9)))
    assert list(islice(hold_times(one), 9)) == list(islice(hold_times(other), 9))
