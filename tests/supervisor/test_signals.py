"""Signals become bytes; in a process of its own, because handlers stay."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence

import pytest

READ = """
import os, signal, sys
from sipherd.supervisor.signals import SignalPipe
{before}
with SignalPipe() as signals:
    for number in {numbers}:
        os.kill(os.getpid(), number)
    print(*signals.read(), *signals.read())
os.kill(os.getpid(), signal.SIGINT)  # after the end, too, it interrupts nothing
print("end")
"""


def run(numbers: Sequence[int], before: str = "") -> list[str]:
    code = READ.format(numbers=[int(number) for number in numbers], before=before)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_is_told(number: int) -> None:
    assert run([number]) == [str(int(number)), "end"]


def test_in_their_order_and_each_time() -> None:
    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGINT]
    assert run(numbers)[0] == "15 2 2"


def test_a_broken_pipe_is_no_signal() -> None:
    assert run([signal.SIGPIPE])[0] == ""


def test_nohup_is_respected() -> None:
    before = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    assert run([signal.SIGHUP, signal.SIGTERM], before)[0] == "15"
