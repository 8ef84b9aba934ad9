"""Which directory is a run's, and whether the run still goes on.

Runs are below ``runs`` of the current directory, unless a run was given another place.  The runner
holds a lock (flock) on ``RUN/lock`` from before it writes ``run.json`` until it is gone, by
whatever means: a run that nobody holds is over, whatever its ``run.json`` says.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from datetime import datetime
from pathlib import Path

import msgspec

from .closing import Closing
from .store import FACTS, StoreError

__all__ = ["LOCK", "RUNS", "RunLock", "find", "fresh", "going_on", "newest", "runner_of"]

RUNS = Path("runs")
"""Where runs are, from the current directory."""
LOCK = "lock"
"""What is locked in a run's directory."""
_WAIT = 1.0
"""Seconds that a runner waits for the lock: who looks whether it is taken has it for a moment."""


class RunLock(Closing):
    """Says that the run of this directory goes on; the directory is made.

    Held until ``close``, or until this process is gone.  A process forked from this one would hold
    it, too; one that is exec'd doesn't.

    Raises:
        StoreError: Another process holds it, or it can't be written.

    """

    def __init__(self, directory: Path) -> None:
        path = directory / LOCK
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(f"{path}: can't be written: {error.strerror}") from error
        try:
            self._take(directory)
            os.truncate(self._fd, 0)
            os.write(self._fd, b"%d\n" % os.getpid())
        except BaseException:
            self.close()
            raise

    def _take(self, directory: Path) -> None:
        deadline = time.monotonic() + _WAIT
        while True:
            try:
                return fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"{directory}: its run still goes on: name another directory"
                    ) from None
            time.sleep(0.01)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)


def runner_of(directory: Path) -> int | None:
    """The pid of the process that runs the run of this directory; None: it is over.

    Raises:
        StoreError: Nobody can tell, for the lock can't be read.

    """
    path = directory / LOCK
    try:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read(20) or 0)
            return None
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: can't be read: {error}") from error


def fresh(below: Path = RUNS, now: datetime | None = None) -> Path:
    """A directory for a new run, called by the time of day; it does not exist yet."""
    name = f"{now or datetime.now():%Y-%m-%dT%H-%M-%S}"
    found, n = below / name, 1
    while found.exists():
        n += 1
        found = below / f"{name}-{n}"
    return found


def find(run: str | Path | None, below: Path = RUNS) -> Path:
    """The directory of a run: a path, the name of a run below `below`, or None for the newest.

    Raises:
        StoreError: There is none.

    """
    if run is None:
        return newest(below)
    for directory in (Path(run), below / run):
        if (directory / FACTS).exists():
            return directory
    if Path(run).is_dir():
        raise StoreError(f"{run} holds no run: it has no {FACTS}")
    raise StoreError(f"{run}: there is no such run, nor is one of this name in {below}")


def newest(below: Path = RUNS) -> Path:
    """The directory of the run that was started last.

    Raises:
        StoreError: There is none.

    """
    runs = []
    for path in below.glob(f"*/{FACTS}"):
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            begun = msgspec.json.decode(path.read_bytes(), type=_Begun)
            runs.append((begun.started_at, path.parent))
    if not runs:
        raise StoreError(
            f"no run is in {below.absolute()}: name the directory of one, or change to where "
            "`sipherd load` was run"
        )
    return max(runs)[1]


def going_on(below: Path = RUNS) -> Path:
    """The directory of the one run here that still goes on.

    Raises:
        StoreError: There is none, or more than one.

    """
    found = sorted(path.parent for path in below.glob(f"*/{FACTS}") if runner_of(path.parent))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise StoreError(f"{len(found)} runs in {below.absolute()} go on, say which: {names}")
    raise StoreError(
        f"no run in {below.absolute()} goes on: name its directory, or change to where "
        "`sipherd load` was run"
    )


class _Begun(msgspec.Struct):
    started_at: float
