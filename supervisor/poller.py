"""One epoll set: which descriptor wakes whom, and whose turn comes first."""

from __future__ import annotations

import enum
import select
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Poller", "Turn"]


class Turn(enum.IntEnum):
    """The order within one pass of the loop."""

    PROCESSES = 0
    """Nursery and pidfds of phones: before what clients want of them."""
    OTHERS = 1
    """After clients' messages: the last words of a dead client come before its death."""


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    fd: int
    turn: Turn
    action: Callable[[], None]


class Poller:
    """Level-triggered; an action may add and remove any descriptor, also its own."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._sources: dict[int, _Source] = {}
        self._due: list[_Source] = []

    def add(self, fd: int, turn: Turn, action: Callable[[], None]) -> None:
        """Call ``action`` in its turn whenever ``fd`` is readable, hung up or broken."""
        self._sources[fd] = _Source(fd, turn, action)
        self._epoll.register(fd, select.EPOLLIN)

    def add_wake(self, fd: int) -> None:
        """End a wait when ``fd`` is readable; whoever owns it looks in every pass."""
        self._epoll.register(fd, select.EPOLLIN)

    def want_write(self, fd: int, wanted: bool) -> None:
        """Call the action also when ``fd`` is writable, or no longer."""
        self._epoll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def remove(self, fd: int) -> None:
        """To be called before the descriptor is closed.  Does nothing the second time."""
        if self._sources.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def wait(self, timeout: float | None) -> None:
        """Sleep until a descriptor is ready, at most ``timeout`` seconds."""
        ready = self._epoll.poll(timeout)
        sources = self._sources
        self._due = [source for fd, _ in ready if (source := sources.get(fd)) is not None]

    def run(self, turn: Turn) -> None:
        """Call the actions of what the last wait found, those of this turn."""
        for source in self._due:
            # An action may have removed another one, and a new descriptor may have its number.
            if source.turn is turn and self._sources.get(source.fd) is source:
                source.action()

    def close(self) -> None:
        self._epoll.close()
