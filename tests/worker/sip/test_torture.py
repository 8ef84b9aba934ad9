"""Messages after the descriptions of RFC 4475 ("SIP Torture Test Messages")."""

import pytest
from sipwire import MEDIA, OFFER, Hand, lines, request, sends

from sipherd.worker.sip.message import Via, parse
from sipherd.worker.stack import Confirmed, IncomingCall


def fill(text, body=b""):
    """CRLF line ends and a body for ``text``."""
    return text.strip("\n").replace("\n", "\r\n").encode() + b"\r\n\r\n" + body


WSINV = rf"""
INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0
TO :
 sip:vivekg@chair-dnrc.example.com
from   : "J Rosenberg \\\""       <sip:jdrosen@example.com>
  ;
  tag = 98asjd8
MaX-fOrWaRdS: 0068
Call-ID: wsinv.ndaksdj@192.0.2.1
Content-Length   : {len(OFFER)}
cseq: 0009
  INVITE
Via  : SIP  /   2.0
 /UDP
    192.0.2.2;branch=390skdjuw
s :
NewFangledHeader:   newfangled value
 continued newfangled value
UnknownHeaderWithUnusualValue: ;;,,;;,;
Content-Type: application/sdp
Route:
 <sip:services.example.com;lr;unknownwith=value;unknown-no-value>
v:  SIP  / 2.0  / TCP     spindle.example.com   ;
  branch  =   z9hG4bK9ikj8  ,
 SIP  /    2.0   / UDP  192.168.255.111   ; branch=
 z9hG4bK30239
m:"Quoted string \"\"" <sip:jdrosen@example.com> ; newparam =
      newvalue ;
  secondparam ; q = 0.33
"""


def test_a_short_tortuous_invite():
    """3.1.1.1, without its To tag, so that it is a new call."""
    data = fill(WSINV, OFFER)
    message = parse(data)
    assert message.from_.display == 'J Rosenberg \\"'
    assert message.from_.tag == "98asjd8"
    assert (message.cseq.number, message.cseq.method) == (9, "INVITE")
    vias = [Via.parse(value) for value in message.headers.values("Via")]
    assert [via.branch for via in vias] == ["390skdjuw", "z9hG4bK9ikj8", "z9hG4bK30239"]
    assert message.contact.uri == "sip:jdrosen@example.com"
    assert message.contact.params["secondparam"] is None
    assert message.headers["Subject"] == ""
    hand = Hand()
    (ringing,) = sends(hand.receive(data))
    assert ringing.code == 180
    assert len(ringing.headers.values("Via")) == 3


WEIRD_METHOD = "!interesting-Method0123456789_*+`.%indeed'~"
WEIRD_URI = (
    "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too."
    "(doesn't-it)@example.com"
)


