"""Processes that are being started: so many at once, the others wait for their turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from .phones import Phone
from .timers import Timers

__all__ = ["SIZE", "StartWindow"]

SIZE = 32
"""Enough to keep two cores busy, few enough that the last of a thousand is not started long
before its turn comes."""


class StartWindow:
    """Asks for the processes of phones in turn, and watches that they come up in time.

    ``ask(phone)`` asks for one, ``overdue(phone)`` is told when its ``start_timeout`` is over.
    """

    def __init__(
        self, timers: Timers, ask: Callable[[Phone], None], overdue: Callable[[Phone], None]
    ) -> None:
        self._timers = timers
        self._ask = ask
        self._overdue = overdue
        self._queue: deque[Phone] = deque()
        self._under_way: set[Phone] = set()

    def is_queued(self, phone: Phone) -> bool:
        """Its process is yet to be asked for."""
        return phone in self._queue

    def is_under_way(self, phone: Phone) -> bool:
        """Its process was asked for, and is not up."""
        return phone in self._under_way

    def add(self, phone: Phone, now: float) -> None:
        """Start it when its turn comes, perhaps now."""
        self._queue.append(phone)
        self.fill(now)

    def again(self, phone: Phone) -> None:
        """What was asked for will not come: it is the last of the queue, until ``fill``."""
        self.over(phone)
        self._queue.append(phone)

    def over(self, phone: Phone) -> None:
        """It is up, or will not be; whose turn it is then is for ``fill``."""
        self._under_way.discard(phone)
        if phone in self._queue:
            self._queue.remove(phone)
        if phone.start_timer is not None:
            phone.start_timer.cancel()
            phone.start_timer = None

    def fill(self, now: float) -> None:
        """Start those whose turn it is."""
        while self._queue and len(self._under_way) < SIZE:
            phone = self._queue.popleft()
            self._under_way.add(phone)
            phone.start_timer = self._timers.at(
                now + phone.spec.start_timeout, self._when_overdue(phone)
            )
            self._ask(phone)

    def _when_overdue(self, phone: Phone) -> Callable[[], None]:
        def overdue() -> None:
            phone.start_timer = None
            self._overdue(phone)

        return overdue
