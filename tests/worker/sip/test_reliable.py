"""The engine over TCP: nothing repeated, no copy waited for, replies on their connection."""

from sipwire import MEDIA, OFFER, Hand, lines, reply, request, sends

from sipherd.worker.stack import CallEnded, Hop

TCP = Hop("192.0.2.2", 40000, "tcp", 7)
TCP_VIA = "SIP/2.0/TCP 192.0.2.2:5062;branch=z9hG4bK{};rport"


def over_tcp(method, branch, **more):
    return request(method, via=TCP_VIA.format(branch), **more)


def test_a_call_over_tcp_repeats_nothing_but_its_2xx():
    """RFC 3261 13.3.1.4: proxies in between may go by UDP."""
    hand = Hand(transport="tcp")
    contact = ("Contact: <sip:b@192.0.2.2:5062;transport=tcp>",)
    outputs = hand.receive(over_tcp("INVITE", "i", body=OFFER, extra=contact), TCP)
    back = Hop("192.0.2.2", 5062, "tcp", 7)  # on its connection, or else to the sent-by port
    assert outputs[0].destination == back
    (ringing,) = sends(outputs)
    assert ringing.contact.uri == "sip:a@192.0.2.1:5060;transport=tcp"
    assert "rport=40000" in ringing.headers["Via"]
    hand.take(hand.engine.answer("i1", MEDIA, hand.now))
    hand.advance(5)
    assert hand.times("200") == [0, 0.5, 1.5, 3.5]
    hand.receive(over_tcp("ACK", "ack", to_tag=ringing.to.tag), TCP)
    (output, *_) = hand.take(hand.engine.hang_up("i1", hand.now))
    assert output.destination == Hop("192.0.2.2", 5062, "tcp")
    (bye,) = sends([output])
    assert bye.via.transport == "TCP"
    hand.advance(31.9)
    assert hand.times("BYE") == [5]
    hand.advance(0.2)  # Timer F holds all the same
    assert hand.reported(CallEnded)[0].bye_answered is False


def test_a_call_of_a_tcp_phone():
    hand = Hand(transport="tcp")
    invite = hand.place()
    (_, output) = hand.log[0]
    assert output.destination == Hop("192.0.2.2", 5062, "tcp")
    assert invite.via.transport == "TCP"
    assert invite.contact.uri == "sip:a@192.0.2.1:5060;transport=tcp"
    hand.advance(31.9)
    assert hand.times("INVITE") == [0]
    hand.advance(0.2)
    assert hand.reported(CallEnded)[0].cause == "no_response"
    assert hand.is_empty()


def test_a_refused_call_over_tcp_leaves_nothing_behind():
    """Timers D and I are zero; H, for an ACK that never comes, is not."""
    hand = Hand(transport="tcp")
    hand.receive(reply(hand.place(), 486), TCP)
    hand.advance(0)
    assert hand.is_empty()
    tag = sends(hand.receive(over_tcp("INVITE", "i", body=OFFER), TCP))[0].to.tag
    hand.take(hand.engine.reject("i1", hand.now))
    hand.advance(1)
    assert hand.times("486") == [0]
    assert not hand.is_empty()
    hand.receive(over_tcp("ACK", "i", to_tag=tag), TCP)
    hand.advance(0)
    assert hand.is_empty()


def test_options_over_tcp_leaves_nothing_behind():
    hand = Hand()
    assert lines(hand.receive(over_tcp("OPTIONS", "o"), TCP)) == ["200"]
    hand.advance(0)  # Timer J
    assert hand.is_empty()


def test_a_contact_without_transport_is_taken_to_mean_the_peers():
    """Against 19.1.2; but who calls by TCP has a TCP port."""
    hand = Hand()
    tag = sends(hand.receive(over_tcp("INVITE", "i", body=OFFER), TCP))[0].to.tag
    hand.take(hand.engine.answer("i1", MEDIA, hand.now))
    hand.receive(over_tcp("ACK", "ack", to_tag=tag), TCP)
    (output, *_) = hand.take(hand.engine.hang_up("i1", hand.now))
    assert output.destination == Hop("192.0.2.2", 5062, "tcp")


def test_no_connection_ends_exactly_that_call():
    hand = Hand(transport="tcp")
    hand.place("c1")
    hand.place("c2")
    (_, output) = hand.log[0]
    hand.take(hand.engine.unreachable(output.data, output.destination, hand.now))
    (ended,) = hand.reported(CallEnded)
    assert (ended.call, ended.cause) == ("c1", "unreachable")
