"""Transfers: REFER, NOTIFY and Replaces, as transferor, transferee and target."""

from urllib.parse import unquote

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

from sipherd.worker.stack import (
    Answered,
    CallEnded,
    CallWanted,
    CommandEnded,
    Hop,
    IncomingCall,
    StackRefusal,
    TransferFailed,
    Transferred,
)

CAROL = "sip:carol@192.0.2.3:5064"
CONTACT = "Contact: <sip:b@192.0.2.2:5062>"
FRAGMENT = "message/sipfrag;version=2.0"


def within(method, tag, name="next", cseq=2, **more):
    return request(method, via=branch(name), to_tag=tag, cseq=cseq, **more)


def refused(action):
    with pytest.raises(StackRefusal) as refusal:
        action()
    return refusal.value.reason


# Transferor


def notify(tag, status, cseq=2, state="active;expires=60", event="refer"):
    extra = (CONTACT, f"Event: {event}", f"Subscription-State: {state}")
    body = status.encode()
    return within("NOTIFY", tag, f"n{cseq}", cseq, extra=extra, body=body, content_type=FRAGMENT)


def transferring():
    """A call from Bob that we are transferring to Carol, accepted by him."""
    hand = Hand()
    tag = hand.up()
    (refer,) = sends(hand.take(hand.engine.transfer("i1", 7, CAROL, hand.now)))
    hand.receive(reply(refer, 202))
    return hand, tag, refer


def test_blind_transfer():
    hand, tag, refer = transferring()
    assert refer.method == "REFER"
    assert refer.headers["Refer-To"] == f"<{CAROL}>"
    assert refer.headers["Referred-By"] == "<sip:a@192.0.2.1>"
    assert refer.contact.uri == "sip:a@192.0.2.1:5060"
    assert lines(hand.receive(notify(tag, "SIP/2.0 100 Trying"))) == ["200"]
    assert lines(hand.receive(notify(tag, "SIP/2.0 180 Ringing", 3))) == ["200"]
    assert not hand.reported(CommandEnded)
    final = notify(tag, "SIP/2.0 200 OK\r\n", 4, "terminated;reason=noresource")
    ok, bye = sends(hand.receive(final))
    assert (ok.code, bye.method) == (200, "BYE")
    assert hand.reported(Transferred) == [Transferred(call="i1", target=CAROL)]
    assert hand.reported(CommandEnded) == [CommandEnded(7)]
    hand.receive(reply(bye, 200))
    (ended,) = hand.reported(CallEnded)
    assert (ended.cause, ended.by) == ("transferred", "local")
    hand.advance(100)
    assert hand.is_empty()


def test_a_target_that_is_not_reached():
    hand, tag, _ = transferring()
    hand.receive(notify(tag, "SIP/2.0 486 Busy Here"))
    assert hand.reported(TransferFailed) == [
        TransferFailed(call="i1", target=CAROL, code=486, reason="Busy Here")
    ]
    (ended,) = hand.reported(CommandEnded)
    assert ended.refusal.reason == "transfer_failed"
    assert "486" in str(ended.refusal)
    assert not hand.reported(CallEnded)
    # The last word of that subscription is no surprise, and the next transfer may begin.
    assert lines(hand.receive(notify(tag, "", 3, "terminated"))) == ["200"]
    assert lines(hand.engine.transfer("i1", 8, CAROL, hand.now)) == ["REFER"]


@pytest.mark.parametrize("code", [403, 420, 501, 603])
def test_a_refer_that_is_refused(code):
    hand = Hand()
    hand.up()
    (refer,) = sends(hand.take(hand.engine.transfer("i1", 7, CAROL, hand.now)))
    hand.receive(reply(refer, code))
    assert hand.reported(TransferFailed)[0].code == code
    assert hand.reported(CommandEnded)[0].refusal.reason == "transfer_failed"
    assert not hand.reported(CallEnded)


