"""What the engine wants remembered: when, in which order, and whether it is enough.

That each message that leaves is covered by the journal is checked in every test of the engine
(`journaled`).  Here: the whole sequence for each way a call can go, what the records say, and the
far end's view: whatever call it believes in, the journal has a record of it, at any moment.
"""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journaled import JournaledEngine, keep
from msgspec.structs import replace
from sipwire import (
    ALICE,
    BOB,
    MEDIA,
    OFFER,
    Hand,
    Net,
    branch,
    lines,
    reply,
    request,
    sends,
    tokens,
)

from sipherd.worker.sip.engine import Engine
from sipherd.worker.sip.journal import CallRecord, Left, decode, record_key
from sipherd.worker.sip.leg import LegState
from sipherd.worker.sip.memory import guarded
from sipherd.worker.sip.message import parse
from sipherd.worker.stack import (
    CallEnded,
    Credentials,
    Hop,
    Output,
    Remember,
    Send,
    StackConfig,
    StackRefusal,
)

CHALLENGE = ('Proxy-Authenticate: Digest realm="r", nonce="n", qop="auth"',)


def writes(hand: Hand, key: str | None = None) -> list[Left | None]:
    """What was written, one after the other; None is the end of the record."""
    return [left for written, left in hand.engine.writes if key in (None, written)]


def only(hand: Hand) -> CallRecord:
    """The one record that there is."""
    (record,) = hand.engine.journal.values()
    return record


# Each way that a call can go


def test_a_caller_who_hangs_up() -> None:
    hand = Hand()
    invite = hand.place()
    hand.receive(reply(invite, 180))
    hand.receive(reply(invite, 200, body=OFFER))
    (bye,) = sends(hand.take(hand.engine.hang_up("c1", 0)))
    hand.receive(reply(bye, 200))
    assert writes(hand) == [
        Left.CALLING,
        Left.PROCEEDING,
        Left.ANSWERED,
        Left.CONFIRMED,
        Left.ENDING,
        None,
    ]


def test_a_caller_who_is_hung_up_on() -> None:
    hand = Hand()
    invite, _ = hand.placed_and_answered()
    bye = request("BYE", call_id=invite.call_id, from_tag="tob", to_tag=invite.from_.tag)
    assert lines(hand.receive(bye)) == ["200"]
    assert writes(hand) == [Left.CALLING, Left.ANSWERED, Left.CONFIRMED, None]


def test_a_caller_who_cancels() -> None:
    hand = Hand()
    invite = hand.place()
    hand.take(hand.engine.cancel("c1", 0))
    hand.receive(reply(invite, 100, tag=""))
    assert writes(hand) == [Left.CALLING, Left.CANCELLING]
    (cancel,) = [m for m in map(parse, sent(hand)) if m.method == "CANCEL"]
    hand.receive(reply(cancel, 200))
    assert only(hand).left is Left.CANCELLING  # the INVITE has no final response yet
    hand.receive(reply(invite, 487))
    assert writes(hand) == [Left.CALLING, Left.CANCELLING, None]


def test_an_answer_that_crosses_the_cancel() -> None:
    hand = Hand()
    invite = hand.place()
    hand.receive(reply(invite, 180))
    hand.take(hand.engine.cancel("c1", 0))
    ack, bye = sends(hand.receive(reply(invite, 200, body=OFFER)))
    record = only(hand)
    assert (record.left, record.ack, bye.method) == (Left.ENDING, ack.raw, "BYE")
    hand.receive(reply(bye, 200))
    assert writes(hand)[-3:] == [Left.CANCELLING, Left.ENDING, None]


def test_a_cancellation_that_nobody_confirms_is_known_while_an_answer_would_be_ended() -> None:
    hand = Hand()
    invite = hand.place()
    hand.receive(reply(invite, 180))
    hand.take(hand.engine.cancel("c1", 0))
    hand.advance(32.5)
    assert hand.reported(CallEnded)
    assert only(hand).left is Left.CANCELLING
    _, bye = sends(hand.receive(reply(invite, 200, body=OFFER)))
    fork = hand.engine.journal[record_key(invite.from_.tag, "tob")]
    assert fork.left is Left.ENDING
    hand.receive(reply(bye, 200))
    hand.advance(32)
    assert hand.engine.journal == {}


@pytest.mark.parametrize("code", [302, 404, 486, 503, 603])
def test_a_caller_who_is_refused(code: int) -> None:
    hand = Hand()
    hand.receive(reply(hand.place(), code))
    assert writes(hand) == [Left.CALLING, None]


