"""Bodies with the session description among other parts (RFC 5621)."""

import pytest
from sipwire import OFFER, Hand, lines, reply, request

from sipherd.worker.stack import Answered

MIXED = 'multipart/mixed; boundary="the end"'
SDP = b"Content-Type: application/sdp\r\n\r\n" + OFFER
PIDF = (
    b"Content-Type: application/pidf+xml\r\nContent-Disposition: render;handling=optional\r\n\r\nx"
)


def parts(*bodies, preamble=b"", end=b"--the end--\r\n"):
    text = preamble
    for body in bodies:
        text += b"--the end\r\n" + body + b"\r\n"
    return text + end


def codes(body, kind=MIXED, **more):
    return lines(Hand().receive(request("INVITE", body=body, content_type=kind, **more)))


@pytest.mark.parametrize(
    "body",
    [
        parts(SDP),
        parts(PIDF, SDP),
        parts(SDP, PIDF, preamble=b"This is MIME.\r\n"),
        parts(PIDF, SDP).replace(b"\r\n", b"\n"),
        parts(b"c: APPLICATION/SDP;x=y\r\nContent-Disposition: session\r\n\r\n" + OFFER),
        parts(b"Content-Type: multipart/mixed;boundary=in\r\n\r\n--in\r\n" + SDP + b"\r\n--in--"),
        parts(SDP) + b"whatever comes behind it",
    ],
)
def test_the_description_is_found(body):
    assert codes(body) == ["180"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (parts(SDP, b"Content-Type: application/odd\r\n\r\nx"), "415"),
        (parts(b"\r\nplain text"), "415"),
        (parts(SDP, end=b""), "400"),
        (b"nothing of the kind", "400"),
        (parts(*[PIDF] * 17), "400"),
    ],
)
def test_what_is_refused(body, code):
    assert codes(body) == [code]


@pytest.mark.parametrize("kind", ["multipart/mixed", 'multipart/mixed;boundary=""'])
def test_a_multipart_without_boundary_is_400(kind):
    assert codes(parts(SDP), kind) == ["400"]


def test_only_parts_that_may_be_left_out_are_a_late_offer():
    assert codes(parts(PIDF)) == ["180"]


def test_an_answer_in_a_multipart():
    hand = Hand()
    invite = hand.place()
    data = reply(invite, 200, body=parts(PIDF, SDP)).replace(b"application/sdp", MIXED.encode(), 1)
    assert lines(hand.receive(data)) == ["ACK"]
    assert hand.reported(Answered)[0].codec == "PCMU"


def test_an_encoded_description_is_415():
    extra = ("Contact: <sip:b@192.0.2.2:5062>", "Content-Encoding: gzip")
    assert codes(OFFER, "application/sdp", extra=extra) == ["415"]
