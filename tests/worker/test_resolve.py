"""Host names that are looked up without blocking."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sipherd.worker.resolve import Resolver
from sipherd.worker.stack import Address, Hop


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
    found: list[tuple[list[Address], str]] = []
    resolver.start(
        Hop("localhost", None), lambda addresses, why: found.append((list(addresses), why))
    )
    assert found == []  # never from within
    collect(resolver, lambda: bool(found))
    assert found == [([("127.0.0.1", 5060)], "")]
    poll = select.poll()
    poll.register(resolver.fd, select.POLLIN)
    assert not poll.poll(0)  # the loop may sleep again


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".example", "a..b"])
def test_a_name_that_does_not(resolver: Resolver, host: str) -> None:
    found: list[tuple[list[Address], str]] = []
    resolver.start(Hop(host, 5070), lambda addresses, why: found.append((list(addresses), why)))
    collect(resolver, lambda: bool(found))
    ((addresses, why),) = found
    assert addresses == []
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
    found: list[Address] = []
    for _ in range(5):
        resolver.start(Hop("good", 5062), lambda addresses, why: found.extend(addresses))
    slow.go.set()
    collect(resolver, lambda: len(found) == 5)
    assert slow.asked == ["good"]


def test_at_most_so_many_threads(slow: SlowNames, resolver: Resolver) -> None:
    """A dead name server must not fill the process with threads."""
    before = threading.active_count()
    found: list[tuple[list[Address], str]] = []
    for number in range(50):
        name = "bad" if number == 7 else f"good{number}"
        resolver.start(Hop(name, 5062), lambda addresses, why: found.append((list(addresses), why)))
    assert threading.active_count() - before <= 8
    slow.go.set()
    collect(resolver, lambda: len(found) == 50)
    assert found.count(([], "Name or service not known")) == 1
    assert len(set(slow.asked)) == len(slow.asked) == 50


def test_closed_while_a_name_is_looked_up(slow: SlowNames) -> None:
    resolver = Resolver()
    resolver.start(Hop("good", 5062), lambda addresses, why: pytest.fail("told after close"))
    resolver.close()
    resolver.close()
    slow.go.set()
