"""What a phone does with commands, datagrams and time."""

from __future__ import annotations

from typing import Any, cast

import pytest
from desks import B_, NOBODY, A, Desk, Wire

from sipherd.protocol.events import (
    Answered,
    CallEnded,
    CallPlaced,
    CancelResolved,
    Confirmed,
    IncomingCall,
    Registered,
    RegistrationFailed,
    RtpPairSkipped,
    SipTrace,
    Unregistered,
)
from sipherd.protocol.messages import (
    AnswerCall,
    AskToRegister,
    CancelCall,
    CancelReport,
    Counters,
    Done,
    Drain,
    Drained,
    Exit,
    HangUpCall,
    Happened,
    LogLine,
    PlaceCall,
    Ready,
    RefuseCalls,
    Refused,
    RefusesCalls,
    RegisterNow,
    RegisterPhone,
    RejectCall,
    UnregisterPhone,
    Welcome,
)
from sipherd.protocol.spec import PhoneSpec
from sipherd.worker.sip.message import Message, parse
from sipherd.worker.stack import Address, Hop


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def alice(wire: Wire) -> Desk:
    return Desk(wire, A)


def answering(wire: Wire, **more: Any) -> Desk:
    return Desk(wire, B_, on_incoming={"answer_after": 0} | more)


def test_a_phone_that_only_cleans_up_is_drained_from_the_start(wire: Wire) -> None:
    desk = Desk(wire, A, purpose="clean_up", register={"server": "192.0.2.9"})
    assert [type(body) for body, _ in desk.told][:2] == [Ready, Drained]
    assert AskToRegister() not in [body for body, _ in desk.told]


# Making calls


def test_ready_comes_first(alice: Desk) -> None:
    assert [body for body, _ in alice.told] == [Ready()]


def test_a_call(wire: Wire, alice: Desk) -> None:
    bob = answering(wire)
    id = alice.start(PlaceCall(phone="p", target=bob.uri, call="c1", dialled="bob"))
    placed, done = [body for body, _ in alice.told][1:]
    assert placed.t == wire.now
    assert isinstance(placed.body, CallPlaced)
    assert placed.body.target == "bob"
    assert placed.body.request_uri == bob.uri
    assert placed.body.next_hop == B_
    assert f"Call-ID: {placed.body.sip_call_id}\r\n".encode() in wire.flying[0][0]
    assert (done, alice.reply(id)) == (Done(), Done())
    wire.settle()
    assert alice.kinds() == ["CallPlaced", "Progress", "Answered"]
    assert bob.kinds() == ["IncomingCall", "Answered", "Confirmed"]
    assert alice.heard(Answered)[0].remote_media == ("192.0.2.2", 4000)
    assert alice.run(HangUpCall(call="c1")) == Done()
    assert alice.ended().bye_answered is True
    assert bob.ended().by == "remote"
    assert len(alice.ports.free) == len(bob.ports.free) == 10


def test_what_outlives_the_process_is_written_before_the_message_leaves(wire: Wire) -> None:
    bob = Desk(wire, B_, on_incoming={"answer_after": 0})
    alice = Desk(wire, A)
    written: list[int] = []
    transmit = alice.phone._transmit

    def count(data: bytes, hop: Hop) -> bool:
        written.append(len(alice.journal.records))
        return transmit(data, hop)

    alice.phone._transmit = count
    alice.call(bob.uri)
    assert set(written) == {1}
    assert len(bob.journal.records) == 1
    alice.run(HangUpCall(call="c1"))
    assert (alice.journal.records, bob.journal.records) == ({}, {})


def test_a_journal_that_is_full_costs_no_call(wire: Wire) -> None:
    bob = Desk(wire, B_, on_incoming={"answer_after": 0})
    alice = Desk(wire, A)
    alice.journal.full = bob.journal.full = True
    alice.call(bob.uri)
    assert alice.heard(Answered)
    alice.run(HangUpCall(call="c1"))
    assert alice.heard(CallEnded)[0].bye_answered is True
    assert alice.counts["journal_failed"] == 5
    assert bob.counts["journal_failed"] == 3


