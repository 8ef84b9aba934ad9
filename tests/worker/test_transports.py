"""Real phones in calls over each transport and address family."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

import pytest
from smallherd import SmallHerd, SmallPhone, descriptors, nobody_at

from sipherd.protocol.events import (
    Answered,
    CallEnded,
    CallPlaced,
    Confirmed,
    IncomingCall,
    SipTrace,
)
from sipherd.protocol.messages import Counters, Done, Drain, Drained, HangUpCall, PlaceCall

ANSWERS: dict[str, Any] = {"on_incoming": {"answer_after": 0}}


def call(phone: SmallPhone, target: str, name: str = "c1") -> None:
    done = phone.run(PlaceCall(phone=phone.spec.name, target=target, call=name, dialled="peer"))
    assert isinstance(done, Done), done


def counters(phone: SmallPhone) -> dict[str, int]:
    """What it counted, at its end."""
    phone.send(Drain())
    phone.wait(Drained)
    return dict(phone.heard(Counters)[-1].values)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_call(herd: SmallHerd, ipv6: None, address: str, transport: str) -> None:
    keys = {"address": address, "transport": transport, "trace": True}
    alice, bob = herd.fork("alice", **keys), herd.fork("bob", **keys, **ANSWERS)
    call(alice, bob.uri)
    answered = alice.wait(Answered)
    assert answered.remote_media is not None
    assert answered.remote_media[0] == address
    bob.wait(Confirmed)
    assert isinstance(alice.run(HangUpCall(call="c1")), Done)
    assert alice.wait(CallEnded).bye_answered is True
    bob.wait(CallEnded)
    assert alice.heard(CallPlaced)[0].next_hop == (address, bob.port)
    assert bob.heard(IncomingCall)[0].source[0] == address
    sent = [trace for trace in alice.heard(SipTrace) if trace.direction == "out"]
    assert [trace.cseq for trace in sent] == ["1 INVITE", "1 ACK", "2 BYE"]
    assert {(trace.peer, trace.transport) for trace in sent} == {((address, bob.port), transport)}
    for phone, opened in ((alice, 1), (bob, 0)):
        counted = counters(phone)
        assert counted.get("tcp_opened", 0) == (opened if transport == "tcp" else 0)
        assert counted.get("sip_retransmitted", 0) == 0
        assert phone.printed() == ""


def test_many_calls_over_tcp_share_a_connection(herd: SmallHerd) -> None:
    alice = herd.fork("alice", transport="tcp", media="none")
    bob = herd.fork("bob", media="none", **ANSWERS)
    before = []
    for number in range(1, 31):
        call(alice, bob.uri, f"c{number}")
        alice.wait(Answered, number)
        alice.run(HangUpCall(call=f"c{number}"))
        alice.wait(CallEnded, number)
        bob.wait(CallEnded, number)
        if number == 1:
            before = [len(descriptors(phone.pid)) for phone in (alice, bob)]
    assert [len(descriptors(phone.pid)) for phone in (alice, bob)] == before
    assert counters(alice)["tcp_opened"] == 1
    assert counters(bob)["tcp_accepted"] == 1


def test_the_callee_hangs_up_over_tcp(herd: SmallHerd) -> None:
    """Its request goes to the caller's own port, by a connection of its own."""
    alice = herd.fork("alice", transport="tcp", media="none")
    bob = herd.fork("bob", media="none", **ANSWERS)
    call(alice, bob.uri)
    bob.wait(Confirmed)
    bob.run(HangUpCall(call=bob.heard(IncomingCall)[0].call))
    assert bob.wait(CallEnded).bye_answered is True
    assert alice.wait(CallEnded).by == "remote"
    assert counters(alice)["tcp_accepted"] == 1


