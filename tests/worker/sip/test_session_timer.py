"""Session timers (RFC 4028)."""

import pytest
from sipwire import MEDIA, OFFER, Hand, branch, lines, reply, request, sends

from sipherd.worker.stack import CallEnded

CONTACT = "Contact: <sip:b@192.0.2.2:5062>"
TIMER = "Supported: timer"
ALLOW = "Allow: INVITE, ACK, BYE, UPDATE"


def within(method, tag, name="next", cseq=2, **more):
    return request(method, via=branch(name), to_tag=tag, cseq=cseq, **more)


def called(expires, *extra, **config):
    """A caller with these headers; returns what was answered by our 2xx, and the hand and tag."""
    hand = Hand(**config)
    lines_ = ([f"Session-Expires: {expires}"] if expires else []) + list(extra)
    tag = hand.up(extra=tuple(lines_))
    from sipherd.worker.sip.message import parse

    messages = [parse(o.data) for _, o in hand.log if hasattr(o, "data")]
    (ok,) = [m for m in messages if m.code == 200]
    return hand, tag, ok


@pytest.mark.parametrize(
    ("expires", "extra", "own", "granted", "require"),
    [
        ("1800", (TIMER,), None, "1800;refresher=uac", "timer"),
        ("1800;refresher=uac", (TIMER,), None, "1800;refresher=uac", "timer"),
        ("1800;refresher=uas", (TIMER,), None, "1800;refresher=uas", "timer"),
        ("1800", (), None, "1800;refresher=uas", ""),
        ("1800", (TIMER,), 600, "600;refresher=uac", "timer"),
        ("1800", (TIMER, "Min-SE: 900"), 600, "900;refresher=uac", "timer"),
        ("", (TIMER,), 600, "600;refresher=uas", "timer"),
        ("", (), 600, "600;refresher=uas", ""),
        ("", (TIMER,), None, "", ""),
        ("nonsense", (TIMER,), None, "", ""),
    ],
)
def test_what_we_grant(expires, extra, own, granted, require):
    _, _, ok = called(expires, *extra, session_expires=own)
    assert ok.headers.get("Session-Expires") == granted
    assert ok.headers.get("Require") == require


def test_too_short_an_interval_is_422():
    data = request("INVITE", body=OFFER, extra=(CONTACT, TIMER, "x: 89"))
    (response,) = sends(Hand().receive(data))
    assert (response.code, response.headers["Min-SE"]) == (422, "90")
    # Who knows nothing of session timers would not understand it (§9).
    assert lines(Hand().receive(request("INVITE", body=OFFER, extra=(CONTACT, "x: 89")))) == ["180"]


def test_a_caller_that_refreshes_keeps_the_call_up():
    hand, tag, _ = called("90;refresher=uac", TIMER)
    for n in range(5):
        hand.advance(45)
        extra = (CONTACT, TIMER, "Session-Expires: 90;refresher=uac")
        (ok,) = sends(hand.receive(within("UPDATE", tag, f"u{n}", 2 + n, extra=extra)))
        assert ok.headers["Session-Expires"] == "90;refresher=uac"
    assert not hand.reported(CallEnded)


def test_a_caller_that_does_not_is_hung_up_on():
    hand, _, _ = called("90;refresher=uac", TIMER)
    assert hand.advance(59.9) == []
    (bye,) = sends(hand.advance(0.2))  # §10: 90 s less a third
    hand.receive(reply(bye, 481))
    (ended,) = hand.reported(CallEnded)
    assert (ended.cause, ended.by) == ("session_expired", "timeout")
    hand.advance(100)
    assert hand.is_empty()


def test_we_refresh_by_update_where_the_peer_takes_it():
    hand, _, _ = called("90;refresher=uas", TIMER, ALLOW)
    (update,) = sends(hand.advance(45))
    assert (update.method, update.content) == ("UPDATE", b"")
    assert update.headers["Session-Expires"] == "90;refresher=uac"
    hand.receive(reply(update, 200, extra=(CONTACT, "Session-Expires: 90;refresher=uac")))
    (update,) = sends(hand.advance(45))
    assert update.method == "UPDATE"


@pytest.mark.parametrize("code", [405, 500, 501])
def test_an_update_that_is_refused_becomes_a_reinvite(code):
    hand, _, _ = called("90;refresher=uas", TIMER, ALLOW)
    (update,) = sends(hand.advance(45))
    (invite,) = sends(hand.receive(reply(update, code)))
    assert invite.method == "INVITE"
    assert b" 1 IN IP4" in invite.content  # the session is the same, and so is its version
    hand.receive(reply(invite, 200, body=OFFER, extra=(CONTACT, "x: 90;refresher=uac")))
    assert lines(hand.advance(45)) == ["UPDATE"]


def test_we_refresh_by_reinvite_where_the_peer_has_no_update():
    hand, _, _ = called("90;refresher=uas", TIMER)
    (invite,) = sends(hand.advance(45))
    assert invite.method == "INVITE"
    assert lines(hand.receive(reply(invite, 200, body=OFFER))) == ["ACK"]
    assert hand.advance(200) == []  # the peer has dropped the timer


