"""The event stream of a reader, without a connection."""

from __future__ import annotations

import threading

import pytest

from sipherd import EventsMissed, EventStream
from sipherd.protocol.events import Event, HerdStopping


def event(n: int) -> Event:
    return Event(n=n, t=float(n), at=float(n), body=HerdStopping(why=""))


def numbers(stream: EventStream) -> list[int]:
    return [event.n for event in stream]


def test_the_iteration_ends_after_silence() -> None:
    stream = EventStream(timeout=0.01)
    stream._add([event(1), event(2)])
    assert numbers(stream) == [1, 2]
    stream._add([event(3)])
    assert numbers(stream) == [3]


def test_the_iteration_ends_when_the_stream_is_closed() -> None:
    stream = EventStream(timeout=None)
    stream._add([event(1)])
    stream.close()
    stream._add([event(2)])
    assert numbers(stream) == [1]


def test_a_reader_is_woken() -> None:
    stream = EventStream(timeout=None)
    read: list[int] = []
    thread = threading.Thread(target=lambda: read.extend(numbers(stream)))
    thread.start()
    stream._add([event(1)])
    stream.close()
    thread.join(5)
    assert read == [1]


def test_what_is_sent_again_is_read_once() -> None:
    stream = EventStream(timeout=0.01)
    stream._add([event(1), event(2)])
    stream._add([event(1), event(2), event(3)])
    assert numbers(stream) == [1, 2, 3]


def test_a_slow_reader_is_told_and_reads_on() -> None:
    stream = EventStream(timeout=0.01)
    stream._add([event(n) for n in range(1, 10_004)])
    with pytest.raises(EventsMissed) as caught:
        next(stream)
    assert (caught.value.first, caught.value.last) == (1, 3)
    assert numbers(stream) == list(range(4, 10_004))


def test_events_that_the_supervisor_dropped() -> None:
    stream = EventStream(timeout=0.01)
    stream._add([event(1)])
    stream._miss(2, 5)
    stream._add([event(6)])
    with pytest.raises(EventsMissed, match="missed events 2 to 5"):
        next(stream)
    assert numbers(stream) == [1, 6]
