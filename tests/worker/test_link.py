"""The worker's DEALER against a real ROUTER."""

from __future__ import annotations

import select
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from sipherd.protocol.codec import encode, from_worker
from sipherd.protocol.events import Confirmed, SipTrace
from sipherd.protocol.messages import (
    Counters,
    Done,
    Drain,
    Envelope,
    Exit,
    HangUpCall,
    Happened,
    Hello,
    LogLine,
    SupervisorToWorker,
)
from sipherd.worker.link import Link


class Supervisor:
    """A ROUTER, and the link that it talks to."""

    def __init__(self, runtime_dir: Path, high_water: int = 1000, backlog: int = 4000) -> None:
        self.context = zmq.Context()
        self.router = self.context.socket(zmq.ROUTER)
        self.router.set(zmq.LINGER, 0)
        self.router.set(zmq.RCVHWM, high_water)
        self.path = runtime_dir / "workers"
        self.router.bind(f"ipc://{self.path}")
        self.counts: Counter[str] = Counter()
        self.link = Link(
            f"ipc://{self.path}", "alice", 2, self.counts, high_water=high_water, backlog=backlog
        )
        self.link.send(Hello(pid=1, token="t"))
        self.route = b""
        self.heard: list[Envelope[Any]] = []
        self.hear(1)
        self._seq = 0

    def close(self) -> None:
        self.link.close(0)
        self.router.close()
        self.context.term()
        self.path.unlink(missing_ok=True)

    def hear(self, count: int) -> None:
        """Read until so many messages are there."""
        while len(self.heard) < count:
            assert self.router.poll(5000), f"{len(self.heard)} of {count}"
            self.route, data = self.router.recv_multipart()
            self.heard.append(from_worker.decode(data))

    def say(self, body: SupervisorToWorker, **changes: Any) -> None:
        self._seq += 1
        fields: dict[str, Any] = {
            "id": 0,
            "phone": "alice",
            "incarnation": 2,
            "seq": self._seq,
        } | changes
        self.say_bytes(encode(Envelope(body=body, **fields)))

    def say_bytes(self, *parts: bytes) -> None:
        self.router.send_multipart([self.route, *parts])

    def received(self, count: int) -> list[Any]:
        """As the loop does it: sleep on the descriptor only when nothing wants a turn."""
        poll = select.poll()
        poll.register(self.link.fd, select.POLLIN)
        found: list[Any] = []
        deadline = time.monotonic() + 5
        while len(found) < count:
            assert time.monotonic() < deadline, f"{found} of {count}"
            if not self.link.wants_turn():
                poll.poll(1000)
            found += [message.body for message in self.link.receive()]
        return found


