"""Registration where it is not plain sailing: see test_kamailio.py for where it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from peers.herd import HerdProcess
from peers.kamailio import Kamailio
from peers.sipp import Sipp, loopback_address
from sipherd import Herd

StartKamailio = Callable[..., Kamailio]
StartHerd = Callable[..., HerdProcess]
StartSipp = Callable[..., Sipp]

DOMAIN = "herd.test"


def registering(kamailio: Kamailio, number: str = "1001", **register: Any) -> dict[str, Any]:
    """A phone that registers there."""
    settings = {
        "server": kamailio.hostport,
        "domain": DOMAIN,
        "password": kamailio.password(number),
    }
    return {"name": f"p{number}", "number": number, "register": settings | register}


def test_a_registrar_that_comes_back(start_kamailio: StartKamailio, start_herd: StartHerd) -> None:
    kamailio = start_kamailio()
    herd = start_herd([registering(kamailio, expires=10)])
    herd.wait_event(phone="p1001", kind="registered")
    kamailio.close()
    failed = herd.wait_event(phone="p1001", kind="registration_failed", timeout=15)
    assert failed["cause"] == "unreachable"
    assert 1 <= failed["retry_in"] <= 2
    again = start_kamailio(address=kamailio.address, port=kamailio.port)
    herd.wait_events(2, phone="p1001", kind="registered", refresh=False, timeout=15)
    assert len(again.contacts("1001")) == 1


def test_requests_within_a_call_are_challenged(
    start_kamailio: StartKamailio, start_herd: StartHerd
) -> None:
    kamailio = start_kamailio(challenge_all=True, nonce_expire=2)
    herd = start_herd([registering(kamailio, number) for number in ("1001", "1002")])
    herd.wait_events(2, kind="registered")
    with Herd.connect(herd.name) as client:
        call = client["p1001"].call(f"sip:1002@{DOMAIN}")
        client["p1002"].incoming(timeout=10).answer()
        call.wait_answered(timeout=10)
        herd.wait_event(phone="p1002", kind="confirmed")
        time.sleep(3)  # until the nonce of the INVITE is stale: with it the BYE would pass at once
        call.hang_up()
    assert herd.wait_event(phone="p1001", kind="ended")["bye_answered"] is True
    assert len(kamailio.requests("BYE")) == 2


# SIPp checks what they say.


def with_credentials(server: str, **more: Any) -> dict[str, Any]:
    """A phone of the scenarios' user."""
    register = {
        "server": server,
        "domain": "lab.test",
        "auth_username": "alice",
        "password": "wonderland",
        "expires": 30,
    }
    return {"name": "alice", "number": "1001", "media": "none", "register": register} | more


@pytest.mark.interop("Registration", "SIPp")
@pytest.mark.interop("423 Interval Too Brief", "SIPp")
@pytest.mark.interop("Unregister on stop", "SIPp")
@pytest.mark.interop("Digest with MD5", "SIPp")
@pytest.mark.interop("Stale nonce", "SIPp")
def test_sipp_as_registrar(start_sipp: StartSipp, start_herd: StartHerd) -> None:
    sipp = start_sipp("registrar_challenges")
    herd = start_herd([with_credentials(f"{sipp.address}:{sipp.port}")])
    registered = herd.wait_event(phone="alice", kind="registered")
    assert registered["expires"] == 40
    assert herd.stop() == 0
    sipp.passes()


def test_sipp_wants_credentials_for_a_call(start_sipp: StartSipp, start_herd: StartHerd) -> None:
    sipp = start_sipp("callee_challenges")
    # Its registrar is nowhere; what it knows of itself serves calls all the same.
    herd = start_herd([with_credentials(f"{loopback_address()}:9")])
    called = herd.command("call", "alice", sipp.uri, "--duration", "0.2")
    assert called.returncode == 0, called.stderr
    sipp.passes()
