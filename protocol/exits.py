"""Exit codes of a phone's process, and what they say to the restart policy.

A closed list: any other code, and every signal, is a crash that may not happen again.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

__all__ = ["DO_NOT_RETRY", "WorkerExit"]


class WorkerExit(enum.IntEnum):
    """How a phone's process leaves by itself."""

    CLEAN = 0
    """It had nothing left to do."""
    CRASHED = 1
    """An exception that nobody caught."""
    BEHAVIOUR = 76
    """The function that it ran for a client raised."""
    MEMORY = 77
    """It reached its memory ceiling, or the machine had no more."""
    CONFIGURATION = 78
    """It can't serve what it was welcomed with (EX_CONFIG of sysexits.h): its limits, or a
    behaviour that can't be loaded."""


DO_NOT_RETRY: Mapping[int, str] = {
    WorkerExit.CONFIGURATION: "it refused its configuration",
}
"""Codes after which another start would end the same way, and what they mean."""
