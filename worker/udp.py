"""The phone's UDP socket, adopted from the supervisor: datagrams, and those that reached nobody."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections import Counter
from functools import lru_cache

from .stack import Address

__all__ = ["Udp"]

_MAX_DATAGRAM = 65535
_ROUND = 64
"""Errors of the socket that one call gets past."""

# <linux/in.h>, <linux/in6.h>, <asm/socket.h>, <linux/errqueue.h>; Python has not all of them.
_IP_RECVERR = 11
_IPV6_RECVERR = 25
_SO_RXQ_OVFL = 40
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")
_EXTENDED_ERROR = struct.Struct("=IBBBBII")
_ORIGIN_ICMP, _ORIGIN_ICMP6 = 2, 3
_ICMP_UNREACHABLE, _ICMP_PARAMETER = 3, 12
_FRAGMENTATION_NEEDED = 4
_ICMP6_UNREACHABLE, _ICMP6_PARAMETER = 1, 4


class Udp:
    """Datagrams in and out.

    ``counts`` gets ``datagrams_lost`` (those the kernel had no room for since the socket was bound,
    by whatever process of the phone), ``sip_send_blocked``, ``sip_send_failed``, ``sip_icmp``.
    """

    def __init__(self, fd: int, counts: Counter[str]) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self.family = self._socket.family
        # Without it an ICMP error of one peer would be an error of whatever is sent next.
        if self.family == socket.AF_INET6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        else:
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
        self._counts = counts
        self._buffer = bytearray(_MAX_DATAGRAM)
        self._view = memoryview(self._buffer)
        self._ancillary = 256
        self.fd = fd

    @property
    def host(self) -> str:
        """The address it is bound to."""
        host: str = self._socket.getsockname()[0]
        return host

    def receive(self, wall: float) -> tuple[bytes, Address, float] | None:
        """The next datagram and for how many seconds it has waited, at the wall clock's ``wall``.

        0 for one that the kernel did not stamp: the supervisor asks for that when it binds.
        """
        found = self._receive()
        if found is None:
            return None
        data, source, ancillary = found
        for level, kind, stamp in ancillary:
            if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
                seconds, nanoseconds = _TIMESPEC.unpack_from(stamp)
                return data, source, max(wall - seconds - nanoseconds / 1e9, 0.0)
        return data, source, 0.0

    def _receive(self) -> tuple[bytes, Address, list[tuple[int, int, bytes]]] | None:
        for _ in range(_ROUND):
            try:
                size, ancillary, _, source = self._socket.recvmsg_into(
                    [self._buffer], self._ancillary
                )
            except BlockingIOError:
                return None
            except OSError:
                continue  # an ICMP error: the error queue has it, with more about it
            for level, kind, data in ancillary:
                if level == socket.SOL_SOCKET and kind == _SO_RXQ_OVFL:
                    (self._counts["datagrams_lost"],) = struct.unpack("=I", data[:4])
            return bytes(self._view[:size]), (source[0], source[1]), ancillary
        return None

    def unreachable(self) -> tuple[bytes, Address] | None:
        """The next of our datagrams that reached nobody; None when there is none left."""
        while True:
            try:
                size, ancillary, _, peer = self._socket.recvmsg_into(
                    [self._buffer], self._ancillary, socket.MSG_ERRQUEUE
                )
            except OSError:
                return None
            if peer and any(map(_says_unreachable, ancillary)):
                self._counts["sip_icmp"] += 1
                return bytes(self._view[:size]), (peer[0], peer[1])
            self._counts["sip_icmp_ignored"] += 1

    def send(self, data: bytes, destination: Address) -> bool:
        """Put a datagram on the wire.  False: nobody can be reached there.

        What the kernel has no room for now counts as lost on the way: SIP sends it again.
        """
        # A name would be looked up by sendto, and block.
        if _family(destination[0]) != self.family or not 0 < destination[1] < 65536:
            self._counts["sip_send_failed"] += 1
            return False
        for attempt in (1, 2):
            try:
                self._socket.sendto(data, destination)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM):
                    self._counts["sip_send_blocked"] += 1
                    return True
                # The first error may be an ICMP answer to another datagram, reported here.
                if attempt == 2:
                    self._counts["sip_send_failed"] += 1
                    return False
            else:
                return True
        raise AssertionError("unreachable")


def _says_unreachable(ancillary: tuple[int, int, bytes]) -> bool:
    """RFC 3261 §18.4: unreachable and parameter problem count, TTL exceeded does not.

    Nor does "fragmentation needed": the kernel has learnt the path's MTU, the next copy arrives.
    """
    level, kind, data = ancillary
    if len(data) < _EXTENDED_ERROR.size:
        return False
    _, origin, icmp_type, code, *_ = _EXTENDED_ERROR.unpack_from(data)
    # Another origin is our own kernel: sendto has reported it.
    if (level, kind, origin) == (socket.IPPROTO_IP, _IP_RECVERR, _ORIGIN_ICMP):
        if icmp_type == _ICMP_UNREACHABLE:
            return bool(code != _FRAGMENTATION_NEEDED)
        return bool(icmp_type == _ICMP_PARAMETER)
    if (level, kind, origin) == (socket.IPPROTO_IPV6, _IPV6_RECVERR, _ORIGIN_ICMP6):
        return icmp_type in (_ICMP6_UNREACHABLE, _ICMP6_PARAMETER)
    return False


@lru_cache(maxsize=256)
def _family(host: str) -> int:
    """Address family of a numeric host; 0 for a name."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return 0
    return socket.AF_INET6 if version == 6 else socket.AF_INET
