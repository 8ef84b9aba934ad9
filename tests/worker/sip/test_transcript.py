"""The messages of a call, told when it ends to whoever asked for them."""

from itertools import pairwise

import pytest
from sipwire import BOB, MEDIA, OFFER, Hand, branch, engine, reply, request, sends
from test_authentication import ALICE_KEY, challenge

from sipherd.protocol.events import SipMessage
from sipherd.worker.sip.transcript import FIRST, LAST, Transcript
from sipherd.worker.stack import CallEnded, Send


def told(hand):
    """The messages of the one call that has ended: ``>INVITE`` sent, ``<200 INVITE`` received."""
    (ended,) = hand.reported(CallEnded)
    assert all(one.t <= next_.t for one, next_ in pairwise(ended.messages))
    return [brief(message) for message in ended.messages]


def brief(message):
    way = ">" if message.sent else "<"
    code = f"{message.code} " if message.code else ""
    return f"{way}{code}{message.method}{', again' if message.again else ''}"


def hang_up(hand):
    (bye,) = sends(hand.take(hand.engine.hang_up("c1", hand.now)))
    return bye


def test_a_call_from_invite_to_the_answer_to_its_bye():
    hand = Hand()
    invite = hand.place(messages=True)
    hand.advance(0.25)
    hand.receive(reply(invite, 100, tag=""))
    hand.receive(reply(invite, 180))
    hand.advance(1.75)
    hand.receive(reply(invite, 200, body=OFFER))
    hand.advance(3.0)
    bye = hang_up(hand)
    hand.advance(0.125)
    hand.receive(reply(bye, 200))
    (ended,) = hand.reported(CallEnded)
    assert ended.messages == (
        SipMessage(0.0, True, "INVITE"),
        SipMessage(0.25, False, "INVITE", 100),
        SipMessage(0.25, False, "INVITE", 180),
        SipMessage(2.0, False, "INVITE", 200),
        SipMessage(2.0, True, "ACK"),
        SipMessage(5.0, True, "BYE"),
        SipMessage(5.125, False, "BYE", 200),
    )
    assert ended.bye_sent == 5.0
    hand.advance(60)
    assert hand.is_empty()


def test_nothing_is_kept_of_a_call_for_which_nobody_asked():
    hand = Hand()
    hand.placed_and_answered()
    assert not hand.engine.ctx.transcripts
    hand.receive(reply(hang_up(hand), 200))
    assert told(hand) == []


def test_the_callee_tells_when_its_bye_left_and_who_was_hung_up_on_nothing():
    hand = Hand()
    hand.up()
    hand.advance(2.0)
    (bye,) = sends(hand.take(hand.engine.hang_up("i1", hand.now)))
    hand.advance(0.5)
    hand.receive(reply(bye, 200))
    (ended,) = hand.reported(CallEnded)
    assert (ended.bye_sent, ended.messages) == (2.0, ())


def test_a_challenge_and_what_follows_it():
    hand = Hand(credentials=ALICE_KEY)
    invite = hand.place(messages=True)
    _, again = sends(hand.receive(challenge(invite)))
    hand.receive(reply(again, 486))
    assert told(hand) == [">INVITE", "<407 INVITE", ">ACK", ">INVITE", "<486 INVITE", ">ACK"]


def test_a_cancelled_call():
    hand = Hand()
    invite = hand.place(messages=True)
    hand.receive(reply(invite, 180))
    (cancel,) = sends(hand.take(hand.engine.cancel("c1", hand.now)))
    hand.receive(reply(cancel, 200))
    hand.receive(reply(invite, 487))
    assert told(hand) == [
        ">INVITE",
        "<180 INVITE",
        ">CANCEL",
        "<200 CANCEL",
        "<487 INVITE",
        ">ACK",
    ]


def test_copies_are_marked_in_both_directions():
    hand = Hand()
    invite = hand.place(messages=True)
    hand.advance(0.5)
    hand.receive(reply(invite, 180))
    hand.receive(reply(invite, 180))
    hand.receive(reply(invite, 200, body=OFFER))
    hand.receive(reply(invite, 200, body=OFFER))
    (ended_by,) = sends(hand.receive(request("BYE", **dialog(invite))))
    assert ended_by.code == 200
    assert told(hand) == [
        ">INVITE",
        ">INVITE, again",
        "<180 INVITE",
        "<180 INVITE, again",
        "<200 INVITE",
        ">ACK",
        "<200 INVITE, again",
        ">ACK, again",
        "<BYE",
        ">200 BYE",
    ]


