"""Calls over a link that loses every fifth datagram, each way: the timers of RFC 3261 at work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from peers.baresip import Baresip
from peers.herd import HerdProcess
from peers.kamailio import Kamailio
from peers.relay import Relay
from peers.sipp import loopback_address
from sipherd import Herd

StartHerd = Callable[..., HerdProcess]
StartBaresip = Callable[..., Baresip]
StartKamailio = Callable[..., Kamailio]

PORT = 5060


@pytest.mark.interop("20 % packet loss each way", "phone to phone")
@pytest.mark.interop("Several calls at one phone", "phone to phone")
@pytest.mark.slow
def test_every_call_is_set_up_and_torn_down(start_herd: StartHerd) -> None:
    """Two hundred of two hundred, all at the same time."""
    calls = 200
    with Relay(loopback_address(), loopback_address(), [PORT], loss=0.2, seed=3261) as relay:
        alice = {"name": "alice", "address": relay.behind_left, "advertise": relay.left}
        bob = {"name": "bob", "address": relay.behind_right, "advertise": relay.right}
        bob["on_incoming"] = {"answer_after": 0}
        herd = start_herd([phone | {"port": PORT, "media": "none"} for phone in (alice, bob)])
        with Herd.connect(herd.name) as client, ThreadPoolExecutor(calls) as pool:
            placed = [client["alice"].call(f"sip:bob@{relay.right}:{PORT}") for _ in range(calls)]
            for call in placed:
                call.wait_answered(timeout=64)
            ended = list(pool.map(lambda call: call.hang_up(timeout=64), placed))
            assert Counter((call.cause, call.bye_answered) for call in ended) == {
                ("hung_up", True): calls
            }
        events = herd.wait_events(calls, phone="bob", kind="ended", timeout=64)
        assert Counter((event["cause"], event["by"]) for event in events) == {
            ("hung_up", "remote"): calls
        }
        for side in ("left", "right"):
            lost, passed = relay.lost[side], relay.passed[side]
            # Each call sends at least three messages either way.
            assert lost + passed >= 3 * calls
            assert 0.1 < lost / (lost + passed) < 0.3


@pytest.mark.slow
@pytest.mark.interop("20 % packet loss each way", "baresip")
def test_baresip_sets_up_every_call_and_tears_it_down(
    start_herd: StartHerd, start_baresip: StartBaresip
) -> None:
    baresip = start_baresip()
    with Relay(baresip.address, loopback_address(), [PORT], loss=0.2, seed=3261) as relay:
        bob = {"name": "bob", "address": relay.behind_right, "advertise": relay.right}
        herd = start_herd([bob | {"port": PORT, "on_incoming": {"answer_after": 0}}])
        for count in range(1, 11):
            baresip.dial(f"sip:bob@{relay.right}:{PORT}")
            baresip.wait_event("CALL_ESTABLISHED", timeout=32)
            herd.wait_events(count, phone="bob", kind="confirmed", timeout=32)
            baresip.hang_up()
            herd.wait_events(count, phone="bob", kind="ended", timeout=32)
        assert {event["cause"] for event in herd.events(phone="bob", kind="ended")} == {"hung_up"}
        assert relay.lost["left"]
        assert relay.lost["right"]


@pytest.mark.slow
@pytest.mark.interop("20 % packet loss each way", "Kamailio")
@pytest.mark.interop("Several calls at one phone", "Kamailio")
def test_every_call_through_a_proxy_is_set_up_and_torn_down(
    start_herd: StartHerd, start_kamailio: StartKamailio
) -> None:
    """The link is that between the caller and the proxy: REGISTER and digest go over it, too."""
    calls = 50
    with Relay(loopback_address(), loopback_address(), [PORT], loss=0.2, seed=3261) as relay:
        kamailio = start_kamailio(address=relay.behind_right, port=PORT, advertise=relay.right)
        alice = {"name": "alice", "number": "1001", "port": PORT, "media": "none"}
        alice |= {"address": relay.behind_left, "advertise": relay.left}
        alice["register"] = {"server": relay.right, "password": kamailio.password("1001")}
        bob = {"name": "bob", "number": "1002", "media": "none"}
        bob["on_incoming"] = {"answer_after": 0}
        bob["register"] = {"server": kamailio.hostport, "password": kamailio.password("1002")}
        herd = start_herd([alice, bob])
        herd.wait_events(2, kind="registered", timeout=32)
        with Herd.connect(herd.name) as client, ThreadPoolExecutor(calls) as pool:
            placed = [client["alice"].call(f"sip:1002@{relay.right}") for _ in range(calls)]
            for call in placed:
                call.wait_answered(timeout=64)
            ended = list(pool.map(lambda call: call.hang_up(timeout=64), placed))
        assert Counter((call.cause, call.bye_answered) for call in ended) == {
            ("hung_up", True): calls
        }
        events = herd.wait_events(calls, phone="bob", kind="ended", timeout=64)
        assert Counter(event["cause"] for event in events) == {"hung_up": calls}
        herd.command("stop", "alice")
        assert kamailio.contacts("1001") == []
