"""Which of this machine's addresses a phone has that does not say: the one towards its server."""

from __future__ import annotations

import contextlib
import socket
import threading

from ..protocol.spec import PhoneSpec, split_advertise

__all__ = ["RESOLVE_LIMIT", "placed", "towards"]

RESOLVE_LIMIT = 2.0
"""Seconds for the name of a server; the supervisor serves nobody meanwhile."""

_FAR = "192.0.2.1"  # RFC 5737: nobody's, so the default route leads there
_LOCAL = "127.0.0.1"


def placed(spec: PhoneSpec, known: dict[str, str]) -> PhoneSpec:
    """``spec`` with an address; ``known`` keeps those found, by host of the server."""
    if spec.address:
        return spec
    server = spec.proxy or (spec.register.server if spec.register is not None else "")
    host = split_advertise(server)[0] if server else _FAR
    if host not in known:
        known[host] = towards(host)
    return spec.at(known[host])


def towards(host: str) -> str:
    """The source address of the route to ``host``.

    Where the name does not resolve in time, that of the default route, and without one loopback:
    the server may be back any time, and the phone keeps trying.
    """
    for family, address in (*_resolve(host), (socket.AF_INET, _FAR)):
        # Nothing is sent: connecting a UDP socket only asks the kernel for the route.
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            source: str = probe.getsockname()[0]
            return source
    return _LOCAL


def _resolve(host: str) -> list[tuple[int, str]]:
    """Family and address of a host, IPv4 first; none where that takes too long."""
    found: list[tuple[int, str]] = []

    def look_up() -> None:
        for family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError, UnicodeError):
                for *_, sockaddr in socket.getaddrinfo(host, None, family, socket.SOCK_DGRAM):
                    found.append((family, str(sockaddr[0])))

    # getaddrinfo takes as long as it likes, but for a thread that nobody waits for.
    thread = threading.Thread(target=look_up, name=f"resolve {host}", daemon=True)
    thread.start()
    thread.join(RESOLVE_LIMIT)
    return list(found)
