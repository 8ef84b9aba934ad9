"""The address of a phone that does not say which."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from sipherd.protocol.spec import PhoneSpec, RegisterSpec
from sipherd.supervisor import addresses
from sipherd.supervisor.addresses import placed, towards


def test_loopback() -> None:
    assert towards("127.3.2.1") == "127.0.0.1"
    assert towards("localhost") == "127.0.0.1"


def test_ipv6(ipv6: None) -> None:
    assert towards("::1") == "::1"


def default() -> str:
    """That of the default route; loopback where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        found: str = probe.getsockname()[0]
        return found


def test_a_name_that_does_not_resolve_means_the_default_route() -> None:
    assert towards("a..b") == default()


def test_a_name_server_that_is_silent_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    monkeypatch.setattr(addresses, "RESOLVE_LIMIT", 0.05)

    def silent(*arguments: Any) -> list[Any]:
        assert go.wait(20)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    began = time.monotonic()
    assert towards("pbx.lab") == default()
    assert time.monotonic() - began < 10
    go.set()


def test_only_who_needs_one_is_given_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def route(host: str) -> str:
        asked.append(host)
        return "10.0.0.7"

    monkeypatch.setattr(addresses, "towards", route)
    register = RegisterSpec(server="pbx.lab:5070", password="x")
    specs = [
        PhoneSpec(name="a"),
        PhoneSpec(name="b", register=register, address="192.0.2.5"),
        PhoneSpec(name="c", register=register),
        PhoneSpec(name="d", register=register),
        PhoneSpec(name="e", register=register, proxy="[2001:db8::1]:5060"),
        PhoneSpec(name="f", proxy="192.0.2.9"),
    ]
    known: dict[str, str] = {}
    found = [placed(spec, known).address for spec in specs]
    assert found == ["127.0.0.1", "192.0.2.5", *["10.0.0.7"] * 4]
    # The proxy goes before the registrar: it is where requests go.
    assert asked == ["pbx.lab", "2001:db8::1", "192.0.2.9"]
