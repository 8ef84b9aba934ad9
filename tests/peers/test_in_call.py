"""What is done with a call that is up, with baresip at the other end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from peers.baresip import Baresip
from peers.herd import HerdProcess
from peers.sipp import wait_for
from sipherd import Call, Herd

StartBaresip = Callable[..., Baresip]
StartHerd = Callable[..., HerdProcess]


class Up(NamedTuple):
    """A call from alice that bob, a baresip, has answered. carol, a phone, answers any call."""

    herd: HerdProcess
    client: Herd
    call: Call


@pytest.fixture
def up(start_herd: StartHerd, bob: Baresip) -> Iterator[Up]:
    carol = {"name": "carol", "on_incoming": {"answer_after": 0}}
    herd = start_herd([{"name": "alice", "trace": True}, carol])
    with Herd.connect(herd.name) as client:
        call = client["alice"].call(bob.uri)
        call.wait_answered(timeout=10)
        bob.wait_event("CALL_ESTABLISHED")
        yield Up(herd, client, call)


def ends_well(up: Up, bob: Baresip) -> None:
    """The call is up at both ends, and its dialog in order."""
    assert bob.calls_up() == 1
    assert up.call.hang_up(timeout=10).bye_answered
    bob.wait_event("CALL_CLOSED")


# Hold.


@pytest.mark.interop("Hold and retrieve", "baresip")
def test_a_phone_holds_baresip_and_retrieves_it(up: Up, bob: Baresip) -> None:
    for _ in range(2):
        up.call.hold(timeout=10)
        up.call.retrieve(timeout=10)
    for kind in ("held", "retrieved"):
        assert [event["by"] for event in up.herd.wait_events(2, kind=kind)] == ["local"] * 2
    ends_well(up, bob)


@pytest.mark.interop("Held and retrieved by the peer", "baresip")
def test_baresip_holds_a_phone_and_retrieves_it(up: Up, bob: Baresip) -> None:
    bob.hold()
    up.call.wait_held(timeout=10)
    bob.retrieve()
    up.call.wait_retrieved(timeout=10)
    assert up.herd.wait_event(kind="retrieved")["by"] == "remote"
    ends_well(up, bob)


@pytest.mark.interop("Hold and retrieve", "baresip")
def test_both_hold(up: Up, bob: Baresip) -> None:
    """Each side's hold is its own: the call is free when both have taken it back."""
    up.call.hold(timeout=10)
    bob.hold()
    up.call.wait_held(timeout=10)
    up.call.retrieve(timeout=10)
    assert "remote" in up.call.info.held
    bob.retrieve()
    up.call.wait_retrieved(timeout=10)
    ends_well(up, bob)


@pytest.mark.interop("re-INVITE by the peer", "baresip")
def test_baresip_changes_nothing(up: Up, bob: Baresip) -> None:
    """A re-INVITE with the same offer is answered, and nobody need know."""
    up.herd.wait_event(call=up.call.id, kind="answered")
    before = up.herd.events(call=up.call.id)
    alice = up.herd.phone("alice")
    bob.reinvite()
    ack = f"ACK sip:alice@{alice.host}:{alice.port} SIP/2.0"
    up.herd.wait_event(kind="sip", direction="in", first_line=ack)
    assert up.herd.events(call=up.call.id) == before
    ends_well(up, bob)


# Transfer.


@pytest.mark.interop("Blind transfer", "baresip")
def test_a_phone_transfers_baresip(up: Up, bob: Baresip) -> None:
    """alice lets bob call carol, and is out."""
    up.call.transfer("carol", timeout=10)
    ended = up.call.wait_ended(timeout=10)
    assert ended.cause == "transferred"
    incoming = up.herd.wait_event(kind="incoming", phone="carol")
    assert incoming["from_uri"] == bob.uri
    wait_for(lambda: bob.calls_up() == 1, "baresip's call to carol")
    bob.hang_up()
    up.herd.wait_event(kind="ended", phone="carol")


@pytest.mark.interop("Transferred by the peer", "baresip")
def test_baresip_transfers_a_phone(up: Up, bob: Baresip) -> None:
    """bob lets alice call carol, and is out."""
    bob.transfer(up.client["carol"].uri)
    new = up.call.wait_transferred(timeout=10)
    new.wait_answered(timeout=10)
    assert up.call.wait_ended(timeout=10).by == "remote"
    referred = up.herd.wait_event(kind="referred")
    assert (referred["new_call"], referred["by"]) == (new.id, bob.uri)
    new.hang_up(timeout=10)


@pytest.mark.interop("Blind transfer", "baresip")
def test_a_transfer_to_nobody(up: Up, bob: Baresip) -> None:
    """The target refuses: the call is still up at either end."""
    up.client.add("dora", address=up.herd.address, on_incoming={"reject": 603})
    with pytest.raises(Exception, match="603"):
        up.call.transfer("dora", timeout=10)
    assert up.herd.wait_event(kind="transfer_failed")["code"] == 603
    up.call.hang_up(timeout=10)


# Keys.


KEYS = "1122#*0"


@pytest.mark.interop("Keys as RTP events", "baresip")
def test_keys_as_rtp_events(up: Up, bob: Baresip) -> None:
    for key in KEYS:
        bob.press(key)
        # It does not queue them.
        assert up.call.wait_dtmf(timeout=10) == key
    seen = up.herd.wait_events(len(KEYS), kind="dtmf")
    assert [(event["digit"], event["method"]) for event in seen] == [(k, "rfc4733") for k in KEYS]
    up.call.send_dtmf(KEYS, timeout=10)
    assert "".join(bob.wait_event("CALL_DTMF_START")["param"] for _ in KEYS) == KEYS
    ends_well(up, bob)


@pytest.mark.interop("Keys as INFO", "baresip")
def test_keys_as_info(start_herd: StartHerd, bob: Baresip) -> None:
    """baresip 1.0 takes them so, and sends RTP events only."""
    herd = start_herd([{"name": "alice", "dtmf": "info", "media": "none"}])
    with Herd.connect(herd.name) as client:
        call = client["alice"].call(bob.uri)
        call.wait_answered(timeout=10)
        bob.wait_event("CALL_ESTABLISHED")
        call.send_dtmf(KEYS, timeout=10)
        assert "".join(bob.wait_event("CALL_DTMF_START")["param"] for _ in KEYS) == KEYS
        assert herd.wait_event(kind="dtmf_sent")["method"] == "info"
        ends_well(Up(herd, client, call), bob)
