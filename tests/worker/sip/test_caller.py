"""The caller's side, with every row of the cancel outcome table."""

import pytest
from sipwire import BOB, MEDIA, OFFER, Hand, branch, lines, reply, request, sends

from sipherd.worker.stack import Answered, CallEnded, CancelResolved, Hop, StackRefusal

ROUTE = "Record-Route: <sip:192.0.2.50;lr>, <sip:192.0.2.51:5080;lr>"
BOB_CONTACT = "Contact: <sip:b@192.0.2.2:5062>"


def cancel(hand):
    return hand.take(hand.engine.cancel("c1", hand.now))


def outcome(hand):
    """The one outcome, and the end that must follow it."""
    (resolved,) = hand.reported(CancelResolved)
    (ended,) = hand.reported(CallEnded)
    order = [o for _, o in hand.log if o is resolved or o is ended]
    assert order == [resolved, ended]
    return resolved, ended


def test_the_ack_to_a_2xx_is_a_request_of_its_own():
    """RFC 3261 13.2.2.4: new branch, remote target, route set in reverse order."""
    hand = Hand()
    invite = hand.place()
    contact = "Contact: <sip:b@192.0.2.77:5099;x=y>"
    outputs = hand.receive(reply(invite, 200, extra=(contact, ROUTE), body=OFFER))
    (ack,) = sends(outputs)
    assert ack.uri == "sip:b@192.0.2.77:5099;x=y"
    assert ack.headers.values("Route") == ["<sip:192.0.2.51:5080;lr>", "<sip:192.0.2.50;lr>"]
    assert ack.via.branch != invite.via.branch
    assert ack.headers["CSeq"] == "1 ACK"
    assert ack.to.tag == "tob"
    assert outputs[0].destination.address == ("192.0.2.51", 5080)
    (answered,) = hand.reported(Answered)
    assert answered.remote_media == (MEDIA.host, MEDIA.port)
    assert answered.codec == "PCMU"


@pytest.mark.parametrize(
    ("contact", "hop"),
    [
        ("sip:b@pbx.lab", Hop("pbx.lab", None)),
        ("sip:b@pbx.lab:5070;transport=TCP", Hop("pbx.lab", 5070, "tcp")),
        ("sip:b@pbx.lab:5070;maddr=192.0.2.7", Hop("192.0.2.7", 5070)),
        # What we can't send to is replaced by where the answer came from.
        ("sip:b@pbx.lab;transport=tls", Hop("192.0.2.66", 5070)),
        ("sips:b@pbx.lab", Hop("192.0.2.66", 5070)),
    ],
)
def test_the_next_hop_is_what_the_contact_says(contact, hop):
    hand = Hand()
    outputs = hand.receive(
        reply(hand.place(), 200, extra=(f"Contact: <{contact}>",), body=OFFER),
        ("192.0.2.66", 5070),
    )
    assert outputs[0].destination == hop
    (ack,) = sends(outputs)
    assert ack.uri == contact
    assert ack.via.transport == hop.transport.upper()


def test_a_strict_router_gets_itself_as_request_uri():
    hand = Hand()
    extra = (BOB_CONTACT, "Record-Route: <sip:192.0.2.50>")
    outputs = hand.receive(reply(hand.place(), 200, extra=extra, body=OFFER))
    (ack,) = sends(outputs)
    assert ack.uri == "sip:192.0.2.50"
    assert ack.headers.values("Route") == ["<sip:b@192.0.2.2:5062>"]
    assert outputs[0].destination.address == ("192.0.2.50", 5060)


def test_a_copy_of_the_2xx_is_acknowledged_again_also_after_the_call():
    hand = Hand()
    invite, ack = hand.placed_and_answered()
    (bye,) = sends(hand.take(hand.engine.hang_up("c1", hand.now)))
    hand.receive(reply(bye, 200))
    again = sends(hand.receive(reply(invite, 200, body=OFFER)))
    assert [m.encode() for m in again] == [ack.encode()]
    assert len(hand.reported(Answered)) == 1


