"""Targets of calls, and host names that are looked up without blocking."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sipherd.worker.resolve import Resolver, Target, parse_target
from sipherd.worker.stack import StackRefusal


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("sip:1002@127.0.0.1:5062", Target("sip:1002@127.0.0.1:5062", "127.0.0.1", 5062)),
        ("sip:127.0.0.1", Target("sip:127.0.0.1", "127.0.0.1", 5060)),
        ("sip:a@pbx.lab", Target("sip:a@pbx.lab", "pbx.lab", 5060)),
        ("sip:a@pbx.lab;transport=UDP", Target("sip:a@pbx.lab;transport=UDP", "pbx.lab", 5060)),
        (
            "sip:a@pbx.lab:5070;maddr=127.0.0.9",
            Target("sip:a@pbx.lab:5070;maddr=127.0.0.9", "127.0.0.9", 5070),
        ),
        ("sip:a@1.2.3.4?subject=x", Target("sip:a@1.2.3.4", "1.2.3.4", 5060)),
    ],
)
def test_target(text: str, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a SIP URI"),
        ("tel:+4930", "not a SIP URI"),
        ("sip:a@127.0.0.1:99999", "no such port"),
        ("sip:a@127.0.0.1;transport=tcp", "transport tcp is not supported, only UDP is"),
        ("sips:a@127.0.0.1", r"TLS \(sips:\) is not supported"),
        ("sip:a@[::1]", "IPv6 is not supported yet"),
        ("sip:a@b;maddr=::1", "IPv6 is not supported yet"),
    ],
)
def test_no_target(text: str, why: str) -> None:
    with pytest.raises(StackRefusal, match=why) as refused:
        parse_target(text)
    assert refused.value.reason == "bad_uri"


def test_numeric() -> None:
    assert parse_target("sip:a@127.0.0.1").is_numeric
    assert not parse_target("sip:a@127.0.0.1.example").is_numeric
    assert not parse_target("sip:a@127.1").is_numeric  # getaddrinfo's business


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    resolver = Resolver()
    yield resolver
    resolver.close()


def collect(resolver: Resolver, wanted: Callable[[], bool]) -> None:
    """What the loop does, until it has what is wanted."""
    poll = select.poll()
    poll.register(resolver.fd, select.POLLIN)
    deadline = time.monotonic() + 20
    while not wanted():
        assert time.monotonic() < deadline
        if poll.poll(100):
            resolver.collect()


def test_a_name_that_resolves(resolver: Resolver) -> None:
    found: list[tuple[str | None, str]] = []
    resolver.start("localhost", lambda host, why: found.append((host, why)))
    assert found == []  # never from within
    collect(resolver, lambda: bool(found))
    assert found == [("127.0.0.1", "")]
    poll = select.poll()
    poll.register(resolver.fd, select.POLLIN)
    assert not poll.poll(0)  # the loop may sleep again


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".example", "a..b"])
def test_a_name_that_does_not(resolver: Resolver, host: str) -> None:
    found: list[tuple[str | None, str]] = []
    resolver.start(host, lambda host, why: found.append((host, why)))
    collect(resolver, lambda: bool(found))
    ((address, why),) = found
    assert address is None
    assert why


class SlowNames:
    """getaddrinfo that waits for the test's permission."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        self.asked: list[str] = []
        monkeypatch.setattr(socket, "getaddrinfo", self.look_up)

    def look_up(self, host: str, *rest: Any) -> list[Any]:
        self.asked.append(host)
        assert self.go.wait(20)
        if host == "bad":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(2, 2, 17, "", ("192.0.2.1", 0))]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> SlowNames:
    return SlowNames(monkeypatch)


def test_one_look_up_serves_all_who_ask(slow: SlowNames, resolver: Resolver) -> None:
    found: list[str | None] = []
    for _ in range(5):
        resolver.start("good", lambda host, why: found.append(host))
    slow.go.set()
    collect(resolver, lambda: len(found) == 5)
    assert slow.asked == ["good"]


def test_at_most_so_many_threads(slow: SlowNames, resolver: Resolver) -> None:
    """A dead name server must not fill the process with threads."""
    before = threading.active_count()
    found: list[tuple[str | None, str]] = []
    for number in range(50):
        name = "bad" if number == 7 else f"good{number}"
        resolver.start(name, lambda host, why: found.append((host, why)))
    assert threading.active_count() - before <= 8
    slow.go.set()
    collect(resolver, lambda: len(found) == 50)
    assert found.count((None, "Name or service not known")) == 1
    assert len(set(slow.asked)) == len(slow.asked) == 50


def test_closed_while_a_name_is_looked_up(slow: SlowNames) -> None:
    resolver = Resolver()
    resolver.start("good", lambda host, why: pytest.fail("told after close"))
    resolver.close()
    resolver.close()
    slow.go.set()