def test_a_refer_in_a_dialog_that_is_gone():
    hand = Hand()
    hand.up()
    (refer,) = sends(hand.take(hand.engine.transfer("i1", 7, CAROL, hand.now)))
    assert lines(hand.receive(reply(refer, 481))) == ["BYE"]
    hand.advance(100)
    assert hand.reported(CallEnded)[0].cause == "dialog_lost"
    assert len(hand.reported(CommandEnded)) == 1


def test_news_may_come_before_the_202():
    hand = Hand()
    tag = hand.up()
    hand.take(hand.engine.transfer("i1", 7, CAROL, hand.now))
    assert lines(hand.receive(notify(tag, "SIP/2.0 200 OK"))) == ["200", "BYE"]
    hand.advance(100)
    assert hand.is_empty()


def test_a_subscription_that_ends_without_a_result():
    hand, tag, _ = transferring()
    hand.receive(notify(tag, "SIP/2.0 100 Trying", 2, "terminated;reason=timeout"))
    assert hand.reported(TransferFailed)[0].code is None


def test_news_that_never_come():
    hand, _, _ = transferring()
    hand.advance(179)
    assert not hand.reported(CommandEnded)
    hand.advance(2)
    assert hand.reported(CommandEnded)[0].refusal.reason == "transfer_failed"
    assert not hand.reported(CallEnded)


@pytest.mark.parametrize("by", ["local", "remote"])
def test_the_call_ends_before_its_transfer(by):
    hand, tag, _ = transferring()
    if by == "local":
        (bye,) = sends(hand.take(hand.engine.hang_up("i1", hand.now)))
        hand.receive(reply(bye, 200))
    else:
        hand.receive(within("BYE", tag))
    kinds = [type(o) for o in events([output for _, output in hand.log])]
    assert kinds[-3:] == [TransferFailed, CommandEnded, CallEnded]
    hand.advance(200)
    assert hand.is_empty()


def test_one_transfer_at_a_time():
    hand, _, _ = transferring()
    assert refused(lambda: hand.engine.transfer("i1", 8, CAROL, 0)) == "transfer_pending"


@pytest.mark.parametrize("target", ["carol", "tel:123", "", "sip:a b@h"])
def test_a_target_that_is_no_sip_uri(target):
    hand = Hand()
    hand.up()
    assert refused(lambda: hand.engine.transfer("i1", 8, target, 0)) == "bad_uri"
    assert lines(hand.engine.transfer("i1", 9, CAROL, 0)) == ["REFER"]


def test_a_call_that_is_not_up_is_not_transferred():
    hand = Hand()
    hand.ringing()
    hand.placed_and_answered()
    assert refused(lambda: hand.engine.transfer("i1", 8, CAROL, 0)) == "not_answered"
    assert refused(lambda: hand.engine.transfer_to_call("c1", 8, "i1", 0)) == "not_answered"
    assert refused(lambda: hand.engine.transfer_to_call("i1", 8, "c1", 0)) == "not_answered"
    assert refused(lambda: hand.engine.transfer_to_call("c1", 8, "c1", 0)) == "bad_target"
    assert refused(lambda: hand.engine.transfer_to_call("c1", 8, "x", 0)) == "no_such_call"


def test_a_notify_of_nothing_is_481():
    hand = Hand()
    tag = hand.up()
    assert lines(hand.receive(notify(tag, "SIP/2.0 200 OK"))) == ["481"]
    hand.take(hand.engine.transfer("i1", 7, CAROL, hand.now))
    assert lines(hand.receive(notify(tag, "", 3, event="message-summary"))) == ["481"]
    assert not hand.reported(Transferred)


def test_news_of_another_refer_change_nothing():
    hand, tag, refer = transferring()
    number = refer.cseq.number
    hand.receive(notify(tag, "SIP/2.0 200 OK", 2, event=f"refer;id={number + 1}"))
    assert not hand.reported(Transferred)
    hand.receive(notify(tag, "SIP/2.0 200 OK", 3, event=f"refer;id={number}"))
    assert hand.reported(Transferred)


