"""A box that has no time for its phones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from faults.conftest import Trial
from sipherd import PhoneState
from sipherd.protocol.events import PhoneDied, PhoneMoved

PHONES = 100
SECONDS = 60.0
HANG = {"late": 1, "suspect": 2, "hung": 4}

BURNER = "while True: pass"


@pytest.fixture
def burners() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that take all the time there is; the test starts them."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for burner in started:
        burner.kill()
        burner.wait()


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.fault("CPU overload, four times the cores")
def test_overload(trial: Trial, burners: list[subprocess.Popen[bytes]]) -> None:
    """Acceptance of issue 4: no healthy phone is killed, and a stopped one soon afterwards."""
    victims = [
        {"name": f"p{n}", "media": "none", "hang": HANG, "restart": "temporary"}
        for n in range(PHONES - 1)
    ]
    herd = trial.herd({"name": "alice", "media": "none", "hang": HANG}, *victims)
    cores = len(os.sched_getaffinity(0))
    burners += [subprocess.Popen([sys.executable, "-c", BURNER]) for _ in range(4 * cores)]
    over = time.monotonic() + SECONDS
    time.sleep(SECONDS / 2)
    trial.kill(herd["alice"].info().pid, signal.SIGSTOP)
    calls = 0
    while time.monotonic() < over:  # the herd goes on working
        call = herd["p1"].call("dave")
        call.wait_answered(timeout=30)
        call.hang_up(timeout=30)
        calls += 1
    assert calls
    for burner in burners:
        burner.kill()
    ended = time.monotonic()
    died = trial.event(PhoneDied)
    assert time.monotonic() - ended < 10.0
    assert died.cause.startswith("stopped (SIGSTOP) for ")
    trial.detected()
    trial.event(PhoneMoved, state=PhoneState.READY)
    trial.ready()
    assert [event["phone"] for event in trial.process.events(kind="phone_died")] == ["alice"]
    trial.bystanders()
