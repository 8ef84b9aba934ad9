"""A runner that lives in another process, to be told to end its run."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

from .closing import Closing
from .rundir import runner_of

__all__ = ["RunnerHandle"]


class RunnerHandle(Closing):
    """The process that makes the run in a directory.

    Raises:
        ProcessLookupError: nobody makes it.
        StoreError: nobody can tell.
    """

    def __init__(self, directory: Path) -> None:
        pid = runner_of(directory)
        if not pid:
            raise ProcessLookupError(f"{directory} is not under way")
        self.pid = pid
        self._fd = os.pidfd_open(pid)
        # It may have ended before that, and its number be another's.
        if runner_of(directory) != pid:
            os.close(self._fd)
            raise ProcessLookupError(f"{directory} is not under way")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; one that is gone by now needs none.

        Raises:
            PermissionError: it is somebody else's.
        """
        try:
            signal.pidfd_send_signal(self._fd, number)
        except ProcessLookupError:
            return

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it is gone, now or within `timeout` seconds."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(None if timeout is None else timeout * 1000))

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)
