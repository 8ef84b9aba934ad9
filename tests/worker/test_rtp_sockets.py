"""The RTP sockets within an epoll."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from sipherd.worker.rtp_ports import ANY_PORT, RtpLease, RtpPorts
from sipherd.worker.rtp_sockets import RtpSockets


@pytest.fixture
def counts() -> Counter[str]:
    return Counter()


@pytest.fixture
def epoll() -> Iterator[select.epoll]:
    with select.epoll() as epoll:
        yield epoll


@pytest.fixture
def lease() -> Iterator[RtpLease]:
    ports = RtpPorts("127.0.0.1", ANY_PORT, 4, skipped=lambda port, why: None)
    lease = ports.lease()
    yield lease
    lease.close()


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


def test_datagrams_and_whose_they_are(
    epoll: select.epoll, counts: Counter[str], lease: RtpLease, peer: socket.socket
) -> None:
    rtp = RtpSockets(epoll, counts)
    rtp.open("c1", lease)
    for data, port in ((b"audio", lease.port), (b"report", lease.port + 1)):
        peer.sendto(data, ("127.0.0.1", port))
        ((fd, _),) = epoll.poll(5)
        assert fd in rtp
        (found,) = rtp.receive(fd)
        assert found == ("c1", port == lease.port, data, peer.getsockname())
    rtp.send_rtp("c1", b"1", peer.getsockname())
    assert peer.recvfrom(10) == (b"1", ("127.0.0.1", lease.port))
    rtp.send_rtcp("c1", b"2", peer.getsockname())
    assert peer.recvfrom(10) == (b"2", ("127.0.0.1", lease.port + 1))
    assert counts == {}


def test_a_second_of_audio_waits_without_loss(
    epoll: select.epoll, counts: Counter[str], lease: RtpLease, peer: socket.socket
) -> None:
    """Where nobody reads the buffer is small, and holds a few packets."""
    rtp = RtpSockets(epoll, counts)
    rtp.open("c1", lease)
    for _ in range(50):
        peer.sendto(bytes(172), ("127.0.0.1", lease.port))
    taken = 0
    while events := epoll.poll(0):
        taken += sum(1 for fd, _ in events for _ in rtp.receive(fd))
    assert taken == 50


def test_closed(
    epoll: select.epoll, counts: Counter[str], lease: RtpLease, peer: socket.socket
) -> None:
    rtp = RtpSockets(epoll, counts)
    rtp.open("c1", lease)
    fd = lease.sockets[0].fileno()
    peer.sendto(b"audio", ("127.0.0.1", lease.port))
    rtp.close("c1")
    rtp.close("c1")
    assert fd not in rtp
    assert list(rtp.receive(fd)) == []  # found readable in the same turn
    assert epoll.poll(0) == []
    rtp.send_rtp("c1", b"1", peer.getsockname())
    assert counts == {"rtp_send_failed": 1}


@pytest.mark.parametrize(
    "destination", [("127.0.0.1", 0), ("127.0.0.1", 65536), ("255.255.255.255", 9), ("::1", 9)]
)
def test_where_nothing_can_be_sent_to(
    epoll: select.epoll, counts: Counter[str], lease: RtpLease, destination: tuple[str, int]
) -> None:
    rtp = RtpSockets(epoll, counts)
    rtp.open("c1", lease)
    rtp.send_rtp("c1", b"1", destination)
    assert counts == {"rtp_send_failed": 1}


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOBUFS])
def test_a_full_send_buffer_is_counted(
    epoll: select.epoll, counts: Counter[str], lease: RtpLease, number: int
) -> None:
    class Full:
        def __init__(self, real: socket.socket) -> None:
            self.real = real

        def sendto(self, *arguments: object) -> None:
            raise OSError(number, os.strerror(number))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    rtp = RtpSockets(epoll, counts)
    real = lease.sockets
    lease.sockets = tuple(Full(sock) for sock in real)  # type: ignore[assignment]
    rtp.open("c1", lease)
    rtp.send_rtp("c1", b"1", ("127.0.0.1", 9))
    assert counts == {"rtp_send_blocked": 1}
    lease.sockets = real


def test_what_the_kernel_had_no_room_for_is_counted(
    epoll: select.epoll, counts: Counter[str], lease: RtpLease, peer: socket.socket
) -> None:
    for _ in range(50):  # before the call has media nobody reads: no loss of ours
        peer.sendto(b"x" * 1000, ("127.0.0.1", lease.port))
    rtp = RtpSockets(epoll, counts)
    rtp.open("c1", lease)
    rtp.close("c1")
    assert not counts
    rtp.open("c1", lease)
    for _ in range(500):
        peer.sendto(b"x" * 1000, ("127.0.0.1", lease.port))
    rtp.close("c1")
    rtp.close("c1")
    assert 300 < counts["rtp_datagrams_lost"] <= 500
