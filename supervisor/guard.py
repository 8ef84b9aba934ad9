"""The guard: a program that ends what is left of a herd when its supervisor is dead.

    python -I -S guard.py LIFELINE_FD

The nursery does the same, but it can be killed with the supervisor, and a phone that is stopped, or
in a loop that keeps the interpreter to itself, does not see the end of the lifeline.  Whoever has
the read end of this very pipe is a process of the herd, so nobody needs to tell the guard of any.
It is a program of its own, with nothing but the standard library, and not a fork: it must live when
its parent dies, it has a hundredth part of the nursery's code to go wrong, and costs 4 MB.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterator

GRACE = 0.6
"""Seconds that the herd gets to leave by itself: a phone that can does so within 0.5."""
PATIENCE = 5.0
"""Seconds for the kernel to end what was killed."""
AGAIN = 0.02


def main(lifeline_fd: int) -> None:
    """Wait for the end of the lifeline, and then for that of every process that has it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as comm:  # noqa: PTH123
        comm.write("sipherd-guard")
    poll = select.poll()
    poll.register(lifeline_fd, 0)
    poll.poll()  # POLLHUP: the last write end is closed
    time.sleep(GRACE)
    pipe = os.readlink(f"/proc/self/fd/{lifeline_fd}")  # noqa: PTH115
    deadline = time.monotonic() + PATIENCE
    while (left := list(holders(pipe))) and time.monotonic() < deadline:
        for pid in left:
            # A phone leads its own group, and what it started must not outlive it.
            for kill in (os.killpg, os.kill):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    kill(pid, signal.SIGKILL)
        time.sleep(AGAIN)


def holders(pipe: str) -> Iterator[int]:
    """Other processes with a descriptor that leads to ``pipe``, as /proc shows it."""
    for name in os.listdir("/proc"):  # noqa: PTH208
        if not name.isdecimal() or int(name) == os.getpid():
            continue
        folder = f"/proc/{name}/fd"
        with contextlib.suppress(OSError):  # it is gone, or not ours to look at
            if any(_leads_to(f"{folder}/{fd}", pipe) for fd in os.listdir(folder)):  # noqa: PTH208
                yield int(name)


def _leads_to(link: str, target: str) -> bool:
    try:
        return os.readlink(link) == target  # noqa: PTH115
    except OSError:
        return False


if __name__ == "__main__":
    main(int(sys.argv[1]))
