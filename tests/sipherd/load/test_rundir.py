"""Directories of runs, and the lock that says whether one goes on."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path

import pytest

import loadrun
from commandline import ENVIRON
from sipherd.load.rundir import RunLock, find, fresh, newest, runner_of
from sipherd.load.store import RunWriter, StoreError

HOLDER = """
import sys
from pathlib import Path
from sipherd.load.rundir import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def made(directory: Path, **about: object) -> Path:
    RunWriter(directory, loadrun.facts(**about)).close()
    return directory


def test_a_run_without_a_lock_is_over(tmp_path: Path) -> None:
    assert runner_of(tmp_path) is None


def test_a_run_goes_on_until_its_runner_is_killed(tmp_path: Path) -> None:
    directory = tmp_path / "runs" / "one"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, directory],
        env=os.environ | ENVIRON,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            assert runner_of(directory) == holder.pid
            with pytest.raises(StoreError, match="still goes on: name another directory"):
                RunLock(directory)
        finally:
            holder.kill()
        holder.wait(timeout=10)
        assert runner_of(directory) is None
        with RunLock(directory):
            assert runner_of(directory) == os.getpid()


def test_a_runner_waits_for_who_looks(tmp_path: Path) -> None:
    looking = os.open(tmp_path / "lock", os.O_RDONLY | os.O_CREAT)
    fcntl.flock(looking, fcntl.LOCK_SH)
    done = threading.Timer(0.1, os.close, (looking,))
    done.start()
    with RunLock(tmp_path):
        assert runner_of(tmp_path) == os.getpid()
    done.join()


def test_a_lock_of_somebody_else_s_making(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        (tmp_path / "lock").write_text("no pid")
        with pytest.raises(StoreError, match=re.escape(f"{tmp_path}/lock: can't be read")):
            runner_of(tmp_path)


def test_a_place_that_can_t_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="can't be written: "):
        RunLock(tmp_path / "file" / "run")


def test_a_name_for_a_new_run(tmp_path: Path) -> None:
    now = datetime(2026, 11, 24, 12, 0, 7)
    first = fresh(tmp_path, now)
    assert first.name == "2026-11-24T12-00-07"
    first.mkdir()
    assert fresh(tmp_path, now).name == "2026-11-24T12-00-07-2"


def test_the_newest_is_the_one_that_was_started_last(tmp_path: Path) -> None:
    made(tmp_path / "z", started_at=100.0)
    made(tmp_path / "a", started_at=300.0)
    made(tmp_path / "m", started_at=200.0)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "run.json").write_text("{")
    assert newest(tmp_path) == tmp_path / "a"
    assert find(None, tmp_path) == tmp_path / "a"


def test_a_run_by_its_path_or_its_name(tmp_path: Path) -> None:
    below = tmp_path / "runs"
    elsewhere = made(tmp_path / "elsewhere")
    named = made(below / "named")
    assert find(elsewhere, below) == elsewhere
    assert find("named", below) == named
    assert find(str(elsewhere), below) == elsewhere


def test_no_such_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=re.escape(f"no run is in {tmp_path}")):
        newest(tmp_path)
    with pytest.raises(StoreError, match="nothing: there is no such run"):
        find("nothing", tmp_path)
    with pytest.raises(StoreError, match=re.escape(f"{tmp_path} holds no run: it has no run.json")):
        find(tmp_path, tmp_path / "runs")
