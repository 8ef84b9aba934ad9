"""What the kernel tells of this machine, from files like its own."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from pathlib import Path

import pytest

from sipherd.load.machine import Machine, this_machine

FILES = {
    "proc/meminfo": "MemTotal: 2000 kB\nMemAvailable:    1000 kB\nBuffers: 1 kB\n",
    "proc/sys/kernel/threads-max": "5000\n",
    "proc/sys/kernel/pid_max": "4000\n",
    "proc/loadavg": "0.1 0.2 0.3 2/1000 4711\n",
    "proc/self/cgroup": "0::/herd/run\n",
}


@pytest.fixture(autouse=True)
def _four_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)))
    unlimited = resource.RLIM_INFINITY
    limits = {resource.RLIMIT_NOFILE: (1024, 20000), resource.RLIMIT_NPROC: (unlimited, unlimited)}
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)


def machine(root: Path, files: Mapping[str, str]) -> Machine:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return this_machine(root)


def test_without_control_groups(tmp_path: Path) -> None:
    assert machine(tmp_path, FILES) == Machine(4, 1000 * 1024, 3000, 20000)


def test_a_group_and_those_above_it_have_limits(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/herd"
    limits = {
        f"{group}/run/memory.max": "max\n",
        f"{group}/memory.max": "500000\n",
        f"{group}/memory.current": "100000\n",
        f"{group}/run/pids.max": "100\n",
        f"{group}/run/pids.current": "40\n",
        f"{group}/cpu.max": "150000 100000\n",
        f"{group}/run/cpu.max": "max 100000\n",
    }
    assert machine(tmp_path, FILES | limits) == Machine(1.5, 400_000, 60, 20000)


def test_a_group_that_is_full_has_no_room(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/herd/run"
    full = {f"{group}/pids.max": "40\n", f"{group}/pids.current": "41\n"}
    assert machine(tmp_path, FILES | full).tasks == 0


def test_what_is_not_told_is_not_known(tmp_path: Path) -> None:
    assert machine(tmp_path, {}) == Machine(4, None, None, 20000)


def test_this_machine() -> None:
    found = this_machine()
    assert found.memory is not None
    assert found.memory > 0
    assert found.tasks is not None
