"""What a request must be to be served (RFC 3261 8.2), and what it gets if it is not."""

import pytest
from sipwire import BOB, MEDIA, OFFER, Hand, branch, events, lines, request, sends

from sipherd.worker.stack import Confirmed, IncomingCall

CONTACT = "Contact: <sip:b@192.0.2.2:5062>"


def test_options():
    (response,) = sends(Hand().receive(request("OPTIONS")))
    assert response.code == 200
    assert response.headers.values("Accept")[0] == "application/sdp"
    assert "BYE" in response.headers["Allow"]
    assert "Supported" in response.headers
    assert response.to.tag


@pytest.mark.parametrize("method", ["REGISTER", "SUBSCRIBE", "PUBLISH", "NEWMETHOD"])
def test_methods_we_do_not_have(method):
    (response,) = sends(Hand().receive(request(method)))
    assert response.code == 405
    assert "INVITE" in response.headers["Allow"]


def test_an_unknown_extension_is_420_and_named():
    extra = (CONTACT, "Require: 100rel, x-odd")
    (response,) = sends(Hand().receive(request("INVITE", body=OFFER, extra=extra)))
    assert response.code == 420
    assert response.headers.values("Unsupported") == ["x-odd"]


def test_supported_extensions_of_the_peer_do_not_matter():
    extra = (CONTACT, "Supported: 100rel", "Proxy-Require: x")
    assert lines(Hand().receive(request("INVITE", body=OFFER, extra=extra))) == ["180"]


@pytest.mark.parametrize("kind", ["text/plain", "multipart/x;boundary=x"])
def test_another_content_type_is_415(kind):
    (response,) = sends(Hand().receive(request("INVITE", body=b"hello", content_type=kind)))
    assert response.code == 415
    assert response.headers.values("Accept") == [
        "application/sdp",
        "multipart/mixed",
        "application/dtmf-relay",
        "application/dtmf",
        "message/sipfrag",
    ]


def test_a_body_that_may_be_ignored_is():
    extra = (CONTACT, "Content-Disposition: icon ;handling = optional")
    data = request("INVITE", body=b"x", content_type="image/png", extra=extra)
    assert lines(Hand().receive(data)) == ["180"]


@pytest.mark.parametrize("kind", ["application/SDP", "application/sdp;charset=utf-8"])
def test_the_content_type_is_read_leniently(kind):
    assert lines(Hand().receive(request("INVITE", body=OFFER, content_type=kind))) == ["180"]


def test_no_common_codec_is_488_at_once():
    outputs = Hand().receive(request("INVITE", body=OFFER.replace(b"AVP 0 8", b"AVP 3 9")))
    assert lines(outputs) == ["488"]
    assert events(outputs) == []


def test_an_unreadable_offer_is_400():
    hand = Hand()
    assert lines(hand.receive(request("INVITE", body=b"v=0"))) == ["400"]
    assert hand.engine.counters["sip_malformed"] == 1


def test_a_merged_request_is_482():
    """RFC 3261 8.2.2.2: the same request along another path."""
    hand = Hand()
    hand.ringing()
    data = request("INVITE", via=branch("other"), body=OFFER)
    assert lines(hand.receive(data)) == ["482"]
    assert lines(hand.receive(request("INVITE", via=branch("new"), cseq=2, body=OFFER))) == ["180"]


def test_a_merged_request_does_not_hide_the_first():
    hand = Hand()
    hand.ringing()
    hand.receive(request("INVITE", via=branch("other"), body=OFFER))
    hand.receive(request("ACK", via=branch("other")))
    hand.advance(6)
    assert lines(hand.receive(request("INVITE", via=branch("third"), body=OFFER))) == ["482"]


def test_max_forwards_0_is_served_and_nonsense_is_400():
    data = request("OPTIONS")
    assert lines(Hand().receive(data.replace(b"Forwards: 70", b"Forwards: 0"))) == ["200"]
    assert lines(Hand().receive(data.replace(b"Forwards: 70", b"Forwards: x"))) == ["400"]


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("sip:a@192.0.2.1", "180"),
        ("sip:%61@192.0.2.1", "180"),
        ("sip:z@192.0.2.1", "404"),
        ("sip:192.0.2.1", "404"),
        ("tel:+1555", "416"),
        ("nobodyknows:x", "416"),
    ],
)
def test_match_user(uri, code):
    outputs = Hand(match_user=True).receive(request("INVITE", uri=uri, body=OFFER))
    assert lines(outputs) == [code]


def test_any_user_by_default():
    assert lines(Hand().receive(request("INVITE", uri="sip:z@h", body=OFFER))) == ["180"]


