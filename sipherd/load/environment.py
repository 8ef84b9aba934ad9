"""What a reader of a run wants to know of the box it ran on."""

from __future__ import annotations

import os
import platform
import resource
import socket
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import zmq

from ..render import megabytes
from .machine import this_machine

__all__ = ["environment"]

_PACKAGES = ("sipherd", "pyVoIP", "pyzmq", "msgspec", "multiprocess")


def environment(root: Path = Path("/")) -> dict[str, Any]:
    """The facts, for ``RunFacts.environment``; `root` is where `/proc` and `/sys` are found.

    Nothing in it is a secret: neither arguments nor variables of the environment.
    """
    machine = this_machine(root)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return {
        "host": socket.gethostname(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {name: found for name in _PACKAGES if (found := _version(name))}
        | {"libzmq": zmq.zmq_version()},
        "cpu": _model(root) or platform.machine(),
        "cores": os.cpu_count() or 0,
        "usable_cores": machine.processors,
        "memory": _memory(root),
        "memory_available": megabytes(machine.memory),
        "load_average": list(os.getloadavg()),
        "descriptors": {"soft": _limit(soft), "hard": _limit(hard)},
        "rmem_max": _number(root / "proc/sys/net/core/rmem_max"),
        "switch_interval": sys.getswitchinterval(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from its source tree
        return ""


def _model(root: Path) -> str:
    for line in _read(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return ""


def _memory(root: Path) -> str:
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return megabytes(int(line.split()[1]) * 1024)
    return ""


def _limit(value: int) -> int | None:
    """None: there is none."""
    return None if value == resource.RLIM_INFINITY else value


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdecimal() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
