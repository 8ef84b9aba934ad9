"""Which addresses a hop means, best first (RFC 3263, RFC 2782).

Only the order of questions and answers is here; who is asked is handed in.  NAPTR is not asked: by
which transport is decided before, by the URI or the phone (§4.1 leaves it to the client).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from .stack import DEFAULT_PORT, Address, Hop

__all__ = ["Located", "NameFailure", "Names", "Service", "in_order", "locate"]

_SERVICES = 8
"""Servers of one name that are looked at."""


class NameFailure(Exception):
    """A name that can't be looked up, and why.

    ``known`` says that the name servers have answered: there is no such name, or nothing of the
    kind at it.
    """

    def __init__(self, why: str, *, known: bool = False) -> None:
        super().__init__(why)
        self.known = known


@dataclass(frozen=True, slots=True)
class Service:
    """One SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    host: str
    """Empty: there is decidedly no such service."""


class Names(Protocol):
    """Who is asked.  Each answer comes with the seconds it is good for; all raise NameFailure."""

    def local(self, name: str) -> list[str]:
        """Addresses that this machine knows by itself; none: ask the others."""

    def addresses(self, name: str) -> tuple[list[str], float]:
        """A or AAAA records."""

    def services(self, name: str) -> tuple[list[Service], float]:
        """SRV records."""


@dataclass(frozen=True, slots=True)
class Located:
    """Where a hop leads."""

    addresses: tuple[Address, ...]
    """Best first, at least one."""
    ttl: float
    """Seconds for which this is good."""


def locate(hop: Hop, names: Names, random: Callable[[int], int]) -> Located:
    """The addresses of ``hop``, whose host is a name.

    ``random(n)`` is a number from 0 to n, both included.  Raises NameFailure.
    """
    local = names.local(hop.host)
    if local:
        return Located(tuple((host, hop.address[1]) for host in local), 0.0)
    if hop.port is None:
        try:
            found, ttl = names.services(f"_sip._{hop.transport}.{hop.host}")
        except NameFailure as failure:
            if not failure.known:
                raise
        else:
            return _served(hop, list(in_order(found, random))[:_SERVICES], ttl, names)
    hosts, ttl = names.addresses(hop.host)
    return Located(tuple((host, hop.port or DEFAULT_PORT) for host in hosts), ttl)


def _served(hop: Hop, services: list[Service], ttl: float, names: Names) -> Located:
    addresses: list[Address] = []
    why = NameFailure(f"no SIP by {hop.transport} there", known=True)
    for service in services:
        if not service.host or not service.port:
            continue
        try:
            hosts = names.local(service.host)
            if not hosts:
                hosts, good_for = names.addresses(service.host)
                ttl = min(ttl, good_for)
        except NameFailure as failure:  # the next one may do
            why = failure
            continue
        addresses += [(host, service.port) for host in hosts]
    if not addresses:
        raise why
    return Located(tuple(dict.fromkeys(addresses)), ttl)


def in_order(services: Iterable[Service], random: Callable[[int], int]) -> Iterable[Service]:
    """By priority, and within one by chance according to weight (RFC 2782)."""
    # Those of weight 0 first: they get their small chance of being chosen.
    left = sorted(services, key=lambda service: (service.priority, service.weight))
    while left:
        best = [service for service in left if service.priority == left[0].priority]
        pick = random(sum(service.weight for service in best))
        for service in best:
            pick -= service.weight
            if pick <= 0:
                break
        left.remove(service)
        yield service
