"""The report of a run, from its directory: once through what is stored there, whatever its size."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from . import gates
from .axes import length
from .figures import figures
from .findings import Judgement, Report
from .judgement import judgement
from .metrics import Tally
from .records import CallAttempt, RunFacts
from .store import RunReader, StoreError
from .survey import Survey
from .verdict import Verdict, give
from .words import planned

__all__ = ["Reading", "read", "read_report"]


class Reading(NamedTuple):
    """A run's report, and what it was made from."""

    report: Report
    tally: Tally
    verdict: Verdict | None
    """None: the run still goes on."""


def read_report(reader: RunReader, verdict: Verdict | None = None) -> Report:
    """The report of a run that is over; otherwise as `read`."""
    return read(reader, verdict).report


def read(reader: RunReader, verdict: Verdict | None = None, *, goes_on: bool = False) -> Reading:
    """Read a run.

    Args:
        reader: of its directory.
        verdict: takes the place of the one that is stored in the run.  One that ended without a
            verdict, because its runner was killed, is given one now: INVALID, for it was cut short.
        goes_on: its runner is alive (``load.rundir``).  It has no verdict yet, and calls that are
            under way count for nothing.

    Raises:
        StoreError: A record can't be read.

    """
    facts = reader.facts
    seconds = _length(reader)
    tally, survey = Tally(), Survey(seconds)
    for attempt in reader.attempts():
        if goes_on and _under_way(attempt):
            continue
        tally.add(attempt)
        survey.add(attempt)
    for register in reader.registrations():
        tally.add_register(register)
    events = list(reader.events())
    for event in events:
        tally.add_event(event)
    for sample in reader.box_samples():
        survey.add_box(sample)
    for taken in reader.phone_samples():
        survey.add_phone(taken)
    if verdict is None and not goes_on:
        verdict = _stored(reader) or _late_verdict(reader, tally, seconds)
    if facts.state != "finished" and not goes_on:
        facts = msgspec.structs.replace(facts, state="interrupted")
    judged = Judgement() if verdict is None else judgement(verdict, tally)
    return Reading(survey.report(facts, events, figures(tally), judged), tally, verdict)


def _under_way(attempt: CallAttempt) -> bool:
    return attempt.outcome == "unfinished" and attempt.ended is None


def _stored(reader: RunReader) -> Verdict | None:
    if reader.facts.verdict is None:
        return None
    try:
        return msgspec.convert(reader.facts.verdict, Verdict)
    except msgspec.ValidationError as error:
        raise StoreError(f"{reader.directory}/run.json: its verdict is none: {error}") from error


def _late_verdict(reader: RunReader, tally: Tally, seconds: float) -> Verdict:
    """The verdict on a run whose runner could not give it any more."""
    facts = reader.facts
    try:
        wanted = [gates.parse(text) for text in facts.gates]
    except gates.GateError as error:
        raise StoreError(f"{reader.directory}/run.json: {error}") from error
    return give(
        tally,
        wanted,
        box=reader.box_samples(),
        phones=reader.phone_samples(),
        leftovers=facts.leftovers,
        since=float(facts.profile.get("warm_up") or 0.0),
        interrupted=facts.interrupted or _interrupted(facts, seconds),
    )


def _interrupted(facts: RunFacts, seconds: float) -> str:
    """How a run was cut short whose runner could not say so; empty if it was not."""
    if facts.state == "finished":
        return ""
    until = planned(facts.profile)
    after = f"the runner was gone after {length(round(seconds, 1))}"
    if facts.state == "draining" or (until is not None and seconds > until):
        return f"{after}, before the last calls had ended"
    return after if until is None else f"{after} of {length(until)}"


def _length(reader: RunReader) -> float:
    """How long the run was: an interrupted one lasted as long as there is something of it."""
    return reader.last() if reader.facts.ended is None else reader.facts.ended