def test_a_refresh_that_nobody_answers_ends_the_call():
    hand, _, _ = called("90;refresher=uas", TIMER, ALLOW)
    hand.advance(45)
    outputs = sends(hand.advance(15.1))
    assert outputs[-1].method == "BYE"
    hand.advance(100)
    assert hand.reported(CallEnded)[0].cause == "session_expired"
    assert hand.is_empty()


def test_a_refresh_of_a_dialog_that_is_gone():
    hand, _, _ = called("1800;refresher=uas", TIMER, ALLOW)
    (update,) = sends(hand.advance(900))
    assert lines(hand.receive(reply(update, 481))) == ["BYE"]
    hand.advance(100)
    assert hand.reported(CallEnded)[0].cause == "dialog_lost"


def test_a_reinvite_without_session_expires_ends_the_timer():
    hand, tag, _ = called("90;refresher=uac", TIMER)
    hand.receive(within("INVITE", tag, body=OFFER))
    hand.receive(within("ACK", tag, "ack2"))
    assert hand.advance(500) == []


# As the caller


def test_a_caller_without_a_wish_keeps_to_the_peers():
    hand = Hand()
    invite = hand.place()
    assert "timer" in invite.headers.values("Supported")
    assert "Session-Expires" not in invite.headers
    hand.receive(reply(invite, 200, body=OFFER, extra=(CONTACT, ALLOW, "x: 90;refresher=uac")))
    assert lines(hand.advance(45)) == ["UPDATE"]


@pytest.mark.parametrize(
    ("answer", "refreshes"),
    [(("x: 600;refresher=uac",), 300), (("x: 600;refresher=uas",), None), ((), 900)],
)
def test_a_caller_that_asks_for_it(answer, refreshes):
    hand = Hand(session_expires=1800)
    invite = hand.place()
    assert invite.headers["Session-Expires"] == "1800"
    hand.receive(reply(invite, 200, body=OFFER, extra=(CONTACT, ALLOW, *answer)))
    if refreshes is None:
        assert hand.advance(567) == []
        assert lines(hand.advance(1.4)) == ["BYE"]
    else:
        assert hand.advance(refreshes - 1) == []
        (update,) = sends(hand.advance(1))
        assert update.method == "UPDATE"


def test_a_refresh_answered_422_asks_for_more():
    hand = Hand(session_expires=100)
    invite = hand.place()
    hand.receive(reply(invite, 200, body=OFFER, extra=(CONTACT, ALLOW, "x: 100;refresher=uac")))
    (update,) = sends(hand.advance(50))
    (again,) = sends(hand.receive(reply(update, 422, extra=("Min-SE: 200",))))
    assert again.headers["Session-Expires"] == "200;refresher=uac"
    assert again.headers["Min-SE"] == "200"


def test_a_call_answered_422_is_placed_again_with_a_longer_interval():
    hand = Hand(session_expires=100)
    invite = hand.place()
    ack, again = sends(hand.receive(reply(invite, 422, extra=("Min-SE: 300",))))
    assert ack.method == "ACK"
    assert (again.headers["Session-Expires"], again.headers["Min-SE"]) == ("300", "300")
    assert (again.call_id, again.from_.tag) == (invite.call_id, invite.from_.tag)
    assert again.cseq.number == invite.cseq.number + 1
    assert again.via.branch != invite.via.branch
    assert again.content == invite.content
    (ack,) = sends(hand.receive(reply(again, 200, body=OFFER)))
    assert ack.cseq.number == again.cseq.number


@pytest.mark.parametrize("extra", [(), ("Min-SE: 90",), ("Min-SE: nonsense",)])
def test_a_422_that_asks_for_nothing_more_ends_the_call(extra):
    hand = Hand(session_expires=100)
    invite = hand.place()
    assert lines(hand.receive(reply(invite, 422, extra=extra))) == ["ACK"]
    assert hand.reported(CallEnded)[0].code == 422


def test_a_call_that_is_cancelled_is_not_placed_again():
    hand = Hand(session_expires=100)
    invite = hand.place()
    hand.take(hand.engine.cancel("c1", hand.now))
    assert lines(hand.receive(reply(invite, 422, extra=("Min-SE: 300",)))) == ["ACK"]
    assert hand.reported(CallEnded)


def test_hanging_up_ends_the_timer():
    hand, _, _ = called("90;refresher=uas", TIMER)
    (bye,) = sends(hand.take(hand.engine.hang_up("i1", hand.now)))
    hand.receive(reply(bye, 200))
    hand.advance(32)
    assert hand.is_empty()


def test_the_timer_begins_with_our_2xx():
    hand = Hand()
    hand.ringing(extra=("Session-Expires: 90", TIMER))
    hand.advance(50)
    hand.take(hand.engine.answer("i1", MEDIA, hand.now))
    hand.advance(31)
    assert hand.reported(CallEnded) == []
