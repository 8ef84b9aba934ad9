"""Calls: whose they are, who gets the next one, and what becomes of them when somebody dies."""

from __future__ import annotations

import signal

import msgspec
import pytest

from sipherd.protocol.codec import EncodedEvents
from sipherd.protocol.events import (
    Answered,
    CallCleanedUp,
    CallEnded,
    CallPlaced,
    CancelResolved,
    CleanUp,
    DtmfReceived,
    Event,
    Held,
    IncomingCall,
    MediaStats,
    Overflow,
    Progress,
    Referred,
    Retrieved,
)
from sipherd.protocol.messages import (
    AnswerCall,
    AwaitIncoming,
    CancelCall,
    CancelReport,
    Done,
    Expired,
    HangUpCall,
    Hello,
    HoldCall,
    ListCalls,
    ListPhones,
    Missed,
    PlaceCall,
    Ready,
    Refused,
    RejectCall,
    StopPhones,
    Subscribe,
    TransferCall,
    Welcome,
    Withdraw,
)
from sipherd.protocol.spec import OnIncoming, RegisterSpec
from sipherd.protocol.states import CallState
from sipherd.supervisor.effects import ClientGone, StartProcess
from supervisor_driver import Driver, phone

ALICE = phone("alice", "1001")
BOB = phone("bob", "1002")
ROBOT = phone("robot", "1003", on_incoming=OnIncoming(answer_after=1.0))


@pytest.fixture
def herd() -> Driver:
    herd = Driver(ALICE, BOB, ROBOT)
    herd.begin()
    return herd


def ended(call: str, cause: str = "hung_up") -> CallEnded:
    return CallEnded(call=call, cause=cause, by="remote")  # type: ignore[arg-type]


def up(herd: Driver, name: str, target: str = "bob") -> str:
    """A call that was answered."""
    call = herd.place(name, target)
    herd.happens(name, Answered(call=call, code=200, remote_media=None, codec="PCMU"))
    return call


# -- placing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "uri"),
    [
        ("bob", "sip:1002@127.0.0.1:5062"),
        ("1002", "sip:1002@127.0.0.1:5062"),
        ("sip:service@127.0.0.9:6000", "sip:service@127.0.0.9:6000"),
        ("SIP:service@127.0.0.9", "SIP:service@127.0.0.9"),
    ],
)
def test_a_target_is_a_name_a_number_or_a_uri(herd: Driver, target: str, uri: str) -> None:
    herd.ask(PlaceCall(phone="1001", target=target))
    (command,) = herd.to_worker("alice")
    assert (command.target, command.dialled, command.call) == (uri, target, "c1")


@pytest.mark.parametrize(
    ("target", "direct", "uri"),
    [
        ("bob", False, "sip:1002@pbx.example"),
        ("1002", False, "sip:1002@pbx.example"),
        ("2000", False, "sip:2000@pbx.example"),
        ("*43", False, "sip:*43@pbx.example"),
        ("bob", True, "sip:1002@127.0.0.1:5062"),
        ("sip:x@127.0.0.9", False, "sip:x@127.0.0.9"),
    ],
)
def test_a_number_goes_by_way_of_the_registrar(target: str, direct: bool, uri: str) -> None:
    pbx = RegisterSpec(server="127.0.0.9:5070", domain="pbx.example")
    herd = Driver(phone("reg", register=pbx), BOB)
    herd.begin()
    herd.to_worker("reg")
    herd.ask(PlaceCall(phone="reg", target=target, direct=direct))
    (command,) = herd.to_worker("reg")
    assert (command.target, command.dialled) == (uri, target)


def test_a_number_goes_by_way_of_the_proxy() -> None:
    herd = Driver(phone("behind", proxy="127.0.0.9:5070"))
    herd.begin()
    herd.ask(PlaceCall(phone="behind", target="2000"))
    (command,) = herd.to_worker("behind")
    assert command.target == "sip:2000@127.0.0.9"
    assert herd.answer(PlaceCall(phone="behind", target="a b")).reason == "no_such_phone"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (PlaceCall(phone="alise", target="bob"), "no_such_phone"),
        (PlaceCall(phone="alice", target="bop"), "no_such_phone"),
        (PlaceCall(phone="alice", target="bob", ring_timeout=0.0), "bad_ring_timeout"),
        (PlaceCall(phone="alice", target="bob", ring_timeout=float("nan")), "bad_ring_timeout"),
        (AnswerCall(call="c99"), "no_such_call"),
        (ListCalls(which=("c99",)), "no_such_call"),
    ],
)
def test_what_can_t_be_is_refused(herd: Driver, body: object, reason: str) -> None:
    assert herd.answer(body).reason == reason
    assert not herd.to_worker("alice")


