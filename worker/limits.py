"""The ceilings of the process (`limits` in the herd file), put up before its loop runs."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from ..protocol.limits import Limits

__all__ = ["limit_memory", "limit_others"]


def limit_others(limits: Limits) -> None:
    """Descriptors and processors.  Raises OSError: there is no such processor."""
    if limits.descriptors is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        ceiling = limits.descriptors
        if hard != resource.RLIM_INFINITY:
            ceiling = min(ceiling, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, ceiling))
    if limits.cpus is not None:
        os.sched_setaffinity(0, limits.cpus)


def limit_memory(limits: Limits) -> None:
    """Let the process allocate so much more than it has now: a larger demand is a MemoryError.

    By RLIMIT_DATA, which counts private memory that can be written to.  RLIMIT_AS would count what
    is only reserved as well: each thread reserves 72 MB (docs/decisions/0013).  To be called when
    ZeroMQ has its threads, whose stacks count though they are hardly touched.
    """
    if limits.memory is not None:
        ceiling = _allocated() + limits.memory
        resource.setrlimit(resource.RLIMIT_DATA, (ceiling, ceiling))


def _allocated() -> int:
    """What RLIMIT_DATA counts so far, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmData":
            return int(value.split()[0]) * 1024
    raise OSError("no VmData in /proc/self/status")
