"""The record of an attempt, from what its legs have told."""

from __future__ import annotations

from .attempt import Attempt
from .facts import Facts, gather
from .outcomes import ended_by, outcome_of
from .records import CallAttempt, Outcome
from .schedule import PlannedCall

__all__ = ["never_sent", "record_of"]


def record_of(attempt: Attempt, origin: float) -> CallAttempt:
    """All that is known of it; `origin` is when the run began, on the clock of its legs."""
    planned, caller, callee = attempt.planned, attempt.caller, attempt.callee
    if caller is None or caller.began is None:
        outcome, cause = attempt.refused or ("unfinished", "")
        return never_sent(planned, outcome, cause)
    end = caller.end
    outcome = "unfinished"
    facts = Facts(started=caller.began)
    if attempt.is_over:
        facts = gather(caller.heard, callee.heard if callee is not None else ())
        outcome = outcome_of(
            planned.entry.kind,
            end,
            answered=caller.answered is not None,
            trouble=attempt.trouble,
            callee_crashed=attempt.callee_crashed,
            cut_short=attempt.cut_short,
        )
    cause = attempt.trouble or (end.cause if end is not None else "")
    if outcome == "crashed" and attempt.callee_crashed:
        cause = "phone_crashed"  # what came of it at the caller is the BYE of the next process
    started = caller.began if facts.started is None else facts.started
    return CallAttempt(
        number=planned.number,
        intended=planned.intended,
        started=started - origin,
        caller=planned.caller,
        callee=planned.callee.phone or (callee.phone if callee is not None else ""),
        from_uri=callee.from_uri if callee is not None else "",
        to_uri=caller.to_uri,
        drawn=planned.entry.name,
        expected=planned.entry.expected,
        outcome=outcome,
        sip_call_id=caller.sip_call_id,
        hold=planned.hold,
        ended_by=ended_by(end),
        cause=cause,
        caller_media=end.media if end is not None else None,
        callee_media=callee.end.media if callee is not None and callee.end else None,
        caller_incarnation=caller.incarnation,
        callee_incarnation=callee.incarnation if callee is not None else 0,
        warm_up=planned.warm_up,
        **facts.fields(),
    )


def never_sent(planned: PlannedCall, outcome: Outcome, cause: str) -> CallAttempt:
    """Of a call whose INVITE nobody has seen."""
    return CallAttempt(
        number=planned.number,
        intended=planned.intended,
        caller=planned.caller,
        callee=planned.callee.phone,
        drawn=planned.entry.name,
        expected=planned.entry.expected,
        outcome=outcome,
        cause=cause,
        hold=planned.hold,
        warm_up=planned.warm_up,
    )
