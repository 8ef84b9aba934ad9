"""The engine as a whole: limits, draining, ICMP, faults of its own, loss, memory."""

import random

import pytest
from sipwire import (
    ALICE,
    BOB,
    MEDIA,
    OFFER,
    Hand,
    Net,
    branch,
    engine,
    events,
    lines,
    reply,
    request,
    sends,
)

from sipherd.protocol.events import TurnedAway
from sipherd.worker.sip.engine import Engine
from sipherd.worker.stack import (
    Answered,
    CallEnded,
    CancelResolved,
    Confirmed,
    Hop,
    IncomingCall,
    Send,
    Stack,
    StackConfig,
    StackRefusal,
    Target,
)


def another(hand, name):
    return hand.receive(request("INVITE", via=branch(name), call_id=name, body=OFFER))


def test_it_is_a_stack():
    stack: Stack = Engine(StackConfig(user="a", host="192.0.2.1", port=5060))
    assert stack.is_idle()
    assert stack.next_timer() is None


def test_two_engines_of_one_configuration_share_no_identifier():
    config = StackConfig(user="a", host="192.0.2.1", port=5060)
    engines = [Engine(config) for _ in range(2)]
    one, two = (
        sends(one.call("c", one.read_target("sip:b@192.0.2.2"), MEDIA, 0.0))[0] for one in engines
    )
    assert one.call_id != two.call_id
    assert one.from_.tag != two.from_.tag
    assert one.via.branch != two.via.branch


def test_a_call_over_ipv6():
    alice = engine("a", Hop("2001:db8::1", 5060))
    target = alice.read_target("sip:b@[2001:db8::2]")
    assert target.hop == ("2001:db8::2", 5060, "udp", 0)
    (invite,) = sends(alice.call("c", target, MEDIA, 0.0))
    assert invite.via.sent_by == "[2001:db8::1]:5060"
    assert invite.contact.uri == "sip:a@[2001:db8::1]:5060"
    contact = ("Contact: <sip:b@[2001:db8::2]:5070>",)
    outputs = alice.receive(
        reply(invite, 200, extra=contact, body=OFFER), Hop("2001:db8::2", 5060), 0.0
    )
    assert outputs[0].destination.address == ("2001:db8::2", 5070)


def test_max_calls():
    hand = Hand(max_calls=1)
    hand.ringing()
    outputs = another(hand, "second")
    assert lines(outputs) == ["486"]
    (event,) = events(outputs)
    assert isinstance(event, TurnedAway)
    assert (event.cause, event.code, event.sip_call_id) == ("busy", 486, "second")
    assert hand.engine.counters["calls_refused_busy"] == 1


def test_options_tells_what_an_invite_would_get():
    """RFC 3261 11.2."""
    hand = Hand(max_calls=1)
    hand.ringing()
    assert lines(hand.receive(request("OPTIONS", via=branch("o"), call_id="o"))) == ["486"]
    hand.engine.hang_up("i1", hand.now)
    assert lines(hand.receive(request("OPTIONS", via=branch("p"), call_id="p"))) == ["200"]


def test_a_phone_may_call_itself():
    net = Net()
    target = net.engines["a"].read_target("sip:a@192.0.2.1:5060")
    net.do("a", net.engines["a"].call("c1", target, MEDIA, 0.0))
    net.run(1.0)
    net.do("a", net.engines["a"].answer("i1", MEDIA, net.now))
    net.run(2.0)
    assert len(net.events("a", Answered)) == 2
    assert len(net.events("a", Confirmed)) == 1
    net.do("a", net.engines["a"].hang_up("c1", net.now))
    net.run(100.0)
    assert {(e.call, e.by) for e in net.events("a", CallEnded)} == {
        ("c1", "local"),
        ("i1", "remote"),
    }
    assert net.engines["a"].last_error == ""
    assert net.engines["a"].is_idle()


