"""The callee's side: ringing, answer, rejection, CANCEL."""

import pytest
from sipwire import BOB, MEDIA, OFFER, REPEATS, Hand, branch, events, lines, reply, request, sends

from sipherd.worker.sip.message import parse
from sipherd.worker.stack import Answered, CallEnded, Confirmed, IncomingCall, Send, StackRefusal


def refused(action):
    with pytest.raises(StackRefusal) as refusal:
        action()
    return refusal.value.reason


def test_an_invite_rings_and_is_reported_in_one_batch():
    hand = Hand()
    outputs = hand.receive(
        request("INVITE", body=OFFER).replace(b"From: ", b'From: "Bob \xff" '), BOB
    )
    (incoming,) = events(outputs)
    assert incoming == IncomingCall(
        call="i1",
        sip_call_id="call@b",
        from_uri="sip:b@192.0.2.2",
        from_display="Bob �",
        to_uri="sip:a@192.0.2.1",
        request_uri="sip:a@192.0.2.1:5060",
        source=BOB.address,
    )
    (ringing,) = sends(outputs)
    assert ringing.code == 180
    assert ringing.to.tag
    assert ringing.contact.uri == "sip:a@192.0.2.1:5060"


def test_responses_that_make_the_dialog_carry_record_route():
    hand = Hand()
    route = "Record-Route: <sip:192.0.2.50;lr>, <sip:192.0.2.51;lr>"
    tag = hand.ringing(extra=(route,))
    hand.take(hand.engine.answer("i1", MEDIA, hand.now))
    for message in sends([o for _, o in hand.log]):
        assert message.headers.values("Record-Route") == [
            "<sip:192.0.2.50;lr>",
            "<sip:192.0.2.51;lr>",
        ]
    hand.receive(request("ACK", via=branch("ack"), to_tag=tag))
    outputs = hand.engine.hang_up("i1", hand.now)
    (bye,) = sends(outputs)
    assert bye.headers.values("Route") == ["<sip:192.0.2.50;lr>", "<sip:192.0.2.51;lr>"]
    assert outputs[0].destination.address == ("192.0.2.50", 5060)
    assert bye.uri == "sip:b@192.0.2.2:5062"
    assert (bye.from_.tag, bye.to.tag) == (tag, "fromb")


def test_the_2xx_is_repeated_until_the_ack():
    hand = Hand()
    tag = hand.ringing()
    (ok,) = sends(hand.take(hand.engine.answer("i1", MEDIA, hand.now)))
    assert ok.headers["Content-Type"] == "application/sdp"
    assert ok.to.tag == tag
    assert hand.reported(Answered)[0].codec == "PCMU"
    hand.advance(4)
    assert hand.times("200") == [0.0, 0.5, 1.5, 3.5]
    assert events(hand.receive(request("ACK", via=branch("ack"), to_tag=tag))) == [
        Confirmed(call="i1")
    ]
    hand.receive(request("ACK", via=branch("ack"), to_tag=tag))
    hand.advance(60)
    assert hand.times("200") == [0.0, 0.5, 1.5, 3.5]
    assert len(hand.reported(Confirmed)) == 1


def test_an_ack_with_the_branch_of_the_invite_is_taken():
    hand = Hand()
    tag = hand.ringing()
    hand.engine.answer("i1", MEDIA, hand.now)
    hand.receive(request("ACK", to_tag=tag))
    assert hand.reported(Confirmed)


@pytest.mark.parametrize(
    "ack", [{"to_tag": "wrong"}, {"from_tag": "wrong"}, {"cseq": 7}, {"call_id": "wrong"}]
)
def test_a_wrong_ack_is_none(ack):
    hand = Hand()
    tag = hand.ringing()
    hand.engine.answer("i1", MEDIA, hand.now)
    hand.receive(request("ACK", via=branch("ack"), **{"to_tag": tag, **ack}))
    assert not hand.reported(Confirmed)


