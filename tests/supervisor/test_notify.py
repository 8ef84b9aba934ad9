"""sd_notify: what is sent, when, and that nothing is waited for."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sipherd.supervisor.notify import Notifier

US = 1234


class Manager:
    """The end of the socket that systemd has."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind("\0" + name[1:] if name[0] == "@" else name)

    def got(self) -> list[str]:
        """The messages that have come, taken."""
        messages = []
        with contextlib.suppress(BlockingIOError):
            while True:
                messages.append(self.socket.recv(4096).decode())
        return messages

    def notifier(self, **environ: str) -> Notifier:
        return Notifier({"NOTIFY_SOCKET": self.name} | environ, US)


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@sipherd-{os.getpid()}"
    manager = Manager(name)
    yield manager
    manager.socket.close()


@pytest.fixture
def status() -> list[str]:
    """The herd's status; its last entry is it."""
    return ["1 phone ready"]


def test_states_are_told_once_each(manager: Manager, status: list[str]) -> None:
    notifier = manager.notifier()
    with contextlib.closing(notifier):
        notifier.tell("starting", 0, status.pop, 9.5)
        assert manager.got() == ["STATUS=1 phone ready"]
        notifier.tell("ready", 0, status.pop, 10.0)
        notifier.tell("ready", 0, status.pop, 10.1)
        notifier.tell("reloading", 0, status.pop, 11.25)
        notifier.tell("ready", 0, status.pop, 12.0)
        notifier.tell("stopping", 0, status.pop, 13.0)
        assert manager.got() == [
            "READY=1",
            "RELOADING=1\nMONOTONIC_USEC=11250000",
            "READY=1",
            "STOPPING=1",
        ]
        assert notifier.deadline is None


def test_a_status_at_most_once_a_second_and_only_a_new_one(manager: Manager) -> None:
    asked = 0

    def status() -> str:
        nonlocal asked
        asked += 1
        return text

    with contextlib.closing(manager.notifier()) as notifier:
        text = "one"
        notifier.tell("starting", 1, status, 10.0)
        text = "two"
        for n in range(100):
            notifier.tell("starting", 2 + n, status, 10.0 + n / 200)
        assert manager.got() == ["STATUS=one"]
        assert notifier.deadline == 11.0
        notifier.tell("starting", 101, status, 11.0)
        assert manager.got() == ["STATUS=two"]
        notifier.tell("starting", 102, status, 13.0)
        notifier.tell("starting", 102, status, 15.0)
        assert manager.got() == []
        assert asked == 3
        assert notifier.deadline is None


def test_a_sign_of_life_at_half_of_the_watchdog_s_time(manager: Manager) -> None:
    with contextlib.closing(
        manager.notifier(WATCHDOG_USEC="2000000", WATCHDOG_PID=str(US))
    ) as notifier:
        assert notifier.deadline is not None
        assert notifier.deadline <= 0
        times = [100.0, 100.5, 101.0, 101.9, 102.0, 105.0, 105.5]
        told = []
        for now in times:
            notifier.tell("starting", 0, lambda: "", now)
            if "WATCHDOG=1" in manager.got():
                told.append(now)
        assert told == [100.0, 101.0, 102.0, 105.0]
        assert notifier.deadline == 106.0


@pytest.mark.parametrize(
    "environ",
    [
        {"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "-5"},
        {},
    ],
    ids=["another process", "off", "no number", "negative", "none"],
)
def test_no_sign_of_life_that_nobody_waits_for(manager: Manager, environ: dict[str, str]) -> None:
    with contextlib.closing(manager.notifier(**environ)) as notifier:
        notifier.tell("ready", 0, lambda: "", 100.0)
        assert manager.got() == ["READY=1"]
        assert notifier.deadline is None


def test_a_full_queue_loses_no_change_of_state(manager: Manager) -> None:
    with contextlib.closing(manager.notifier(WATCHDOG_USEC="2000")) as notifier:
        for n in range(3_000):  # until the kernel takes no more
            notifier.tell("starting", 0, lambda: "", n)
        assert len(manager.got()) < 3_000
        for n in range(3_000):
            notifier.tell("starting", 0, lambda: "", 2000 + n)
        notifier.tell("ready", 0, lambda: "", 9_000.0)
        notifier.tell("stopping", 0, lambda: "", 9_000.0)
        assert notifier.deadline is not None
        assert notifier.deadline <= 9_000.1
        assert {*manager.got()} == {"WATCHDOG=1"}
        notifier.tell("stopping", 0, lambda: "", 9_000.1)
        assert manager.got() == ["READY=1", "STOPPING=1", "WATCHDOG=1"]


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1234", "/nobody/is/here", "@nobody"])
def test_without_a_manager_nothing_happens(address: str) -> None:
    with contextlib.closing(Notifier({"NOTIFY_SOCKET": address}, US)) as notifier:
        notifier.tell("ready", 1, lambda: "x", 1.0)
        notifier.tell("stopping", 2, lambda: "y", 5.0)
        assert notifier.deadline is None


def test_a_manager_that_comes_late_or_goes(tmp_path: Path) -> None:
    name = str(tmp_path / "notify")
    with contextlib.closing(Notifier({"NOTIFY_SOCKET": name}, US)) as notifier:
        notifier.tell("ready", 1, lambda: "x", 1.0)
        manager = Manager(name)
        notifier.tell("stopping", 1, lambda: "x", 2.0)
        assert manager.got() == ["STOPPING=1"]
        manager.socket.close()
        notifier.tell("stopping", 2, lambda: "y", 3.5)


def test_closed_it_says_nothing(manager: Manager) -> None:
    notifier = manager.notifier()
    notifier.close()
    notifier.close()
    notifier.tell("ready", 0, lambda: "", 1.0)
    assert manager.got() == []
