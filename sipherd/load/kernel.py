"""What the kernel tells of this box and of the herd's processes: plain readings of ``/proc``.

Readers of what grows for ever remember what they have read: the next reading is what came since.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "Cpu",
    "Drops",
    "UdpSocket",
    "Usage",
    "offspring",
    "open_sockets",
    "process_name",
    "udp_sockets",
    "usage",
]

PROC = Path("/proc")

#: Fields of a processor in /proc/stat: user nice system idle iowait irq softirq steal.
_IDLE, _IOWAIT, _STEAL = 3, 4, 7


class Cpu:
    """How busy the processors are that this process may use, whoever uses them."""

    def __init__(self, proc: Path = PROC, cpus: Collection[int] | None = None) -> None:
        self._proc = proc
        self._cpus = os.sched_getaffinity(0) if cpus is None else cpus
        self._before = self._read()

    def busy(self) -> float:
        """Share of them that was busy since the last reading, 0 to 1."""
        before, self._before = self._before, self._read()
        busy, whole = (now - then for now, then in zip(self._before, before, strict=True))
        # The kernel's count of idle time may go back a little.
        return min(max(busy / whole, 0.0), 1.0) if whole > 0 else 0.0

    def _read(self) -> tuple[int, int]:
        """Ticks that were busy, and all of them."""
        busy = whole = 0
        for line in (self._proc / "stat").read_text().splitlines():
            name, *fields = line.split()
            if name[:3] == "cpu" and name[3:].isdigit() and int(name[3:]) in self._cpus:
                # What a guest took is counted in user and nice.
                ticks = [int(field) for field in fields[: _STEAL + 1]]
                whole += sum(ticks)
                busy += sum(ticks) - ticks[_IDLE] - ticks[_IOWAIT]
        return busy, whole


class UdpSocket(NamedTuple):
    """A UDP socket of a process's network."""

    host: str
    port: int
    inode: int
    drops: int
    """Datagrams that the kernel threw away for want of room in it."""


def udp_sockets(pid: int, proc: Path = PROC) -> Iterator[UdpSocket]:
    """Those of the network that process `pid` is in."""
    for table in ("udp", "udp6"):
        with contextlib.suppress(OSError):  # no IPv6, or the process is gone
            for line in (proc / f"{pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                address, _, port = fields[1].partition(":")
                host = _host(address)
                yield UdpSocket(host, int(port, 16), int(fields[9]), int(fields[-1]))


def _host(words: str) -> str:
    """An address as the kernel prints it: 32-bit words, each in this machine's byte order."""
    raw = b"".join(
        int(words[n : n + 8], 16).to_bytes(4, sys.byteorder) for n in range(0, len(words), 8)
    )
    return str(ipaddress.ip_address(raw))


class Drops:
    """Datagrams that the kernel threw away for want of room in the sockets of some addresses."""

    def __init__(self, pid: int, addresses: Collection[tuple[str, int]], proc: Path = PROC) -> None:
        self._pid = pid
        self._proc = proc
        self._addresses = frozenset(addresses)
        self._before = {socket.inode: socket.drops for socket in self._sockets()}

    def since_last(self) -> int:
        """So many since the last reading.  A socket that was bound since had none."""
        now = {socket.inode: socket.drops for socket in self._sockets()}
        new = sum(max(drops - self._before.get(inode, 0), 0) for inode, drops in now.items())
        self._before = now
        return new

    def watch(self, addresses: Collection[tuple[str, int]]) -> None:
        """From now on these."""
        self._addresses = frozenset(addresses)

    def _sockets(self) -> Iterator[UdpSocket]:
        for socket in udp_sockets(self._pid, self._proc):
            if (socket.host, socket.port) in self._addresses:
                yield socket


class Usage(NamedTuple):
    """What a process takes."""

    memory: int
    """Bytes that no other process shares (USS)."""
    fds: int
    threads: int


def usage(pid: int, proc: Path = PROC) -> Usage | None:
    """What process `pid` takes now; None: it is gone, or not ours to look at."""
    folder = proc / str(pid)
    try:
        memory = sum(
            int(line.split()[1]) * 1024
            for line in (folder / "smaps_rollup").read_text().splitlines()
            if line.startswith(("Private_Clean:", "Private_Dirty:", "Private_Hugetlb:"))
        )
        # The numbers are all that is wanted of them: a Path for each costs more than the rest.
        fds = len(os.listdir(folder / "fd"))  # noqa: PTH208
        threads = len(os.listdir(folder / "task"))  # noqa: PTH208
    except OSError:
        return None
    return Usage(memory, fds, threads)


def offspring(pid: int, proc: Path = PROC) -> dict[int, int]:
    """Every living descendant of process `pid`, and whose child it is."""
    parents: dict[int, int] = {}
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it has just gone
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state not in ("Z", "X"):
                parents[int(folder.name)] = int(parent)
    found: dict[int, int] = {}
    generation = {pid}
    while generation:
        children = {child for child, parent in parents.items() if parent in generation}
        found.update((child, parents[child]) for child in children)
        generation = children
    return found


def open_sockets(pid: int, proc: Path = PROC) -> set[int]:
    """Inodes of the sockets that process `pid` has open; none if it is gone."""
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for entry in (proc / f"{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                target = str(entry.readlink())
                if target.startswith("socket:["):
                    found.add(int(target[8:-1]))
    return found


def process_name(pid: int, proc: Path = PROC) -> str:
    """What process `pid` calls itself; empty if it is gone."""
    with contextlib.suppress(OSError):
        return (proc / f"{pid}/comm").read_text(errors="replace").rstrip("\n")
    return ""
