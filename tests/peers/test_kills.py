"""Supervisor, nursery or both are killed, at the worst moments: promise 4, no orphans.

Without a supervisor nothing of the herd is alive a second later. Without a nursery nothing happens:
every phone is there, with one process, and goes on with its calls.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from peers.herd import HerdProcess
from peers.sipp import loopback_address, wait_for
from sipherd import Call, Herd, SipherdError

StartHerd = Callable[..., HerdProcess]

CALLS_PER_SECOND = 20
PROMISED = 1.0
"""Seconds, on a box that does nothing else: so in the run of many rounds."""
PATIENCE = 10.0
"""Seconds on a box that does."""


def phones(count: int, hang_up_after: float = 0.5) -> list[dict[str, object]]:
    answers = {"answer_after": 0, "hang_up_after": hang_up_after}
    return [{"name": f"p{n}", "media": "none", "on_incoming": answers} for n in range(count)]


# Processes of the herd, as the kernel shows them.


def is_alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def members(directory: Path) -> set[int]:
    """Every living process that was started with this runtime directory: the herd's alone."""
    wanted = f"SIPHERD_RUNTIME_DIR={directory}".encode()
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):  # it is gone
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.add(int(entry.name))
    return {pid for pid in found - {os.getpid()} if is_alive(pid)}


def nursery_of(supervisor: int) -> int:
    """0 as long as there is none."""
    for child in psutil.Process(supervisor).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.name() == "sipherd-nursery":
                return child.pid
    return 0


def processes(directory: Path) -> dict[str, list[int]]:
    """The processes of each phone."""
    found: dict[str, list[int]] = {}
    for pid in members(directory):
        with contextlib.suppress(psutil.NoSuchProcess):
            name = psutil.Process(pid).name()
            if name.startswith("p") and name[1:].isdecimal():
                found.setdefault(name, []).append(pid)
    return found


# Moments.


class Calls:
    """Calls around the herd, 20 in a second, until `stop`."""

    def __init__(self, herd: HerdProcess, count: int) -> None:
        self._herd, self._count = herd, count
        self._client = Herd.connect(herd.name)
        self._stopped = threading.Event()
        self.placed: list[Call] = []
        self.error: SipherdError | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stopped.wait(1 / CALLS_PER_SECOND):
                caller = len(self.placed) % self._count
                callee = (caller + 1) % self._count
                self.placed.append(self._client[f"p{caller}"].call(f"p{callee}"))
        except SipherdError as error:
            self.error = error

    def wait_more(self, count: int) -> None:
        """Wait until so many have been placed from now on."""
        enough = len(self.placed) + count
        wait_for(lambda: len(self.placed) >= enough or self.error, f"{count} calls", 30)

    def stop(self) -> Counter[str]:
        """How the calls have ended."""
        self._stopped.set()
        self._thread.join()
        return Counter(str(call.wait_ended(timeout=PATIENCE).cause) for call in self.placed)

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._client.close()


def make_stuck(herd: HerdProcess) -> None:
    """Stop one phone, and have another spin."""
    with Herd.connect(herd.name) as client:
        stopped, spinning = (psutil.Process(client[name].info().pid) for name in ("p0", "p1"))
        before = spinning.cpu_times().user
        client["p0"].fault("stop")
        client["p1"].fault("hang")
        wait_for(lambda: stopped.status() == psutil.STATUS_STOPPED, "a stopped phone")
        wait_for(lambda: spinning.cpu_times().user > before + 0.05, "a phone that spins")


def kill(victim: str, herd: HerdProcess, nursery: int, number: int) -> None:
    victims = {"supervisor": [herd.pid], "nursery": [nursery], "both": [nursery, herd.pid]}[victim]
    # Each of the two goes first in every other round.
    for pid in victims if number % 2 else reversed(victims):
        with contextlib.suppress(ProcessLookupError):  # it was at its end
            os.kill(pid, signal.SIGKILL)


# What must hold.


def one_process_each(herd: HerdProcess, directory: Path, count: int) -> None:
    for number in range(count):
        herd.wait_event(phone=f"p{number}", kind="phone_state", state="ready", timeout=30)
    with Herd.connect(herd.name) as client:

        def as_it_should_be() -> bool:
            listed = client.phones()
            return {phone.state for phone in listed} == {"ready"} and processes(directory) == {
                phone.name: [phone.pid] for phone in listed
            }

        try:
            wait_for(as_it_should_be, "every phone ready, with one process", PATIENCE)
        except TimeoutError as error:
            raise AssertionError(f"{error}: {processes(directory)}\n{herd.report()}") from None


