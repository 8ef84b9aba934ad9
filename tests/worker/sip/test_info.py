"""INFO both ways, and the requests that are simply answered."""

import pytest
from sipwire import Hand, branch, lines, reply, request, sends

from sipherd.worker.stack import CallEnded, CommandEnded, DtmfReceived, StackRefusal

RELAY = "application/dtmf-relay"


def within(method, tag, name="next", cseq=2, **more):
    return request(method, via=branch(name), to_tag=tag, cseq=cseq, **more)


def pressed(body, kind=RELAY):
    hand = Hand()
    tag = hand.up()
    codes = lines(hand.receive(within("INFO", tag, body=body, content_type=kind)))
    return codes, [(key.digit, key.duration_ms) for key in hand.reported(DtmfReceived)]


@pytest.mark.parametrize(
    ("body", "kind", "key"),
    [
        (b"Signal=5\r\nDuration=160\r\n", RELAY, ("5", 160)),
        (b"signal = #\nduration = 90", RELAY, ("#", 90)),
        (b"Duration=1\r\nSignal= *\r\n", "Application/DTMF-Relay;x=y", ("*", 1)),
        (b"Signal=d", RELAY, ("D", 0)),
        (b"Signal=11\r\n", RELAY, ("#", 0)),
        (b"7", "application/dtmf", ("7", 0)),
        (b"*\r\n", "application/dtmf", ("*", 0)),
        (b"Signal=8\r\nDuration=250", "application/dtmf", ("8", 250)),
    ],
)
def test_keys(body, kind, key):
    assert pressed(body, kind) == (["200"], [key])


@pytest.mark.parametrize("body", [b"Signal=12345", b"Signal=\xff", b"nothing", b"Signal=17"])
def test_what_is_no_key(body):
    assert pressed(body) == (["400"], [])


def test_a_hook_flash_is_taken_and_means_nothing():
    assert pressed(b"Signal=!") == (["200"], [])


def test_other_content():
    hand = Hand()
    tag = hand.up()
    (response,) = sends(hand.receive(within("INFO", tag, body=b"x", content_type="text/x")))
    assert response.code == 415
    assert RELAY in response.headers.values("Accept")
    assert lines(hand.receive(within("INFO", tag, "two", 3))) == ["200"]
    extra = ("Info-Package: odd",)
    (response,) = sends(hand.receive(within("INFO", tag, "three", 4, extra=extra)))
    assert response.code == 469
    assert not hand.reported(CallEnded)


def info(hand, command=7, body=b"Signal=1\r\nDuration=160\r\n"):
    return sends(hand.take(hand.engine.send_info("i1", command, RELAY, body, hand.now)))


def test_send_info():
    hand = Hand()
    hand.up()
    (sent,) = info(hand)
    assert (sent.method, sent.headers["Content-Type"]) == ("INFO", RELAY)
    assert not hand.reported(CommandEnded)
    hand.receive(reply(sent, 200))
    assert hand.reported(CommandEnded) == [CommandEnded(7)]


@pytest.mark.parametrize("code", [415, 500])
def test_an_info_that_is_refused(code):
    hand = Hand()
    hand.up()
    hand.receive(reply(info(hand)[0], code))
    assert hand.reported(CommandEnded)[0].refusal.reason == "rejected"
    assert not hand.reported(CallEnded)


def test_an_info_in_a_dialog_that_is_gone():
    hand = Hand()
    hand.up()
    assert lines(hand.receive(reply(info(hand)[0], 481))) == ["BYE"]
    assert len(hand.reported(CommandEnded)) == 1
    hand.advance(100)
    assert hand.reported(CallEnded)[0].cause == "dialog_lost"


def test_an_info_that_the_end_of_the_call_overtakes():
    hand = Hand()
    tag = hand.up()
    info(hand)
    hand.receive(within("BYE", tag))
    assert hand.reported(CommandEnded)[0].refusal.reason == "already_ended"
    hand.advance(100)
    assert hand.times("INFO") == [0.0]
    assert hand.is_empty()


def test_info_needs_a_call_that_is_up():
    hand = Hand()
    hand.ringing()
    with pytest.raises(StackRefusal):
        info(hand)


def test_message_is_taken():
    hand = Hand()
    data = request("MESSAGE", body=b"hello", content_type="text/plain")
    assert lines(hand.receive(data)) == ["200"]
    tag = hand.up()
    data = within("MESSAGE", tag, body=b"hello", content_type="text/plain")
    assert lines(hand.receive(data)) == ["200"]


@pytest.mark.parametrize("method", ["INFO", "NOTIFY", "UPDATE", "PRACK", "BYE", "REFER"])
def test_what_makes_sense_in_a_call_only_is_481_outside(method):
    assert lines(Hand().receive(request(method))) == ["481"]


def test_options_tell_everything():
    hand = Hand()
    tag = hand.up()
    (outside,) = sends(hand.receive(request("OPTIONS", via=branch("o"), call_id="o")))
    (inside,) = sends(hand.receive(within("OPTIONS", tag)))
    for response in (outside, inside):
        assert set(response.headers.values("Allow")) >= {"UPDATE", "PRACK", "REFER", "INFO"}
        assert set(response.headers.values("Supported")) >= {"100rel", "replaces", "timer"}
        assert response.headers["Allow-Events"] == "refer"
        assert RELAY in response.headers.values("Accept")
