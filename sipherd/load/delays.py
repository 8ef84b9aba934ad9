"""The delays and durations of one attempt, as RFC 6076 defines them (section 4).

All are counted from the attempt's first INVITE (or REGISTER): a retransmission does not begin them
anew, nor does a challenge, which the RFC counts as part of the attempt.  None: the attempt has no
such time.
"""

from __future__ import annotations

from typing import NamedTuple

from .records import CallAttempt

__all__ = [
    "Delay",
    "call_duration",
    "completed",
    "disconnect",
    "duration",
    "post_dial",
    "request",
    "setup",
]

_NO_RESPONSE = frozenset({"no_response", "unreachable", "unresolved"})
"""Causes with which a final code, if there is one, is of our own making (RFC 3261 8.1.3.1)."""
_CHALLENGES = frozenset({401, 402, 407})
"""No failures in the sense of section 4.3.2."""


class Delay(NamedTuple):
    """A time, and whether what it belongs to went well: the RFC never mixes the two."""

    seconds: float
    successful: bool


def received_code(attempt: CallAttempt) -> int | None:
    """The final response to the INVITE that somebody sent; None: nobody did."""
    return None if attempt.cause in _NO_RESPONSE else attempt.final_code


def request(attempt: CallAttempt) -> Delay | None:
    """SRD, section 4.3: INVITE to the first response that tells the user something.

    That is the first provisional one other than 100, or else the final one.  Section 4.3.1 for a
    2xx in the end, 4.3.2 for 4xx to 6xx; a redirection (3xx), a challenge that was the last word
    (401, 402, 407, which 4.3.2 leaves out) and an INVITE that nobody answered have none.
    """
    code = received_code(attempt)
    if code is None or 300 <= code < 400 or code in _CHALLENGES:
        return None
    told = next((t for status, t in attempt.responses if 100 < status < 200), None)
    if told is None:
        told = next((t for status, t in reversed(attempt.responses) if status == code), None)
    return None if told is None else Delay(told, 200 <= code < 300)


def post_dial(attempt: CallAttempt) -> float | None:
    """PDD: INVITE to the first 180 or 183, whatever became of the call.

    Not of the RFC: what a caller hears as silence before it rings (ITU-T E.721's post-selection
    delay).
    """
    return next((t for status, t in attempt.responses if status in (180, 183)), None)


def setup(attempt: CallAttempt) -> float | None:
    """INVITE to the first 2xx: how long it rang, too.  What SIPp's ``uac`` calls response time."""
    return attempt.answered


def disconnect(attempt: CallAttempt) -> Delay | None:
    """SDD, section 4.4: BYE to its 2xx; failed: to another final response, or to Timer F.

    It is a time at the side that hangs up: where that is a stranger, who tells us nothing, there
    is none.
    """
    if attempt.bye_sent is None or (attempt.ended_by == "callee" and not attempt.callee):
        return None
    if attempt.bye_answered is not None:
        return Delay(attempt.bye_answered - attempt.bye_sent, _was_accepted(attempt))
    return None if attempt.ended is None else Delay(attempt.ended - attempt.bye_sent, False)


def completed(attempt: CallAttempt) -> bool:
    """What SCR counts, section 4.9: the call was answered, and a BYE got its 2xx."""
    return (
        attempt.answered is not None
        and attempt.bye_sent is not None
        and attempt.bye_answered is not None
        and _was_accepted(attempt)
    )


def _was_accepted(attempt: CallAttempt) -> bool:
    return attempt.bye_code is None or 200 <= attempt.bye_code < 300


def duration(attempt: CallAttempt) -> Delay | None:
    """SDT, section 4.5: the 2xx to the BYE; failed: to when the call was given up for lost.

    A session whose BYE nobody answered is a failed one (section 4.5.2), and so is one without a
    BYE: its phone died, or the run ended.
    """
    if attempt.answered is None:
        return None
    if attempt.bye_sent is not None and attempt.bye_answered is not None:
        return Delay(attempt.bye_sent - attempt.answered, True)
    return None if attempt.ended is None else Delay(attempt.ended - attempt.answered, False)


def call_duration(attempt: CallAttempt) -> float | None:
    """For how long an answered call was up, however it ended: what ACD is the mean of."""
    if attempt.answered is None:
        return None
    end = attempt.ended if attempt.bye_sent is None else attempt.bye_sent
    return None if end is None else end - attempt.answered
