"""What `sipherd check` says of a herd that nobody starts."""

from __future__ import annotations

from sipherd.plan import as_plain, as_text, ports, shortages
from sipherd.protocol.spec import HerdPorts, HerdSpec, OnIncoming, PhoneSpec, PortRange


def herd(*phones: PhoneSpec, sip: str = "5060-5068", rtp: str = "20000-20007") -> HerdSpec:
    ranges = HerdPorts(sip=PortRange.parse(sip), rtp=PortRange.parse(rtp))
    return HerdSpec(ports=ranges, phones=phones)


def phone(name: str, port: int | None = None, **keys: object) -> PhoneSpec:
    return PhoneSpec(name=name, port=port, **keys)  # type: ignore[arg-type]


def test_ports_of_the_range_go_around_fixed_ones() -> None:
    spec = herd(phone("a"), phone("b", 5062), phone("c"), phone("d", 0), phone("e", 9999))
    assert ports(spec) == [5060, 5062, 5064, 0, 9999]


def test_enough() -> None:
    assert shortages(herd(phone("a"), phone("b"))) == []


def test_too_few_sip_ports() -> None:
    phones = [phone(f"p{n}", media="none") for n in range(4)]
    (problem,) = shortages(herd(*phones, sip="5060-5064"))
    assert problem.startswith("$.ports.sip: 4 phones need a SIP port each")
    assert "5060-5064 has 3" in problem


def test_too_few_rtp_ports() -> None:
    (problem,) = shortages(herd(phone("a"), phone("b"), phone("c")))
    assert problem.startswith(
        "$.ports.rtp: 3 phones need 12 RTP ports, the range 20000-20007 has 8"
    )


def test_a_phone_on_any_port_takes_none_of_the_range() -> None:
    assert shortages(herd(phone("a"), phone("b"), phone("c", 0))) == []


def test_text() -> None:
    spec = herd(
        phone("a", number="1001"),
        phone("b", 0, on_incoming=OnIncoming(answer_after=0, hang_up_after=90)),
        phone("c", on_incoming=OnIncoming(answer_after=0.5)),
        phone("d", on_incoming=OnIncoming(reject=603)),
        phone("e", on_incoming=OnIncoming(ring=True)),
    )
    assert as_text(spec).splitlines() == [
        "herd default: 5 phones, SIP ports 5060-5068, RTP ports 20000-20007",
        "NAME  NUMBER  ADDRESS        PORT  AN INCOMING CALL",
        "a     1001    127.0.0.1      5060  waits for a client",
        "b     b       127.0.0.1  any free  is answered at once, hung up after 1 m 30 s",
        "c     c       127.0.0.1      5062  is answered after 500 ms",
        "d     d       127.0.0.1      5064  is rejected with 603",
        "e     e       127.0.0.1      5066  rings",
    ]


def test_an_address_that_is_found_when_it_is_started() -> None:
    text = as_text(herd(phone("a", proxy="pbx.lab"), phone("b", address="::1")))
    assert [line.split()[2] + line.split()[3] for line in text.splitlines()[2:]] == [
        "byroute",
        "::15062",
    ]


def test_plain() -> None:
    plain = as_plain(herd(phone("a"), phone("b")))
    assert plain["ports"] == {"sip": "5060-5068", "rtp": "20000-20007"}
    assert [entry["port"] for entry in plain["phones"]] == [5060, 5062]