def test_a_phone_that_is_not_ready_places_no_call(herd: Driver) -> None:
    herd.die("alice", signal=signal.SIGSEGV)
    refused = herd.answer(PlaceCall(phone="alice", target="bob"))
    assert refused.reason == "phone_not_ready"
    assert "starting" in refused.message


def test_a_call_from_invite_to_bye(herd: Driver) -> None:
    call = herd.place("alice", "bob")
    herd.happens("alice", Progress(call=call, code=180, reason="Ringing", early_media=False))
    herd.now += 1
    herd.happens(
        "alice", Answered(call=call, code=200, remote_media=("127.0.0.1", 4000), codec="PCMU")
    )
    (info,) = herd.answer(ListCalls()).calls
    assert (info.state, info.codec, info.sip_call_id) == (CallState.ANSWERED, "PCMU", "c1@test")
    assert herd.answer(ListPhones(which=("alice",))).phones[0].activity == "in call: 1"
    herd.happens("alice", ended(call))
    assert herd.answer(ListCalls()).calls == ()
    (info,) = herd.answer(ListCalls(which=(call,))).calls
    assert (info.state, info.cause) == (CallState.ENDED, "hung_up")


def test_a_call_that_was_refused_never_was(herd: Driver) -> None:
    id = herd.ask(PlaceCall(phone="alice", target="sip:x@nowhere.invalid"))
    (command,) = herd.commands("alice")
    herd.from_worker(
        "alice", Refused(reason="unresolved", message="no such host"), reply_to=command.id
    )
    assert herd.reply(id).reason == "unresolved"
    assert herd.answer(ListCalls()).calls == ()
    assert not herd.told(CallPlaced)


def test_a_call_whose_client_gave_up_waiting_is_hung_up(herd: Driver) -> None:
    id = herd.ask(PlaceCall(phone="alice", target="bob"), timeout=1.0)
    (command,) = herd.commands("alice")
    herd.after(1.0)
    assert isinstance(herd.reply(id), Expired)
    herd.from_worker("alice", Done(), reply_to=command.id)
    assert herd.to_worker("alice") == [HangUpCall(call="c1")]


def test_ended_calls_can_t_be_commanded(herd: Driver) -> None:
    call = herd.ring("bob", "i1")
    herd.happens("bob", ended("i1", "cancelled"))
    assert herd.answer(AnswerCall(call=call)).reason == "cancelled"
    assert not herd.to_worker("bob")


# -- incoming ------------------------------------------------------------------------------------


def test_a_worker_s_names_for_calls_stay_inside(herd: Driver) -> None:
    call = herd.ring("bob", "i1")
    assert call == "c1"
    id = herd.ask(AnswerCall(call=call))
    (command,) = herd.commands("bob")
    assert command.body == AnswerCall(call="i1")
    refused = Refused(reason="cancelled", message="call i1: cancelled")
    herd.from_worker("bob", refused, reply_to=command.id)
    assert herd.reply(id).message == "call c1: cancelled"


def test_a_call_goes_to_the_one_who_waited_longest(herd: Driver) -> None:
    first = herd.ask(AwaitIncoming(which=("bob",)), client=b"A")
    second = herd.ask(AwaitIncoming(), client=b"B")
    call = herd.ring("bob", "i1")
    assert herd.reply(first, b"A").result.call == call
    assert herd.reply(second, b"B") is None
    other = herd.ring("alice", "i1")
    assert herd.reply(second, b"B").result.call == other


def test_a_call_waits_for_a_client(herd: Driver) -> None:
    first, second = herd.ring("bob", "i1"), herd.ring("bob", "i2")
    assert herd.answer(ListPhones(which=("bob",))).phones[0].waiting == 2
    assert herd.answer(AwaitIncoming(which=("alice",))) is None
    assert herd.answer(AwaitIncoming(which=("bob",))).call == first
    assert herd.answer(AwaitIncoming()).call == second


