"""The journals of the phones: memory files that outlive each phone's process.

The supervisor only keeps them; what is in them is the worker's (`sipherd.worker.journal`).
"""

from __future__ import annotations

import os

from ..protocol.fork import JOURNAL_BLOCK

__all__ = ["Journals"]


class Journals:
    """One memory file for each phone that has been started, by its name."""

    def __init__(self) -> None:
        self._fds: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._fds)

    def open(self, phone: str) -> int:
        """Descriptor of the phone's journal, made when first asked for.  Raises OSError."""
        fd = self._fds.get(phone)
        if fd is None:
            fd = self._fds[phone] = os.memfd_create("sipherd-journal", os.MFD_CLOEXEC)
        return fd

    def is_used(self, phone: str) -> bool:
        """Whether a record was ever written: they come after the first block."""
        fd = self._fds.get(phone)
        return fd is not None and os.fstat(fd).st_size > JOURNAL_BLOCK

    def close(self, phone: str) -> None:
        """Forget the phone's journal; harmless where it has none."""
        fd = self._fds.pop(phone, None)
        if fd is not None:
            os.close(fd)

    def close_all(self) -> None:
        """Forget every journal."""
        for phone in list(self._fds):
            self.close(phone)