def test_a_forked_2xx_is_acknowledged_and_ended():
    hand = Hand()
    invite, _ = hand.placed_and_answered()
    ack, bye = sends(hand.receive(reply(invite, 200, tag="fork", body=OFFER)))
    assert (ack.method, ack.to.tag, ack.cseq.number) == ("ACK", "fork", 1)
    assert (bye.method, bye.to.tag, bye.cseq.number) == ("BYE", "fork", 2)
    hand.receive(reply(bye, 200))
    assert not hand.reported(CallEnded)
    assert lines(hand.take(hand.engine.hang_up("c1", hand.now))) == ["BYE"]


def test_a_2xx_that_crosses_the_failure_of_another_fork_leaves_no_ghost():
    hand = Hand()
    invite = hand.place()
    hand.receive(reply(invite, 486))
    assert lines(hand.receive(reply(invite, 200, tag="late", body=OFFER))) == ["ACK", "BYE"]


@pytest.mark.parametrize("code", [302, 401, 404, 407, 486, 503, 603])
def test_a_failure_ends_the_call(code):
    hand = Hand()
    assert lines(hand.receive(reply(hand.place(), code))) == ["ACK"]
    (ended,) = hand.reported(CallEnded)
    assert (ended.cause, ended.by, ended.code) == ("rejected", "remote", code)
    assert ended.reason == "Whatever"


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"nonsense", "protocol_error"),
        (OFFER.replace(b"m=audio 4000", b"m=audio 0"), "no_media"),
        (OFFER.replace(b"RTP/AVP 0 8", b"RTP/AVP 3 9"), "no_media"),
    ],
)
def test_a_2xx_with_an_unusable_answer(body, cause):
    hand = Hand()
    ack, bye = sends(hand.receive(reply(hand.place(), 200, body=body)))
    assert (ack.method, bye.method) == ("ACK", "BYE")
    hand.receive(reply(bye, 200))
    (ended,) = hand.reported(CallEnded)
    assert (ended.cause, ended.code, ended.bye_answered) == (cause, 200, True)
    assert not hand.reported(Answered)


def test_the_answer_may_have_come_in_a_183_alone():
    hand = Hand()
    invite = hand.place()
    hand.receive(reply(invite, 183, body=OFFER))
    hand.receive(reply(invite, 200))
    assert hand.reported(Answered)[0].codec == "PCMU"


def test_a_2xx_without_contact_is_acknowledged_to_what_was_called():
    hand = Hand()
    (ack,) = sends(hand.receive(reply(hand.place(), 200, extra=(), body=OFFER)))
    assert ack.uri == "sip:b@192.0.2.2:5062"


@pytest.mark.parametrize("code", [200, 481, 408, 500])
def test_any_final_response_ends_a_bye(code):
    hand = Hand()
    hand.placed_and_answered()
    (bye,) = sends(hand.take(hand.engine.hang_up("c1", hand.now)))
    assert (bye.cseq.number, bye.to.tag) == (2, "tob")
    hand.receive(reply(bye, code))
    (ended,) = hand.reported(CallEnded)
    assert (ended.cause, ended.by, ended.bye_answered) == ("hung_up", "local", True)


# Cancellation


def test_cancel_after_the_answer_leaves_the_call_up():
    hand = Hand()
    hand.placed_and_answered()
    assert cancel(hand) == [CancelResolved(call="c1", outcome="already_answered")]
    assert not hand.reported(CallEnded)
    assert lines(hand.engine.hang_up("c1", hand.now)) == ["BYE"]


