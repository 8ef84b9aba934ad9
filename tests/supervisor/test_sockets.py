"""The SIP socket as the kernel sees it."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from sipherd.supervisor.sockets import RECEIVE_BUFFER, bind

SO_TIMESTAMPNS, SO_RXQ_OVFL = 35, 40


@pytest.fixture
def bound() -> Iterator[tuple[str, int, socket.socket]]:
    host, port, fd = bind("127.0.0.1", 0)
    with socket.socket(fileno=fd) as udp:
        yield host, port, udp


def test_tells_where_it_is_bound(bound: tuple[str, int, socket.socket]) -> None:
    host, port, udp = bound
    assert udp.getsockname() == (host, port)
    assert host == "127.0.0.1"
    assert udp.type == socket.SOCK_DGRAM


def test_a_name_becomes_numeric() -> None:
    host, _, fd = bind("localhost", 0)
    os.close(fd)
    assert host == "127.0.0.1"


def test_options(bound: tuple[str, int, socket.socket]) -> None:
    _, _, udp = bound
    assert udp.getsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS)
    assert udp.getsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL)
    assert not udp.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    assert not udp.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
    with open("/proc/sys/net/core/rmem_max") as file:  # noqa: PTH123
        allowed = min(RECEIVE_BUFFER, int(file.read()))
    # The kernel doubles it for its own book-keeping.
    assert udp.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= 2 * allowed


def test_neither_blocks_nor_is_inherited(bound: tuple[str, int, socket.socket]) -> None:
    _, _, udp = bound
    assert not os.get_blocking(udp.fileno())
    assert not os.get_inheritable(udp.fileno())


def test_a_port_in_use_is_refused_whatever_the_other_side_sets() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="in use") as caught:
            bind("127.0.0.1", other.getsockname()[1])
    assert caught.value.errno == errno.EADDRINUSE


def test_a_newcomer_with_reuse_does_not_get_the_port(
    bound: tuple[str, int, socket.socket],
) -> None:
    _, port, _ = bound
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as newcomer:
        newcomer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        newcomer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="in use"):
            newcomer.bind(("127.0.0.1", port))


def test_an_address_of_another_machine() -> None:
    with pytest.raises(OSError, match="assign") as caught:
        bind("192.0.2.1", 0)
    assert caught.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize("name", ["999.1.1.1", "a" * 64])
def test_a_name_that_does_not_resolve_has_a_negative_errno(name: str) -> None:
    with pytest.raises(socket.gaierror) as caught:
        bind(name, 0)
    assert caught.value.errno is not None
    assert caught.value.errno < 0
