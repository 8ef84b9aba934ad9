"""baresip on the other side: an ordinary user agent, and a second witness to a right ACK."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from peers.baresip import Baresip
from peers.herd import HerdProcess
from sipherd import Herd

StartHerd = Callable[..., HerdProcess]


@pytest.mark.slow
def test_a_call_is_still_up_after_40_seconds(start_herd: StartHerd, bob: Baresip) -> None:
    """Without a right ACK baresip would repeat its 200 for 64*T1 = 32 s and end the call."""
    herd = start_herd([{"name": "alice"}])
    with Herd.connect(herd.name) as client:
        call = client["alice"].call(bob.uri)
        call.wait_answered(timeout=5)
        bob.wait_event("CALL_ESTABLISHED")
        time.sleep(40)
        assert bob.calls_up() == 1
        assert not herd.events(kind="ended")
        call.hang_up()
        bob.wait_event("CALL_CLOSED")
    ended = herd.wait_event(phone="alice", kind="ended")
    assert (ended["cause"], ended["bye_answered"]) == ("hung_up", True)


def test_baresip_hangs_up(start_herd: StartHerd, bob: Baresip) -> None:
    herd = start_herd([{"name": "alice"}])
    with Herd.connect(herd.name) as client:
        call = client["alice"].call(bob.uri)
        call.wait_answered(timeout=5)
        bob.wait_event("CALL_ESTABLISHED")
        bob.hang_up()
        ended = call.wait_ended(timeout=5)
        assert (ended.cause, ended.by) == ("hung_up", "remote")


def test_baresip_calls_a_phone(start_herd: StartHerd, bob: Baresip) -> None:
    herd = start_herd([{"name": "alice", "number": "1001"}])
    alice = herd.phone("alice")
    with Herd.connect(herd.name) as client:
        bob.dial(f"sip:1001@{alice.host}:{alice.port}")
        incoming = client["alice"].incoming(timeout=5)
        bob.wait_event("CALL_RINGING")
        incoming.answer()
        bob.wait_event("CALL_ESTABLISHED")
        herd.wait_event(phone="alice", kind="confirmed")
        incoming.hang_up()
        bob.wait_event("CALL_CLOSED")
    ended = herd.wait_event(phone="alice", kind="ended")
    assert (ended["cause"], ended["by"], ended["bye_answered"]) == ("hung_up", "local", True)


def test_baresip_gives_up(start_herd: StartHerd, bob: Baresip) -> None:
    herd = start_herd([{"name": "alice"}])
    alice = herd.phone("alice")
    bob.dial(f"sip:alice@{alice.host}:{alice.port}")
    bob.wait_event("CALL_RINGING")
    bob.hang_up()
    ended = herd.wait_event(phone="alice", kind="ended")
    assert (ended["cause"], ended["by"]) == ("cancelled", "remote")