def test_cancel_waits_for_the_first_1xx_and_copies_the_invite():
    hand = Hand()
    invite = hand.place()
    assert cancel(hand) == []
    (message,) = sends(hand.receive(reply(invite, 100, tag="")))
    assert message.method == "CANCEL"
    assert message.uri == invite.uri
    assert message.headers.fields("Via") == invite.headers.fields("Via")
    assert message.headers["CSeq"] == "1 CANCEL"
    assert message.headers["To"] == invite.headers["To"]
    assert message.headers["From"] == invite.headers["From"]
    assert message.call_id == invite.call_id


def test_cancel_then_487():
    hand = Hand()
    invite = hand.place()
    hand.receive(reply(invite, 180))
    (message,) = sends(cancel(hand))
    hand.receive(reply(message, 200))
    assert lines(hand.receive(reply(invite, 487))) == ["ACK"]
    resolved, ended = outcome(hand)
    assert resolved.outcome == "cancelled"
    assert (ended.cause, ended.by, ended.code) == ("cancelled", "local", 487)
    hand.advance(70)
    assert hand.is_empty()


@pytest.mark.parametrize("sent", [True, False], ids=["sent", "waiting for a 1xx"])
def test_cancel_crosses_a_2xx(sent):
    hand = Hand()
    invite = hand.place()
    if sent:
        hand.receive(reply(invite, 180))
    assert lines(cancel(hand)) == (["CANCEL"] if sent else [])
    ack, bye = sends(hand.receive(reply(invite, 200, body=OFFER)))
    assert (ack.method, bye.method) == ("ACK", "BYE")
    hand.receive(reply(bye, 200))
    resolved, ended = outcome(hand)
    assert resolved.outcome == "answered_then_ended"
    assert (ended.cause, ended.code, ended.bye_answered) == ("cancelled", 200, True)
    assert not hand.reported(Answered)
    hand.advance(70)
    assert hand.is_empty()


@pytest.mark.parametrize("sent", [True, False], ids=["sent", "waiting for a 1xx"])
def test_cancel_crosses_another_failure(sent):
    hand = Hand()
    invite = hand.place()
    if sent:
        hand.receive(reply(invite, 180))
    cancel(hand)
    hand.receive(reply(invite, 486))
    resolved, ended = outcome(hand)
    assert (resolved.outcome, resolved.code) == ("already_ended", 486)
    assert (ended.cause, ended.by, ended.code) == ("rejected", "remote", 486)


@pytest.mark.parametrize("code", [200, 481, None])
def test_cancel_without_a_final_response_to_the_invite(code):
    hand = Hand()
    invite = hand.place()
    hand.receive(reply(invite, 180))
    (message,) = sends(cancel(hand))
    if code:
        hand.receive(reply(message, code))
    hand.advance(31.9)
    assert not hand.reported(CancelResolved)
    hand.advance(0.2)
    resolved, ended = outcome(hand)
    assert resolved.outcome == "cancelled_unconfirmed"
    assert (ended.cause, ended.by) == ("cancelled", "local")
    # An answer that comes even later leaves no ghost call.
    ack, bye = sends(hand.receive(reply(invite, 200, body=OFFER)))
    assert (ack.method, bye.method) == ("ACK", "BYE")
    hand.receive(reply(bye, 200))
    outcome(hand)
    hand.advance(70)
    assert hand.is_empty()


def test_cancel_without_any_response():
    hand = Hand()
    hand.place()
    cancel(hand)
    hand.advance(32)
    resolved, ended = outcome(hand)
    assert resolved.outcome == "cancelled_no_response"
    assert (ended.cause, ended.by) == ("no_response", "timeout")
    assert hand.times("CANCEL") == []


def test_cancel_of_a_call_to_nobody():
    hand = Hand()
    hand.place()
    cancel(hand)
    data = hand.log[0][1].data
    hand.take(hand.engine.unreachable(data[:200], BOB, hand.now))
    resolved, ended = outcome(hand)
    assert (resolved.outcome, resolved.code) == ("already_ended", 503)
    assert ended.cause == "unreachable"