@contextlib.contextmanager
def calls_of(herd: HerdProcess, count: int) -> Iterator[Calls]:
    calls = Calls(herd, count)
    try:
        yield calls
    finally:
        calls.close()


class Trial:
    """Herds of one name, address and ports, one after the other: these are free again, too."""

    def __init__(
        self, start_herd: StartHerd, directory: Path, victim: str, count: int, within: float
    ) -> None:
        self._start_herd = start_herd
        self._directory = directory
        self._victim = victim
        self._within = within
        self._name, self._address = f"kills-{os.getpid()}", loopback_address()
        self._number = 0
        self.count = count

    def start(self, hang_up_after: float = 0.5, **options: Any) -> HerdProcess:
        self._number += 1
        return self._start_herd(
            phones(self.count, hang_up_after),
            name=self._name,
            address=self._address,
            keys={"faults": "allowed"},
            **options,
        )

    def kill(self, herd: HerdProcess, nursery: int) -> None:
        kill(self._victim, herd, nursery, self._number)

    def nothing_is_left(self) -> None:
        began = time.monotonic()
        try:
            wait_for(lambda: not members(self._directory), "the end", PATIENCE)
        except TimeoutError:
            left = [
                psutil.Process(pid).as_dict(["pid", "name", "status"])
                for pid in members(self._directory)
            ]
            raise AssertionError(f"still there: {left}") from None
        took = time.monotonic() - began
        print(f"round {self._number}: nothing is left after {took:.2f} s")
        assert took <= self._within

    def holds(self, herd: HerdProcess) -> None:
        """What must hold now that the victim is dead; the herd's end."""
        if self._victim != "nursery":
            self.nothing_is_left()
            return
        one_process_each(herd, self._directory, self.count)
        herd.close()
        assert not members(self._directory)


MANY = pytest.param(20, marks=[pytest.mark.soak, pytest.mark.timeout(900)])
pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("rounds", [1, MANY]),
    pytest.mark.parametrize("victim", ["supervisor", "nursery", "both"]),
]


@pytest.fixture
def trial(start_herd: StartHerd, runtime_dir: Path, victim: str, rounds: int) -> Iterator[Trial]:
    within = PATIENCE if rounds == 1 else PROMISED
    yield Trial(start_herd, runtime_dir, victim, 6, within)
    for path in runtime_dir.iterdir():
        path.unlink()  # the socket files of a supervisor that was killed


def test_during_a_start(trial: Trial, rounds: int) -> None:
    """As soon as so many phones are ready: none in the first of many rounds, at last nearly all."""
    trial.count = 20
    for number in range(rounds):
        herd = trial.start(wait=False)
        nursery = wait_for(lambda herd=herd: nursery_of(herd.pid), "a nursery", 30)
        if enough := number if rounds > 1 else trial.count // 2:
            herd.wait_events(enough, kind="phone_state", state="ready", timeout=30)
        trial.kill(herd, nursery)
        trial.holds(herd)


def test_during_calls(trial: Trial, victim: str, rounds: int) -> None:
    for _ in range(rounds):
        herd = trial.start()
        with calls_of(herd, trial.count) as calls:
            calls.wait_more(15)
            trial.kill(herd, nursery_of(herd.pid))
            if victim == "nursery":
                calls.wait_more(10)
                assert set(calls.stop()) == {"hung_up"}
                assert calls.error is None
            trial.holds(herd)


def test_during_a_stop(trial: Trial, victim: str, rounds: int) -> None:
    """So many milliseconds after SIGTERM, with calls that are to be hung up."""
    for number in range(rounds):
        herd = trial.start(hang_up_after=60.0)
        nursery = nursery_of(herd.pid)
        with calls_of(herd, trial.count) as calls:
            calls.wait_more(6)
            os.kill(herd.pid, signal.SIGTERM)
            time.sleep(0.002 * number)
            trial.kill(herd, nursery)
            if victim == "nursery":
                assert herd.wait() == 0
            trial.nothing_is_left()


def test_with_a_stopped_phone_and_one_that_spins(trial: Trial, rounds: int) -> None:
    for _ in range(rounds):
        herd = trial.start()
        nursery = nursery_of(herd.pid)
        make_stuck(herd)
        trial.kill(herd, nursery)
        trial.holds(herd)
