"""Who gets which port, and what is said when there is none."""

from __future__ import annotations

import pytest

from sipherd.protocol.fork import SipSockets
from sipherd.protocol.spec import PhoneSpec, PortRange
from sipherd.supervisor.ports import PortError, PortPool, RtpPool
from supervisor_driver import Kernel, phone


def pool(kernel: Kernel, range_: str = "5060-5099", **keys: int | bool) -> PortPool:
    return PortPool(
        PortRange.parse(range_),
        retries=int(keys.get("retries", 10)),
        strict=bool(keys.get("strict", False)),
        bind=kernel.bind,
        close=kernel.close,
        holder=kernel.holder,
        placed=kernel.placed,
        clock=lambda: 0.0,
    )


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


def ports_of(pool: PortPool, *specs: PhoneSpec) -> list[int]:
    return [pool.allocate(spec)[0].port for spec in specs]


def test_lowest_free_first_in_steps_of_two(kernel: Kernel) -> None:
    ports = pool(kernel)
    assert ports_of(ports, phone("a"), phone("b"), phone("c")) == [5060, 5062, 5064]
    assert ports.allocated == 3


def test_a_freed_number_is_used_again(kernel: Kernel) -> None:
    ports = pool(kernel)
    a, _ = ports.allocate(phone("a"))
    ports.allocate(phone("b"))
    ports.close(a.sockets)
    ports.release(phone("a"), a.port, rest=False, now=0.0)
    assert ports_of(ports, phone("c")) == [5060]


def test_a_skip_is_told_once(kernel: Kernel) -> None:
    kernel.foreign[5060] = "pid 7 (sipp)"
    ports = pool(kernel)
    _, first = ports.allocate(phone("a"))
    _, second = ports.allocate(phone("b"))
    assert [(skip.port, skip.why) for skip in first] == [(5060, "in use by pid 7 (sipp)")]
    assert second == []


def test_a_port_that_was_skipped_is_taken_once_it_is_free(kernel: Kernel) -> None:
    kernel.foreign[5060] = ""
    ports = pool(kernel)
    ports.allocate(phone("a"))
    del kernel.foreign[5060]
    assert ports_of(ports, phone("b")) == [5060]


def test_ten_in_a_row_are_skipped_and_eleven_refused(kernel: Kernel) -> None:
    kernel.foreign = dict.fromkeys(range(5060, 5080, 2), "")
    assert ports_of(pool(kernel), phone("a")) == [5080]
    kernel.bound.clear()
    kernel.foreign[5080] = "pid 9 (thief)"
    with pytest.raises(PortError, match=r"11 ports in a row .* 5060 to 5080 .*pid 9 \(thief\)"):
        pool(kernel).allocate(phone("a"))


def test_only_ports_in_a_row_count_as_such(kernel: Kernel) -> None:
    """Every second port is somebody else's: however many phones, none is the eleventh in a row."""
    kernel.foreign = dict.fromkeys(range(5062, 5200, 4), "")
    ports = pool(kernel, "5060-5199", retries=1)
    assert ports_of(ports, *(phone(f"p{n}") for n in range(30))) == list(range(5060, 5180, 4))


def test_strict_refuses_instead_of_skipping(kernel: Kernel) -> None:
    kernel.foreign[5060] = "pid 7 (sipp)"
    with pytest.raises(PortError, match=r"5060 .*pid 7 \(sipp\).*strict_ports"):
        pool(kernel, strict=True).allocate(phone("a"))


def test_a_full_range_names_range_attempts_and_holders(kernel: Kernel) -> None:
    kernel.foreign[5062] = "pid 7 (sipp)"
    ports = pool(kernel, "5060-5064")
    ports_of(ports, phone("a"), phone("b"))
    with pytest.raises(PortError) as caught:
        ports.allocate(phone("c"))
    message = str(caught.value)
    for words in ("5060-5064", "2 taken by this herd", "5062 by pid 7 (sipp)", "widen the range"):
        assert words in message
    assert ports.failures == 1


def test_fixed_ports_to_come_are_kept_free(kernel: Kernel) -> None:
    assert pool(kernel).allocate(phone("a"), keep_free=[5060, 5062])[0].port == 5064


def test_one_number_on_two_addresses(kernel: Kernel) -> None:
    bound: list[tuple[str, int]] = []

    def bind(address: str, port: int) -> tuple[str, int, SipSockets]:
        bound.append((address, port))
        return address, port, SipSockets(100 + len(bound), 200 + len(bound))

    ports = pool(kernel)
    ports._bind = bind
    ports.allocate(phone("a", port=5060, address="127.0.0.1"))
    ports.allocate(phone("b", port=5060, address="127.0.0.2"))
    with pytest.raises(PortError, match="belongs to phone b"):
        ports.allocate(phone("c", port=5060, address="127.0.0.2"))
    assert ports_of(ports, phone("d")) == [5062]


def test_an_ephemeral_port_is_not_a_stopped_phone_s(kernel: Kernel) -> None:
    ports = pool(kernel)
    a, _ = ports.allocate(phone("a", port=0))
    ports.close(a.sockets)
    b, _ = ports.allocate(phone("b", port=0))
    assert a.port != b.port
    assert list(kernel.bound.values()) == [b.port]


def test_rtp_blocks_are_exclusive_and_even() -> None:
    rtp = RtpPool(PortRange(20000, 20011))
    assert [rtp.lease(2), rtp.lease(1)] == [20000, 20004]
    assert rtp.lease(4) is None
    rtp.release(20000)
    assert rtp.lease(1) == 20000
    assert rtp.lease(1) == 20002
    assert rtp.lease(3) == 20006
    assert not rtp.free_after(1)
