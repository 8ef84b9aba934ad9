"""The structs of a herd check themselves, however they are made."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sipherd.protocol.spec import (
    HerdPorts,
    HerdSpec,
    OnIncoming,
    PhoneSpec,
    PortRange,
    RegisterSpec,
    split_advertise,
    split_listen,
)


def test_the_number_is_the_name_by_default() -> None:
    assert PhoneSpec(name="alice").number == "alice"


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({}, 2),
        ({"media": "none"}, None),
        ({"max_calls": 5}, 5),
        ({"media": "none", "max_calls": 5}, 5),
    ],
)
def test_call_limit(settings: dict[str, Any], limit: int | None) -> None:
    assert PhoneSpec(name="alice", **settings).call_limit == limit


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "-a"}, "name '-a': expected 1 to 64"),
        ({"number": "a b"}, "number 'a b': expected 1 to 64"),
        ({"port": 65536}, "port 65536: expected a port"),
        ({"address": "::"}, "address :: can't be shown to others: it needs advertise"),
        ({"address": "fe80::1%1"}, "link-local"),
        ({"address": "0.0.0.0"}, "needs advertise"),
        ({"advertise": "a:b"}, "advertise 'a:b': expected a port"),
        ({"transport": "tls"}, "transport 'tls': expected udp or tcp"),
        ({"media": "video"}, "media 'video': expected audio or none"),
        ({"codecs": ("G729",)}, "codecs .*: expected one or more of PCMU, PCMA"),
        ({"codecs": ()}, "codecs .*: expected one or more"),
        ({"proxy": "a:b"}, "proxy 'a:b': expected a port"),
        ({"session_expires": 89.0}, "session_expires 89.0: expected whole seconds from 90s"),
        ({"ring_timeout": float("nan")}, "expected more than 0 seconds"),
    ],
)
def test_a_wrong_phone_can_not_be_made(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PhoneSpec(**{"name": "alice"} | settings)


def test_a_wrong_phone_can_not_be_received() -> None:
    with pytest.raises(msgspec.ValidationError, match="expected a port"):
        msgspec.json.decode(b'{"name": "alice", "port": 70000}', type=PhoneSpec)
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(b'{"name": "alice", "prot": 5060}', type=PhoneSpec)


def test_a_herd_survives_the_wire() -> None:
    herd = HerdSpec(
        ports=HerdPorts(sip=PortRange(6000, 6010)),
        phones=(PhoneSpec(name="a", on_incoming=OnIncoming(answer_after=1)), PhoneSpec(name="b")),
    )
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(herd), type=HerdSpec) == herd


def test_a_phone_to_be_shown_has_no_password() -> None:
    register = RegisterSpec(server="pbx.example.org", username="u", password="s3cret")
    shown = PhoneSpec(name="a", register=register).without_secrets()
    assert shown.register == RegisterSpec(server="pbx.example.org", username="u")


def test_an_error_does_not_quote_a_password() -> None:
    with pytest.raises(ValueError, match="expected at most 256 characters") as error:
        RegisterSpec(server="pbx.example.org", password="s3cret\n")
    assert "s3cret" not in str(error.value)


def test_a_herd_refuses_a_number_used_twice() -> None:
    with pytest.raises(ValueError, match=r'phones\[1\].number: number "1" of phone "b"'):
        HerdSpec(phones=(PhoneSpec(name="a", number="1"), PhoneSpec(name="b", number="1")))


def test_port_range() -> None:
    ports = PortRange.parse("5060 - 5064")
    assert ports == PortRange(5060, 5064)
    assert (len(ports), str(ports)) == (5, "5060-5064")
    assert 5060 in ports
    assert 5064 in ports
    assert 5065 not in ports
    assert "5060" not in ports


def test_split_advertise() -> None:
    assert split_advertise("192.0.2.1") == ("192.0.2.1", None)
    assert split_advertise("pbx.example.org:5070") == ("pbx.example.org", 5070)
    assert split_advertise("[2001:db8::1]:5070") == ("2001:db8::1", 5070)
    assert split_advertise("[2001:db8::1]") == ("2001:db8::1", None)


def test_no_repr_shows_a_password():
    register = RegisterSpec(server="pbx.lab", username="a", password="geheim")
    assert repr(register) == (
        "RegisterSpec(server='pbx.lab', domain='', username='a', auth_username='', expires=3600.0)"
    )
    assert "geheim" not in repr(HerdSpec(phones=(PhoneSpec(name="a", register=register),)))


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("tcp://192.0.2.10:7060", ("192.0.2.10", 7060)),
        ("tcp://[2001:db8::1]:7060", ("2001:db8::1", 7060)),
        ("tcp://0.0.0.0:7060", ("0.0.0.0", 7060)),
        ("tcp://pbx.lab:0", ("pbx.lab", 0)),
    ],
)
def test_where_a_herd_listens(listen: str, expected: tuple[str, int]) -> None:
    assert split_listen(listen) == expected
    assert HerdSpec(listen=listen).listen == listen


@pytest.mark.parametrize(
    "listen",
    [
        *("192.0.2.10:7060", "tcp://192.0.2.10", "tcp://", "tcp://:7060", "tcp://*:7060"),
        *("tcp://a:65536", "tcp://a:x", "tcp://a:7060/", "tcp://a b:1", "tcp://2001:db8::1:7060"),
        *("udp://a:7060", "ipc:///tmp/x", "tcp://[::1]", "tcp://a:-1"),
    ],
)
def test_where_none_can_listen(listen: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        HerdSpec(listen=listen)
