"""A run in windows."""

from __future__ import annotations

import random

import msgspec
import pytest

from sipherd.load.metrics import tally
from sipherd.load.records import CallAttempt
from sipherd.load.series import Series


def made(intended: float, lasts: float | None = 1.0, **fields: object) -> CallAttempt:
    plain = {
        "number": 1,
        "intended": intended,
        "started": intended,
        "ended": lasts,
        "caller": "alice",
        "drawn": "answer",
        "outcome": "answer",
        "final_code": 200,
        "responses": [(180, 0.01 + intended / 1000), (200, 0.5)],
        "answered": 0.5,
    }
    return msgspec.convert(plain | fields, CallAttempt)


def test_nothing_has_no_window() -> None:
    assert list(Series(1.0)) == []


def test_windows_are_half_open_and_without_a_gap() -> None:
    series = Series(10.0)
    for at in (0.0, 9.99, 10.0, 35.0):
        series.add(made(at))
    windows = list(series)
    assert [(w.begin, w.end) for w in windows] == [(0, 10), (10, 20), (20, 30), (30, 40)]
    assert [w.tally.value("attempts") for w in windows] == [2, 1, 0, 1]


def test_an_attempt_belongs_to_its_intended_start() -> None:
    series = Series(1.0)
    series.add(made(0.5, started=3.5))
    windows = list(series)
    assert windows[0].tally.value("late_max") == pytest.approx(3.0)
    assert [w.concurrent for w in windows] == [0, 0, 0, 1, 1]


def test_concurrent_calls() -> None:
    series = Series(10.0)
    series.add(made(0.0, lasts=5.0))
    series.add(made(5.0, lasts=10.0))  # as the other ends: not two at once
    series.add(made(12.0, lasts=1.0))
    series.add(made(16.0, lasts=None))  # never ended
    series.add(made(31.0, started=None))
    assert [w.concurrent for w in series] == [1, 2, 1, 1]


def test_windows_merge_to_the_whole_in_whatever_order_they_were_filled() -> None:
    """Also those that were packed meanwhile, and added to again."""
    attempts = [made(n / 7, warm_up=n < 20) for n in range(700)]
    random.Random(7).shuffle(attempts)
    series = Series(5.0)
    for attempt in attempts:
        series.add(attempt)
    whole = tally(msgspec.structs.replace(a, warm_up=False) for a in attempts)
    merged = tally([])
    for window in series:
        merged.merge(window.tally)
    assert merged.counters() == whole.counters()
    for name in ("srd_ok_p95", "setup_mean", "late_max", "acd", "ser", "as_intended"):
        assert merged.value(name) == pytest.approx(whole.value(name), rel=1e-9), name


@pytest.mark.parametrize("width", [0, -1.0, float("nan"), float("inf")])
def test_a_window_has_a_width(width: float) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        Series(width)
