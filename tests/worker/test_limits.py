"""The ceilings of a phone's process, each put up in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sipherd

START = """
import os, resource
from sipherd.protocol.limits import Limits
from sipherd.worker.limits import limit_memory, limit_others
"""


def run(code: str) -> str:
    """What it prints."""
    done = subprocess.run(
        [sys.executable, "-c", START + code],
        env=os.environ | {"PYTHONPATH": str(Path(sipherd.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_memory() -> None:
    code = """
limit_memory(Limits(memory=50_000_000))
kept = []
try:
    while True:
        kept.append(bytearray(1_000_000))
except MemoryError:
    count, kept = len(kept), None
    print(count)
"""
    assert 45 <= int(run(code)) <= 51


def test_what_is_only_reserved_does_not_count() -> None:
    code = """
import mmap
limit_memory(Limits(memory=50_000_000))
mmap.mmap(-1, 10_000_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
print("fine")
"""
    assert run(code) == "fine"


def test_descriptors() -> None:
    code = """
limit_others(Limits(descriptors=64))
found = []
try:
    while True:
        found.append(os.dup(0))
except OSError as error:
    print(max(found), error.strerror, resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    assert run(code) == "63 Too many open files (64, 64)"


def test_cpus() -> None:
    cpu = max(os.sched_getaffinity(0))
    code = f"limit_others(Limits(cpus=({cpu},))); print(os.sched_getaffinity(0))"
    assert run(code) == f"{{{cpu}}}"


def test_nothing_is_limited_by_default() -> None:
    code = """
def limits(): return [resource.getrlimit(w) for w in (resource.RLIMIT_DATA, resource.RLIMIT_NOFILE)]
before = limits(), os.sched_getaffinity(0)
limit_memory(Limits())
limit_others(Limits())
print(before == (limits(), os.sched_getaffinity(0)))
"""
    assert run(code) == "True"


@pytest.mark.parametrize("cpus", [(8191,)])
def test_a_processor_that_is_not_there(cpus: tuple[int, ...]) -> None:
    code = f"""
try:
    limit_others(Limits(cpus={cpus}))
except OSError as error:
    print(error.strerror)
"""
    assert run(code) == "Invalid argument"
