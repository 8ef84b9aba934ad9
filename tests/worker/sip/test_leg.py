"""Requests within a dialog."""

import pytest
from sipwire import BOB, MEDIA, OFFER, Hand, branch, lines, reply, request, sends

from sipherd.worker.stack import CallEnded, MediaPlan


def within(method, tag, name="next", cseq=2, **more):
    return request(method, via=branch(name), to_tag=tag, cseq=cseq, **more)


def test_bye_from_the_peer():
    hand = Hand()
    tag = hand.up()
    assert lines(hand.receive(within("BYE", tag))) == ["200"]
    assert hand.reported(CallEnded) == [CallEnded(call="i1", cause="hung_up", by="remote")]
    hand.advance(70)
    assert hand.is_empty()


def test_bye_from_the_callee_to_the_caller():
    hand = Hand()
    invite, _ = hand.placed_and_answered()
    bye = request(
        "BYE", via=branch("x"), call_id=invite.call_id, from_tag="tob", to_tag=invite.from_.tag
    )
    assert lines(hand.receive(bye)) == ["200"]
    assert hand.reported(CallEnded)[0].by == "remote"


def test_bye_before_our_2xx_is_acknowledged():
    hand = Hand()
    tag = hand.ringing()
    hand.engine.answer("i1", MEDIA, hand.now)
    assert lines(hand.receive(within("BYE", tag))) == ["200"]
    assert hand.advance(100) == []


def test_byes_that_cross():
    hand = Hand()
    tag = hand.up()
    (bye,) = sends(hand.engine.hang_up("i1", hand.now))
    assert lines(hand.receive(within("BYE", tag))) == ["200"]
    assert not hand.reported(CallEnded)
    hand.receive(reply(bye, 481))
    (ended,) = hand.reported(CallEnded)
    assert (ended.cause, ended.by, ended.bye_answered) == ("hung_up", "local", True)


@pytest.mark.parametrize(
    "wrong", [{"call_id": "other"}, {"from_tag": "other"}, {"to_tag": "other"}]
)
@pytest.mark.parametrize("method", ["BYE", "INVITE", "OPTIONS", "INFO"])
def test_a_dialog_unknown_to_us_is_481(method, wrong):
    hand = Hand()
    tag = hand.up()
    data = request(method, **{"via": branch("x"), "to_tag": tag, "cseq": 2, **wrong})
    assert lines(hand.receive(data)) == ["481"]
    assert not hand.reported(CallEnded)


def test_a_cseq_below_the_last_is_500():
    hand = Hand()
    tag = hand.up()
    hand.receive(within("OPTIONS", tag, "a", cseq=50))
    assert lines(hand.receive(within("BYE", tag, "b", cseq=49))) == ["500"]
    assert lines(hand.receive(within("BYE", tag, "c", cseq=1000))) == ["200"]


def test_options_within_the_dialog():
    hand = Hand()
    (response,) = sends(hand.receive(within("OPTIONS", hand.up())))
    assert response.code == 200
    assert "INVITE" in response.headers["Allow"]


@pytest.mark.parametrize("method", ["SUBSCRIBE", "PUBLISH", "NEWMETHOD"])
def test_other_methods_are_405_and_harm_nothing(method):
    hand = Hand()
    tag = hand.up()
    (response,) = sends(hand.receive(within(method, tag)))
    assert response.code == 405
    assert "INVITE" in response.headers["Allow"]
    assert lines(hand.receive(within("BYE", tag, "bye", cseq=3))) == ["200"]


def hold(direction):
    return OFFER.replace(b"a=sendrecv", f"a={direction}".encode())


@pytest.mark.parametrize(
    ("offered", "expected"), [("sendonly", "recvonly"), ("inactive", "inactive")]
)
def test_reinvite_is_answered_and_repeated_until_its_ack(offered, expected):
    hand = Hand()
    tag = hand.up()
    contact = ("Contact: <sip:b@192.0.2.88:5099>",)
    (ok,) = sends(hand.receive(within("INVITE", tag, body=hold(offered), extra=contact)))
    assert ok.code == 200
    assert f"a={expected}".encode() in ok.content
    hand.advance(2)
    assert hand.times("200")[-3:] == [0.0, 0.5, 1.5]
    hand.receive(within("ACK", tag, "ack2"))
    assert hand.advance(60) == []
    outputs = hand.engine.hang_up("i1", hand.now)
    assert outputs[0].destination.address == ("192.0.2.88", 5099)  # the target was refreshed
    assert sends(outputs)[0].uri == "sip:b@192.0.2.88:5099"


