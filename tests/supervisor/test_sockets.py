"""The SIP socket as the kernel sees it."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator

import pytest

from sipherd.supervisor.sockets import RECEIVE_BUFFER, bind, close, drop_stale

SO_TIMESTAMPNS, SO_RXQ_OVFL = 35, 40


@pytest.fixture
def bound() -> Iterator[tuple[str, int, socket.socket]]:
    host, port, sockets = bind("127.0.0.1", 0)
    with socket.socket(fileno=sockets.udp) as udp, socket.socket(fileno=sockets.tcp):
        yield host, port, udp


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    _, _, sockets = bind("127.0.0.1", 0)
    with socket.socket(fileno=sockets.udp), socket.socket(fileno=sockets.tcp) as tcp:
        yield tcp


def test_tells_where_it_is_bound(bound: tuple[str, int, socket.socket]) -> None:
    host, port, udp = bound
    assert udp.getsockname() == (host, port)
    assert host == "127.0.0.1"
    assert udp.type == socket.SOCK_DGRAM


def test_a_name_becomes_numeric() -> None:
    host, _, sockets = bind("localhost", 0)
    close(sockets)
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


# The TCP listener on the same number


def test_both_are_on_one_number() -> None:
    host, port, sockets = bind("127.0.0.1", 0)
    with socket.socket(fileno=sockets.udp) as udp, socket.socket(fileno=sockets.tcp) as tcp:
        assert udp.getsockname() == tcp.getsockname() == (host, port)


def test_the_listener(listener: socket.socket) -> None:
    """A connection waits in the kernel until a process of the phone accepts it."""
    assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    assert not os.get_blocking(listener.fileno())
    assert not os.get_inheritable(listener.fileno())
    with socket.create_connection(listener.getsockname(), 5) as peer:
        accepted, address = listener.accept()
        accepted.close()
        assert address == peer.getsockname()


def test_a_port_that_somebody_listens_on_is_in_use_whatever_they_set() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
        with pytest.raises(OSError, match="in use") as caught:
            bind("127.0.0.1", port)
        assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert caught.value.errno == errno.EADDRINUSE


def test_a_port_with_connections_in_time_wait_is_free(listener: socket.socket) -> None:
    """As a stopped phone leaves it: who closes a connection first keeps it for a minute."""
    address = listener.getsockname()
    with socket.create_connection(address, 5):
        accepted, _ = listener.accept()
        accepted.close()
    listener.close()
    # The fixture still has the UDP half of the number.
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(address)


# IPv6


def test_ipv6(ipv6: None) -> None:
    host, port, sockets = bind("::1", 0)
    with (
        socket.socket(fileno=sockets.udp) as udp,
        socket.socket(fileno=sockets.tcp) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ipv4,
    ):
        assert host == "::1"
        for sock in (udp, tcp):
            assert sock.getsockname()[:2] == ("::1", port)
            assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        ipv4.bind(("127.0.0.1", port))


def test_any_ipv6_address_leaves_the_ipv4_port_free(ipv6: None) -> None:
    host, port, sockets = bind("::", 0)
    try:
        assert host == "::"
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            with socket.socket(socket.AF_INET, kind) as ipv4:
                ipv4.bind(("0.0.0.0", port))
    finally:
        close(sockets)


# What waits in the socket of a phone without a process


def test_what_is_too_old_is_dropped_and_the_rest_stays(
    bound: tuple[str, int, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, port, udp = bound
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for text in (b"one", b"two", b""):
            sender.sendto(text, (host, port))
        now = time.time()
        assert drop_stale(udp.fileno(), 32.0) == 0
        monkeypatch.setattr(time, "time", lambda: now + 40.0)
        sender.sendto(b"three", (host, port))
        assert drop_stale(udp.fileno(), 39.0) == 4
        assert drop_stale(udp.fileno(), 39.0) == 0
        monkeypatch.undo()
        sender.sendto(b"four", (host, port))
        assert drop_stale(udp.fileno(), 32.0) == 0
    assert udp.recv(100) == b"four"


def test_an_icmp_error_keeps_nobody_from_dropping(
    bound: tuple[str, int, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a phone's process had sent reached nobody: the socket says so before it gives data."""
    host, port, udp = bound
    udp.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR, as the worker sets it
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind((host, 0))
        nobody = gone.getsockname()
    udp.sendto(b"x", nobody)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"one", (host, port))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 40.0)
    assert drop_stale(udp.fileno(), 32.0) == 1