def test_keepalives_are_neither_answered_nor_malformed():
    hand = Hand()
    for data in (b"", b"\r\n\r\n", b"\0\0\0\0"):
        assert hand.receive(data) == []
    assert hand.engine.counters["sip_malformed"] == 0


# Draining


def test_new_calls_are_refused_and_those_that_there_are_go_on():
    hand = Hand()
    tag = hand.up()
    another(hand, "ringing")
    hand.engine.refuse_calls()
    assert lines(another(hand, "late")) == ["503"]
    assert lines(hand.receive(request("OPTIONS", via=branch("o"), call_id="o"))) == ["503"]
    with pytest.raises(StackRefusal) as refused:
        hand.place("new")
    assert refused.value.reason == "draining"
    assert not hand.reported(CallEnded)
    answered = hand.take(hand.engine.answer("i2", MEDIA, hand.now))
    assert lines(answered) == ["200"]
    assert tag


def test_drain_ends_every_call_and_refuses_new_ones():
    hand = Hand()
    tag = hand.up()
    another(hand, "ringing")
    invite = hand.place("ringing-there")
    hand.receive(reply(invite, 180))
    waiting = hand.place("no-answer-yet")
    outputs = hand.take(hand.engine.drain(hand.now))
    assert sorted(lines(outputs)) == ["480", "BYE", "CANCEL"]
    assert not hand.engine.is_idle()
    bye, refusal, cancel = sends(outputs)
    assert lines(another(hand, "late")) == ["503"]
    assert lines(hand.receive(request("OPTIONS", via=branch("o"), call_id="o"))) == ["503"]
    with pytest.raises(StackRefusal) as refused:
        hand.place("new")
    assert refused.value.reason == "draining"

    hand.receive(reply(bye, 200))
    hand.receive(reply(cancel, 200))
    hand.receive(reply(invite, 487))
    (late_cancel,) = sends(hand.receive(reply(waiting, 100)))
    hand.receive(reply(late_cancel, 200))
    hand.receive(reply(waiting, 487))
    assert not hand.engine.is_idle()  # 480 lacks its ACK
    hand.receive(request("ACK", via=branch("ringing"), call_id="ringing", to_tag=refusal.to.tag))
    assert hand.engine.is_idle()  # 503, too, but that was no call of ours: nothing to wait for
    ended = hand.reported(CallEnded)
    assert {(e.cause, e.by) for e in ended} == {("stopped", "local")}
    assert len(ended) == 4
    assert not hand.reported(CancelResolved)
    assert tag


def test_drain_while_a_call_is_answered():
    hand = Hand()
    invite = hand.place()
    hand.receive(reply(invite, 180))
    hand.engine.drain(hand.now)
    _ack, bye = sends(hand.receive(reply(invite, 200, body=OFFER)))
    hand.receive(reply(bye, 200))
    (ended,) = hand.reported(CallEnded)
    assert (ended.cause, ended.bye_answered) == ("stopped", True)


def test_drain_twice_sends_nothing_more():
    hand = Hand()
    hand.up()
    invite = hand.place()
    hand.receive(reply(invite, 180))
    hand.engine.drain(hand.now)
    assert hand.engine.drain(hand.now) == []


def test_a_cancel_asked_for_before_the_drain_keeps_its_outcome():
    hand = Hand()
    invite = hand.place()
    hand.engine.cancel("c1", hand.now)
    hand.engine.drain(hand.now)
    hand.receive(reply(invite, 100))
    hand.receive(reply(invite, 487))
    assert hand.reported(CancelResolved)[0].outcome == "cancelled"
    assert hand.reported(CallEnded)[0].cause == "cancelled"


def test_a_client_may_cancel_what_the_drain_is_cancelling():
    hand = Hand()
    invite = hand.place()
    hand.receive(reply(invite, 180))
    hand.engine.drain(hand.now)
    assert hand.engine.cancel("c1", hand.now) == []
    hand.receive(reply(invite, 487))
    assert hand.reported(CancelResolved)[0].outcome == "cancelled"