def test_the_message_of_a_placed_call_precedes_its_end(wire: Wire, alice: Desk) -> None:
    """Sending says at once that nobody is there."""
    alice.unreachable.add(B_)
    assert alice.call("sip:x@192.0.2.2:5062") == Done()
    assert alice.kinds() == ["CallPlaced", "CallEnded"]
    assert alice.ended().cause == "unreachable"
    assert len(alice.ports.free) == 10


def test_icmp(wire: Wire, alice: Desk) -> None:
    alice.call(NOBODY)
    alice.phone.unreachable(wire.passed[0], Hop("192.0.2.99", 5060), wire.now)
    assert alice.ended().cause == "unreachable"


@pytest.mark.parametrize(
    "target",
    ["nonsense", "sip:x@192.0.2.2;transport=tls", "sips:x@192.0.2.2", "sip:x@[2001:db8:1]"],
)
def test_a_target_that_cannot_be_called(alice: Desk, target: str) -> None:
    assert alice.call(target).reason == "bad_uri"
    assert alice.events() == []
    assert len(alice.ports.free) == 10


def test_maddr_is_where_it_is_sent_to(wire: Wire, alice: Desk) -> None:
    bob = answering(wire)
    alice.call("sip:bob@example.com:5062;maddr=192.0.2.2")
    assert bob.heard(Answered)


def test_the_same_command_twice_is_one_call(wire: Wire, alice: Desk) -> None:
    command = PlaceCall(phone="p", target=NOBODY, call="c1")
    alice.start(command, 7)
    told = len(alice.told)
    alice.start(command, 7)
    assert alice.told[told:] == [(Done(), 7)]
    assert len(wire.flying) == 1


def test_a_call_id_twice(alice: Desk) -> None:
    alice.call(NOBODY)
    assert alice.call(NOBODY).reason == "duplicate_call"
    assert alice.call("sip:x@name.example").reason == "duplicate_call"


def test_no_port_left_for_an_outgoing_call(wire: Wire) -> None:
    alice = Desk(wire, A, pairs=1)
    alice.call(NOBODY)
    assert alice.call(NOBODY, "c2").reason == "no_media"
    assert alice.counts["rtp_exhausted"] == 1
    assert alice.kinds() == ["CallPlaced"]


# Host names


def test_a_name_is_looked_up(wire: Wire, alice: Desk) -> None:
    bob = answering(wire)
    assert alice.call("sip:x@bob.example:5062") is None
    (hop, resolved) = alice.lookups[0]
    assert hop == Hop("bob.example", 5062)
    alice.names["bob.example"] = "192.0.2.2"
    alice.phone.collect(lambda: resolved([B_], ""), wire.now)
    assert alice.reply(1) == Done()
    wire.settle()
    assert bob.heard(Confirmed)
    assert alice.heard(CallPlaced)[0].next_hop == B_
    assert alice.heard(CallPlaced)[0].request_uri == "sip:x@bob.example:5062"


def test_a_name_that_does_not_resolve(wire: Wire, alice: Desk) -> None:
    alice.call("sip:x@bob.example")
    alice.phone.collect(lambda: alice.lookups[0][1]([], "Name or service not known"), wire.now)
    refused = alice.reply(1)
    assert refused.reason == "unresolved"
    assert refused.message == 'host "bob.example" does not resolve: Name or service not known'
    assert alice.events() == []


def test_hung_up_while_its_name_is_looked_up(wire: Wire, alice: Desk) -> None:
    alice.call("sip:x@bob.example")
    assert alice.run(HangUpCall(call="c1")) == Done()
    assert alice.reply(1).reason == "cancelled"
    alice.phone.collect(lambda: alice.lookups[0][1]([B_], ""), wire.now)
    assert alice.events() == []


def test_cancelled_while_its_name_is_looked_up(wire: Wire, alice: Desk) -> None:
    alice.call("sip:x@bob.example")
    report = CancelReport(call="c1", outcome="cancelled")
    assert alice.run(CancelCall(call="c1")) == Done(result=report)
    assert alice.reply(1).reason == "cancelled"


def test_stopped_while_its_name_is_looked_up(alice: Desk) -> None:
    alice.call("sip:x@bob.example")
    alice.start(Drain(), 0)
    assert alice.reply(1).reason == "draining"
    assert alice.heard(Drained)


# Cancel