def test_a_caller_whom_nobody_hears() -> None:
    hand = Hand()
    hand.place()
    hand.advance(40)
    assert writes(hand) == [Left.CALLING, None]


def test_a_bye_that_nobody_answers() -> None:
    hand = Hand()
    hand.placed_and_answered()
    hand.take(hand.engine.hang_up("c1", 0))
    hand.advance(31)
    assert only(hand).left is Left.ENDING
    hand.advance(2)
    assert writes(hand)[-2:] == [Left.ENDING, None]


def test_an_invite_that_is_challenged() -> None:
    hand = Hand(credentials=Credentials("alice", "secret"))
    first = hand.place()
    hand.receive(reply(first, 180))
    _, again = sends(hand.receive(reply(first, 407, extra=CHALLENGE)))
    record = only(hand)
    # The 1xx was to the one before: no CANCEL of this one may be sent yet.
    assert (record.left, record.cseq, record.invite) == (Left.CALLING, 2, again.raw)
    assert "secret" not in repr(record)
    hand.receive(reply(again, 180))
    assert writes(hand) == [Left.CALLING, Left.PROCEEDING, Left.CALLING, Left.PROCEEDING]


def test_a_bye_that_is_challenged_takes_the_next_number() -> None:
    hand = Hand(credentials=Credentials("alice", "secret"))
    hand.placed_and_answered()
    (bye,) = sends(hand.take(hand.engine.hang_up("c1", 0)))
    (again,) = sends(hand.receive(reply(bye, 407, extra=CHALLENGE)))
    dialog = only(hand).dialog
    assert dialog is not None
    assert dialog.local_cseq == again.cseq.number == bye.cseq.number + 1


def test_an_invite_that_two_answer() -> None:
    hand = Hand()
    invite, _ = hand.placed_and_answered()
    ack, bye = sends(hand.receive(reply(invite, 200, tag="fork", body=OFFER)))
    main, fork = hand.engine.journal.values()
    assert (main.left, fork.left) == (Left.CONFIRMED, Left.ENDING)
    assert (fork.ack, fork.call) == (ack.raw, "")
    assert fork.dialog is not None
    assert fork.dialog.remote_tag == "fork"
    hand.receive(reply(bye, 200))
    assert only(hand) == main


def test_a_fork_that_answers_when_the_call_is_over_is_known_until_its_bye_is_answered() -> None:
    hand = Hand()
    invite, _ = hand.placed_and_answered()
    (bye,) = sends(hand.take(hand.engine.hang_up("c1", 0)))
    hand.receive(reply(bye, 200))
    assert hand.engine.journal == {}
    _, bye = sends(hand.receive(reply(invite, 200, tag="fork", body=OFFER)))
    assert only(hand).left is Left.ENDING
    hand.receive(reply(bye, 200))
    assert hand.engine.journal == {}


def test_a_callee_who_answers_and_hangs_up() -> None:
    hand = Hand()
    hand.up()
    (bye,) = sends(hand.take(hand.engine.hang_up("i1", 0)))
    hand.receive(reply(bye, 200))
    assert writes(hand) == [Left.INVITED, Left.ACCEPTED, Left.CONFIRMED, Left.ENDING, None]


def test_a_callee_who_is_hung_up_on() -> None:
    hand = Hand()
    tag = hand.up()
    assert lines(hand.receive(request("BYE", via=branch("bye"), to_tag=tag, cseq=2))) == ["200"]
    assert writes(hand) == [Left.INVITED, Left.ACCEPTED, Left.CONFIRMED, None]


def test_a_callee_who_refuses_is_not_done_before_the_ack() -> None:
    hand = Hand()
    tag = hand.ringing()
    (final,) = sends(hand.take(hand.engine.reject("i1", 0, code=486)))
    record = only(hand)
    assert (record.left, record.response) == (Left.REFUSED, final.raw)
    hand.receive(request("ACK", to_tag=tag))
    assert writes(hand) == [Left.INVITED, Left.REFUSED, None]


def test_a_refusal_that_nobody_acknowledges() -> None:
    hand = Hand()
    hand.ringing()
    hand.take(hand.engine.reject("i1", 0))
    hand.advance(31)
    assert only(hand).left is Left.REFUSED
    hand.advance(2)
    assert writes(hand) == [Left.INVITED, Left.REFUSED, None]


def test_a_callee_whose_caller_cancels() -> None:
    hand = Hand()
    tag = hand.ringing()
    assert lines(hand.receive(request("CANCEL"))) == ["200", "487"]
    hand.receive(request("ACK", to_tag=tag))
    assert writes(hand) == [Left.INVITED, Left.REFUSED, None]


