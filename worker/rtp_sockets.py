"""The RTP and RTCP sockets of calls that have audio, within the loop of the phone's process.

A pair is read from the moment its call has media until the call is over, and never before.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .rtp_ports import RtpLease
from .stack import Address

__all__ = ["Datagram", "RtpSockets"]

_RECEIVE_BUFFER = 1 << 16
"""Bytes: about a second of G.711, by the kernel's own accounting of a datagram."""
_MAX_DATAGRAM = 4096
"""What is longer is cut off: no packet of audio is."""
# <asm/socket.h>, <linux/sock_diag.h>
_SO_MEMINFO = 55
_MEMINFO = struct.Struct("=9I")
_DROPS = 8
_ROUND = 16
"""Datagrams taken from a socket at a time, so that what is to be sent gets its turn."""


class Datagram(NamedTuple):
    """One that came in."""

    call: str
    is_rtp: bool
    """Else it is RTCP."""
    data: bytes
    source: Address


class RtpSockets:
    """The sockets that are read.

    ``counts`` gets ``rtp_send_blocked`` (the kernel had no room), ``rtp_send_failed``, and at the
    end of a call ``rtp_datagrams_lost``: those of its that the kernel had no room for.
    """

    def __init__(self, epoll: select.epoll, counts: Counter[str]) -> None:
        self._epoll = epoll
        self._counts = counts
        self._pairs: dict[str, tuple[socket.socket, ...]] = {}
        self._calls: dict[int, tuple[str, bool, socket.socket]] = {}
        """Call, and whether it is RTP, by descriptor."""
        self._lost: dict[str, int] = {}
        """What was lost before the call's sockets were read."""

    def __contains__(self, fd: object) -> bool:
        return fd in self._calls

    def open(self, call: str, lease: RtpLease) -> None:
        """Read what comes to the pair of this call."""
        self._pairs[call] = lease.sockets
        for sock, is_rtp in zip(lease.sockets, (True, False), strict=False):
            if is_rtp:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            self._calls[sock.fileno()] = (call, is_rtp, sock)
            self._epoll.register(sock.fileno(), select.EPOLLIN)
        self._lost[call] = _lost(lease.sockets)

    def close(self, call: str) -> None:
        """Read it no more; to be called before the sockets are closed."""
        pair = self._pairs.pop(call, ())
        for sock in pair:
            self._epoll.unregister(sock.fileno())
            del self._calls[sock.fileno()]
        if lost := _lost(pair) - self._lost.pop(call, 0):
            self._counts["rtp_datagrams_lost"] += lost

    def receive(self, fd: int) -> Iterator[Datagram]:
        """What waits at this socket."""
        known = self._calls.get(fd)
        if known is None:  # closed since it was found readable
            return
        call, is_rtp, sock = known
        for _ in range(_ROUND):
            try:
                data, source = sock.recvfrom(_MAX_DATAGRAM)
            except OSError:
                return  # there is nothing, or the call has just ended
            yield Datagram(call, is_rtp, data, (source[0], source[1]))

    def send_rtp(self, call: str, data: bytes, destination: Address) -> None:
        """Put a packet of audio on the wire; what does not go is counted."""
        self._send(call, 0, data, destination)

    def send_rtcp(self, call: str, data: bytes, destination: Address) -> None:
        """Put a report on the wire; what does not go is counted."""
        self._send(call, 1, data, destination)

    def _send(self, call: str, which: int, data: bytes, destination: Address) -> None:
        pair = self._pairs.get(call)
        if pair is None or not 0 < destination[1] < 65536:
            self._counts["rtp_send_failed"] += 1
            return
        try:
            pair[which].sendto(data, destination)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM):
                self._counts["rtp_send_blocked"] += 1
            else:
                self._counts["rtp_send_failed"] += 1


def _lost(sockets: Iterable[socket.socket]) -> int:
    """Datagrams that the kernel has thrown away for want of room in these."""
    lost = 0
    for sock in sockets:
        info = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        lost += _MEMINFO.unpack(info)[_DROPS]
    return lost
