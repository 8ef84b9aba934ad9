"""Bind the SIP socket of a phone."""

from __future__ import annotations

import contextlib
import socket

__all__ = ["RECEIVE_BUFFER", "bind"]

RECEIVE_BUFFER = 1024 * 1024
"""Bytes.  With the kernel's default about 90 INVITEs fit, and on overflow the newest are lost."""

# Not in the socket module; the same numbers on every architecture that Python runs Linux on,
# but for a few that are gone.
_SO_RCVBUFFORCE = 33
_SO_TIMESTAMPNS = 35
_SO_RXQ_OVFL = 40


def bind(address: str, port: int) -> tuple[str, int, int]:
    """A bound UDP socket: its numeric host, its port, its descriptor (non-blocking, CLOEXEC).

    Raises:
        OSError: the kernel refuses, or the name does not resolve (``socket.gaierror``, whose errno
            is negative).
    """
    try:
        found = socket.getaddrinfo(address, port, socket.AF_INET, socket.SOCK_DGRAM)
    except UnicodeError:  # a label that IDNA has no form for
        raise socket.gaierror(socket.EAI_NONAME, "not a host name") from None
    with contextlib.ExitStack() as on_error:
        udp = on_error.enter_context(
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        )
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
        udp.bind(found[0][4])
        host, bound = udp.getsockname()
        on_error.pop_all()
        return host, bound, udp.detach()
