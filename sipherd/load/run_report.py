"""The report of a run, from its directory: once through what is stored there, whatever its size."""

from __future__ import annotations

import msgspec

from .figures import figures
from .findings import Judgement, Report
from .judgement import judgement
from .metrics import Tally
from .store import RunReader
from .survey import Survey
from .verdict import Verdict

__all__ = ["read_report"]


def read_report(reader: RunReader, verdict: Verdict | None = None) -> Report:
    """The report, with the verdict that is stored in the run unless another one is given.

    Raises:
        StoreError: A record can't be read.

    """
    facts = reader.facts
    if verdict is None and facts.verdict is not None:
        verdict = msgspec.convert(facts.verdict, Verdict)
    tally, survey = Tally(), Survey(_length(reader))
    for attempt in reader.attempts():
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
    judged = Judgement() if verdict is None else judgement(verdict, tally)
    return survey.report(facts, events, figures(tally), judged)


def _length(reader: RunReader) -> float:
    """How long the run was: an interrupted one lasted as long as there is something of it."""
    if reader.facts.ended is not None:
        return reader.facts.ended
    last = 0.0
    for attempt in reader.attempts():
        begun = attempt.intended if attempt.started is None else attempt.started
        last = max(last, begun + (attempt.ended or 0.0))
    for sample in reader.box_samples():
        last = max(last, sample.t)
    return last
