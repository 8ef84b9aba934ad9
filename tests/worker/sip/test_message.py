import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipherd.worker.pyvoip import SIPMessageType, SIPStatus
from sipherd.worker.sip.message import Headers, Malformed, Message, Via, parse, readable

HEAD = (
    b"OPTIONS sip:a@h SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP h;branch=z9hG4bK1\r\n"
    b"From: <sip:b@h>;tag=1\r\nTo: <sip:a@h>\r\nCall-ID: x\r\nCSeq: 7 OPTIONS\r\n"
)


def test_a_request():
    message = parse(HEAD + b"Content-Length: 2\r\n\r\nhi")
    assert (message.method, message.uri, message.content) == ("OPTIONS", "sip:a@h", b"hi")
    assert (message.cseq.number, message.cseq.method) == (7, "OPTIONS")
    assert message.from_.tag == "1"
    assert message.type is SIPMessageType.MESSAGE


@pytest.mark.parametrize(
    ("line", "code", "reason", "status"),
    [
        (b"SIP/2.0 200 OK", 200, "OK", SIPStatus.OK),
        (b"SIP/2.0 180", 180, "", SIPStatus.RINGING),
        (b"SIP/2.0 486 Busy  here, sorry", 486, "Busy  here, sorry", SIPStatus.BUSY_HERE),
        # RFC 3261 8.1.3.2: an unknown code counts as x00 of its class, an unknown 1xx as 183.
        (b"SIP/2.0 499 Odd", 499, "Odd", SIPStatus.BAD_REQUEST),
        (b"SIP/2.0 155 Odd", 155, "Odd", SIPStatus.SESSION_PROGRESS),
    ],
)
def test_a_response(line, code, reason, status):
    message = parse(line + b"\r\nCSeq: 1 INVITE\r\n\r\n")
    assert (message.code, message.reason, message.status) == (code, reason, status)
    assert not message.is_request


def test_names_compact_and_in_any_case_lines_folded_lists_joined():
    message = parse(
        b"OPTIONS sip:a@h SIP/2.0\r\n"
        b"v: SIP/2.0/UDP h1;branch=z9hG4bK1, SIP/2.0/UDP h2\r\n"
        b"VIA : SIP/2.0/UDP\r\n h3\r\n"
        b"f: <sip:b@h>\r\ni:x\r\nSupported:\r\nsUbJect: one\r\n\t two\r\n\r\n"
    )
    hosts = [Via.parse(value).host for value in message.headers.values("Via")]
    assert hosts == ["h1", "h2", "h3"]
    assert message.headers["From"] == "<sip:b@h>"
    assert message.headers["subject"] == "one two"
    assert message.headers["k"] == ""
    assert message.call_id == "x"
    assert "Contact" not in message.headers


def test_bare_lf_and_empty_lines_before():
    message = parse(b"\r\n\r\n" + HEAD.replace(b"\r\n", b"\n") + b"\nbody")
    assert message.content == b"body"
    assert message.cseq.number == 7


def test_content_length_cuts_the_body_and_blank_lines_stay_in_it():
    assert parse(HEAD + b"l: 6\r\n\r\na\r\n\r\nb+rest").content == b"a\r\n\r\nb"


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"Content-Length: 5\r\n\r\nhi",
        HEAD + b"Content-Length: -1\r\n\r\nhi",
        HEAD + b"no colon\r\n\r\n",
        HEAD + b"bad name: x\r\n\r\n",
        HEAD,
    ],
)
def test_bad_requests_keep_what_could_be_read(data):
    with pytest.raises(Malformed) as caught:
        parse(data)
    assert caught.value.code == 400
    assert caught.value.message.call_id == "x"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0\0",
        b"hello",
        b"SIP/2.0 20 OK\r\n\r\n",
        b"SIP/2.0 \xb2\xb2\xb2 x\r\n\r\n",
        b"INVITE sip:a@h\r\n\r\n",
        b"IN(VITE sip:a@h SIP/2.0\r\n\r\n",
    ],
)
def test_what_is_no_message_at_all(data):
    with pytest.raises(Malformed) as caught:
        parse(data)
    assert caught.value.message is None


def test_another_version_is_505():
    with pytest.raises(Malformed) as caught:
        parse(HEAD.replace(b"a@h SIP/2.0", b"a@h SIP/7.0") + b"\r\n")
    assert caught.value.code == 505


@pytest.mark.parametrize("cseq", ["", "x OPTIONS", "1", "2147483648 OPTIONS", "-1 OPTIONS"])
def test_a_bad_cseq(cseq):
    message = Message.request("OPTIONS", "sip:a@h", [("CSeq", cseq)])
    with pytest.raises(Malformed):
        message.cseq  # noqa: B018


def test_via_with_white_space_and_ipv6():
    via = Via.parse('SIP  / 2.0\t/ UDP  [2001:DB8::9] : 5070 ;branch = z9 ; rport;a="b;c"')
    assert (via.host, via.port, via.branch) == ("2001:DB8::9", 5070, "z9")
    assert via.sent_by == "[2001:db8::9]:5070"
    assert str(via) == 'SIP/2.0/UDP [2001:DB8::9]:5070;branch=z9;rport;a="b;c"'


def test_encoding_is_the_inverse_of_parsing():
    message = Message.request("INVITE", "sip:a@h", [("Via", "v"), ("X", "1"), ("x", "2")], b"body")
    again = parse(message.encode())
    assert again.headers.items() == [*message.headers.items(), ("Content-Length", "4")]
    assert again.headers.fields("X") == ["1", "2"]
    assert again.content == b"body"


def test_bytes_that_are_no_utf8_survive_and_can_be_shown():
    message = parse(HEAD + b"Subject: \xff\r\n\r\n")
    assert b"\xff" in message.encode()
    assert readable(message.headers["Subject"]) == "�"


def test_pyvoips_own_summary_works_on_it():
    assert "Method: OPTIONS" in parse(HEAD + b"\r\n").summary()
    assert "Status: 404 Not Found" in parse(b"SIP/2.0 404 Gone\r\n\r\n").summary()


def test_replacing_a_header():
    headers = Headers([("a", "1"), ("v", "2"), ("Via", "3")])
    headers.replace_first("Via", "4")
    assert headers.fields("via") == ["4", "3"]


@given(st.binary())
def test_nothing_but_malformed_comes_out(data):
    for candidate in (data, HEAD + data):
        try:
            message = parse(candidate)
            for name in ("via", "from_", "to", "cseq", "contact"):
                getattr(message, name)
        except Malformed:
            continue
