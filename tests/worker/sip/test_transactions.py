"""Timers at the RFC's times; ACK and responses repeated where the transaction must."""

import pytest
from sipwire import ALICE, BOB, OFFER, REPEATS, Hand, branch, lines, reply, request, sends

from sipherd.worker.stack import CallEnded, Hop, Progress, Send


def test_timers_a_and_b_invite_without_any_response():
    hand = Hand()
    hand.place()
    hand.advance(40)
    assert hand.times("INVITE") == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    (ended,) = hand.reported(CallEnded)
    assert (ended.cause, ended.by) == ("no_response", "timeout")
    assert next(at for at, o in hand.log if o is ended) == 32.0
    assert hand.is_empty()


@pytest.mark.parametrize("code", [100, 180])
def test_a_1xx_ends_timers_a_and_b(code):
    hand = Hand()
    hand.receive(reply(hand.place(), code))
    hand.advance(500)
    assert hand.times("INVITE") == [0.0]
    assert not hand.reported(CallEnded)


def test_timers_are_scaled_with_t1():
    hand = Hand(t1=0.1)
    hand.place()
    hand.advance(6.2)
    assert hand.times("INVITE") == [0.0, 0.1, 0.3, 0.7, 1.5, 3.1]
    hand.advance(0.3)
    assert hand.reported(CallEnded)


def test_the_ack_to_a_failure_belongs_to_the_transaction():
    """RFC 3261 17.1.1.3: branch, request URI and Route of the INVITE; To of the response."""
    hand = Hand()
    invite = hand.place()
    busy = reply(invite, 486, tag="other")
    (ack,) = sends(hand.receive(busy))
    assert ack.uri == invite.uri
    assert ack.headers["Via"] == invite.headers["Via"]
    assert ack.to.tag == "other"
    assert ack.headers["CSeq"] == f"{invite.cseq.number} ACK"
    hand.advance(31.9)  # Timer D: copies of the response are acknowledged for 32 s
    assert [m.encode() for m in sends(hand.receive(busy))] == [ack.encode()]
    hand.advance(0.2)
    assert lines(hand.receive(busy)) == []
    assert hand.engine.counters["sip_unmatched"] == 1
    assert hand.is_empty()


def test_timer_m_2xx_copies_reach_the_call_for_32_s():
    hand = Hand()
    invite, ack = hand.placed_and_answered()
    ok = reply(invite, 200, body=OFFER)
    hand.advance(31.9)
    assert [m.encode() for m in sends(hand.receive(ok))] == [ack.encode()]
    hand.advance(0.2)
    assert hand.receive(ok) == []


def test_timers_e_and_f_bye_without_response():
    hand = Hand()
    hand.placed_and_answered()
    hand.take(hand.engine.hang_up("c1", hand.now))
    hand.advance(40)
    assert hand.times("BYE") == [0.0, *REPEATS]
    (ended,) = hand.reported(CallEnded)
    assert (ended.cause, ended.by, ended.bye_answered) == ("hung_up", "local", False)
    assert hand.is_empty()


def test_timer_e_is_t2_once_a_1xx_came():
    hand = Hand()
    hand.placed_and_answered()
    (bye,) = sends(hand.take(hand.engine.hang_up("c1", hand.now)))
    hand.receive(reply(bye, 100))
    hand.advance(40)
    assert hand.times("BYE") == [0.0, 0.5, *[4.5 + 4 * n for n in range(7)]]


def test_timer_k_absorbs_copies():
    hand = Hand()
    hand.placed_and_answered()
    (bye,) = sends(hand.take(hand.engine.hang_up("c1", hand.now)))
    hand.receive(reply(bye, 200))
    hand.receive(reply(bye, 200))
    assert hand.engine.counters["sip_duplicate"] == 1
    hand.advance(5.1)
    hand.receive(reply(bye, 200))
    assert hand.engine.counters["sip_unmatched"] == 1
    assert len(hand.reported(CallEnded)) == 1


def test_timers_g_and_h_failure_without_ack():
    hand = Hand()
    hand.ringing()
    hand.take(hand.engine.reject("i1", hand.now))
    hand.advance(40)
    assert hand.times("486") == [0.0, *REPEATS]
    assert hand.engine.counters["sip_ack_missing"] == 1
    assert hand.is_empty()