def dialog(invite, cseq=1):
    return {
        "call_id": invite.call_id,
        "from_tag": "tob",
        "to_tag": invite.from_.tag,
        "cseq": cseq,
        "via": branch(f"q{cseq}"),
    }


def test_what_differs_in_more_than_its_way_is_no_copy():
    """A 180 after one of another fork, and a 183 with another description."""
    hand = Hand()
    invite = hand.place(messages=True)
    hand.receive(reply(invite, 180, tag="one"))
    hand.receive(reply(invite, 180, tag="two"))
    hand.receive(reply(invite, 183, tag="two"))
    hand.receive(reply(invite, 183, tag="two", body=OFFER))
    hand.receive(reply(invite, 486))
    assert not [line for line in told(hand) if "again" in line]


def test_requests_within_the_call_in_both_directions():
    hand = Hand()
    invite, _ = hand.placed_and_answered(messages=True)
    ask = {"extra": (), "body": b""}
    (ok,) = sends(hand.receive(request("OPTIONS", **dialog(invite, 1), **ask)))
    assert ok.code == 200
    hand.receive(request("OPTIONS", **dialog(invite, 1), **ask))
    hand.receive(request("INVITE", **dialog(invite, 2), body=OFFER))
    hand.receive(request("ACK", **dialog(invite, 2)))
    (info,) = sends(hand.take(hand.engine.send_info("c1", 1, "application/x", b"1", hand.now)))
    hand.receive(reply(info, 200))
    hand.receive(reply(hang_up(hand), 200))
    assert told(hand)[3:-2] == [
        "<OPTIONS",
        ">200 OPTIONS",
        "<OPTIONS, again",
        ">200 OPTIONS, again",
        "<INVITE",
        ">200 INVITE",
        "<ACK",
        ">INFO",
        "<200 INFO",
    ]


def test_nobody_answers():
    hand = Hand()
    hand.place(messages=True)
    hand.advance(40)
    assert told(hand) == [">INVITE", *[">INVITE, again"] * 6]


def test_a_message_of_somebody_else_with_the_same_call_id_is_not_of_the_call():
    hand = Hand()
    invite = hand.place(messages=True)
    hand.receive(request("OPTIONS", call_id=invite.call_id))
    other = {**dialog(invite), "to_tag": "strange"}
    hand.receive(request("BYE", **other))
    hand.receive(reply(invite, 486))
    assert told(hand) == [">INVITE", "<486 INVITE", ">ACK"]


def test_of_an_unreadable_request_there_is_the_refusal_alone():
    hand = Hand()
    invite = hand.place(messages=True)
    data = request("OPTIONS", **dialog(invite))
    hand.receive(data.replace(b"CSeq: 1", b"CSeq: one"))
    hand.receive(reply(invite, 486))
    assert told(hand) == [">INVITE", ">400 OPTIONS", "<486 INVITE", ">ACK"]


def test_a_phone_that_calls_itself_tells_the_callers_side():
    alice = engine()
    target = alice.read_target("sip:a@192.0.2.1:5060")
    flight = alice.call("c1", target, MEDIA, 0.0, messages=True)
    ended = []
    while flight:
        output = flight.pop(0)
        if isinstance(output, Send):
            flight += alice.receive(output.data, output.destination, 0.0)
        elif isinstance(output, CallEnded):
            ended.append(output)
        elif getattr(output, "code", 0) == 180:
            flight += alice.reject("i1", 0.0)
    (mine,) = [end for end in ended if end.call == "c1"]
    assert [brief(one) for one in mine.messages] == [
        ">INVITE",
        "<180 INVITE",
        "<486 INVITE",
        ">ACK",
    ]
    assert [end.messages for end in ended if end.call == "i1"] == [()]


@pytest.mark.parametrize("number", [FIRST, FIRST + LAST, FIRST + LAST + 300])
def test_it_is_bounded(number):
    transcript = Transcript("call", "tag")
    for n in range(number):
        transcript.add(float(n), sent=False, method="OPTIONS", code=0, identity=n)
    kept = [int(message.t) for message in transcript.messages]
    assert kept == sorted({*range(min(number, FIRST)), *range(max(FIRST, number - LAST), number)})
    assert len(transcript._recent) <= 64


def test_a_method_that_a_peer_made_up_is_cut():
    hand = Hand()
    invite, _ = hand.placed_and_answered(messages=True)
    hand.receive(request("X" * 2000, **dialog(invite), extra=()))
    hand.receive(reply(hang_up(hand), 200), BOB)
    assert told(hand)[3:5] == ["<" + "X" * 32, ">405 " + "X" * 32]
