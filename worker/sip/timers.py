"""Timers of one user agent: a heap that gives back the memory of cancelled timers.

Nearly every SIP timer is cancelled (Timer B by the first response, Timer H by the ACK …).  Left
in the heap until they are due they would keep half a minute of finished calls in memory.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

__all__ = ["Timer", "Timers"]


class Timer:
    """One pending call-back; made by `Timers.start`."""

    __slots__ = ("_callback", "_timers", "when")

    def __init__(self, when: float, callback: Callable[[], None], timers: Timers) -> None:
        self.when = when
        self._callback: Callable[[], None] | None = callback
        self._timers = timers

    @property
    def active(self) -> bool:
        """Whether it still waits: neither run nor cancelled."""
        return self._callback is not None

    def cancel(self) -> None:
        """Never run it.  Harmless when it has run or was cancelled before."""
        if self._callback is not None:
            self._callback = None  # the call it belongs to can be freed at once
            self._timers._note_cancelled()

    def _take(self) -> Callable[[], None] | None:
        callback, self._callback = self._callback, None
        return callback


class Timers:
    """Pending timers in order of time.  All times are seconds on the monotonic clock."""

    # Below this many the heap is not worth rebuilding.
    _MIN_PURGE = 32

    def __init__(self) -> None:
        # The running number keeps timers of the same instant in the order they were started.
        self._heap: list[tuple[float, int, Timer]] = []
        self._number = 0
        self._cancelled = 0

    def __len__(self) -> int:
        """Timers that still wait."""
        return len(self._heap) - self._cancelled

    @property
    def allocated(self) -> int:
        """Places in use in the heap, cancelled timers included: at most twice ``len`` plus 32."""
        return len(self._heap)

    def start(self, when: float, callback: Callable[[], None]) -> Timer:
        """Run ``callback`` at ``when``."""
        timer = Timer(when, callback, self)
        self._number += 1
        heapq.heappush(self._heap, (when, self._number, timer))
        return timer

    def next(self) -> float | None:
        """When the first timer is due, or None."""
        while self._heap:
            when, _, timer = self._heap[0]
            if timer.active:
                return when
            heapq.heappop(self._heap)
            self._cancelled -= 1
        return None

    def pop_due(self, now: float) -> Callable[[], None] | None:
        """Take the first call-back that is due at ``now``, or None."""
        when = self.next()
        if when is None or when > now:
            return None
        _, _, timer = heapq.heappop(self._heap)
        return timer._take()

    def _note_cancelled(self) -> None:
        self._cancelled += 1
        # Rebuilding costs O(n) and happens after at least n/2 cancellations: O(1) each.
        if self._cancelled >= self._MIN_PURGE and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].active]
            heapq.heapify(self._heap)
            self._cancelled = 0
