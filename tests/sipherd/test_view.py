"""What `sipherd up` writes: on a terminal, into a log, for programs."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable

import pytest

from sipherd.protocol.events import (
    AnyBody,
    Confirmed,
    Event,
    HerdReady,
    HerdStarted,
    HerdStopping,
    PhoneAdded,
    PhoneDied,
    PhoneMoved,
    PhoneRemoved,
    PortSkipped,
)
from sipherd.protocol.states import PhoneState
from sipherd.view import AsProgress, View, as_lines, as_records, only_trouble

NEW, STARTING, READY = PhoneState.NEW, PhoneState.STARTING, PhoneState.READY
BACKOFF = PhoneState.BACKOFF
DRAINING, STOPPED, FAILED = PhoneState.DRAINING, PhoneState.STOPPED, PhoneState.FAILED

_numbers = itertools.count(1)


def event(body: AnyBody, phone: str = "") -> Event:
    return Event(n=next(_numbers), t=1.0, at=1.0, phone=phone, body=body)


def added(phone: str) -> Event:
    return event(PhoneAdded(number=phone, address="127.0.0.1", port=5060), phone)


def moved(phone: str, state: PhoneState, previous: PhoneState = NEW) -> Event:
    return event(PhoneMoved(state=state, previous=previous), phone)


def comes_up(phones: Iterable[str]) -> list[Event]:
    phones = list(phones)
    return [
        event(HerdStarted(herd="lab", pid=9)),
        *map(added, phones),
        *(moved(phone, STARTING) for phone in phones),
        *(moved(phone, READY) for phone in phones),
        event(HerdReady(phones=len(phones), seconds=0.1)),
    ]


def screen(view: View, events: Iterable[Event]) -> list[str]:
    """The lines that a terminal shows in the end."""
    lines, current = [], ""
    written = "".join(view(event) or "" for event in events)
    for part in re.split(r"(\n|\r|\x1b\[K)", re.sub(r"\x1b\[[0-9;]*m", "", written)):
        if part == "\n":
            lines.append(current)
        if part in ("\n", "\x1b[K"):
            current = ""
        elif part and part != "\r":
            current = part + current[len(part) :]
    return [*lines, current]


def texts(view: View, events: Iterable[Event]) -> list[str]:
    """What is left of each written line behind time and phone."""
    return [line[26:] for line in "".join(view(e) or "" for e in events).splitlines()]


def test_a_terminal_counts_while_phones_come_up() -> None:
    events = comes_up(["a", "b", "c"])
    assert screen(AsProgress(), events[:-2])[-1] == "2/3 phones ready"
    lines = screen(AsProgress(), events)
    assert [line[26:] for line in lines[:-1]] == [
        "lab started, supervisor pid 9",
        "3 phones ready in 100 ms; Ctrl-C stops them",
    ]
    assert lines[-1] == ""


def test_a_line_does_not_lose_the_count() -> None:
    events = comes_up(["a", "b", "c"])[:-2]
    skipped = event(PortSkipped(address="127.0.0.1", port=5062, why="in use"))
    lines = screen(AsProgress(), [*events, skipped])
    assert "5062" in lines[-2]
    assert lines[-1] == "2/3 phones ready"


def test_a_terminal_shows_each_phone_afterwards() -> None:
    view = AsProgress()
    screen(view, comes_up(["a", "b"]))
    lines = screen(view, [moved("a", DRAINING), moved("a", STOPPED), moved("a", READY)])
    assert [line[26:] for line in lines] == ["stopped", "ready (pid 0)", ""]


@pytest.mark.parametrize("view", [AsProgress(), as_lines])
def test_a_restart_is_two_lines(view: View) -> None:
    screen(view, comes_up(["a", "b"]))
    died = PhoneDied(cause="SIGSEGV", uptime=1.0, state=READY, calls=(), next_action="restart now")
    events = [event(died, "a"), *(moved("a", to) for to in (BACKOFF, STARTING, READY))]
    assert [line[26:] for line in screen(view, events)] == [
        "died: SIGSEGV, ready after 1.0 s; restart now",
        "ready (pid 0)",
        "",
    ]


def test_a_terminal_counts_while_phones_stop() -> None:
    view = AsProgress()
    screen(view, [*comes_up(["a", "b", "c"]), moved("c", FAILED)])
    stopping = event(HerdStopping(why="Ctrl-C"))
    first = [stopping, moved("a", DRAINING), moved("b", DRAINING), moved("a", STOPPED)]
    assert screen(view, first)[-1] == "1/2 phones stopped"
    assert screen(view, [moved("b", STOPPED)]) == ["2/2 phones stopped", ""]
    assert screen(view, [event(Confirmed(call="c1"), "b")])[-1] == ""


def test_a_creation_that_is_taken_back() -> None:
    view = AsProgress()
    events = [*comes_up(["a", "b"])[:-2], moved("b", FAILED), event(PhoneRemoved(), "a")]
    assert [line[26:] for line in screen(view, events)[1:-1]] == ["failed"]


def test_a_log_has_no_rewriting() -> None:
    events = [*comes_up(["a", "b"]), moved("a", DRAINING), moved("a", STOPPED)]
    written = "".join(as_lines(event) or "" for event in events)
    assert not set(written) & {"\r", "\x1b"}
    assert texts(as_lines, events) == [
        "lab started, supervisor pid 9",
        "ready (pid 0)",
        "ready (pid 0)",
        "2 phones ready in 100 ms",
        "stopped",
    ]


def test_quiet() -> None:
    died = PhoneDied(cause="SIGSEGV", uptime=1.0, state=READY, calls=(), next_action="parked")
    events = [
        *comes_up(["a"]),
        event(PortSkipped(address="127.0.0.1", port=5062, why="in use")),
        event(died, "a"),
        moved("a", FAILED),
        event(Confirmed(call="c1"), "a"),
    ]
    assert [text.split()[0] for text in texts(only_trouble, events)] == ["port", "died:", "failed"]


@pytest.mark.parametrize("events", [comes_up(["a", "b"])])
def test_records_hold_every_event(events: list[Event]) -> None:
    lines = "".join(as_records(event) for event in events).splitlines()
    assert [json.loads(line)["n"] for line in lines] == [event.n for event in events]
