"""The same calls by TCP and over IPv6."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from peers.baresip import Baresip
from peers.herd import HerdProcess
from peers.kamailio import Kamailio
from peers.sipp import Sipp
from sipherd import Herd

StartBaresip = Callable[..., Baresip]
StartHerd = Callable[..., HerdProcess]
StartKamailio = Callable[..., Kamailio]
StartSipp = Callable[..., Sipp]

ALICE = {"name": "alice", "media": "none"}
BOB = {"name": "bob", "media": "none", "on_incoming": {"answer_after": 0}}
TCP = {"transport": "tcp"}


# TCP.


@pytest.mark.interop("TCP", "SIPp")
@pytest.mark.parametrize(
    "scenario", ["callee_answers", "callee_hangs_up", "callee_rings_until_cancel"]
)
def test_a_phone_calls_sipp_by_tcp(
    start_herd: StartHerd, start_sipp: StartSipp, scenario: str
) -> None:
    herd = start_herd([ALICE | TCP])
    sipp = start_sipp(scenario, transport="tcp")
    with Herd.connect(herd.name) as client:
        call = client["alice"].call(sipp.uri)
        if scenario == "callee_rings_until_cancel":
            call.wait_ringing(timeout=10)
            assert call.cancel(timeout=10).outcome == "cancelled"
        else:
            call.wait_answered(timeout=10)
            if scenario == "callee_answers":
                call.hang_up(timeout=10)
        sipp.passes()


@pytest.mark.interop("TCP", "SIPp")
@pytest.mark.parametrize("scenario", ["caller_calls", "caller_cancels"])
def test_sipp_calls_a_phone_by_tcp(
    start_herd: StartHerd, start_sipp: StartSipp, scenario: str
) -> None:
    """The phone serves both transports on one number, whatever it prefers itself."""
    herd = start_herd([BOB if scenario == "caller_calls" else ALICE])
    phone = herd.phone("bob" if scenario == "caller_calls" else "alice")
    start_sipp(scenario, target=phone.target, transport="tcp").passes()


@pytest.mark.interop("TCP", "baresip")
def test_calls_with_baresip_by_tcp(start_herd: StartHerd, bob: Baresip) -> None:
    herd = start_herd([ALICE | TCP])
    alice = herd.phone("alice")
    with Herd.connect(herd.name) as client:
        call = client["alice"].call(f"{bob.uri};transport=tcp")
        call.wait_answered(timeout=10)
        bob.wait_event("CALL_ESTABLISHED")
        assert call.hang_up(timeout=10).bye_answered
        bob.wait_event("CALL_CLOSED")

        bob.dial(f"sip:alice@{alice.host}:{alice.port};transport=tcp")
        incoming = client["alice"].incoming(timeout=10)
        incoming.answer()
        bob.wait_event("CALL_ESTABLISHED")
        assert incoming.hang_up(timeout=10).bye_answered
        bob.wait_event("CALL_CLOSED")


@pytest.mark.interop("TCP", "phone to phone")
def test_a_call_between_phones_by_tcp(start_herd: StartHerd) -> None:
    herd = start_herd([ALICE | TCP, BOB | TCP])
    with Herd.connect(herd.name) as client:
        call = client["alice"].call("bob")
        call.wait_answered(timeout=10)
        assert call.hang_up(timeout=10).bye_answered


@pytest.mark.interop("TCP", "Kamailio")
@pytest.mark.parametrize("other", ["tcp", "udp"])
@pytest.mark.parametrize("by", ["caller", "callee"])
def test_a_call_through_kamailio_by_tcp(
    start_kamailio: StartKamailio, start_herd: StartHerd, other: str, by: str
) -> None:
    """One side by TCP, the other by either: then the proxy has two entries in the route."""
    kamailio = start_kamailio()

    def registering(phone: dict[str, object], transport: str) -> dict[str, object]:
        name = str(phone["name"])
        credentials = {"server": kamailio.hostport, "password": kamailio.password(name)}
        return phone | {"transport": transport, "register": credentials}

    herd = start_herd([registering(ALICE, "tcp"), registering(BOB, other)])
    herd.wait_events(2, kind="registered")
    assert {sent.source.partition(":")[0] for sent in kamailio.requests("REGISTER")} == {
        "tcp",
        other,
    }
    with Herd.connect(herd.name) as client:
        call = client["alice"].call(f"sip:bob@{kamailio.hostport}")
        incoming = client["bob"].incoming(timeout=10)
        call.wait_answered(timeout=10)
        herd.wait_event(kind="confirmed", phone="bob")
        assert (call if by == "caller" else incoming).hang_up(timeout=10).bye_answered
        assert (incoming if by == "caller" else call).wait_ended(timeout=10).by == "remote"
    assert kamailio.requests("INVITE")[0].source.startswith("tcp:")


# IPv6.


@pytest.mark.interop("IPv6", "SIPp")
def test_calls_with_sipp_over_ipv6(start_herd: StartHerd, start_sipp: StartSipp) -> None:
    herd = start_herd([ALICE, BOB], address="::1")
    sipp = start_sipp("callee_answers", address="::1")
    with Herd.connect(herd.name) as client:
        call = client["alice"].call(sipp.uri)
        call.wait_answered(timeout=10)
        call.hang_up(timeout=10)
        sipp.passes()
    start_sipp("caller_calls", address="::1", target=herd.phone("bob").target).passes()


@pytest.mark.interop("IPv6", "baresip")
def test_calls_with_baresip_over_ipv6(start_herd: StartHerd, start_baresip: StartBaresip) -> None:
    bob = start_baresip(address="::1")
    herd = start_herd([ALICE], address="::1")
    alice = herd.phone("alice")
    with Herd.connect(herd.name) as client:
        call = client["alice"].call(bob.uri)
        call.wait_answered(timeout=10)
        bob.wait_event("CALL_ESTABLISHED")
        assert call.hang_up(timeout=10).bye_answered
        bob.wait_event("CALL_CLOSED")

        bob.dial(f"sip:alice@[{alice.host}]:{alice.port}")
        client["alice"].incoming(timeout=10).answer()
        bob.wait_event("CALL_ESTABLISHED")
        bob.hang_up()
        herd.wait_events(2, kind="ended", phone="alice")


@pytest.mark.interop("IPv6", "phone to phone")
def test_a_call_between_phones_over_ipv6(start_herd: StartHerd) -> None:
    herd = start_herd([ALICE, BOB], address="::1")
    with Herd.connect(herd.name) as client:
        call = client["alice"].call("bob")
        call.wait_answered(timeout=10)
        assert call.hang_up(timeout=10).bye_answered


@pytest.mark.interop("IPv6", "Kamailio")
def test_a_call_through_kamailio_over_ipv6(
    start_kamailio: StartKamailio, start_herd: StartHerd
) -> None:
    kamailio = start_kamailio(address="::1")
    herd = start_herd(
        [
            phone | {"register": {"server": kamailio.hostport, "password": f"secret-{name}"}}
            for name, phone in (("alice", ALICE), ("bob", BOB))
        ],
        address="::1",
    )
    herd.wait_events(2, kind="registered")
    with Herd.connect(herd.name) as client:
        call = client["alice"].call(f"sip:bob@{kamailio.hostport}")
        call.wait_answered(timeout=10)
        assert call.hang_up(timeout=10).bye_answered
