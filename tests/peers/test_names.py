"""Peers that are called by name: SRV and A records of a name server of the tests' own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nameserver import NameServer
from peers.baresip import Baresip
from peers.herd import HerdProcess
from peers.kamailio import Kamailio
from peers.sipp import Sipp, loopback_address
from sipherd import Herd

StartHerd = Callable[..., HerdProcess]
StartKamailio = Callable[..., Kamailio]
StartSipp = Callable[..., Sipp]
StartNamed = Callable[[list[dict[str, Any]]], HerdProcess]

UP = Path(__file__).parent / "named" / "up.py"
ALICE = {"name": "alice", "media": "none"}
BOB = {"name": "bob", "media": "none", "on_incoming": {"answer_after": 0}}


@pytest.fixture
def server() -> Iterator[NameServer]:
    with NameServer(loopback_address()) as server:
        yield server


@pytest.fixture
def start_named(start_herd: StartHerd, server: NameServer) -> StartNamed:
    """Start a herd whose phones ask that server."""
    address, port = server.address

    def start(phones: list[dict[str, Any]]) -> HerdProcess:
        return start_herd(phones, command=(sys.executable, str(UP), address, str(port)))

    return start


@pytest.mark.interop("Host names (SRV, A)", "SIPp")
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_phone_calls_sipp_by_service(
    start_named: StartNamed, start_sipp: StartSipp, server: NameServer, transport: str
) -> None:
    """Nobody is at the server of the best priority: the next one gets the call."""
    herd = start_named([ALICE | {"transport": transport}])
    gone = start_sipp("callee_answers", transport=transport)
    gone.close()
    sipp = start_sipp("callee_answers", transport=transport)
    server.zone = {
        (f"_sip._{transport}.sipp.lab", "SRV"): [
            f"10 0 {gone.port} gone.sipp.lab.",
            f"20 0 {sipp.port} here.sipp.lab.",
        ],
        ("gone.sipp.lab", "A"): [gone.address],
        ("here.sipp.lab", "A"): [sipp.address],
    }
    with Herd.connect(herd.name) as client:
        call = client["alice"].call("sip:service@sipp.lab")
        call.wait_answered(timeout=10)
        call.hang_up(timeout=10)
        sipp.passes()
    assert "INVITE sip:service@sipp.lab SIP/2.0" in sipp.received("INVITE")[0]


@pytest.mark.interop("Host names (SRV, A)", "baresip")
def test_a_phone_calls_baresip_by_name(
    start_named: StartNamed, bob: Baresip, server: NameServer
) -> None:
    herd = start_named([ALICE])
    server.zone = {("bob.lab", "A"): [bob.address]}
    with Herd.connect(herd.name) as client:
        call = client["alice"].call(f"sip:bob@bob.lab:{bob.port}")
        call.wait_answered(timeout=10)
        bob.wait_event("CALL_ESTABLISHED")
        assert call.hang_up(timeout=10).bye_answered


@pytest.mark.interop("Host names (SRV, A)", "Kamailio")
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_call_through_kamailio_by_name(
    start_named: StartNamed, start_kamailio: StartKamailio, server: NameServer, transport: str
) -> None:
    """Registrar and proxy are found by their service."""
    kamailio = start_kamailio()
    server.zone = {
        (f"_sip._{transport}.pbx.lab", "SRV"): [f"10 0 {kamailio.port} pbx.lab."],
        ("pbx.lab", "A"): [kamailio.address],
    }

    def registering(phone: dict[str, Any]) -> dict[str, Any]:
        password = kamailio.password(phone["name"])
        register = {"server": "pbx.lab", "domain": kamailio.address, "password": password}
        return phone | {"transport": transport, "register": register}

    herd = start_named([registering(ALICE), registering(BOB)])
    herd.wait_events(2, kind="registered")
    with Herd.connect(herd.name) as client:
        call = client["alice"].call(f"sip:bob@{kamailio.address}")
        call.wait_answered(timeout=10)
        herd.wait_event(kind="confirmed", phone="bob")
        assert call.hang_up(timeout=10).bye_answered
    assert {sent.source.partition(":")[0] for sent in kamailio.requests("INVITE")} == {transport}


@pytest.mark.interop("Host names (SRV, A)", "phone to phone")
def test_a_call_between_phones_by_name(start_named: StartNamed, server: NameServer) -> None:
    herd = start_named([ALICE, BOB | {"advertise": "bob.lab"}])
    bob = herd.phone("bob")
    server.zone = {("bob.lab", "A"): [bob.host]}
    with Herd.connect(herd.name) as client:
        call = client["alice"].call("bob")
        call.wait_answered(timeout=10)
        assert call.hang_up(timeout=10).bye_answered
    assert server.asked["bob.lab", "A"]
