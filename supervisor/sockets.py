"""Bind the SIP sockets of a phone: UDP and a TCP listener on one number."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import time

from ..protocol.fork import SipSockets

__all__ = ["RECEIVE_BUFFER", "bind", "close", "drop_stale"]

RECEIVE_BUFFER = 1024 * 1024
"""Bytes.  With the kernel's default about 90 INVITEs fit, and on overflow the newest are lost."""

_BACKLOG = 128
"""Connections that wait in the kernel while no process of the phone accepts them."""
_ATTEMPTS = 50
"""Numbers of the kernel's choice that are tried until one is free for both."""

_DROPPED_AT_ONCE = 10_000
"""More than a receive buffer holds: so many datagrams are looked at in one go."""
_TIMESPEC = struct.Struct("@ll")

# Not in the socket module; the same numbers on every architecture that Python runs Linux on,
# but for a few that are gone.
_SO_RCVBUFFORCE = 33
_SO_TIMESTAMPNS = 35
_SO_RXQ_OVFL = 40


def bind(address: str, port: int) -> tuple[str, int, SipSockets]:
    """Bound sockets: their numeric host, their port, and they (non-blocking, CLOEXEC).

    Raises:
        OSError: the kernel refuses one of them, or the name does not resolve
            (``socket.gaierror``, whose errno is negative).
    """
    family, host = _numeric(address)
    for attempt in range(_ATTEMPTS):
        with contextlib.ExitStack() as on_error:
            udp = on_error.enter_context(_udp(family, host, port))
            bound = udp.getsockname()[1]
            try:
                tcp = _listener(family, host, bound)
            except OSError as error:
                if port == 0 and error.errno == errno.EADDRINUSE and attempt + 1 < _ATTEMPTS:
                    continue
                raise
            on_error.pop_all()
            return host, bound, SipSockets(udp.detach(), tcp.detach())
    raise AssertionError("unreachable")


def close(sockets: SipSockets) -> None:
    """Close both."""
    for fd in sockets:
        os.close(fd)


def drop_stale(udp: int, age: float) -> int:
    """Drop the datagrams of this socket that have waited for more than ``age`` seconds.

    By the kernel's time stamp alone: this process reads no SIP.  Returns how many there were.
    """
    dropped = 0
    sock = socket.socket(fileno=udp)
    try:
        for _ in range(_DROPPED_AT_ONCE):
            try:
                stamp = _stamp(sock)
                if stamp is None or time.time() - stamp <= age:
                    break
                sock.recv(1, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError:
                continue  # an ICMP error about something that a phone's process had sent
            dropped += 1
    finally:
        sock.detach()
    return dropped


def _stamp(udp: socket.socket) -> float | None:
    """When the kernel received the next datagram, by its wall clock."""
    room = socket.CMSG_SPACE(_TIMESPEC.size) + socket.CMSG_SPACE(4)
    _, ancillary, _, _ = udp.recvmsg(1, room, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            return float(seconds + nanoseconds / 1e9)
    return None


def _numeric(address: str) -> tuple[int, str]:
    """Family and numeric host; a name is IPv4 where it can be."""
    families = (socket.AF_INET6,) if ":" in address else (socket.AF_INET, socket.AF_INET6)
    for family in families:
        try:
            found = socket.getaddrinfo(address, None, family, socket.SOCK_DGRAM)
        except UnicodeError:  # a label that IDNA has no form for
            raise socket.gaierror(socket.EAI_NONAME, "not a host name") from None
        except socket.gaierror:
            if family == families[-1]:
                raise
        else:
            return family, str(found[0][4][0])
    raise AssertionError("unreachable")


def _socket(family: int, kind: int) -> socket.socket:
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    if family == socket.AF_INET6:
        # The IPv4 port of the same number is another phone's.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def _udp(family: int, host: str, port: int) -> socket.socket:
    with contextlib.ExitStack() as on_error:
        udp = on_error.enter_context(_socket(family, socket.SOCK_DGRAM))
        # No SO_REUSEADDR, no SO_REUSEPORT: with both sides setting it, a newcomer takes the
        # traffic.
        # When a datagram came and how many were lost is unknowable unless asked for now.
        udp.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        udp.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
        try:
            # Beyond net.core.rmem_max, for those who may.
            udp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
        except OSError:
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        udp.bind((host, port))
        on_error.pop_all()
        return udp


def _listener(family: int, host: str, port: int) -> socket.socket:
    with contextlib.ExitStack() as on_error:
        tcp = on_error.enter_context(_socket(family, socket.SOCK_STREAM))
        # Connections of a former owner in TIME_WAIT do not matter; one that listens still does.
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((host, port))
        tcp.listen(_BACKLOG)
        on_error.pop_all()
        return tcp
