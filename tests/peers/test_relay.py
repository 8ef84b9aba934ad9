"""The relay loses what it should, and the same again with the same seed."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from peers.relay import Datagram, Relay
from peers.sipp import loopback_address, wait_for

PORT = 5060


def party() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((loopback_address(), PORT))
    sock.settimeout(10)
    return sock


@pytest.fixture
def parties() -> Iterator[tuple[socket.socket, socket.socket]]:
    with party() as left, party() as right:
        yield left, right


def addresses(parties: tuple[socket.socket, socket.socket]) -> tuple[str, str]:
    left, right = parties
    return left.getsockname()[0], right.getsockname()[0]


def sip(call: int, number: int) -> bytes:
    return f"OPTIONS sip:x SIP/2.0\r\nCall-ID: {call}\r\nCSeq: {number:02}\r\n\r\n".encode()


def test_there_and_back(parties: tuple[socket.socket, socket.socket]) -> None:
    left, right = parties
    with Relay(*addresses(parties), [PORT]) as relay:
        left.sendto(b"there", (relay.right, PORT))
        data, source = right.recvfrom(100)
        assert (data, source) == (b"there", (relay.left, PORT))
        right.sendto(b"back", source)
        assert left.recvfrom(100) == (b"back", (relay.right, PORT))
        assert (relay.passed, relay.lost) == ({"left": 1, "right": 1}, {})


def received(parties: tuple[socket.socket, socket.socket], *, seed: int, mixed: bool) -> set[bytes]:
    left, right = parties
    sent = [sip(call, number) for call in range(2) for number in range(50)]
    if mixed:
        # Call 0 is still the first, and each call's own messages are in order.
        sent.sort(key=lambda data: data.partition(b"CSeq")[2])
    with Relay(*addresses(parties), [PORT], loss=0.2, seed=seed) as relay:
        for data in sent:
            left.sendto(data, (relay.right, PORT))
        wait_for(lambda: relay.passed.total() + relay.lost.total() == len(sent), "all of them")
        got = {right.recv(1000) for _ in range(relay.passed["right"])}
        assert len(sent) - len(got) == relay.lost["right"]
        return got


def test_the_same_seed_loses_the_same(parties: tuple[socket.socket, socket.socket]) -> None:
    got = received(parties, seed=7, mixed=False)
    assert 60 <= len(got) <= 95
    assert received(parties, seed=7, mixed=True) == got
    assert received(parties, seed=8, mixed=False) != got


def test_what_is_picked_is_lost(parties: tuple[socket.socket, socket.socket]) -> None:
    left, right = parties

    def drop(datagram: Datagram) -> bool:
        return datagram.to == "right" and b"BYE" in datagram.data

    with Relay(*addresses(parties), [PORT], drop=drop) as relay:
        left.sendto(b"BYE 1", (relay.right, PORT))
        left.sendto(b"ACK 1", (relay.right, PORT))
        assert right.recv(100) == b"ACK 1"
        right.sendto(b"BYE 2", (relay.left, PORT))
        assert left.recv(100) == b"BYE 2"
        assert relay.lost == {"right": 1}


def test_delay(parties: tuple[socket.socket, socket.socket]) -> None:
    """Those that wait longer come later, whatever the order they were sent in."""
    left, right = parties
    with Relay(*addresses(parties), [PORT], delay=(0.0, 0.3), seed=3) as relay:
        sent = [bytes([number]) for number in range(20)]
        for data in sent:
            left.sendto(data, (relay.right, PORT))
        got = [right.recv(100) for _ in sent]
    assert got != sent
    assert sorted(got) == sent


def test_rtp_ports(parties: tuple[socket.socket, socket.socket]) -> None:
    """Ports that are opened later; a source port of its own stands for itself."""
    left, right = parties
    with (
        Relay(*addresses(parties), [PORT]) as relay,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as media,
    ):
        media.bind((right.getsockname()[0], 20000))
        media.settimeout(10)
        relay.open(20000)
        left.sendto(b"rtp", (relay.right, 20000))
        assert media.recvfrom(100) == (b"rtp", (relay.left, PORT))


def test_what_goes_wrong_is_told(parties: tuple[socket.socket, socket.socket]) -> None:
    def drop(datagram: Datagram) -> bool:
        raise LookupError(datagram.data)

    left, _ = parties
    relay = Relay(*addresses(parties), [PORT], drop=drop)
    left.sendto(b"x", (relay.right, PORT))
    relay._thread.join(10)
    with pytest.raises(LookupError):
        relay.close()
