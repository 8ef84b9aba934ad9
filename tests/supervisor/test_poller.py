"""Turns, and descriptors that come and go during one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from sipherd.supervisor.poller import Poller, Turn


class Rig:
    def __init__(self) -> None:
        self.poller = Poller()
        self.pipes = [os.pipe() for _ in range(3)]
        self.calls: list[str] = []

    def make_ready(self, index: int) -> int:
        os.write(self.pipes[index][1], b"x")
        return self.pipes[index][0]

    def turn(self) -> list[str]:
        """The calls of one pass."""
        self.calls.clear()
        self.poller.wait(0)
        self.poller.run(Turn.PROCESSES)
        self.calls.append("|")
        self.poller.run(Turn.OTHERS)
        return self.calls

    def say(self, word: str) -> None:
        self.calls.append(word)


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.poller.close()
    for fds in rig.pipes:
        for fd in fds:
            os.close(fd)


def test_each_in_its_turn(rig: Rig) -> None:
    rig.poller.add(rig.make_ready(0), Turn.OTHERS, lambda: rig.say("other"))
    rig.poller.add(rig.make_ready(1), Turn.PROCESSES, lambda: rig.say("process"))
    rig.poller.add(rig.pipes[2][0], Turn.PROCESSES, lambda: rig.say("never"))
    assert rig.turn() == ["process", "|", "other"]


def test_nothing_is_ready(rig: Rig) -> None:
    rig.poller.add(rig.pipes[0][0], Turn.OTHERS, lambda: rig.say("never"))
    assert rig.turn() == ["|"]


def test_an_action_may_remove_the_other_one(rig: Rig) -> None:
    first, second = rig.make_ready(0), rig.make_ready(1)
    for fd, other in ((first, second), (second, first)):

        def act(other: int = other) -> None:
            rig.say("one")
            rig.poller.remove(other)
            rig.poller.remove(other)

        rig.poller.add(fd, Turn.PROCESSES, act)
    assert rig.turn() == ["one", "|"]


def test_a_new_descriptor_with_an_old_number_waits_for_its_own_event(rig: Rig) -> None:
    fd = rig.make_ready(0)

    def replace() -> None:
        rig.say("old")
        rig.poller.remove(fd)
        rig.poller.add(fd, Turn.OTHERS, lambda: rig.say("new"))

    rig.poller.add(fd, Turn.PROCESSES, replace)
    assert rig.turn() == ["old", "|"]
    assert rig.turn() == ["|", "new"]


def test_writable_only_when_wanted(rig: Rig) -> None:
    fd = rig.pipes[0][1]
    rig.poller.add(fd, Turn.PROCESSES, lambda: rig.say("writable"))
    assert rig.turn() == ["|"]
    rig.poller.want_write(fd, True)
    assert rig.turn() == ["writable", "|"]
    rig.poller.want_write(fd, False)
    assert rig.turn() == ["|"]


def test_a_wake_ends_the_wait_and_calls_nobody(rig: Rig) -> None:
    rig.poller.add_wake(rig.make_ready(0))
    rig.poller.wait(60)
    assert rig.turn() == ["|"]
