"""What this machine has to give to a run, as the kernel tells it."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Machine", "this_machine"]


class Machine(NamedTuple):
    """What may be used; None where nobody says."""

    processors: float
    """That this process may use; a quota may make it a broken number."""
    memory: int | None
    """Bytes that are available without swapping."""
    tasks: int | None
    """Processes and threads that may be started beside those that there are, at the most."""
    descriptors: int | None
    """That each process may have, with its limit raised as far as it can be."""


def this_machine(root: Path = Path("/")) -> Machine:
    """What there is now; `root` is where `/proc` and `/sys` are found."""
    groups = list(_groups(root))
    processors = float(len(os.sched_getaffinity(0)))
    memory = [_available(root)]
    tasks = [_task_room(root), _user_limit()]
    for group in groups:
        processors = min(processors, _quota(group / "cpu.max"))
        memory.append(_room(group / "memory.max", group / "memory.current"))
        tasks.append(_room(group / "pids.max", group / "pids.current"))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Machine(
        processors=processors,
        memory=_least(memory),
        tasks=_least(tasks),
        descriptors=None if hard == resource.RLIM_INFINITY else hard,
    )


def _groups(root: Path) -> Iterator[Path]:
    """This process's control group (version 2) and those above it: each may have a limit."""
    top = root / "sys/fs/cgroup"
    lines = (_read(root / "proc/self/cgroup") or "").splitlines()
    path = next((line[3:] for line in lines if line.startswith("0::")), None)
    if path is None:
        return
    group = top / path.lstrip("/")
    while group.is_relative_to(top):
        yield group
        group = group.parent


def _available(root: Path) -> int | None:
    for line in (_read(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _task_room(root: Path) -> int | None:
    """Of the whole machine: threads and process numbers."""
    limits = [_number(root / f"proc/sys/kernel/{name}") for name in ("threads-max", "pid_max")]
    # The fourth field of loadavg: tasks that run, and all.
    used = int((_read(root / "proc/loadavg") or "0 0 0 0/0 0").split()[3].partition("/")[2])
    limit = _least(limits)
    return None if limit is None else max(0, limit - used)


def _user_limit() -> int | None:
    """Of a user's tasks; root has none.  How many there are of them is not told."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    return None if soft == resource.RLIM_INFINITY or os.geteuid() == 0 else soft


def _room(limit: Path, used: Path) -> int | None:
    most = _number(limit)
    return None if most is None else max(0, most - (_number(used) or 0))


def _quota(path: Path) -> float:
    """Processors that a group may use: microseconds in a period, and the period."""
    quota, _, period = (_read(path) or "max").strip().partition(" ")
    return float("inf") if quota == "max" or not period else int(quota) / int(period)


def _number(path: Path) -> int | None:
    text = (_read(path) or "").strip()
    return int(text) if text.isdecimal() else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def _least(numbers: list[int | None]) -> int | None:
    return min((number for number in numbers if number is not None), default=None)
