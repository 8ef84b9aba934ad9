"""Signs of life: memory that all phones of a herd and their supervisor share, a slot for each.

A phone's process keeps in its slot when its next sign of life is due, on the monotonic clock:
before it sleeps, when it will wake at the latest; while it works, since when it has been working.
Beside that stands how late it came to its work, and of how many dialogs it has to see the end.
A sign is one store in memory.  As a ZeroMQ message it would cost three times as much and wake the
supervisor each time (docs/decisions/0012).
"""

from __future__ import annotations

import math
import mmap
import struct
from typing import NamedTuple, Protocol

__all__ = ["PULSE_SIZE", "PULSE_SLOTS", "Pulse", "SharedPulse", "Vitals", "read_pulse"]

PULSE_SLOTS = 65536
_SLOT = struct.Struct("dddd")
"""Due, late, dialogs, and nothing: two slots are one line of the processor's cache."""
_DUE, _LATE, _DIALOGS, _ = range(4)
_DOUBLES = 4
_SLOT_LATE = struct.Struct("d")
_MANY = 2.0**53
PULSE_SIZE = PULSE_SLOTS * _SLOT.size
"""Bytes of the memory; what is never touched is never there."""


class Pulse(Protocol):
    """The process's end of its slot."""

    def due(self, when: float) -> None:
        """The next sign of life comes at ``when``, or before."""

    def late(self, seconds: float) -> None:
        """The loop came so much later to something than it could have been done."""

    def dialogs(self, number: int) -> None:
        """So many are to be ended, or begin."""


class Vitals(NamedTuple):
    """What stands in a slot."""

    due: float = 0.0
    """When the next sign of life is due; 0.0 if none was ever promised."""
    late: float = 0.0
    """How late the loop came to something at worst since that was last read, in seconds."""
    dialogs: int = 0
    """Dialogs, early ones too, of which the process has to see the end."""


class SharedPulse:
    """One slot of the shared memory."""

    __slots__ = ("_first", "_slots")

    def __init__(self, memory: mmap.mmap, slot: int) -> None:
        # As an array of doubles: the processor stores one in one piece.
        self._slots = memoryview(memory).cast("d")
        self._first = slot * _DOUBLES

    def due(self, when: float) -> None:
        """The next sign of life comes at ``when``, or before."""
        self._slots[self._first + _DUE] = when

    def late(self, seconds: float) -> None:
        """The loop came so much later to something than it could have been done."""
        # Whoever reads it sets it back.  Right between these two lines that costs one that was
        # less late than another a moment before.
        if seconds > self._slots[self._first + _LATE]:
            self._slots[self._first + _LATE] = seconds

    def dialogs(self, number: int) -> None:
        """So many dialogs are to be ended, or begin."""
        self._slots[self._first + _DIALOGS] = number

    def clear(self) -> None:
        """As if nobody had ever used it."""
        for n in range(_DOUBLES):
            self._slots[self._first + n] = 0.0


def read_pulse(memory: mmap.mmap, slot: int) -> Vitals:
    """What stands in this slot; how late its process was counts anew from here on."""
    due, late, dialogs, _ = _SLOT.unpack_from(memory, slot * _SLOT.size)
    if late:
        _SLOT_LATE.pack_into(memory, slot * _SLOT.size + _LATE * _SLOT_LATE.size, 0.0)
    # A process that writes wildly through memory is not to bring down who reads it.
    late = late if 0.0 <= late < math.inf else 0.0
    return Vitals(due, late, int(dialogs) if 0.0 <= dialogs < _MANY else 0)
