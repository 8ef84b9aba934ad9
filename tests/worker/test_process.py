"""What a phone's process does to its descriptors and its output.  The rest: test_nursery."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import sipherd
from sipherd.worker.process import LossyWriter


def run(code: str) -> str:
    """What a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(Path(sipherd.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_close_all_but() -> None:
    code = """
import os
from sipherd.worker.process import close_all_but
fds = [os.dup(1) for _ in range(40)]
high = os.open("/dev/null", os.O_RDONLY)
os.dup2(high, 900)
close_all_but((fds[20], 900, fds[3]))
left = [fd for fd in range(3, 1000) if os.path.exists(f"/proc/self/fd/{fd}")]
print(left == [fds[3], fds[20], 900])
"""
    assert run(code) == "True\n"


def test_reset_signals() -> None:
    code = """
import signal
from sipherd.worker.process import reset_signals
signal.signal(signal.SIGTERM, lambda *_: None)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
reset_signals()
print([signal.getsignal(n).name for n in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)])
print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""
    assert run(code) == "['SIG_DFL', 'SIG_DFL', 'SIG_IGN']\nset()\n"


def test_a_full_pipe_drops_and_does_not_raise() -> None:
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    writer = LossyWriter(write)
    assert writer.writable()
    assert writer.fileno() == write
    for _ in range(100):
        assert writer.write(b"x" * 4096) == 4096
    os.close(read)
    assert writer.write(b"nobody") == 6
    os.close(write)