def test_cancel_is_done_when_its_outcome_is_known(wire: Wire, alice: Desk) -> None:
    bob = Desk(wire, B_)
    alice.call(bob.uri)
    id = alice.start(CancelCall(call="c1"))
    assert alice.reply(id) is None
    wire.settle()
    assert alice.reply(id) == Done(result=CancelReport(call="c1", outcome="cancelled", code=487))
    bodies = [body.body if isinstance(body, Happened) else body for body, _ in alice.told]
    kinds = [type(body).__name__ for body in bodies]
    assert kinds[-3:] == ["CancelResolved", "Done", "CallEnded"]
    assert alice.ended().cause == bob.ended().cause == "cancelled"


def test_cancel_of_an_answered_call(wire: Wire, alice: Desk) -> None:
    bob = answering(wire)
    alice.call(bob.uri)
    report = CancelReport(call="c1", outcome="already_answered")
    assert alice.run(CancelCall(call="c1")) == Done(result=report)
    assert not alice.heard(CallEnded)


def test_all_who_cancel_learn_the_one_outcome(wire: Wire, alice: Desk) -> None:
    Desk(wire, B_)
    alice.call("sip:p@192.0.2.2:5062")
    ids = [alice.start(CancelCall(call="c1")) for _ in range(3)]
    wire.settle()
    assert [alice.reply(id).result.outcome for id in ids] == ["cancelled"] * 3
    assert len(alice.heard(CancelResolved)) == 1


@pytest.mark.parametrize("command", [CancelCall, HangUpCall, AnswerCall, RejectCall])
def test_commands_about_no_call(alice: Desk, command: Any) -> None:
    assert alice.run(command(call="c9")).reason == "no_such_call"
    assert len(alice.ports.free) == 10


# The caller's patience


@pytest.mark.parametrize("asked", [None, 5.0])
def test_a_caller_gives_up(wire: Wire, asked: float | None) -> None:
    alice = Desk(wire, A, ring_timeout=20)
    bob = Desk(wire, B_, ring_timeout=300)
    alice.call(bob.uri, ring_timeout=asked)
    wire.advance((asked or 20) - 0.01)
    assert not alice.heard(CallEnded)
    wire.advance(0.02)
    ended = alice.ended()
    assert (ended.cause, ended.by, ended.code) == ("no_answer", "timeout", 487)
    assert not alice.heard(CancelResolved)  # nobody had asked
    assert bob.ended().cause == "cancelled"


def test_a_client_cancels_what_was_given_up(wire: Wire, alice: Desk) -> None:
    """It learns the outcome of the cancellation that is under way."""
    bob = Desk(wire, B_, ring_timeout=300)
    alice.call(bob.uri, ring_timeout=5)
    wire.drop = lambda data: data.startswith((b"CANCEL", b"SIP/2.0 487"))
    wire.advance(5.01)
    id = alice.start(CancelCall(call="c1"))
    wire.drop = lambda data: False
    wire.advance(5)
    assert alice.reply(id).result.outcome == "cancelled"
    assert alice.ended().cause == "no_answer"


def test_an_answer_ends_the_wait(wire: Wire, alice: Desk) -> None:
    bob = answering(wire)
    alice.call(bob.uri, ring_timeout=5)
    wire.advance(60)
    assert not alice.heard(CallEnded)


def test_hung_up_before_patience_ends(wire: Wire, alice: Desk) -> None:
    """Its cause stays what the client did."""
    alice.call(NOBODY, ring_timeout=5)
    alice.run(HangUpCall(call="c1"))
    wire.advance(60)
    assert alice.ended().cause == "no_response"


# Incoming calls


def test_answered_by_a_client(wire: Wire, alice: Desk) -> None:
    bob = Desk(wire, B_)
    alice.call(bob.uri)
    assert bob.heard(IncomingCall)[0].call == "i1"
    assert bob.run(AnswerCall(call="i1")) == Done()
    assert bob.kinds() == ["IncomingCall", "Answered", "Confirmed"]
    assert bob.run(AnswerCall(call="i1")).reason == "already_answered"
    assert len(bob.ports.free) == 9


def test_answer_after_a_cancel(wire: Wire, alice: Desk) -> None:
    bob = Desk(wire, B_)
    alice.call(bob.uri)
    alice.run(CancelCall(call="c1"))
    assert bob.run(AnswerCall(call="i1")).reason == "cancelled"
    assert len(bob.ports.free) == 10