def test_an_answer_that_is_never_acknowledged() -> None:
    hand = Hand()
    hand.ringing()
    hand.take(hand.engine.answer("i1", MEDIA, 0))
    hand.advance(33)
    assert writes(hand) == [Left.INVITED, Left.ACCEPTED, Left.ENDING]
    hand.advance(33)
    assert writes(hand)[-1] is None


def test_what_was_never_a_call_is_not_remembered() -> None:
    hand = Hand(max_calls=1)
    hand.ringing()
    before = len(hand.engine.writes)
    hand.receive(request("INVITE", via=branch("two"), call_id="two", body=OFFER))
    hand.receive(request("OPTIONS", via=branch("three"), call_id="three"))
    hand.receive(request("BYE", via=branch("four"), call_id="four", to_tag="nobody"))
    assert len(hand.engine.writes) == before


# What the records say


def sent(hand: Hand) -> list[bytes]:
    return [output.data for _, output in hand.log if isinstance(output, Send)]


def test_the_record_of_a_caller() -> None:
    hand = Hand()
    hand.now = 12.5
    invite = hand.place()
    hand.receive(reply(invite, 183, tag="one"))
    hand.receive(reply(invite, 180, tag="two"))
    record = only(hand)
    assert (record.call, record.role, record.began) == ("c1", "caller", 12.5)
    assert record.invite == sent(hand)[0]
    assert record.hop == BOB
    assert record.early_tags == ("one", "two")
    assert record.contact == "<sip:a@192.0.2.1:5060>"
    assert record.rtp_port == MEDIA.port
    assert (record.dialog, record.ack) == (None, b"")
    extra = ("Contact: <sip:b@192.0.2.9>", "Record-Route: <sip:p1;lr>, <sip:p2;lr>")
    hand.receive(reply(invite, 200, tag="two", extra=extra, body=OFFER))
    record = only(hand)
    assert record.ack == sent(hand)[1]
    assert record.ack_hop == Hop("p2", None)
    assert record.dialog is not None
    assert record.dialog.routes == ("<sip:p2;lr>", "<sip:p1;lr>")
    assert (record.dialog.target, record.dialog.remote_tag) == ("sip:b@192.0.2.9", "two")
    (bye,) = sends(hand.take(hand.engine.hang_up("c1", 0)))
    restored = record.dialog.restore(gap=0)
    assert restored.request(hand.engine.ctx, "BYE").headers.get("To") == bye.headers["To"]


def test_the_record_of_a_callee() -> None:
    hand = Hand()
    hand.now = 3.0
    data = request("INVITE", body=OFFER, extra=("Contact: <sip:b@h>", "X-Odd: ?"))
    data = data.replace(b"?", b"\xff")  # no UTF-8
    source = Hop("192.0.2.2", 5099)
    (ringing,) = sends(hand.receive(data, source))
    record = only(hand)
    assert (record.call, record.role, record.began) == ("i1", "callee", 3.0)
    assert record.invite == data
    assert record.response == ringing.raw
    assert (record.source, record.hop) == (source, source)
    assert record.local_tag == ringing.to.tag
    assert record.contact == ringing.headers["Contact"]
    assert record.rtp_port == 0
    assert record.dialog is not None
    assert record.dialog.remote_cseq == 1
    hand.take(hand.engine.answer("i1", MEDIA, 3.0))
    assert only(hand).rtp_port == MEDIA.port


def test_a_connection_is_not_remembered_for_it_dies_with_the_process() -> None:
    hand = Hand()
    via = "SIP/2.0/TCP 192.0.2.2:5062;branch=z9hG4bKone"
    hand.receive(request("INVITE", via=via, body=OFFER), Hop("192.0.2.2", 40000, "tcp", 7))
    record = only(hand)
    assert record.source == Hop("192.0.2.2", 40000, "tcp", 0)
    assert record.hop == Hop("192.0.2.2", 5062, "tcp", 0)
    assert record.dialog is not None
    assert record.dialog.peer.connection == 0


def test_the_number_of_each_request_in_the_dialog_is_known() -> None:
    hand = Hand()
    hand.placed_and_answered()
    for number in (2, 3, 4):
        hand.take(hand.engine.send_info("c1", number, "text/plain", b"x", 0))
        dialog = only(hand).dialog
        assert dialog is not None
        assert dialog.local_cseq == number


def test_a_prack_counts_before_there_is_a_dialog() -> None:
    hand = Hand()
    invite = hand.place()
    extra = ("Contact: <sip:b@192.0.2.2:5062>", "Require: 100rel", "RSeq: 5")
    hand.receive(reply(invite, 183, extra=extra))
    assert only(hand).cseq == 2


