"""The lease of RTP ports, on real sockets."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from sipherd.protocol.messages import ANY_PORT
from sipherd.worker.rtp_ports import NoRtpPort, RtpLease, RtpPorts


@pytest.fixture
def skips() -> list[tuple[int, str]]:
    return []


@pytest.fixture
def address() -> str:
    """One of the loopback network that no other process's tests bind."""
    high, low = divmod(os.getpid() % 60000, 250)
    return f"127.31.{high}.{low + 1}"


@pytest.fixture
def ports(address: str, skips: list[tuple[int, str]]) -> Iterator[RtpPorts]:
    """Three pairs."""
    ports = RtpPorts(address, 20000, 3, skipped=lambda port, why: skips.append((port, why)))
    yield ports
    ports.close()


def held(address: str, port: int) -> socket.socket:
    """A stranger on this port."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.bind((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def test_a_pair_is_bound_and_given_back(ports: RtpPorts, address: str) -> None:
    lease = ports.lease()
    assert lease.port == 20000
    assert [s.getsockname() for s in lease.sockets] == [(address, 20000), (address, 20001)]
    for number in (20000, 20001):
        with pytest.raises(OSError, match="in use"):
            held(address, number)
    lease.close()
    lease.close()
    for number in (20000, 20001):
        held(address, number).close()
    assert ports.in_use == 0


def test_a_port_that_rests_is_the_last_to_be_taken(address: str) -> None:
    """Who was in a call that crashed may still be sending there."""
    now = 100.0
    ports = RtpPorts(
        address,
        20000,
        3,
        skipped=lambda port, why: None,
        resting={20000: 30.0, 20002: 20.0},
        clock=lambda: now,
    )
    leases = [ports.lease() for _ in range(3)]
    assert [lease.port for lease in leases] == [20004, 20002, 20000]
    for lease in leases:
        lease.close()
    now += 25.0
    first = ports.lease()
    assert first.port == 20002
    first.close()


def test_pairs_rotate(ports: RtpPorts) -> None:
    seen = []
    for _ in range(7):
        lease = ports.lease()
        seen.append(lease.port)
        lease.close()
    assert seen == [20000, 20002, 20004, 20000, 20002, 20004, 20000]


def test_a_pair_in_use_is_passed_over(ports: RtpPorts, skips: list[tuple[int, str]]) -> None:
    first = ports.lease()
    ports.lease().close()
    ports.lease().close()
    second = ports.lease()
    assert (first.port, second.port, skips) == (20000, 20002, [])
    first.close()
    second.close()


def test_exhausted(ports: RtpPorts, address: str) -> None:
    leases = [ports.lease() for _ in range(3)]
    with pytest.raises(NoRtpPort, match=f"20000-20005 on {address}: 3 in use by calls"):
        ports.lease()
    leases[1].close()
    again = ports.lease()
    assert again.port == 20002
    for lease in (leases[0], leases[2], again):
        lease.close()


@pytest.mark.parametrize("number", [20000, 20001])
def test_a_strangers_pair_is_skipped_and_told_once(
    ports: RtpPorts, address: str, skips: list[tuple[int, str]], number: int
) -> None:
    """Whether it is RTP or RTCP that is taken, neither stays bound."""
    with held(address, number):
        for _ in range(4):
            ports.lease().close()
        assert skips == [(20000, "in use")]
        held(address, 20001 if number == 20000 else 20000).close()
    lease = ports.lease()
    assert lease.port == 20000
    lease.close()
    with held(address, number):
        for _ in range(3):
            ports.lease().close()
    assert skips == [(20000, "in use")] * 2


def test_strangers_everywhere(address: str, ports: RtpPorts, skips: list[tuple[int, str]]) -> None:
    strangers = [held(address, 20000 + 2 * number) for number in range(3)]
    with pytest.raises(NoRtpPort, match=r"0 in use by calls, 3 refused \(in use\)"):
        ports.lease()
    assert [port for port, _ in skips] == [20000, 20002, 20004]
    for stranger in strangers:
        stranger.close()


def test_no_pairs_at_all() -> None:
    with pytest.raises(NoRtpPort):
        RtpPorts("127.0.0.1", 20000, 0, skipped=lambda port, why: None).lease()


def test_no_media_has_one_pair_for_all_calls(address: str) -> None:
    """Bound at the first call and not before, and never one for each call."""
    ports = RtpPorts(address, 20000, 1, skipped=lambda port, why: None, shared=True)
    held(address, 20000).close()
    leases: list[RtpLease] = [ports.lease() for _ in range(100)]
    assert {lease.port for lease in leases} == {20000}
    assert len({sock.fileno() for lease in leases for sock in lease.sockets}) == 2
    for lease in leases:
        lease.close()
    with pytest.raises(OSError, match="in use"):
        held(address, 20000)
    assert ports.in_use == 0
    ports.close()
    held(address, 20000).close()


def test_the_kernel_chooses_where_the_phone_has_no_block(address: str) -> None:
    ports = RtpPorts(address, ANY_PORT, 100, skipped=lambda port, why: None)
    leases = [ports.lease() for _ in range(100)]
    for lease in leases:
        assert lease.port % 2 == 0
        names = [sock.getsockname() for sock in lease.sockets]
        assert names == [(address, lease.port), (address, lease.port + 1)]
    with pytest.raises(NoRtpPort, match="100 of 100 in use by calls"):
        ports.lease()
    for lease in leases:
        lease.close()
    ports.lease().close()
    assert ports.in_use == 0


def test_the_kernel_chooses_the_one_pair_of_no_media(address: str) -> None:
    ports = RtpPorts(address, ANY_PORT, 1, skipped=lambda port, why: None, shared=True)
    assert ports.lease().port == ports.lease().port
    ports.close()


def test_an_address_that_is_not_ours_is_no_port_either() -> None:
    with pytest.raises(NoRtpPort, match="Cannot assign requested address"):
        RtpPorts("192.0.2.1", ANY_PORT, 1, skipped=lambda port, why: None).lease()


def test_what_nobody_reads_costs_no_memory(ports: RtpPorts) -> None:
    lease = ports.lease()
    assert lease.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) <= 16384
    lease.close()


def test_any_port_is_an_even_pair_of_the_kernel_s(address: str) -> None:
    ports = RtpPorts(address, ANY_PORT, 2, skipped=lambda port, why: None)
    one, two = ports.lease(), ports.lease()
    assert not one.port % 2
    assert not two.port % 2
    assert one.port != two.port
    assert [s.getsockname()[1] for s in one.sockets] == [one.port, one.port + 1]
    with pytest.raises(NoRtpPort, match="2 of 2 in use"):
        ports.lease()
    one.close()
    ports.lease().close()
    two.close()


@pytest.mark.parametrize("first", [20000, ANY_PORT])
def test_no_descriptor_left(address: str, first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No port is to blame: none is skipped, and it is told at once."""
    told: list[str] = []
    ports = RtpPorts(
        address,
        first,
        3,
        skipped=lambda port, why: told.append(why),
        exhausted=lambda: told.append("exhausted"),
    )

    def refuse(*given: object) -> socket.socket:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", refuse)
        with pytest.raises(NoRtpPort, match=r"no descriptor left .* raise limits\.descriptors"):
            ports.lease()
    assert told == ["exhausted"]
    ports.lease().close()
