"""Changes of a session that is up: re-INVITE and UPDATE, both ways."""

import pytest
from sipwire import BOB, MEDIA, OFFER, REPEATS, Hand, Net, branch, lines, reply, request, sends

from sipherd.worker.stack import (
    CallEnded,
    CommandEnded,
    Credentials,
    Held,
    MediaPlan,
    Retrieved,
    StackRefusal,
)


def within(method, tag, name="next", cseq=2, **more):
    return request(method, via=branch(name), to_tag=tag, cseq=cseq, **more)


def described(direction):
    return OFFER.replace(b"a=sendrecv", f"a={direction}".encode())


def direction(message):
    return message.content.decode().split("a=ptime:20\r\na=")[1].split("\r\n")[0]


def version(message):
    return int(message.content.split(b"\r\n")[1].split()[2])


def do(hand, verb, call="i1", command=7):
    return sends(hand.take(getattr(hand.engine, verb)(call, command, hand.now)))


def held():
    """A call from Bob that we have put on hold."""
    hand = Hand()
    tag = hand.up()
    (invite,) = do(hand, "hold")
    hand.receive(reply(invite, 200, body=described("recvonly")))
    return hand, tag


def refused(action):
    with pytest.raises(StackRefusal) as refusal:
        action()
    return refusal.value.reason


# Ours


def test_hold_and_retrieve():
    hand = Hand()
    hand.up()
    (invite,) = do(hand, "hold")
    assert (invite.method, direction(invite), version(invite)) == ("INVITE", "sendonly", 2)
    assert (invite.uri, invite.from_.tag) == ("sip:b@192.0.2.2:5062", invite.from_.tag)
    assert not hand.reported(CommandEnded)
    (ack,) = sends(hand.receive(reply(invite, 200, body=described("recvonly"))))
    assert (ack.method, ack.cseq.number) == ("ACK", invite.cseq.number)
    assert ack.via.branch != invite.via.branch
    assert hand.reported(Held) == [Held(call="i1", by="local")]
    assert hand.reported(CommandEnded) == [CommandEnded(7)]
    plan = hand.reported(MediaPlan)[-1]
    assert (plan.sending, plan.receiving) == (True, False)
    (invite,) = do(hand, "retrieve", command=8)
    assert (direction(invite), version(invite)) == ("sendrecv", 3)
    hand.receive(reply(invite, 200, body=OFFER))
    assert hand.reported(Retrieved) == [Retrieved(call="i1", by="local")]
    assert hand.reported(CommandEnded)[-1] == CommandEnded(8)
    assert hand.reported(MediaPlan)[-1].receiving
    assert len(hand.reported(Held)) == 1


def test_a_repeated_2xx_is_acknowledged_again_by_the_same_ack():
    hand = Hand()
    hand.up()
    (invite,) = do(hand, "hold")
    answer = reply(invite, 200, body=OFFER)
    (first,), (second,) = sends(hand.receive(answer)), sends(hand.receive(answer))
    assert first.encode() == second.encode()
    assert len(hand.reported(CommandEnded)) == 1


def test_hold_of_the_caller_and_its_refreshed_target():
    hand = Hand()
    hand.placed_and_answered()
    (invite,) = do(hand, "hold", "c1")
    assert invite.cseq.number == 2
    moved = ("Contact: <sip:b@192.0.2.77:5077>",)
    (ack,) = sends(hand.receive(reply(invite, 200, body=OFFER, extra=moved)))
    assert ack.uri == "sip:b@192.0.2.77:5077"
    (bye,) = sends(hand.engine.hang_up("c1", hand.now))
    assert (bye.uri, bye.cseq.number) == ("sip:b@192.0.2.77:5077", 3)


def test_both_hold():
    hand, tag = held()
    (ok,) = sends(hand.receive(within("INVITE", tag, body=described("sendonly"))))
    assert direction(ok) == "inactive"
    hand.receive(within("ACK", tag, "ack2"))
    assert hand.reported(Held)[-1] == Held(call="i1", by="remote")
    plan = hand.reported(MediaPlan)[-1]
    assert not plan.sending
    assert not plan.receiving
    # The peer comes back: it is still held by us.
    (ok,) = sends(hand.receive(within("INVITE", tag, "third", 3, body=OFFER)))
    assert direction(ok) == "sendonly"
    assert hand.reported(Retrieved) == [Retrieved(call="i1", by="remote")]


