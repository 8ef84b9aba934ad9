"""What a process does with the calls that the one before it has left: every row, by hand."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from sipwire import BOB, MEDIA, OFFER, Hand, branch, events, lines, reply, request, sends

from sipherd.protocol.events import CallCleanedUp
from sipherd.worker.sip.journal import CallRecord, Left, encode
from sipherd.worker.sip.message import Message, parse
from sipherd.worker.stack import (
    Aged,
    CallEnded,
    Credentials,
    Hop,
    IncomingCall,
    Registrar,
    Send,
)

PROXY = Hop("192.0.2.50", 5060)
ROUTES = ("Record-Route: <sip:192.0.2.50;lr>",)
CONTACT = ("Contact: <sip:b@192.0.2.2:5062>",)


class Next(Hand):
    """The process after the one of ``hand``, which is dead."""

    def __init__(
        self,
        hand: Hand,
        *waiting: tuple[bytes, float],
        records: dict[str, CallRecord] | None = None,
        closed: bool = False,
        **config: object,
    ) -> None:
        super().__init__(**config)
        # Its tags and branches are new ones.
        numbers = iter(range(10**6))
        self.engine.ctx.token = lambda: f"next{next(numbers)}"
        self.now = hand.now + 0.05
        if closed:
            self.engine.close()
        self.engine._invites = set(hand.engine._invites)
        kept = hand.engine.journal if records is None else records
        self.engine.journal = dict(kept)
        left = {key: encode(record) for key, record in kept.items()}
        batch = [Aged(data, BOB, age) for data, age in waiting]
        self.first = self.take(self.engine.catch_up(batch, self.now, left))

    def cleaned_up(self) -> list[tuple[str, str]]:
        reported = self.reported(CallCleanedUp)
        return [(event.sip_call_id, event.how) for event in reported]  # type: ignore[union-attr]

    def is_over(self) -> bool:
        """Nothing is left, in the journal neither."""
        self.advance(200)
        return self.is_empty() and not self.engine.journal and not len(self.engine.aftermath)


def left(hand: Hand) -> Left:
    (record,) = hand.engine.journal.values()
    return record.left


def destination(outputs: list[object], at: int = 0) -> Hop:
    sent = [output for output in outputs if isinstance(output, Send)]
    return sent[at].destination


def within(method: str, tag: str, name: str = "next", cseq: int = 2, **more: object) -> bytes:
    settings = {"via": branch(name), "to_tag": tag, "cseq": cseq}
    return request(method, **(settings | more))  # type: ignore[arg-type]


# Callee: INVITE received, nothing but 1xx sent


def test_a_call_that_rang_rings_on_with_the_same_tag() -> None:
    hand = Hand()
    tag = hand.ringing()
    assert left(hand) is Left.INVITED
    after = Next(hand)
    (ringing,) = sends(after.first)
    assert (ringing.code, ringing.to.tag) == (180, tag)
    (incoming,) = events(after.first, IncomingCall)
    assert incoming.sip_call_id == "call@b"  # type: ignore[union-attr]
    after.take(after.engine.answer(incoming.call, MEDIA, after.now))  # type: ignore[union-attr]
    after.receive(within("ACK", tag, "ack", cseq=1))
    assert lines(after.receive(within("BYE", tag))) == ["200"]
    assert not after.cleaned_up()
    (ended,) = after.reported(CallEnded)
    assert ended.cause == "hung_up"  # type: ignore[union-attr]
    assert after.is_over()


def test_copies_of_its_invite_are_no_second_call() -> None:
    hand = Hand()
    hand.ringing()
    invite = request("INVITE", body=OFFER, extra=CONTACT)
    after = Next(hand, (invite, 0.04))
    assert lines(after.first) == ["180", "180"]
    assert len(after.reported(IncomingCall)) == 1


@pytest.mark.parametrize(("rings", "expected"), [(59.0, ["180"]), (61.0, ["480"])])
def test_it_rings_for_the_rest_of_its_time(rings: float, expected: list[str]) -> None:
    hand = Hand()
    hand.ringing()
    hand.advance(rings)
    hand.engine.journal = hand.engine.journal or {}
    if rings > 60:  # a process that was not there when its time was over
        records = Hand()
        records.ringing()
        hand.engine.journal = records.engine.journal
    after = Next(hand)
    assert lines(after.first) == expected
    if expected == ["480"]:
        assert after.cleaned_up() == [("call@b", "refused")]
    else:
        assert lines(after.advance(1.0)) == ["480"]


def test_a_caller_that_has_heard_nothing_gives_up_after_timer_b() -> None:
    hand = Hand()
    hand.ringing()
    (key, record), *_ = hand.engine.journal.items()
    silent = {key: _changed(record, response=b"")}
    hand.now = 33.0
    assert lines(Next(hand, records=silent).first) == ["480"]
    hand.now = 3.0
    assert lines(Next(hand, records=silent).first) == ["180"]


def test_a_refusal_has_the_stored_vias_and_is_repeated_until_its_ack() -> None:
    hand = Hand()
    more = f"Via: {branch('one')}, SIP/2.0/UDP 192.0.2.3;branch=z9hG4bKtwo\r\n".encode()
    proxy = "SIP/2.0/UDP 192.0.2.50;branch=z9hG4bKproxy"
    data = request("INVITE", via=proxy, body=OFFER, extra=CONTACT)
    data = data.replace(b"Max-Forwards", more + b"Max-Forwards")
    tag = sends(hand.receive(data, PROXY))[0].to.tag
    after = Next(hand, closed=True)
    (refused,) = sends(after.first)
    assert (refused.code, refused.to.tag) == (480, tag)
    branches = [via.partition("branch=")[2] for via in refused.headers.values("Via")]
    assert [name.split(";")[0] for name in branches] == ["z9hG4bKproxy", "z9hG4bKone", "z9hG4bKtwo"]
    assert destination(after.first) == PROXY
    after.advance(1.0)
    assert len(after.times("480")) == 2
    assert after.engine.journal  # should this process die as well
    after.receive(within("ACK", tag, cseq=1, via=proxy))
    assert not after.engine.journal
    assert after.advance(60) == []
    assert after.is_over()


@pytest.mark.parametrize("waits", [True, False])
def test_its_cancel_is_200_and_487(waits: bool) -> None:
    hand = Hand()
    tag = hand.ringing()
    cancel = request("CANCEL")
    if waits:
        after = Next(hand, (cancel, 0.01))
        assert lines(after.first) == ["200", "487"]
        assert not after.reported(IncomingCall)
        assert after.cleaned_up() == [("call@b", "peer")]
    else:
        after = Next(hand)
        assert lines(after.receive(cancel)) == ["200", "487"]
    assert sends([output for _, output in after.log])[-1].to.tag == tag
    after.receive(within("ACK", tag, "one", cseq=1))
    assert after.is_over()


def test_its_bye_in_the_early_dialog_is_200_and_487() -> None:
    hand = Hand()
    tag = hand.ringing()
    after = Next(hand, (within("BYE", tag), 0.01))
    assert lines(after.first) == ["200", "487"]
    assert not after.reported(IncomingCall)


def test_reliable_ringing_goes_on_with_the_next_number() -> None:
    hand = Hand()
    tag = hand.ringing(extra=("Require: 100rel",))
    (record,) = hand.engine.journal.values()
    prack = within("PRACK", tag, "prack", extra=(f"RAck: {record.rseq} 1 INVITE",))
    after = Next(hand, (prack, 0.01))
    assert lines(after.first) == ["200", "180"]
    ringing = sends(after.first)[1]
    assert int(ringing.headers["RSeq"]) == record.rseq + 1
    ours = within("PRACK", tag, "two", cseq=3, extra=(f"RAck: {record.rseq + 1} 1 INVITE",))
    assert lines(after.receive(ours)) == ["200"]
    assert after.advance(20) == []


# Callee: a refusal without its ACK


def test_a_refusal_without_its_ack_is_repeated() -> None:
    hand = Hand()
    tag = hand.ringing()
    hand.take(hand.engine.reject("i1", hand.now, code=486))
    assert left(hand) is Left.REFUSED
    after = Next(hand)
    assert [(m.code, m.to.tag) for m in sends(after.first)] == [(486, tag)]
    after.advance(1.0)
    assert len(after.times("486")) == 2
    after.receive(within("ACK", tag, "one", cseq=1))
    assert after.is_over()
    assert not after.cleaned_up()  # it was over before


def test_a_refusal_that_is_never_acknowledged_is_forgotten_after_timer_h() -> None:
    hand = Hand()
    hand.ringing()
    hand.take(hand.engine.reject("i1", hand.now, code=486))
    assert Next(hand).is_over()


# Callee: 2xx sent, no ACK yet


def accepted() -> tuple[Hand, str]:
    hand = Hand()
    tag = hand.ringing()
    hand.take(hand.engine.answer("i1", MEDIA, hand.now))
    assert left(hand) is Left.ACCEPTED
    return hand, tag


def test_a_2xx_is_repeated_until_its_ack_and_then_the_call_is_ended() -> None:
    hand, tag = accepted()
    (first,) = [output for _, output in hand.log if _is(output, "200")]
    after = Next(hand)
    assert [output.data for output in after.first if isinstance(output, Send)] == [first.data]  # type: ignore[attr-defined]
    after.advance(2.0)
    assert len(after.times("200")) == 3
    assert not after.times("BYE")
    (bye,) = sends(after.receive(within("ACK", tag, "ack", cseq=1)))
    assert (bye.method, bye.uri) == ("BYE", "sip:b@192.0.2.2:5062")
    assert (bye.from_.tag, bye.to.tag, bye.call_id) == (tag, "fromb", "call@b")
    assert bye.cseq.number > 100
    after.receive(reply(bye, 200))
    assert after.cleaned_up() == [("call@b", "bye")]
    assert after.is_over()


def test_a_2xx_without_an_ack_is_followed_by_bye_after_32_seconds() -> None:
    hand, _ = accepted()
    after = Next(hand)
    after.advance(33)
    assert after.times("BYE")[0] == pytest.approx(32.05)
    assert after.is_over()
    assert after.cleaned_up() == [("call@b", "bye_unanswered")]


@pytest.mark.parametrize("ack", [True, False])
def test_what_waited_is_read_before_the_2xx_is_repeated(ack: bool) -> None:
    hand, tag = accepted()
    data = within("ACK", tag, "ack", cseq=1) if ack else within("BYE", tag)
    after = Next(hand, (data, 0.01))
    assert lines(after.first) == (["BYE"] if ack else ["200"])
    assert after.cleaned_up() == ([] if ack else [("call@b", "peer")])


def test_a_cancel_after_the_2xx_is_200_and_changes_nothing() -> None:
    hand, tag = accepted()
    after = Next(hand)
    (ok,) = sends(after.receive(request("CANCEL")))
    assert (ok.code, ok.cseq.method) == (200, "CANCEL")
    assert lines(after.receive(within("ACK", tag, "ack", cseq=1))) == ["BYE"]


def test_a_copy_of_the_invite_after_the_2xx_is_no_new_call() -> None:
    hand, _ = accepted()
    after = Next(hand, (request("INVITE", body=OFFER, extra=CONTACT), 0.01))
    assert not after.reported(IncomingCall)
    assert lines(after.first) == ["200"]


# Caller: INVITE sent, no final


def test_an_invite_without_a_response_is_cancelled_after_its_first_1xx() -> None:
    hand = Hand()
    invite = hand.place()
    assert left(hand) is Left.CALLING
    after = Next(hand)
    assert lines(after.first) == []
    # The callee may not have heard it: it is sent again (Timer A), as it was.
    copies = sends(after.advance(0.6))
    assert [copy.headers["Via"] for copy in copies] == [invite.headers["Via"]]
    assert copies[0].encode() == invite.encode() or copies[0].content == invite.content
    (cancel,) = sends(after.receive(reply(invite, 180)))
    assert_cancels(cancel, invite)
    assert lines(after.receive(reply(cancel, 200))) == []
    (ack,) = sends(after.receive(reply(invite, 487)))
    assert (ack.method, ack.via.branch, ack.to.tag) == ("ACK", invite.via.branch, "tob")
    assert after.cleaned_up() == [(invite.call_id, "cancel")]
    assert after.is_over()


def assert_cancels(cancel: Message, invite: Message) -> None:
    assert cancel.method == "CANCEL"
    assert cancel.headers["Via"] == invite.headers["Via"]
    assert cancel.uri == invite.uri
    assert cancel.headers.fields("Route") == invite.headers.fields("Route")
    assert cancel.cseq.number == invite.cseq.number
    assert cancel.headers["To"] == invite.headers["To"]
    assert cancel.headers["From"] == invite.headers["From"]
    assert cancel.call_id == invite.call_id


@pytest.mark.parametrize("proxy", ["", "192.0.2.50"])
def test_an_invite_that_rings_is_cancelled_at_once(proxy: str) -> None:
    hand = Hand(proxy=proxy)
    invite = hand.place()
    hand.receive(reply(invite, 180))
    assert left(hand) is Left.PROCEEDING
    after = Next(hand, proxy=proxy)
    (cancel,) = sends(after.first)
    assert_cancels(cancel, invite)
    assert bool(cancel.headers.fields("Route")) == bool(proxy)
    assert destination(after.first) == (PROXY if proxy else BOB)
    assert lines(after.receive(reply(invite, 487))) == ["ACK"]
    assert after.is_over()


def test_a_cancel_that_was_sent_is_sent_again() -> None:
    hand = Hand()
    invite = hand.place()
    hand.receive(reply(invite, 180))
    hand.take(hand.engine.cancel("c1", hand.now))
    assert left(hand) is Left.CANCELLING
    after = Next(hand)
    assert_cancels(sends(after.first)[0], invite)


def test_a_2xx_that_crosses_the_cancel_is_acknowledged_and_ended() -> None:
    hand = Hand()
    invite = hand.place()
    hand.receive(reply(invite, 180))
    after = Next(hand)
    ok = reply(invite, 200, body=OFFER, extra=(*CONTACT, *ROUTES))
    ack, bye = sends(after.receive(ok))
    assert (ack.method, ack.cseq.number) == ("ACK", invite.cseq.number)
    assert ack.via.branch != invite.via.branch
    assert (bye.method, bye.to.tag) == ("BYE", "tob")
    assert bye.cseq.number > invite.cseq.number + 100
    assert bye.headers.fields("Route") == ["<sip:192.0.2.50;lr>"]
    assert lines(after.receive(ok)) == ["ACK"]  # a copy
    after.receive(reply(bye, 200))
    assert after.cleaned_up() == [(invite.call_id, "bye")]
    assert after.is_over()


def test_what_waited_decides_before_a_cancel_is_sent() -> None:
    hand = Hand()
    invite = hand.place()
    hand.receive(reply(invite, 180))
    answered = Next(hand, (reply(invite, 200, body=OFFER), 0.01))
    assert lines(answered.first) == ["ACK", "BYE"]
    refused = Next(hand, (reply(invite, 486), 0.01))
    assert lines(refused.first) == ["ACK"]
    assert refused.cleaned_up() == [(invite.call_id, "final")]
    assert refused.is_over()


def test_a_challenge_to_an_invite_is_not_answered_any_more() -> None:
    config = _with_credentials()
    hand = Hand(**config)
    invite = hand.place()
    challenge = ('WWW-Authenticate: Digest realm="lab", nonce="n"',)
    after = Next(hand, (reply(invite, 401, extra=challenge), 0.01), **config)
    assert lines(after.first) == ["ACK"]
    assert after.is_over()


def test_a_cancel_without_a_final_response_ends_after_32_seconds() -> None:
    hand = Hand()
    invite = hand.place()
    hand.receive(reply(invite, 180))
    after = Next(hand)
    after.receive(reply(sends(after.first)[0], 200))
    after.advance(33)
    assert after.cleaned_up() == [(invite.call_id, "cancel_unanswered")]
    # And an answer that comes even later is ended.
    assert lines(after.receive(reply(invite, 200, body=OFFER))) == ["ACK", "BYE"]
    assert after.is_over()


def test_an_invite_that_nobody_answers_ends_by_timer_b() -> None:
    hand = Hand()
    invite = hand.place()
    after = Next(hand)
    assert after.is_over()
    assert after.cleaned_up() == [(invite.call_id, "no_response")]


def test_forks_that_answer_are_each_ended() -> None:
    hand = Hand()
    invite = hand.place()
    hand.receive(reply(invite, 180))
    after = Next(hand)
    for tag in ("one", "two"):
        ack, bye = sends(after.receive(reply(invite, 200, tag=tag, body=OFFER)))
        assert (ack.to.tag, bye.to.tag) == (tag, tag)
        after.receive(reply(bye, 200))
    assert after.is_over()


# Caller: 2xx received


def test_an_answer_whose_ack_was_perhaps_not_sent() -> None:
    hand = Hand()
    invite, ack = hand.placed_and_answered()
    records = {
        key: _changed(record, left=Left.ANSWERED) for key, record in hand.engine.journal.items()
    }
    after = Next(hand, records=records)
    again, bye = sends(after.first)
    assert again.encode() == ack.encode() or again.headers.items() == ack.headers.items()
    assert (bye.method, bye.cseq.number) == ("BYE", invite.cseq.number + 101)
    assert lines(after.receive(reply(invite, 200, body=OFFER))) == ["ACK"]
    after.receive(reply(bye, 200))
    assert after.cleaned_up() == [(invite.call_id, "bye")]
    assert after.is_over()


def _changed(record: CallRecord, **changes: object) -> CallRecord:
    return msgspec.structs.replace(record, **changes)


# Confirmed


def test_a_call_of_ours_is_ended() -> None:
    hand = Hand()
    invite, _ = hand.placed_and_answered()
    assert left(hand) is Left.CONFIRMED
    after = Next(hand)
    (bye,) = sends(after.first)
    assert (bye.method, bye.uri) == ("BYE", "sip:b@192.0.2.2:5062")
    assert bye.from_.tag == invite.from_.tag
    assert bye.to.tag == "tob"
    assert bye.cseq.number == invite.cseq.number + 101
    assert after.engine.journal  # until it is answered
    assert not events(after.first)
    after.receive(reply(bye, 200))
    assert not after.engine.journal
    assert after.cleaned_up() == [(invite.call_id, "bye")]
    assert not after.reported(CallEnded)
    assert after.is_over()


def test_a_call_that_came_in_is_ended_along_its_route() -> None:
    hand = Hand()
    tag = hand.up(extra=ROUTES)
    after = Next(hand)
    (bye,) = sends(after.first)
    assert bye.headers.fields("Route") == ["<sip:192.0.2.50;lr>"]
    assert destination(after.first) == PROXY._replace(port=None) or destination(
        after.first
    ).address == ("192.0.2.50", 5060)
    assert (bye.from_.tag, bye.to.tag) == (tag, "fromb")
    assert bye.cseq.number > 100


@pytest.mark.parametrize("code", [481, 408, 500, 603])
def test_any_final_response_ends_it(code: int) -> None:
    hand = Hand()
    invite, _ = hand.placed_and_answered()
    after = Next(hand)
    after.receive(reply(sends(after.first)[0], code))
    assert after.cleaned_up() == [(invite.call_id, "bye")]
    assert not after.engine.journal


def test_a_bye_that_is_not_answered_is_given_up_after_32_seconds() -> None:
    hand = Hand()
    invite, _ = hand.placed_and_answered()
    after = Next(hand)
    after.advance(31)
    assert after.engine.journal
    after.advance(2)
    assert after.cleaned_up() == [(invite.call_id, "bye_unanswered")]
    assert after.is_over()


def _with_credentials() -> dict[str, object]:
    return {
        "credentials": Credentials("a", "secret"),
        "registrar": Registrar(server="192.0.2.50", aor="sip:a@lab", expires=60),
    }


@pytest.mark.parametrize("code", [401, 407])
def test_a_challenge_to_the_bye_is_answered(code: int) -> None:
    config = _with_credentials()
    hand = Hand(**config)
    invite, _ = hand.placed_and_answered()
    after = Next(hand, **config)
    (bye,) = sends(after.first)
    header = "WWW-Authenticate" if code == 401 else "Proxy-Authenticate"
    challenge = (f'{header}: Digest realm="lab", nonce="n", algorithm=MD5',)
    (again,) = sends(after.receive(reply(bye, code, extra=challenge)))
    assert again.cseq.number == bye.cseq.number + 1
    assert again.via.branch != bye.via.branch
    answer = "Authorization" if code == 401 else "Proxy-Authorization"
    assert 'realm="lab"' in again.headers[answer]
    after.receive(reply(again, 200))
    assert after.cleaned_up() == [(invite.call_id, "bye")]
    assert after.is_over()


@pytest.mark.parametrize("waits", [True, False])
def test_the_peers_own_bye_is_200(waits: bool) -> None:
    hand = Hand()
    tag = hand.up()
    bye = within("BYE", tag, "bye")
    if waits:
        after = Next(hand, (bye, 0.02))
        assert lines(after.first) == ["200"]
        assert after.cleaned_up() == [("call@b", "peer")]
    else:
        after = Next(hand)
        assert lines(after.receive(bye)) == ["200"]
        after.receive(reply(sends(after.first)[0], 481))
        assert after.cleaned_up() == [("call@b", "bye")]
    assert after.is_over()


@pytest.mark.parametrize("method", ["INVITE", "INFO", "UPDATE", "OPTIONS"])
def test_what_else_the_peer_asks_is_481(method: str) -> None:
    hand = Hand()
    tag = hand.up()
    after = Next(hand)
    assert lines(after.receive(within(method, tag, extra=CONTACT))) == ["481"]
    assert not events(after.first)


def test_a_reinvite_of_ours_that_is_answered_late_is_acknowledged() -> None:
    hand = Hand()
    hand.placed_and_answered()
    (reinvite,) = sends(hand.take(hand.engine.hold("c1", 1, hand.now)))
    after = Next(hand)
    (bye,) = sends(after.first)
    assert (bye.method, bye.cseq.number) == ("BYE", reinvite.cseq.number + 101)
    (ack,) = sends(after.receive(reply(reinvite, 200, body=OFFER)))
    assert (ack.method, ack.cseq.number) == ("ACK", reinvite.cseq.number)
    after.receive(reply(bye, 200))
    assert after.is_over()


def test_a_call_whose_bye_was_sent() -> None:
    hand = Hand()
    invite, ack = hand.placed_and_answered()
    (old,) = sends(hand.take(hand.engine.hang_up("c1", hand.now)))
    assert left(hand) is Left.ENDING
    after = Next(hand)
    again, bye = sends(after.first)
    assert again.headers.items() == ack.headers.items()
    assert bye.cseq.number > old.cseq.number + 100
    after.receive(reply(bye, 481))
    assert after.cleaned_up() == [(invite.call_id, "bye")]
    assert after.is_over()


# All of it


POINTS: dict[str, Callable[[Hand], object]] = {
    "invited": Hand.ringing,
    "accepted": lambda hand: (hand.ringing(), hand.take(hand.engine.answer("i1", MEDIA, hand.now))),
    "up": Hand.up,
    "calling": Hand.place,
    "proceeding": lambda hand: hand.receive(reply(hand.place(), 180)),
    "answered": Hand.placed_and_answered,
}


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_in_the_midst_of_it_is_cleaned_up_by_the_next(point: str) -> None:
    """Each process dies right after its first step: the numbers go up, and nothing is forgotten."""
    hand = Hand()
    POINTS[point](hand)
    last, cleaned_up = 0, 0
    for crash in range(3):
        hand = after = Next(hand, closed=True)
        cleaned_up += len(after.cleaned_up())
        assert hand.engine.journal, f"nothing is known after crash {crash}"
        for message in sends(hand.first):
            if message.method == "BYE":
                assert message.cseq.number > last
                last = message.cseq.number
    told = len(after.cleaned_up())
    assert after.is_over()
    assert cleaned_up + len(after.cleaned_up()) - told == 1


def test_new_calls_do_not_wait_for_the_old_ones() -> None:
    """Those that are being ended are none of the calls that the phone may have."""
    hand = Hand(max_calls=1)
    hand.placed_and_answered()
    after = Next(hand, max_calls=1)
    assert after.ringing()
    assert len(after.engine.calls) == 2


def test_a_phone_that_only_cleans_up_takes_no_call() -> None:
    hand = Hand()
    hand.up()
    after = Next(hand, closed=True)
    data = request("INVITE", via=branch("new"), call_id="new", body=OFFER, extra=CONTACT)
    assert lines(after.receive(data)) == ["480"]
    assert not after.reported(IncomingCall)
    after.take(after.engine.drain(after.now))
    assert not after.engine.is_idle()
    after.receive(reply(sends(after.first)[0], 200))
    assert after.engine.is_idle()


def test_a_record_that_cannot_be_read_harms_no_other() -> None:
    hand = Hand()
    hand.up()
    after = Hand()
    (record,) = hand.engine.journal.items()
    journal = {"bad": b"nonsense", record[0]: encode(record[1])}
    after.engine.journal = {"bad": record[1], record[0]: record[1]}
    outputs = after.take(after.engine.catch_up([], 0.1, journal))
    assert lines(outputs) == ["BYE"]
    assert set(after.engine.journal) == {record[0]}
    assert after.engine.counters["journal_unreadable"] == 1


def _is(output: object, line: str) -> bool:
    return isinstance(output, Send) and parse(output.data).code == int(line)