def test_transport_of_the_target_goes_before_the_phones(herd: SmallHerd) -> None:
    alice, bob = herd.fork("alice", media="none"), herd.fork("bob", media="none", **ANSWERS)
    call(alice, f"{bob.uri};transport=tcp")
    alice.wait(Answered)
    assert counters(bob)["tcp_accepted"] == 1


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_nobody_is_there(herd: SmallHerd, ipv6: None, address: str, transport: str) -> None:
    """ICMP, ICMPv6 or RST: the call ends at once, and the phone serves on."""
    alice = herd.fork("alice", address=address, transport=transport, media="none")
    bob = herd.fork("bob", address=address, media="none", **ANSWERS)
    with nobody_at(address) as port:
        call(alice, bob.uri.replace(f":{bob.port}", f":{port}"))
        ended = alice.wait(CallEnded)
    assert (ended.cause, ended.code) == ("unreachable", 503)
    call(alice, bob.uri, "c2")
    alice.wait(Answered)


def test_a_connection_waits_for_the_next_incarnation(herd: SmallHerd) -> None:
    """The listener is the supervisor's: an INVITE to a dead phone waits in the kernel."""
    bob = herd.fork("bob", media="none", **ANSWERS)
    os.kill(bob.pid, signal.SIGKILL)
    herd.death(bob)
    alice = herd.fork("alice", transport="tcp", media="none")
    call(alice, bob.uri)
    again = SmallPhone(herd, bob.spec, 2)
    again.close_sockets()
    again.sip, again.tcp, again.port = bob.sip.dup(), bob.tcp.dup(), bob.port
    herd.phones["bob", 2] = again
    herd.ask(again)
    herd.until(lambda: again.pid or None, "the second process")
    again.welcome()
    alice.wait(Answered)


def test_a_call_goes_on_after_its_connection_died(herd: SmallHerd) -> None:
    """The peer crashes and is back: the BYE takes another connection, and is answered."""
    # Its next process does not end the call by itself: the BYE is alice's.
    bob = herd.fork("bob", media="none", after_crash="leave", **ANSWERS)
    alice = herd.fork("alice", transport="tcp", media="none")
    call(alice, bob.uri)
    alice.wait(Answered)
    bob.wait(Confirmed)
    os.kill(bob.pid, signal.SIGKILL)
    herd.death(bob)
    again = SmallPhone(herd, bob.spec, 2)
    again.close_sockets()
    again.sip, again.tcp, again.port = bob.sip.dup(), bob.tcp.dup(), bob.port
    herd.phones["bob", 2] = again
    herd.ask(again)
    herd.until(lambda: again.pid or None, "the second process")
    again.welcome()
    alice.run(HangUpCall(call="c1"))
    assert alice.wait(CallEnded).bye_answered is True  # by 481: this incarnation has no such call


def test_strangers_cannot_stop_a_phone(herd: SmallHerd) -> None:
    """Noise, half a message, TLS, a flood of connections; and the phone serves on."""
    bob = herd.fork("bob", media="none", **ANSWERS)
    strangers = []
    for data in (
        os.urandom(100000),
        b"\x16\x03\x01\x02\x00\x01" + bytes(600),
        b"GET / HTTP/1.1\r\n\r\n",
        b"INVITE sip:a@h SIP/2.0\r\nContent-Length: 99999999999999\r\n\r\n",
        b"INVITE sip:a@h SIP/2.0\r\nContent-Length: 100\r\n\r\nhalf",
        b"\r\n" * 20000,
        *[b""] * 200,
    ):
        sock = socket.create_connection((bob.host, bob.port), 10)
        sock.setblocking(False)
        if data:
            sock.send(data)
        strangers.append(sock)
    alice = herd.fork("alice", transport="tcp", media="none")
    call(alice, bob.uri)
    alice.wait(Answered)
    for sock in strangers:
        sock.close()
    counted = counters(bob)
    assert counted["tcp_bad_stream"] >= 2
    assert counted["tcp_evicted"] > 0
    assert counted.get("worker_error", 0) == counted.get("engine_error", 0) == 0
