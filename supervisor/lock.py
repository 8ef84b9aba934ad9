"""One supervisor per herd: the lock, and the files of herds that nobody runs any more.

The lock is a flock on a descriptor that nursery and workers inherit, so it lives until the last
of them is gone.  A lock file is unlinked only by who holds its lock, and who gets a lock looks
whether the path still leads to its file: so two can never hold the lock of one name.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path

from ..protocol.errors import RuntimeDirectoryError, SipherdError
from ..protocol.paths import HerdPaths
from .holders import processes_holding

__all__ = ["PATIENCE", "HerdIsRunning", "HerdLock", "sweep_private"]

PATIENCE = 3.0
"""Seconds that a dying herd of this name gets to let go."""
_POLL = 0.05


class HerdIsRunning(SipherdError):
    """Processes of a herd of this name hold its lock; the message names them."""


class HerdLock:
    """The lock of a herd, held from here until ``close``.

    Raises:
        HerdIsRunning: somebody else held it for all of ``patience`` seconds.
        RuntimeDirectoryError: the lock file can't be opened.
    """

    def __init__(self, herd: str, paths: HerdPaths, patience: float = PATIENCE) -> None:
        self._path = paths.lock
        deadline = time.monotonic() + patience
        while (fd := _try(self._path)) is None:
            if time.monotonic() >= deadline:
                raise HerdIsRunning(_who_runs(herd, self._path))
            time.sleep(_POLL)
        self.fd = fd
        """To be inherited by every process of the herd."""
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)  # who of the holders is the supervisor

    def close(self, *, unlink: bool) -> None:
        """Let go; ``unlink`` only when no other process of the herd is left."""
        if unlink:
            self._path.unlink(missing_ok=True)
        os.close(self.fd)


def sweep_private(directory: Path) -> None:
    """Remove the files of private herds that were killed: their names never come again."""
    for lock in directory.glob("private-*.lock"):
        with contextlib.suppress(OSError, RuntimeDirectoryError):
            fd = _try(lock)
            if fd is None:
                continue
            try:
                _unlink_sockets(HerdPaths(directory, lock.stem))
                lock.unlink()
            finally:
                os.close(fd)


def _unlink_sockets(paths: HerdPaths) -> None:
    for path in (paths.control, paths.workers):
        path.unlink(missing_ok=True)


def _try(path: Path) -> int | None:
    """The locked descriptor; None while somebody else has the lock.  Raises as HerdLock does."""
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise RuntimeDirectoryError(
                f"lock file {path}: {error.strerror}; remove it, or name another directory with "
                "--runtime-dir or SIPHERD_RUNTIME_DIR"
            ) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last holder may have unlinked it between our open and our flock.
            if os.path.samestat(os.fstat(fd), path.stat()):
                return fd
        except BlockingIOError:
            os.close(fd)
            return None
        except FileNotFoundError:
            pass
        os.close(fd)


def _who_runs(herd: str, path: Path) -> str:
    pids = processes_holding(path)
    supervisor = 0
    with contextlib.suppress(OSError, ValueError):
        supervisor = int(path.read_text())
    if supervisor in pids:
        return (
            f'herd "{herd}" is already running (pid {supervisor}); stop it with: '
            f"sipherd stop --herd {herd}, or give this one another name"
        )
    left = f" ({_pid_list(pids)})" if pids else ""
    return (
        f'processes of an earlier herd "{herd}"{left} still hold {path}; '
        "end them, or give this one another name"
    )


def _pid_list(pids: list[int]) -> str:
    shown = ", ".join(map(str, pids[:5])) + (" …" if len(pids) > 5 else "")
    return f"pid {shown}" if len(pids) == 1 else f"pids {shown}"