def test_no_ack_ends_the_call_with_a_bye():
    hand = Hand()
    hand.ringing()
    hand.take(hand.engine.answer("i1", MEDIA, hand.now))
    hand.advance(32)
    assert hand.times("200") == [0.0, *REPEATS]
    assert hand.times("BYE") == [32.0]
    hand.receive(reply(sends([output for _, output in hand.log])[-1], 481))
    (ended,) = hand.reported(CallEnded)
    assert (ended.cause, ended.by, ended.bye_answered) == ("no_ack", "timeout", True)
    hand.advance(40)
    assert hand.is_empty()


def test_no_bye_before_the_ack():
    """RFC 3261 15: the callee must wait for the ACK, or for the end of waiting."""
    hand = Hand()
    tag = hand.ringing()
    hand.engine.answer("i1", MEDIA, hand.now)
    assert hand.engine.hang_up("i1", hand.now) == []
    (bye,) = sends(hand.receive(request("ACK", via=branch("ack"), to_tag=tag)))
    hand.receive(reply(bye, 200))
    (ended,) = hand.reported(CallEnded)
    assert (ended.cause, ended.by) == ("hung_up", "local")


def test_ringing_is_repeated_every_minute_and_ends():
    hand = Hand(ring_timeout=150.0)
    hand.ringing()
    hand.advance(151)
    assert hand.times("180") == [0.0, 60.0, 120.0]
    assert hand.times("480")[0] == 150.0
    (ended,) = hand.reported(CallEnded)
    assert (ended.cause, ended.by, ended.code) == ("no_answer", "timeout", 480)
    hand.advance(70)
    assert hand.is_empty()


@pytest.mark.parametrize(("expires", "at", "code"), [("5", 5.0, "487"), ("500", 60.0, "480"),
                                                     ("soon", 60.0, "480")])  # fmt: skip
def test_a_shorter_expires_wins(expires, at, code):
    hand = Hand()
    hand.ringing(extra=(f"Expires: {expires}",))
    hand.advance(61)
    assert hand.times(code)[0] == at
    assert hand.reported(CallEnded)[0].cause == "no_answer"


def test_ring_again_with_another_code():
    hand = Hand()
    tag = hand.ringing()
    (queued,) = sends(hand.engine.ring("i1", hand.now, code=182))
    assert (queued.code, queued.to.tag) == (182, tag)
    assert refused(lambda: hand.engine.ring("i1", hand.now, code=200)) == "bad_code"


@pytest.mark.parametrize(("code", "phrase"), [(486, "Busy Here"), (603, "Decline"), (302, None)])
def test_reject(code, phrase):
    hand = Hand()
    hand.ringing()
    reason = "" if phrase else "Gone\r\nInjected: yes"
    (response,) = sends(hand.take(hand.engine.reject("i1", hand.now, code=code, reason=reason)))
    assert response.code == code
    assert response.reason == (phrase or "Gone Injected: yes")
    assert "Injected" not in response.headers
    (ended,) = hand.reported(CallEnded)
    assert (ended.cause, ended.by, ended.code) == ("rejected", "local", code)
    assert refused(lambda: hand.engine.answer("i1", MEDIA, hand.now)) == "already_ended"


def test_hanging_up_a_ringing_call_is_480():
    hand = Hand()
    hand.ringing()
    assert lines(hand.take(hand.engine.hang_up("i1", hand.now))) == ["480"]
    assert hand.reported(CallEnded)[0].by == "local"


