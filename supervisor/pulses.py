"""The supervisor's side of the signs of life (``protocol.pulse``): who has which slot.

Also what the kernel says of a process whose sign is overdue: whether it is stopped.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from collections.abc import Collection
from pathlib import Path

from ..protocol.pulse import PULSE_SIZE, PULSE_SLOTS, SharedPulse, Vitals, read_pulse
from .processes import Key

__all__ = ["Pulses", "run_state"]


class Pulses:
    """The shared memory, and the slots that are given out."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("sipherd-pulses", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        """To be inherited by the nursery."""
        os.ftruncate(self.fd, PULSE_SIZE)
        # Reading what somebody had cut off would end this process.
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
        self._memory = mmap.mmap(self.fd, PULSE_SIZE)
        self._slots: dict[Key, int] = {}
        self._free: list[int] = []
        self._fresh = 0

    def lease(self, key: Key) -> int:
        """A slot for a process to come, with nothing in it.  Raises OSError: there is none."""
        if self._free:
            slot = self._free.pop()
        elif self._fresh < PULSE_SLOTS:
            slot, self._fresh = self._fresh, self._fresh + 1
        else:
            raise OSError(f"more than {PULSE_SLOTS} processes")
        self._slots[key] = slot
        SharedPulse(self._memory, slot).clear()
        return slot

    def release(self, key: Key) -> None:
        """The process is dead, or never was; harmless the second time."""
        slot = self._slots.pop(key, None)
        if slot is not None:
            self._free.append(slot)

    def release_all_but(self, keys: Collection[Key]) -> None:
        """Only these processes live."""
        for key in self._slots.keys() - set(keys):
            self.release(key)

    def read(self, key: Key) -> Vitals:
        """What this process says of itself."""
        return read_pulse(self._memory, self._slots[key])

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
        os.close(self.fd)


def run_state(pid: int) -> str:
    """The letter in /proc/PID/stat; "" for a process that is gone."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""