@pytest.mark.parametrize("command", ["cancel", "hang_up"])
def test_a_second_cancel_is_refused(command):
    hand = Hand()
    invite = hand.place()
    cancel(hand)
    with pytest.raises(StackRefusal) as refusal:
        getattr(hand.engine, command)("c1", hand.now)
    assert refusal.value.reason == "cancel_pending"
    hand.receive(reply(invite, 180))
    hand.receive(reply(invite, 487))
    outcome(hand)
    with pytest.raises(StackRefusal) as refusal:
        hand.engine.cancel("c1", hand.now)
    assert refusal.value.reason == "cancelled"


def test_hanging_up_an_unanswered_call_cancels_it():
    hand = Hand()
    invite = hand.place()
    hand.receive(reply(invite, 180))
    assert lines(hand.take(hand.engine.hang_up("c1", hand.now))) == ["CANCEL"]
    hand.receive(reply(invite, 487))
    assert outcome(hand)[0].outcome == "cancelled"


def test_hanging_up_twice_is_refused():
    hand = Hand()
    hand.placed_and_answered()
    hand.engine.hang_up("c1", hand.now)
    with pytest.raises(StackRefusal) as refusal:
        hand.engine.hang_up("c1", hand.now)
    assert refusal.value.reason == "already_ended"


def test_the_invite_may_not_be_repeated_after_the_cancel_is_decided():
    """A 1xx after 64*T1 must not revive the call."""
    hand = Hand()
    invite = hand.place()
    hand.receive(reply(invite, 180))
    cancel(hand)
    hand.advance(33)
    assert hand.receive(reply(invite, 183)) == []
    assert lines(hand.receive(reply(invite, 487))) == ["ACK"]
    outcome(hand)


@pytest.mark.parametrize("target", ["", "bob", "tel:123", "sip:a b@h", "sip:b@h\r\nX: y"])
def test_a_bad_target_is_refused(target):
    with pytest.raises(StackRefusal) as refusal:
        Hand().engine.read_target(target)
    assert refusal.value.reason == "bad_uri"


def test_a_key_in_use_is_refused():
    hand = Hand()
    hand.place()
    with pytest.raises(StackRefusal) as refusal:
        hand.place()
    assert refusal.value.reason == "duplicate_call"


def test_487_while_the_cancel_still_waits_for_a_1xx():
    hand = Hand()
    invite = hand.place()
    cancel(hand)
    hand.receive(reply(invite, 487))
    assert outcome(hand)[0].outcome == "cancelled"
    assert hand.times("CANCEL") == []


def test_487_without_a_cancel_of_ours_is_a_rejection():
    hand = Hand()
    hand.receive(reply(hand.place(), 487))
    assert hand.reported(CallEnded)[0].cause == "rejected"


@pytest.mark.parametrize("answered", [False, True], ids=["BYE out", "BYE answered"])
def test_a_cancel_has_one_outcome_also_when_it_is_asked_for_again(answered):
    """The first ended the call; `already_answered` would say that it is still up."""
    hand = Hand()
    invite = hand.place()
    cancel(hand)
    _, bye = sends(hand.receive(reply(invite, 200, body=OFFER)))
    if answered:
        hand.receive(reply(bye, 200))
    with pytest.raises(StackRefusal) as refusal:
        hand.engine.cancel("c1", hand.now)
    assert refusal.value.reason == ("cancelled" if answered else "already_ended")
    assert [r.outcome for r in hand.reported(CancelResolved)] == ["answered_then_ended"]


def test_a_cancel_is_sent_once_and_repeated_until_its_own_answer():
    hand = Hand()
    invite = hand.place()
    hand.receive(reply(invite, 180))
    (message,) = sends(cancel(hand))
    for code in (180, 183):
        assert hand.receive(reply(invite, code))[1:] == []
    hand.advance(1)
    assert hand.times("CANCEL") == [0.0, 0.5]
    hand.receive(reply(message, 200))
    hand.advance(10)
    assert hand.times("CANCEL") == [0.0, 0.5]


