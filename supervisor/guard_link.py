"""The supervisor's end of the guard: started, and started again when it dies."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable

from . import guard
from .log import Log
from .poller import Poller, Turn
from .processes import inherited_environment, words_of_exit

__all__ = ["GuardLink"]

MAX_DEATHS = 5
DEATHS_WITHIN = 60.0
"""Seconds; a guard that dies more than MAX_DEATHS times within them is not started again."""


class GuardLink:
    """One guard at a time, with the read end of the lifeline.

    A herd without one runs as well as ever: what fails here is logged and no more.
    """

    def __init__(
        self,
        lifeline_fd: int,
        *,
        poller: Poller,
        log: Log,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lifeline_fd = lifeline_fd
        self._poller = poller
        self._log = log
        self._clock = clock
        self._deaths: deque[float] = deque()
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._start()

    @property
    def pid(self) -> int:
        """0 when there is none."""
        return self._process.pid if self._process else 0

    def _start(self) -> None:
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, str(self._lifeline_fd)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(self._lifeline_fd,),
                env=inherited_environment(),
                start_new_session=True,
            )
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError as error:
            self._log.write("error", "no_guard", error=str(error))
            self.stop()
            return
        self._poller.add(self._pidfd, Turn.PROCESSES, self._on_dead)

    def _on_dead(self) -> None:
        assert self._process is not None
        self._log.write(
            "error",
            "guard_died",
            pid=self._process.pid,
            cause=words_of_exit(self._process.wait()),
        )
        self.stop()
        now = self._clock()
        self._deaths.append(now)
        while self._deaths[0] <= now - DEATHS_WITHIN:
            self._deaths.popleft()
        if len(self._deaths) > MAX_DEATHS:
            self._log.write("error", "no_guard", error=f"it died {len(self._deaths)} times")
            return
        self._start()

    def stop(self) -> None:
        """End it: the supervisor itself sees to the herd's end.  Can be called more than once."""
        if self._pidfd >= 0:
            self._poller.remove(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
