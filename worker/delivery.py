"""From a message and its hop to a socket: by which transport, to which address, and if not, where.

No socket in here: the transports and the resolver are handed in.  A hop with a name is resolved
(RFC 3263), and everything with the branch of one request goes to one address: a CANCEL must find
its INVITE (§4.3).  When nobody is there, the next address is tried, until one of them has answered.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .resolve import Resolved
from .sip.uri import is_numeric
from .stack import Address, Hop

__all__ = ["Delivery", "Names"]

_WAYS = 256
"""Requests to names whose address is remembered."""
_QUEUE = 16
"""Messages of one request that wait for its address."""
_BRANCH = re.compile(rb";\s*branch\s*=\s*([^;,\s]+)", re.IGNORECASE)


class Names(Protocol):
    """Where addresses come from (`resolve.Resolver`)."""

    def known(self, hop: Hop) -> Sequence[Address] | None:
        """The addresses of ``hop`` if they are known and still good."""

    def start(self, hop: Hop, resolved: Resolved) -> None:
        """Find them, and call back later."""


@dataclass(slots=True)
class _Way:
    """How what has this branch gets to its hop."""

    hop: Hop
    addresses: list[Address] = field(default_factory=list)
    """Those left to try; the first is in use.  Empty while they are being looked up."""
    queue: list[bytes] | None = None
    """What waits for the look-up; None once it has ended."""
    request: bytes = b""
    """What was sent last, for the next address: an ICMP error quotes only the beginning."""
    answered: bool = False


class Delivery:
    """Sends what the stack puts out.

    ``udp(data, address)`` and ``tcp(data, hop, address)`` return False if nobody can be there;
    ``lost(data, hop)`` is told of what could not be delivered after all, ``unresolved(data, hop)``
    of what goes to a name that leads nowhere; never from within `send`.
    """

    def __init__(
        self,
        *,
        udp: Callable[[bytes, Address], bool],
        tcp: Callable[[bytes, Hop, Address], bool],
        names: Names,
        lost: Callable[[bytes, Hop], None],
        unresolved: Callable[[bytes, Hop], None],
    ) -> None:
        self._udp = udp
        self._tcp = tcp
        self._names = names
        self._lost = lost
        self._unresolved = unresolved
        self._ways: OrderedDict[bytes, _Way] = OrderedDict()
        """By branch, of messages to names only."""

    def send(self, data: bytes, hop: Hop) -> bool:
        """Put a message on its way.  False: nobody can be reached there."""
        if is_numeric(hop.host):
            return self._transmit(data, hop, hop.address)
        way = self._way(data, hop)
        if way.queue is not None:
            # What does not fit counts as lost on the way.
            # Nor is a retransmission to be sent in one burst with the first copy.
            if len(way.queue) < _QUEUE and data not in way.queue:
                way.queue.append(data)
            return True
        return self._try(data, way)

    def undeliverable(self, data: bytes, address: Address, hop: Hop | None = None) -> None:
        """``data``, perhaps truncated, did not get to ``address``; ``hop`` is None if unknown."""
        way = self._ways.get(_branch(data))
        if way is None or (hop is not None and hop != way.hop):
            self._lost(data, hop or Hop(*address))
        elif address not in way.addresses[:1]:
            pass  # the next one is being tried already
        elif way.answered:
            self._lost(data, way.hop)
        else:
            del way.addresses[0]
            if not self._try(way.request, way):
                self._lost(data, way.hop)

    def received(self, data: bytes) -> None:
        """A message came in: perhaps an answer to one that went to a name."""
        if self._ways and data.startswith(b"SIP/2.0 "):
            way = self._ways.get(_branch(data))
            if way is not None:
                way.answered = True
                way.request = b""

    # Inside

    def _way(self, data: bytes, hop: Hop) -> _Way:
        branch = _branch(data)
        way = self._ways.get(branch)
        if way is not None and way.hop == hop:
            self._ways.move_to_end(branch)
            return way
        way = self._ways[branch] = _Way(hop)
        if len(self._ways) > _WAYS:
            self._ways.popitem(last=False)
        found = self._names.known(hop)
        if not found:  # a name that led nowhere before is told of like any other: later
            way.queue = []
            self._names.start(hop, lambda found, why: self._resolved(way, found))
        else:
            way.addresses = list(found)
        return way

    def _resolved(self, way: _Way, found: Sequence[Address]) -> None:
        way.addresses = list(found)
        queue, way.queue = way.queue or [], None
        for data in queue:
            if not found:
                self._unresolved(data, way.hop)
            elif not self._try(data, way):
                self._lost(data, way.hop)

    def _try(self, data: bytes, way: _Way) -> bool:
        if not way.answered:
            way.request = data
        while way.addresses:
            if self._transmit(data, way.hop, way.addresses[0]):
                return True
            if way.answered:
                return False
            del way.addresses[0]
        return False

    def _transmit(self, data: bytes, hop: Hop, address: Address) -> bool:
        if hop.transport == "tcp":
            return self._tcp(data, hop, address)
        return self._udp(data, address)


def _branch(data: bytes) -> bytes:
    """The top branch of a message of ours or of a response to one: the first that is written."""
    found = _BRANCH.search(data)
    return found[1] if found else b""
