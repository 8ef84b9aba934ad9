"""The event stream: numbers without a gap, and readers who are slower than it."""

from __future__ import annotations

import msgspec

from sipherd.protocol.codec import EncodedEvents
from sipherd.protocol.events import Event, HerdReady, PhoneRemoved
from sipherd.protocol.messages import Missed
from sipherd.supervisor.events import BATCH, KEPT, EventStream


class Reader:
    """A client's queue that takes ``room`` messages."""

    def __init__(self, room: int = 10**9) -> None:
        self.room = room
        self.got: list[Event] = []
        self.missed: list[tuple[int, int]] = []

    def send(self, client: bytes, body: EncodedEvents | Missed) -> bool:
        if not self.room:
            return False
        self.room -= 1
        if isinstance(body, Missed):
            self.missed.append((body.first, body.last))
        else:
            self.got += [msgspec.msgpack.decode(event, type=Event) for event in body.events]
        return True


def stream() -> EventStream:
    return EventStream(lambda t: 1e9 + t)


def emit(events: EventStream, count: int, phone: str = "") -> None:
    for _ in range(count):
        events.emit(PhoneRemoved(), 5.0, phone=phone)


def test_events_are_numbered_and_stamped() -> None:
    events, reader = stream(), Reader()
    events.subscribe(b"A", frozenset(), False, None)
    events.emit(HerdReady(phones=2, seconds=0.1), 5.0)
    emit(events, 1)
    assert not events.flush(reader.send)
    assert [(e.n, e.t, e.at) for e in reader.got] == [(1, 5.0, 1e9 + 5), (2, 5.0, 1e9 + 5)]


def test_only_the_phones_asked_for() -> None:
    events, reader = stream(), Reader()
    events.subscribe(b"A", frozenset({"bob"}), False, None)
    emit(events, 1, "alice")
    emit(events, 1, "bob")
    events.flush(reader.send)
    assert [(e.n, e.phone) for e in reader.got] == [(2, "bob")]


def test_a_reader_resumes_behind_a_number() -> None:
    events, reader = stream(), Reader()
    emit(events, 5)
    events.subscribe(b"A", frozenset(), False, 3)
    emit(events, 1)
    events.flush(reader.send)
    assert [e.n for e in reader.got] == [4, 5, 6]
    assert not reader.missed


def test_a_reader_who_resumes_too_late_is_told() -> None:
    events, reader = stream(), Reader()
    emit(events, KEPT + 10)
    events.subscribe(b"A", frozenset(), False, 3)
    events.flush(reader.send)
    assert reader.missed == [(4, 10)]
    assert [reader.got[0].n, reader.got[-1].n] == [11, KEPT + 10]


def test_a_slow_reader_gets_the_rest_later() -> None:
    events, reader = stream(), Reader(room=1)
    events.subscribe(b"A", frozenset(), False, None)
    emit(events, BATCH + 5)
    assert events.flush(reader.send)
    assert len(reader.got) == BATCH
    reader.room = 1
    assert not events.flush(reader.send)
    assert [e.n for e in reader.got] == list(range(1, BATCH + 6))


def test_a_reader_who_is_far_too_slow_is_told_what_it_missed() -> None:
    events, reader = stream(), Reader(room=0)
    events.subscribe(b"A", frozenset(), False, None)
    emit(events, KEPT + 7)
    assert events.flush(reader.send)
    reader.room = 10**9
    events.flush(reader.send)
    assert reader.missed == [(1, 7)]
    assert [e.n for e in reader.got] == list(range(8, KEPT + 8))


def test_memory_is_bounded_however_slow_they_are() -> None:
    events = stream()
    for client in (b"A", b"B"):
        events.subscribe(client, frozenset(), False, None)
    emit(events, 3 * KEPT)
    assert len(events.new) == KEPT
    assert all(len(s.pending) == KEPT for s in events._subscriptions.values())
