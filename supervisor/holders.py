"""Who has a SIP port or an open file: what /proc tells, for people who must free it.

Descriptors of other users' processes can't be read without root: such a holder stays unknown.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["port_holder", "processes_holding"]

_SHOWN = 3
_LISTEN = "0A"  # <net/tcp_states.h>


def port_holder(address: str, port: int) -> str:
    """``pid 1234 (sipp)`` for a port that a UDP socket or a TCP listener has on this address, or
    on all: ports of other addresses stand in nobody's way.

    "" where nobody is known.
    """
    targets = {f"socket:[{inode}]" for inode in _inodes(address, port)}
    pids = _processes_with(targets) if targets else []
    names = [f"pid {pid} ({_name(pid)})" for pid in pids[:_SHOWN]]
    more = [f"{len(pids) - _SHOWN} more"] if len(pids) > _SHOWN else []
    return ", ".join(names + more)


def processes_holding(path: Path) -> list[int]:
    """Pids of the processes that have this file open, lowest first; this one is among them."""
    return _processes_with({str(path.resolve())})


def _inodes(address: str, port: int) -> set[str]:
    wanted = _packed(address)
    inodes: set[str] = set()
    # A socket on [::] can hold the IPv4 port, too.
    for name in ("udp", "udp6", "tcp", "tcp6"):
        with contextlib.suppress(OSError):  # no IPv6 here
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                local, _, number = fields[1].rpartition(":")
                if int(number, 16) != port or not _overlap(wanted, _unpacked(local)):
                    continue
                # A connection from this port stands in nobody's way.
                if name.startswith("udp") or fields[3] == _LISTEN:
                    inodes.add(fields[9])
    return inodes


def _packed(address: str) -> bytes:
    """The bytes of an address; none for one that is a name, which may be any."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            return socket.inet_pton(family, address)
    return b""


def _unpacked(local: str) -> bytes:
    """The bytes of an address in /proc/net: words of four, each in this machine's order."""
    data = b"".join(
        int(local[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(local), 8)
    )
    mapped = data.removeprefix(bytes(10) + b"\xff\xff")  # IPv4 at an IPv6 socket
    return mapped if len(mapped) == 4 else data


def _overlap(one: bytes, other: bytes) -> bool:
    """Whether they are the same, or one of them is all addresses."""
    return one == other or not any(one) or not any(other)


def _processes_with(targets: set[str]) -> list[int]:
    """Pids of the processes with a descriptor that leads to one of ``targets``."""
    return sorted(pid for pid in _pids() if not targets.isdisjoint(_descriptors(pid)))


def _pids() -> Iterator[int]:
    # os functions on text: Path objects would triple the price of a thousand processes.
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdecimal():
            yield int(name)


def _descriptors(pid: int) -> Iterator[str]:
    folder = f"/proc/{pid}/fd"
    # Gone meanwhile, or not ours to read.
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208
            with contextlib.suppress(OSError):
                yield os.readlink(f"{folder}/{name}")  # noqa: PTH115


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "gone"
