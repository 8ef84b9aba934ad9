"""What the kernel knows of a process: memory, threads, descriptors, ports, how often it slept."""

from __future__ import annotations

import contextlib
from pathlib import Path

__all__ = ["descriptors", "private_kilobytes", "sleeps", "threads", "udp_ports"]


def private_kilobytes(pid: int) -> int:
    """Memory that is this process's alone (USS)."""
    sizes = {
        line.split()[0]: int(line.split()[1])
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    }
    return sizes["Private_Clean:"] + sizes["Private_Dirty:"]


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def descriptors(pid: int) -> dict[int, str]:
    """What each open descriptor leads to."""
    found = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found[int(link.name)] = str(link.readlink())
    return found


def udp_ports(pid: int) -> set[int]:
    """Ports that its UDP sockets are bound to, IPv4."""
    inodes = set(descriptors(pid).values())
    lines = Path(f"/proc/{pid}/net/udp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return {int(row[1].partition(":")[2], 16) for row in rows if f"socket:[{row[9]}]" in inodes}


def sleeps(pid: int) -> int:
    """How often its first thread has waited for something: it grows by one each time it wakes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches:"):
            return int(line.split()[1])
    raise LookupError(f"process {pid} has no count of context switches")
