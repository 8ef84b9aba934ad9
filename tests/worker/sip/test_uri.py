import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipherd.worker.sip.uri import (
    NameAddr,
    SipUri,
    UriError,
    bracket,
    is_numeric,
    parse_host_port,
    parse_params,
    split_commas,
)
from sipherd.worker.stack import Hop


@pytest.mark.parametrize(
    ("text", "user", "host", "port", "params"),
    [
        ("sip:alice@example.com", "alice", "example.com", None, {}),
        ("sip:example.com", "", "example.com", None, {}),
        ("sips:1001@192.0.2.1:5061", "1001", "192.0.2.1", 5061, {}),
        ("sip:a@[2001:db8::1]:5070;lr", "a", "2001:db8::1", 5070, {"lr": None}),
        ("sip:[::1]", "", "::1", None, {}),
        ("sip:+1-555;phone-context=x@h;user=phone", "+1-555;phone-context=x", "h", None,
         {"user": "phone"}),
        ("sip:a:secret@h", "a:secret", "h", None, {}),
        ("sip:*97@pbx_1", "*97", "pbx_1", None, {}),
        ("sip:a%40b@h;Transport=UDP", "a%40b", "h", None, {"transport": "UDP"}),
    ],
)  # fmt: skip
def test_parts(text, user, host, port, params):
    uri = SipUri.parse(text)
    assert (uri.user, uri.host, uri.port, uri.params) == (user, host, port, params)
    assert SipUri.parse(str(uri)) == uri


@pytest.mark.parametrize(
    "text",
    [
        "", "sip:", "tel:+15551234", "sip:a@", "sip:a@h:99999", "sip:a@h:0", "sip:a b@h",
        "sip:a@h\r\nX: y", "<sip:a@h>", "sip:a@::1", "sip:a@[::g]", "sip:a@[1.2.3]", "sip:a@h:",
    ],
)  # fmt: skip
def test_what_is_no_uri(text):
    with pytest.raises(UriError):
        SipUri.parse(text)


def test_a_request_uri_has_neither_headers_nor_a_method():
    uri = SipUri.parse("sip:a@h;method=BYE;lr?subject=x")
    assert uri.headers == "subject=x"
    assert str(uri.without_headers()) == "sip:a@h;lr"


def test_user_name_without_escapes_and_password():
    assert SipUri.parse("sip:j%40s0n:pw@h").user_name == "j@s0n"


def test_default_port():
    assert SipUri.parse("sip:192.0.2.1").address == ("192.0.2.1", 5060)


@pytest.mark.parametrize(
    ("text", "display", "uri", "tag"),
    [
        ("sip:a@h;tag=1", "", "sip:a@h", "1"),
        ("<sip:a@h;lr>;tag=1", "", "sip:a@h;lr", "1"),
        ("Alice B <sip:a@h> ; TAG = 1", "Alice B", "sip:a@h", "1"),
        (r'"a \"q\" <x>, y" <sip:a@h>', 'a "q" <x>, y', "sip:a@h", ""),
        ("<tel:+1555>", "", "tel:+1555", ""),
    ],
)
def test_name_addr(text, display, uri, tag):
    value = NameAddr.parse(text)
    assert (value.display, value.uri, value.tag) == (display, uri, tag)
    assert NameAddr.parse(str(value)) == value


@pytest.mark.parametrize(
    "text", ["", "alice", "<sip:a@h", '"open <sip:a@h>', '"name" sip:a@h', "<sip:a @h>", "<a>;;=x"]
)
def test_what_is_no_name_addr(text):
    with pytest.raises(UriError):
        NameAddr.parse(text)


def test_commas_in_quotes_and_brackets_do_not_split():
    assert split_commas('"a, b" <sip:x,y@h>, <sip:z@h>;q="1,2" ,') == [
        '"a, b" <sip:x,y@h>',
        '<sip:z@h>;q="1,2"',
    ]


def test_params():
    assert parse_params(';a=1; B ="x;\\"y" ;c') == {"a": "1", "b": 'x;"y', "c": None}


def test_hosts():
    assert parse_host_port("[::1]:5060") == ("::1", 5060)
    assert parse_host_port("h : 5") == ("h", 5)
    assert bracket("::1") == "[::1]"
    assert is_numeric("::1")
    assert not is_numeric("pbx.lab")


@given(st.text())
def test_nothing_but_uri_error_comes_out(text):
    for parser in (SipUri.parse, NameAddr.parse, parse_params, parse_host_port):
        try:
            parser(text)
        except UriError:
            continue


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"])))
def test_any_display_name_survives(display):
    value = NameAddr("sip:a@h", display)
    assert NameAddr.parse(str(value)) == value


@pytest.mark.parametrize(
    ("text", "hop"),
    [
        ("sip:a@192.0.2.1", Hop("192.0.2.1", 5060)),
        ("sip:a@192.0.2.1:5070;transport=TCP", Hop("192.0.2.1", 5070, "tcp")),
        ("sip:a@pbx.lab", Hop("pbx.lab", None)),
        ("sip:a@pbx.lab:5060", Hop("pbx.lab", 5060)),
        ("sip:a@pbx.lab;maddr=192.0.2.9", Hop("192.0.2.9", 5060)),
        ("sip:a@pbx.lab:5070;maddr=[2001:DB8:0::9]", Hop("2001:db8::9", 5070)),
        # As the kernel writes it, for an ICMPv6 error is matched by it.
        ("sip:[2001:DB8:0:0::1]:5070", Hop("2001:db8::1", 5070)),
    ],
)
def test_where_a_uri_leads(text, hop):
    assert SipUri.parse(text).hop("udp") == hop
    assert SipUri.parse(text).hop("tcp").transport == "tcp"


@pytest.mark.parametrize("text", ["sips:a@h", "sip:a@h;transport=tls", "sip:a@h;transport=x"])
def test_a_transport_that_we_do_not_have(text):
    with pytest.raises(UriError, match="is not supported, only UDP and TCP are"):
        SipUri.parse(text).hop("udp")
