"""Codecs of offers and answers; hold is in test_reinvite."""

import pytest
from sipwire import MEDIA, OFFER, Hand, reply, request, sends

from sipherd.worker.stack import MediaPlan


def audio(message):
    line = next(x for x in message.content.decode().split("\r\n") if x.startswith("m=audio"))
    return line.split()[3:]


@pytest.mark.parametrize(
    ("codecs", "formats"),
    [
        (("PCMU", "PCMA"), ["0", "8", "101"]),
        (("PCMA", "PCMU"), ["8", "0", "101"]),
        (("PCMA",), ["8", "101"]),
    ],
)
def test_our_offer_has_our_codecs_best_first(codecs, formats):
    assert audio(Hand(codecs=codecs).place()) == formats


@pytest.mark.parametrize(
    ("codecs", "offered", "formats", "sent"),
    [
        # RFC 3264 §6.1: in the order of the offer, whatever ours is.
        (("PCMU", "PCMA"), b"8 0 101", ["8", "0", "101"], "PCMA"),
        (("PCMA", "PCMU"), b"0 8 101", ["0", "8", "101"], "PCMU"),
        (("PCMA",), b"0 8 101", ["8", "101"], "PCMA"),
        (("PCMU", "PCMA"), b"9 8", ["8"], "PCMA"),  # no telephone-event unless it is offered
    ],
)
def test_our_answer(codecs, offered, formats, sent):
    hand = Hand(codecs=codecs)
    hand.ringing(body=OFFER.replace(b"AVP 0 8 101", b"AVP " + offered))
    (ok,) = sends(hand.take(hand.engine.answer("i1", MEDIA, hand.now)))
    assert audio(ok) == formats
    assert hand.reported(MediaPlan)[-1].codec == sent


def test_no_codec_of_ours_is_488():
    hand = Hand(codecs=("PCMA",))
    data = request("INVITE", body=OFFER.replace(b"AVP 0 8 101", b"AVP 0 101"))
    assert [m.code for m in sends(hand.receive(data))] == [488]


def test_payload_numbers_are_the_peers():
    hand = Hand()
    body = OFFER.replace(b"AVP 0 8 101", b"AVP 98 96").replace(
        b"a=ptime", b"a=rtpmap:98 PCMA/8000\r\na=rtpmap:96 telephone-event/8000\r\na=ptime"
    )
    hand.ringing(body=body)
    (ok,) = sends(hand.take(hand.engine.answer("i1", MEDIA, hand.now)))
    assert audio(ok) == ["98", "96"]
    plan = hand.reported(MediaPlan)[-1]
    assert (plan.codec, plan.payload, plan.dtmf_payload) == ("PCMA", 98, 96)


def test_the_plan_follows_the_answer():
    hand = Hand(codecs=("PCMU", "PCMA"))
    invite = hand.place()
    hand.receive(reply(invite, 183, body=OFFER.replace(b"AVP 0 8 101", b"AVP 8")))
    early = hand.reported(MediaPlan)
    assert [(plan.codec, plan.dtmf_payload) for plan in early] == [("PCMA", None)]
    hand.receive(reply(invite, 200, body=OFFER.replace(b"AVP 0 8 101", b"AVP 0 101")))
    plan = hand.reported(MediaPlan)[-1]
    assert (plan.codec, plan.dtmf_payload) == ("PCMU", 101)
