"""A run in windows of equal length: what a graph over time is drawn from.

An attempt belongs to the window of its *intended* start, so that a late start shows where it was
wanted and not where it was convenient.  It is counted when it is over, which may be long after its
window has passed; therefore any window can still be added to.  Only the last few are held as they
are, the others packed: a day in windows of ten seconds takes some megabytes.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Any

import msgspec

from .distribution import Distribution, PackedDistribution
from .metrics import Tally
from .records import CallAttempt

__all__ = ["Series", "Window"]

_HELD = 4


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """One window: half-open, from ``begin`` to ``end``, in seconds of the run."""

    begin: float
    end: float
    tally: Tally
    """Of the attempts that were intended to start in it."""
    concurrent: int
    """The most calls that were up or being set up at once, at a moment within it."""


class _Packed(msgspec.Struct, frozen=True):
    counters: dict[str, Counter[Any]]
    distributions: dict[str, PackedDistribution]


def _pack(tally: Tally) -> _Packed:
    return _Packed(
        tally.counters(),
        {name: d.pack() for name, d in tally.distributions.items() if d.count},
    )


def _unpack(packed: _Packed) -> Tally:
    tally = Tally()
    tally.add_counters(packed.counters)
    for name, distribution in packed.distributions.items():
        tally.distributions[name] = Distribution.unpack(distribution)
    return tally


class Series:
    """Counts attempts by window.

    Args:
        width: of a window, in seconds.

    Raises:
        ValueError: `width` is not above 0.

    """

    def __init__(self, width: float) -> None:
        if not (width > 0 and math.isfinite(width)):
            raise ValueError(f"a window of {width:g} s: must be above 0")
        self.width = width
        self._held: OrderedDict[int, Tally] = OrderedDict()
        self._packed: dict[int, _Packed] = {}
        self._changes: dict[int, list[tuple[float, int]]] = {}

    def add(self, attempt: CallAttempt) -> None:
        """Count an attempt that is over, in its window.  Those of the warm-up have windows, too."""
        tally = self._tally(int(attempt.intended // self.width))
        tally.add(msgspec.structs.replace(attempt, warm_up=False))
        if attempt.started is not None:
            self._change(attempt.started, 1)
            if attempt.ended is not None:
                self._change(attempt.started + attempt.ended, -1)

    def _change(self, at: float, by: int) -> None:
        self._changes.setdefault(int(at // self.width), []).append((at, by))

    def _tally(self, n: int) -> Tally:
        if n not in self._held:
            packed = self._packed.pop(n, None)
            self._held[n] = Tally() if packed is None else _unpack(packed)
            if len(self._held) > _HELD:
                oldest, tally = self._held.popitem(last=False)
                self._packed[oldest] = _pack(tally)
        self._held.move_to_end(n)
        return self._held[n]

    def __iter__(self) -> Iterator[Window]:
        """Give all windows from the first to the last, empty ones, too."""
        known = self._held.keys() | self._packed.keys() | self._changes.keys()
        if not known:
            return
        up = 0
        for n in range(min(known), max(known) + 1):
            most = up
            # An end and a start at one moment are not two calls at once.
            for _, by in sorted(self._changes.get(n, ())):
                up += by
                most = max(most, up)
            if n in self._held:
                tally = self._held[n]
            else:
                packed = self._packed.get(n)
                tally = Tally() if packed is None else _unpack(packed)
            yield Window(
                begin=n * self.width, end=(n + 1) * self.width, tally=tally, concurrent=most
            )
