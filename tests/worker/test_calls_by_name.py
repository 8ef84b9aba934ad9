"""Real phones that call by name: a name server of the tests' own answers."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from smallherd import SmallHerd, SmallPhone

from nameserver import NameServer
from sipherd.protocol.events import Answered, CallEnded, CallPlaced
from sipherd.protocol.messages import Done, HangUpCall, PlaceCall, Refused

ANSWERS: dict[str, Any] = {"on_incoming": {"answer_after": 0}, "media": "none"}

NURSERY = """
import dns.resolver
from sipherd.worker import names, nursery


def system_resolver():
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = [{address!r}], {port}
    resolver.lifetime = 2.0
    return resolver


names.system_resolver = system_resolver
nursery.main()
"""


@pytest.fixture
def server() -> Iterator[NameServer]:
    with NameServer() as server:
        yield server


@pytest.fixture
def named(runtime_dir: Path, tmp_path: Path, server: NameServer) -> Iterator[SmallHerd]:
    """A herd whose phones ask that server."""
    script = tmp_path / "nursery.py"
    script.write_text(NURSERY.format(address=server.address[0], port=server.address[1]))
    with SmallHerd(runtime_dir, (sys.executable, "-P", str(script))) as herd:
        yield herd


def place(phone: SmallPhone, target: str, call: str = "c1") -> Done | Refused:
    return phone.run(PlaceCall(phone=phone.spec.name, target=target, call=call, dialled="peer"))


def a_dead_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_service_is_called(named: SmallHerd, server: NameServer, transport: str) -> None:
    alice = named.fork("alice", media="none", transport=transport)
    bob = named.fork("bob", **ANSWERS)
    server.zone = {
        (f"_sip._{transport}.pbx.lab", "SRV"): [f"10 5 {bob.port} one.pbx.lab."],
        ("one.pbx.lab", "A"): ["127.0.0.1"],
    }
    assert place(alice, "sip:bob@pbx.lab") == Done()
    alice.wait(Answered)
    placed = alice.heard(CallPlaced)[0]
    assert placed.request_uri == "sip:bob@pbx.lab"
    assert placed.next_hop == ("127.0.0.1", bob.port)
    alice.run(HangUpCall(call="c1"))
    assert alice.wait(CallEnded).bye_answered is True
    place(alice, "sip:bob@pbx.lab", "c2")
    alice.wait(Answered, 2)
    assert server.asked[f"_sip._{transport}.pbx.lab", "SRV"] == 1  # it was kept


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_the_next_server_when_the_first_is_dead(
    named: SmallHerd, server: NameServer, transport: str
) -> None:
    """ICMP or RST comes before any answer: the same request goes to the next (RFC 3263 4.3)."""
    alice = named.fork("alice", media="none", transport=transport)
    bob = named.fork("bob", **ANSWERS)
    server.zone = {
        (f"_sip._{transport}.pbx.lab", "SRV"): [
            f"10 0 {a_dead_port()} pbx.lab.",
            f"20 0 {a_dead_port()} pbx.lab.",
            f"30 0 {bob.port} pbx.lab.",
        ],
        ("pbx.lab", "A"): ["127.0.0.1"],
    }
    assert place(alice, "sip:bob@pbx.lab") == Done()
    alice.wait(Answered)
    server.zone[f"_sip._{transport}.dead.lab", "SRV"] = [
        f"{number} 0 {a_dead_port()} pbx.lab." for number in range(3)
    ]
    assert place(alice, "sip:bob@dead.lab", "c2") == Done()
    ended = alice.wait(CallEnded)
    assert (ended.call, ended.cause) == ("c2", "unreachable")


def test_a_contact_with_a_name(named: SmallHerd, server: NameServer) -> None:
    """ACK and BYE go where the name leads, and not to where the answer came from."""
    server.zone = {("bob.lab", "A"): ["127.0.0.1"]}
    alice, bob = named.fork("alice", media="none"), named.fork("bob", welcome=False, **ANSWERS)
    bob.welcome(host="bob.lab")
    assert place(alice, bob.uri) == Done()
    alice.wait(Answered)
    alice.run(HangUpCall(call="c1"))
    assert alice.wait(CallEnded).bye_answered is True
    assert server.asked["bob.lab", "A"]


@pytest.mark.parametrize(
    ("name", "why"),
    [("gone.lab", "no such name"), ("silent.lab", "no name server answers")],
)
def test_a_name_that_leads_nowhere(
    named: SmallHerd, server: NameServer, name: str, why: str
) -> None:
    server.silent.update({"silent.lab", "_sip._udp.silent.lab"})
    alice, bob = named.fork("alice", media="none"), named.fork("bob", **ANSWERS)
    alice.send(PlaceCall(phone="alice", target=f"sip:x@{name}", call="c1"), 77)
    # Meanwhile it serves.
    assert place(alice, bob.uri, "c2") == Done()
    alice.wait(Answered)
    refused = alice.wait(Refused)
    assert refused.reason == "unresolved"
    assert refused.message == f'host "{name}" does not resolve: {why}'
