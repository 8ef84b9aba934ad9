"""Whatever arrives, the engine neither raises nor stops serving."""

import contextlib
import random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from sipwire import BOB, OFFER, Hand, branch, events, lines, reply, request, sends

from sipherd.worker.stack import CommandEnded, StackRefusal

SEEDS = [
    request("INVITE", body=OFFER),
    request("ACK", to_tag="a2"),
    request("BYE", to_tag="a2", cseq=2, via=branch("bye")),
    request("CANCEL"),
    request("OPTIONS", via=branch("o"), extra=("Require: x", "Record-Route: <sip:h;lr>")),
]
PIECES = [
    b"", b"\r\n", b"\n ", b"\0", b"\xff\xfe", b";", b",", b'"', b"<", b">", b":", b"@", b"=", b" ",
    b";tag=", b";branch=", b";rport=x", b"99999999999999999999", b"[::1", b"sip:", b"SIP/2.0",
    b"Via: ,,\r\n", b"Contact: *\r\n", b"Route: <>\r\n", b"m=audio", b"a=rtpmap:", b"CSeq: \r\n",
    b"Record-Route: <sip:[>\r\n", b"Content-Length: 0\r\n", b"\xc3\xa9", b"Expires: 9\r\n",
]  # fmt: skip
cuts = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 12), st.sampled_from(PIECES) | st.binary(max_size=8)),
    max_size=5,
)


def mutate(data, changes):
    for where, length, piece in changes:
        at = int(where * len(data))
        data = data[:at] + piece + data[at + length :]
    return data


def check(hand):
    """Still sound, and a proper request is still served."""
    assert hand.engine.last_error == ""
    for _, output in hand.log:
        if isinstance(output, CommandEnded):
            msgspec.msgpack.encode(str(output.refusal))
        elif events([output]):
            msgspec.msgpack.encode(output)  # no stray surrogates: it must go over ZeroMQ
    assert lines(hand.receive(request("OPTIONS", via=branch("check"), call_id="check"))) == ["200"]
    hand.advance(200)
    assert hand.engine.last_error == ""


@given(st.lists(st.binary(max_size=400), max_size=4))
def test_arbitrary_bytes(datagrams):
    hand = Hand()
    for data in datagrams:
        hand.receive(data)
        hand.engine.unreachable(data, BOB, hand.now)
    check(hand)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(SEEDS), cuts), max_size=6), st.booleans())
def test_mutated_requests(datagrams, answer):
    hand = Hand()
    hand.ringing()
    if answer:
        hand.take(hand.engine.answer("i1", _media(), hand.now))
    for data, changes in datagrams:
        hand.receive(mutate(data, changes))
        hand.advance(0.3)
    check(hand)


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(st.sampled_from([100, 180, 183, 200, 302, 486, 487, 699]), cuts), max_size=6
    ),
    st.booleans(),
)
def test_mutated_responses(responses, cancel):
    hand = Hand()
    invite = hand.place()
    if cancel:
        hand.take(hand.engine.cancel("c1", hand.now))
    for code, changes in responses:
        hand.receive(mutate(reply(invite, code, body=OFFER), changes))
        hand.advance(0.3)
    check(hand)


def test_ten_thousand_random_datagrams_and_as_many_mutated_ones():
    """The bad-input table of the README, in one go and the same every time."""
    dice = random.Random(2)
    hand = Hand(session_expires=1800)
    invite = hand.place()
    tag = hand.up()
    seeds = [
        *SEEDS,
        *within_a_call(tag),
        *(reply(invite, code, body=OFFER) for code in (180, 200, 486)),
        reply(invite, 183, extra=RELIABLE, body=OFFER),
    ]
    for n in range(10_000):
        random_one = dice.randbytes(dice.randrange(1, 300))
        before = hand.engine.counters["sip_malformed"]
        hand.receive(random_one)
        if random_one.strip(b"\r\n\0\t "):
            assert hand.engine.counters["sip_malformed"] == before + 1
        data = dice.choice(seeds)
        for _ in range(dice.randrange(1, 4)):
            at = dice.randrange(len(data))
            data = data[:at] + dice.choice(PIECES) + data[at + dice.randrange(8) :]
        hand.receive(data)
        if n % 100 == 0:
            hand.advance(1)
    assert hand.engine.counters["engine_error"] == 0
    check(hand)
    empty(hand)


CONTACT = "Contact: <sip:b@192.0.2.2:5062>"
RELIABLE = (CONTACT, "Require: 100rel", "RSeq: 1")
MIXED = b"--x\r\nContent-Type: application/sdp\r\n\r\n" + OFFER + b"\r\n--x--\r\n"


