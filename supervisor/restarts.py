"""Whether and when a phone that died is started again.  No clock, timer or process in here.

A phone's restarts are counted in a sliding window; when they are used up it is parked, or goes on
at the slowest pace.  The first restart waits for nothing, the second for ``backoff.first``, each
later one twice as long up to ``backoff.cap``, less some jitter so that phones that died together
do not come back together.  Served for ``reset_after``, a phone begins with the first again.

A start that hangs takes longer than a window lasts: so as many restarts in a row as ``max`` of
which none came up exhaust them, too.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..protocol.exits import DO_NOT_RETRY, WorkerExit
from ..protocol.restart_spec import RestartSpec

__all__ = ["Decision", "Ending", "Restarts", "SpawnLimit", "ending"]

JITTER = 0.25
"""Share of a wait that may be taken off it."""
BURST = 10
"""Restarts that may go at once after a quiet time."""


class Ending(enum.Enum):
    """What an end of a process says."""

    CLEAN = enum.auto()
    """It left by itself, with exit code 0."""
    REFUSED = enum.auto()
    """Another start would end the same way (``protocol.exits``)."""
    ABNORMAL = enum.auto()


def ending(exit_code: int | None) -> Ending:
    """What the end with this exit code says; None is a signal, or unknown."""
    if exit_code == WorkerExit.CLEAN:
        return Ending.CLEAN
    return Ending.REFUSED if exit_code in DO_NOT_RETRY else Ending.ABNORMAL


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a phone that died."""

    action: Literal["restart", "park", "leave"]
    """``leave``: it is stopped, as if somebody had asked for it."""
    delay: float = 0.0
    """Seconds before the restart."""
    why: str = ""
    """For ``park``: what was used up."""
    slow: bool = False
    """For ``restart``: they are used up, and it goes on all the same."""

    def __str__(self) -> str:
        """The next action, as the death record has it."""
        match self.action:
            case "leave":
                return "stopped"
            case "park":
                return f"parked: {self.why}" if self.why else "parked"
            case "restart" if self.delay:
                return f"restart in {seconds(self.delay)}"
        return "restart now"


def seconds(value: float) -> str:
    """``0.08 s``, ``0.4 s``, ``12 s``."""
    digits = 2 if value < 0.1 else 1 if value < 10 else 0
    return f"{value:.{digits}f} s"


class Restarts:
    """The deaths of one phone.  ``random`` gives a number from 0 to 1 for the jitter."""

    def __init__(self, spec: RestartSpec, random: Callable[[], float]) -> None:
        self._spec = spec
        self._random = random
        self._recent: deque[float] = deque()
        """When the restarts of the window were decided on."""
        self._row = 0
        """Restarts since the back-off began anew."""
        self._stillborn = 0
        """The last restarts in a row that did not come up."""
        self._is_slow = False
        """They were exhausted, and it has not served for long since."""

    def clear(self) -> None:
        """Forget every death: somebody stopped, started or reset the phone."""
        self._recent.clear()
        self._begin_anew()
        self._stillborn = 0

    def decide(self, end: Ending, now: float, *, served: float | None) -> Decision:
        """What becomes of the phone that died now.

        ``served`` is for how many seconds it had been READY, None if it had not come up.
        """
        spec = self._spec
        if end is Ending.CLEAN and spec.policy != "permanent":
            return Decision("leave")
        if end is Ending.REFUSED or spec.policy == "temporary":
            return Decision("park")
        while self._recent and self._recent[0] <= now - spec.within:
            self._recent.popleft()
        if served is None:
            self._stillborn += 1
        else:
            self._stillborn = 0
            if served >= spec.reset_after or not (self._recent or self._is_slow):
                self._begin_anew()
        why = self._exhausted()
        if why and spec.exhausted == "park":
            return Decision("park", why=why)
        self._is_slow = self._is_slow or bool(why)
        delay = self._delay()
        self._row += 1
        self._recent.append(now)
        return Decision("restart", delay, slow=self._is_slow)

    def _begin_anew(self) -> None:
        self._row = 0
        self._is_slow = False

    def _exhausted(self) -> str:
        spec = self._spec
        if len(self._recent) >= spec.max:
            return f"{_count(len(self._recent))} within {spec.within:g} s"
        if self._stillborn >= spec.max:
            return f"{_count(self._stillborn)} in a row did not come up"
        return ""

    def _delay(self) -> float:
        backoff = self._spec.backoff
        if self._is_slow:
            return self._jittered(backoff.cap)
        if not self._row:
            return 0.0
        # The exponent is bounded: 2.0**1100 is an OverflowError.
        return self._jittered(min(backoff.first * 2.0 ** min(self._row - 1, 64), backoff.cap))

    def _jittered(self, delay: float) -> float:
        return delay * (1.0 - JITTER * self._random())


def _count(restarts: int) -> str:
    return "1 restart" if restarts == 1 else f"{restarts} restarts"


class SpawnLimit:
    """Spreads restarts: at most ``rate`` a second in the long run, a few at once after a pause.

    A token bucket that keeps one number: the time at which it would be full.
    """

    def __init__(self, rate: float, burst: int = BURST) -> None:
        self._burst = burst
        self._full_at = 0.0
        self.set_rate(rate)

    def set_rate(self, rate: float) -> None:
        """From the next turn on."""
        self._interval = 1.0 / rate
        self._slack = (self._burst - 1) * self._interval

    def reserve(self, now: float) -> float:
        """Take the next turn; when it is, not before ``now``."""
        turn = self._full_at - self._slack
        self._full_at = max(self._full_at, now) + self._interval
        # Sums of floats: what is due but for the last bit is due.
        return turn if turn > now + 1e-6 else now