def test_hold_of_a_call_that_the_peer_holds():
    """RFC 3264 §8.4: what was recvonly becomes inactive."""
    hand = Hand()
    tag = hand.up()
    hand.receive(within("INVITE", tag, body=described("sendonly")))
    hand.receive(within("ACK", tag, "ack2"))
    (invite,) = do(hand, "hold")
    assert direction(invite) == "inactive"
    hand.receive(reply(invite, 200, body=described("inactive")))
    assert not hand.reported(Retrieved)
    (invite,) = do(hand, "retrieve")
    assert direction(invite) == "sendrecv"
    hand.receive(reply(invite, 200, body=described("sendonly")))  # it holds still
    assert hand.reported(Retrieved) == [Retrieved(call="i1", by="local")]
    assert not hand.reported(MediaPlan)[-1].sending


@pytest.mark.parametrize("code", [403, 488, 500, 603])
def test_a_refused_reinvite_leaves_the_session_as_it_was(code):
    hand = Hand()
    tag = hand.up()
    (invite,) = do(hand, "hold")
    assert lines(hand.receive(reply(invite, code))) == ["ACK"]
    (ended,) = hand.reported(CommandEnded)
    assert ended.refusal.reason == "rejected"
    assert str(code) in str(ended.refusal)
    assert not hand.reported(Held)
    (ok,) = sends(hand.receive(within("INVITE", tag, body=OFFER)))
    assert (direction(ok), version(ok)) == ("sendrecv", 1)
    hand.receive(within("ACK", tag, "ack2"))
    (again,) = do(hand, "hold")
    assert version(again) == 2


@pytest.mark.parametrize("code", [408, 481])
def test_a_dialog_that_the_peer_does_not_know_ends_the_call(code):
    hand = Hand()
    hand.up()
    (invite,) = do(hand, "hold")
    assert lines(hand.receive(reply(invite, code))) == ["ACK", "BYE"]
    assert hand.reported(CommandEnded)[0].refusal.reason == "already_ended"
    hand.advance(100)
    (ended,) = hand.reported(CallEnded)
    assert (ended.cause, ended.by) == ("dialog_lost", "local")
    assert hand.is_empty()


def test_a_reinvite_that_nobody_answers_ends_the_call():
    hand = Hand()
    hand.up()
    do(hand, "hold")
    hand.advance(200)
    (ended,) = hand.reported(CallEnded)
    assert (ended.cause, ended.by, ended.bye_answered) == ("dialog_lost", "timeout", False)
    assert hand.is_empty()


def test_an_unreachable_peer_refuses_the_command_only():
    hand = Hand()
    hand.up()
    (output,) = hand.take(hand.engine.hold("i1", 7, hand.now))
    hand.take(hand.engine.unreachable(output.data, output.destination, hand.now))
    assert hand.reported(CommandEnded)[0].refusal.reason == "unreachable"
    assert not hand.reported(CallEnded)


@pytest.mark.parametrize(
    ("body", "cause"),
    [(b"nonsense", "protocol_error"), (OFFER.replace(b"AVP 0 8", b"AVP 3"), "protocol_error")],
)
def test_a_2xx_with_an_unusable_answer_ends_the_call(body, cause):
    hand = Hand()
    hand.up()
    (invite,) = do(hand, "hold")
    assert lines(hand.receive(reply(invite, 200, body=body))) == ["ACK", "BYE"]
    hand.advance(100)
    assert hand.reported(CallEnded)[0].cause == cause


def test_a_2xx_without_a_description_is_taken_for_yes():
    hand = Hand()
    hand.up()
    (invite,) = do(hand, "hold")
    assert lines(hand.receive(reply(invite, 200))) == ["ACK"]
    assert hand.reported(CommandEnded) == [CommandEnded(7)]


