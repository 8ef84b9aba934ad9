"""baresip on the other side: an ordinary user agent, and a second witness to a right ACK."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable

import pytest

from peers.baresip import Baresip
from peers.herd import HerdProcess
from peers.sipp import wait_for
from sipherd import Herd

StartBaresip = Callable[..., Baresip]
StartHerd = Callable[..., HerdProcess]


@pytest.mark.interop("Call out", "baresip")
@pytest.mark.interop("Hanging up", "baresip")
@pytest.mark.slow
def test_a_call_is_still_up_after_40_seconds(start_herd: StartHerd, bob: Baresip) -> None:
    """Without a right ACK baresip would repeat its 200 for 64*T1 = 32 s and end the call."""
    herd = start_herd([{"name": "alice"}])
    with Herd.connect(herd.name) as client:
        call = client["alice"].call(bob.uri)
        call.wait_answered(timeout=10)
        bob.wait_event("CALL_ESTABLISHED")
        time.sleep(40)
        assert bob.calls_up() == 1
        assert not herd.events(kind="ended")
        call.hang_up()
        bob.wait_event("CALL_CLOSED")
    ended = herd.wait_event(phone="alice", kind="ended")
    assert (ended["cause"], ended["bye_answered"]) == ("hung_up", True)


@pytest.mark.interop("Being hung up on", "baresip")
def test_baresip_hangs_up(start_herd: StartHerd, bob: Baresip) -> None:
    herd = start_herd([{"name": "alice"}])
    with Herd.connect(herd.name) as client:
        call = client["alice"].call(bob.uri)
        call.wait_answered(timeout=10)
        bob.wait_event("CALL_ESTABLISHED")
        bob.hang_up()
        ended = call.wait_ended(timeout=10)
        assert (ended.cause, ended.by) == ("hung_up", "remote")


@pytest.mark.interop("Call in", "baresip")
def test_baresip_calls_a_phone(start_herd: StartHerd, bob: Baresip) -> None:
    herd = start_herd([{"name": "alice", "number": "1001"}])
    alice = herd.phone("alice")
    with Herd.connect(herd.name) as client:
        bob.dial(f"sip:1001@{alice.host}:{alice.port}")
        incoming = client["alice"].incoming(timeout=10)
        bob.wait_event("CALL_RINGING")
        incoming.answer()
        bob.wait_event("CALL_ESTABLISHED")
        herd.wait_event(phone="alice", kind="confirmed")
        incoming.hang_up()
        bob.wait_event("CALL_CLOSED")
    ended = herd.wait_event(phone="alice", kind="ended")
    assert (ended["cause"], ended["by"], ended["bye_answered"]) == ("hung_up", "local", True)


@pytest.mark.interop("Cancelled by the caller", "baresip")
def test_baresip_gives_up(start_herd: StartHerd, bob: Baresip) -> None:
    herd = start_herd([{"name": "alice"}])
    alice = herd.phone("alice")
    bob.dial(f"sip:alice@{alice.host}:{alice.port}")
    bob.wait_event("CALL_RINGING")
    bob.hang_up()
    ended = herd.wait_event(phone="alice", kind="ended")
    assert (ended["cause"], ended["by"]) == ("cancelled", "remote")


@pytest.mark.interop("Several calls at one phone", "baresip")
def test_three_calls_at_once(start_herd: StartHerd, bob: Baresip) -> None:
    """What is done with one of them leaves the others as they are."""
    herd = start_herd([{"name": "alice", "media": "none"}])
    with Herd.connect(herd.name) as client:
        calls = [client["alice"].call(bob.uri) for _ in range(3)]
        for call in calls:
            call.wait_answered(timeout=10)
        wait_for(lambda: bob.calls_up() == 3, "three calls at baresip")
        calls[1].hang_up(timeout=10)
        wait_for(lambda: bob.calls_up() == 2, "two calls at baresip")
        assert [event["call"] for event in herd.wait_events(1, kind="ended")] == [calls[1].id]
        for call in (calls[0], calls[2]):
            assert call.hang_up(timeout=10).bye_answered
        wait_for(lambda: bob.calls_up() == 0, "no call at baresip")


@pytest.mark.interop("Rejecting a call", "baresip")
def test_a_phone_rejects_baresip(start_herd: StartHerd, bob: Baresip) -> None:
    herd = start_herd([{"name": "alice", "on_incoming": {"reject": 603}}])
    alice = herd.phone("alice")
    bob.dial(f"sip:alice@{alice.host}:{alice.port}")
    assert "603" in bob.wait_event("CALL_CLOSED")["param"]


@pytest.mark.interop("Rejected call", "baresip")
def test_baresip_rejects(start_herd: StartHerd, start_baresip: StartBaresip) -> None:
    bob = start_baresip(answers=False)
    herd = start_herd([{"name": "alice"}])
    with Herd.connect(herd.name) as client:
        call = client["alice"].call(bob.uri)
        bob.wait_event("CALL_INCOMING")
        bob.hang_up()
        ended = call.wait_ended(timeout=10)
    assert (ended.cause, ended.by, ended.code) == ("rejected", "remote", 486)


@pytest.mark.interop("Cancel", "baresip")
def test_a_phone_gives_up(start_herd: StartHerd, start_baresip: StartBaresip) -> None:
    bob = start_baresip(answers=False)
    herd = start_herd([{"name": "alice"}])
    with Herd.connect(herd.name) as client:
        call = client["alice"].call(bob.uri)
        bob.wait_event("CALL_INCOMING")
        assert call.cancel(timeout=10).outcome == "cancelled"
        bob.wait_event("CALL_CLOSED")


@pytest.mark.interop("OPTIONS", "baresip")
def test_baresip_asks_options(start_herd: StartHerd, bob: Baresip) -> None:
    herd = start_herd([{"name": "alice"}])
    alice = herd.phone("alice")
    bob.ask_options(f"sip:alice@{alice.host}:{alice.port}")
    # It prints the response as it is.
    wait_for(
        lambda: re.search(r"^SIP/2\.0 200 OK\r?$.*^Allow: .*INVITE", bob.log(), re.M | re.S),
        "the phone's 200 in baresip's log",
    )


@pytest.mark.interop("Restart on the same port", "baresip")
@pytest.mark.parametrize("end", ["restarted", "killed"])
def test_the_first_call_after_a_restart(start_herd: StartHerd, bob: Baresip, end: str) -> None:
    """It is a new call to baresip, out and in: nothing of it repeats what the old process sent."""
    herd = start_herd([{"name": "alice", "on_incoming": {"answer_after": 0}}])
    alice = herd.phone("alice")
    with Herd.connect(herd.name) as client:

        def calls() -> None:
            over = len(herd.events(kind="ended"))
            call = client["alice"].call(bob.uri)
            call.wait_answered(timeout=10)
            bob.wait_event("CALL_ESTABLISHED")
            call.hang_up()
            bob.wait_event("CALL_CLOSED")
            bob.dial(f"sip:alice@{alice.host}:{alice.port}")
            bob.wait_event("CALL_ESTABLISHED")
            bob.hang_up()
            # What a process is killed with, the next one would end once more.
            herd.wait_events(over + 2, kind="ended")

        calls()
        if end == "killed":
            os.kill(herd.processes()[0], signal.SIGKILL)
            herd.wait_event(kind="phone_died")
        else:
            assert herd.command("restart", "alice").returncode == 0
        herd.wait_event(kind="phone_state", state="ready", incarnation=2)
        assert herd.phone("alice") == alice
        calls()
