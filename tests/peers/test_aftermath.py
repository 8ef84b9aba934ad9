"""A phone that is killed at each point of a call, with SIPp at the far end: it checks the headers.

What must happen then is told by the scenario files: tags, Route, branches, and CSeq numbers that
are higher than the last.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from peers.herd import Event, HerdProcess
from peers.kamailio import Kamailio
from peers.sipp import Sipp, wait_for
from sipherd import Call, Herd, TimedOut

pytestmark = pytest.mark.slow

StartSipp = Callable[..., Sipp]
StartHerd = Callable[..., HerdProcess]
StartKamailio = Callable[..., Kamailio]

SOON = 10.0
"""Seconds in which a row of the table must have happened on a busy box; a second is aimed at."""
ALICE: dict[str, Any] = {"name": "alice", "media": "none", "dtmf": "info"}
BOB: dict[str, Any] = {"name": "bob", "media": "none", "on_incoming": {"answer_after": 0.3}}
OTHERS: list[dict[str, Any]] = [
    {"name": "carol", "media": "none"},
    {"name": "dave", "media": "none", "on_incoming": {"answer_after": 0}},
]


@contextmanager
def beside_a_call(start_herd: StartHerd, phone: dict[str, Any]) -> Iterator[HerdProcess]:
    """A herd with that phone, and a call of two others that must go on."""
    herd = start_herd([phone, *OTHERS])
    with Herd.connect(herd.name) as client:
        call = client["carol"].call("dave")
        call.wait_answered(timeout=SOON)
        yield herd
        assert not herd.events(phone="carol", kind="ended")
        assert not herd.events(phone="dave", kind="ended")
        assert len(herd.events(kind="phone_died")) == 1
        call.hang_up()
        herd.wait_event(phone="dave", kind="ended", cause="hung_up")


def kill(herd: HerdProcess, name: str) -> float:
    """SIGKILL to the phone's process; returns the time of day."""
    pid = herd.events(phone=name, kind="phone_state", state="ready")[-1]["pid"]
    os.kill(pid, signal.SIGKILL)
    return time.time()


def seconds_to(event: Event, killed: float) -> float:
    at: float = event["at"]
    return at - killed


def tell(what: str, event: Event, killed: float) -> None:
    """How long it took, for whoever reads the output of the test."""
    seconds = seconds_to(event, killed)
    print(f"{what}: {1000 * seconds:.0f} ms after SIGKILL")
    assert seconds < SOON


# Killed as callee: SIPp calls.


@pytest.mark.parametrize(
    ("scenario", "after", "how"),
    [
        ("caller_acks_late", "answered", "bye"),
        ("caller_is_hung_up_on", "confirmed", "bye"),
        ("caller_holds_and_is_left", "held", "bye"),
        ("caller_presses_a_key_and_is_left", "dtmf", "bye"),
    ],
)
def test_a_callee_is_killed(
    start_herd: StartHerd, start_sipp: StartSipp, scenario: str, after: str, how: str
) -> None:
    with beside_a_call(start_herd, BOB) as herd:
        sipp = start_sipp(scenario, target=herd.phone("bob").target)
        herd.wait_event(phone="bob", kind=after)
        killed = kill(herd, "bob")
        sipp.passes()
        cleaned = herd.wait_event(phone="bob", kind="cleaned_up")
        assert cleaned["how"] == how
        tell(scenario, cleaned, killed)
        (ended,) = herd.events(phone="bob", kind="ended")
        assert ended["cause"] == "phone_crashed"


def test_a_callee_is_killed_while_it_rings(start_herd: StartHerd, start_sipp: StartSipp) -> None:
    """The next process goes on with the call: the same To tag in 180 and 200."""
    with beside_a_call(start_herd, BOB) as herd:
        sipp = start_sipp("caller_calls", target=herd.phone("bob").target)
        first = herd.wait_event(phone="bob", kind="incoming")
        killed = kill(herd, "bob")
        _, again = herd.wait_events(2, phone="bob", kind="incoming")
        assert again["sip_call_id"] == first["sip_call_id"]
        tell("caller_calls", again, killed)
        sipp.passes()
        herd.wait_event(phone="bob", kind="ended", cause="hung_up")
        assert not herd.events(phone="bob", kind="cleaned_up")


def test_a_callee_is_killed_for_good_while_it_rings(
    start_herd: StartHerd, start_sipp: StartSipp
) -> None:
    """A last process ends the call before the phone is parked."""
    phone = BOB | {"on_incoming": {"ring": True}, "restart": "temporary"}
    with beside_a_call(start_herd, phone) as herd:
        sipp = start_sipp("caller_gets_480", target=herd.phone("bob").target)
        herd.wait_event(phone="bob", kind="incoming")
        wait_for(lambda: sipp.received("180"), "the 180")
        killed = kill(herd, "bob")
        cleaned = herd.wait_event(phone="bob", kind="cleaned_up")
        assert cleaned["how"] == "refused"
        tell("caller_gets_480", cleaned, killed)
        sipp.passes()


