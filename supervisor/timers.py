"""Deadlines without a clock: the owner says what time it is."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

__all__ = ["Timer", "Timers"]


class Timer:
    """One deadline; ``cancel`` it when what it guards has happened."""

    __slots__ = ("_owner", "action", "cancelled")

    def __init__(self, owner: Timers, action: Callable[[], None]) -> None:
        self._owner = owner
        self.action = action
        self.cancelled = False

    def cancel(self) -> None:
        """Never run the action; does nothing the second time."""
        if not self.cancelled:
            self.cancelled = True
            self._owner.forget()


class Timers:
    """A heap of deadlines in which the cancelled ones never outnumber the live ones for long."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._cancelled = 0

    def at(self, when: float, action: Callable[[], None]) -> Timer:
        """Run ``action`` in the first ``run`` at or after ``when``."""
        timer = Timer(self, action)
        heapq.heappush(self._heap, (when, next(self._order), timer))
        return timer

    def forget(self) -> None:
        """Count a cancelled timer; sweep when half of the heap is dead weight."""
        self._cancelled += 1
        if self._cancelled > 64 and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if not entry[2].cancelled]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def next(self) -> float | None:
        """When ``run`` is wanted next."""
        while self._heap and self._heap[0][2].cancelled:
            heapq.heappop(self._heap)
            self._cancelled = max(0, self._cancelled - 1)
        return self._heap[0][0] if self._heap else None

    def run(self, now: float) -> None:
        """Run what is due, oldest first."""
        while (when := self.next()) is not None and when <= now:
            timer = heapq.heappop(self._heap)[2]
            timer.cancelled = True
            timer.action()