def test_commands_out_of_place():
    hand = Hand()
    hand.ringing()
    assert refused(lambda: hand.engine.cancel("i1", 0.0)) == "not_outgoing"
    assert refused(lambda: hand.engine.reject("i1", 0.0, code=200)) == "bad_code"
    assert refused(lambda: hand.engine.answer("i2", MEDIA, 0.0)) == "no_such_call"
    hand.engine.answer("i1", MEDIA, 0.0)
    assert refused(lambda: hand.engine.answer("i1", MEDIA, 0.0)) == "already_answered"
    assert refused(lambda: hand.engine.reject("i1", 0.0)) == "already_answered"
    hand.place("c1")
    assert refused(lambda: hand.engine.answer("c1", MEDIA, 0.0)) == "not_incoming"


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ((), "cancelled"),
        (("Reason: SIP;cause=200;text=\"Call completed, elsewhere\"",), "answered_elsewhere"),
        (("Reason: Q.850;cause=16, sip ; text=x ; cause=200",), "answered_elsewhere"),
        (("Reason: SIP;cause=2000",), "cancelled"),
        (("Reason: SIP;cause=487",), "cancelled"),
    ],
)  # fmt: skip
def test_cancel_before_the_answer(reason, cause):
    hand = Hand()
    tag = hand.ringing()
    ok, terminated = sends(hand.receive(request("CANCEL", extra=reason)))
    assert (ok.code, ok.headers["CSeq"]) == (200, "1 CANCEL")
    assert (terminated.code, terminated.headers["CSeq"]) == (487, "1 INVITE")
    assert ok.to.tag == terminated.to.tag == tag
    (ended,) = hand.reported(CallEnded)
    assert (ended.cause, ended.by, ended.code) == (cause, "remote", 487)
    assert refused(lambda: hand.engine.answer("i1", MEDIA, 0.0)) == "cancelled"
    hand.receive(request("ACK", to_tag=tag))
    assert lines(hand.receive(request("CANCEL", extra=reason))) == ["200"]  # a copy
    hand.advance(70)
    assert hand.is_empty()


def test_cancel_after_the_answer_changes_nothing():
    hand = Hand()
    hand.up()
    assert lines(hand.receive(request("CANCEL"))) == ["200"]
    assert not hand.reported(CallEnded)
    assert lines(hand.engine.hang_up("i1", hand.now)) == ["BYE"]


def test_cancel_of_nothing_is_481():
    assert lines(Hand().receive(request("CANCEL"))) == ["481"]


def test_require_is_ignored_in_cancel():
    hand = Hand()
    hand.ringing()
    assert lines(hand.receive(request("CANCEL", extra=("Require: x",)))) == ["200", "487"]


def test_a_bye_in_the_early_dialog_ends_the_invite():
    hand = Hand()
    tag = hand.ringing()
    outputs = hand.receive(request("BYE", via=branch("bye"), to_tag=tag, cseq=2))
    assert lines(outputs) == ["200", "487"]
    assert hand.reported(CallEnded)[0].cause == "cancelled"


def test_late_offer_ours_goes_in_the_2xx_and_the_answer_comes_in_the_ack():
    hand = Hand()
    tag = hand.ringing(body=b"")
    (ok,) = sends(hand.take(hand.engine.answer("i1", MEDIA, hand.now)))
    assert b"m=audio 4000 RTP/AVP 0 8 101" in ok.content
    assert hand.reported(Answered)[0].remote_media is None
    hand.receive(request("ACK", via=branch("ack"), to_tag=tag, body=OFFER))
    assert hand.engine.calls.leg("i1").session.remote.codec == "PCMU"
    assert hand.reported(Confirmed)


def test_late_offer_with_an_unusable_answer_ends_the_call():
    hand = Hand()
    tag = hand.ringing(body=b"")
    hand.engine.answer("i1", MEDIA, hand.now)
    ack = request("ACK", via=branch("ack"), to_tag=tag, body=b"nonsense")
    (bye,) = sends(hand.receive(ack))
    hand.receive(reply(bye, 200))
    assert hand.reported(CallEnded)[0].cause == "protocol_error"


def test_each_call_has_a_tag_of_its_own():
    hand = Hand()
    tags = set()
    for n in range(3):
        data = request("INVITE", via=branch(f"n{n}"), call_id=f"n{n}", body=OFFER)
        tags.add(parse(next(o.data for o in hand.receive(data) if isinstance(o, Send))).to.tag)
    assert len(tags) == 3


def test_the_last_minute_of_ringing_sends_no_180_with_its_480():
    hand = Hand()
    hand.ringing()
    hand.advance(60)
    assert hand.times("180") == [0.0]
    assert hand.times("480")[0] == 60.0