@pytest.mark.parametrize(
    ("name", "data", "codes"),
    [
        ("3.1.1.2 characters", request(WEIRD_METHOD, uri=WEIRD_URI), ["405"]),
        ("3.1.1.3 escapes", request("OPTIONS", uri="sip:sips%3Auser%40h@h;p=%41"), ["200"]),
        ("3.1.1.4 escaped nulls", request("OPTIONS", uri="sip:null-%00-null@h"), ["200"]),
        ("3.1.1.5 percent in method", request("RE%47IST%45R"), ["405"]),
        ("3.1.1.6 no space before <",
         request("OPTIONS").replace(b"From: <", b"From: caller<"), ["200"]),
        ("3.1.1.7 long values",
         request("OPTIONS", extra=("Via: SIP/2.0/TCP h;branch=" + "x" * 9000,) * 5,
                 call_id="long" * 1000), ["200"]),
        ("3.1.1.8 trailing octets", request("OPTIONS") + request("INVITE"), ["200"]),
        ("3.1.1.9 semicolon in user",
         request("OPTIONS", uri="sip:user;par=u%40example.net@example.com"), ["200"]),
        ("3.1.1.10 transports",
         request("OPTIONS", extra=("Via: SIP/2.0/SCTP a;branch=z9hG4bKx",
                                   "Via: SIP/2.0/UNKNOWN b;branch=z9hG4bKy")), ["200"]),
        ("3.1.2.2 Content-Length too large",
         request("INVITE", body=OFFER).replace(b"Length: ", b"Length: 9"), ["400"]),
        ("3.1.2.3 negative Content-Length",
         request("INVITE", body=OFFER).replace(b"Length: ", b"Length: -"), ["400"]),
        ("3.1.2.4 overlarge scalars",
         request("INVITE", cseq=36893488147419103232, body=OFFER), ["400"]),
        ("3.1.2.6 unterminated quote",
         request("OPTIONS").replace(b"To: <", b'To: "Mr. J. User <'), ["400"]),
        ("3.1.2.7 <> around the request URI", request("OPTIONS", uri="<sip:a@h>"), ["400"]),
        ("3.1.2.8 space in the request URI", request("OPTIONS", uri="sip:a@h; lr"), ["400"]),
        ("3.1.2.9 two spaces",
         request("OPTIONS").replace(b"OPTIONS sip", b"OPTIONS  sip"), ["400"]),
        ("3.1.2.10 space at the end",
         request("OPTIONS").replace(b" SIP/2.0\r\nVia", b" SIP/2.0  \r\nVia"), ["400"]),
        ("3.1.2.11 headers in the request URI",
         request("INVITE", uri="sip:user@h?Route=%3Csip:h%3E", body=OFFER), ["400"]),
        ("3.1.2.12 a date of another zone",
         request("OPTIONS", extra=("Date: Fri, 01 Jan 2010 16:00:00 EST",)), ["200"]),
        ("3.1.2.13 Contact without <>",
         request("INVITE", body=OFFER, extra=("Contact: sip:user@h?Route=%3Csip:h%3E",)), ["400"]),
        ("3.1.2.14 spaces within <>",
         request("OPTIONS").replace(b"To: <sip:a@192.0.2.1>", b'To: "W, T" < sip:t.w@h >'),
         ["200"]),
        ("3.1.2.15 a display name that is no token",
         request("OPTIONS").replace(b"From: <", b"From: Bell, Alexander <"), ["200"]),
        ("3.1.2.18 method of CSeq, both unknown",
         request("NEWMETHOD").replace(b"1 NEWMETHOD", b"8 INVITE"), ["400"]),
        ("3.1.2.16 version", request("OPTIONS").replace(b" SIP/2.0\r\nVia", b" SIP/7.0\r\nVia"),
         ["505"]),
        ("3.1.2.17 method of CSeq",
         request("OPTIONS").replace(b"1 OPTIONS", b"1 INVITE"), ["400"]),
        ("3.3.2 unknown scheme", request("OPTIONS", uri="nobodyKnowsThisScheme:x"), ["416"]),
        ("3.3.3 another scheme", request("OPTIONS", uri="soap.beep://192.0.2.103:3002"), ["416"]),
        ("3.3.4 a scheme in To", request("REGISTER").replace(b"To: <sip:a@192.0.2.1>",
                                                             b"To: <isbn:2983792873>"), ["405"]),
        ("3.3.7 authorization",
         request("REGISTER", extra=("Authorization: NoOneKnowsThisScheme a=here",)), ["405"]),
        ("3.3.10 two Via in a response", b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.198;branch="
         b"z9hG4bK1324923\r\nVia: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bK1saber23\r\n"
         b"Call-ID: bcast.0384840201234ksdfak3j2erwedfsASdf\r\nCSeq: 35 INVITE\r\n"
         b"From: sip:user@example.com;tag=11141343\r\nTo: sip:user@example.edu;tag=2229\r\n"
         b"Content-Length: 0\r\n\r\n", []),
        ("3.3.11 Max-Forwards of 0",
         request("OPTIONS").replace(b"Max-Forwards: 70", b"Max-Forwards: 0"), ["200"]),
        ("3.3.12 a parameter in a Contact",
         request("REGISTER", extra=("Contact: sip:+1@h;user=phone",)), ["405"]),
        ("3.3.15 an answer that is not acceptable",
         request("INVITE", body=OFFER,
                 extra=("Contact: <sip:b@h>", "Accept: text/nobodyKnowsThis")), ["406"]),
        ("3.3.5 extensions", request("OPTIONS", extra=("Require: nothingSupportsThis",)),
         ["420"]),
        ("3.3.6 content type",
         request("INVITE", body=b"<audio/>", content_type="application/unknownformat"), ["415"]),
        ("3.3.8 two of a kind", request("OPTIONS", extra=("f: <sip:x@h>;tag=2",)), ["400"]),
        ("3.3.9 two Content-Lengths", request("OPTIONS", extra=("l: 0",)), ["400"]),
        ("3.3.1 insufficient", b"INVITE sip:a@h SIP/2.0\r\nCSeq: 1 INVITE\r\n"
         b"Via: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\r\n", []),
        ("3.1.2.1 separators", request("INVITE", via="SIP/2.0/UDP 192.0.2.15;;,;,,"), []),
        ("3.1.2.5 response scalars", b"SIP/2.0 503 x\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch="
         b"z9hG4bKa\r\nCSeq: 9292394834772304023312 OPTIONS\r\n\r\n", []),
        ("3.1.2.19 big code", b"SIP/2.0 4294967301 better not break the receiver\r\n\r\n", []),
    ],
)  # fmt: skip
def test_message(name, data, codes):
    hand = Hand()
    assert lines(hand.receive(data)) == codes
    assert hand.engine.last_error == ""
    hand.advance(70)
    assert hand.is_empty()