def test_commands_that_overlap_wait_for_each_other():
    hand = Hand()
    hand.up()
    (first,) = do(hand, "hold", command=1)
    assert do(hand, "retrieve", command=2) == []
    assert refused(lambda: hand.engine.retrieve("i1", 3, hand.now)) == "not_held"
    ack, second = sends(hand.receive(reply(first, 200, body=described("recvonly"))))
    assert (ack.method, direction(second)) == ("ACK", "sendrecv")
    hand.receive(reply(second, 200, body=OFFER))
    assert hand.reported(CommandEnded) == [CommandEnded(1), CommandEnded(2)]


def test_what_waits_for_a_change_that_fails_is_refused():
    hand = Hand()
    hand.up()
    (first,) = do(hand, "hold", command=1)
    do(hand, "retrieve", command=2)
    hand.receive(reply(first, 488))
    assert [e.refusal.reason for e in hand.reported(CommandEnded)] == ["rejected", "not_held"]
    assert len(do(hand, "hold", command=3)) == 1


def test_hold_needs_a_call_that_is_up():
    hand = Hand()
    hand.ringing()
    hand.place()
    assert refused(lambda: hand.engine.hold("i1", 1, hand.now)) == "not_answered"
    assert refused(lambda: hand.engine.hold("c1", 1, hand.now)) == "not_answered"
    assert refused(lambda: hand.engine.hold("x", 1, hand.now)) == "no_such_call"
    assert refused(lambda: hand.engine.retrieve("i1", 1, hand.now)) == "not_answered"


def test_hold_waits_for_the_ack():
    hand = Hand()
    tag = hand.ringing()
    hand.take(hand.engine.answer("i1", MEDIA, hand.now))
    assert do(hand, "hold") == []
    assert lines(hand.receive(request("ACK", via=branch("ack"), to_tag=tag))) == ["INVITE"]


def test_already_held():
    hand, _ = held()
    assert refused(lambda: hand.engine.hold("i1", 9, hand.now)) == "already_held"


@pytest.mark.parametrize("late", [200, 487, None])
def test_hang_up_while_a_reinvite_is_out(late):
    hand = Hand()
    hand.up()
    (invite,) = do(hand, "hold")
    hand.receive(reply(invite, 100))
    (bye,) = sends(hand.take(hand.engine.hang_up("i1", hand.now)))
    assert bye.method == "BYE"
    assert bye.cseq.number > invite.cseq.number
    assert hand.reported(CommandEnded)[0].refusal.reason == "already_ended"
    hand.receive(reply(bye, 200))
    assert hand.reported(CallEnded)[0].cause == "hung_up"
    if late:
        assert lines(hand.receive(reply(invite, late, body=OFFER))) == ["ACK"]
    hand.advance(100)
    assert hand.times("INVITE") == [0.0]
    assert hand.is_empty()


def test_a_bye_of_the_peer_ends_what_waits():
    hand = Hand()
    tag = hand.up()
    do(hand, "hold")
    assert lines(hand.receive(within("BYE", tag))) == ["200"]
    assert hand.reported(CommandEnded)[0].refusal.reason == "already_ended"
    hand.advance(100)
    assert hand.is_empty()


def test_a_reinvite_that_is_challenged_goes_out_again_with_credentials():
    hand = Hand(credentials=Credentials("a", "secret"))
    hand.up()
    (invite,) = do(hand, "hold")
    asks = 'Proxy-Authenticate: Digest realm="x", nonce="n", qop="auth"'
    ack, again = sends(hand.receive(reply(invite, 407, extra=(asks,))))
    assert ack.method == "ACK"
    assert again.cseq.number == invite.cseq.number + 1
    assert again.content == invite.content
    (ack,) = sends(hand.receive(reply(again, 200, body=described("recvonly"))))
    assert ack.cseq.number == again.cseq.number
    assert ack.headers["Proxy-Authorization"] == again.headers["Proxy-Authorization"]
    assert hand.reported(CommandEnded) == [CommandEnded(7)]
    (bye,) = sends(hand.engine.hang_up("i1", hand.now))
    assert bye.cseq.number == again.cseq.number + 1


# Glare


