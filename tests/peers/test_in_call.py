"""What is done with a call that is up, with baresip at the other end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from peers.baresip import Baresip
from peers.herd import HerdProcess
from sipherd import Call, Herd

StartBaresip = Callable[..., Baresip]
StartHerd = Callable[..., HerdProcess]


class Up(NamedTuple):
    """A call from alice that bob, a baresip, has answered."""

    herd: HerdProcess
    client: Herd
    call: Call


@pytest.fixture
def up(start_herd: StartHerd, bob: Baresip) -> Iterator[Up]:
    herd = start_herd([{"name": "alice", "trace": True}])
    with Herd.connect(herd.name) as client:
        call = client["alice"].call(bob.uri)
        call.wait_answered(timeout=10)
        bob.wait_event("CALL_ESTABLISHED")
        yield Up(herd, client, call)
        assert call.hang_up(timeout=10).bye_answered
        bob.wait_event("CALL_CLOSED")


@pytest.mark.interop("Held and retrieved by the peer", "baresip")
def test_baresip_holds_and_retrieves(up: Up, bob: Baresip) -> None:
    bob.hold()
    assert up.herd.wait_event(kind="held")["by"] == "remote"
    bob.retrieve()
    assert up.herd.wait_event(kind="retrieved")["by"] == "remote"


@pytest.mark.interop("re-INVITE by the peer", "baresip")
def test_baresip_changes_nothing(up: Up, bob: Baresip) -> None:
    """A re-INVITE with the same offer: answered, and nothing that the call's owner should know."""
    before = up.herd.events(call=up.call.id)
    alice = up.herd.phone("alice")
    bob.reinvite()
    ack = f"ACK sip:alice@{alice.host}:{alice.port} SIP/2.0"
    up.herd.wait_event(kind="sip", direction="in", first_line=ack)
    assert up.herd.events(call=up.call.id) == before


@pytest.mark.interop("Hold and retrieve", "baresip")
def test_baresip_is_held_and_retrieved(up: Up) -> None:
    up.call.hold()
    assert up.call.info.held == ("local",)
    up.call.retrieve()
    assert up.call.info.held == ()


@pytest.mark.interop("Blind transfer", "baresip")
def test_baresip_is_transferred(start_herd: StartHerd, bob: Baresip) -> None:
    herd = start_herd([{"name": "alice"}, {"name": "carol", "on_incoming": {"answer_after": 0}}])
    carol = herd.phone("carol")
    with Herd.connect(herd.name) as client:
        call = client["alice"].call(bob.uri)
        call.wait_answered(timeout=10)
        bob.wait_event("CALL_ESTABLISHED")
        call.transfer(f"sip:carol@{carol.host}:{carol.port}")
        assert call.wait_ended(timeout=10).cause == "transferred"
        assert herd.wait_event(phone="carol", kind="confirmed")
    bob.hang_up()
    herd.wait_event(phone="carol", kind="ended")


@pytest.mark.interop("Transferred by the peer", "baresip")
def test_baresip_transfers(start_herd: StartHerd, bob: Baresip) -> None:
    herd = start_herd([{"name": "alice"}, {"name": "carol", "on_incoming": {"answer_after": 0}}])
    carol = herd.phone("carol")
    with Herd.connect(herd.name) as client:
        call = client["alice"].call(bob.uri)
        call.wait_answered(timeout=10)
        bob.wait_event("CALL_ESTABLISHED")
        bob.transfer(f"sip:carol@{carol.host}:{carol.port}")
        assert herd.wait_event(phone="alice", kind="referred")["by"] == bob.uri
        assert herd.wait_event(phone="carol", kind="confirmed")
        herd.wait_event(phone="alice", kind="ended", call=call.id)
