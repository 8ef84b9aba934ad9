"""Where messages end in a stream of bytes: Content-Length decides (RFC 3261 §18.3).

Bytes in as they come, whole messages out.  What a message means is not looked at, only where it
ends; a stream in which that can't be known any more is at its end.
"""

from __future__ import annotations

import re

from .message import MAX_BODY

__all__ = ["MAX_BODY", "MAX_HEAD", "PING", "PONG", "Framer"]

MAX_HEAD = 32768
"""Bytes of start line and headers."""
PING = b"\r\n\r\n"
"""Between messages: "are you there?", to be answered by PONG (RFC 5626 §4.4.1)."""
PONG = b"\r\n"

# A value that is folded, or none at all, is still found; what it is worth is read afterwards.
_LENGTH = re.compile(
    rb"^(?:Content-Length|l)[ \t]*:((?:[^\r\n]|\r?\n[ \t])*)", re.IGNORECASE | re.MULTILINE
)


class Framer:
    """One direction of one connection."""

    def __init__(self) -> None:
        self.fault = ""
        """Why nothing more can be read; empty while all is well."""
        self._buffer = bytearray()
        self._searched = 0
        """How far there is no end of a head."""
        self._head = 0
        """Length of the head whose body is awaited, with the empty line; 0 for none."""
        self._body = 0

    @property
    def partial(self) -> bool:
        """A message has begun and not ended."""
        return bool(self._buffer.strip(b"\r\n"))

    def feed(self, data: bytes) -> list[bytes]:
        """Take ``data``; the messages that are complete now, and PING for each keep-alive.

        A message whose body is longer than MAX_BODY is handed out as its head alone, so that it
        can be answered; it is the last one.
        """
        found: list[bytes] = []
        if not self.fault:
            self._buffer += data
            while (message := self._next()) is not None:
                found.append(message)
        return found

    def _next(self) -> bytes | None:
        if not self._head:
            if self._take_ping():
                return PING
            if self.fault or not self._buffer or not self._find_head():
                return None
            head = bytes(self._buffer[: self._head])
            self._read_length(head)
            if self.fault:
                return head if self._body > MAX_BODY else None
        elif self.fault:
            return None
        size = self._head + self._body
        if len(self._buffer) < size:
            return None
        message = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._head = self._searched = 0
        return message

    def _take_ping(self) -> bool:
        """§7.5: empty lines before a message are ignored; two of them are a question."""
        buffer = self._buffer
        at = 0
        try:
            while buffer.startswith((b"\r", b"\n"), at):
                if buffer.startswith(PING, at):
                    at += len(PING)
                    return True
                if PING.startswith(buffer[at : at + len(PING)]):
                    break  # it may become one
                at += 2 if buffer.startswith(b"\r\n", at) else 1
        finally:
            del buffer[:at]
        return False

    def _find_head(self) -> bool:
        """Look for the empty line, CRLF or LF, as `message.parse` does."""
        if self._buffer.startswith((b"\r", b"\n")):
            return False
        start = max(self._searched - 2, 0)
        ends = [
            at + len(mark)
            for mark in (b"\n\r\n", b"\n\n")
            if (at := self._buffer.find(mark, start)) >= 0
        ]
        end = min(ends, default=0)
        self._searched = len(self._buffer)
        if end > MAX_HEAD or (not end and self._searched >= MAX_HEAD):
            self._stop(f"a head of more than {MAX_HEAD} bytes")
            return False
        self._head = end
        return bool(end)

    def _read_length(self, head: bytes) -> None:
        # The same length twice is still a length; two different ones are an attack (§18.3 needs
        # one).
        lengths = {b" ".join(value.split()) for value in _LENGTH.findall(head)}
        self._body = 0
        if len(lengths) != 1:
            self._stop("no Content-Length" if not lengths else "more than one Content-Length")
            return
        (length,) = lengths
        if not length.isdigit():
            self._stop("unreadable Content-Length")
            return
        digits = length.lstrip(b"0") or b"0"
        # A number of a thousand digits is not to be computed.
        self._body = int(digits) if len(digits) < 10 else MAX_BODY + 1
        if self._body > MAX_BODY:
            self._stop(f"a body of more than {MAX_BODY} bytes")

    def _stop(self, why: str) -> None:
        self.fault = why
