"""From a hop with a name to its addresses, without ever blocking the loop.

Looked up in short-lived threads; the loop learns the end of it through an eventfd.  What was found
is kept for as long as the name servers say.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import TypeAlias

from .locate import Located, NameFailure, locate
from .names import SystemNames
from .stack import Address, Hop

__all__ = ["Resolved", "Resolver"]

_THREADS = 8
"""Look-ups at the same time; a dead name server holds each for seconds."""
_KEPT = 256
"""Hops whose addresses are kept."""
_SHORTEST, _LONGEST = 5.0, 3600.0
"""Seconds for which an answer is kept, whatever its time to live: one that is used up at once would
never reach the message it was asked for."""

Resolved: TypeAlias = Callable[[Sequence[Address], str], None]
"""Told the addresses, best first, or none and why there is none."""

_Found: TypeAlias = Located | tuple[Address, ...] | str
"""Addresses, fresh or kept, or why there are none."""

# From the kernel: a forked phone shares no random state with its siblings.
_random = random.SystemRandom()


class Resolver:
    """Looks hops up in daemon threads; `fd` is readable when `collect` has work.

    For sockets of ``family``, which may be set until the first look-up.
    """

    def __init__(self, family: int = socket.AF_INET) -> None:
        self.family = family
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._waiting: dict[Hop, list[Resolved]] = {}
        """Who waits for a hop: one look-up serves all."""
        self._queue: deque[Hop] = deque()
        self._running = 0
        self._kept: OrderedDict[Hop, tuple[tuple[Address, ...], float]] = OrderedDict()
        """Addresses, and until when they are good."""
        # Appended by the threads, taken by the loop: deque's own operations are atomic.
        self._finished: deque[tuple[Hop, _Found]] = deque()
        # Held by a thread while it wakes us, so that `close` cannot hand it somebody else's fd.
        self._lock = threading.Lock()
        self._closed = False

    def known(self, hop: Hop) -> Sequence[Address] | None:
        """The addresses of ``hop`` if they are known and still good."""
        addresses, until = self._kept.get(hop, ((), 0.0))
        return addresses if time.monotonic() < until else None

    def start(self, hop: Hop, resolved: Resolved) -> None:
        """Call ``resolved`` from `collect` once the addresses of ``hop`` are known."""
        waiting = self._waiting.setdefault(hop, [])
        waiting.append(resolved)
        if len(waiting) > 1:
            return
        kept = self.known(hop)
        if kept is not None:
            self._running += 1
            self._finish(hop, tuple(kept))
            return
        self._queue.append(hop)
        self._fill()

    def collect(self) -> None:
        """Tell those whose look-up has ended."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        while self._finished:
            hop, found = self._finished.popleft()
            self._running -= 1
            self._fill()
            if isinstance(found, Located):
                self._keep(hop, found)
                found = found.addresses
            addresses, why = ((), found) if isinstance(found, str) else (found, "")
            for resolved in self._waiting.pop(hop, ()):
                resolved(addresses, why)

    def close(self) -> None:
        """Nobody is told any more; threads that still look something up end by themselves."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self.fd)

    def _keep(self, hop: Hop, found: Located) -> None:
        good_for = min(max(found.ttl, _SHORTEST), _LONGEST)
        self._kept[hop] = (found.addresses, time.monotonic() + good_for)
        self._kept.move_to_end(hop)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    def _fill(self) -> None:
        while self._queue and self._running < _THREADS:
            hop = self._queue.popleft()
            self._running += 1
            thread = threading.Thread(
                target=self._look_up, args=(hop,), name=f"resolve {hop.host}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:  # the kernel gives no thread
                self._finish(hop, str(error))

    def _look_up(self, hop: Hop) -> None:
        try:
            names = SystemNames(self.family)
            self._finish(hop, locate(hop, names, lambda most: _random.randint(0, most)))
        except NameFailure as failure:
            self._finish(hop, str(failure))
        except Exception as error:  # a fault of ours: whoever waits must not wait for ever
            traceback.print_exc()
            self._finish(hop, f"{type(error).__name__}: {error}")

    def _finish(self, hop: Hop, found: _Found) -> None:
        self._finished.append((hop, found))
        with self._lock:
            if not self._closed:
                os.eventfd_write(self.fd, 1)