def test_attended_transfer_names_the_dialog_as_its_peer_knows_it():
    hand = Hand()
    hand.up()
    invite, _ = hand.placed_and_answered()  # the consultation
    (refer,) = sends(hand.take(hand.engine.transfer_to_call("i1", 7, "c1", hand.now)))
    uri, _, replaces = refer.headers["Refer-To"].strip("<>").partition("?Replaces=")
    assert uri == "sip:b@192.0.2.2:5062"
    assert unquote(replaces) == f"{invite.call_id};to-tag=tob;from-tag={invite.from_.tag}"
    assert not set("@;=") & set(replaces)
    hand.receive(reply(refer, 202))
    # The target ends the consultation when the transferee's INVITE has taken its place.
    bye = request(
        "BYE", via=branch("x"), call_id=invite.call_id, from_tag="tob", to_tag=invite.from_.tag
    )
    hand.receive(bye)
    assert hand.reported(CallEnded)[0].cause == "transferred"


# Transferee


def refer_to(value, *extra):
    return (CONTACT, f"Refer-To: {value}", *extra)


def referred(*extra, value=f"<{CAROL}>"):
    """A call in which Bob has asked us to call Carol."""
    hand = Hand()
    tag = hand.up()
    outputs = hand.receive(within("REFER", tag, extra=refer_to(value, *extra)))
    return hand, tag, outputs


def told(outputs):
    """Status line, state and CSeq of the NOTIFYs among ``outputs``."""
    return [
        (m.content.decode().strip(), m.headers["Subscription-State"].partition(";")[0])
        for m in sends(outputs)
        if m.method == "NOTIFY"
    ]


def call_carol(hand):
    target = hand.engine.read_target(CAROL)
    outputs = hand.take(hand.engine.call("t1", target, MEDIA, hand.now, referred_by="i1"))
    return sends(outputs)[0]


def test_refer_is_accepted_and_the_worker_asked():
    hand, _, outputs = referred("Referred-By: <sip:boss@192.0.2.2>")
    accepted, trying = sends(outputs)
    assert accepted.code == 202
    assert accepted.contact.uri == "sip:a@192.0.2.1:5060"
    assert trying.method == "NOTIFY"
    assert trying.headers["Event"] == "refer"
    assert trying.headers["Content-Type"] == FRAGMENT
    assert told(outputs) == [("SIP/2.0 100 Trying", "active")]
    assert hand.reported(CallWanted) == [
        CallWanted(call="i1", target=CAROL, by="sip:boss@192.0.2.2")
    ]


def test_what_becomes_of_the_call_is_told_one_by_one():
    hand, _, outputs = referred()
    (_, trying) = sends(outputs)
    invite = call_carol(hand)
    assert invite.uri == CAROL
    assert invite.headers["Referred-By"] == "<sip:b@192.0.2.2>"
    assert told(hand.receive(reply(invite, 180))) == []  # the first is not answered yet
    outputs = hand.receive(reply(trying, 200))
    assert told(outputs) == [("SIP/2.0 180 Whatever", "active")]
    (ringing,) = sends(outputs)
    hand.receive(reply(invite, 200, body=OFFER))
    outputs = hand.receive(reply(ringing, 200))
    assert told(outputs) == [("SIP/2.0 200 Whatever", "terminated")]
    hand.receive(reply(sends(outputs)[0], 200))
    assert not hand.reported(CallEnded)  # it is for the transferor to hang up


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (lambda hand, invite: hand.receive(reply(invite, 486)), "SIP/2.0 486 Whatever"),
        (lambda hand, invite: hand.advance(40), "SIP/2.0 408 Request Timeout"),
        (
            lambda hand, invite: hand.take(
                hand.engine.unreachable(invite.encode(), Hop("192.0.2.3", 5064), hand.now)
            ),
            "SIP/2.0 503 Service Unavailable",
        ),
        (
            lambda hand, invite: (
                hand.receive(reply(invite, 180))
                and hand.take(hand.engine.cancel("t1", hand.now))
                and hand.receive(reply(invite, 487))
            ),
            "SIP/2.0 487 Whatever",
        ),
    ],
)
def test_a_call_that_fails_is_told(end, status):
    hand, _, outputs = referred()
    invite = call_carol(hand)
    hand.receive(reply(sends(outputs)[1], 200))
    end(hand, invite)
    for _ in range(3):  # answer whatever is told
        for notify_ in [m for m in sends([o for _, o in hand.log]) if m.method == "NOTIFY"]:
            hand.receive(reply(notify_, 200))
    news = told([output for _, output in hand.log])
    assert news[-1] == (status, "terminated")