@pytest.mark.parametrize(
    "change",
    [
        (b"Contact: <sip:b@192.0.2.2:5062>", b"Contact: <sip:b@192.0.2.2:5062"),
        (b"Contact: <sip:b@192.0.2.2:5062>", b"Contact: <http://b>"),
        (b"Contact: <sip:b@192.0.2.2:5062>", b"X: y"),
        (b"CSeq: 1 INVITE", b"CSeq: 1 BYE"),
        (b"CSeq: 1 INVITE", b"CSeq: 4294967296 INVITE"),
        (b"CSeq: 1 INVITE", b"CSeq: 1 INVITE\r\nCSeq: 2 INVITE"),
        (b"From: <sip:b@192.0.2.2>", b"From: <sip:b@192.0.2.2"),
        (b"To: <sip:a@192.0.2.1>", b'To: "open <sip:a@192.0.2.1>'),
        (b"INVITE sip:a@192.0.2.1:5060 SIP", b"INVITE <sip:a@192.0.2.1:5060> SIP"),
        (b"INVITE sip:a@192.0.2.1:5060 SIP", b"INVITE  sip:a@192.0.2.1:5060 SIP"),
        (b"INVITE sip:a@192.0.2.1:5060 SIP", b"INVITE sip:a@h; lr SIP"),
        (b"Content-Length: ", b"Content-Length: 9"),
        (b"Content-Length: ", b"Content-Length: x"),
    ],
)
def test_a_malformed_invite_is_400_and_counted(change):
    hand = Hand()
    data = request("INVITE", body=OFFER)
    assert change[0] in data
    outputs = hand.receive(data.replace(*change))
    assert lines(outputs) == ["400"]
    assert events(outputs) == []
    assert hand.engine.counters["sip_malformed"] == 1
    assert hand.engine.counters["engine_error"] == 0
    hand.advance(40)
    assert hand.is_empty()


def test_another_version_is_505():
    data = request("OPTIONS").replace(b":5060 SIP/2.0", b":5060 SIP/7.0")
    assert lines(Hand().receive(data)) == ["505"]


@pytest.mark.parametrize(
    "change",
    [
        (b"Via: ", b"Via: x"),
        (b"Call-ID: ", b"X-ID: "),
        (b"From: ", b"X-From: "),
        (b"OPTIONS sip", b"OPTI(ONS sip"),
    ],
)
def test_what_cannot_be_answered_is_dropped_and_counted(change):
    hand = Hand()
    assert hand.receive(request("OPTIONS").replace(*change)) == []
    assert hand.engine.counters["sip_malformed"] == 1


