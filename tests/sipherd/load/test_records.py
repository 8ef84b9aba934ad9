"""What is kept of a run."""

from __future__ import annotations

import msgspec
import pytest

from sipherd.load.records import CallAttempt, RunEvent, RunFacts, as_intended
from sipherd.protocol.events import FaultInjected


def test_how_late_an_attempt_started() -> None:
    def late(intended: float, started: float | None) -> float | None:
        return CallAttempt(
            number=1,
            intended=intended,
            started=started,
            caller="alice",
            drawn="answer",
            outcome="answer",
        ).late

    assert late(1.0, 1.25) == 0.25
    assert late(1.0, 0.999) == 0.0  # a clock's grain is not earliness
    assert late(1.0, None) is None


@pytest.mark.parametrize(
    ("expected", "outcome", "same"), [("busy", "busy", True), ("busy", "answer", False)]
)
def test_as_intended(expected: str, outcome: str, same: bool) -> None:
    attempt = msgspec.convert(
        {
            "number": 1,
            "intended": 0.0,
            "caller": "alice",
            "drawn": "b",
            "expected": expected,
            "outcome": outcome,
        },
        CallAttempt,
    )
    assert as_intended(attempt) is same


def test_an_event_of_the_herd_on_the_time_line() -> None:
    event = RunEvent.of(2.5, FaultInjected(fault="exit", code=3), phone="bob", incarnation=2)
    assert event == RunEvent(
        t=2.5, phone="bob", incarnation=2, kind="fault", facts={"fault": "exit", "code": 3}
    )


def test_records_survive_json() -> None:
    facts = RunFacts(name="r", started_at=1e9, profile={"rate": 20, "seed": 7}, phones=("a", "b"))
    assert msgspec.json.decode(msgspec.json.encode(facts), type=RunFacts) == facts
