"""The log, and the one thread that writes to stderr and stdout.

Whatever happens to the other end of those two — a full pipe, a closed one, a stopped terminal —
only this thread waits for it.  Both have a bounded queue; a full one drops and counts.
"""

from __future__ import annotations

import json
import os
import select
import threading
from collections import deque
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import structlog

__all__ = ["LIMIT", "MAX_LINE", "Lines", "Log", "LogWriter"]

LIMIT = 10_000
"""Lines that may wait for stdout, and for stderr."""
MAX_LINE = 4096
"""Bytes of a line of raw output; what is longer is broken."""
_EVENT = MutableMapping[str, Any]


class _Stream:
    """What waits for one descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.waiting: deque[bytes] = deque()
        self.rest = b""
        """Of a line that a non-blocking descriptor took in part."""
        self.broken = False

    def is_pending(self) -> bool:
        return not self.broken and bool(self.rest or self.waiting)

    def write_one(self) -> None:
        """One line, one write."""
        line = self.rest or self.waiting.popleft()
        try:
            self.rest = line[os.write(self.fd, line) :]
        except BlockingIOError:
            self.rest = line
        except OSError:
            # EPIPE, EIO of a terminal that is gone …: nobody reads it any more.
            self.broken = True
            self.rest = b""
            self.waiting.clear()


class LogWriter:
    """Writes lines to ``out`` and ``err`` from a thread of its own; never blocks its callers."""

    def __init__(self, out: int = 1, err: int = 2, *, limit: int = LIMIT) -> None:
        self._out = _Stream(out)
        self._err = _Stream(err)
        self._limit = limit
        self.dropped = 0
        """Lines that found a queue full."""
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._is_asleep = False
        self._closing = False
        # A daemon: a blocked write must not keep the process from leaving.
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()

    def out(self, text: str) -> None:
        """Text for stdout, with its own line ends."""
        self._put(self._out, text)

    def err(self, line: str) -> None:
        """One line for stderr, with its line end."""
        self._put(self._err, line)

    def _put(self, stream: _Stream, text: str) -> None:
        if stream.broken:
            return
        if len(stream.waiting) >= self._limit:
            self.dropped += 1
            return
        stream.waiting.append(text.encode(errors="backslashreplace"))
        # The thread says that it sleeps before it looks at the queues for the last time.
        if self._is_asleep:
            self._is_asleep = False
            os.eventfd_write(self._wake, 1)

    def close(self, timeout: float) -> bool:
        """Write what waits, for at most ``timeout`` seconds; whether all of it could be written."""
        self._closing = True
        os.eventfd_write(self._wake, 1)
        self._thread.join(timeout)
        if self._thread.is_alive():
            return False  # it still needs its descriptor, and ends with the process
        os.close(self._wake)
        return True

    def _run(self) -> None:
        streams = (self._out, self._err)
        while True:
            self._is_asleep = True
            pending = [stream for stream in streams if stream.is_pending()]
            if self._closing and not pending:
                return
            poll = select.poll()
            poll.register(self._wake, select.POLLIN)
            for stream in pending:
                # A pipe is writable when it has room for PIPE_BUF bytes: a line of that length
                # never blocks, and a blocked stream leaves the other one alone.
                poll.register(stream.fd, select.POLLOUT)
            ready = {fd for fd, _ in poll.poll()}
            self._is_asleep = False
            if self._wake in ready:
                if self._closing:
                    # It stays readable: poll would return at once for ever.
                    if not {stream.fd for stream in pending} & ready:
                        self._wait_for(pending)
                else:
                    os.eventfd_read(self._wake)
            for stream in pending:
                if stream.fd in ready:
                    stream.write_one()

    @staticmethod
    def _wait_for(pending: list[_Stream]) -> None:
        poll = select.poll()
        for stream in pending:
            poll.register(stream.fd, select.POLLOUT)
        poll.poll()
