"""The guard: what it ends, what it leaves alone, and that there is always one."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from peers.sipp import wait_for
from sipherd.supervisor import guard
from sipherd.supervisor.guard_link import MAX_DEATHS, GuardLink
from sipherd.supervisor.poller import Poller, Turn

STUCK = "while True: pass"
"""It would see no end of a pipe, and take no time for a handler."""


class Lifeline:
    """A pipe, and programs that have its read end."""

    def __init__(self) -> None:
        self.fd, self._write = os.pipe2(os.O_CLOEXEC)
        self.programs: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str, has_it: bool = True) -> subprocess.Popen[bytes]:
        fds = (self.fd,) if has_it else ()
        program = subprocess.Popen([sys.executable, *command], pass_fds=fds, start_new_session=True)
        self.programs.append(program)
        return program

    def guard(self) -> subprocess.Popen[bytes]:
        return self.start("-I", "-S", guard.__file__, str(self.fd))

    def cut(self) -> None:
        if self._write >= 0:
            os.close(self._write)
            self._write = -1
            os.close(self.fd)  # this process would be one of those that are ended

    def close(self) -> None:
        for program in self.programs:
            program.kill()
            program.wait()
        self.cut()


@pytest.fixture
def lifeline() -> Iterator[Lifeline]:
    lifeline = Lifeline()
    yield lifeline
    lifeline.close()


def test_it_ends_who_has_the_lifeline_and_nobody_else(lifeline: Lifeline) -> None:
    stopped = lifeline.start("-c", STUCK)
    os.kill(stopped.pid, signal.SIGSTOP)
    parent = lifeline.start("-c", "import os, signal; os.fork(); os.fork(); signal.pause()")
    stranger = lifeline.start("-c", STUCK, has_it=False)
    os.kill(stranger.pid, signal.SIGSTOP)
    program = lifeline.guard()
    wait_for(lambda: psutil.Process(program.pid).name() == "sipherd-guard", "the guard")
    # A terminal's Ctrl-C is not for it.
    program.send_signal(signal.SIGINT)
    assert [p.poll() for p in (stopped, parent, program)] == [None, None, None]
    lifeline.cut()
    assert program.wait(10) == 0
    assert stopped.wait(10) == parent.wait(10) == -signal.SIGKILL
    assert stranger.poll() is None


class Said:
    """Takes the place of the log."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def write(self, level: str, event: str, **fields: Any) -> None:
        self.events.append((event, fields))


class Herd:
    """A guard's link, and a supervisor's loop for it."""

    def __init__(self, lifeline: Lifeline) -> None:
        self.said = Said()
        self.now = 0.0
        self.poller = Poller()
        self.link = GuardLink(
            lifeline.fd,
            poller=self.poller,
            log=self.said,  # type: ignore[arg-type]
            clock=lambda: self.now,
        )

    def kill(self) -> None:
        os.kill(self.link.pid, signal.SIGKILL)
        seen = len(self.said.events)
        self.poller.wait(10)
        self.poller.run(Turn.PROCESSES)
        assert len(self.said.events) > seen

    def close(self) -> None:
        self.link.stop()
        self.poller.close()


@pytest.fixture
def herd(lifeline: Lifeline) -> Iterator[Herd]:
    herd = Herd(lifeline)
    yield herd
    herd.close()


def test_there_is_another_when_one_was_killed(herd: Herd) -> None:
    first = herd.link.pid
    herd.kill()
    assert herd.said.events == [("guard_died", {"pid": first, "cause": "SIGKILL"})]
    assert herd.link.pid not in (0, first)
    assert not psutil.pid_exists(first)


def test_one_that_always_dies_is_not_started_for_ever(herd: Herd) -> None:
    for _ in range(MAX_DEATHS):
        herd.kill()
    herd.now = 61.0
    herd.kill()  # the others are long ago
    for _ in range(MAX_DEATHS):
        assert herd.link.pid
        herd.kill()
    assert herd.link.pid == 0
    assert herd.said.events[-1][0] == "no_guard"


def test_the_end(herd: Herd) -> None:
    pidfd = os.pidfd_open(herd.link.pid)
    herd.link.stop()
    herd.link.stop()
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(0)
    os.close(pidfd)
    assert herd.link.pid == 0
    assert not herd.said.events


def test_a_herd_goes_on_without_one(lifeline: Lifeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    herd = Herd(lifeline)
    assert herd.link.pid == 0
    assert [event for event, _ in herd.said.events] == ["no_guard"]
    herd.close()
