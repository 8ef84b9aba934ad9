"""A box that has no time for its phones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from peers.herd import HerdProcess
from sipherd import Herd

StartHerd = Callable[..., HerdProcess]

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
def test_overload(start_herd: StartHerd, burners: list[subprocess.Popen[bytes]]) -> None:
    """Acceptance of issue 4: no healthy phone is killed, and a stopped one soon afterwards."""
    herd = start_herd(
        [
            {"name": f"p{n}", "media": "none", "hang": HANG, "on_incoming": {"answer_after": 0}}
            for n in range(PHONES)
        ]
    )
    cores = len(os.sched_getaffinity(0))
    burners += [subprocess.Popen([sys.executable, "-c", BURNER]) for _ in range(4 * cores)]
    over = time.monotonic() + SECONDS
    time.sleep(SECONDS / 2)
    with Herd.connect(herd.name) as client:
        os.kill(client["p0"].info().pid, signal.SIGSTOP)
        while time.monotonic() < over:  # the herd goes on working
            call = client["p1"].call("p2")
            call.wait_answered(timeout=30)
            call.hang_up(timeout=30)
        assert call.info.cause == "hung_up"
    for burner in burners:
        burner.kill()
    died = herd.wait_event(timeout=10, kind="phone_died")
    assert died["phone"] == "p0"
    assert died["cause"].startswith("stopped (SIGSTOP) for ")
    herd.wait_event(kind="phone_state", phone="p0", state="ready", incarnation=2)
    assert len(herd.events(kind="phone_died")) == 1
