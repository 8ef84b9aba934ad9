"""Hops that are looked up without blocking."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from nameserver import NameServer
from sipherd.worker import names, resolve
from sipherd.worker.resolve import Resolver
from sipherd.worker.stack import Address, Hop

HOP = Hop("pbx.lab", None)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    with NameServer() as server:
        monkeypatch.setattr(names, "system_resolver", server.resolver)
        yield server


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    resolver = Resolver()
    yield resolver
    resolver.close()


class Found:
    """What the resolver tells."""

    def __init__(self) -> None:
        self.all: list[tuple[list[Address], str]] = []

    def __call__(self, addresses: Sequence[Address], why: str) -> None:
        self.all.append((list(addresses), why))


def collect(resolver: Resolver, wanted: Callable[[], object]) -> None:
    """What the loop does, until it has what is wanted."""
    poll = select.poll()
    poll.register(resolver.fd, select.POLLIN)
    deadline = time.monotonic() + 20
    while not wanted():
        assert time.monotonic() < deadline
        if poll.poll(100):
            resolver.collect()


def test_a_name_that_resolves(resolver: Resolver) -> None:
    found = Found()
    resolver.start(Hop("localhost", None), found)
    assert found.all == []  # never from within
    collect(resolver, lambda: found.all)
    assert found.all == [([("127.0.0.1", 5060)], "")]
    poll = select.poll()
    poll.register(resolver.fd, select.POLLIN)
    assert not poll.poll(0)  # the loop may sleep again


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".example", "a..b"])
def test_a_name_that_does_not(server: NameServer, resolver: Resolver, host: str) -> None:
    found = Found()
    resolver.start(Hop(host, 5070), found)
    collect(resolver, lambda: found.all)
    ((addresses, why),) = found.all
    assert addresses == []
    assert why
    assert resolver.known(Hop(host, 5070)) is None


def test_services_of_each_transport(server: NameServer, resolver: Resolver) -> None:
    server.zone = {
        ("_sip._udp.pbx.lab", "SRV"): ["10 0 5062 one.pbx.lab."],
        ("_sip._tcp.pbx.lab", "SRV"): ["10 0 5064 one.pbx.lab.", "20 0 5066 two.pbx.lab."],
        ("one.pbx.lab", "A"): ["192.0.2.1"],
        ("two.pbx.lab", "A"): ["192.0.2.2"],
    }
    udp, tcp = Found(), Found()
    resolver.start(HOP, udp)
    resolver.start(HOP._replace(transport="tcp"), tcp)
    collect(resolver, lambda: udp.all and tcp.all)
    assert udp.all == [([("192.0.2.1", 5062)], "")]
    assert tcp.all == [([("192.0.2.1", 5064), ("192.0.2.2", 5066)], "")]


def test_an_answer_is_kept_as_long_as_it_is_good(
    server: NameServer, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.zone = {("pbx.lab", "A"): ["192.0.2.1"]}
    found = Found()
    resolver.start(HOP, found)
    collect(resolver, lambda: found.all)
    assert resolver.known(HOP) == (("192.0.2.1", 5060),)
    assert resolver.known(Hop("pbx.lab", 5070)) is None
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 58)
    assert resolver.known(HOP)
    monkeypatch.setattr(time, "monotonic", lambda: now + 62)
    assert resolver.known(HOP) is None


def test_an_answer_that_is_not_to_be_kept_still_reaches_its_message(
    server: NameServer, resolver: Resolver
) -> None:
    server.zone = {("pbx.lab", "A"): ["192.0.2.1"]}
    server.ttl = 0
    found = Found()
    resolver.start(HOP, found)
    collect(resolver, lambda: found.all)
    assert resolver.known(HOP)


def test_what_is_kept_is_bounded(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "_KEPT", 2)
    found = Found()
    for number in range(3):
        resolver.start(Hop(f"n{number}.localhost", 5060), found)
        collect(resolver, lambda: len(found.all) == number + 1)  # noqa: B023
    assert resolver.known(Hop("n0.localhost", 5060)) is None
    assert resolver.known(Hop("n2.localhost", 5060))


class SlowNames:
    """Names that wait for the test's permission."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        self.asked: list[str] = []
        monkeypatch.setattr(names.SystemNames, "local", self.local)

    def local(self, name: str) -> list[str]:
        self.asked.append(name)
        assert self.go.wait(20)
        if name == "bad":
            raise resolve.NameFailure("no such name")
        if name == "fault":
            raise RuntimeError("ours")
        return ["192.0.2.1"]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> SlowNames:
    return SlowNames(monkeypatch)


def test_one_look_up_serves_all_who_ask(slow: SlowNames, resolver: Resolver) -> None:
    found = Found()
    for _ in range(5):
        resolver.start(Hop("good", 5062), found)
    slow.go.set()
    collect(resolver, lambda: len(found.all) == 5)
    assert slow.asked == ["good"]


def test_at_most_so_many_threads(slow: SlowNames, resolver: Resolver) -> None:
    """A dead name server must not fill the process with threads."""
    before = threading.active_count()
    found = Found()
    for number in range(50):
        name = "bad" if number == 7 else f"good{number}"
        resolver.start(Hop(name, 5062), found)
    assert threading.active_count() - before <= 8
    slow.go.set()
    collect(resolver, lambda: len(found.all) == 50)
    assert found.all.count(([], "no such name")) == 1
    assert len(set(slow.asked)) == len(slow.asked) == 50


def test_a_fault_of_ours_is_told(
    slow: SlowNames, resolver: Resolver, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Found()
    slow.go.set()
    resolver.start(Hop("fault", None), found)
    collect(resolver, lambda: found.all)
    assert found.all == [([], "RuntimeError: ours")]
    assert "Traceback" in capsys.readouterr().err


def test_closed_while_a_name_is_looked_up(slow: SlowNames) -> None:
    resolver = Resolver()
    resolver.start(Hop("good", 5062), lambda addresses, why: pytest.fail("told after close"))
    resolver.close()
    resolver.close()
    slow.go.set()
