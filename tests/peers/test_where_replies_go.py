"""Responses go where RFC 3261 18.2.2 and RFC 3581 say, whatever the Via claims."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator

import pytest

from peers.herd import HerdProcess, PhoneAt
from peers.sipp import loopback_address

StartHerd = Callable[..., HerdProcess]


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two sockets on one address: requests leave from the first, the Via may name the second."""
    address = loopback_address()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second,
    ):
        for sock in (first, second):
            sock.bind((address, 0))
            sock.settimeout(10)
        yield first, second


@pytest.fixture
def bob(start_herd: StartHerd) -> PhoneAt:
    return start_herd([{"name": "bob"}]).phone("bob")


def options(via: str) -> bytes:
    lines = [
        "OPTIONS sip:bob@127.0.0.1 SIP/2.0",
        f"Via: {via}",
        "Max-Forwards: 70",
        "From: <sip:someone@127.0.0.1>;tag=1",
        "To: <sip:bob@127.0.0.1>",
        "Call-ID: where",
        "CSeq: 1 OPTIONS",
        "Content-Length: 0",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def via_of(response: bytes) -> str:
    found = re.search(r"^Via: *(.*?)\r$", response.decode(), re.MULTILINE)
    assert found is not None
    return found[1]


def test_to_the_port_of_the_via(bob: PhoneAt, sockets: tuple[socket.socket, socket.socket]) -> None:
    first, second = sockets
    host, port = second.getsockname()
    first.sendto(options(f"SIP/2.0/UDP {host}:{port};branch=z9hG4bK1"), bob.target)
    via = via_of(second.recv(65535))
    assert "received" not in via


def test_to_the_source_port_with_rport(
    bob: PhoneAt, sockets: tuple[socket.socket, socket.socket]
) -> None:
    first, second = sockets
    host, port = second.getsockname()
    first.sendto(options(f"SIP/2.0/UDP {host}:{port};rport;branch=z9hG4bK2"), bob.target)
    via = via_of(first.recv(65535))
    assert f"rport={first.getsockname()[1]}" in via
    assert f"received={host}" in via  # RFC 3581, 4: with rport always


def test_to_the_source_address_with_received(
    bob: PhoneAt, sockets: tuple[socket.socket, socket.socket]
) -> None:
    """A sent-by that is not the source address, here a name that need not resolve."""
    first, second = sockets
    host, port = second.getsockname()
    first.sendto(options(f"SIP/2.0/UDP somewhere.invalid:{port};branch=z9hG4bK3"), bob.target)
    via = via_of(second.recv(65535))
    assert f"received={host}" in via


def test_to_the_top_via_of_several(
    bob: PhoneAt, sockets: tuple[socket.socket, socket.socket]
) -> None:
    """Both Vias come back in order, in one header or two."""
    first, _ = sockets
    host, port = first.getsockname()
    top = f"SIP/2.0/UDP {host}:{port};branch=z9hG4bK4"
    below = "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK5"
    first.sendto(options(f"{top}, {below}"), bob.target)
    response = first.recv(65535).decode()
    assert response.index("z9hG4bK4") < response.index("z9hG4bK5")