def test_a_call_that_can_not_be_placed_is_told():
    hand, _, outputs = referred()
    hand.receive(reply(sends(outputs)[1], 200))
    outputs = hand.take(hand.engine.refer_failed("i1", 503, hand.now))
    assert told(outputs) == [("SIP/2.0 503 Service Unavailable", "terminated")]
    assert refused(lambda: hand.engine.refer_failed("i1", 503, hand.now)) == "not_referred"


def test_a_second_refer_is_told_by_its_id():
    hand, tag, outputs = referred()
    hand.receive(reply(sends(outputs)[1], 200))
    busy = within("REFER", tag, "r2", 3, extra=refer_to(f"<{CAROL}>"))
    assert lines(hand.receive(busy)) == ["491"]
    (last,) = sends(hand.engine.refer_failed("i1", 503, hand.now))
    hand.receive(reply(last, 200))
    outputs = hand.receive(within("REFER", tag, "r3", 4, extra=refer_to(f"<{CAROL}>")))
    assert sends(outputs)[1].headers["Event"] == "refer;id=4"


def test_a_transferor_that_wants_no_news():
    """RFC 4488."""
    hand, _, outputs = referred("Refer-Sub: false", "Supported: norefersub")
    (accepted,) = sends(outputs)
    assert (accepted.code, accepted.headers["Refer-Sub"]) == (202, "false")
    invite = call_carol(hand)
    assert lines(hand.receive(reply(invite, 200, body=OFFER))) == ["ACK"]


def test_a_transferor_that_listens_no_more():
    hand, _, outputs = referred()
    invite = call_carol(hand)
    hand.receive(reply(sends(outputs)[1], 481))
    assert lines(hand.receive(reply(invite, 200, body=OFFER))) == ["ACK"]
    assert not hand.reported(CallEnded)


def test_a_transferor_that_hangs_up_at_once():
    hand, tag, _ = referred()
    invite = call_carol(hand)
    hand.receive(within("BYE", tag, "bye", 3))
    assert lines(hand.receive(reply(invite, 200, body=OFFER))) == ["ACK"]
    assert [ended.call for ended in hand.reported(CallEnded)] == ["i1"]
    (bye,) = sends(hand.take(hand.engine.hang_up("t1", hand.now)))
    hand.receive(reply(bye, 200))
    hand.advance(100)
    assert hand.is_empty()


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ((CONTACT,), "400"),
        (refer_to("<sip:>"), "400"),
        (refer_to("<tel:123>"), "400"),
        (refer_to(f"<{CAROL}>, <{CAROL}>"), "400"),
        (refer_to(f"<{CAROL};method=BYE>"), "501"),
        (refer_to(f"<{CAROL}>", 'Referred-By: "'), "400"),
    ],
)
def test_a_bad_refer(extra, code):
    hand = Hand()
    tag = hand.up()
    assert lines(hand.receive(within("REFER", tag, extra=extra))) == [code]
    assert not hand.reported(CallWanted)
    assert lines(hand.receive(within("OPTIONS", tag, "o", 3))) == ["200"]


def test_a_refer_of_a_stranger_is_481():
    hand = Hand()
    assert lines(hand.receive(request("REFER", extra=refer_to(f"<{CAROL}>")))) == ["481"]
    assert not hand.reported(CallWanted)


def test_a_refer_before_the_answer():
    hand = Hand()
    tag = hand.ringing()
    assert lines(hand.receive(within("REFER", tag, extra=refer_to(f"<{CAROL}>")))) == ["491"]


