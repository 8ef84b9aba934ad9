"""A runner in another process, told to end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sipherd.load.records import RunFacts
from sipherd.load.rundir import RunLock, going_on
from sipherd.load.runner_handle import RunnerHandle
from sipherd.load.store import FACTS, RunWriter, StoreError

HOLDS = """
import pathlib, signal, sys
from sipherd.load.rundir import RunLock
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
lock = RunLock(pathlib.Path(sys.argv[1]))
print("held", flush=True)
signal.sigwait([signal.SIGUSR1])
"""


def test_it_is_told_and_waited_for(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with RunnerHandle(tmp_path) as runner:
            assert runner.pid == process.pid
            assert not runner.wait(0.0)
            runner.send(signal.SIGUSR1)
            assert runner.wait(10.0)
            runner.send(signal.SIGUSR1)  # to nobody
        assert process.wait(10) == 0
    with pytest.raises(ProcessLookupError):
        RunnerHandle(tmp_path)


def test_a_run_that_is_over(tmp_path: Path) -> None:
    with pytest.raises(ProcessLookupError):
        RunnerHandle(tmp_path)
    RunLock(tmp_path).close()
    with pytest.raises(ProcessLookupError):
        RunnerHandle(tmp_path)


def test_the_one_run_that_goes_on(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        facts = RunFacts(name=name, started_at=1.0, profile={})
        RunWriter(tmp_path / name, facts).close()
        assert (tmp_path / name / FACTS).exists()
    with pytest.raises(StoreError, match="no run in"):
        going_on(tmp_path)
    with RunLock(tmp_path / "two"):
        assert going_on(tmp_path) == tmp_path / "two"
        with RunLock(tmp_path / "one"), pytest.raises(StoreError, match="say which: one, two"):
            going_on(tmp_path)