def test_a_call_not_yet_acknowledged_is_drained_once_it_is():
    hand = Hand()
    tag = hand.ringing()
    hand.engine.answer("i1", MEDIA, hand.now)
    assert hand.engine.drain(hand.now) == []
    (bye,) = sends(hand.receive(request("ACK", via=branch("ack"), to_tag=tag)))
    hand.receive(reply(bye, 200))
    assert hand.reported(CallEnded)[0].cause == "stopped"
    assert hand.engine.is_idle()


def test_a_drain_waits_for_the_ack_of_480_no_longer_than_64_t1():
    hand = Hand()
    hand.ringing()
    hand.take(hand.engine.drain(hand.now))
    hand.advance(31.9)
    assert not hand.engine.is_idle()
    hand.advance(0.2)
    assert hand.engine.is_idle()


def test_strangers_who_never_acknowledge_do_not_hold_up_a_drain():
    hand = Hand(max_calls=1)
    hand.ringing()
    another(hand, "busy")
    hand.receive(request("INVITE", via=branch("x"), call_id="x", to_tag="nothing", body=OFFER))
    hand.engine.drain(hand.now)
    assert lines(another(hand, "late")) == ["503"]
    assert not hand.engine.is_idle()
    hand.receive(request("ACK", to_tag="x"))
    assert hand.engine.is_idle()


def test_a_drain_waits_for_byes_and_reports_those_nobody_answered():
    hand = Hand()
    hand.up()
    hand.engine.drain(hand.now)
    hand.advance(31.9)
    assert not hand.engine.is_idle()
    hand.advance(0.2)
    assert hand.engine.is_idle()
    (ended,) = hand.reported(CallEnded)
    assert (ended.cause, ended.bye_answered) == ("stopped", False)


def test_a_2xx_that_crosses_the_cancel_of_a_drain_is_waited_for_until_its_bye_is_answered():
    hand = Hand()
    invite = hand.place()
    hand.receive(reply(invite, 180))
    (cancel,) = sends(hand.engine.drain(hand.now))
    _ack, bye = sends(hand.receive(reply(invite, 200, body=OFFER)))
    hand.receive(reply(cancel, 481))
    assert not hand.engine.is_idle()
    hand.receive(reply(bye, 200))
    assert hand.engine.is_idle()


# ICMP


def test_unreachable_ends_exactly_that_call():
    hand = Hand()
    hand.place("c1")
    hand.place("c2")
    data = hand.log[0][1].data
    hand.take(hand.engine.unreachable(data[:120], BOB, hand.now))
    (ended,) = hand.reported(CallEnded)
    assert (ended.call, ended.cause, ended.by, ended.code) == ("c1", "unreachable", "remote", 503)
    assert hand.engine.unreachable(data, BOB, hand.now) == []


def test_unreachable_bye():
    hand = Hand()
    hand.placed_and_answered()
    outputs = hand.engine.hang_up("c1", hand.now)
    hand.take(hand.engine.unreachable(outputs[0].data, BOB, hand.now))
    (ended,) = hand.reported(CallEnded)
    assert (ended.cause, ended.bye_answered) == ("hung_up", False)


@pytest.mark.parametrize("size", [0, 10, 40, 60])
def test_unreachable_with_too_little_left(size):
    hand = Hand()
    hand.place()
    data = hand.log[0][1].data[:size]
    assert hand.engine.unreachable(data, BOB, hand.now) == []


def test_unreachable_that_concerns_nothing():
    hand = Hand()
    invite = hand.place()
    data = hand.log[0][1].data
    assert hand.engine.unreachable(data, Hop("192.0.2.99", 1), hand.now) == []
    assert hand.engine.unreachable(b"\xff\0", BOB, hand.now) == []
    hand.ringing()
    response = hand.log[-1][1]
    assert hand.engine.unreachable(getattr(response, "data", b""), BOB, hand.now) == []
    hand.receive(reply(invite, 180))  # the peer lives: an old error says nothing any more
    assert hand.engine.unreachable(data, BOB, hand.now) == []
    assert not hand.reported(CallEnded)


