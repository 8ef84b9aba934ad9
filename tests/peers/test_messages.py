"""The messages of a call, told by the phone that placed it, and what a record makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from peers.herd import HerdProcess
from peers.kamailio import Kamailio
from peers.relay import Datagram, Relay
from peers.sipp import loopback_address
from sipherd.load.facts import Facts, gather
from sipherd.protocol.events import Answered, CallEnded, Confirmed, Event, Progress, SipMessage
from sipherd.protocol.messages import (
    CallInfo,
    CancelCall,
    CancelReport,
    HangUpCall,
    HoldCall,
    PlaceCall,
    RetrieveCall,
)
from sipherd.session import Session

StartHerd = Callable[..., HerdProcess]
StartKamailio = Callable[..., Kamailio]

PORT = 5060


def brief(message: SipMessage) -> str:
    """``>INVITE`` is sent, ``<180 INVITE`` received; ``*`` at the end is a copy."""
    code = f"{message.code} " if message.code else ""
    return f"{'>' if message.sent else '<'}{code}{message.method}{'*' if message.again else ''}"


class Calling:
    """A call with its messages, and what both of its phones have told."""

    def __init__(self, session: Session, caller: str, target: str) -> None:
        self.session = session
        session.subscribe()
        self.call = session.request(
            PlaceCall(phone=caller, target=target, messages=True), CallInfo
        ).call
        self.events: list[Event] = []

    def until(self, kind: type, *, of_caller: bool = True) -> Event:
        """The first event of this kind, of the call or of its other leg, so far or to come."""
        while True:
            for event in self.legs(of_caller=of_caller):
                if isinstance(event.body, kind):
                    return event
            entry = self.session.next_event(timeout=40)
            assert isinstance(entry, Event)
            self.events.append(entry)

    def legs(self, *, of_caller: bool) -> list[Event]:
        """What one of both legs has told so far."""
        of_calls = [(event, getattr(event.body, "call", "")) for event in self.events]
        return [event for event, call in of_calls if call and (call == self.call) is of_caller]

    def facts(self) -> Facts:
        return gather(self.legs(of_caller=True), self.legs(of_caller=False))

    def told(self) -> list[str]:
        """The messages in their order; of what came twice, the first time."""
        body = self.until(CallEnded).body
        assert isinstance(body, CallEnded)
        times = [message.t for message in body.messages]
        assert times == sorted(times)
        return list(dict.fromkeys(map(brief, body.messages)))


def answering(**more: Any) -> dict[str, Any]:
    return {"name": "bob", "media": "none", "on_incoming": {"answer_after": 0}} | more


def registering(kamailio: Kamailio, number: str, **more: Any) -> dict[str, Any]:
    """A phone of the proxy."""
    register = {"server": kamailio.hostport, "password": kamailio.password(number)}
    return (
        {"name": f"phone-{number}", "number": number, "media": "none"}
        | more
        | {"register": register}
    )


def test_between_two_phones(start_herd: StartHerd) -> None:
    herd = start_herd([{"name": "alice", "media": "none"}, answering()])
    with Session(herd.name, None) as session:
        calling = Calling(session, "alice", "bob")
        calling.until(Answered)
        calling.until(Confirmed, of_caller=False)
        session.request(HoldCall(call=calling.call), CallInfo)
        session.request(RetrieveCall(call=calling.call), CallInfo)
        session.request(HangUpCall(call=calling.call), CallInfo)
        ended = calling.until(CallEnded).body
        assert isinstance(ended, CallEnded)
        first_time = [brief(message) for message in ended.messages if not message.again]
        reinvited = [">INVITE", "<200 INVITE", ">ACK"]
        assert first_time == [
            *(">INVITE", "<180 INVITE", "<200 INVITE", ">ACK"),
            *reinvited,
            *reinvited,
            *(">BYE", "<200 BYE"),
        ]
        facts = calling.facts()
        assert [code for code, _ in facts.responses] == [180, 200]
        assert facts.bye_sent is not None
        assert facts.bye_answered is not None
        assert facts.bye_sent < facts.bye_answered == facts.ended


def test_of_a_callee_that_hangs_up(start_herd: StartHerd) -> None:
    """When its BYE left is told by the callee, and what it answered by the caller."""
    bob = answering(on_incoming={"answer_after": 0, "hang_up_after": 0.1})
    herd = start_herd([{"name": "alice", "media": "none"}, bob])
    with Session(herd.name, None) as session:
        calling = Calling(session, "alice", "bob")
        assert calling.told()[-2:] == ["<BYE", ">200 BYE"]
        calling.until(CallEnded, of_caller=False)
        facts = calling.facts()
        (received,) = (m.t for m in facts.messages if brief(m) == "<BYE")
        (replied,) = (m.t for m in facts.messages if brief(m) == ">200 BYE")
        assert facts.bye_sent is not None
        assert facts.bye_answered is not None
        assert facts.bye_sent < received <= replied < facts.bye_answered
        assert facts.bye_code == 200


def test_with_a_challenge(start_kamailio: StartKamailio, start_herd: StartHerd) -> None:
    kamailio = start_kamailio()
    # Not at once: Kamailio has several processes, and the 200 might overtake the 180.
    callee = registering(kamailio, "1002", on_incoming={"answer_after": 0.3})
    herd = start_herd([registering(kamailio, "1001"), callee])
    herd.wait_events(2, kind="registered")
    with Session(herd.name, None) as session:
        calling = Calling(session, "phone-1001", "1002")
        calling.until(Confirmed, of_caller=False)
        session.request(HangUpCall(call=calling.call), CallInfo)
        ended = calling.until(CallEnded).body
        assert isinstance(ended, CallEnded)
        assert [brief(message) for message in ended.messages if not message.again] == [
            *(">INVITE", "<407 INVITE", ">ACK"),
            *(">INVITE", "<100 INVITE", "<180 INVITE", "<200 INVITE", ">ACK"),
            *(">BYE", "<200 BYE"),  # with what the challenge before it said
        ]
        facts = calling.facts()
        assert [code for code, _ in facts.responses] == [407, 100, 180, 200]
        assert (facts.bye_code, facts.final_code) == (200, 200)


def test_of_a_call_that_is_cancelled(start_kamailio: StartKamailio, start_herd: StartHerd) -> None:
    kamailio = start_kamailio()
    herd = start_herd([registering(kamailio, "1001"), registering(kamailio, "1002")])
    herd.wait_events(2, kind="registered")
    with Session(herd.name, None) as session:
        calling = Calling(session, "phone-1001", "1002")
        calling.until(Progress)
        session.request(CancelCall(call=calling.call), CancelReport)
        *told, last = calling.told()
        assert told[:6] == [
            *(">INVITE", "<407 INVITE", ">ACK"),
            *("<100 INVITE", "<180 INVITE", ">CANCEL"),
        ]
        # Different processes of Kamailio send them: the 487, which ends the leg, may come first.
        assert told[6:] in (["<200 CANCEL"], [])
        assert last == "<487 INVITE"
        assert calling.facts().final_code == 487


@pytest.mark.slow
def test_over_a_link_that_loses_the_first_of_each(start_herd: StartHerd) -> None:
    """INVITE, 200, ACK and BYE: all but the last copy of each is marked as one."""
    losses = [b"INVITE ", b"SIP/2.0 200 ", b"ACK ", b"BYE "]

    def lose(datagram: Datagram) -> bool:
        found = next((start for start in losses if datagram.data.startswith(start)), None)
        if found is not None:
            losses.remove(found)
        return found is not None

    with Relay(loopback_address(), loopback_address(), [PORT], drop=lose) as relay:
        alice = {"name": "alice", "address": relay.behind_left, "advertise": relay.left}
        bob = answering(address=relay.behind_right, advertise=relay.right, port=PORT)
        herd = start_herd([alice | {"port": PORT, "media": "none"}, bob])
        with Session(herd.name, None) as session:
            calling = Calling(session, "alice", f"sip:bob@{relay.right}:{PORT}")
            calling.until(Confirmed, of_caller=False)
            session.request(HangUpCall(call=calling.call), CallInfo)
            assert calling.told() == [
                *(">INVITE", ">INVITE*", "<180 INVITE"),
                *("<200 INVITE", ">ACK", "<200 INVITE*", ">ACK*"),
                *(">BYE", ">BYE*", "<200 BYE"),
            ]
            facts = calling.facts()
            assert facts.retransmissions >= 2
            assert facts.responses[0][1] == pytest.approx(0.5, abs=0.4)