def test_rejected_by_a_client(wire: Wire, alice: Desk) -> None:
    bob = Desk(wire, B_)
    alice.call(bob.uri)
    assert bob.run(RejectCall(call="i1", code=603, reason="No Way")) == Done()
    assert (alice.ended().code, alice.ended().reason) == (603, "No Way")


def test_answer_after(wire: Wire, alice: Desk) -> None:
    bob = Desk(wire, B_, on_incoming={"answer_after": 2})
    alice.call(bob.uri)
    wire.advance(1.9)
    assert not alice.heard(Answered)
    wire.advance(0.2)
    assert alice.heard(Answered)


def test_a_client_answers_before_the_phone_does(wire: Wire, alice: Desk) -> None:
    bob = Desk(wire, B_, on_incoming={"answer_after": 2, "hang_up_after": 1})
    alice.call(bob.uri)
    assert bob.run(AnswerCall(call="i1")) == Done()
    wire.advance(30)
    assert len(bob.heard(Answered)) == 1
    assert not bob.heard(CallEnded)  # it is the client's now
    assert not bob.heard(LogLine)


def test_cancelled_before_the_phone_answers(wire: Wire, alice: Desk) -> None:
    bob = Desk(wire, B_, on_incoming={"answer_after": 2})
    alice.call(bob.uri)
    alice.run(CancelCall(call="c1"))
    wire.advance(30)
    assert bob.ended().cause == "cancelled"
    assert not bob.heard(LogLine)


@pytest.mark.parametrize("after", [0, 3])
def test_hang_up_after(wire: Wire, alice: Desk, after: float) -> None:
    bob = answering(wire, hang_up_after=after)
    alice.call(bob.uri)
    wire.advance(after - 0.01)
    assert len(bob.heard(CallEnded)) == 0
    wire.advance(0.02)
    assert (bob.ended().cause, bob.ended().by) == ("hung_up", "local")
    assert alice.ended().by == "remote"


def test_reject(wire: Wire, alice: Desk) -> None:
    bob = Desk(wire, B_, on_incoming={"reject": 404})
    alice.call(bob.uri)
    assert (alice.ended().cause, alice.ended().code) == ("rejected", 404)
    assert bob.kinds() == ["IncomingCall", "CallEnded"]


def test_ring(wire: Wire, alice: Desk) -> None:
    bob = Desk(wire, B_, on_incoming={"ring": True}, ring_timeout=30)
    alice.call(bob.uri)
    wire.advance(29)
    assert bob.kinds() == ["IncomingCall"]
    wire.advance(2)
    assert bob.ended().cause == "no_answer"
    assert alice.ended().code == 480


def test_no_port_left_for_an_incoming_call(wire: Wire, alice: Desk) -> None:
    bob = Desk(wire, B_, pairs=0)
    alice.call(bob.uri)
    assert bob.run(AnswerCall(call="i1")).reason == "no_media"
    assert (bob.ended().cause, bob.ended().code) == ("no_media", 500)
    assert bob.counts["rtp_exhausted"] == 1
    assert alice.ended().code == 500


def test_no_port_left_for_a_phone_that_answers_by_itself(wire: Wire, alice: Desk) -> None:
    bob = Desk(wire, B_, pairs=0, on_incoming={"answer_after": 0})
    alice.call(bob.uri)
    assert bob.ended().cause == "no_media"
    assert bob.heard(LogLine)[0].event == "not_answered"


def test_more_calls_than_the_limit(wire: Wire, alice: Desk) -> None:
    bob = Desk(wire, B_, on_incoming={"answer_after": 0}, max_calls=1)
    alice.call(bob.uri, "c1")
    alice.call(bob.uri, "c2")
    assert alice.ended().code == 486
    assert len(bob.heard(IncomingCall)) == 1


# Registering


class Pbx:
    """What answers every request with 200, on the wire in the place of a phone."""

    exit_now = False

    def __init__(self, wire: Wire, address: Address) -> None:
        self.phone = self
        self.address = address
        self.wire = wire
        self.seen: list[Message] = []
        wire.desks[address] = cast(Desk, self)

    def next_deadline(self) -> None:
        return None

    def tick(self, now: float) -> None:
        """It has no timer."""

    def receive(self, data: bytes, source: Hop, now: float) -> None:
        request = parse(data)
        self.seen.append(request)
        copied = ("Via", "From", "To", "Call-ID", "CSeq", "Contact")
        lines = [f"{name}: {request.headers[name]}" for name in copied]
        answer = "\r\n".join(["SIP/2.0 200 OK", *lines, "Content-Length: 0", "", ""]).encode()
        self.wire.flying.append((answer, self.address, source.address))


