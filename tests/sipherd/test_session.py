"""The inbox of a command whose output nobody reads: bounded, and what is lost is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sipherd import EventsMissed, Herd
from sipherd.protocol.events import Event, PhoneRemoved
from sipherd.session import Session

KEPT = 10_000


@pytest.fixture
def session(herd: Herd, runtime_dir: Path) -> Iterator[Session]:
    with Session(herd.name, runtime_dir) as session:
        yield session  # not subscribed: only the test makes events


def come(session: Session, first: int, last: int) -> None:
    session.on_events(
        Event(n=n, t=0.0, at=0.0, body=PhoneRemoved()) for n in range(first, last + 1)
    )


def read(session: Session, most: int = 10**9) -> list[int | tuple[int, int]]:
    """Numbers of events, and gaps as a pair."""
    found: list[int | tuple[int, int]] = []
    while len(found) < most and (entry := session.next_event(0.0)) is not None:
        found.append((entry.first, entry.last) if isinstance(entry, EventsMissed) else entry.n)
    return found


def test_all_are_read_in_order(session: Session) -> None:
    come(session, 1, KEPT)
    assert read(session) == list(range(1, KEPT + 1))


def test_what_has_no_room_is_one_gap(session: Session) -> None:
    come(session, 1, KEPT + 7)
    come(session, KEPT + 8, KEPT + 9)
    assert read(session) == [*range(1, KEPT + 1), (KEPT + 1, KEPT + 9)]
    come(session, KEPT + 10, KEPT + 10)
    assert read(session) == [KEPT + 10]


def test_what_comes_behind_a_gap_is_not_in_it(session: Session) -> None:
    come(session, 1, KEPT + 1)
    assert read(session, 3) == [1, 2, 3]
    come(session, KEPT + 2, KEPT + 9)
    assert read(session)[KEPT - 3 :] == [
        *((KEPT + 1, KEPT + 1), KEPT + 2, KEPT + 3),
        (KEPT + 4, KEPT + 9),
    ]


def test_a_gap_that_the_supervisor_tells_is_joined_to_one_before_it(session: Session) -> None:
    come(session, 1, KEPT + 1)
    session.on_missed(KEPT + 2, KEPT + 50)
    assert read(session)[KEPT:] == [(KEPT + 1, KEPT + 50)]
    session.on_missed(KEPT + 60, KEPT + 61)
    assert read(session) == [(KEPT + 60, KEPT + 61)]