@pytest.fixture
def supervisor(runtime_dir: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(runtime_dir)
    yield supervisor
    supervisor.close()


@pytest.fixture
def narrow(runtime_dir: Path) -> Iterator[Supervisor]:
    """Room for few messages, and nobody reads."""
    supervisor = Supervisor(runtime_dir, high_water=4, backlog=200)
    yield supervisor
    supervisor.close()


def happened(number: int) -> Happened:
    return Happened(t=float(number), body=Confirmed(call=f"i{number}"))


def test_messages_are_numbered(supervisor: Supervisor) -> None:
    supervisor.link.send(happened(1))
    supervisor.link.send(Done(), reply_to=17)
    supervisor.hear(3)
    assert [(e.seq, e.reply_to) for e in supervisor.heard] == [(1, 0), (2, 0), (3, 17)]
    assert {(e.phone, e.incarnation) for e in supervisor.heard} == {("alice", 2)}


def test_the_descriptor_wakes_for_every_message(supervisor: Supervisor) -> None:
    """Edge-triggered: sending in between uses the edge up, and still nothing is overlooked."""
    for number in range(200):
        supervisor.say(HangUpCall(call=f"c{number}"), id=number + 1)
        supervisor.link.send(happened(number))
        (body,) = supervisor.received(1)
        assert body.call == f"c{number}"
    assert supervisor.counts == {}


def test_a_flood_is_taken_in_rounds(supervisor: Supervisor) -> None:
    for number in range(300):
        supervisor.say(HangUpCall(call=f"c{number}"), id=number + 1)
    rounds: list[int] = []
    deadline = time.monotonic() + 5
    while sum(rounds) < 300 and time.monotonic() < deadline:
        if supervisor.link.wants_turn():
            rounds.append(len(list(supervisor.link.receive())))
    assert sum(rounds) == 300
    assert max(rounds) <= 64


@pytest.mark.parametrize(
    "parts",
    [[b"\xc1"], [b""], [b"x", b"y"], [encode(Envelope(id=1, body=Hello(pid=1, token="")))]],
    ids=["garbage", "empty", "two parts", "not for workers"],
)
def test_garbage_is_dropped_and_counted(supervisor: Supervisor, parts: list[bytes]) -> None:
    supervisor.say_bytes(*parts)
    supervisor.say(Drain())
    assert supervisor.received(1) == [Drain()]
    assert supervisor.counts == {"link_garbage": 1}


def test_what_is_for_another_incarnation_is_dropped(supervisor: Supervisor) -> None:
    supervisor.say(Drain(), incarnation=1, seq=1)
    supervisor.say(Drain(), phone="bob", seq=1)
    supervisor.say(Drain(), seq=1)
    assert supervisor.received(1) == [Drain()]
    assert supervisor.counts == {"link_foreign": 2}


def test_an_exit_is_taken_however_it_is_addressed(supervisor: Supervisor) -> None:
    supervisor.say_bytes(encode(Envelope(id=0, body=Exit(why="nobody awaits you"))))
    assert supervisor.received(1) == [Exit(why="nobody awaits you")]


def test_a_gap_is_counted(supervisor: Supervisor) -> None:
    supervisor.say(Drain())
    supervisor.say(Drain(), seq=4)
    supervisor.say(Drain(), seq=5)
    assert len(supervisor.received(3)) == 3
    assert supervisor.counts == {"link_gaps": 1}


def fill(supervisor: Supervisor) -> int:
    """Send until every queue on the way is full; how many messages were sent so far."""
    poll = select.poll()
    poll.register(supervisor.link.fd, select.POLLIN)
    sent, refused = 1, 0
    while refused < 2:
        supervisor.counts.clear()
        supervisor.link.send(LogLine(level="info", event="x" * 20000, fields={}))
        if not supervisor.counts:
            sent, refused = sent + 1, 0
            continue
        supervisor.link.wants_turn()  # lets ZeroMQ notice what room there is
        refused = 0 if poll.poll(200) else refused + 1  # something moves on still
    supervisor.counts.clear()
    return sent


def test_when_nobody_reads_what_is_not_important_is_dropped(narrow: Supervisor) -> None:
    sent = fill(narrow)
    trace = SipTrace(
        direction="in", first_line="", cseq="", sip_call_id="", peer=("192.0.2.1", 1), size=0
    )
    narrow.link.send(Happened(t=0.0, body=trace))
    narrow.link.send(Counters(values={"x": 1}))
    assert narrow.counts["link_dropped"] == 2
    narrow.hear(sent)
    assert [e.seq for e in narrow.heard] == list(range(1, sent + 1))  # no gap


def test_when_nobody_reads_what_is_important_waits(narrow: Supervisor) -> None:
    sent = fill(narrow)
    for number in range(150):
        narrow.link.send(happened(number), reply_to=number)
    narrow.link.send(LogLine(level="info", event="no", fields={}))  # overtakes nobody
    assert not narrow.link.wants_turn()
    while len(narrow.heard) < sent + 150:
        if narrow.router.poll(0):
            narrow.hear(len(narrow.heard) + 1)
        if narrow.link.wants_turn():
            assert list(narrow.link.receive()) == []
    assert [e.seq for e in narrow.heard] == list(range(1, sent + 151))
    assert [e.body.t for e in narrow.heard[sent:]] == list(range(150))
    assert [e.reply_to for e in narrow.heard[sent:]] == list(range(150))
    assert narrow.counts == {"link_dropped": 1}


def test_what_waits_is_bounded_and_a_loss_shows_as_a_gap(narrow: Supervisor) -> None:
    sent = fill(narrow)
    for number in range(300):
        narrow.link.send(happened(number))
    assert narrow.counts["link_lost"] == 100
    while len(narrow.heard) < sent + 200:
        if narrow.router.poll(0):
            narrow.hear(len(narrow.heard) + 1)
        if narrow.link.wants_turn():
            list(narrow.link.receive())
    assert [e.body.t for e in narrow.heard[sent:]] == list(range(100, 300))
    assert narrow.heard[sent].seq == sent + 101


def test_sending_to_nobody_never_blocks(runtime_dir: Path) -> None:
    counts: Counter[str] = Counter()
    link = Link(f"ipc://{runtime_dir}/nobody", "alice", 1, counts, high_water=10, backlog=20)
    began = time.monotonic()
    for number in range(100):
        link.send(happened(number))
    link.close(0.05)
    assert time.monotonic() - began < 5
    assert counts["link_lost"] == 70