PBX: Address = ("192.0.2.8", 5070)
REGISTER = {"server": "192.0.2.8:5070", "domain": "lab.test", "password": "secret"}


def registering(wire: Wire, **register: Any) -> Desk:
    return Desk(wire, A, number="1001", register=REGISTER | register)


def test_a_phone_is_ready_before_it_asks_to_register(wire: Wire) -> None:
    pbx = Pbx(wire, PBX)
    alice = registering(wire)
    assert [type(body) for body, _ in alice.told] == [Ready, AskToRegister]
    wire.settle()
    assert pbx.seen == []
    alice.run(RegisterNow())
    (request,) = pbx.seen
    assert (request.method, request.uri, request.to.uri) == (
        "REGISTER",
        "sip:lab.test",
        "sip:1001@lab.test",
    )
    (registered,) = alice.heard(Registered)
    assert (registered.registrar, registered.expires) == ("192.0.2.8:5070", 3600)


def test_register_and_unregister_are_done_when_the_registrar_has_answered(wire: Wire) -> None:
    pbx = Pbx(wire, PBX)
    alice = registering(wire)
    id = alice.start(RegisterPhone(phone="p"))
    wire.settle()
    assert alice.reply(id) is None
    alice.run(RegisterNow())
    assert alice.reply(id) == Done()
    assert alice.run(UnregisterPhone(phone="p")) == Done()
    assert pbx.seen[-1].headers["Expires"] == "0"
    assert [event.confirmed for event in alice.heard(Unregistered)] == [True]


def test_a_registration_that_fails_says_why(wire: Wire) -> None:
    alice = registering(wire)
    alice.unreachable.add(PBX)
    id = alice.start(RegisterPhone(phone="p"))
    alice.run(RegisterNow())
    refused = alice.reply(id)
    assert isinstance(refused, Refused)
    assert refused.reason == "unreachable"
    assert alice.heard(RegistrationFailed)[0].retry_in is not None
    assert Desk(wire, B_).run(RegisterPhone(phone="p")).reason == "no_registrar"


def test_a_registrar_whose_name_leads_nowhere(wire: Wire) -> None:
    alice = registering(wire, server="pbx.lab")
    alice.run(RegisterNow())
    alice.phone.unreachable(wire.passed[-1], Hop("pbx.lab", None), wire.now, unresolved=True)
    assert [event.cause for event in alice.heard(RegistrationFailed)] == ["unresolved"]


def test_a_drained_phone_has_unregistered(wire: Wire) -> None:
    pbx = Pbx(wire, PBX)
    alice = registering(wire)
    alice.run(RegisterNow())
    alice.start(Drain())
    assert alice.heard(Drained) == []
    wire.settle()
    assert pbx.seen[-1].headers["Expires"] == "0"
    assert len(alice.heard(Drained)) == 1


def test_calls_go_by_the_registrar_unless_they_are_direct(wire: Wire) -> None:
    alice = registering(wire)
    assert alice.call("sip:1002@lab.test") == Done()
    (placed,) = alice.heard(CallPlaced)
    assert (placed.request_uri, placed.next_hop) == ("sip:1002@lab.test", PBX)
    alice.call(f"sip:b@{B_[0]}:{B_[1]}", "c2", direct=True)
    assert alice.heard(CallPlaced)[1].next_hop == B_


def test_a_user_name_that_no_uri_can_hold_is_escaped(wire: Wire) -> None:
    pbx = Pbx(wire, PBX)
    alice = registering(wire, username="a@b#1%", auth_username="x")
    alice.run(RegisterNow())
    assert pbx.seen[0].to.uri == "sip:a%40b%231%25@lab.test"


def test_the_password_is_told_to_nobody(wire: Wire) -> None:
    alice = registering(wire)
    alice.run(RegisterNow())
    wire.advance(100)
    assert "secret" not in repr(alice.told)
    assert "secret" not in repr(vars(alice.phone))
    assert not any(b"secret" in data for data in wire.passed)