def test_491_is_tried_again_after_a_while():
    hand = Hand()
    hand.up()
    (invite,) = do(hand, "hold")
    assert lines(hand.receive(reply(invite, 491))) == ["ACK"]
    assert not hand.reported(CommandEnded)
    assert hand.advance(0.9) == []
    (again,) = sends(hand.advance(0.2))
    assert (again.method, direction(again), version(again)) == ("INVITE", "sendonly", 2)
    assert again.via.branch != invite.via.branch
    hand.receive(reply(again, 200, body=OFFER))
    assert hand.reported(CommandEnded) == [CommandEnded(7)]


def test_who_made_the_call_id_waits_longer():
    hand = Hand()
    hand.placed_and_answered()
    (invite,) = do(hand, "hold", "c1")
    hand.receive(reply(invite, 491))
    assert hand.advance(3.04) == []
    assert lines(hand.advance(0.02)) == ["INVITE"]


def test_491_for_ever_refuses_the_command():
    hand = Hand()
    hand.up()
    (invite,) = do(hand, "hold")
    for _ in range(7):
        hand.receive(reply(invite, 491))
        (invite,) = sends(hand.advance(1))
    hand.receive(reply(invite, 491))
    assert hand.reported(CommandEnded)[0].refusal.reason == "rejected"


def test_the_peers_reinvite_is_served_between_two_tries():
    hand = Hand()
    tag = hand.up()
    (invite,) = do(hand, "hold")
    hand.receive(reply(invite, 491))
    hand.advance(0.9)
    assert lines(hand.receive(within("INVITE", tag, body=described("sendonly")))) == ["200"]
    assert "INVITE" not in lines(hand.advance(0.4))  # its ACK is missing still
    (again,) = sends(hand.receive(within("ACK", tag, "ack2")))
    assert direction(again) == "inactive"


def test_reinvites_that_cross():
    hand = Hand()
    tag = hand.up()
    do(hand, "hold")
    assert lines(hand.receive(within("INVITE", tag, body=OFFER))) == ["491"]
    assert lines(hand.receive(within("ACK", tag, "next"))) == []
    assert not hand.reported(CallEnded)


def test_two_phones_hold_each_other_at_once():
    net = Net()
    net.place()
    net.run(1)
    net.do("b", net.engines["b"].answer("i1", MEDIA, net.now))
    net.run(2)
    net.policy = lambda message: [0.05]
    net.do("a", net.engines["a"].hold("c1", 1, net.now))
    net.do("b", net.engines["b"].hold("i1", 2, net.now))
    net.run(20)
    assert net.events("a", CommandEnded) == [CommandEnded(1)]
    assert net.events("b", CommandEnded) == [CommandEnded(2)]
    assert len(net.events("a", Held)) == len(net.events("b", Held)) == 2
    assert not net.events("a", MediaPlan)[-1].sending
    assert not net.events("b", MediaPlan)[-1].sending
    assert not net.events("a", CallEnded)


# The peer's


def test_hold_and_retrieve_of_the_peer():
    hand = Hand()
    tag = hand.up()
    hand.receive(within("INVITE", tag, body=described("sendonly")))
    hand.receive(within("ACK", tag, "ack2"))
    assert hand.reported(Held) == [Held(call="i1", by="remote")]
    hand.receive(within("INVITE", tag, "third", 3, body=OFFER))
    assert hand.reported(Retrieved) == [Retrieved(call="i1", by="remote")]


def test_hold_as_rfc_2543_has_it():
    hand = Hand()
    tag = hand.up()
    hand.receive(
        within("INVITE", tag, body=OFFER.replace(b"c=IN IP4 192.0.2.9", b"c=IN IP4 0.0.0.0"))
    )
    assert hand.reported(Held) == [Held(call="i1", by="remote")]
    assert hand.reported(MediaPlan)[-1].remote is None


def test_a_new_address_of_the_peer():
    hand = Hand()
    tag = hand.up()
    hand.receive(within("INVITE", tag, body=OFFER.replace(b"192.0.2.9", b"192.0.2.10")))
    assert hand.reported(MediaPlan)[-1].remote == ("192.0.2.10", 4000)
    assert not hand.reported(Held)