def test_the_target_of_an_attended_transfer_gets_a_replaces():
    value = f"<{CAROL}?Replaces=x%40y%3Bto-tag%3D1%3Bfrom-tag%3D2>"
    hand, _, _ = referred(value=value)
    (wanted,) = hand.reported(CallWanted)
    target = hand.engine.read_target(wanted.target)
    (invite,) = sends(hand.engine.call("t1", target, MEDIA, hand.now, referred_by="i1"))
    assert invite.uri == CAROL
    assert invite.headers["Replaces"] == "x@y;to-tag=1;from-tag=2"
    assert "replaces" in invite.headers.values("Require")


@pytest.mark.parametrize(
    "value", ["x", "x%3Bto-tag%3D1", "x%0D%0AEvil:1%3Bto-tag%3D1%3Bfrom-tag%3D2"]
)
def test_a_bad_replaces_in_a_uri_is_refused(value):
    hand = Hand()
    target = hand.engine.read_target(f"{CAROL}?Replaces={value}")
    assert refused(lambda: hand.engine.call("t1", target, MEDIA, 0)) == "bad_uri"
    assert hand.is_empty()


# Target


def replacing(replaces, call_id="new", **more):
    return request(
        "INVITE",
        via=branch(call_id),
        call_id=call_id,
        from_tag="new",
        body=OFFER,
        extra=("Contact: <sip:c@192.0.2.3:5064>", f"Replaces: {replaces}", "Require: replaces"),
        **more,
    )


def test_a_call_takes_the_place_of_another():
    hand = Hand()
    tag = hand.up()
    outputs = hand.receive(replacing(f"call@b;to-tag={tag};from-tag=fromb"))
    assert sends(outputs) == []  # it does not ring
    (incoming,) = events(outputs)
    assert isinstance(incoming, IncomingCall)
    assert (incoming.call, incoming.replaces) == ("i2", "i1")
    ok, bye = sends(hand.take(hand.engine.answer("i2", MEDIA, hand.now)))
    assert (ok.code, ok.call_id) == (200, "new")
    assert (bye.method, bye.call_id) == ("BYE", "call@b")
    hand.receive(reply(bye, 200))
    (ended,) = hand.reported(CallEnded)
    assert (ended.call, ended.cause, ended.by) == ("i1", "replaced", "remote")


def test_the_callers_side_of_a_call_is_replaced_too():
    hand = Hand()
    invite, _ = hand.placed_and_answered()
    hand.receive(replacing(f"{invite.call_id};from-tag=tob;to-tag={invite.from_.tag}"))
    assert lines(hand.take(hand.engine.answer("i1", MEDIA, hand.now))) == ["200", "BYE"]


def test_replacing_is_not_one_call_more():
    hand = Hand(max_calls=1)
    tag = hand.up()
    hand.receive(replacing(f"call@b;to-tag={tag};from-tag=fromb"))
    assert hand.reported(IncomingCall)[-1].replaces == "i1"


def test_a_call_of_ours_that_rings_still_is_cancelled():
    hand = Hand()
    invite = hand.place()
    hand.receive(reply(invite, 180))
    hand.receive(replacing(f"{invite.call_id};from-tag=tob;to-tag={invite.from_.tag};early-only"))
    assert lines(hand.take(hand.engine.answer("i1", MEDIA, hand.now))) == ["200", "CANCEL"]
    hand.receive(reply(invite, 487))
    assert hand.reported(CallEnded)[0].cause == "replaced"


@pytest.mark.parametrize(
    ("replaces", "code"),
    [
        ("call@b;to-tag={tag};from-tag=other", "481"),
        ("call@b;to-tag=other;from-tag=fromb", "481"),
        ("other;to-tag={tag};from-tag=fromb", "481"),
        ("call@b;to-tag={tag}", "400"),
        ("call@b;;;", "400"),
        ("call@b;to-tag={tag};from-tag=fromb, x;to-tag=1;from-tag=2", "400"),
        ("call@b;to-tag={tag};from-tag=fromb;early-only", "486"),
    ],
)
def test_what_can_not_be_replaced(replaces, code):
    hand = Hand()
    tag = hand.up()
    assert lines(hand.receive(replacing(replaces.format(tag=tag)))) == [code]
    assert len(hand.reported(IncomingCall)) == 1
    assert not hand.reported(CallEnded)


