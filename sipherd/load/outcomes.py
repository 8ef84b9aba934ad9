"""What became of an attempt, from how its caller's leg ended and what the run had wanted."""

from __future__ import annotations

from typing import Literal

from ..protocol.events import CallEnded
from .profile import Kind
from .records import EndedBy, Outcome

__all__ = ["ended_by", "outcome_of"]

_BY: dict[Literal["local", "remote", "timeout"], EndedBy] = {
    "local": "caller",
    "remote": "callee",
    "timeout": "timeout",
}
_NO_RESPONSE = frozenset({"no_response", "unreachable", "unresolved"})
#: Ways in which an answered call ends without anything having gone wrong.
_ORDERLY = frozenset({"hung_up", "transferred"})


def ended_by(end: CallEnded | None) -> EndedBy:
    """Who ended the attempt, by the end of its caller's leg."""
    return "" if end is None else _BY[end.by]


def outcome_of(
    kind: Kind,
    end: CallEnded | None,
    *,
    answered: bool,
    trouble: str = "",
    callee_crashed: bool = False,
    cut_short: bool = False,
) -> Outcome:
    """The one outcome.

    Args:
        kind: what the profile wanted.
        end: of the caller's leg; None: nobody knows.
        answered: its INVITE got a 2xx.
        trouble: what went wrong within the call: a hold, digits or a transfer that was refused.
        callee_crashed: the process of the phone that was called died, and the call with it.
        cut_short: the run ended it before its time.

    """
    if end is not None and end.cause in ("phone_crashed", "stopped"):
        return "crashed"
    if cut_short or end is None:
        return "unfinished"
    if answered:
        if callee_crashed:
            return "crashed"
        orderly = end.cause in _ORDERLY and not trouble and _as_said(kind, end)
        return "answer" if orderly else "disrupted"
    outcome = _not_answered(end)
    return "crashed" if callee_crashed and outcome != kind else outcome


def _as_said(kind: Kind, end: CallEnded) -> bool:
    """Whether an answered call was ended by the side that was to."""
    match kind:
        case "callee_hangs_up":
            return end.by == "remote"
        case "transfer":
            return end.cause == "transferred"
        case "answer" | "hold_retrieve" | "dtmf":
            return end.by == "local"
        case _:  # it was not to be answered: that it was says enough
            return True


def _not_answered(end: CallEnded) -> Outcome:
    code = end.code or 0
    if end.cause in _NO_RESPONSE:
        return "no_response"
    if end.cause in ("cancelled", "answered_elsewhere"):
        return "cancel"
    if end.cause == "no_answer" or code == 480:
        return "no_answer"
    if code in (486, 600):
        return "busy"
    return "redirect" if 300 <= code < 400 else "reject"
