"""From a hop to the addresses it means, without ever blocking the loop.

A numeric host is its own answer.  A name is looked up in a short-lived thread, because getaddrinfo
has no other way; the loop learns the end of it through an eventfd.  (RFC 3263's NAPTR and SRV are
not asked: a name means its A record.)
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias

from .stack import Address, Hop

__all__ = ["Resolved", "Resolver"]

_THREADS = 8
"""Look-ups at the same time; a dead name server holds each for half a minute."""

Resolved: TypeAlias = Callable[[Sequence[Address], str], None]
"""Told the addresses, best first, or none and why there is none."""


class Resolver:
    """Looks host names up in daemon threads; `fd` is readable when `collect` has work."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._waiting: dict[str, list[tuple[Hop, Resolved]]] = {}
        """Who waits for a name: one look-up serves all."""
        self._queue: deque[str] = deque()
        self._running = 0
        # Appended by the threads, taken by the loop: deque's own operations are atomic.
        self._finished: deque[tuple[str, str | None, str]] = deque()
        # Held by a thread while it wakes us, so that `close` cannot hand it somebody else's fd.
        self._lock = threading.Lock()
        self._closed = False

    def known(self, hop: Hop) -> Sequence[Address] | None:
        """The addresses of ``hop`` if they are known and still good."""
        return None

    def start(self, hop: Hop, resolved: Resolved) -> None:
        """Call ``resolved`` from `collect` once the addresses of ``hop`` are known."""
        waiting = self._waiting.setdefault(hop.host, [])
        waiting.append((hop, resolved))
        if len(waiting) == 1:
            self._queue.append(hop.host)
            self._fill()

    def collect(self) -> None:
        """Tell those whose look-up has ended."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        while self._finished:
            host, address, why = self._finished.popleft()
            self._running -= 1
            self._fill()
            for hop, resolved in self._waiting.pop(host, ()):
                resolved([] if address is None else [(address, hop.address[1])], why)

    def close(self) -> None:
        """Nobody is told any more; threads that still look something up end by themselves."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self.fd)

    def _fill(self) -> None:
        while self._queue and self._running < _THREADS:
            host = self._queue.popleft()
            self._running += 1
            thread = threading.Thread(
                target=self._look_up, args=(host,), name=f"resolve {host}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:  # the kernel gives no thread
                self._finish(host, None, str(error))

    def _look_up(self, host: str) -> None:
        try:
            found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_DGRAM)
            self._finish(host, str(found[0][4][0]), "")
        # UnicodeError: a label that is too long for DNS; IndexError: no address at all.
        except (OSError, UnicodeError, IndexError) as error:
            why = error.strerror if isinstance(error, OSError) else None
            self._finish(host, None, why or str(error))

    def _finish(self, host: str, address: str | None, why: str) -> None:
        self._finished.append((host, address, why))
        with self._lock:
            if not self._closed:
                os.eventfd_write(self.fd, 1)
