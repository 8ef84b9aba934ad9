"""The log, and the one thread that writes to stderr and stdout.

Whatever happens to the other end of those two — a full pipe, a closed one, a stopped terminal —
only this thread waits for it.  Both have a bounded queue; a full one drops and counts.
"""

from __future__ import annotations

import errno
import json
import os
import select
import threading
import time
from collections import deque
from collections.abc import Container, Iterator, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any

import structlog

from .phone_logs import PhoneLogs

__all__ = ["LIMIT", "MAX_LINE", "Lines", "Log", "LogWriter"]

LIMIT = 10_000
"""Lines that may wait for stdout, and for stderr."""
MAX_LINE = 4096
"""Bytes of a line of raw output; what is longer is broken."""
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
REPORT_EVERY = 10.0
"""Seconds between two complaints about the files of phones."""
_EVENT = MutableMapping[str, Any]
_NOTHING: Mapping[str, Any] = {}


class _Stream:
    """What waits for one descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.waiting: deque[bytes] = deque()
        self.rest = b""
        """Of a line that a non-blocking descriptor took in part."""
        self.torn = False
        """The last line was written in part, and its rest dropped."""
        self.broken = False
        self.dropped = 0
        """Lines that the disk had no room for."""

    def is_pending(self) -> bool:
        return not self.broken and bool(self.rest or self.waiting)

    def write_one(self) -> None:
        """One line, one write."""
        line = self.rest or b"\n" * self.torn + self.waiting.popleft()
        try:
            self.rest = line[os.write(self.fd, line) :]
            self.torn = False
        except BlockingIOError:
            self.rest = line
        except OSError as error:
            if error.errno in _DISK_FULL:  # until somebody makes room
                self.dropped += 1
                self.torn = self.torn or bool(self.rest)
                self.rest = b""
                return
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
        self._overflowed = 0
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._is_asleep = False
        self._closing = False
        # A daemon: a blocked write must not keep the process from leaving.
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that found a queue full, or no room on the disk."""
        return self._overflowed + self._out.dropped + self._err.dropped

    def out(self, text: str) -> bool:
        """Text for stdout, with its own line ends; whether there was room for it."""
        return self._put(self._out, text)

    def err(self, line: str) -> bool:
        """One line for stderr, with its line end; whether there was room for it."""
        return self._put(self._err, line)

    def _put(self, stream: _Stream, text: str) -> bool:
        if stream.broken:
            return False
        if len(stream.waiting) >= self._limit:
            self._overflowed += 1
            return False
        stream.waiting.append(text.encode(errors="backslashreplace"))
        # The thread says that it sleeps before it looks at the queues for the last time.
        if self._is_asleep:
            self._is_asleep = False
            os.eventfd_write(self._wake, 1)
        return True

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
            closing = self._closing
            pending = [stream for stream in streams if stream.is_pending()]
            if closing and not pending:
                return
            poll = select.poll()
            if not closing:
                poll.register(self._wake, select.POLLIN)
            for stream in pending:
                # A pipe is writable when it has room for PIPE_BUF bytes: a line of that length
                # never blocks, and a blocked stream leaves the other one alone.
                poll.register(stream.fd, select.POLLOUT)
            ready = {fd for fd, _ in poll.poll()}
            self._is_asleep = False
            if self._wake in ready:
                os.eventfd_read(self._wake)
            for stream in pending:
                if stream.fd in ready:
                    stream.write_one()


class Log:
    """Structured lines: JSON, or coloured text for a terminal."""

    def __init__(
        self, writer: LogWriter, *, is_terminal: bool, without: Container[str] = ()
    ) -> None:
        """``without`` these events: a reader of this terminal sees them already."""
        self._writer = writer
        self._without = without
        self._reported = 0
        self._phones: PhoneLogs | None = None
        self._phones_reported = 0
        self._may_report_at = 0.0
        processors: list[Any] = [structlog.processors.add_log_level]
        if is_terminal:
            processors += [
                structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False),
                _printable,
                structlog.dev.ConsoleRenderer(
                    colors=True, exception_formatter=structlog.dev.plain_traceback
                ),
            ]
        else:
            processors += [
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(serializer=json.dumps, default=str),
            ]
        self._sink = _Sink(writer)
        self._logger = structlog.wrap_logger(
            self._sink,
            processors=processors,
            wrapper_class=structlog.make_filtering_bound_logger("info"),
            context_class=dict,
        ).bind()  # else each line makes a new one

    def write(
        self, level: str, event: str, fields: Mapping[str, Any] = _NOTHING, /, **more: object
    ) -> None:
        """One line; ``more`` wins over ``fields``, which may come from anybody."""
        if event in self._without:
            return
        named = {_RENAMED.get(key, key): value for key, value in fields.items()}
        everything = named | more
        getattr(self._logger, level)(event, **everything)
        if self._phones is not None and "phone" in everything:
            self._to_phone(self._phones, level, event, everything)
        dropped = self._writer.dropped
        if dropped > self._reported and self._sink.was_taken:
            self._logger.warning("output_dropped", lines=dropped - self._reported)
            if self._sink.was_taken:
                self._reported = dropped

    def also_to(self, phones: PhoneLogs) -> None:
        """Write lines about a phone to its file, too."""
        self._phones = phones

    @property
    def dropped(self) -> int:
        """Lines that somebody misses: of stdout, of stderr, of the files of phones."""
        return self._writer.dropped + (self._phones.dropped if self._phones is not None else 0)

    def _to_phone(
        self, phones: PhoneLogs, level: str, event: str, fields: Mapping[str, Any]
    ) -> None:
        if level == "debug":
            return
        at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        line = {"timestamp": at, "level": level, "event": event, **fields}
        phones.write(str(fields["phone"]), json.dumps(line, default=str) + "\n")
        missing = phones.dropped - self._phones_reported
        if missing and time.monotonic() >= self._may_report_at:
            # To stderr alone: a full disk does not get emptier by complaints.
            self._may_report_at = time.monotonic() + REPORT_EVERY
            self._phones_reported += missing
            self._logger.warning("phone_log_dropped", lines=missing, error=phones.error)


class Lines:
    """Cuts a stream of bytes into lines of at most MAX_LINE bytes."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[str]:
        """The lines that are complete now; empty ones are left out."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > MAX_LINE:
            lines.append(self._rest[:MAX_LINE])
            self._rest = self._rest[MAX_LINE:]
        for line in lines:
            for at in range(0, len(line), MAX_LINE):
                if text := line[at : at + MAX_LINE].decode(errors="backslashreplace").rstrip():
                    yield text

    def end(self) -> Iterator[str]:
        """What came without a line end."""
        yield from self.feed(b"\n")


class _Sink:
    """What structlog calls with a rendered line."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer
        self.was_taken = True
        """The last line found room."""

    def msg(self, line: str) -> None:
        self.was_taken = self._writer.err(line + "\n")

    debug = info = warning = error = critical = msg


# Names that structlog gives a meaning to, or that its methods can't take.
_RENAMED = {
    name: f"{name}_"
    for name in ("event", "exc_info", "exception", "level", "self", "stack_info", "timestamp")
}


def _printable(_logger: object, _method: str, event: _EVENT) -> _EVENT:
    """No line breaks and no escape sequences in a line on a terminal: a peer may have sent them."""
    for key, value in event.items():
        if isinstance(value, str) and key != "exception" and not value.isprintable():
            event[key] = value.encode("unicode_escape").decode()
    return event