def test_a_call_that_rings_here_is_not_replaced():
    hand = Hand()
    tag = hand.ringing()
    assert lines(hand.receive(replacing(f"call@b;to-tag={tag};from-tag=fromb"))) == ["481"]


def test_a_call_that_has_ended_is_603():
    hand = Hand()
    tag = hand.up()
    hand.receive(within("BYE", tag))
    assert lines(hand.receive(replacing(f"call@b;to-tag={tag};from-tag=fromb"))) == ["603"]
    assert lines(hand.receive(replacing(f"call@b;to-tag={tag};from-tag=x", "two"))) == ["481"]


def test_a_replacement_that_is_given_up_leaves_the_old_call():
    hand = Hand()
    tag = hand.up()
    hand.receive(replacing(f"call@b;to-tag={tag};from-tag=fromb"))
    hand.take(hand.engine.reject("i2", hand.now))
    assert [ended.call for ended in hand.reported(CallEnded)] == ["i2"]


# All three


class Three(Net):
    """Alice, Bob and Carol; whoever is asked to call somebody does, whoever is replaced answers."""

    def __init__(self):
        super().__init__()
        self.addresses["c"] = Hop("192.0.2.3", 5064)
        self.engines["c"] = engine("c", self.addresses["c"])

    def do(self, name, outputs):
        super().do(name, outputs)
        for output in outputs:
            user_agent = self.engines[name]
            if isinstance(output, CallWanted):
                target = user_agent.read_target(output.target)
                placed = user_agent.call("t1", target, MEDIA, self.now, referred_by=output.call)
                self.do(name, placed)
            elif isinstance(output, IncomingCall):
                self.do(name, user_agent.answer(output.call, MEDIA, self.now))


def causes(net, name):
    return {ended.call: ended.cause for ended in net.events(name, CallEnded)}


def test_blind_transfer_of_three_phones():
    net = Three()
    net.place()
    net.run(1)
    net.do("b", net.engines["b"].transfer("i1", 7, CAROL, net.now))
    net.run(60)
    assert net.events("b", CommandEnded) == [CommandEnded(7)]
    assert causes(net, "a") == {"c1": "hung_up"}
    assert causes(net, "b") == {"i1": "transferred"}
    assert [answered.call for answered in net.events("a", Answered)] == ["c1", "t1"]
    assert causes(net, "c") == {}
    net.do("a", net.engines["a"].hang_up("t1", net.now))
    net.run(200)
    assert all(user_agent.is_idle() for user_agent in net.engines.values())
    assert all(not len(user_agent.ctx.timers) for user_agent in net.engines.values())


def test_attended_transfer_of_three_phones():
    net = Three()
    net.place()
    net.run(1)
    target = net.engines["b"].read_target(CAROL)
    net.do("b", net.engines["b"].call("consult", target, MEDIA, net.now))
    net.run(2)
    net.do("b", net.engines["b"].transfer_to_call("i1", 7, "consult", net.now))
    net.run(60)
    assert net.events("b", CommandEnded) == [CommandEnded(7)]
    assert causes(net, "b") == {"i1": "transferred", "consult": "transferred"}
    assert causes(net, "c") == {"i1": "replaced"}
    assert net.events("c", IncomingCall)[-1].replaces == "i1"
    assert causes(net, "a") == {"c1": "hung_up"}
    net.do("a", net.engines["a"].hang_up("t1", net.now))
    net.run(200)
    assert causes(net, "c") == {"i1": "replaced", "i2": "hung_up"}
    assert all(not len(user_agent.ctx.timers) for user_agent in net.engines.values())
    assert ALICE != BOB
