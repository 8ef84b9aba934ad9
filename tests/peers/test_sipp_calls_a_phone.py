"""SIPp as caller, a phone as callee: what is on the wire, and what observers and clients learn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import pytest

from peers.herd import Event, HerdProcess
from peers.sipp import Sipp
from sipherd import Herd

StartSipp = Callable[..., Sipp]
StartHerd = Callable[..., HerdProcess]

ANSWERS = {"name": "bob", "media": "none", "on_incoming": {"answer_after": 0}}


def ends(herd: HerdProcess, phone: str = "bob") -> list[Event]:
    return herd.events(phone=phone, kind="ended")


def test_two_hundred_calls_of_sipps_own_uac(start_herd: StartHerd, start_sipp: StartSipp) -> None:
    herd = start_herd([{"name": "alice"}, ANSWERS])
    sipp = start_sipp("-sn uac", target=herd.phone("bob").target, calls=200, rate=20, timeout=40)
    sipp.passes(60)
    assert sipp.count("SuccessfulCall") == 200
    assert sipp.count("FailedCall") == 0
    # SIPp waits half a second, and a busy box is late now and then.  A phone that does not take the
    # first copy of one kind of message makes it 200.
    assert sipp.count("Retransmissions") < 100
    herd.wait_events(200, phone="bob", kind="ended")

    events = herd.events()
    assert [event["n"] for event in events] == list(range(1, len(events) + 1))
    assert [event["t"] for event in events] == sorted(event["t"] for event in events)
    calls: dict[str, list[str]] = defaultdict(list)
    for event in herd.events(phone="bob"):
        if "call" in event:
            calls[event["call"]].append(event["kind"])
    assert len(calls) == 200
    for call, kinds in calls.items():
        assert kinds == ["incoming", "answered", "confirmed", "ended"], f"{call}: {kinds}"
    assert {event["cause"] for event in ends(herd)} == {"hung_up"}
    assert {event["by"] for event in ends(herd)} == {"remote"}


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param("caller_calls", marks=pytest.mark.interop("Call in", "SIPp")),
        pytest.param("caller_offers_late", marks=pytest.mark.interop("Late offer", "SIPp")),
        pytest.param(
            "caller_asks_in_a_call",
            marks=pytest.mark.interop("INFO, MESSAGE, OPTIONS, NOTIFY answered in a call", "SIPp"),
        ),
        pytest.param("caller_asks_options", marks=pytest.mark.interop("OPTIONS", "SIPp")),
        "caller_sends_unknown_method",
        "caller_requires_unknown_extension",
        "caller_byes_without_dialog",
        "caller_cancels_nothing",
    ],
)
def test_scenario(start_herd: StartHerd, start_sipp: StartSipp, scenario: str) -> None:
    herd = start_herd([ANSWERS])
    sipp = start_sipp(scenario, target=herd.phone("bob").target)
    sipp.passes()
    if scenario in ("caller_calls", "caller_offers_late", "caller_asks_in_a_call"):
        ended = herd.wait_event(phone="bob", kind="ended")
        assert (ended["cause"], ended["by"]) == ("hung_up", "remote")
    else:
        assert not herd.events(phone="bob", kind="incoming")


def test_the_phone_hangs_up(start_herd: StartHerd, start_sipp: StartSipp) -> None:
    herd = start_herd([ANSWERS | {"on_incoming": {"answer_after": 0, "hang_up_after": 0.3}}])
    start_sipp("caller_is_hung_up_on", target=herd.phone("bob").target).passes()
    ended = herd.wait_event(phone="bob", kind="ended")
    assert (ended["cause"], ended["by"], ended["bye_answered"]) == ("hung_up", "local", True)


def test_copies_of_an_invite_are_one_call(start_herd: StartHerd, start_sipp: StartSipp) -> None:
    herd = start_herd([ANSWERS | {"on_incoming": {"answer_after": 0.5}}])
    start_sipp("caller_repeats_invite", target=herd.phone("bob").target).passes()
    herd.wait_event(phone="bob", kind="ended")
    assert len(herd.events(phone="bob", kind="incoming")) == 1


@pytest.mark.interop("Rejecting a call", "SIPp")
def test_a_phone_that_rejects(start_herd: StartHerd, start_sipp: StartSipp) -> None:
    herd = start_herd([{"name": "bob", "on_incoming": {"reject": 486}}])
    sipp = start_sipp("caller_gets_486", target=herd.phone("bob").target)
    sipp.passes()
    assert sipp.count("Retransmissions") == 0
    ended = herd.wait_event(phone="bob", kind="ended")
    assert (ended["cause"], ended["by"], ended["code"]) == ("rejected", "local", 486)


def test_a_phone_nobody_answers(start_herd: StartHerd, start_sipp: StartSipp) -> None:
    herd = start_herd([{"name": "bob", "on_incoming": {"ring": True}, "ring_timeout": 1}])
    start_sipp("caller_gets_480", target=herd.phone("bob").target).passes()
    ended = herd.wait_event(phone="bob", kind="ended")
    assert (ended["cause"], ended["code"]) == ("no_answer", 480)


@pytest.mark.parametrize(
    ("scenario", "cause"),
    [
        pytest.param(
            "caller_cancels",
            "cancelled",
            marks=pytest.mark.interop("Cancelled by the caller", "SIPp"),
        ),
        pytest.param(
            "caller_was_answered_elsewhere",
            "answered_elsewhere",
            marks=pytest.mark.interop("Answered elsewhere", "SIPp"),
        ),
    ],
)
def test_a_cancelled_call_can_not_be_answered(
    start_herd: StartHerd, start_sipp: StartSipp, scenario: str, cause: str
) -> None:
    """The client has the call in its hands when the CANCEL comes: it is told, and too late."""
    herd = start_herd([{"name": "bob"}])
    with Herd.connect(herd.name) as client:
        sipp = start_sipp(scenario, target=herd.phone("bob").target)
        incoming = client["bob"].incoming(timeout=5)
        sipp.passes()
        ended = incoming.wait_ended(timeout=5)
        assert ended.cause == cause
        with pytest.raises(Exception, match="cancel"):
            incoming.answer()


def test_a_call_cancelled_while_it_waits_is_not_handed_out(
    start_herd: StartHerd, start_sipp: StartSipp
) -> None:
    herd = start_herd([{"name": "bob"}])
    start_sipp("caller_cancels", target=herd.phone("bob").target).passes()
    herd.wait_event(phone="bob", kind="ended", cause="cancelled")
    with Herd.connect(herd.name) as client, pytest.raises(TimeoutError):
        client["bob"].incoming(timeout=0.3)


def test_the_fifth_waiting_call_is_busy(start_herd: StartHerd, start_sipp: StartSipp) -> None:
    """Four wait for a client; the fifth gets 486, and stopping the phone gives the four 480."""
    herd = start_herd([{"name": "bob", "media": "none"}])
    bob = herd.phone("bob")
    four = start_sipp("caller_gets_480", target=bob.target, calls=4)
    herd.wait_events(4, phone="bob", kind="incoming")
    start_sipp("caller_gets_486", target=bob.target).passes()
    overflow = herd.wait_event(phone="bob", kind="overflow")
    assert overflow["waiting"] == 4
    ended = herd.wait_event(phone="bob", kind="ended", call=overflow["call"])
    assert (ended["cause"], ended["code"]) == ("overflow", 486)

    stopped = herd.command("stop", "bob")
    assert stopped.returncode == 0, stopped.stderr
    four.passes()
    assert sorted(event["cause"] for event in ends(herd)) == ["overflow"] + 4 * ["stopped"]


def test_a_busy_phone(start_herd: StartHerd, start_sipp: StartSipp) -> None:
    """`max_calls` counts calls that are up; above it 486."""
    herd = start_herd([ANSWERS | {"max_calls": 1}])
    bob = herd.phone("bob")
    first = start_sipp("caller_is_hung_up_on", target=bob.target)
    up = herd.wait_event(phone="bob", kind="confirmed")
    start_sipp("caller_gets_486", target=bob.target).passes()
    assert herd.command("hangup", up["call"]).returncode == 0
    first.passes()
    turned_away = herd.wait_event(phone="bob", kind="turned_away")
    assert (turned_away["cause"], turned_away["code"]) == ("busy", 486)
    assert herd.wait_event(phone="bob", kind="ended")["cause"] == "hung_up"