def test_the_rseq_of_a_reliable_response_is_known() -> None:
    hand = Hand()
    hand.ringing(extra=("Require: 100rel",))
    record = only(hand)
    assert str(record.rseq) == parse(record.response).headers["RSeq"]


def test_a_reinvite_is_known_until_its_final_response() -> None:
    hand = Hand()
    hand.placed_and_answered()
    (invite,) = sends(hand.take(hand.engine.hold("c1", 1, 0)))
    record = only(hand)
    assert (record.left, record.reinvite) == (Left.CONFIRMED, invite.raw)
    assert record.reinvite_hop == BOB
    hand.receive(reply(invite, 200, body=OFFER))
    assert only(hand).reinvite == b""


def test_a_new_target_is_known() -> None:
    hand = Hand()
    tag = hand.up()
    moved = ("Contact: <sip:b@192.0.2.2:7000>",)
    again = request("INVITE", via=branch("re"), to_tag=tag, cseq=2, extra=moved, body=OFFER)
    hand.receive(again)
    dialog = only(hand).dialog
    assert dialog is not None
    assert dialog.target == "sip:b@192.0.2.2:7000"


def test_a_call_has_few_writes() -> None:
    net = Net()
    net.place()
    net.run(1)
    net.do("b", net.engines["b"].answer("i1", MEDIA, net.now))
    net.run(2)
    net.do("a", net.engines["a"].hang_up("c1", net.now))
    net.run(3)
    assert [len(net.engines[name].writes) for name in "ab"] == [6, 4]


# The order


class Known:
    """A call with a record that the test made up."""

    def __init__(self, key: str, record: CallRecord | None) -> None:
        self.record_key = key
        self._record = record

    def record(self, *, answered_now: bool) -> CallRecord | None:
        return self._record


class Broken(Known):
    def record(self, *, answered_now: bool) -> CallRecord | None:
        raise ZeroDivisionError


def made(left: Left) -> CallRecord:
    hand = Hand()
    hand.placed_and_answered()
    return replace(only(hand), left=left)


def order(outputs: list[Output], *calls: Known) -> tuple[list[str], list[str]]:
    errors: list[str] = []
    changed: Any = {call.record_key: (call, True) for call in calls}
    done = guarded(outputs, changed, lambda: errors.append("error"))
    return [
        f"{output.key}:{decode(output.record).left.value if output.record else None}"
        if isinstance(output, Remember)
        else type(output).__name__
        for output in done
    ], errors


SEND = Send(b"", BOB)
EVENT = CallEnded(call="c", cause="hung_up", by="local")


def test_records_come_first_and_their_end_follows_the_last_message() -> None:
    known, over = Known("k", made(Left.CONFIRMED)), Known("o", None)
    done, _ = order([SEND, EVENT, SEND, EVENT], known, over)
    assert done == ["k:confirmed", "Send", "CallEnded", "Send", "o:None", "CallEnded"]


def test_once_its_ack_has_left_a_call_is_confirmed() -> None:
    """Before the events: a command that follows from one of them may end the call at once."""
    done, _ = order([SEND, EVENT], Known("k", made(Left.ANSWERED)))
    assert done == ["k:answered", "Send", "k:confirmed", "CallEnded"]


def test_a_call_that_cannot_be_remembered_is_served_all_the_same() -> None:
    done, errors = order([SEND], Broken("b", None), Known("k", made(Left.CONFIRMED)))
    assert (done, errors) == (["k:confirmed", "Send"], ["error"])


# The far end's view


class Hearing(Engine):
    """It notes what it was told last."""

    heard = b""

    def receive(self, data: bytes, source: Hop, now: float) -> list[Output]:
        self.heard = data
        return super().receive(data, source, now)


