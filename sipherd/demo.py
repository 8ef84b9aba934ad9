"""`sipherd demo`: two phones of a private herd, one call, and what happened, drawn as a ladder."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from . import ladder, render
from .herd import Herd
from .protocol.errors import CallFailed, CommandRefused, EventsMissed, TimedOut
from .protocol.events import CallEnded, Event, SipTrace, flatten
from .protocol.messages import PhoneInfo
from .protocol.text import printable

__all__ = ["run_demo"]

#: Seconds for each thing that the call waits for; on loopback a few milliseconds do.
_PATIENCE = 10.0
#: Seconds for events of the call that are still on their way when it is over.
_LAST_EVENTS = 1.0

_PHONES = [
    {"name": "alice", "number": "1001", "trace": True},
    {"name": "bob", "number": "1002", "trace": True},
]


@dataclass
class _Story:
    """What the demo did."""

    herd: str
    supervisor: int
    alice: PhoneInfo
    bob: PhoneInfo
    start_ms: float
    """Until both phones served."""
    setup_ms: float | None = None
    """From `call()` until this process knew of the answer."""
    why: str = ""
    """What went wrong."""
    events: list[Event] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        return "fail" if self.why else "pass"


def run_demo(name: str | None, runtime_dir: Path | None, as_json: bool) -> int:
    """Run it and show it; the exit code is 1 if the call failed.

    Raises:
        SipherdError: the herd did not come up.
    """
    began = time.monotonic()
    with Herd(_PHONES, name=name, runtime_dir=runtime_dir) as herd:
        start_ms = _milliseconds_since(began)
        alice, bob = herd.phones()
        story = _Story(herd.name, herd.pid, alice, bob, start_ms)
        with herd.events(timeout=_LAST_EVENTS, after=0) as events:
            try:
                _call(herd, story)
            except (CallFailed, CommandRefused, TimedOut) as error:
                story.why = str(error)
            try:
                for event in events:
                    story.events.append(event)
                    if _complete(story.events):
                        break
            except EventsMissed as error:  # 10,000 of them: something went very wrong
                story.why = story.why or str(error)
    _show(story, as_json)
    return 1 if story.why else 0


def _call(herd: Herd, story: _Story) -> None:
    began = time.monotonic()
    call = herd["alice"].call(herd["bob"])
    call.wait_ringing(timeout=_PATIENCE)
    incoming = herd["bob"].incoming(timeout=_PATIENCE)
    incoming.answer()
    call.wait_answered(timeout=_PATIENCE)
    story.setup_ms = _milliseconds_since(began)
    call.hang_up(timeout=_PATIENCE)
    incoming.wait_ended(timeout=_PATIENCE)


def _milliseconds_since(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 1)


def _complete(events: list[Event]) -> bool:
    """Both legs are over, and each message that left has arrived."""
    ended = sum(isinstance(event.body, CallEnded) for event in events)
    traces = [event.body.direction for event in events if isinstance(event.body, SipTrace)]
    return ended == 2 and traces.count("in") == traces.count("out")


def _show(story: _Story, as_json: bool) -> None:
    if as_json:
        click.echo(render.as_json(_as_plain(story)))
        return
    console = Console(highlight=False)
    ascii_only = not render.can_show("│─▶◀·")
    left, right = (
        ladder.Party(phone.name, phone.number, phone.port, phone.pid)
        for phone in (story.alice, story.bob)
    )
    dot = "-" if ascii_only else "·"
    ready = render.duration(story.start_ms / 1000)
    console.print(Text(f"supervisor pid {story.supervisor} {dot} two phones ready in {ready}"))
    console.print()
    sent = ladder.messages(story.events)
    for line in ladder.draw(left, right, sent, console.width, ascii_only=ascii_only):
        console.print(line, no_wrap=True, overflow="ignore", crop=False)
    if story.why:
        console.print(Text(f"fail: {printable(story.why)}", style="bold red"))
    else:
        took = f"answered {story.setup_ms} ms after call(), as the client saw it"
        console.print(Text.assemble(("pass", "bold green"), f": {took}"))


def _as_plain(story: _Story) -> dict[str, Any]:
    pids = {"supervisor": story.supervisor, "alice": story.alice.pid, "bob": story.bob.pid}
    return {
        "verdict": story.verdict,
        **({"why": story.why} if story.why else {}),
        "herd": story.herd,
        "pids": pids,
        "start_ms": story.start_ms,
        "setup_ms": story.setup_ms,
        "events": [flatten(event) for event in story.events],
    }
