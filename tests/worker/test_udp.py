"""The phone's UDP socket: what the kernel says about datagrams, and what may be sent where."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from smallherd import nobody_at

from sipherd.supervisor.sockets import bind
from sipherd.worker.udp import Udp

SO_RXQ_OVFL = 40


@pytest.fixture
def counts() -> Counter[str]:
    return Counter()


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


@pytest.fixture
def held() -> Iterator[socket.socket]:
    """The socket as its supervisor holds it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
        sock.bind(("127.0.0.1", 0))
        yield sock


@pytest.fixture
def sip(held: socket.socket, counts: Counter[str]) -> Iterator[Udp]:
    sip = Udp(os.dup(held.fileno()), counts)
    yield sip
    sip._socket.close()


@pytest.fixture
def dead() -> Iterator[tuple[str, int]]:
    """Where nobody is."""
    with nobody_at("127.0.0.1") as port:
        yield "127.0.0.1", port


def received(sip: Udp) -> tuple[bytes, tuple[str, int]] | None:
    found = sip.receive(time.time())
    return None if found is None else found[:2]


def test_datagrams(sip: Udp, held: socket.socket, peer: socket.socket) -> None:
    assert received(sip) is None
    for data in (b"one", b"", b"three"):
        peer.sendto(data, held.getsockname())
        assert received(sip) == (data, peer.getsockname())
    assert received(sip) is None
    assert sip.send(b"back", peer.getsockname())
    assert peer.recvfrom(10) == (b"back", held.getsockname())


def test_the_largest_datagram(counts: Counter[str], peer: socket.socket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        sip = Udp(os.dup(held.fileno()), counts)
        peer.sendto(b"x" * 65507, held.getsockname())
        assert received(sip) == (b"x" * 65507, peer.getsockname())
        sip._socket.close()


def test_what_the_kernel_dropped_is_counted(
    sip: Udp, held: socket.socket, peer: socket.socket, counts: Counter[str]
) -> None:
    for number in range(50):
        peer.sendto(b"%d" % number, held.getsockname())
    taken = 0
    while received(sip):
        taken += 1
    assert taken < 50
    # The count comes with the next datagram that finds room.
    peer.sendto(b"last", held.getsockname())
    assert received(sip)
    assert counts["datagrams_lost"] == 50 - taken


def test_the_age_of_a_datagram_is_the_kernels(counts: Counter[str], peer: socket.socket) -> None:
    host, port, sockets = bind("127.0.0.1", 0)
    os.close(sockets.tcp)
    sip = Udp(sockets.udp, counts)
    before = time.time()
    peer.sendto(b"one", (host, port))
    after = time.time()
    data, source, age = sip.receive(before + 100) or (b"", ("", 0), 0.0)
    assert (data, source) == (b"one", peer.getsockname())
    assert 100 - (after - before) <= age <= 100
    peer.sendto(b"two", (host, port))
    assert sip.receive(before - 100) == (b"two", source, 0.0)  # the clock was set back
    assert sip.receive(before) is None
    sip._socket.close()


def test_a_datagram_without_a_stamp_has_just_come(
    sip: Udp, held: socket.socket, peer: socket.socket
) -> None:
    peer.sendto(b"one", held.getsockname())
    assert sip.receive(time.time() + 100) == (b"one", peer.getsockname(), 0.0)


def error_is_there(sip: Udp) -> None:
    poll = select.poll()
    poll.register(sip.fd, 0)  # POLLERR is always told
    assert poll.poll(5000)


def test_an_icmp_error_names_its_datagram(
    sip: Udp, dead: tuple[str, int], peer: socket.socket, counts: Counter[str]
) -> None:
    assert sip.send(b"INVITE sip:x", dead)
    error_is_there(sip)
    assert sip.send(b"another", peer.getsockname())  # not blamed for it
    assert peer.recv(10) == b"another"
    assert sip.unreachable() == (b"INVITE sip:x", dead)
    assert sip.unreachable() is None
    assert received(sip) is None
    poll = select.poll()
    poll.register(sip.fd, select.POLLIN)
    assert not poll.poll(0)  # nothing is left that would keep the loop awake
    assert counts == {"sip_icmp": 1}


def test_an_icmp_error_does_not_hide_a_datagram(
    sip: Udp, held: socket.socket, dead: tuple[str, int], peer: socket.socket
) -> None:
    sip.send(b"lost", dead)
    error_is_there(sip)
    peer.sendto(b"found", held.getsockname())
    assert received(sip) == (b"found", peer.getsockname())


@pytest.mark.parametrize(
    "destination",
    [
        ("name.example", 5060),  # would be looked up, and block
        ("localhost", 5060),
        ("::1", 5060),
        ("127.0.0.1", 0),
        ("127.0.0.1", 70000),
        ("255.255.255.255", 5060),  # needs SO_BROADCAST
    ],
)
def test_where_nothing_can_be_sent_to(
    sip: Udp, counts: Counter[str], destination: tuple[str, int]
) -> None:
    """A stranger's Contact may say any of these."""
    assert not sip.send(b"x", destination)
    assert counts["sip_send_failed"] == 1


def test_a_datagram_that_is_too_long(sip: Udp, peer: socket.socket) -> None:
    assert not sip.send(b"x" * 66000, peer.getsockname())


def test_a_full_send_buffer_is_a_loss_on_the_way(
    sip: Udp, monkeypatch: pytest.MonkeyPatch, counts: Counter[str]
) -> None:
    """Not the end of a call: SIP sends again."""

    class Full:
        def sendto(self, *arguments: object) -> None:
            raise BlockingIOError(11, "Resource temporarily unavailable")

    real = sip._socket
    monkeypatch.setattr(sip, "_socket", Full())
    assert sip.send(b"x", ("127.0.0.1", 5060))
    assert counts == {"sip_send_blocked": 1}
    monkeypatch.setattr(sip, "_socket", real)


@pytest.mark.parametrize(
    ("origin", "kind", "code", "counts_as"),
    [
        (2, 3, 0, True),  # network
        (2, 3, 1, True),  # host
        (2, 3, 3, True),  # port
        (2, 3, 4, False),  # fragmentation needed
        (2, 11, 0, False),  # TTL exceeded
        (2, 12, 0, True),  # parameter problem
        (1, 0, 0, False),  # our own kernel
    ],
)
def test_which_errors_mean_unreachable(origin: int, kind: int, code: int, counts_as: bool) -> None:
    from sipherd.worker.udp import _says_unreachable

    data = struct.pack("=IBBBBII", 111, origin, kind, code, 0, 0, 0) + bytes(16)
    assert _says_unreachable((socket.IPPROTO_IP, 11, data)) is counts_as
    assert not _says_unreachable((socket.SOL_SOCKET, 11, data))
    assert not _says_unreachable((socket.IPPROTO_IP, 11, data[:10]))