# Faults of our own


def test_a_fault_of_ours_is_counted_answered_and_survived(monkeypatch):
    hand = Hand()

    def bug(*args):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(hand.engine, "_receive_options", bug)
    assert lines(hand.receive(request("OPTIONS"))) == ["500"]
    assert hand.engine.counters["engine_error"] == 1
    assert "a bug" in hand.engine.last_error
    assert hand.ringing()


def test_a_fault_in_one_timer_leaves_the_others():
    hand = Hand()
    ran = []
    hand.engine.ctx.after(1.0, lambda: 1 // 0)
    hand.engine.ctx.after(1.0, lambda: ran.append(1))
    hand.advance(2)
    assert ran == [1]
    assert hand.engine.counters["engine_error"] == 1
    assert "ZeroDivisionError" in hand.engine.last_error


def test_the_memory_of_ended_calls_is_bounded():
    hand = Hand()
    for n in range(1000):
        invite = hand.place(f"c{n}")
        hand.receive(reply(invite, 486))
    with pytest.raises(StackRefusal) as refusal:
        hand.engine.hang_up("c999", hand.now)
    assert refusal.value.reason == "already_ended"
    with pytest.raises(StackRefusal) as refusal:
        hand.engine.hang_up("c0", hand.now)
    assert refusal.value.reason == "no_such_call"
    assert len(hand.engine.calls._ended) <= 64


# Two engines


def answer_and_hang_up(net, calls):
    """Bob answers what rings; Alice hangs up what is answered."""
    seen = len(net.log)
    for n in range(calls):
        net.place(f"c{n}")
        net.run(net.now + 0.05)
    while net.now < 400:
        for _, name, output in net.log[seen:]:
            if isinstance(output, IncomingCall):
                engine = net.engines[name]
                net.do(name, engine.answer(output.call, MEDIA, net.now))
            elif isinstance(output, Answered) and name == "a":
                net.do(name, net.engines[name].hang_up(output.call, net.now))
            seen += 1
        net.run(net.now + 0.1)


def test_memory_is_empty_after_2000_calls():
    """And while they run, only the last 32 seconds of them are kept."""
    engines = {ALICE: engine("a", ALICE), BOB: engine("b", BOB)}
    alice, bob = engines.values()
    target = alice.read_target("sip:b@192.0.2.2:5062")
    confirmed = 0

    def carry(sender, outputs):
        nonlocal confirmed
        for output in outputs:
            if isinstance(output, Send):
                to = output.destination
                carry(to, engines[to].receive(output.data, sender, now))
            elif isinstance(output, Confirmed):
                confirmed += 1

    for n in range(2000):
        now = n * 0.1
        carry(ALICE, alice.call(f"c{n}", target, MEDIA, now))
        if n % 10 == 0:  # some are cancelled, some refused
            carry(ALICE, alice.cancel(f"c{n}", now))
        elif n % 10 == 1:
            carry(BOB, bob.reject(f"i{n + 1}", now))
        else:
            carry(BOB, bob.answer(f"i{n + 1}", MEDIA, now))
            carry(ALICE, alice.hang_up(f"c{n}", now))
        for address, one in engines.items():
            carry(address, one.tick(now))
            assert len(one.transactions) <= 2 * 330
            assert one.ctx.timers.allocated <= 4 * 330 + 32
    now += 40
    for address, one in engines.items():
        carry(address, one.tick(now))
    assert confirmed == 1600
    for one in engines.values():
        assert one.next_timer() is None
        assert one.is_idle()
        assert len(one.transactions) == 0
        assert not one.calls._legs
        assert not one.calls._dialogs
        assert not one.transactions._origins
        assert one.ctx.timers.allocated == 0
        assert not one.journal
        assert one.counters["engine_error"] == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_200_calls_with_one_datagram_in_five_lost(seed):
    """And one in ten doubled, each with a delay of its own, so that they overtake one another."""
    dice = random.Random(seed)
    net = Net()

    def policy(message):
        if dice.random() < 0.2:
            return []
        return [dice.uniform(0, 0.2) for _ in range(2 if dice.random() < 0.1 else 1)]

    net.policy = policy
    answer_and_hang_up(net, 200)
    for name in "ab":
        assert net.engines[name].last_error == ""
        assert net.engines[name].is_idle()
        assert len(net.engines[name].transactions) == 0
        assert not net.engines[name].calls._dialogs
    assert len(net.events("a", Answered)) == 200
    assert len(net.events("b", IncomingCall)) == 200  # no copy became a call
    ended = net.events("a", CallEnded)
    assert len(ended) == 200
    assert all(e.cause == "hung_up" and e.bye_answered for e in ended)
    assert len(net.events("b", CallEnded)) == 200


def test_cancel_races_the_answer_and_both_ends_agree():
    """Every moment of a cancel against every moment of an answer, on a slow wire."""
    outcomes = set()
    for cancel_at in [n * 0.05 for n in range(12)]:
        for answer_after in (0.0, 0.05, 0.1, 0.2, 1.0):
            net = Net()
            net.policy = lambda message: [0.1]
            net.place()
            steps = [(cancel_at, "cancel"), (0.1 + answer_after + 1e-6, "answer")]
            for at, what in sorted(steps):
                net.run(at)
                if what == "cancel":
                    net.do("a", net.engines["a"].cancel("c1", net.now))
                else:
                    try:
                        net.do("b", net.engines["b"].answer("i1", MEDIA, net.now))
                    except StackRefusal as refusal:
                        assert refusal.reason == "cancelled"  # noqa: PT017
            net.run(200)
            (resolved,) = net.events("a", CancelResolved)
            outcomes.add(resolved.outcome)
            up = resolved.outcome == "already_answered"
            for name in "ab":
                assert len(net.events(name, CallEnded)) == (0 if up else 1)
                assert net.engines[name].is_idle() == (not up)
    assert outcomes == {"already_answered", "answered_then_ended", "cancelled"}


def test_every_output_can_be_sent_as_it_is():
    net = Net()
    answer_and_hang_up(net, 1)
    destinations = {o.destination for _, _, o in net.log if isinstance(o, Send)}
    assert destinations == {ALICE, BOB}


# The outbound proxy


@pytest.mark.parametrize(
    ("proxy", "hop"),
    [
        ("192.0.2.50", Hop("192.0.2.50", 5060)),
        ("[2001:db8::5]:5070", Hop("2001:db8::5", 5070)),
        ("pbx.lab", Hop("pbx.lab", None)),
    ],
)
def test_a_call_goes_through_the_outbound_proxy(proxy, hop):
    """RFC 3261 8.1.2: it is a pre-loaded route set of one loose router."""
    hand = Hand(proxy=proxy)
    target = hand.engine.read_target("sip:b@far.example?Replaces=x%3Bto-tag%3D1%3Bfrom-tag%3D2")
    assert target == Target(
        "sip:b@far.example", hop, (f"<sip:{proxy};lr>",), "Replaces=x%3Bto-tag%3D1%3Bfrom-tag%3D2"
    )
    (output, *_) = hand.take(hand.engine.call("c1", target, MEDIA, 0.0))
    assert output.destination == hop
    (invite,) = sends([output])
    assert invite.headers.fields("Route") == [f"<sip:{proxy};lr>"]
    assert invite.uri == "sip:b@far.example"
    # A failure is acknowledged along the same way (17.1.1.3).
    (output, *_) = hand.receive(reply(invite, 404), ("192.0.2.50", 5060))
    assert output.destination == hop
    assert sends([output])[0].headers.fields("Route") == [f"<sip:{proxy};lr>"]


def test_a_direct_call_does_not():
    target = Hand(proxy="192.0.2.50").engine.read_target("sip:b@192.0.2.2:5062", direct=True)
    assert target == Target("sip:b@192.0.2.2:5062", BOB)
