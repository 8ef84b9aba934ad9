"""The state machines that more than one process talks about, as literal tables.

A move that is not in its table is a bug of ours: ``check_move`` raises and the caller's state
stays as it was.  The nouns follow the field: a *phone* is a user agent with a life cycle, a
*call* is one leg at one phone.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TypeVar

__all__ = [
    "CALL_MOVES",
    "PHONE_MOVES",
    "CallState",
    "IllegalMove",
    "PhoneState",
    "check_move",
]


class PhoneState(enum.StrEnum):
    """Where a phone is in its life."""

    NEW = "new"
    """In the table, its port reserved, no process yet."""
    STARTING = "starting"
    """A process was asked for; it has not yet adopted its socket."""
    READY = "ready"
    """Welcomed, socket adopted, serving."""
    DRAINING = "draining"
    """Ending its calls; new ones get 503."""
    STOPPED = "stopped"
    """No process, socket closed, number still reserved."""
    BACKOFF = "backoff"
    """Died; will be restarted."""
    FAILED = "failed"
    """Died or could not start; parked until a person or a policy resets it."""


class CallState(enum.StrEnum):
    """Where one leg is."""

    CALLING = "calling"
    """Outgoing, no provisional response yet."""
    RINGING = "ringing"
    """Incoming and not answered, or outgoing with a provisional response."""
    ANSWERED = "answered"
    """A 2xx was sent or received."""
    ENDED = "ended"


PHONE_MOVES: Mapping[PhoneState, frozenset[PhoneState]] = {
    PhoneState.NEW: frozenset({PhoneState.STARTING, PhoneState.STOPPED}),
    PhoneState.STARTING: frozenset(
        {
            PhoneState.READY,
            PhoneState.DRAINING,
            PhoneState.STOPPED,
            PhoneState.BACKOFF,
            PhoneState.FAILED,
        }
    ),
    PhoneState.READY: frozenset(
        {PhoneState.DRAINING, PhoneState.STOPPED, PhoneState.BACKOFF, PhoneState.FAILED}
    ),
    PhoneState.DRAINING: frozenset({PhoneState.STOPPED, PhoneState.STARTING, PhoneState.FAILED}),
    PhoneState.STOPPED: frozenset({PhoneState.STARTING}),
    PhoneState.BACKOFF: frozenset({PhoneState.STARTING, PhoneState.STOPPED, PhoneState.FAILED}),
    PhoneState.FAILED: frozenset({PhoneState.STARTING, PhoneState.STOPPED}),
}

CALL_MOVES: Mapping[CallState, frozenset[CallState]] = {
    CallState.CALLING: frozenset({CallState.RINGING, CallState.ANSWERED, CallState.ENDED}),
    CallState.RINGING: frozenset({CallState.ANSWERED, CallState.ENDED}),
    CallState.ANSWERED: frozenset({CallState.ENDED}),
    CallState.ENDED: frozenset(),
}

S = TypeVar("S", PhoneState, CallState)


class IllegalMove(AssertionError):
    """The table has no such move: a bug of ours, never a peer's mistake."""


def check_move(table: Mapping[S, frozenset[S]], current: S, wanted: S) -> S:
    """Return ``wanted`` if the table allows the move, else raise IllegalMove."""
    if wanted not in table[current]:
        raise IllegalMove(f"no move from {current.value} to {wanted.value}")
    return wanted