def test_a_call_cancelled_while_it_waits_is_never_handed_out(herd: Driver) -> None:
    herd.ring("bob", "i1")
    herd.happens("bob", ended("i1", "cancelled"))
    second = herd.ring("bob", "i2")
    assert herd.answer(AwaitIncoming(which=("bob",))).call == second


def test_the_fifth_waiting_call_is_busy_and_an_overflow(herd: Driver) -> None:
    for n in range(1, 5):
        herd.ring("bob", f"i{n}")
    assert not herd.told(Overflow)
    call = herd.ring("bob", "i5")
    assert herd.told(Overflow) == [Overflow(call=call, waiting=4)]
    assert herd.to_worker("bob") == [RejectCall(call="i5", code=486)]
    herd.happens("bob", CallEnded(call="i5", cause="rejected", by="local", code=486))
    assert herd.told(CallEnded)[0].cause == "overflow"
    # One that leaves makes room.
    herd.happens("bob", ended("i1", "cancelled"))
    herd.ring("bob", "i6")
    assert len(herd.told(Overflow)) == 1


def test_a_wait_that_expired_or_was_withdrawn_takes_nothing(herd: Driver) -> None:
    first = herd.ask(AwaitIncoming(), client=b"A", timeout=1.0)
    second = herd.ask(AwaitIncoming(), client=b"B")
    third = herd.ask(AwaitIncoming(), client=b"C")
    herd.after(1.0)
    assert isinstance(herd.reply(first, b"A"), Expired)
    herd.ask(Withdraw(request=second), client=b"B")
    assert isinstance(herd.reply(second, b"B"), Expired)
    call = herd.ring("bob", "i1")
    assert herd.reply(third, b"C").result.call == call


def test_a_call_in_somebody_s_hand_is_not_another_s_to_answer(herd: Driver) -> None:
    herd.ask(AwaitIncoming(), client=b"A")
    call = herd.ring("bob", "i1")
    assert herd.answer(AnswerCall(call=call), client=b"B").reason == "taken"
    herd.ask(AnswerCall(call=call), client=b"A")
    assert herd.to_worker("bob") == [AnswerCall(call="i1")]


def test_a_call_being_answered_by_its_id_is_not_handed_out(herd: Driver) -> None:
    call = herd.ring("bob", "i1")
    herd.ask(AnswerCall(call=call), client=b"A")
    waiting = herd.ask(AwaitIncoming(which=("bob",)), client=b"B")
    assert herd.reply(waiting, b"B") is None


def test_a_phone_that_answers_by_itself_queues_nothing(herd: Driver) -> None:
    anybody = herd.ask(AwaitIncoming(), client=b"A")
    for n in range(1, 9):
        herd.ring("robot", f"i{n}")
    assert not herd.told(Overflow)
    assert herd.reply(anybody, b"A") is None
    assert not herd.to_worker("robot")


def test_its_calls_go_to_who_asks_for_them_by_name_and_stay_its_own(herd: Driver) -> None:
    by_name = herd.ask(AwaitIncoming(which=("robot",)))
    call = herd.ring("robot", "i1")
    assert herd.reply(by_name).result.call == call
    herd.step(ClientGone(b"A"))
    assert not herd.to_worker("robot")


def test_a_call_it_has_already_goes_to_who_asks_for_it_once(herd: Driver) -> None:
    """The client placed the call itself, and asks when the other end may have answered."""
    call = herd.ring("robot", "i1")
    herd.happens("robot", Answered(call="i1", code=200, remote_media=None, codec=""))
    assert herd.answer(AwaitIncoming(which=("robot",))).call == call
    assert herd.answer(AwaitIncoming(which=("robot",))) is None
    herd.step(ClientGone(b"A"))
    assert not herd.to_worker("robot")


# -- clients that die ----------------------------------------------------------------------------


def test_a_client_s_death_ends_its_calls_unless_detached(herd: Driver) -> None:
    own = herd.place("alice", "bob")
    herd.place("alice", "bob", detached=True)
    herd.place("alice", "bob", client=b"B")
    herd.step(ClientGone(b"A"))
    assert herd.to_worker("alice") == [HangUpCall(call=own)]


