"""Kamailio as registrar and proxy: digest, registrations, and calls along its route.

A phone stands on either side of the proxy. It answers 404 to any request of a dialog that does not
take its route, so the BYE of a call that ends well went that way.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from peers.baresip import Baresip
from peers.herd import HerdProcess
from peers.kamailio import Kamailio
from peers.sipp import wait_for
from sipherd import Call, Herd

StartBaresip = Callable[..., Baresip]
StartHerd = Callable[..., HerdProcess]
StartKamailio = Callable[..., Kamailio]


def registering(kamailio: Kamailio, number: str = "1001", **register: Any) -> dict[str, Any]:
    """A phone that registers there."""
    credentials = {"server": kamailio.hostport, "password": kamailio.password(number)}
    return {
        "name": f"phone-{number}",
        "number": number,
        "media": "none",
        "register": credentials | register,
    }


def uri(kamailio: Kamailio, number: str) -> str:
    return f"sip:{number}@{kamailio.hostport}"


# Registration and digest.


@pytest.mark.parametrize(
    "algorithm",
    [
        pytest.param(None, marks=pytest.mark.interop("Registration", "Kamailio")),
        pytest.param("MD5", marks=pytest.mark.interop("Digest with MD5", "Kamailio")),
        pytest.param("SHA-256", marks=pytest.mark.interop("Digest with SHA-256", "Kamailio")),
    ],
)
def test_registers(
    start_kamailio: StartKamailio, start_herd: StartHerd, algorithm: str | None
) -> None:
    kamailio = start_kamailio(algorithm=algorithm, max_expires=60)
    herd = start_herd([registering(kamailio)])
    registered = herd.wait_event(kind="registered")
    assert (registered["expires"], registered["refresh"]) == (60, False)
    phone = herd.phone("phone-1001")
    (contact,) = kamailio.contacts("1001")
    assert contact.uri == f"sip:1001@{phone.host}:{phone.port}"
    # One that is challenged and one with credentials, and nothing else on the wire.
    assert len(kamailio.requests("REGISTER")) == 2


@pytest.mark.interop("Unregister on stop", "Kamailio")
def test_unregisters_when_it_is_stopped(
    start_kamailio: StartKamailio, start_herd: StartHerd
) -> None:
    kamailio = start_kamailio()
    herd = start_herd([registering(kamailio, "1001"), registering(kamailio, "1002")])
    herd.wait_events(2, kind="registered")
    assert herd.command("stop", "phone-1001").returncode == 0
    assert kamailio.contacts("1001") == []
    assert kamailio.contacts("1002")
    assert herd.events(kind="unregistered", phone="phone-1001", confirmed=True)
    assert herd.stop() == 0
    assert kamailio.contacts("1002") == []


@pytest.mark.interop("Refresh of a registration", "Kamailio")
def test_refreshes_in_time(start_kamailio: StartKamailio, start_herd: StartHerd) -> None:
    """Granted 5 s, it is there for 8 s without a gap: the same registration, with a higher CSeq."""
    kamailio = start_kamailio(max_expires=5)
    herd = start_herd([registering(kamailio)])
    herd.wait_event(kind="registered")
    (first,) = kamailio.contacts("1001")
    deadline = time.monotonic() + 8
    while time.monotonic() < deadline:
        assert kamailio.contacts("1001")
        time.sleep(0.1)
    (last,) = kamailio.contacts("1001")
    assert (last.uri, last.call_id) == (first.uri, first.call_id)
    assert last.cseq > first.cseq
    assert len(herd.events(kind="registered", refresh=True)) >= 2
    assert not herd.events(kind="registration_failed")


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.interop("Refresh of a registration", "Kamailio")
def test_ten_minutes_at_thirty_seconds(
    start_kamailio: StartKamailio, start_herd: StartHerd
) -> None:
    kamailio = start_kamailio(max_expires=30)
    herd = start_herd([registering(kamailio, expires="30s")])
    herd.wait_event(kind="registered")
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        assert kamailio.contacts("1001"), herd.report()
        time.sleep(0.2)
    assert not herd.events(kind="registration_failed")
    # One each half minute at least, and no more than one each ten seconds.
    assert 20 <= len(herd.events(kind="registered", refresh=True)) <= 60


@pytest.mark.interop("423 Interval Too Brief", "Kamailio")
def test_asks_again_for_what_the_registrar_wants(
    start_kamailio: StartKamailio, start_herd: StartHerd
) -> None:
    kamailio = start_kamailio(min_expires=45)
    herd = start_herd([registering(kamailio, expires="10s")])
    assert herd.wait_event(kind="registered")["expires"] == 45
    assert kamailio.contacts("1001")
    assert not herd.events(kind="registration_failed")


@pytest.mark.interop("Stale nonce", "Kamailio")
def test_a_stale_nonce(start_kamailio: StartKamailio, start_herd: StartHerd) -> None:
    """It is too old when the refresh comes: that is challenged again, and no password is wrong."""
    kamailio = start_kamailio(nonce_expire=1, max_expires=6)
    herd = start_herd([registering(kamailio)])
    herd.wait_events(2, kind="registered")
    assert kamailio.contacts("1001")
    assert len(kamailio.requests("REGISTER")) == 4
    assert not herd.events(kind="registration_failed")


@pytest.mark.interop("Wrong password", "Kamailio")
def test_a_wrong_password(start_kamailio: StartKamailio, start_herd: StartHerd) -> None:
    """One event, two requests, and that was it; calls to it go on."""
    kamailio = start_kamailio()
    herd = start_herd([registering(kamailio, password="guessed"), registering(kamailio, "1002")])
    failed = herd.wait_event(kind="registration_failed")
    assert (failed["cause"], failed["code"]) == ("credentials", 401)
    herd.wait_event(kind="registered", phone="phone-1002")
    phone = herd.phone("phone-1001")
    ours = f"udp:{phone.host}:{phone.port}"
    time.sleep(2)  # a loop would show
    assert len([sent for sent in kamailio.requests("REGISTER") if sent.source == ours]) == 2
    assert len(herd.events(kind="registration_failed")) == 1
    assert kamailio.contacts("1001") == []


# Calls through the proxy.


def place(client: Herd, kamailio: Kamailio) -> tuple[Call, Call]:
    """A call from 1001 to 1002 that is answered: the legs of both."""
    call = client["phone-1001"].call(uri(kamailio, "1002"))
    incoming = client["phone-1002"].incoming(timeout=10)
    incoming.answer()
    call.wait_answered(timeout=10)
    return call, incoming


def two(start_herd: StartHerd, kamailio: Kamailio) -> HerdProcess:
    herd = start_herd([registering(kamailio, "1001"), registering(kamailio, "1002")])
    herd.wait_events(2, kind="registered")
    return herd


def three(start_herd: StartHerd, kamailio: Kamailio) -> HerdProcess:
    """1003 answers by itself."""
    phones = [registering(kamailio, number) for number in ("1001", "1002", "1003")]
    phones[2]["on_incoming"] = {"answer_after": 0}
    herd = start_herd(phones)
    herd.wait_events(3, kind="registered")
    return herd


@pytest.mark.interop("Call out", "Kamailio")
@pytest.mark.interop("Call in", "Kamailio")
@pytest.mark.interop("Hanging up", "Kamailio")
@pytest.mark.interop("Being hung up on", "Kamailio")
@pytest.mark.interop("Record-Route and loose routing", "Kamailio")
@pytest.mark.interop("Digest for a call (407)", "Kamailio")
@pytest.mark.parametrize("challenge_all", [False, True], ids=["", "BYE challenged"])
@pytest.mark.parametrize("by", ["caller", "callee"])
def test_a_call(
    start_kamailio: StartKamailio, start_herd: StartHerd, by: str, challenge_all: bool
) -> None:
    kamailio = start_kamailio(challenge_all=challenge_all)
    herd = two(start_herd, kamailio)
    with Herd.connect(herd.name) as client:
        call, incoming = place(client, kamailio)
        herd.wait_event(kind="confirmed", phone="phone-1002")
        ended = (call if by == "caller" else incoming).hang_up(timeout=10)
        assert (ended.cause, ended.bye_answered) == ("hung_up", True)
        other = (incoming if by == "caller" else call).wait_ended(timeout=10)
        assert (other.cause, other.by) == ("hung_up", "remote")
    for request in kamailio.requests("ACK") + kamailio.requests("BYE"):
        assert kamailio.hostport in request.route
        assert kamailio.hostport not in request.uri  # the far end's Contact


@pytest.mark.interop("Wrong password", "Kamailio")
def test_a_call_with_a_wrong_password(start_kamailio: StartKamailio, start_herd: StartHerd) -> None:
    kamailio = start_kamailio()
    herd = start_herd([registering(kamailio, password="guessed")])
    with Herd.connect(herd.name) as client:
        ended = client["phone-1001"].call(uri(kamailio, "1002")).wait_ended(timeout=10)
    assert (ended.cause, ended.code) == ("rejected", 407)
    assert len(kamailio.requests("INVITE")) == 2


@pytest.mark.interop("Rejected call", "Kamailio")
@pytest.mark.interop("Rejecting a call", "Kamailio")
def test_a_call_is_rejected(start_kamailio: StartKamailio, start_herd: StartHerd) -> None:
    kamailio = start_kamailio()
    herd = two(start_herd, kamailio)
    with Herd.connect(herd.name) as client:
        call = client["phone-1001"].call(uri(kamailio, "1002"))
        client["phone-1002"].incoming(timeout=10).reject(603)
        assert call.wait_ended(timeout=10).code == 603
        # Nobody has this number: the proxy's own answer.
        assert client["phone-1001"].call(uri(kamailio, "1999")).wait_ended(timeout=10).code == 404


@pytest.mark.interop("Cancel", "Kamailio")
@pytest.mark.interop("Cancelled by the caller", "Kamailio")
def test_a_call_is_cancelled(start_kamailio: StartKamailio, start_herd: StartHerd) -> None:
    kamailio = start_kamailio()
    herd = two(start_herd, kamailio)
    with Herd.connect(herd.name) as client:
        call = client["phone-1001"].call(uri(kamailio, "1002"))
        incoming = client["phone-1002"].incoming(timeout=10)
        call.wait_ringing(timeout=10)
        assert call.cancel(timeout=10).outcome == "cancelled"
        ended = incoming.wait_ended(timeout=10)
        assert (ended.cause, ended.by) == ("cancelled", "remote")


@pytest.mark.interop("Answered elsewhere", "Kamailio")
def test_one_of_two_phones_answers(start_kamailio: StartKamailio, start_herd: StartHerd) -> None:
    """Two phones of one number, of two herds: both ring, and the other is told why it stops."""
    kamailio = start_kamailio()
    caller = start_herd([registering(kamailio, "1001")])
    here, there = (start_herd([registering(kamailio, "1002")]) for _ in range(2))
    for herd in (caller, here, there):
        herd.wait_event(kind="registered")
    assert len(kamailio.contacts("1002")) == 2
    with (
        Herd.connect(caller.name) as calling,
        Herd.connect(here.name) as answering,
        Herd.connect(there.name) as ringing,
    ):
        call = calling["phone-1001"].call(uri(kamailio, "1002"))
        other = ringing["phone-1002"].incoming(timeout=10)
        answering["phone-1002"].incoming(timeout=10).answer()
        call.wait_answered(timeout=10)
        ended = other.wait_ended(timeout=10)
        assert (ended.cause, ended.by) == ("answered_elsewhere", "remote")
        assert call.hang_up(timeout=10).bye_answered


@pytest.mark.interop("Hold and retrieve", "Kamailio")
@pytest.mark.interop("Held and retrieved by the peer", "Kamailio")
@pytest.mark.parametrize("challenge_all", [False, True], ids=["", "challenged"])
def test_hold_along_the_route(
    start_kamailio: StartKamailio, start_herd: StartHerd, challenge_all: bool
) -> None:
    kamailio = start_kamailio(challenge_all=challenge_all)
    herd = two(start_herd, kamailio)
    with Herd.connect(herd.name) as client:
        call, incoming = place(client, kamailio)
        for holder, other in ((call, incoming), (incoming, call)):
            holder.hold(timeout=10)
            other.wait_held(timeout=10)
            holder.retrieve(timeout=10)
            other.wait_retrieved(timeout=10)
        assert call.hang_up(timeout=10).bye_answered
    for request in kamailio.requests("INVITE")[2:]:
        assert kamailio.hostport in request.route


@pytest.mark.interop("Blind transfer", "Kamailio")
@pytest.mark.interop("Transferred by the peer", "Kamailio")
def test_a_blind_transfer_along_the_route(
    start_kamailio: StartKamailio, start_herd: StartHerd
) -> None:
    """1001 has 1002 call 1003: that call is challenged, too."""
    kamailio = start_kamailio()
    herd = three(start_herd, kamailio)
    with Herd.connect(herd.name) as client:
        call, incoming = place(client, kamailio)
        call.transfer(uri(kamailio, "1003"), timeout=10)
        assert call.wait_ended(timeout=10).cause == "transferred"
        new = incoming.wait_transferred(timeout=10)
        new.wait_answered(timeout=10)
        assert new.hang_up(timeout=10).bye_answered
    (refer,) = kamailio.requests("REFER")
    assert kamailio.hostport in refer.route


@pytest.mark.interop("Attended transfer", "Kamailio")
@pytest.mark.interop("Replaces", "Kamailio")
def test_an_attended_transfer_along_the_route(
    start_kamailio: StartKamailio, start_herd: StartHerd
) -> None:
    """1001 asks 1003 first, and joins it with 1002."""
    kamailio = start_kamailio()
    herd = three(start_herd, kamailio)
    with Herd.connect(herd.name) as client:
        call, incoming = place(client, kamailio)
        call.hold(timeout=10)
        consult = client["phone-1001"].call(uri(kamailio, "1003"))
        consult.wait_answered(timeout=10)
        call.transfer(consult, timeout=10)
        for left in (call, consult):
            left.wait_ended(timeout=10)
        new = incoming.wait_transferred(timeout=10)
        new.wait_answered(timeout=10)
        _, replacing = herd.wait_events(2, kind="incoming", phone="phone-1003")
        assert replacing["replaces"]
        assert new.hang_up(timeout=10).bye_answered


@pytest.mark.interop("Outbound proxy", "Kamailio")
def test_all_goes_by_way_of_the_proxy(start_kamailio: StartKamailio, start_herd: StartHerd) -> None:
    """Neither registrar nor callee can be resolved: it is the proxy that knows them."""
    kamailio = start_kamailio()
    phones = [registering(kamailio, number, server="herd.test") for number in ("1001", "1002")]
    herd = start_herd([phone | {"proxy": kamailio.hostport} for phone in phones])
    herd.wait_events(2, kind="registered")
    with Herd.connect(herd.name) as client:
        call = client["phone-1001"].call("sip:1002@herd.test")
        client["phone-1002"].incoming(timeout=10).answer()
        call.wait_answered(timeout=10)
        assert call.hang_up(timeout=10).bye_answered
    assert kamailio.requests("INVITE")[0].uri == "sip:1002@herd.test"


@pytest.mark.interop("Restart on the same port", "Kamailio")
@pytest.mark.parametrize("end", ["restarted", "killed"])
def test_the_first_call_after_a_restart(
    start_kamailio: StartKamailio, start_herd: StartHerd, end: str
) -> None:
    """Registrar and proxy take nothing of the new process for something they have seen."""
    kamailio = start_kamailio()
    herd = two(start_herd, kamailio)
    before = kamailio.contacts("1001")
    pid = herd.wait_event(kind="phone_state", state="ready", phone="phone-1001")["pid"]
    with Herd.connect(herd.name) as client:
        place(client, kamailio)[0].hang_up(timeout=10)
        if end == "killed":
            os.kill(pid, signal.SIGKILL)
            herd.wait_event(kind="phone_died")
        else:
            assert herd.command("restart", "phone-1001").returncode == 0
        herd.wait_event(kind="registered", phone="phone-1001", incarnation=2)
        place(client, kamailio)[0].hang_up(timeout=10)
        # And as a callee.
        call = client["phone-1002"].call(uri(kamailio, "1001"))
        client["phone-1001"].incoming(timeout=10).answer()
        call.wait_answered(timeout=10)
        assert call.hang_up(timeout=10).bye_answered
    after = kamailio.contacts("1001")
    assert [contact.uri for contact in after] == [contact.uri for contact in before]


@pytest.mark.interop("OPTIONS", "Kamailio")
def test_the_proxy_asks_a_phone_options(
    start_kamailio: StartKamailio, start_baresip: StartBaresip, start_herd: StartHerd
) -> None:
    kamailio = start_kamailio()
    herd = start_herd([registering(kamailio, "1001")])
    herd.wait_event(kind="registered")
    bob = registered_baresip(start_baresip, kamailio, "1002")
    bob.ask_options(uri(kamailio, "1001"))
    wait_for(lambda: "200 OK\r\n" in bob.log() or "SIP/2.0 200 OK" in bob.log(), "the phone's 200")


# baresip behind the same proxy.


def registered_baresip(start_baresip: StartBaresip, kamailio: Kamailio, number: str) -> Baresip:
    process = start_baresip(
        user=number,
        domain=kamailio.hostport,
        account=f";regint=60;auth_pass={kamailio.password(number)}",
    )
    wait_for(lambda: kamailio.contacts(number), "baresip's registration")
    return process


def test_calls_between_a_phone_and_baresip(
    start_kamailio: StartKamailio, start_baresip: StartBaresip, start_herd: StartHerd
) -> None:
    kamailio = start_kamailio()
    bob = registered_baresip(start_baresip, kamailio, "1002")
    herd = start_herd([registering(kamailio, "1001")])
    herd.wait_event(kind="registered")
    with Herd.connect(herd.name) as client:
        call = client["phone-1001"].call(uri(kamailio, "1002"))
        call.wait_answered(timeout=10)
        bob.wait_event("CALL_ESTABLISHED")
        assert call.hang_up(timeout=10).bye_answered
        bob.wait_event("CALL_CLOSED")

        bob.dial(uri(kamailio, "1001"))
        incoming = client["phone-1001"].incoming(timeout=10)
        incoming.answer()
        bob.wait_event("CALL_ESTABLISHED")
        bob.hang_up()
        assert incoming.wait_ended(timeout=10).by == "remote"
