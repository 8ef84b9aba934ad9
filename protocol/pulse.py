"""Signs of life: memory that all phones of a herd and their supervisor share, a slot for each.

A phone's process keeps in its slot when its next sign of life is due, on the monotonic clock:
before it sleeps, when it will wake at the latest; while it works, since when it has been working.
A sign is one store in memory.  As a ZeroMQ message it would cost three times as much and wake the
supervisor each time (docs/decisions/0012).
"""

from __future__ import annotations

import mmap
import struct
from typing import Protocol

__all__ = ["PULSE_SIZE", "PULSE_SLOTS", "Pulse", "SharedPulse", "read_pulse"]

PULSE_SLOTS = 65536
_SLOT = struct.Struct("d")
PULSE_SIZE = PULSE_SLOTS * _SLOT.size
"""Bytes of the memory; what is never touched is never there."""


class Pulse(Protocol):
    """The process's end of its slot."""

    def due(self, when: float) -> None:
        """The next sign of life comes at ``when``, or before."""


class SharedPulse:
    """One slot of the shared memory."""

    __slots__ = ("_slot", "_slots")

    def __init__(self, memory: mmap.mmap, slot: int) -> None:
        # As an array of doubles: the processor stores one in one piece.
        self._slots = memoryview(memory).cast("d")
        self._slot = slot

    def due(self, when: float) -> None:
        """The next sign of life comes at ``when``, or before."""
        self._slots[self._slot] = when


def read_pulse(memory: mmap.mmap, slot: int) -> float:
    """When this slot's next sign of life is due; 0.0 if none was ever promised."""
    due: float = _SLOT.unpack_from(memory, slot * _SLOT.size)[0]
    return due