def test_an_answered_call_belongs_to_who_answered(herd: Driver) -> None:
    call = herd.ring("bob", "i1")
    id = herd.ask(AnswerCall(call=call))
    (command,) = herd.commands("bob")
    herd.happens("bob", Answered(call="i1", code=200, remote_media=None, codec=""))
    herd.from_worker("bob", Done(), reply_to=command.id)
    assert isinstance(herd.reply(id), Done)
    herd.step(ClientGone(b"A"))
    assert herd.to_worker("bob") == [HangUpCall(call="i1")]


def test_a_call_its_client_had_not_answered_goes_to_the_next(herd: Driver) -> None:
    herd.ask(AwaitIncoming(which=("bob",)), client=b"A")
    call = herd.ring("bob", "i1")
    second = herd.ask(AwaitIncoming(which=("bob",)), client=b"B")
    herd.step(ClientGone(b"A"))
    assert herd.reply(second, b"B").result.call == call
    assert not herd.to_worker("bob")


def test_or_to_the_front_of_the_queue(herd: Driver) -> None:
    herd.ask(AwaitIncoming(which=("bob",)), client=b"A")
    first = herd.ring("bob", "i1")
    herd.ring("bob", "i2")
    herd.step(ClientGone(b"A"))
    assert herd.answer(AwaitIncoming(which=("bob",)), client=b"B").call == first


def test_a_dead_client_waits_for_nothing(herd: Driver) -> None:
    herd.ask(AwaitIncoming(which=("bob",)), client=b"A")
    herd.step(ClientGone(b"A"))
    herd.ring("bob", "i1")
    assert herd.answer(ListPhones(which=("bob",))).phones[0].waiting == 1


def test_an_answer_that_comes_after_its_client_s_death_is_hung_up(herd: Driver) -> None:
    call = herd.ring("bob", "i1")
    herd.ask(AnswerCall(call=call))
    (command,) = herd.commands("bob")
    herd.step(ClientGone(b"A"))
    herd.happens("bob", Answered(call="i1", code=200, remote_media=None, codec=""))
    herd.from_worker("bob", Done(), reply_to=command.id)
    assert herd.to_worker("bob") == [HangUpCall(call="i1")]


# -- cancel --------------------------------------------------------------------------------------


def test_a_cancel_is_done_with_its_outcome(herd: Driver) -> None:
    call = herd.place("alice", "bob")
    id = herd.ask(CancelCall(call=call))
    (command,) = herd.commands("alice")
    herd.happens("alice", CancelResolved(call=call, outcome="cancelled"))
    herd.happens("alice", ended(call, "cancelled"))
    report = CancelReport(call=call, outcome="cancelled")
    herd.from_worker("alice", Done(result=report), reply_to=command.id)
    assert herd.reply(id).result == report


def test_the_phone_s_death_is_an_outcome_too(herd: Driver) -> None:
    call = herd.place("alice", "bob")
    id = herd.ask(CancelCall(call=call))
    herd.die("alice", signal=signal.SIGKILL)
    assert herd.reply(id).result == CancelReport(call=call, outcome="phone_crashed")
    assert [e.outcome for e in herd.told(CancelResolved)] == ["phone_crashed"]
    assert [e.cause for e in herd.told(CallEnded)] == ["phone_crashed"]


# -- phones that die -----------------------------------------------------------------------------


def test_who_waits_for_a_dead_phone_alone_is_told(herd: Driver) -> None:
    alone = herd.ask(AwaitIncoming(which=("bob",)), client=b"A")
    any_ = herd.ask(AwaitIncoming(), client=b"B")
    herd.die("bob", exit_code=1)
    assert herd.reply(alone, b"A").reason == "phone_crashed"
    assert herd.reply(any_, b"B") is None
    # Whoever asks from now on waits for its next process.
    later = herd.ask(AwaitIncoming(which=("bob",)), client=b"A")
    herd.bring_up()
    herd.ring("bob", "i1")
    assert isinstance(herd.reply(any_, b"B"), Done)
    assert herd.reply(later, b"A") is None
    herd.ring("bob", "i2")
    assert isinstance(herd.reply(later, b"A"), Done)


def test_a_waiting_call_dies_with_its_phone(herd: Driver) -> None:
    herd.ring("bob", "i1")
    herd.die("bob", exit_code=1)
    assert herd.answer(ListCalls()).calls == ()
    assert herd.answer(AwaitIncoming()) is None


