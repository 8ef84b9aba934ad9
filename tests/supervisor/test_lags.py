"""How late the loops of a herd were, second by second."""

from __future__ import annotations

from sipherd.protocol.messages import LoopLag
from sipherd.supervisor.lags import Lags


def test_the_worst_of_each_second() -> None:
    lags = Lags()
    lags.heard(0.02)
    lags.heard(0.01)
    lags.looked(100.0, 0.001, 0.3)
    lags.looked(101.0, 0.05, 0.0)
    assert list(lags) == [LoopLag(100.0, 0.02, 0.3), LoopLag(101.0, 0.05, 0.0)]


def test_looks_that_are_closer_are_one_figure() -> None:
    lags = Lags()
    lags.looked(100.0, 0.0, 0.0)
    for n, phones in enumerate((0.1, 0.4, 0.2)):
        lags.looked(100.125 + n / 8, 0.0, phones)
    lags.looked(101.0, 0.0, 0.0)
    assert list(lags) == [LoopLag(100.0, 0.0, 0.0), LoopLag(101.0, 0.0, 0.4)]


def test_the_last_ones_are_kept() -> None:
    lags = Lags()
    for n in range(40):
        lags.looked(100.0 + n, 0.0, 0.0)
    assert [lag.t for lag in lags] == [120.0 + n for n in range(20)]
