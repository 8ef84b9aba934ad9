"""HDR histograms: percentiles to a thousandth, merged, packed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sipherd.load.distribution import Distribution

seconds = st.floats(0, 86_400)


def of(*values: float) -> Distribution:
    made = Distribution()
    for value in values:
        made.record(value)
    return made


def test_nothing_is_undefined() -> None:
    assert of().mean is None
    assert of().percentile(95) is None


def test_a_hundred_values() -> None:
    made = of(*(n / 1000 for n in range(1, 101)))
    assert made.percentile(95) == pytest.approx(0.095, rel=0.001)
    assert made.percentile(50) == pytest.approx(0.050, rel=0.001)
    assert made.percentile(100) == 0.1
    assert made.mean == pytest.approx(0.0505)
    assert (made.minimum, made.maximum, made.count) == (0.001, 0.1, 100)


def test_a_percentile_is_never_beyond_all_values() -> None:
    assert of(3.9999).percentile(99) == 3.9999


def test_out_of_range() -> None:
    assert of(-0.001).percentile(50) == 0.0
    assert of(1e6).maximum == 1e6
    assert of(1e6).percentile(50) == 1e6
    for percent in (-1, 101):
        with pytest.raises(ValueError, match="is not within 0 and 100"):
            of(1.0).percentile(percent)


@settings(max_examples=40, deadline=None)
@given(values=st.lists(seconds, min_size=1), percent=st.floats(0.1, 100))
def test_a_percentile_is_that_of_the_sorted_values(values: list[float], percent: float) -> None:
    rank = max(1, math.ceil(percent / 100 * len(values) - 1e-9))
    got = of(*values).percentile(percent)
    near = sorted(values)[max(0, rank - 2) : rank + 1]  # the histogram may round the rank
    assert got is not None
    assert min(near) * 0.999 - 2e-6 <= got <= max(near) * 1.001 + 2e-6


@settings(max_examples=40, deadline=None)
@given(parts=st.lists(st.lists(seconds, max_size=20), max_size=5))
def test_merged_is_as_if_counted_together(parts: list[list[float]]) -> None:
    together = of(*(value for part in parts for value in part))
    merged = Distribution()
    for part in parts:
        merged.merge(of(*part))
    for percent in (0, 95, 100):
        assert merged.percentile(percent) == together.percentile(percent)
    assert merged.count == together.count
    assert (merged.minimum, merged.maximum) == (together.minimum, together.maximum)
    assert merged.mean == pytest.approx(together.mean)


@settings(max_examples=40, deadline=None)
@given(values=st.lists(seconds, max_size=20))
def test_packed_and_unpacked(values: list[float]) -> None:
    made = of(*values)
    again = Distribution.unpack(made.pack())
    for percent in (0, 95):
        assert again.percentile(percent) == made.percentile(percent)
    assert (again.count, again.mean) == (made.count, made.mean)
    again.merge(made)
    assert again.count == 2 * len(values)


def test_packed_is_small() -> None:
    made = of(*(n / 997 for n in range(10_000)))
    assert len(made.pack().histogram) < 10_000
