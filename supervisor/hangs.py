"""Is this phone hung, or has the box no time for it?  Verdicts without clock, process or logging.

Each phone's process says when its next sign of life is due, and keeps to it (``pulses.py``).  What
counts is for how long it is overdue: LATE, SUSPECT, HUNG.  A verdict of HUNG ends a process, so it
must not fall on one that only waits for its turn: while this supervisor itself is late, or many
phones have become late together, verdicts are frozen, and after that everybody has all the time
anew.

Phones that hang together by a fault of their own would look like that for ever.  So a phone is no
sign of a starved box any more once it has been late for as long as would have got it killed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ..protocol.events import HangLevel, OverloadSign
from ..protocol.hang_spec import HangSpec

__all__ = ["Hangs", "Level", "Overload", "Progress", "Recovery", "Sign", "Verdict"]

MANY = 3
"""Phones that become late together are never fewer than this ..."""
MANY_SHARE = 0.1
"""... and at least this share of those that are watched."""
_RANKS: dict[HangLevel, int] = {"fine": 0, "late": 1, "suspect": 2, "hung": 3}


@dataclass(slots=True)
class Progress:
    """What is known of the progress of one process, from the moment it serves."""

    level: HangLevel = "fine"
    overdue: float = 0.0
    """Seconds, at the last check."""
    run_state: str = ""
    """As in /proc/PID/stat, where it was looked up: ``T`` is stopped, ``t`` by a debugger."""
    since: float | None = None
    """When it was first looked at."""

    @property
    def is_stopped(self) -> bool:
        """Not stuck: somebody keeps it from running."""
        return self.run_state in ("T", "t")

    def in_words(self) -> str:
        """`no progress for 3.2 s`, `stopped (SIGSTOP) for 3.2 s`."""
        what = {"T": "stopped (SIGSTOP)", "t": "stopped by a debugger"}
        return f"{what.get(self.run_state, 'no progress')} for {self.overdue:.1f} s"


@dataclass(frozen=True, slots=True)
class Sign:
    """One phone at a check."""

    phone: str
    progress: Progress
    spec: HangSpec
    due: float
    """When its next sign of life is due; in the past if it is late."""
    run_state: str = ""


@dataclass(frozen=True, slots=True)
class Level:
    """A phone has another level than before."""

    phone: str
    level: HangLevel
    previous: HangLevel


@dataclass(frozen=True, slots=True)
class Overload:
    """Verdicts are frozen from now on."""

    sign: OverloadSign
    late: int
    """Phones."""
    delay: float
    """Seconds that the supervisor itself was late."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """Verdicts count again."""

    seconds: float
    """For how long they did not."""


Verdict: TypeAlias = Level | Overload | Recovery


class Hangs:
    """The verdicts about all phones of a herd."""

    def __init__(self) -> None:
        self._frozen_at: float | None = None
        self._bad_at = 0.0
        """When the box last looked overloaded."""
        self._thawed_at = 0.0

    @property
    def is_frozen(self) -> bool:
        """Whether the box is overloaded."""
        return self._frozen_at is not None

    def check(self, signs: Sequence[Sign], now: float, delay: float) -> list[Verdict]:
        """What is new; ``delay`` is by how many seconds this very check came late."""
        if not signs:
            return []
        for sign in signs:
            progress = sign.progress
            if progress.since is None:
                progress.since = now
            progress.overdue = max(now - max(sign.due, progress.since), 0.0)
            progress.run_state = sign.run_state
        verdicts = self._watch_box(signs, now, delay)
        if not self.is_frozen:
            verdicts += self._judge(signs, now)
        return verdicts

    # Inside

    def _watch_box(self, signs: Sequence[Sign], now: float, delay: float) -> list[Verdict]:
        patience = min(sign.spec.late for sign in signs)
        late = sum(map(_tells_of_the_box, signs))
        overload: OverloadSign | None = None
        if delay > patience / 2:
            overload = "supervisor_late"
        elif late >= max(MANY, len(signs) * MANY_SHARE):
            overload = "phones_late"
        if overload is not None:
            self._bad_at = now
            if self._frozen_at is None:
                self._frozen_at = now
                return [Overload(overload, late, delay)]
        elif self._frozen_at is not None and now - self._bad_at >= patience:
            seconds = now - self._frozen_at
            self._frozen_at, self._thawed_at = None, now
            return [Recovery(seconds)]
        return []

    def _judge(self, signs: Sequence[Sign], now: float) -> list[Verdict]:
        verdicts: list[Verdict] = []
        for sign in signs:
            progress, previous = sign.progress, sign.progress.level
            level = _level(sign.spec, min(progress.overdue, now - self._thawed_at))
            still_late = progress.overdue >= sign.spec.late
            if still_late and _RANKS[level] < _RANKS[previous]:
                continue  # all the time anew is no progress
            if level != previous:
                progress.level = level
                verdicts.append(Level(sign.phone, level, previous))
        return verdicts


def _tells_of_the_box(sign: Sign) -> bool:
    """Whether this phone has been late for so short that the box may be the cause."""
    spec, progress = sign.spec, sign.progress
    until = spec.late + (spec.hung or spec.suspect)
    return spec.late <= progress.overdue < until and not progress.is_stopped


def _level(spec: HangSpec, overdue: float) -> HangLevel:
    if spec.hung and overdue >= spec.hung:
        return "hung"
    if overdue >= spec.suspect:
        return "suspect"
    return "late" if overdue >= spec.late else "fine"
