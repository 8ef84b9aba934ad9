"""Whatever arrives, the engine neither raises nor stops serving."""

import random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from sipwire import BOB, OFFER, Hand, branch, events, lines, reply, request

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
        if events([output]):
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
    hand = Hand()
    invite = hand.place()
    tag = hand.up()
    seeds = [
        *SEEDS,
        request("BYE", to_tag=tag, cseq=1, via=branch("b")),
        *(reply(invite, code, body=OFFER) for code in (180, 200, 486)),
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
    hand.engine.drain(hand.now)
    hand.advance(200)
    assert hand.is_empty()


def _media():
    from sipwire import MEDIA

    return MEDIA