def test_the_ack_ends_timer_g_and_timer_i_absorbs_its_copies():
    hand = Hand()
    tag = hand.ringing()
    hand.take(hand.engine.reject("i1", hand.now))
    assert not hand.engine.is_idle()
    ack = request("ACK", to_tag=tag)
    for _ in range(3):
        assert hand.receive(ack) == []
    assert hand.engine.is_idle()
    hand.advance(4.9)
    assert len(hand.engine.transactions)
    hand.advance(0.2)
    assert hand.times("486") == [0.0]
    assert hand.is_empty()


def test_a_copy_of_the_invite_gets_the_last_response_again():
    hand = Hand()
    invite = request("INVITE", body=OFFER)
    first = [o for o in hand.receive(invite) if isinstance(o, Send)]
    assert hand.receive(invite) == first
    hand.take(hand.engine.reject("i1", hand.now))
    assert lines(hand.receive(invite)) == ["486"]


def test_timer_l_a_copy_of_the_invite_after_the_2xx_is_no_new_call():
    """RFC 6026: with RFC 3261 alone it would be one."""
    hand = Hand()
    hand.up()
    hand.advance(31.9)
    assert hand.receive(request("INVITE", body=OFFER)) == []
    assert hand.engine.counters["sip_duplicate"] == 1


def test_timer_j_a_copy_of_a_bye_gets_its_response_again():
    hand = Hand()
    tag = hand.up()
    bye = request("BYE", via=branch("bye"), to_tag=tag, cseq=2)
    ok = sends(hand.receive(bye))[0].encode()
    hand.advance(31.9)
    assert [m.encode() for m in sends(hand.receive(bye))] == [ok]
    hand.advance(0.2)
    assert lines(hand.receive(bye)) == ["481"]


def test_a_peer_of_rfc_2543_without_branch():
    hand = Hand()
    via = "SIP/2.0/UDP 192.0.2.2:5062"
    hand.receive(request("INVITE", via=via, body=OFFER))
    assert lines(hand.receive(request("INVITE", via=via, body=OFFER))) == ["180"]
    assert lines(hand.receive(request("CANCEL", via=via))) == ["200", "487"]
    tag = sends([o for _, o in hand.log])[0].to.tag
    hand.receive(request("ACK", via=via, to_tag=tag))
    assert hand.engine.is_idle()


@pytest.mark.parametrize(
    ("via", "source", "destination", "stamp"),
    [
        # RFC 3581: rport asks for the source port.
        (branch("x"), ("198.51.100.7", 1024), ("198.51.100.7", 1024),
         ";received=198.51.100.7"),
        # RFC 3261 18.2.2: else the port of sent-by, 5060 by default.
        ("SIP/2.0/UDP 192.0.2.2:5099;branch=z9hG4bKx", ("192.0.2.2", 1024),
         ("192.0.2.2", 5099), ""),
        ("SIP/2.0/UDP pbx.lab;branch=z9hG4bKx", ("192.0.2.2", 1024), ("192.0.2.2", 5060),
         ";received=192.0.2.2"),
    ],
)  # fmt: skip
def test_where_responses_go(via, source, destination, stamp):
    hand = Hand()
    (output,) = hand.receive(request("OPTIONS", via=via), source)
    assert output.destination.address == destination
    (response,) = sends([output])
    text = response.headers["Via"]
    assert text.endswith(stamp)
    assert ("rport=1024" in text) == ("rport" in via)


def test_lower_vias_come_back_untouched():
    hand = Hand()
    via = f'{branch("x")}, SIP/2.0/UDP far;branch=z9hG4bKy;a="b,c"'
    (response,) = sends(hand.receive(request("OPTIONS", via=via)))
    assert response.headers.values("Via")[1:] == ['SIP/2.0/UDP far;branch=z9hG4bKy;a="b,c"']