def test_a_malformed_ack_or_response_is_never_answered():
    hand = Hand()
    hand.receive(request("ACK").replace(b"CSeq: 1", b"CSeq: x"))
    hand.receive(b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\r\n")
    assert hand.log == []
    assert hand.engine.counters["sip_malformed"] == 2


def test_an_ack_to_nothing_is_dropped():
    hand = Hand()
    assert hand.receive(request("ACK", to_tag="x")) == []
    assert hand.engine.counters["sip_unmatched"] == 1
    assert hand.is_empty()


@pytest.mark.parametrize("param", ["x-tag=1", "mytag=a>b", 'x="y;tag=z"'])
def test_a_parameter_of_to_that_only_looks_like_a_tag(param):
    data = request("OPTIONS").replace(b"To: <sip:a@192.0.2.1>", b"To: <sip:a@192.0.2.1>;"
                                      + param.encode())  # fmt: skip
    (response,) = sends(Hand().receive(data))
    assert response.code == 200
    assert response.to.tag


def test_a_body_that_may_be_ignored_is_also_in_a_reinvite():
    hand = Hand()
    tag = hand.up()
    data = request(
        "INVITE", via=branch("re"), to_tag=tag, cseq=2, body=b"x", content_type="image/png",
        extra=(CONTACT, "Content-Disposition: icon;handling=optional"),
    )  # fmt: skip
    (ok,) = sends(hand.receive(data))
    assert ok.code == 200
    assert b"m=audio" in ok.content


@pytest.mark.parametrize(
    "header",
    [
        "From: <tel:+15551234>;tag=fromb",
        "From: tel:+15551234;tag=fromb",
        "From: <sip:b@[2001:db8::2]:5070>;tag=fromb",
        "From: <urn:service:sos>;tag=fromb",
        'From: "B, \\"the; <bob>\\" @ home" <sip:b@h>;tag=fromb',
        "From: Anonymous <sip:anonymous@anonymous.invalid>;tag=fromb",
        "From: <sip:b%20c;x=y@h;user=phone?Subject=a,b>;tag=fromb",
    ],
)
def test_what_a_caller_may_call_itself(header):
    hand = Hand()
    data = request("INVITE", body=OFFER).replace(
        b"From: <sip:b@192.0.2.2>;tag=fromb", header.encode()
    )
    tag = sends(hand.receive(data))[0].to.tag
    (incoming,) = hand.reported(IncomingCall)
    assert incoming.from_uri in header
    hand.take(hand.engine.answer("i1", MEDIA, hand.now))
    hand.receive(request("ACK", via=branch("ack"), to_tag=tag))
    (bye,) = sends(hand.engine.hang_up("i1", hand.now))
    assert bye.headers["To"] == header.partition(": ")[2]


@pytest.mark.parametrize(
    ("contact", "destination"),
    [
        ("<sip:b@[2001:db8::2]:5070>", ("2001:db8::2", 5070)),
        ("<sip:[::1]>;q=0.5, <sip:other@h>", ("::1", 5060)),
        ("sip:b@192.0.2.7;expires=3", ("192.0.2.7", 5060)),
    ],
)
def test_where_a_contact_leads(contact, destination):
    hand = Hand()
    tag = sends(hand.receive(request("INVITE", body=OFFER, extra=(f"m: {contact}",))))[0].to.tag
    hand.engine.answer("i1", MEDIA, hand.now)
    hand.receive(request("ACK", via=branch("ack"), to_tag=tag))
    assert hand.engine.hang_up("i1", hand.now)[0].destination.address == destination


@pytest.mark.parametrize("name", ["Supported", "k", "Allow", "Accept", "Subject"])
def test_an_empty_header_is_nothing_special(name):
    """baresip sends an empty Supported."""
    data = request("INVITE", body=OFFER, extra=(CONTACT, f"{name}:"))
    assert lines(Hand().receive(data)) == ["180"]


def test_require_is_ignored_in_an_ack():
    hand = Hand()
    tag = hand.ringing()
    hand.engine.answer("i1", MEDIA, hand.now)
    hand.receive(request("ACK", via=branch("ack"), to_tag=tag, extra=("Require: x",)))
    assert hand.reported(Confirmed)


def test_a_whole_call_in_every_spelling():
    """Compact and lower-case names, folds, repeated headers, LF, upper-case parameters."""
    hand = Hand()

    def odd(method, branch, cseq, to_tag="", body=b""):
        text = (
            f"{method} sip:a@192.0.2.1 SIP/2.0\n"
            "v: SIP/2.0/udp 192.0.2.50;BRANCH=z9hG4bK" + branch + "\n"
            "VIA: SIP/2.0/UDP 192.0.2.2:5062\n\t;branch=z9hG4bKlow , SIP/2.0/TCP [::1]\n"
            "record-route:<sip:192.0.2.50;lr>,\n <sip:192.0.2.51;lr>\n"
            "Record-Route: <sip:192.0.2.52;lr>\n"
            'f: "Bob, B"\n <sip:b@h>;TAG=fromb\n'
            f"t: <sip:a@h>{';Tag=' + to_tag if to_tag else ''}\n"
            "i: odd@h\n"
            f"cseq: {cseq}\n {method}\n"
            'M: "B; <b>" <sip:b@192.0.2.2:5062>;expires=1\n'
            "max-forwards: 0\nk:\nc: APPLICATION/sdp\n"
            f"l: {len(body)}\n\n"
        )
        return text.encode() + body

    outputs = hand.receive(odd("INVITE", "one", 5, body=OFFER))
    assert outputs[0].destination.address == (BOB[0], 5060)
    (ringing,) = sends(outputs)
    assert len(ringing.headers.values("Via")) == 3
    routes = ["<sip:192.0.2.50;lr>", "<sip:192.0.2.51;lr>", "<sip:192.0.2.52;lr>"]
    assert ringing.headers.values("Record-Route") == routes
    tag = ringing.to.tag
    assert lines(hand.receive(odd("INVITE", "one", 5, body=OFFER))) == ["180"]
    hand.engine.answer("i1", MEDIA, hand.now)
    hand.receive(odd("ACK", "two", 5, tag))
    assert hand.reported(Confirmed)
    assert lines(hand.receive(odd("OPTIONS", "three", 6, tag))) == ["200"]
    assert lines(hand.receive(odd("BYE", "four", 7, tag))) == ["200"]
    assert hand.engine.counters["sip_malformed"] == 0