class Watched(Net):
    """A wire between engines whose outputs are carried out one by one, journals included."""

    def __init__(self, seed: int, loss: float) -> None:
        super().__init__()
        self.dice = random.Random(seed)
        settings = {"ring_timeout": 50.0}
        self.plain = {
            name: Hearing(
                StackConfig(user=name, host=at.host, port=at.port or 0, **settings),  # type: ignore[arg-type]
                tokens(name),
                self.dice.random,
            )
            for name, at in self.addresses.items()
        }
        self.engines = self.plain  # type: ignore[assignment]
        self.journals: dict[str, dict[str, CallRecord]] = {"a": {}, "b": {}}
        self.policy = lambda message: [
            self.dice.choice((0.0, 0.01, 0.3, 0.9))
            for _ in range(self.dice.choices((0, 1, 2), (loss, 1 - loss - 0.1, 0.1))[0])
        ]
        self.known: dict[bytes, set[str]] = {}
        """What was in the journal when a message left, by message."""
        self.believed: dict[str, set[str]] = {"a": set(), "b": set()}
        self.given_up: set[str] = set()
        """Who has given up a call that it had heard nothing of."""
        self.checked = 0

    def do(self, name: str, outputs: list[Output]) -> None:
        peer = "b" if name == "a" else "a"
        self.learn(name)
        for output in outputs:
            if isinstance(output, Remember):
                keep(self.journals[name], output)
            else:
                if isinstance(output, CallEnded) and _gave_up(output):
                    self.given_up.add(name)
                if isinstance(output, Send):
                    self.known.setdefault(output.data, set(self.journals[name]))
                super().do(name, [output])
            self.check(name, peer)

    def learn(self, name: str) -> None:
        """What a message makes ``name`` believe was known when the message left."""
        engine = self.plain[name]
        beliefs = self.beliefs(name)
        if engine.heard:
            assert beliefs - self.believed[name] <= self.known[engine.heard]
        engine.heard, self.believed[name] = b"", beliefs

    def check(self, name: str, peer: str) -> None:
        """Were ``name`` killed now, its journal knew of every call that ``peer`` believes in."""
        if not self.given_up and not self.plain[name].counters["sip_ack_missing"]:
            believed = self.beliefs(peer)
            self.checked += len(believed)
            assert believed <= set(self.journals[name])

    def beliefs(self, name: str) -> set[str]:
        """The other one's tags in calls that ``name`` thinks of as open."""
        tags: set[str] = set()
        for leg in self.plain[name].calls:
            if leg.state in (LegState.ENDING, LegState.ENDED):
                continue  # it ends the call itself
            tags |= {leg.dialog.remote_tag} if leg.dialog is not None else set(_early(leg))
        return tags

    def random_command(self) -> None:
        name = self.dice.choice("ab")
        engine, dice = self.plain[name], self.dice
        calls = [leg.key for leg in engine.calls]
        with suppress(StackRefusal):
            if not calls or dice.random() < 0.15:
                key = f"{name}{dice.random()}"
                there = self.addresses["b" if name == "a" else "a"]
                target = engine.read_target(f"sip:x@{there.host}:{there.port}")
                self.do(name, engine.call(key, target, MEDIA, self.now))
                return
            key = dice.choice(calls)
            what: list[Any] = [
                lambda: engine.answer(key, MEDIA, self.now),
                lambda: engine.answer(key, MEDIA, self.now),
                lambda: engine.reject(key, self.now),
                lambda: engine.ring(key, self.now, code=183),
                lambda: engine.cancel(key, self.now),
                lambda: engine.hang_up(key, self.now),
                lambda: engine.hold(key, dice.randrange(1, 10**6), self.now),
                lambda: engine.send_info(key, dice.randrange(1, 10**6), "t/p", b"x", self.now),
            ]
            self.do(name, dice.choice(what)())


def _early(leg: Any) -> list[str]:
    return list(getattr(leg, "_early", ()))


def _gave_up(event: CallEnded) -> bool:
    """No message of ours may have reached the far end: nothing more can be done about its call."""
    unconfirmed = event.cause == "cancelled" and event.code is None and event.by == "local"
    return event.cause == "no_response" or event.bye_answered is False or unconfirmed


@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.1, 0.3]))
@settings(max_examples=60)
def test_whoever_dies_at_any_moment_knows_what_the_other_believes(seed: int, loss: float) -> None:
    net = Watched(seed, loss)
    for _ in range(40):
        net.random_command()
        net.run(net.now + net.dice.choice((0.0, 0.02, 0.2, 1.0)))
    for name in "ab":
        net.do(name, net.plain[name].drain(net.now))
    net.run(net.now + 150)
    assert net.journals == {"a": {}, "b": {}}
    assert net.checked > 0
    assert [net.plain[name].last_error for name in "ab"] == ["", ""]


def test_the_journal_is_that_of_the_engine() -> None:
    """The check itself: an engine that writes too late is found out."""

    class TooLate(JournaledEngine):
        def _take_outputs(self) -> list[Output]:
            self.ctx.changed.clear()
            return super()._take_outputs()

    hand = Hand()
    hand.engine = TooLate(
        StackConfig(user="a", host=ALICE.host, port=5060), tokens("a"), lambda: 0.5
    )
    with pytest.raises(AssertionError, match="nobody knows of"):
        hand.place()
