"""The herd file, read again by a thread: a file of ten thousand phones, or a file system that
hangs, must not hold up the loop."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable

from ..protocol.errors import HerdFileError
from ..protocol.spec import HerdSpec
from .effects import HerdFileBad, HerdFileRead

__all__ = ["HerdFileReader"]


class HerdFileReader:
    """``fd`` is readable when there is a result.

    ``read`` returns what the file says or raises HerdFileError; None: there is no file.
    """

    def __init__(self, read: Callable[[], HerdSpec] | None) -> None:
        self._read = read
        self._results: queue.SimpleQueue[HerdFileRead | HerdFileBad] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    @property
    def has_file(self) -> bool:
        return self._read is not None

    def start(self) -> None:
        """Read it; once for each result that is taken."""
        # Not waited for at the end: a hung file system would hold that up as well.
        self._thread = threading.Thread(target=self._run, name="herd file", daemon=True)
        self._thread.start()

    def result(self) -> HerdFileRead | HerdFileBad | None:
        """What has come of it; None if that is not known yet."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        try:
            return self._results.get_nowait()
        except queue.Empty:
            return None

    def close(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            os.close(self.fd)

    def _run(self) -> None:
        self._results.put(self._outcome())
        os.eventfd_write(self.fd, 1)

    def _outcome(self) -> HerdFileRead | HerdFileBad:
        if self._read is None:
            return HerdFileBad("this herd was not started from a file: there is nothing to reload")
        try:
            return HerdFileRead(self._read())
        except HerdFileError as error:
            first, *others = error.problems
            more = f" (and {len(others)} more, see sipherd check)" if others else ""
            return HerdFileBad(first + more)
        except Exception as error:
            return HerdFileBad(f"can't read the herd file: {type(error).__name__}: {error}")
