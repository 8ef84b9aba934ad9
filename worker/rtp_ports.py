"""The phone's lease of RTP ports: a pair of sockets for each call that has audio.

The supervisor leases the numbers to the phone, or leaves them to the kernel; they are bound here,
when a call needs them.  Pairs rotate, so that a late packet of the previous call does not reach the
next one.  The sockets are bound here, and read once their call has media (`rtp_sockets`).
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

from ..protocol.messages import ANY_PORT

__all__ = ["NoRtpPort", "RtpLease", "RtpPorts"]

_ATTEMPTS = 50
_RECEIVE_BUFFER = 4096
"""Bytes.  Until somebody reads, what is sent to us is to cost no memory."""


class NoRtpPort(Exception):
    """No pair of the phone's lease is left."""


class RtpLease:
    """One pair, bound: RTP on ``port`` (even), RTCP on the next one."""

    __slots__ = ("_close", "port", "sockets")

    def __init__(
        self, port: int, sockets: tuple[socket.socket, ...], close: Callable[[RtpLease], None]
    ) -> None:
        self.port = port
        self.sockets = sockets
        self._close: Callable[[RtpLease], None] | None = close

    def close(self) -> None:
        """Give the pair back.  Harmless the second time."""
        if self._close is not None:
            close, self._close = self._close, None
            close(self)


class RtpPorts:
    """The pairs from ``first`` (even) on, ``pairs`` of them, on the address ``host``.

    With ``first`` ANY_PORT, ``pairs`` of them wherever the kernel has two free.

    ``skipped(port, why)`` is told of a pair that a stranger holds, once until it is free again.
    ``exhausted()`` is told when the process has no descriptor left for one.
    ``resting`` are ports of calls that crashed, whose peers may send on for so many seconds: they
    are the last to be taken.

    With ``shared`` all calls have one pair between them, bound by the first call and kept
    (``media: none``).
    """

    def __init__(
        self,
        host: str,
        first: int,
        pairs: int,
        *,
        skipped: Callable[[int, str], None],
        exhausted: Callable[[], None] = lambda: None,
        shared: bool = False,
        resting: Mapping[int, float] = MappingProxyType({}),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._first = first
        self._pairs = pairs
        self._skipped = skipped
        self._exhausted = exhausted
        self._next = 0
        self._in_use: set[int] = set()
        self._strangers: set[int] = set()
        self._shared = shared
        self._clock = clock
        now = clock()
        self._rests_until = {port: now + seconds for port, seconds in resting.items()}
        self._sink: RtpLease | None = None

    @property
    def in_use(self) -> int:
        """Pairs that are bound for calls; the shared one does not count."""
        return len(self._in_use)

    def lease(self) -> RtpLease:
        """A pair for one call.  Raises NoRtpPort."""
        if not self._shared:
            return self._bind_next(self._release)
        if self._sink is None:
            self._sink = self._bind_next(_keep)
            self._in_use.clear()
        return RtpLease(self._sink.port, self._sink.sockets, _keep)

    def rested(self, port: int) -> None:
        """Nobody sends to the pair any more that was to rest; harmless where it did not."""
        self._rests_until.pop(port, None)

    def close(self) -> None:
        """Close the shared pair."""
        if self._sink is not None:
            for sock in self._sink.sockets:
                sock.close()
            self._sink = None

    def _bind_next(self, close: Callable[[RtpLease], None]) -> RtpLease:
        if self._first == ANY_PORT:
            return self._bind_any(close)
        refused = ""
        for port in self._in_turn():
            try:
                sockets = self._bind_pair(port)
            except OSError as error:
                self._check_descriptors(error)
                refused = _why(error)
                if port not in self._strangers:
                    self._strangers.add(port)
                    self._skipped(port, refused)
                continue
            self._next = ((port - self._first) // 2 + 1) % self._pairs
            self._strangers.discard(port)
            self._in_use.add(port)
            return RtpLease(port, sockets, close)
        last = self._first + 2 * self._pairs - 1
        also = f", {len(self._strangers)} refused ({refused})" if refused else ""
        raise NoRtpPort(
            f"no RTP pair left in {self._first}-{last} on {self._host}: "
            f"{len(self._in_use)} in use by calls{also}; raise max_calls or widen ports.rtp"
        )

    def _in_turn(self) -> list[int]:
        """The free ports in the order in which they are to be tried.

        Those that rest are the last resort, the one that has rested longest first: a phone is not
        to refuse a call because one of its own crashed.
        """
        turn = [(self._next + step) % self._pairs for step in range(self._pairs)]
        ports = [port for n in turn if (port := self._first + 2 * n) not in self._in_use]
        now = self._clock()
        self._rests_until = {port: t for port, t in self._rests_until.items() if t > now}
        return sorted(ports, key=lambda port: self._rests_until.get(port, 0.0))

    def _bind_any(self, close: Callable[[RtpLease], None]) -> RtpLease:
        why = ""
        for _ in range(_ATTEMPTS if len(self._in_use) < self._pairs else 0):
            port = 0
            try:
                with self._open() as probe:
                    probe.bind((self._host, 0))
                    port = probe.getsockname()[1] & ~1
                sockets = self._bind_pair(port)
            except OSError as error:  # its neighbour is taken, or it went to somebody meanwhile
                self._check_descriptors(error)
                why = f"; the last one tried, {port}, is refused: {_why(error)}"
                continue
            self._in_use.add(port)
            return RtpLease(port, sockets, close)
        raise NoRtpPort(
            f"no RTP pair left on {self._host}: {len(self._in_use)} of {self._pairs} in use by "
            f"calls{why}; raise max_calls"
        )

    def _check_descriptors(self, error: OSError) -> None:
        """No port is to blame for that.  Raises NoRtpPort."""
        if error.errno in (errno.EMFILE, errno.ENFILE):
            self._exhausted()
            raise NoRtpPort(
                f"no descriptor left for an RTP pair on {self._host}; raise limits.descriptors"
            ) from None

    def _bind_pair(self, port: int) -> tuple[socket.socket, ...]:
        """RTP and RTCP.  Raises OSError, and then nothing is bound."""
        sockets: list[socket.socket] = []
        try:
            for number in (port, port + 1):
                sock = self._open()
                sockets.append(sock)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
                sock.bind((self._host, number))
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        return tuple(sockets)

    def _open(self) -> socket.socket:
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        sock = socket.socket(self._family, kind)
        if self._family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        return sock

    def _release(self, lease: RtpLease) -> None:
        for sock in lease.sockets:
            sock.close()
        self._in_use.discard(lease.port)


def _keep(lease: RtpLease) -> None:
    """The shared pair outlives its calls."""


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "in use"
    return os.strerror(error.errno) if error.errno else str(error)
