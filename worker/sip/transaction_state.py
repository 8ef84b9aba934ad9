"""The states of transactions; which of them are whose is drawn in `transactions`."""

from __future__ import annotations

from enum import Enum

__all__ = ["State"]


class State(Enum):
    """States of all four machines; each uses some of them."""

    CALLING = "calling"
    TRYING = "trying"
    PROCEEDING = "proceeding"
    ACCEPTED = "accepted"
    COMPLETED = "completed"
    CONFIRMED = "confirmed"
    TERMINATED = "terminated"
