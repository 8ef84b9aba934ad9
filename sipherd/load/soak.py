"""Whether a phone's process grew over a run: slopes that a few odd samples can't bend.

The slope is Theil and Sen's: the median of the slopes between all pairs of points.  Up to 29 % of
the points may be anything at all before it is off, where a least-squares line is off with one.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, TypeAlias

import msgspec

from .records import PhoneSample

__all__ = ["Allowance", "Resource", "Slope", "grown", "slopes", "theil_sen"]

Resource: TypeAlias = Literal["memory", "fds", "threads"]
_RESOURCES: tuple[Resource, ...] = ("memory", "fds", "threads")
_POINTS = 60
"""Pairs grow with the square: an hour's samples are condensed to this many medians."""


class Slope(msgspec.Struct, frozen=True, kw_only=True):
    """How one resource of one process went."""

    phone: str
    incarnation: int
    resource: Resource
    per_hour: float
    """Bytes, descriptors or threads."""
    first: float
    """Median of the first tenth of its samples."""
    last: float
    """Median of the last tenth."""
    seconds: float
    """From its first sample to its last."""


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """How much a process may grow over a run and still count as flat."""

    seconds: float = 600.0
    """Below this, growth is warming up and not a slope: nothing is concluded."""
    memory: float = 2 * 1024 * 1024
    """Bytes."""
    memory_share: float = 0.1
    """Of what it had at first, if that is more."""
    fds: float = 2
    threads: float = 1

    def of(self, slope: Slope) -> float:
        """By how much this resource may have grown."""
        if slope.resource == "memory":
            return max(self.memory, self.memory_share * slope.first)
        return self.fds if slope.resource == "fds" else self.threads


def theil_sen(points: Sequence[tuple[float, float]]) -> float | None:
    """Median slope of all pairs of points (x, y); None without two different x."""
    found = [
        (b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.combinations(points, 2) if a[0] != b[0]
    ]
    return statistics.median(found) if found else None


def _condensed(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most _POINTS points, each the medians of as many neighbours."""
    if len(points) <= _POINTS:
        return list(points)
    cuts = [n * len(points) // _POINTS for n in range(_POINTS + 1)]
    return [
        (statistics.median(x for x, _ in part), statistics.median(y for _, y in part))
        for part in (points[a:b] for a, b in itertools.pairwise(cuts))
    ]


def slopes(samples: Iterable[PhoneSample], since: float = 0.0) -> Iterator[Slope]:
    """The slopes of each process, sorted by phone and incarnation.

    Args:
        samples: in any order.
        since: what was sampled before is left out (the warm-up), in seconds of the run.

    """
    processes: dict[tuple[str, int], list[PhoneSample]] = {}
    for sample in samples:
        if sample.t >= since:
            processes.setdefault((sample.phone, sample.incarnation), []).append(sample)
    for (phone, incarnation), taken in sorted(processes.items()):
        taken.sort(key=lambda sample: sample.t)
        tenth = max(1, len(taken) // 10)
        for resource in _RESOURCES:
            points = [(sample.t, float(getattr(sample, resource))) for sample in taken]
            slope = theil_sen(_condensed(points))
            if slope is None:
                continue
            yield Slope(
                phone=phone,
                incarnation=incarnation,
                resource=resource,
                per_hour=slope * 3600,
                first=statistics.median(y for _, y in points[:tenth]),
                last=statistics.median(y for _, y in points[-tenth:]),
                seconds=points[-1][0] - points[0][0],
            )


def grown(found: Iterable[Slope], allowance: Allowance) -> list[Slope]:
    """Those that grew by more than they may.

    Slope and difference must both say so: the one alone may be a step at the start, the other a
    peak at the end.
    """
    return [
        slope
        for slope in found
        if slope.seconds >= allowance.seconds
        and slope.per_hour * slope.seconds / 3600 > allowance.of(slope)
        and slope.last - slope.first > allowance.of(slope)
    ]