def test_a_2xx_after_an_unconfirmed_cancel_is_acknowledged_as_long_as_it_is_repeated():
    """64*T1 from that 2xx, not from the moment the INVITE was given up."""
    hand = Hand()
    invite = hand.place()
    hand.receive(reply(invite, 180))
    cancel(hand)
    hand.advance(32 + 31.5)
    _, bye = sends(hand.receive(reply(invite, 200, body=OFFER)))
    hand.receive(reply(bye, 200))
    hand.advance(20)
    assert lines(hand.receive(reply(invite, 200, body=OFFER))) == ["ACK"]
    hand.advance(70)
    assert hand.is_empty()


def test_a_1xx_after_an_unconfirmed_cancel_keeps_nothing_alive():
    hand = Hand()
    invite = hand.place()
    hand.receive(reply(invite, 180))
    cancel(hand)
    hand.advance(33)
    hand.receive(reply(invite, 180))
    hand.advance(70)
    assert hand.is_empty()


def test_two_forks_that_answer_a_cancelled_call_are_both_ended():
    hand = Hand()
    invite = hand.place()
    hand.receive(reply(invite, 180))
    cancel(hand)
    for tag in ("one", "two"):
        ack, bye = sends(hand.receive(reply(invite, 200, tag=tag, body=OFFER)))
        assert (ack.method, ack.to.tag, bye.method, bye.to.tag) == ("ACK", tag, "BYE", tag)
        hand.receive(reply(bye, 200))
    assert outcome(hand)[0].outcome == "answered_then_ended"


def test_a_2xx_without_any_description_leaves_a_silent_call():
    hand = Hand()
    assert lines(hand.receive(reply(hand.place(), 200))) == ["ACK"]
    (answered,) = hand.reported(Answered)
    assert (answered.codec, answered.remote_media) == ("", None)


def test_a_peer_without_a_to_tag():
    """RFC 2543: the tag is empty, and still tells one dialog from another."""
    hand = Hand()
    (ack,) = sends(hand.receive(reply(hand.place(), 200, tag="", body=OFFER)))
    assert ack.to.tag == ""
    (bye,) = sends(hand.engine.hang_up("c1", hand.now))
    assert bye.to.tag == ""


def test_a_bye_in_a_dialog_that_is_not_ours_yet_is_481():
    hand = Hand()
    invite = hand.place()
    hand.receive(reply(invite, 180))
    bye = request(
        "BYE", via=branch("x"), call_id=invite.call_id, from_tag="tob", to_tag=invite.from_.tag
    )
    assert lines(hand.receive(bye)) == ["481"]
    assert not hand.reported(CallEnded)


def test_reinvite_from_the_callee_is_answered():
    hand = Hand()
    invite, _ = hand.placed_and_answered()
    data = request(
        "INVITE", via=branch("x"), call_id=invite.call_id, from_tag="tob",
        to_tag=invite.from_.tag, body=OFFER.replace(b"sendrecv", b"sendonly"),
    )  # fmt: skip
    (ok,) = sends(hand.receive(data))
    assert ok.code == 200
    assert b"a=recvonly" in ok.content
    assert lines(hand.receive(data)) == []  # a copy: the 2xx has its own clock


def test_our_offer():
    body = Hand().place().content.decode().split("\r\n")
    assert "m=audio 4000 RTP/AVP 0 8 101" in body
    for line in ("0 PCMU/8000", "8 PCMA/8000", "101 telephone-event/8000"):
        assert f"a=rtpmap:{line}" in body


def test_sips_is_refused_for_there_is_no_tls():
    with pytest.raises(StackRefusal) as refusal:
        Hand().engine.read_target("sips:b@192.0.2.2")
    assert refusal.value.reason == "bad_uri"
