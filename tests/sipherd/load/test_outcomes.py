"""What became of an attempt."""

from __future__ import annotations

from typing import get_args

import pytest

from sipherd.load.outcomes import ended_by, outcome_of
from sipherd.load.profile import Kind
from sipherd.load.records import Outcome
from sipherd.protocol.events import CallEnded, EndCause


def end(cause: EndCause, by: str = "local", code: int | None = None) -> CallEnded:
    return CallEnded(call="c1", cause=cause, by=by, code=code)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "by", "outcome"),
    [
        ("answer", "local", "answer"),
        ("answer", "remote", "disrupted"),
        ("hold_retrieve", "local", "answer"),
        ("dtmf", "remote", "disrupted"),
        ("callee_hangs_up", "remote", "answer"),
        ("callee_hangs_up", "local", "disrupted"),
        ("transfer", "local", "disrupted"),
        ("busy", "local", "answer"),
        ("cancel", "local", "answer"),
        ("no_answer", "remote", "answer"),
    ],
)
def test_an_answered_call_is_ended_by_whom_the_profile_says(
    kind: Kind, by: str, outcome: Outcome
) -> None:
    assert outcome_of(kind, end("hung_up", by, 200), answered=True) == outcome


def test_a_transfer_ends_the_call_of_who_asked_for_it() -> None:
    assert outcome_of("transfer", end("transferred"), answered=True) == "answer"
    assert outcome_of("answer", end("transferred", "remote"), answered=True) == "disrupted"


@pytest.mark.parametrize(
    "cause", ["no_ack", "dialog_lost", "session_expired", "no_media", "protocol_error", "replaced"]
)
def test_an_answered_call_that_is_lost_is_disrupted(cause: EndCause) -> None:
    assert outcome_of("answer", end(cause), answered=True) == "disrupted"


def test_what_went_wrong_within_a_call_counts() -> None:
    ended = end("hung_up")
    assert outcome_of("dtmf", ended, answered=True, trouble="dtmf_failed") == "disrupted"


@pytest.mark.parametrize(
    ("cause", "code", "outcome"),
    [
        ("rejected", 486, "busy"),
        ("rejected", 600, "busy"),
        ("rejected", 480, "no_answer"),
        ("no_answer", None, "no_answer"),
        ("no_answer", 487, "no_answer"),
        ("rejected", 302, "redirect"),
        ("rejected", 404, "reject"),
        ("rejected", 503, "reject"),
        ("rejected", 603, "reject"),
        ("cancelled", 487, "cancel"),
        ("cancelled", None, "cancel"),
        ("no_response", None, "no_response"),
        ("unreachable", 503, "no_response"),
        ("unresolved", None, "no_response"),
        ("no_media", 488, "reject"),
    ],
)
def test_a_call_that_was_not_answered(cause: EndCause, code: int | None, outcome: Outcome) -> None:
    assert outcome_of("answer", end(cause, "remote", code), answered=False) == outcome


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("answered", [False, True])
def test_the_death_of_a_callers_process_is_the_outcome_whatever_was_wanted(
    kind: Kind, answered: bool
) -> None:
    for cut_short in (False, True):
        ended = end("phone_crashed")
        found = outcome_of(kind, ended, answered=answered, cut_short=cut_short)
        assert found == "crashed"


def test_the_death_of_a_callees_process_counts_unless_the_call_ended_as_it_was_to() -> None:
    hung_up, busy, cancelled = end("hung_up"), end("rejected", "remote", 486), end("cancelled")
    assert outcome_of("answer", hung_up, answered=True, callee_crashed=True) == "crashed"
    assert outcome_of("answer", busy, answered=False, callee_crashed=True) == "crashed"
    assert outcome_of("cancel", cancelled, answered=False, callee_crashed=True) == "cancel"


def test_what_the_run_ended_or_nobody_knows_is_unfinished() -> None:
    assert outcome_of("answer", end("hung_up"), answered=True, cut_short=True) == "unfinished"
    assert outcome_of("answer", None, answered=True) == "unfinished"


def test_who_ended_it() -> None:
    assert ended_by(end("hung_up", "local")) == "caller"
    assert ended_by(end("hung_up", "remote")) == "callee"
    assert ended_by(end("no_answer", "timeout")) == "timeout"
    assert ended_by(None) == ""