def test_a_call_being_placed_when_the_phone_dies_is_refused(herd: Driver) -> None:
    id = herd.ask(PlaceCall(phone="alice", target="bob"))
    herd.die("alice", exit_code=1)
    assert herd.reply(id).reason == "phone_crashed"
    assert not herd.told(CallEnded)
    assert herd.answer(ListCalls()).calls == ()


def test_calls_left_when_a_phone_is_stopped_hard_ended_by_the_stop(herd: Driver) -> None:
    herd.place("alice", "bob")
    herd.ask(StopPhones(which=("alice",), now=True))
    herd.die("alice", signal=signal.SIGKILL)
    assert [e.cause for e in herd.told(CallEnded)] == ["stopped"]


# -- events --------------------------------------------------------------------------------------


def test_a_client_sees_the_end_of_the_call_it_holds(herd: Driver) -> None:
    snapshot = herd.answer(Subscribe(own=True))
    assert snapshot.n == len(herd.events)
    herd.ask(AwaitIncoming(which=("bob",)))
    herd.ring("bob", "i1")
    herd.ring("robot", "i1")
    herd.happens("bob", ended("i1", "cancelled"))
    seen: list[object] = []

    def send(client: bytes, batch: EncodedEvents | Missed) -> bool:
        assert isinstance(batch, EncodedEvents)
        seen.extend(msgspec.msgpack.decode(event, type=Event).body for event in batch.events)
        return True

    assert not herd.core.events.flush(send)
    assert [type(body) for body in seen] == [IncomingCall, CallEnded]


# -- what happens within a call ------------------------------------------------------------------


def test_a_command_about_a_call_goes_to_its_phone_under_its_key(herd: Driver) -> None:
    call = herd.ring("bob", "i1")
    id = herd.ask(HoldCall(call=call))
    (sent,) = herd.commands("bob")
    assert sent.body == HoldCall(call="i1")
    refused = Refused(reason="not_answered", message="call i1 has not been answered")
    herd.from_worker("bob", refused, reply_to=sent.id)
    assert herd.reply(id).message == f"call {call} has not been answered"


def test_who_holds_a_call_is_known(herd: Driver) -> None:
    call = up(herd, "alice")

    def held() -> tuple[str, ...]:
        (info,) = herd.answer(ListCalls(which=(call,))).calls
        return tuple(info.held)

    herd.happens("alice", Held(call=call, by="remote"))
    herd.happens("alice", Held(call=call, by="local"))
    assert held() == ("local", "remote")
    herd.happens("alice", Retrieved(call=call, by="local"))
    assert held() == ("remote",)
    herd.happens("alice", Retrieved(call=call, by="remote"))
    assert held() == ()


def test_digits_and_the_audio_s_end_are_known(herd: Driver) -> None:
    call = up(herd, "alice")
    for digit in "12#":
        herd.happens(
            "alice", DtmfReceived(call=call, digit=digit, duration_ms=100, method="rfc4733")
        )
    stats = MediaStats(sent=50, received=49, lost=1)
    herd.happens("alice", CallEnded(call=call, cause="hung_up", by="remote", media=stats))
    (info,) = herd.answer(ListCalls(which=(call,))).calls
    assert (info.digits, info.media) == ("12#", stats)


def test_a_blind_transfer_s_target_is_dialled_as_any(herd: Driver) -> None:
    call = up(herd, "alice")
    herd.to_worker("alice")
    herd.ask(TransferCall(call=call, target="robot"))
    (sent,) = herd.to_worker("alice")
    assert sent == TransferCall(call=call, target="sip:1003@127.0.0.1:5064")


def test_an_attended_transfer_joins_two_calls_of_one_phone(herd: Driver) -> None:
    held = up(herd, "alice")
    consult = herd.ring("alice", "i1")
    herd.to_worker("alice")
    herd.ask(TransferCall(call=held, consult=consult))
    (sent,) = herd.to_worker("alice")
    assert sent == TransferCall(call=held, consult="i1")


