"""A whole run, call by call, before any of them is placed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

from .arrivals import intended_starts
from .mix import drawn_entries, hold_times
from .pairing import Pairs, Party
from .profile import Entry, LoadProfile

__all__ = ["PlannedCall", "schedule"]


class PlannedCall(NamedTuple):
    """A call that is to be placed."""

    number: int
    """From 1, in the order of `intended`."""
    intended: float
    """When its INVITE is to be sent: seconds since the run's start."""
    caller: str
    """The name of a phone."""
    callee: Party
    entry: Entry
    """What is to become of it."""
    hold: float
    """For how long it stays up if it is answered, in seconds."""
    warm_up: bool
    """It is kept, and not judged."""


def schedule(profile: LoadProfile, pairs: Pairs) -> Iterator[PlannedCall]:
    """All calls of the run in order; the same profile and herd always give the same."""
    # Pairs come last: they have no end, and zip asks for none beyond the last start.
    calls = zip(count(1), intended_starts(profile), drawn_entries(profile), strict=False)
    for (number, intended, entry), hold, pair in zip(
        calls, hold_times(profile), pairs, strict=False
    ):
        warm_up = intended < profile.warm_up
        yield PlannedCall(number, intended, pair.caller, pair.callee, entry, hold, warm_up)