def test_a_description_of_ours_has_another_version_only_if_it_is_another_one():
    hand = Hand()
    tag = hand.ringing()
    (first,) = sends(hand.engine.answer("i1", MEDIA, hand.now))
    hand.receive(request("ACK", via=branch("ack"), to_tag=tag))
    (second,) = sends(hand.receive(within("INVITE", tag, body=OFFER)))
    hand.receive(within("ACK", tag, "ack2"))
    (third,) = sends(hand.receive(within("INVITE", tag, "third", cseq=3, body=hold("sendonly"))))
    origins = [m.content.split(b"\r\n")[1].split() for m in (first, second, third)]
    assert len({origin[1] for origin in origins}) == 1
    assert [origin[2] for origin in origins] == [b"1", b"1", b"2"]


def test_reinvite_without_ack_ends_the_call():
    hand = Hand()
    tag = hand.up()
    hand.receive(within("INVITE", tag, body=OFFER))
    hand.advance(32)
    assert hand.times("BYE") == [32.0]
    hand.advance(32)
    (ended,) = hand.reported(CallEnded)
    assert (ended.cause, ended.bye_answered) == ("no_ack", False)


def test_reinvite_while_another_lacks_its_ack_is_491():
    hand = Hand()
    tag = hand.up()
    hand.receive(within("INVITE", tag, body=OFFER))
    assert lines(hand.receive(within("INVITE", tag, "second", cseq=3, body=OFFER))) == ["491"]
    hand.receive(within("ACK", tag, "ack2"))
    assert hand.advance(20) != []  # 491 is repeated until its own ACK
    hand.receive(request("ACK", via=branch("second"), to_tag=tag, cseq=3))
    assert hand.advance(20) == []


def test_reinvite_before_the_first_is_answered_is_500_with_retry_after():
    hand = Hand()
    tag = hand.ringing()
    (response,) = sends(hand.receive(within("INVITE", tag, body=OFFER)))
    assert response.code == 500
    assert 0 <= int(response.headers["Retry-After"]) <= 10
    assert lines(hand.engine.answer("i1", MEDIA, hand.now)) == ["200"]


@pytest.mark.parametrize("body", [b"nonsense", OFFER.replace(b"RTP/AVP 0 8", b"RTP/AVP 3 9")])
def test_reinvite_that_cannot_be_taken_leaves_the_call_as_it_was(body):
    hand = Hand()
    tag = hand.up()
    assert lines(hand.receive(within("INVITE", tag, body=body))) == ["488"]
    assert not hand.reported(CallEnded)
    assert hand.engine.calls.leg("i1").session.remote.codec == "PCMU"


def test_reinvite_without_offer_gets_one():
    hand = Hand()
    tag = hand.up()
    (ok,) = sends(hand.receive(within("INVITE", tag)))
    assert b"m=audio 4000" in ok.content
    hand.receive(within("ACK", tag, "ack2", body=OFFER))
    assert hand.advance(40) == []


def test_requests_after_our_bye_are_481():
    hand = Hand()
    tag = hand.up()
    hand.engine.hang_up("i1", hand.now)
    assert lines(hand.receive(within("INVITE", tag, body=OFFER))) == ["481"]


def test_the_peer_may_move_when_its_target_is_nothing_we_can_send_to():
    hand = Hand()
    contact = "Contact: <sip:b@phone.lab;transport=ws>"
    data = request("INVITE", body=OFFER, extra=(contact,))
    tag = sends(hand.receive(data))[0].to.tag
    hand.engine.answer("i1", MEDIA, hand.now)
    hand.receive(request("ACK", via=branch("ack"), to_tag=tag), BOB)
    hand.receive(within("OPTIONS", tag), ("192.0.2.3", 6000))
    assert hand.engine.hang_up("i1", hand.now)[0].destination.address == ("192.0.2.3", 6000)


def test_each_completed_exchange_says_what_the_audio_is():
    hand = Hand()
    tag = hand.up()
    (plan,) = hand.reported(MediaPlan)
    assert (plan.call, plan.remote, plan.sending) == ("i1", (MEDIA.host, MEDIA.port), True)
    held = OFFER.replace(b"a=sendrecv", b"a=inactive")
    hand.receive(within("INVITE", tag, body=held))
    assert [plan.sending for plan in hand.reported(MediaPlan)] == [True, False]


def test_a_late_offer_is_complete_with_the_ack():
    hand = Hand()
    tag = hand.ringing(body=b"")
    hand.take(hand.engine.answer("i1", MEDIA, hand.now))
    assert not hand.reported(MediaPlan)
    hand.receive(request("ACK", via=branch("ack"), to_tag=tag, body=OFFER))
    assert len(hand.reported(MediaPlan)) == 1


def test_early_media_and_the_answer_each_say_what_the_audio_is():
    hand = Hand()
    invite = hand.place()
    hand.receive(reply(invite, 183, body=OFFER))
    assert len(hand.reported(MediaPlan)) == 1
    hand.receive(reply(invite, 200, body=OFFER.replace(b"4000", b"4010")))
    assert [plan.remote[1] for plan in hand.reported(MediaPlan)] == [4000, 4010]
