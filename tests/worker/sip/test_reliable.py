"""Provisional responses that arrive: PRACK (RFC 3262)."""

import pytest
from sipwire import MEDIA, OFFER, Hand, branch, lines, reply, request, sends

from sipherd.worker.stack import Answered, CallEnded, Held, MediaPlan, Progress

CONTACT = "Contact: <sip:b@192.0.2.2:5062>"


def reliable(invite, code, number, **more):
    extra = (CONTACT, "Require: 100rel", f"RSeq: {number}")
    return reply(invite, code, extra=extra, **more)


# Caller


def test_a_reliable_response_is_acknowledged():
    hand = Hand()
    invite = hand.place()
    assert "100rel" in invite.headers.values("Supported")
    (prack,) = sends(hand.receive(reliable(invite, 180, 17)))
    assert prack.method == "PRACK"
    assert prack.headers["RAck"] == f"17 {invite.cseq.number} INVITE"
    assert prack.uri == "sip:b@192.0.2.2:5062"
    assert (prack.to.tag, prack.cseq.number) == ("tob", 2)
    hand.receive(reply(prack, 200))
    assert [event.code for event in hand.reported(Progress)] == [180]
    (ack,) = sends(hand.receive(reply(invite, 200, body=OFFER)))
    assert ack.cseq.number == 1
    (bye,) = sends(hand.engine.hang_up("c1", hand.now))
    assert bye.cseq.number == 3  # the dialog's numbers go on


def test_a_copy_is_not_acknowledged_again_but_its_prack_is_repeated():
    hand = Hand()
    invite = hand.place()
    response = reliable(invite, 180, 17)
    assert lines(hand.receive(response)) == ["PRACK"]
    assert lines(hand.receive(response)) == []
    assert lines(hand.advance(0.6)) == ["PRACK"]


def test_responses_are_taken_in_their_order():
    hand = Hand()
    invite = hand.place()
    hand.receive(reliable(invite, 180, 17))
    assert lines(hand.receive(reliable(invite, 183, 19))) == []
    assert [event.code for event in hand.reported(Progress)] == [180]
    (prack,) = sends(hand.receive(reliable(invite, 182, 18)))
    assert prack.headers["RAck"].startswith("18 ")
    assert lines(hand.receive(reliable(invite, 183, 19))) == ["PRACK"]


def test_each_fork_has_numbers_of_its_own():
    hand = Hand()
    invite = hand.place()
    hand.receive(reliable(invite, 180, 17, tag="one"))
    (prack,) = sends(hand.receive(reliable(invite, 180, 4, tag="two")))
    assert (prack.to.tag, prack.headers["RAck"]) == ("two", "4 1 INVITE")


@pytest.mark.parametrize("call", ["up", "ended"])
def test_the_numbers_of_a_fork_go_on_when_it_answers_late(call):
    """Its PRACK had number 2: the BYE that ends it has the next one (RFC 3261 12.2.1.1)."""
    hand = Hand()
    invite = hand.place()
    hand.receive(reliable(invite, 180, 4, tag="two"))
    hand.receive(reply(invite, 200, tag="one", body=OFFER))
    if call == "ended":
        (bye,) = sends(hand.take(hand.engine.hang_up("c1", hand.now)))
        hand.receive(reply(bye, 200))
    ack, bye = sends(hand.receive(reply(invite, 200, tag="two", body=OFFER)))
    assert (ack.method, ack.to.tag, ack.cseq.number) == ("ACK", "two", 1)
    assert (bye.method, bye.to.tag, bye.cseq.number) == ("BYE", "two", 3)


def test_an_answer_in_a_reliable_response_counts():
    hand = Hand()
    invite = hand.place()
    hand.receive(reliable(invite, 183, 1, body=OFFER.replace(b"192.0.2.9", b"192.0.2.10")))
    hand.receive(reply(invite, 200, body=OFFER))
    assert [plan.remote[0] for plan in hand.reported(MediaPlan)] == ["192.0.2.10"] * 2
    assert hand.reported(Answered)[0].remote_media == ("192.0.2.10", 4000)


def test_the_2xx_needs_no_description_after_it():
    hand = Hand()
    invite = hand.place()
    body = OFFER.replace(b"sendrecv", b"sendonly")
    hand.receive(reliable(invite, 183, 1, body=body))
    assert not hand.reported(Held)
    hand.receive(reply(invite, 200))
    assert hand.reported(Answered)[0].codec == "PCMU"
    assert hand.reported(Held) == [Held(call="c1", by="remote")]


def test_update_in_the_early_dialog():
    hand = Hand()
    invite = hand.place()

    def update(name, cseq, body=OFFER):
        return request(
            "UPDATE",
            via=branch(name),
            call_id=invite.call_id,
            from_tag="tob",
            to_tag=invite.from_.tag,
            cseq=cseq,
            body=body,
        )

    hand.receive(reply(invite, 183))
    assert lines(hand.receive(update("u1", 1))) == ["491"]  # our offer is not answered
    assert lines(hand.receive(update("u2", 2, b""))) == ["200"]
    hand.receive(reliable(invite, 183, 1, body=OFFER))
    moved = OFFER.replace(b"192.0.2.9", b"192.0.2.11")
    assert lines(hand.receive(update("u3", 3, moved))) == ["200"]
    assert hand.reported(MediaPlan)[-1].remote == ("192.0.2.11", 4000)
    hand.receive(reply(invite, 200))
    assert hand.reported(Answered)[0].remote_media == ("192.0.2.11", 4000)


