"""What a report says of a run: figures, gates, what happened, and its course in windows of time.

``load.survey`` counts it from the records; page, summary and comparison draw it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

import msgspec

from ..protocol.events import AnyBody, Event
from ..render import Severity, describe, severity
from .records import CallAttempt, RunEvent, RunFacts

__all__ = [
    "Counts",
    "Course",
    "Figure",
    "GateState",
    "Happening",
    "HappeningKind",
    "JudgedGate",
    "Judgement",
    "MixLine",
    "PhoneCourse",
    "Report",
    "VerdictWord",
    "happenings",
]

VerdictWord: TypeAlias = Literal["PASS", "FAIL", "INVALID", ""]
"""Empty: none was given, for the run was interrupted."""

GateState: TypeAlias = Literal["passed", "failed", "undefined"]
"""``undefined``: there was nothing to measure (a ratio over no calls), which passes no gate."""

HappeningKind: TypeAlias = Literal["death", "restart", "fault", "overload", "trouble", "note"]

Counts: TypeAlias = tuple[int, ...]
"""A number for each window."""


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One number of a run, with what a reader needs to judge it."""

    key: str
    """As gates name it: ``seer``, ``srd_ok_p95``."""
    label: str
    value: float | None
    """None: undefined, for nothing was there to measure."""
    unit: str = ""
    """``%``, ``ms``, ``s``, ``calls/s``; empty for a count."""
    meaning: str = ""
    """Its formula in a line."""
    better: Literal["more", "less", ""] = ""
    """Which change is an improvement; empty: neither."""
    headline: bool = False
    """One of the handful that belong at the top."""


class JudgedGate(msgspec.Struct, frozen=True, kw_only=True):
    """A gate, what was measured, and what came of it."""

    gate: str
    """As it was written: ``srd_ok_p95 < 200ms``."""
    state: GateState
    measured: str
    evidence: str = ""
    """What the number rests on, or which windows and phones broke it."""


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict and its reasons."""

    word: VerdictWord = ""
    why: tuple[str, ...] = ()
    """In order of weight, a sentence each."""
    gates: tuple[JudgedGate, ...] = ()


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the time line."""

    t: float
    """Seconds since the run's start."""
    kind: HappeningKind
    phone: str = ""
    text: str
    severity: Severity = "normal"


class MixLine(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the calls for which the profile drew one entry of its mix."""

    drawn: str
    expected: str
    calls: int
    as_intended: int


class PhoneCourse(msgspec.Struct, frozen=True, kw_only=True):
    """How one phone fared, as caller or callee, a number for each window."""

    name: str
    calls: Counts
    missed: Counts
    """Calls that did not end as intended."""
    deaths: int = 0

    @property
    def total(self) -> int:
        """Calls of all windows."""
        return sum(self.calls)

    @property
    def missed_total(self) -> int:
        """Calls of all windows that did not end as intended."""
        return sum(self.missed)


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """The run in windows of equal length; every sequence has an entry for each."""

    window: float
    """Seconds."""
    intended: Counts
    """Calls whose intended time lies in the window."""
    started: Counts
    """Calls whose INVITE was sent in the window."""
    missed: Counts
    """Calls that started (or should have) in it and did not end as intended."""
    under_way: Counts
    """The most attempts at once: from INVITE to their end."""
    answered: Counts
    """The most answered calls at once."""
    setup_p50: tuple[float | None, ...]
    """Session request delay (``srd_ok``), seconds, of the calls that started in the window."""
    setup_p95: tuple[float | None, ...]
    setup_p99: tuple[float | None, ...]
    late_p95: tuple[float | None, ...]
    """By how much calls started after their intended time, in seconds."""
    late_max: tuple[float | None, ...]
    cpu: tuple[float | None, ...]
    """The busiest interval: share of all cores, 0 to 1; None where nobody looked."""
    lag: tuple[float | None, ...]
    """The longest that a loop of runner, supervisor or phones was late, in seconds."""
    drops: Counts
    """Datagrams that this box threw away."""
    memory_p50: tuple[float | None, ...]
    """Private memory of a phone's process, bytes."""
    memory_max: tuple[float | None, ...]

    @property
    def seconds(self) -> float:
        """The length of all windows."""
        return self.window * len(self.started)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that page and summary show."""

    facts: RunFacts
    seconds: float
    """From the start to the end, or to the last that is known of an interrupted run."""
    judgement: Judgement
    figures: tuple[Figure, ...]
    course: Course
    calls: int
    as_intended: int
    causes: tuple[tuple[str, int], ...]
    """Why calls did not end as intended, the most frequent first."""
    codes: tuple[tuple[int, int], ...]
    """How often each response code came for an INVITE, by code."""
    mix: tuple[MixLine, ...]
    phones: tuple[PhoneCourse, ...]
    """The worst first."""
    happenings: tuple[Happening, ...]
    examples: tuple[CallAttempt, ...]
    """A few calls of each cause, to look at with ``sipherd ladder``."""

    def figure(self, key: str) -> Figure | None:
        """The figure with this key, if there is one."""
        return next((figure for figure in self.figures if figure.key == key), None)


_KINDS: dict[str, HappeningKind] = {
    "phone_died": "death",
    "nursery_died": "death",
    "fault": "fault",
    "box_overloaded": "overload",
    "box_recovered": "note",
    "herd_draining": "note",
    "herd_stopping": "note",
    "herd_reloaded": "note",
    "phone_added": "note",
    "phone_removed": "note",
    "registered": "note",
}
#: What a phone's life goes through on its way; only that it is back is worth a mark.
_PASSING = frozenset({"new", "starting", "draining", "backoff", "stopped"})
#: Ways in which a call that a crash left behind was not seen to end at its far end.
_UNSURE = frozenset({"bye_unanswered", "cancel_unanswered", "no_response"})


def happenings(events: Iterable[RunEvent]) -> list[Happening]:
    """The entries of the time line, in order of time."""
    found = []
    for event in events:
        if event.kind == "phone_state" and event.facts.get("state") in _PASSING:
            continue
        kind = _KINDS.get(event.kind, "trouble")
        if event.kind == "cleaned_up" and event.facts.get("how") not in _UNSURE:
            kind = "note"  # what a death leads to, and as it should
        if event.kind == "phone_state" and event.facts.get("state") == "ready":
            kind = "restart" if event.incarnation > 1 else "note"
        text, how = _told(event)
        found.append(Happening(t=event.t, kind=kind, phone=event.phone, text=text, severity=how))
    return sorted(found, key=lambda happening: happening.t)


def _told(event: RunEvent) -> tuple[str, Severity]:
    """The event in words.  A run of another version may have kinds that this one doesn't know."""
    try:
        body: AnyBody = msgspec.convert({"kind": event.kind, **event.facts}, AnyBody)
    except msgspec.ValidationError:
        return event.kind.replace("_", " "), "normal"
    whole = Event(
        n=0, t=event.t, at=0.0, phone=event.phone, incarnation=event.incarnation, body=body
    )
    text = describe(whole)
    if event.kind == "phone_state" and event.incarnation > 1:
        text = f"ready again, incarnation {event.incarnation}"
    return text, severity(body)


def worst_first(phones: Sequence[PhoneCourse]) -> list[PhoneCourse]:
    """By calls that were missed, then deaths, then name: phone-2 before phone-10."""
    return sorted(
        phones, key=lambda one: (-one.missed_total, -one.deaths, _natural(one.name), one.name)
    )


def _natural(name: str) -> list[tuple[int, str]]:
    return [
        (int(part), "") if part.isascii() and part.isdigit() else (0, part)
        for part in re.split("([0-9]+)", name)
    ]