def test_a_multipart_message_with_bytes_of_all_kinds():
    """3.1.1.11."""
    body = b"--7a9cbec02ceef655\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: binary"
    body += b"\r\n\r\nHello\r\n--7a9cbec02ceef655\r\nContent-Type: application/octet-stream\r\n\r\n"
    body += bytes(range(256)) + b"\r\n--7a9cbec02ceef655--"
    data = request("MESSAGE", body=body, content_type="multipart/mixed;boundary=7a9cbec02ceef655")
    assert parse(data).content == body
    assert lines(Hand().receive(data)) == ["200"]


def test_an_invite_as_rfc_2543_has_it():
    """3.4.1: no branch, no From tag, no Max-Forwards, no Contact and no Content-Length."""
    head = """
INVITE sip:UserB@example.com SIP/2.0
Via: SIP/2.0/UDP 192.0.2.2:5062
From: <sip:+13035551111@192.0.2.2:5062;user=phone>
To: sip:+16505552222@ss1.example.net;user=phone
Call-ID: inv2543
CSeq: 56 INVITE
Content-Type: application/sdp
"""
    hand = Hand()
    (ringing,) = sends(hand.receive(fill(head, OFFER)))
    assert ringing.code == 180
    (ok,) = sends(hand.take(hand.engine.answer("i1", MEDIA, hand.now)))
    ack = head.replace("INVITE", "ACK").replace(
        "user=phone\nCall", f"user=phone;tag={ok.to.tag}\nCall"
    )
    hand.receive(fill(ack.replace("Content-Type: application/sdp\n", "")))
    assert hand.reported(Confirmed)
    (bye,) = sends(hand.engine.hang_up("i1", hand.now))
    assert bye.uri == "sip:+13035551111@192.0.2.2:5062;user=phone"


def test_an_invite_without_contact_is_400():
    data = request("INVITE", body=OFFER, extra=())
    assert lines(Hand().receive(data)) == ["400"]


@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("From", "tel:+1-650-555-2222;ext=5"),
        ("To", "tel:112"),
        ("From", "sips:b@example.com"),
        ("From", "sip:b@[2001:db8::10]:5070"),
        ("To", "urn:service:sos"),
    ],
)
def test_uris_of_all_kinds(name, uri):
    old = {"From": b"<sip:b@192.0.2.2>", "To": b"<sip:a@192.0.2.1>"}[name]
    data = request("INVITE", body=OFFER).replace(old, f"<{uri}>".encode())
    hand = Hand()
    assert lines(hand.receive(data)) == ["180"]
    (incoming,) = hand.reported(IncomingCall)
    assert uri in (incoming.from_uri, incoming.to_uri)


def test_a_body_over_the_limit_is_413():
    data = request("INVITE", body=OFFER + b"a=x\r\n" * 10_000)
    assert lines(Hand().receive(data)) == ["413"]


def test_line_ends_of_lf_alone():
    data = request("INVITE", body=OFFER).replace(b"\r\n", b"\n")
    length = len(OFFER.replace(b"\r\n", b"\n"))
    data = data.replace(f"Content-Length: {len(OFFER)}".encode(), f"l: {length}".encode())
    assert lines(Hand().receive(data)) == ["180"]


@pytest.mark.parametrize(
    "start", ["SIP/2.0 100 ", "SIP/2.0 100", "SIP/2.0 100 \u043f\u044f\u0442\u044c ="]
)
def test_reason_phrases(start):
    """3.1.1.12 and 3.1.1.13: any text, or none."""
    assert parse(f"{start}\r\n\r\n".encode()).code == 100


def test_a_branch_that_is_the_cookie_alone_identifies_nothing():
    """3.2.1: two different requests with such a branch are not copies."""
    hand = Hand()
    via = "SIP/2.0/UDP 192.0.2.2:5062;branch=z9hG4bK"
    assert lines(hand.receive(request("OPTIONS", via=via, call_id="one"))) == ["200"]
    assert lines(hand.receive(request("OPTIONS", via=via, call_id="two"))) == ["200"]
    assert hand.engine.counters["sip_duplicate"] == 0
