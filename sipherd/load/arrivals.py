"""When calls are to start: the open loop.

Times are those that the profile intends, whether or not earlier calls are over or even started: a
generator that waited for them would leave out just the calls that a slow system delays
(coordinated omission).

The number of calls to be expected by a time is the integral of the rate.  Evenly spaced calls start
where that integral passes 0, 1, 2 ...; the points of a Poisson process of rate 1 in the place of
these numbers give one whose rate is the profile's.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, takewhile

from .profile import Arrival, LoadProfile

__all__ = ["RateCurve", "intended_starts", "number_of_calls"]


def exactly(number: float) -> Fraction:
    """The number that is meant, not the binary one next to it: 0.1 is a tenth, 1/3 a third."""
    return Fraction(number).limit_denominator(10**9)


@dataclass(frozen=True, slots=True)
class _Piece:
    """From `start` on, for `seconds`, the rate goes evenly from `first` to `last`."""

    start: Fraction
    seconds: Fraction | None
    """None: for ever, and the rate is constant."""
    first: Fraction
    last: Fraction
    before: Fraction
    """Calls expected until its start."""

    def calls(self, seconds: Fraction) -> Fraction:
        """Expected within the first so many seconds of it."""
        if self.seconds is None or self.first == self.last:
            return self.first * seconds
        slope = (self.last - self.first) / self.seconds
        return self.first * seconds + slope * seconds * seconds / 2

    @property
    def after(self) -> Fraction | None:
        """Calls expected until its end; None: there is no end, and no bound."""
        return None if self.seconds is None else self.before + self.calls(self.seconds)

    def reached(self, calls: Fraction) -> float:
        """When so many calls, at least `before`, are expected."""
        more = calls - self.before
        if more <= 0:  # below 0 by what a float is rounded
            return float(self.start)
        if self.seconds is None or self.first == self.last:
            return float(self.start + more / self.first)
        # The root of first*x + slope*x^2/2 = more in the form that loses no digits.
        first, seconds, wanted = float(self.first), float(self.seconds), float(more)
        slope = float(self.last - self.first) / seconds
        root = math.sqrt(max(0.0, first * first + 2 * slope * wanted))
        return float(self.start) + min(seconds, 2 * wanted / (first + root))


class RateCurve:
    """The rate of calls over the time of a run.

    It ends after `duration` seconds, with the last rate beyond the last stage; None: with the last
    stage, and without stages never.
    """

    def __init__(self, arrival: Arrival, duration: float | None) -> None:
        self._pieces: list[_Piece] = []
        end = None if duration is None else exactly(duration)
        start = rate = before = Fraction(0)
        for stage in arrival.stages:
            if end is not None and start >= end:
                return
            last = exactly(stage.rate)
            first = rate if stage.ramp else last
            whole = exactly(stage.seconds)
            length = whole if end is None else min(whole, end - start)
            rate = first + (last - first) * length / whole
            piece = _Piece(start, length, first, rate, before)
            self._pieces.append(piece)
            start += length
            before += piece.calls(length)
        if arrival.rate is not None:
            rate = exactly(arrival.rate)
            left = end
        elif end is None:
            return
        else:
            left = end - start
        if rate and left != 0:
            self._pieces.append(_Piece(start, left, rate, rate, before))

    @property
    def all_calls(self) -> Fraction | None:
        """Calls to be expected in all; None: there is no end."""
        return self._pieces[-1].after

    def expected_calls(self, until: float) -> float:
        """Calls to be expected from the start until a time."""
        moment = exactly(max(0.0, until))
        piece = self._pieces[0]
        for candidate in self._pieces:
            if candidate.start <= moment:
                piece = candidate
        within = moment - piece.start
        if piece.seconds is not None:
            within = min(within, piece.seconds)
        return float(piece.before + piece.calls(within))

    def rate(self, moment: float) -> float:
        """Calls per second at a time; 0 beyond the end."""
        at = exactly(max(0.0, moment))
        for piece in reversed(self._pieces):
            if piece.start <= at:
                within = at - piece.start
                if piece.seconds is None or piece.first == piece.last:
                    over = piece.seconds is not None and within >= piece.seconds
                    return 0.0 if over else float(piece.first)
                if within >= piece.seconds:
                    return 0.0
                share = within / piece.seconds
                return float(piece.first + (piece.last - piece.first) * share)
        return 0.0

    @property
    def highest_rate(self) -> float:
        """Calls per second."""
        return float(max(max(piece.first, piece.last) for piece in self._pieces))

    @property
    def moments(self) -> list[float]:
        """Where the rate changes its course: 0, the starts of stages, the end if there is one."""
        last = self._pieces[-1]
        ends = [] if last.seconds is None else [last.start + last.seconds]
        return [float(moment) for moment in [*(piece.start for piece in self._pieces), *ends]]

    def even(self) -> Iterator[float]:
        """Times of evenly spaced calls."""
        calls = 0
        for piece in self._pieces:
            after = piece.after
            while after is None or calls < after:
                yield piece.reached(Fraction(calls))
                calls += 1

    def poisson(self, rng: random.Random) -> Iterator[float]:
        """Times of calls that come at random, by the numbers of `rng`."""
        points = _unit_process(rng)
        point = next(points)
        for piece in self._pieces:
            end = math.inf if piece.after is None else float(piece.after)
            while point < end:
                yield piece.reached(Fraction(point))
                point = next(points)


def _unit_process(rng: random.Random) -> Iterator[float]:
    """The points of a Poisson process of rate 1, without an end."""
    point = 0.0
    while True:
        # Not expovariate: only random() is promised to give the same in every Python.
        point -= math.log(1.0 - rng.random())
        yield point


def _rng(profile: LoadProfile) -> random.Random:
    return random.Random(f"{profile.seed}/arrivals")


def intended_starts(profile: LoadProfile) -> Iterator[float]:
    """When each call of the run is to start: seconds from its start, in order, from the seed."""
    curve = RateCurve(profile.arrival, profile.duration)
    starts = curve.poisson(_rng(profile)) if profile.arrival.poisson else curve.even()
    return islice(starts, profile.limits.total)


def number_of_calls(profile: LoadProfile) -> int:
    """How many `intended_starts` there are.

    Those of Poisson arrivals are drawn for this, which takes a second for some million.
    """
    total = profile.limits.total
    expected = RateCurve(profile.arrival, profile.duration).all_calls
    if expected is None:
        assert total is not None  # a profile has an end
        return total
    if profile.arrival.poisson:
        end = float(expected)
        points = takewhile(lambda point: point < end, _unit_process(_rng(profile)))
        return sum(1 for _ in islice(points, total))
    calls = math.ceil(expected)
    return calls if total is None else min(calls, total)