def test_a_prack_that_is_refused_or_lost_harms_nothing():
    hand = Hand()
    invite = hand.place()
    (prack,) = sends(hand.receive(reliable(invite, 180, 1)))
    hand.receive(reply(prack, 481))
    hand.receive(reliable(invite, 183, 2))
    hand.advance(40)
    hand.receive(reply(invite, 200, body=OFFER))
    assert hand.reported(Answered)
    assert not hand.reported(CallEnded)


def test_a_call_that_is_given_up_leaves_no_prack():
    hand = Hand()
    invite = hand.place()
    hand.receive(reliable(invite, 180, 1))
    (cancel,) = sends(hand.take(hand.engine.cancel("c1", hand.now)))
    hand.receive(reply(cancel, 200))
    hand.receive(reply(invite, 487))
    hand.advance(100)
    assert hand.is_empty()


# Callee


def rings():
    hand = Hand()
    data = request("INVITE", body=OFFER, extra=(CONTACT, "Require: 100rel"))
    (ringing,) = sends(hand.receive(data))
    return hand, ringing


def prack(ringing, rack, name="p", cseq=2, **more):
    extra = (CONTACT, f"RAck: {rack}")
    return request("PRACK", via=branch(name), to_tag=ringing.to.tag, cseq=cseq, extra=extra, **more)


def test_ringing_is_repeated_until_its_prack():
    hand, ringing = rings()
    assert ringing.headers.values("Require") == ["100rel"]
    number = int(ringing.headers["RSeq"])
    assert 0 < number < 2**31
    hand.advance(4)
    assert hand.times("180") == [0.0, 0.5, 1.5, 3.5]
    assert lines(hand.receive(prack(ringing, f"{number} 1 INVITE"))) == ["200"]
    assert hand.advance(40) == []
    assert lines(hand.receive(prack(ringing, f"{number} 1 INVITE", "again", 3))) == ["481"]
    assert lines(hand.engine.answer("i1", MEDIA, hand.now)) == ["200"]


@pytest.mark.parametrize("rack", ["1 1 INVITE", "{n} 2 INVITE", "{n} 1 BYE", "", "{n}"])
def test_a_prack_of_something_else_is_481(rack):
    hand, ringing = rings()
    rack = rack.format(n=ringing.headers["RSeq"])
    assert lines(hand.receive(prack(ringing, rack))) == ["481"]
    assert lines(hand.advance(0.5)) == ["180"]


def test_the_next_response_waits_for_the_prack():
    hand, ringing = rings()
    assert lines(hand.engine.ring("i1", hand.now, code=182)) == []
    number = int(ringing.headers["RSeq"])
    ok, second = sends(hand.receive(prack(ringing, f"{number} 1 INVITE")))
    assert (ok.code, second.code) in [(200, 182), (182, 200)]
    later = second if second.code == 182 else ok
    assert int(later.headers["RSeq"]) == number + 1


def test_no_prack_at_all_ends_the_call():
    hand, _ = rings()
    hand.advance(33)
    (ended,) = hand.reported(CallEnded)
    assert (ended.code, ended.cause, ended.by) == (504, "no_response", "timeout")
    hand.advance(100)
    assert hand.is_empty()


def test_an_answer_before_the_prack():
    hand, ringing = rings()
    assert lines(hand.take(hand.engine.answer("i1", MEDIA, hand.now))) == ["200"]
    assert "180" not in lines(hand.advance(5))
    rack = f"{ringing.headers['RSeq']} 1 INVITE"
    assert lines(hand.receive(prack(ringing, rack))) == ["200"]


def test_a_late_offer_that_wants_100rel_does_not_ring():
    """RFC 3262 §5: the 180 would have to carry an offer."""
    hand = Hand()
    data = request("INVITE", extra=(CONTACT, "Require: 100rel"))
    assert lines(hand.receive(data)) == ["100"]
    assert lines(hand.engine.answer("i1", MEDIA, hand.now)) == ["200"]


def test_who_only_supports_it_gets_an_ordinary_response():
    hand = Hand()
    data = request("INVITE", body=OFFER, extra=(CONTACT, "Supported: 100rel"))
    (ringing,) = sends(hand.receive(data))
    assert "RSeq" not in ringing.headers
    assert lines(hand.receive(prack(ringing, "1 1 INVITE"))) == ["481"]


def test_an_offer_in_a_prack_is_refused():
    hand, ringing = rings()
    rack = f"{ringing.headers['RSeq']} 1 INVITE"
    assert lines(hand.receive(prack(ringing, rack, body=OFFER))) == ["488"]


def test_a_reliable_response_to_a_reinvite():
    hand = Hand()
    hand.up()
    (invite,) = sends(hand.take(hand.engine.hold("i1", 1, hand.now)))
    (sent,) = sends(hand.receive(reliable(invite, 183, 5)))
    assert sent.headers["RAck"] == f"5 {invite.cseq.number} INVITE"