# Leaving


def test_drain(wire: Wire, alice: Desk) -> None:
    bob = answering(wire)
    alice.call(bob.uri)
    alice.start(Drain(), 0)
    assert not alice.heard(Drained)
    wire.settle()
    assert alice.ended().cause == "stopped"
    assert [type(body).__name__ for body, _ in alice.told[-3:]] == [
        "Happened",
        "Counters",
        "Drained",
    ]
    assert alice.heard(Drained)[0].unanswered_byes == ()
    assert alice.call(bob.uri, "c2").reason == "draining"
    assert not alice.phone.exit_now
    alice.start(Exit(why="stopped"), 0)
    assert alice.phone.exit_now


def test_refuses_calls_from_when_it_says_so(wire: Wire, alice: Desk) -> None:
    bob = answering(wire)
    alice.call(bob.uri)
    alice.start(RefuseCalls(), 0)
    assert alice.told[-1][0] == RefusesCalls()
    assert alice.call(bob.uri, "c2").reason == "draining"
    wire.settle()
    assert alice.heard(Answered)
    assert not alice.heard(CallEnded)
    assert not alice.phone.exit_now


def test_a_drained_phone_waits_a_second_for_its_exit(wire: Wire, alice: Desk) -> None:
    alice.start(Drain(), 0)
    assert alice.heard(Drained)
    wire.advance(0.9)
    assert not alice.phone.exit_now
    wire.advance(0.2)
    assert alice.phone.exit_now


def test_an_invite_while_draining(wire: Wire, alice: Desk) -> None:
    bob = answering(wire)
    wire.drop = lambda data: data.startswith(b"BYE")
    alice.call(bob.uri)
    bob.start(Drain(), 0)
    alice.call(bob.uri, "c2")
    assert alice.ended().code == 503


def test_a_bye_that_nobody_answers_is_reported(wire: Wire, alice: Desk) -> None:
    bob = answering(wire)
    alice.call(bob.uri)
    bob.call(alice.uri)
    alice.run(AnswerCall(call="i1"))
    wire.drop = lambda data: data.startswith(b"BYE")
    alice.start(Drain(), 0)
    wire.advance(31)
    assert not alice.heard(Drained)
    wire.advance(2)
    assert set(alice.heard(Drained)[0].unanswered_byes) == {"c1", "i1"}


def test_leave_says_bye_once(wire: Wire) -> None:
    alice, bob = Desk(wire, A, max_calls=3), answering(wire)
    other = Desk(wire, ("192.0.2.3", 5064))
    alice.call(bob.uri, "c1")
    alice.call(other.uri, "c2")
    other.call(alice.uri, "c3")
    del wire.desks[B_]
    wire.passed.clear()
    alice.phone.leave(wire.now)
    assert alice.heard(Drained)[0].unanswered_byes == ("c1",)
    wire.advance(0.3)
    assert sorted(wire.lines()) == ["200", "480", "487", "ACK", "ACK", "BYE", "CANCEL"]
    assert not alice.phone.exit_now
    wire.advance(0.2)
    assert alice.phone.exit_now
    assert len(alice.heard(Drained)) == 1


def test_leave_shortens_the_wait_of_a_drained_phone(wire: Wire, alice: Desk) -> None:
    alice.start(Drain(), 0)
    alice.phone.leave(wire.now)
    wire.advance(0.41)
    assert alice.phone.exit_now


def test_an_orphan_leaves_as_soon_as_it_can(wire: Wire, alice: Desk) -> None:
    bob = answering(wire)
    alice.call(bob.uri)
    alice.phone.leave(wire.now, orphaned=True)
    assert not alice.phone.exit_now
    wire.settle()
    assert alice.phone.exit_now
    assert bob.heard(CallEnded)


def test_an_orphan_does_not_wait_for_long(wire: Wire, alice: Desk) -> None:
    bob = answering(wire)
    alice.call(bob.uri)
    del wire.desks[B_]
    alice.phone.leave(wire.now, orphaned=True)
    wire.advance(0.4)
    assert alice.phone.exit_now


# Reports


