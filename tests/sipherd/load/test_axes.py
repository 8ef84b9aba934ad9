"""Round numbers."""

from __future__ import annotations

import math

import pytest

from sipherd.load.axes import clock, length, number, tick_labels, time_ticks, value_ticks


@pytest.mark.parametrize("top", [1e-6, 0.04, 0.3, 1, 1.01, 7, 20, 99.9, 100, 12345, 3e9])
def test_value_ticks_reach_the_top_with_few_steps(top: float) -> None:
    ticks = value_ticks(top)
    assert ticks[0] == 0
    assert ticks[-2] < top <= ticks[-1] * (1 + 1e-9)
    assert 2 <= len(ticks) <= 6


@pytest.mark.parametrize("top", [0, -1, math.nan, math.inf])
def test_nothing_to_show_has_an_axis_all_the_same(top: float) -> None:
    assert value_ticks(top) == [0, 1]


def test_ticks_are_round() -> None:
    assert value_ticks(20) == [0, 5, 10, 15, 20]
    assert value_ticks(0.7) == [0, 0.2, 0.4, 0.6, 0.8]


def test_labels_of_ticks_have_the_same_decimals() -> None:
    assert tick_labels([0, 0.5, 1]) == ["0.0", "0.5", "1.0"]
    assert tick_labels([0, 1000, 2000]) == ["0", "1,000", "2,000"]


@pytest.mark.parametrize("seconds", [1, 5, 60, 72, 3600, 86400, 86400 * 30, 86400 * 3650])
def test_time_ticks_are_few(seconds: float) -> None:
    ticks = time_ticks(seconds)
    assert 1 < len(ticks) <= 9
    assert ticks[-1] <= seconds


def test_time_ticks_are_those_of_a_clock() -> None:
    assert time_ticks(72) == [0, 10, 20, 30, 40, 50, 60, 70]
    assert time_ticks(7200) == [0, 900, 1800, 2700, 3600, 4500, 5400, 6300, 7200]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "0:05"), (59.6, "1:00"), (3600, "1:00:00"), (86400 * 2 + 5, "2 d 00:00:05")],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(1, "1 s"), (72, "72 s"), (900, "15 m"), (0.5, "500 ms")]
)
def test_length(seconds: float, text: str) -> None:
    assert length(seconds) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "ms", "-"),
        (math.nan, "", "-"),
        (1234.0, "", "1,234"),
        (1234.4, "ms", "1,234 ms"),
        (12.34, "ms", "12.3 ms"),
        (0.04213, "", "0.0421"),
        (99.996, "%", "> 99.99 %"),
        (99.25, "%", "99.25 %"),
        (100.0, "%", "100 %"),
        (0.0, "%", "0 %"),
        (0.0001, "%", "< 0.01 %"),
    ],
)
def test_number(value: float | None, unit: str, text: str) -> None:
    assert number(value, unit) == text
