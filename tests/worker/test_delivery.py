"""Which address a message goes to, and which is next."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sipherd.worker.delivery import Delivery
from sipherd.worker.resolve import Resolved
from sipherd.worker.stack import Address, Hop

ONE: Address = ("192.0.2.1", 5060)
TWO: Address = ("192.0.2.2", 5070)
NAME = Hop("pbx.lab", None)
TCP_NAME = Hop("pbx.lab", None, "tcp")


def request(method: str = "INVITE", branch: str = "one") -> bytes:
    return (
        f"{method} sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK{branch};rport\r\n".encode()
    )


def response(branch: str = "one") -> bytes:
    return f"SIP/2.0 180 Ringing\r\nv: SIP/2.0/UDP h ;rport; branch = z9hG4bK{branch}\r\n".encode()


class Net:
    """Transports and names, played by the test; it is the object under test's whole world."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Address]] = []
        self.lost: list[tuple[bytes, Hop]] = []
        self.unresolved: list[tuple[bytes, Hop]] = []
        self.refused: set[Address] = set()
        self.cache: dict[Hop, Sequence[Address]] = {}
        self.asked: list[tuple[Hop, Resolved]] = []
        self.delivery = Delivery(
            udp=self._send,
            tcp=lambda data, hop, address: self._send(data, address),
            names=self,
            lost=lambda data, hop: self.lost.append((data, hop)),
            unresolved=lambda data, hop: self.unresolved.append((data, hop)),
        )

    def _send(self, data: bytes, address: Address) -> bool:
        if address in self.refused:
            return False
        self.sent.append((data, address))
        return True

    def known(self, hop: Hop) -> Sequence[Address] | None:
        return self.cache.get(hop)

    def start(self, hop: Hop, resolved: Resolved) -> None:
        self.asked.append((hop, resolved))


@pytest.fixture
def net() -> Net:
    return Net()


@pytest.fixture
def known(net: Net) -> Net:
    net.cache = {NAME: [ONE, TWO], TCP_NAME: [ONE, TWO]}
    return net


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_numeric_hop(net: Net, transport: str) -> None:
    hop = Hop(*ONE, transport)  # type: ignore[arg-type]
    assert net.delivery.send(request(), hop)
    assert net.sent == [(request(), ONE)]
    net.delivery.undeliverable(request(), ONE, hop if transport == "tcp" else None)
    assert net.lost == [(request(), hop)]
    net.refused.add(ONE)
    assert not net.delivery.send(request(), hop)
    assert net.asked == []


def test_a_name_that_is_known_is_sent_to_at_once(known: Net) -> None:
    assert known.delivery.send(request(), NAME)
    assert known.sent == [(request(), ONE)]


def test_what_waits_for_a_name_is_sent_in_order(net: Net) -> None:
    for method in ("INVITE", "CANCEL"):
        assert net.delivery.send(request(method), NAME)
    ((hop, resolved),) = net.asked  # one look-up for one branch
    assert (hop, net.sent) == (NAME, [])
    resolved([TWO], "")
    assert net.sent == [(request("INVITE"), TWO), (request("CANCEL"), TWO)]


def test_a_name_that_does_not_resolve(net: Net) -> None:
    net.delivery.send(request(), NAME)
    net.asked[0][1]([], "no such name")
    assert (net.lost, net.unresolved) == ([], [(request(), NAME)])
    # And one that is known to: the caller is told likewise, and never from within.
    net.cache[NAME] = []
    assert net.delivery.send(request(branch="two"), NAME)
    assert len(net.unresolved) == 1
    net.asked[1][1]([], "no such name")
    assert len(net.unresolved) == 2


def test_what_waits_is_limited(net: Net) -> None:
    for number in range(100):
        assert net.delivery.send(request(f"M{number}"), NAME)
    net.asked[0][1]([ONE], "")
    assert len(net.sent) == 16


def test_copies_that_wait_are_one(net: Net) -> None:
    """A name server may take longer than T1."""
    for _ in range(3):
        net.delivery.send(request(), NAME)
    net.asked[0][1]([ONE], "")
    assert net.sent == [(request(), ONE)]


def test_all_of_a_branch_goes_to_one_address(known: Net) -> None:
    """RFC 3263 4.3, whatever the name resolves to meanwhile."""
    known.delivery.send(request("INVITE"), NAME)
    known.cache[NAME] = [TWO]
    known.delivery.send(request("CANCEL"), NAME)
    known.delivery.send(request("ACK"), NAME)
    known.delivery.send(request("BYE", "two"), NAME)
    assert [address for _, address in known.sent] == [ONE, ONE, ONE, TWO]


@pytest.mark.parametrize(("name", "hop"), [(NAME, None), (TCP_NAME, TCP_NAME)])
def test_the_next_address_when_nobody_is_there(known: Net, name: Hop, hop: Hop | None) -> None:
    """By an ICMP error, which knows the address alone, or by a connection that failed."""
    known.delivery.send(request(), name)
    quoted = request() if hop else request()[:-3]
    known.delivery.undeliverable(quoted, ONE, hop)
    assert known.sent == [(request(), ONE), (request(), TWO)]
    known.delivery.undeliverable(request(), ONE, hop)  # another copy's error
    assert len(known.sent) == 2
    known.delivery.send(request("ACK"), name)
    assert known.sent[-1] == (request("ACK"), TWO)
    assert known.lost == []
    known.delivery.undeliverable(request(), TWO, hop)
    assert known.lost == [(request(), name)]


def test_the_next_address_when_the_first_is_refused_at_once(known: Net) -> None:
    known.refused.add(ONE)
    assert known.delivery.send(request(), NAME)
    assert known.sent == [(request(), TWO)]
    known.refused.add(TWO)
    assert not known.delivery.send(request("OPTIONS", "two"), NAME)
    assert known.lost == []  # the caller knows already


def test_the_same_after_a_look_up(net: Net) -> None:
    net.refused |= {ONE, TWO}
    net.delivery.send(request(), NAME)
    net.asked[0][1]([ONE, TWO], "")
    assert net.lost == [(request(), NAME)]


def test_an_address_that_has_answered_is_kept(known: Net) -> None:
    """An old ICMP error must not take a call's CANCEL somewhere else."""
    known.delivery.send(request(), NAME)
    known.delivery.received(response("other"))
    known.delivery.received(b"SIP/2.0 200 OK\r\n\r\n")
    known.delivery.received(response())
    known.delivery.undeliverable(request()[:60], ONE)
    known.delivery.send(request("CANCEL"), NAME)
    assert [address for _, address in known.sent] == [ONE, ONE]
    assert known.lost == [(request()[:60], NAME)]


def test_an_error_about_nothing_we_know_is_passed_on(known: Net) -> None:
    known.delivery.send(request(), NAME)
    known.delivery.undeliverable(b"INVITE sip:", ONE)
    assert known.lost == [(b"INVITE sip:", Hop(*ONE))]


def test_memory_is_bounded(known: Net) -> None:
    for number in range(1000):
        known.delivery.send(request("OPTIONS", str(number)), NAME)
    assert len(known.delivery._ways) == 256
