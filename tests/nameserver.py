"""A small name server of the tests' own, on a free port of an address of 127.0.0.0/8."""

from __future__ import annotations

import select
import socket
import threading
from collections import Counter
from types import TracebackType

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.rrset

from peers.sipp import loopback_address

__all__ = ["NameServer"]


class NameServer:
    """Answers what its zone has, in a thread.

    ``zone`` maps (name, type) to the texts of records; ``silent`` are names it never answers,
    ``failing`` those it answers with SERVFAIL, ``long`` those whose answer is cut short over UDP.
    """

    def __init__(self, address: str | None = None) -> None:
        # An address of its own: of another one somebody may have the TCP port of this number.
        address = address or loopback_address()
        self.zone: dict[tuple[str, str], list[str]] = {}
        self.ttl = 60
        self.silent: set[str] = set()
        self.failing: set[tuple[str, str]] = set()
        self.long: set[str] = set()
        self.asked: Counter[tuple[str, str]] = Counter()
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._tcp = socket.socket()
        self._udp.bind((address, 0))
        self.address: tuple[str, int] = self._udp.getsockname()
        self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._tcp.bind(self.address)
        self._tcp.listen()
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="nameserver")
        self._thread.start()

    def resolver(self) -> dns.resolver.Resolver:
        """One that asks this server, and is quick to give up."""
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = [self.address[0]]
        resolver.port = self.address[1]
        resolver.timeout = resolver.lifetime = 1.0
        return resolver

    def _serve(self) -> None:
        while True:
            ready = select.select([self._udp, self._tcp, self._stopped], [], [])[0]
            if self._stopped in ready:
                return
            if self._udp in ready:
                data, peer = self._udp.recvfrom(65535)
                answer = self._answer(data, over_udp=True)
                if answer:
                    self._udp.sendto(answer, peer)
            if self._tcp in ready:
                connection, _ = self._tcp.accept()
                with connection:
                    connection.settimeout(5)
                    size = int.from_bytes(connection.recv(2, socket.MSG_WAITALL), "big")
                    data = connection.recv(size, socket.MSG_WAITALL)
                    answer = self._answer(data, over_udp=False)
                    connection.sendall(len(answer).to_bytes(2, "big") + answer)

    def _answer(self, data: bytes, *, over_udp: bool) -> bytes:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked[name, kind] += 1
        if name in self.silent:
            return b""
        response = dns.message.make_response(query)
        records = self.zone.get((name, kind), [])
        if (name, kind) in self.failing:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif over_udp and name in self.long:
            response.flags |= dns.flags.TC
        elif records:
            response.answer.append(
                dns.rrset.from_text_list(question.name, self.ttl, "IN", kind, records)
            )
        elif not any(known == name for known, _ in self.zone):
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response.to_wire()

    def __enter__(self) -> NameServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.close()
        self._thread.join()
        for sock in (self._udp, self._tcp, self._stopped):
            sock.close()
