"""Whose packets are the peer's, and where ours go (symmetric RTP, RFC 4961).

The address that SDP announces always counts.  Behind NAT nothing comes from there: then the first
other address that sends a stream never heard before counts instead, once.  A ghost of the previous
call, still sending to this port, is known by its SSRC.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Set

from ..stack import Address

__all__ = ["Latch"]

_HAUNTED = 1.0
"""Seconds in which the announced address itself may still be sending the previous call's stream.

Later it is taken for the peer's: some test tools use one SSRC for all their calls."""


class Latch:
    """Accepts packets of one peer."""

    def __init__(self, ghosts: Set[int], now: float) -> None:
        """``ghosts``: SSRCs of calls that ended lately."""
        self._ghosts = set(ghosts)
        self._began = now
        self._announced: Address | None = None
        self._latched: Address | None = None
        self._heard: set[int] = set()
        """SSRCs that were accepted."""

    @property
    def destination(self) -> Address | None:
        """Where RTP goes: to where the peer's comes from, or else where it wants it."""
        return self._latched or self._announced

    def announce(self, address: Address | None) -> None:
        """SDP says where the peer is.  Another address than before is another latch."""
        if address is None:
            return  # RFC 2543's hold, 0.0.0.0: the peer is where it was, and says nothing
        # As the kernel writes the source of a packet: IPv6 has many spellings.
        address = str(ipaddress.ip_address(address[0])), address[1]
        if address != self._announced:
            self._announced = address
            self._latched = None
            # What was heard from the old address is not to be latched onto again.
            self._ghosts |= self._heard

    def accepts(self, source: Address, ssrc: int, now: float) -> bool:
        """Whether a packet with a negotiated payload type is the peer's."""
        if source == self._announced:
            if ssrc in self._ghosts and now < self._began + _HAUNTED:
                return False
        elif ssrc in self._ghosts or self._latched not in (None, source):
            return False
        self._latched = source
        if len(self._heard) < 64:  # more are a peer that makes them up
            self._heard.add(ssrc)
        return True

    def is_peer(self, source: Address) -> bool:
        """Whether RTCP from there may be the peer's: its port need not be the next one."""
        hosts = [address[0] for address in (self._announced, self._latched) if address]
        return source[0] in hosts

    @property
    def heard(self) -> Set[int]:
        """The SSRCs that the next call is not to take for its own."""
        return self._heard