def test_a_response_that_is_not_for_us_is_dropped():
    hand = Hand()
    invite = hand.place()
    answer = reply(invite, 200, body=OFFER)
    assert hand.receive(answer.replace(b"192.0.2.1:5060;branch", b"192.0.2.3:5060;branch")) == []
    assert hand.receive(answer.replace(b"branch=z9hG4bK", b"branch=z9hG4bKno")) == []
    assert hand.engine.counters["sip_unmatched"] == 2
    two_vias = answer.replace(b"\r\nFrom:", b"\r\nVia: SIP/2.0/UDP far\r\nFrom:")
    assert hand.receive(two_vias) == []
    assert hand.engine.counters["sip_malformed"] == 1


def test_progress_is_reported_once_per_code():
    hand = Hand()
    invite = hand.place()
    for code in (100, 180, 180, 183, 180):
        hand.receive(reply(invite, code, body=OFFER if code == 183 else b""))
    assert [(p.code, p.early_media) for p in hand.reported(Progress)] == [
        (180, False),
        (183, True),
    ]


def test_our_requests_go_out_as_rfc_3261_8_1_1_wants():
    invite = Hand(display_name='A "x"').place()
    assert invite.via.sent_by == f"{ALICE[0]}:{ALICE[1]}"
    assert invite.via.branch.startswith("z9hG4bK")
    assert "rport" in invite.via.params
    assert invite.headers["Max-Forwards"] == "70"
    assert invite.contact.uri == "sip:a@192.0.2.1:5060"
    assert invite.headers["From"] == '"A \\"x\\"" <sip:a@192.0.2.1>;tag=' + invite.from_.tag
    assert invite.to.tag == ""
    assert "INVITE" in invite.headers["Allow"]
    assert invite.uri == f"sip:b@{BOB[0]}:{BOB[1]}"


class User:
    """Takes what a client transaction reports."""

    def __init__(self):
        self.codes = []

    def on_response(self, response, source):
        self.codes.append(response.code)


def test_the_ack_to_a_failure_takes_route_and_destination_of_its_invite():
    """RFC 3261 17.1.1.3; and not the place the response came from."""
    hand = Hand()
    ctx = hand.engine.ctx
    routes = ("<sip:192.0.2.50;lr>", "<sip:192.0.2.51;lr>")
    invite = ctx.request(
        "INVITE", "sip:b@h", from_="<sip:a@h>;tag=1", to="<sip:b@h>", call_id="x", cseq=7,
        routes=routes,
    )  # fmt: skip
    user = User()
    hand.engine.transactions.send(invite, Hop("192.0.2.50", 5060), user)
    (sent, *_) = hand.engine.tick(0.0)
    assert sent.destination.address == ("192.0.2.50", 5060)
    (output,) = hand.receive(reply(invite, 603, tag="resp"), ("192.0.2.99", 5999))
    (ack,) = sends([output])
    assert output.destination.address == ("192.0.2.50", 5060)
    assert ack.headers.fields("Route") == list(routes)
    assert ack.headers.fields("Via") == [invite.headers["Via"]]
    assert (ack.uri, ack.headers["CSeq"], ack.to.tag) == ("sip:b@h", "7 ACK", "resp")
    assert (ack.call_id, ack.headers["From"]) == ("x", "<sip:a@h>;tag=1")
    assert "Contact" not in ack.headers
    assert user.codes == [603]


@pytest.mark.parametrize("sent_by", ["192.0.2.1", "192.0.2.1:5060"])
def test_a_peer_may_leave_out_the_default_port_of_our_via(sent_by):
    hand = Hand()
    answer = reply(hand.place(), 486)
    assert lines(hand.receive(answer.replace(b"192.0.2.1:5060;", sent_by.encode() + b";"))) == [
        "ACK"
    ]


def test_a_final_response_to_another_method_with_the_same_branch_is_not_the_invites():
    """CANCEL has the branch of its INVITE: the CSeq method tells them apart (17.1.3)."""
    hand = Hand()
    invite = hand.place()
    hand.receive(reply(invite, 180))
    (cancel,) = sends(hand.take(hand.engine.cancel("c1", hand.now)))
    assert cancel.via.branch == invite.via.branch
    assert hand.receive(reply(cancel, 487)) == []
    assert not hand.reported(CallEnded)