def test_late_offer_is_a_full_one_within_the_session():
    """RFC 3264 §8: every stream stays in its place, and payload numbers mean what they meant."""
    hand = Hand()
    offer = OFFER.replace(b" 101", b" 96").replace(b":101", b":96")
    video = offer + b"m=video 5000 RTP/AVP 97\r\na=rtpmap:97 H264/90000\r\n"
    tag = hand.up(body=video)
    (ok,) = sends(hand.receive(within("INVITE", tag)))
    assert b"m=audio 4000 RTP/AVP 0 8 96\r\n" in ok.content
    assert b"m=video 0 RTP/AVP 97\r\n" in ok.content
    # Our offer waits for its answer.
    assert lines(hand.receive(within("UPDATE", tag, "u", 3, body=OFFER))) == ["491"]
    hand.receive(within("ACK", tag, "ack2", body=described("sendonly")))
    assert hand.reported(Held) == [Held(call="i1", by="remote")]


def test_update_with_an_offer():
    hand = Hand()
    tag = hand.up()
    (ok,) = sends(hand.receive(within("UPDATE", tag, body=described("sendonly"))))
    assert (ok.code, direction(ok)) == (200, "recvonly")
    assert ok.contact.uri == "sip:a@192.0.2.1:5060"
    assert hand.reported(Held) == [Held(call="i1", by="remote")]
    assert hand.advance(100) == []  # no ACK is awaited


def test_update_without_an_offer_refreshes_the_target():
    hand = Hand()
    tag = hand.up()
    moved = ("Contact: <sip:b@192.0.2.88:5099>",)
    (ok,) = sends(hand.receive(within("UPDATE", tag, extra=moved)))
    assert (ok.code, ok.content) == (200, b"")
    (bye,) = sends(hand.engine.hang_up("i1", hand.now))
    assert bye.uri == "sip:b@192.0.2.88:5099"


def test_update_with_an_offer_while_ours_is_out():
    hand = Hand()
    tag = hand.up()
    do(hand, "hold")
    assert lines(hand.receive(within("UPDATE", tag, body=OFFER))) == ["491"]
    assert lines(hand.receive(within("UPDATE", tag, "two", 3))) == ["200"]


def test_update_before_the_first_offer_is_answered():
    hand = Hand()
    tag = hand.ringing()
    (response,) = sends(hand.receive(within("UPDATE", tag, body=OFFER)))
    assert response.code == 500
    assert 0 <= int(response.headers["Retry-After"]) <= 10
    assert lines(hand.receive(within("UPDATE", tag, "two", 3))) == ["200"]
    assert lines(hand.engine.answer("i1", MEDIA, hand.now)) == ["200"]


@pytest.mark.parametrize("body", [b"nonsense", OFFER.replace(b"RTP/AVP 0 8", b"RTP/AVP 3 9")])
def test_update_that_cannot_be_taken(body):
    hand = Hand()
    tag = hand.up()
    assert lines(hand.receive(within("UPDATE", tag, body=body))) == ["488"]
    assert lines(hand.receive(within("UPDATE", tag, "v", 3, body=b"?", content_type="a/b"))) == [
        "415"
    ]


def test_changes_of_one_call_do_not_touch_another():
    hand = Hand()
    first = hand.up()
    data = request("INVITE", via=branch("w"), call_id="other", from_tag="w", body=OFFER)
    (ringing,) = sends(hand.receive(data))
    hand.take(hand.engine.answer("i2", MEDIA, hand.now))
    hand.receive(
        request("ACK", via=branch("w2"), call_id="other", from_tag="w", to_tag=ringing.to.tag)
    )
    (invite,) = do(hand, "hold", "i2")
    assert invite.call_id == "other"
    (ok,) = sends(hand.receive(within("INVITE", first, body=OFFER)))
    assert (ok.code, direction(ok)) == (200, "sendrecv")
    hand.receive(reply(invite, 200, body=OFFER))
    assert hand.reported(Held) == [Held(call="i2", by="local")]


def test_the_reinvite_is_repeated_until_it_is_answered():
    hand = Hand()
    hand.up()
    (invite,) = do(hand, "hold")
    hand.advance(4)
    assert hand.times("INVITE") == [0.0, *REPEATS[:3]]
    hand.receive(reply(invite, 100), BOB)
    assert hand.advance(100) == []