def test_transfers_that_can_t_be(herd: Driver) -> None:
    call, other = up(herd, "alice"), up(herd, "robot")
    over = up(herd, "alice")
    herd.happens("alice", ended(over))
    herd.to_worker("alice")
    for body, reason in [
        (TransferCall(call=call), "bad_transfer"),
        (TransferCall(call=call, target="bob", consult=other), "bad_transfer"),
        (TransferCall(call=call, consult=call), "bad_transfer"),
        (TransferCall(call=call, consult=other), "bad_transfer"),
        (TransferCall(call=call, consult=over), "already_ended"),
        (TransferCall(call=over, target="bob"), "already_ended"),
        (TransferCall(call=call, target="bop"), "no_such_phone"),
        (TransferCall(call=call, consult="c99"), "no_such_call"),
    ]:
        assert herd.answer(body).reason == reason
    assert not herd.to_worker("alice")


def test_a_call_that_the_far_end_asked_for_belongs_to_the_same_client(herd: Driver) -> None:
    call = up(herd, "alice")
    herd.happens(
        "alice",
        Referred(call=call, new_call="t1", target="sip:x@127.0.0.9", by="sip:peer@127.0.0.9"),
    )
    (told,) = herd.told(Referred)
    assert told.call == call
    herd.happens(
        "alice",
        CallPlaced(
            call="t1",
            target="sip:x@127.0.0.9",
            sip_call_id="t1@test",
            request_uri="sip:x@127.0.0.9",
            next_hop=("127.0.0.9", 5060),
        ),
    )
    (info,) = herd.answer(ListCalls(which=(told.new_call,))).calls
    assert (info.phone, info.direction, info.sip_call_id) == ("alice", "out", "t1@test")
    herd.to_worker("alice")
    herd.step(ClientGone(b"A"))
    assert {body.call for body in herd.to_worker("alice")} == {call, "t1"}


def test_a_call_that_takes_another_s_place_is_offered_to_nobody(herd: Driver) -> None:
    old = herd.ring("bob", "i1")
    herd.answer(AwaitIncoming(which=("bob",)), client=b"A")
    waiting = herd.ask(AwaitIncoming(which=("bob",)), client=b"B")
    herd.happens(
        "bob",
        IncomingCall(
            call="i2",
            sip_call_id="i2@peer",
            from_uri="sip:peer@127.0.0.1",
            from_display="",
            to_uri="sip:x@127.0.0.1",
            request_uri="sip:x@127.0.0.1",
            source=("127.0.0.1", 5099),
            replaces="i1",
        ),
    )
    assert herd.reply(waiting, b"B") is None
    *_, told = herd.told(IncomingCall)
    assert told.replaces == old
    herd.happens("bob", ended("i1", "replaced"))
    herd.to_worker("bob")
    herd.step(ClientGone(b"A"))
    assert [body.call for body in herd.to_worker("bob")] == ["i2"]


def test_the_port_of_a_call_that_crashed_rests(herd: Driver) -> None:
    call = herd.place("alice", "bob")
    told = Answered(call=call, code=200, remote_media=None, codec="PCMU", rtp_port=20002)
    herd.happens("alice", told)
    (info,) = herd.answer(ListCalls(which=(call,))).calls
    assert info.rtp_port == 20002
    for seconds, left in ((0.0, {20002: 30.0}), (40.0, {})):
        herd.now += seconds
        herd.die("alice", signal=signal.SIGKILL)
        herd.now += 2.0
        (start,) = herd.wanted(StartProcess)
        pid = herd.fork(start)
        herd.from_worker("alice", Hello(pid=pid, token=start.token))
        (welcome,) = [m for m in herd.to_worker("alice") if isinstance(m, Welcome)]
        assert welcome.rtp_resting == left
        herd.from_worker("alice", Ready())


@pytest.mark.parametrize(
    ("how", "left"), [("bye", set()), ("peer", set()), ("bye_unanswered", {20002})]
)
def test_it_rests_no_longer_when_its_far_end_has_ended_it(
    herd: Driver, how: CleanUp, left: set[int]
) -> None:
    call = herd.place("alice", "bob")
    told = Answered(call=call, code=200, remote_media=None, codec="PCMU", rtp_port=20002)
    herd.happens("alice", told)
    herd.die("alice", signal=signal.SIGKILL)
    (start,) = herd.wanted(StartProcess)
    herd.serve(start)
    herd.happens("alice", CallCleanedUp(sip_call_id="x@h", how=how, rtp_port=20002))
    (event,) = herd.told(CallCleanedUp)
    assert event.how == how
    assert herd.phone("alice").rtp_resting.keys() == left
