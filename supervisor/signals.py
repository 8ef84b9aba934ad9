"""Signals as bytes in a pipe, for the loop to read in its turn."""

from __future__ import annotations

import os
import signal
from types import TracebackType

__all__ = ["SignalPipe"]


class SignalPipe:
    """From here on SIGINT, SIGTERM, SIGHUP and SIGUSR1 interrupt nothing; ``fd`` tells of them.

    The handlers stay when it is closed: a process that is on its way out has no use for a
    KeyboardInterrupt.  Only the main thread can make one.
    """

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, _ignore)
        signal.signal(signal.SIGTERM, _ignore)
        signal.signal(signal.SIGUSR1, _ignore)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            signal.signal(signal.SIGHUP, _ignore)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def __enter__(self) -> SignalPipe:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        signal.set_wakeup_fd(-1)
        os.close(self.fd)
        os.close(self._write_fd)

    def read(self) -> bytes:
        """The numbers of the signals that came, oldest first."""
        try:
            return os.read(self.fd, 256)
        except BlockingIOError:
            return b""


def _ignore(number: int, frame: object) -> None:
    """A handler must be there for the wake-up descriptor to be written to."""
