"""Names on this machine and at a real name server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from nameserver import NameServer
from sipherd.worker import names
from sipherd.worker.locate import NameFailure, Service
from sipherd.worker.names import SystemNames


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    with NameServer() as server:
        monkeypatch.setattr(names, "system_resolver", server.resolver)
        yield server


@pytest.fixture
def ipv4() -> SystemNames:
    return SystemNames(socket.AF_INET)


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "hosts"
    monkeypatch.setattr(names, "HOSTS", path)
    return path


def test_addresses(server: NameServer, ipv4: SystemNames) -> None:
    server.zone = {
        ("pbx.lab", "A"): ["192.0.2.1", "192.0.2.2"],
        ("pbx.lab", "AAAA"): ["2001:db8::1"],
    }
    found, ttl = ipv4.addresses("pbx.lab")
    assert sorted(found) == ["192.0.2.1", "192.0.2.2"]
    assert ttl == 60
    assert SystemNames(socket.AF_INET6).addresses("pbx.lab") == (["2001:db8::1"], 60)


def test_services(server: NameServer, ipv4: SystemNames) -> None:
    server.zone = {("_sip._udp.pbx.lab", "SRV"): ["10 20 5062 one.pbx.lab.", "0 0 0 ."]}
    found, ttl = ipv4.services("_sip._udp.pbx.lab")
    assert sorted(found, key=lambda s: s.priority) == [
        Service(0, 0, 0, ""),
        Service(10, 20, 5062, "one.pbx.lab"),
    ]
    assert ttl == 60


def test_an_answer_too_long_for_a_datagram(server: NameServer, ipv4: SystemNames) -> None:
    server.zone = {("pbx.lab", "A"): [f"192.0.2.{number}" for number in range(1, 200)]}
    server.long.add("pbx.lab")
    assert len(ipv4.addresses("pbx.lab")[0]) == 199


@pytest.mark.parametrize(
    ("name", "why", "known"),
    [
        ("gone.lab", "no such name", True),
        ("text.lab", "no A record", True),
        ("silent.lab", "no name server answers", False),
        ("failing.lab", "the name servers fail", False),
        ("a" * 64 + ".lab", "DNS label", True),
        ("a..b", "DNS label", True),
    ],
)
def test_failures(server: NameServer, ipv4: SystemNames, name: str, why: str, known: bool) -> None:
    server.zone = {("text.lab", "TXT"): ["hello"]}
    server.silent.add("silent.lab")
    server.failing.add(("failing.lab", "A"))
    with pytest.raises(NameFailure, match=why) as failure:
        ipv4.addresses(name)
    assert failure.value.known is known
    assert "\n" not in str(failure.value)


def test_services_that_a_broken_name_server_fails_to_find(
    server: NameServer, ipv4: SystemNames
) -> None:
    server.failing.add(("_sip._udp.pbx.lab", "SRV"))
    with pytest.raises(NameFailure) as failure:
        ipv4.services("_sip._udp.pbx.lab")
    assert failure.value.known  # go on to the address


def test_the_hosts_file(hosts: Path, ipv4: SystemNames) -> None:
    hosts.write_text(
        "# 192.0.2.9 comment\n"
        "192.0.2.1\tPbx.lab pbx # the PBX\n"
        "2001:db8::1 pbx.lab\n"
        "192.0.2.2 pbx.lab\n"
        "nonsense pbx.lab\n"
        "192.0.2.3\n"
    )
    assert ipv4.local("pbx.LAB.") == ["192.0.2.1", "192.0.2.2"]
    assert ipv4.local("pbx") == ["192.0.2.1"]
    assert SystemNames(socket.AF_INET6).local("pbx.lab") == ["2001:db8::1"]
    assert ipv4.local("comment") == []


def test_localhost_needs_no_file(hosts: Path, ipv4: SystemNames) -> None:
    """RFC 6761 6.3."""
    assert ipv4.local("localhost") == ["127.0.0.1"]
    assert SystemNames(socket.AF_INET6).local("pbx.localhost.") == ["::1"]
    assert ipv4.local("pbx.lab") == []
