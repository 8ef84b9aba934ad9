"""The phones' processes as the kernel shows them: pidfds, signals, reaping.

A phone is the nursery's child, and the nursery reaps it.  When a nursery died its phones became
this process's children (it is their subreaper): then they are reaped here, each through its pidfd.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from .effects import DeathCause

__all__ = [
    "Key",
    "Process",
    "Processes",
    "become_subreaper",
    "children",
    "has_terminal",
    "inherited_environment",
    "words_of_exit",
]

Key: TypeAlias = tuple[str, int]
"""Phone and incarnation."""

_PR_SET_CHILD_SUBREAPER = 36
# Meant for the supervisor alone: a phone that notified systemd would speak for it.
_NOT_INHERITED = frozenset({"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"})


def become_subreaper() -> None:
    """Orphans among this process's descendants become its children.  Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def has_terminal() -> bool:
    """Whether this process has a controlling terminal: its hang-up would be a SIGHUP."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def children() -> set[int]:
    """Pids of this process's children; empty where the kernel does not list them."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found.update(map(int, (task / "children").read_text().split()))
    return found


def inherited_environment() -> dict[str, str]:
    """The environment of this process's programs."""
    return {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}


def words_of_exit(code: int) -> str:
    """How a process ended, from ``Popen.returncode``: ``exit code 1``, ``SIGKILL``."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


@dataclass(slots=True, eq=False)
class Process:
    """One process of a phone, from the fork to the report of its death."""

    key: Key
    pid: int
    pidfd: int
    is_ours: bool = False
    """Our child, because its nursery is dead: ours to reap."""
    is_gone: bool = False
    """Dead; the cause is still to come."""

    def reap(self) -> DeathCause:
        """End what is left of the dead process's group, then reap it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        try:
            result = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            result = None  # the nursery reaped it with its own last breath
        if result is None:
            return DeathCause(*self.key, None, None)
        if result.si_code == os.CLD_EXITED:
            return DeathCause(*self.key, result.si_status, None)
        return DeathCause(*self.key, None, result.si_status)


class Processes:
    """Processes that were asked for, and those that run."""

    def __init__(self) -> None:
        self._running: dict[Key, Process] = {}
        self._expected: dict[Key, int | None] = {}
        """Asked for and not answered, with the signal to be delivered."""

    def __iter__(self) -> Iterator[Process]:
        return iter(list(self._running.values()))

    def __len__(self) -> int:
        return len(self._running)

    def get(self, key: Key) -> Process | None:
        return self._running.get(key)

    def expect(self, key: Key) -> None:
        """The nursery was asked for this one."""
        self._expected[key] = None

    def is_expected(self, key: Key) -> bool:
        """Asked for and not answered."""
        return key in self._expected

    def is_any_expected(self) -> bool:
        """Whether the nursery owes an answer."""
        return bool(self._expected)

    def give_up_expected(self) -> list[Key]:
        """The nursery died: nobody answers any more.

        Returns those that were to be killed as soon as they are there: that is done.
        """
        killed = [key for key, number in self._expected.items() if number == signal.SIGKILL]
        self._expected.clear()
        return killed

    def failed(self, key: Key) -> None:
        """There will be no such process."""
        self._expected.pop(key, None)

    def add(self, key: Key, pid: int, pidfd: int) -> Process:
        """It runs; a signal that came too early for it is sent now."""
        process = self._running[key] = Process(key, pid, pidfd)
        number = self._expected.pop(key, None)
        if number is not None:
            self.signal(key, number)
        return process

    def remove(self, process: Process) -> None:
        """It is dead and its cause is known, or nobody will tell it."""
        del self._running[process.key]
        os.close(process.pidfd)

    def signal(self, key: Key, number: int) -> None:
        """Send a signal, now or once the process is there; nothing if there is none."""
        process = self._running.get(key)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process.pidfd, number)
        elif key in self._expected:
            earlier = self._expected[key]
            # SIGKILL is the last word.
            self._expected[key] = signal.SIGKILL if earlier == signal.SIGKILL else number
