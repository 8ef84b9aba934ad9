"""Pidfds, signals that come too early, and the children of a dead nursery."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

from sipherd.supervisor.effects import DeathCause
from sipherd.supervisor.processes import Process, Processes, children

KEY = ("alice", 2)


def wait_dead(pidfd: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(5000), "still alive"


def child(code: str) -> Process:
    """A child that nobody but the test reaps."""
    pid = os.fork()
    if not pid:
        os.execv(sys.executable, [sys.executable, "-c", code])
    return Process(KEY, pid, os.pidfd_open(pid))


@pytest.mark.parametrize(
    ("code", "exit_code", "number"),
    [
        ("", 0, None),
        ("raise SystemExit(3)", 3, None),
        ("import os; os.kill(os.getpid(), 9)", None, 9),
        ("import os; os.abort()", None, signal.SIGABRT),
    ],
)
def test_reap_tells_the_cause(code: str, exit_code: int | None, number: int | None) -> None:
    process = child(code)
    wait_dead(process.pidfd)
    assert process.reap() == DeathCause("alice", 2, exit_code, number)
    # Somebody was faster.
    assert process.reap() == DeathCause("alice", 2, None, None)
    os.close(process.pidfd)


def test_reap_ends_the_process_group() -> None:
    code = (
        "import os, subprocess; os.setsid(); p = subprocess.Popen(['sleep', '60']);"
        "os.write({}, b'%d' % p.pid); os._exit(0)"
    )
    read_fd, write_fd = os.pipe()
    os.set_inheritable(write_fd, True)
    process = child(code.format(write_fd))
    os.close(write_fd)
    grandchild = os.pidfd_open(int(os.read(read_fd, 20)))
    os.close(read_fd)
    wait_dead(process.pidfd)
    process.reap()
    wait_dead(grandchild)
    os.close(grandchild)
    os.close(process.pidfd)


def test_a_signal_that_comes_before_the_process_is_delivered() -> None:
    processes = Processes()
    processes.expect(KEY)
    assert processes.is_expected(KEY)
    processes.signal(KEY, signal.SIGKILL)
    processes.signal(KEY, signal.SIGTERM)  # gentler, and too late
    with subprocess.Popen(["sleep", "60"]) as popen:
        process = processes.add(KEY, popen.pid, os.pidfd_open(popen.pid))
        assert popen.wait(5) == -signal.SIGKILL
    assert not processes.is_expected(KEY)
    processes.remove(process)
    assert len(processes) == 0


def test_a_signal_for_one_that_runs_and_for_one_that_does_not() -> None:
    processes = Processes()
    processes.signal(KEY, signal.SIGKILL)  # nobody: nothing
    with subprocess.Popen(["sleep", "60"]) as popen:
        process = processes.add(KEY, popen.pid, os.pidfd_open(popen.pid))
        assert [found.pid for found in processes] == [popen.pid]
        processes.signal(KEY, signal.SIGTERM)
        assert popen.wait(5) == -signal.SIGTERM
        processes.signal(KEY, signal.SIGTERM)  # dead: nothing
    processes.remove(process)
    assert processes.get(KEY) is None


def test_what_was_to_be_killed_is_told_when_the_nursery_dies() -> None:
    processes = Processes()
    for n, number in enumerate((None, signal.SIGTERM, signal.SIGKILL)):
        processes.expect(("alice", n))
        if number is not None:
            processes.signal(("alice", n), number)
    processes.expect(("alice", 3))
    processes.signal(("alice", 3), signal.SIGKILL)
    processes.failed(("alice", 3))
    assert processes.give_up_expected() == [("alice", 2)]
    assert not processes.is_expected(("alice", 0))


def test_children_of_this_process() -> None:
    with subprocess.Popen(["sleep", "60"]) as popen:
        assert popen.pid in children()
        popen.kill()
    assert popen.pid not in children()