def test_a_callee_is_killed_before_it_reads_the_invite(
    start_herd: StartHerd, start_sipp: StartSipp
) -> None:
    with beside_a_call(start_herd, BOB) as herd:
        pid = herd.events(phone="bob", kind="phone_state", state="ready")[-1]["pid"]
        os.kill(pid, signal.SIGSTOP)
        sipp = start_sipp("caller_calls", target=herd.phone("bob").target)
        wait_for(lambda: [m for m in sipp.messages() if m.start == "INVITE"], "the INVITE")
        killed = kill(herd, "bob")
        tell("caller_calls", herd.wait_event(phone="bob", kind="incoming"), killed)
        sipp.passes()


# Killed as caller: a phone calls SIPp.


def until_ringing(call: Call, herd: HerdProcess, sipp: Sipp) -> None:
    herd.wait_event(phone="alice", kind="progress", code=180)


def until_sent(call: Call, herd: HerdProcess, sipp: Sipp) -> None:
    wait_for(lambda: sipp.received("INVITE"), "the INVITE")


def until_answered(call: Call, herd: HerdProcess, sipp: Sipp) -> None:
    call.wait_answered(timeout=SOON)
    wait_for(lambda: sipp.received("ACK"), "the ACK")


def until_held(call: Call, herd: HerdProcess, sipp: Sipp) -> None:
    until_answered(call, herd, sipp)
    call.hold()
    wait_for(lambda: len(sipp.received("ACK")) == 2, "the second ACK")


def until_keys_are_sent(call: Call, herd: HerdProcess, sipp: Sipp) -> None:
    until_answered(call, herd, sipp)
    call.send_dtmf("1#")


def until_hung_up(call: Call, herd: HerdProcess, sipp: Sipp) -> None:
    until_answered(call, herd, sipp)
    with suppress(TimedOut):
        call.hang_up(timeout=0.1)
    wait_for(lambda: sipp.received("BYE"), "the BYE")


@pytest.mark.parametrize(
    ("scenario", "until", "how"),
    [
        ("callee_waits_before_ringing", until_sent, "cancel"),
        ("callee_rings_until_cancel", until_ringing, "cancel"),
        ("callee_answers_despite_cancel", until_ringing, "bye"),
        ("callee_answers", until_answered, "bye"),
        ("callee_behind_proxies", until_answered, "bye"),
        ("callee_is_held_and_left", until_held, "bye"),
        ("callee_gets_keys", until_keys_are_sent, "bye"),
        ("callee_gets_two_byes", until_hung_up, "bye"),
    ],
)
def test_a_caller_is_killed(
    start_herd: StartHerd,
    start_sipp: StartSipp,
    scenario: str,
    until: Callable[[Call, HerdProcess, Sipp], None],
    how: str,
) -> None:
    sipp = start_sipp(scenario)
    with beside_a_call(start_herd, ALICE) as herd, Herd.connect(herd.name) as client:
        call = client["alice"].call(sipp.uri)
        until(call, herd, sipp)
        killed = kill(herd, "alice")
        sipp.passes()
        cleaned = herd.wait_event(phone="alice", kind="cleaned_up")
        assert cleaned["how"] == how
        tell(scenario, cleaned, killed)
        assert herd.wait_event(phone="alice", kind="ended")["cause"] == "phone_crashed"


# With a proxy in between: Kamailio answers 404 to what does not take its route.


@pytest.mark.parametrize("killed", ["phone-1001", "phone-1002"])
def test_along_the_route_of_a_proxy_that_challenges(
    start_kamailio: StartKamailio, start_herd: StartHerd, killed: str
) -> None:
    kamailio = start_kamailio(challenge_all=True)
    numbers = ("1001", "1002")
    herd = start_herd(
        [
            {
                "name": f"phone-{number}",
                "number": number,
                "media": "none",
                "on_incoming": {"answer_after": 0},
                "register": {"server": kamailio.hostport, "password": kamailio.password(number)},
            }
            for number in numbers
        ]
    )
    herd.wait_events(2, kind="registered")
    with Herd.connect(herd.name) as client:
        client["phone-1001"].call("1002").wait_answered(timeout=SOON)
        herd.wait_event(phone="phone-1002", kind="confirmed")
        at = kill(herd, killed)
        (other,) = {"phone-1001", "phone-1002"} - {killed}
        ended = herd.wait_event(phone=other, kind="ended")
        assert (ended["cause"], ended["by"]) == ("hung_up", "remote")
        cleaned = herd.wait_event(phone=killed, kind="cleaned_up")
        assert cleaned["how"] == "bye"
        tell("a challenged BYE", cleaned, at)
    # One without credentials, and one with.
    byes = kamailio.requests("BYE")
    assert len(byes) == 2
    assert all(bye.route != "<null>" for bye in byes)