def within_a_call(tag, cseq=2):
    """Everything a peer may send in a call."""

    def one(method, name, *extra, **more):
        nonlocal cseq
        cseq += 1
        via = branch(f"{name}{cseq}")
        return request(method, via=via, to_tag=tag, cseq=cseq, extra=(CONTACT, *extra), **more)

    timer = ("Supported: timer", "Session-Expires: 90;refresher=uas", "Allow: UPDATE, INFO")
    relay, fragment = "application/dtmf-relay", "message/sipfrag"
    refer = "Refer-To: <sip:c@192.0.2.3?Replaces=x%3Bto-tag%3D1%3Bfrom-tag%3D2>"
    return [
        one("INVITE", "i", *timer, body=OFFER.replace(b"sendrecv", b"sendonly")),
        one("INVITE", "late"),
        one("INVITE", "mixed", body=MIXED, content_type="multipart/mixed;boundary=x"),
        request("ACK", via=branch("a"), to_tag=tag, cseq=cseq, body=OFFER),
        one("UPDATE", "u", *timer, body=OFFER),
        one("PRACK", "p", "RAck: 1 1 INVITE"),
        one("INFO", "d", body=b"Signal=5\r\nDuration=100\r\n", content_type=relay),
        one("REFER", "r", refer, "Referred-By: <sip:b@h>"),
        one("NOTIFY", "n", "Event: refer", "Subscription-State: active;expires=9",
            body=b"SIP/2.0 180 Ringing", content_type=fragment),
        one("NOTIFY", "o", "Event: refer;id=3", "Subscription-State: terminated",
            body=b"SIP/2.0 486 Busy", content_type=fragment),
        one("MESSAGE", "m", body=b"hello", content_type="text/plain"),
        one("OPTIONS", "q"),
        request("INVITE", via=branch("w"), call_id="new", from_tag="new", body=OFFER,
                extra=(CONTACT, f"Replaces: call@b;to-tag={tag};from-tag=fromb")),
        one("BYE", "b"),
    ]  # fmt: skip


def empty(hand):
    """Nothing stays behind: no call, no transaction, no timer."""
    hand.engine.drain(hand.now)
    hand.advance(400)
    assert hand.engine.last_error == ""
    assert hand.is_empty()


NUMBERED = (
    lambda e, n, now: e.hold("i1", n, now),
    lambda e, n, now: e.retrieve("i1", n, now),
    lambda e, n, now: e.transfer("i1", n, "sip:c@192.0.2.3", now),
    lambda e, n, now: e.send_info("i1", n, "application/dtmf-relay", b"Signal=1", now),
)
COMMANDS = (
    *NUMBERED,
    lambda e, n, now: e.refer_failed("i1", 503, now),
    lambda e, n, now: e.answer("i2", _media(), now),
    lambda e, n, now: e.hang_up("i1", now),
)


@settings(max_examples=400)
@given(
    st.lists(
        st.tuples(st.integers(0, 13), cuts | st.just([]), st.sampled_from([None, *COMMANDS])),
        max_size=8,
    ),
    st.sampled_from([200, 202, 404, 422, 481, 491]),
)
def test_mutated_requests_in_a_call(steps, code):
    """With commands of ours between them, and answers to what we send."""
    hand = Hand()
    messages = within_a_call(hand.up())
    begun = []
    for step, (number, changes, command) in enumerate(steps, 1):
        if command is not None:
            with contextlib.suppress(StackRefusal):
                hand.take(command(hand.engine, step, hand.now))
                begun += [step] if command in NUMBERED else []
        before = len(hand.log)
        hand.receive(mutate(messages[number], changes))
        for sent in sends([output for _, output in hand.log[before:]]):
            if sent.method not in ("", "ACK"):
                hand.receive(mutate(reply(sent, code, body=OFFER), changes))
        hand.advance(0.3)
    check(hand)
    empty(hand)
    # Each command has one end, whatever the peer did.
    assert sorted(output.command for output in hand.reported(CommandEnded)) == begun


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), cuts | st.just([])), max_size=6),
)
def test_mutated_reliable_responses(steps):
    hand = Hand(session_expires=1800)
    invite = hand.place()
    for number, tag, changes in steps:
        extra = (CONTACT, "Require: 100rel", f"RSeq: {number}", "Session-Expires: 90", "Min-SE: 1")
        code = (183, 200, 422, 180)[number]
        hand.receive(mutate(reply(invite, code, tag=f"t{tag}", extra=extra, body=OFFER), changes))
        hand.advance(0.3)
    check(hand)
    empty(hand)


def _media():
    from sipwire import MEDIA

    return MEDIA
