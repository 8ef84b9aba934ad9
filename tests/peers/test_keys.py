"""Keys as RTP events (RFC 4733) between phones in ten calls at once: each string arrives exactly.

With a link in between that loses packets, where it says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import pytest

from peers.herd import HerdProcess
from peers.relay import Datagram, Relay
from peers.sipp import loopback_address
from sipherd import Call, Herd, IncomingCall

StartHerd = Callable[..., HerdProcess]

PORT = 5060
CALLS = 10
"""At the same time."""
SOON = 30.0
KEYS = "1122334455*#AABD"
"""Sixteen."""


class Line(NamedTuple):
    """Two phones, and what lies between them."""

    client: Herd
    bob: str
    """Where alice reaches bob."""
    relay: Relay | None

    def connect(self) -> tuple[Call, IncomingCall]:
        call = self.client["alice"].call(self.bob)
        incoming = self.client["bob"].incoming(timeout=SOON)
        incoming.answer()
        call.wait_answered(timeout=SOON)
        return call, incoming


@contextmanager
def line(start_herd: StartHerd, *, relayed: bool = False, **link: Any) -> Iterator[Line]:
    with ExitStack() as stack:
        relay = None
        alice: dict[str, Any] = {"name": "alice", "address": loopback_address()}
        bob: dict[str, Any] = {"name": "bob", "address": loopback_address()}
        if relayed:
            relay = Relay(alice["address"], bob["address"], [PORT], **link)
            stack.enter_context(relay)
            alice["advertise"], bob["advertise"] = relay.left, relay.right
        shared = {"port": PORT, "max_calls": CALLS}
        herd = start_herd([alice | shared, bob | shared])
        client = stack.enter_context(Herd.connect(herd.name))
        if relay is not None:
            for info in (client["alice"].info(), client["bob"].info()):
                relay.open(*range(info.rtp_first, info.rtp_first + 2 * info.rtp_pairs))
        host = bob["address"] if relay is None else relay.right
        yield Line(client, f"sip:bob@{host}:{PORT}", relay)


def press(up: Line, rounds: int) -> Counter[str]:
    """Each call gets the keys so many times; what arrived, and how often."""
    with ThreadPoolExecutor(2 * CALLS) as pool:
        calls = [up.connect() for _ in range(CALLS)]

        def send(call: Call) -> None:
            for _ in range(rounds):
                call.send_dtmf(KEYS, timeout=SOON)

        def hear(incoming: IncomingCall) -> list[str]:
            return [incoming.wait_dtmf(len(KEYS), timeout=SOON) for _ in range(rounds)]

        sent = [pool.submit(send, call) for call, _ in calls]
        heard = [pool.submit(hear, incoming) for _, incoming in calls]
        for sending in sent:
            sending.result()
        arrived = Counter(keys for hearing in heard for keys in hearing.result())
        for call, incoming in calls:
            call.hang_up(timeout=SOON)
            # Not a key more.
            assert incoming.wait_ended(timeout=SOON).digits == KEYS * rounds
    return arrived


HOW_OFTEN = pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=pytest.mark.soak)])


@pytest.mark.slow
@HOW_OFTEN
def test_each_key(start_herd: StartHerd, rounds: int) -> None:
    with line(start_herd) as up:
        assert press(up, rounds) == {KEYS: CALLS * rounds}


@pytest.mark.slow
@HOW_OFTEN
def test_each_key_at_five_percent_loss(start_herd: StartHerd, rounds: int) -> None:
    with line(start_herd, relayed=True, loss=0.05, seed=4733) as up:
        assert press(up, rounds) == {KEYS: CALLS * rounds}
        assert up.relay is not None
        lost, passed = up.relay.lost["right"], up.relay.passed["right"]
        assert 0.03 < lost / (lost + passed) < 0.07


def is_end(datagram: Datagram) -> bool:
    """Of an event: a short packet of a dynamic payload type, the E bit behind its number."""
    data = datagram.data
    is_event = len(data) == 16 and data[0] >> 6 == 2 and 96 <= data[1] & 0x7F <= 127
    return is_event and bool(data[13] & 0x80)


@pytest.mark.slow
@HOW_OFTEN
def test_each_key_whose_ends_are_all_lost(start_herd: StartHerd, rounds: int) -> None:
    ends: list[Datagram] = []

    def drop(datagram: Datagram) -> bool:
        if is_end(datagram):
            ends.append(datagram)
            return True
        return False

    with line(start_herd, relayed=True, drop=drop) as up:
        assert press(up, rounds) == {KEYS: CALLS * rounds}
    # Three for each key.
    assert len(ends) == 3 * len(KEYS) * CALLS * rounds