def test_counters_at_most_once_a_second_and_only_when_they_changed(wire: Wire, alice: Desk) -> None:
    for _ in range(100):
        alice.phone.receive(b"noise", Hop(*B_), wire.now)
        wire.advance(0.02)
    assert len(alice.heard(Counters)) == 1
    wire.advance(60)
    assert len(alice.heard(Counters)) == 2
    assert alice.heard(Counters)[-1].values == {"sip_received": 100, "sip_malformed": 100}
    assert alice.phone.next_deadline() is None


def test_an_idle_phone_has_no_timer(wire: Wire, alice: Desk) -> None:
    assert alice.phone.next_deadline() is None
    bob = answering(wire)
    for number in range(100):
        alice.call(bob.uri, f"c{number}")
        alice.run(HangUpCall(call=f"c{number}"))
    wire.advance(40)
    for desk in (alice, bob):
        assert desk.phone.next_deadline() is None
        assert desk.stack.is_idle()
        assert not desk.phone._calls
        assert len(desk.phone._timers) == 0
        assert len(desk.ports.free) == 10


def test_trace(wire: Wire) -> None:
    alice = Desk(wire, A, trace=True)
    bob = Desk(wire, B_)
    alice.call(bob.uri)
    out, ringing = alice.heard(SipTrace)
    assert (out.direction, out.first_line) == ("out", f"INVITE {bob.uri} SIP/2.0")
    assert (out.cseq, out.peer, out.size) == ("1 INVITE", B_, len(wire.passed[0]))
    assert out.sip_call_id == alice.heard(CallPlaced)[0].sip_call_id
    assert (ringing.direction, ringing.first_line) == ("in", "SIP/2.0 180 Ringing")
    assert ringing.sip_call_id == out.sip_call_id


def test_trace_of_anything(wire: Wire) -> None:
    alice = Desk(wire, A, trace=True)
    alice.phone.receive(b"\xff\x00\x1b" + b"y" * 60000, Hop(*B_), wire.now)
    alice.phone.receive(
        b"OPTIONS x SIP/2.0\r\ni:  short \r\ncseq:9 OPTIONS\r\n", Hop(*B_), wire.now
    )
    noise, short = alice.heard(SipTrace)[0], alice.heard(SipTrace)[1]
    assert noise.first_line.startswith("\ufffd\ufffd\ufffdyyy")
    assert len(noise.first_line) <= 200
    assert (short.sip_call_id, short.cseq) == ("short", "9 OPTIONS")


def test_a_skipped_pair_is_an_event(alice: Desk) -> None:
    alice.phone.pair_skipped(4000, "in use")
    assert alice.events() == [RtpPairSkipped(port=4000, why="in use")]


def test_faults_are_counted_and_logged_but_not_without_end(wire: Wire, alice: Desk) -> None:
    for _ in range(10):
        alice.phone.failed("worker_error", "Traceback …", wire.now)
    assert alice.counts["worker_error"] == 10
    (line,) = alice.heard(LogLine)
    assert (line.level, line.fields) == ("error", {"traceback": "Traceback …"})


def test_a_fault_of_the_engine_is_logged(
    wire: Wire, alice: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(data: bytes, source: Address) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(alice.stack, "_receive", broken)
    alice.phone.receive(b"OPTIONS", Hop(*B_), wire.now)
    (line,) = alice.heard(LogLine)
    assert "ZeroDivisionError" in str(line.fields["traceback"])


def test_a_command_that_fails_for_our_fault_has_an_end(
    wire: Wire, alice: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(alice.stack, "call", broken)
    with pytest.raises(ZeroDivisionError):
        alice.start(PlaceCall(phone="p", target=NOBODY, call="c1"))
    assert alice.reply(1) == Refused(reason="internal_error", message="ZeroDivisionError: oh")
    assert len(alice.ports.free) == 10


def test_a_second_welcome_changes_nothing(alice: Desk) -> None:
    welcome = Welcome(spec=PhoneSpec(name="x"), host="h", port=1, rtp_first=2, rtp_pairs=1)
    alice.start(welcome, 0)
    assert alice.counts["link_unexpected"] == 1


def test_refused_is_what_the_stack_says(alice: Desk) -> None:
    alice.call(NOBODY)
    refused = alice.run(AnswerCall(call="c1"))
    assert refused == Refused(reason="not_incoming", message="call c1 is an outgoing one")
