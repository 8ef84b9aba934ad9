"""Faults of what is around the herd: disks, readers, registrars, ports, the box."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
import zmq

from faults.conftest import VICTIM, Trial, ill
from peers.conftest import start_kamailio
from peers.kamailio import Kamailio
from peers.sipp import wait_for
from sipherd import CommandRefused, PhoneState
from sipherd.protocol.codec import encode
from sipherd.protocol.events import PhoneMoved, Registered, RegistrationFailed
from sipherd.protocol.exits import WorkerExit
from sipherd.protocol.messages import Envelope, Subscribe

__all__ = ["start_kamailio"]


def loses_lines(trial: Trial, log: IO[bytes]) -> None:
    """A phone that prints and prints, and a log that is nothing for it."""
    herd = trial.herd(command=ill("talkative"), log=log)
    wait_for(lambda: herd.counters()["log_lines_dropped"], "lines dropped", 30)
    trial.bystanders()
    assert trial.process.stop() == 0


@pytest.mark.fault("Full disk for logs")
def test_full_disk(trial: Trial) -> None:
    with Path("/dev/full").open("wb") as full:
        loses_lines(trial, full)


@pytest.mark.fault("Log reader that stops reading")
def test_reader_that_stops(trial: Trial) -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb"), os.fdopen(write, "wb") as log:
        loses_lines(trial, log)


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.fault("Registrar gone for 60 s")
def test_registrar(trial: Trial, start_kamailio: Callable[..., Kamailio]) -> None:
    first = start_kamailio(max_expires=20)
    password = first.password("1001")
    victim: dict[str, Any] = {
        **VICTIM,
        "number": "1001",
        "register": {"server": first.hostport, "password": password, "expires": "20s"},
    }
    herd = trial.herd(victim)
    trial.event(Registered)
    trial.harm(first.close)
    trial.event(RegistrationFailed, timeout=60)
    trial.detected()
    assert herd["alice"].info().state is PhoneState.READY
    incarnation = herd["alice"].info().incarnation
    # What is measured is the way back, from the moment that the registrar is there again.
    time.sleep(60)
    trial.harm(lambda: start_kamailio(address=first.address, port=first.port, max_expires=20))
    assert not trial.event(Registered, timeout=330).refresh
    trial.ready()
    assert herd["alice"].info().incarnation == incarnation
    trial.bystanders()


@pytest.mark.fault("Client that never reads")
def test_client_that_never_reads(trial: Trial, runtime_dir: Path) -> None:
    """More than the supervisor keeps for it: 10,000 events."""
    herd = trial.herd()
    with zmq.Context() as context, context.socket(zmq.DEALER) as idle:
        idle.rcvhwm = 1
        idle.linger = 0
        idle.connect(f"ipc://{runtime_dir / herd.name}.sock")
        idle.send(encode(Envelope(id=1, body=Subscribe())))
        with herd.events(timeout=10) as events:
            calls = [herd["carol"].call("dave") for _ in range(20)]
            for call in calls:
                call.hang_up(timeout=10)
            numbers = []
            wait_for(lambda: not herd.calls()[2:], "the end of the calls")
            last = events.n
            for event in events:
                numbers.append(event.n)
                if event.n >= last + 20 * 8:
                    break
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        trial.bystanders()


@pytest.mark.fault("Port thief while parked")
def test_port_thief(trial: Trial) -> None:
    herd = trial.herd()
    alice = herd["alice"].info()
    herd["alice"].fault("exit", code=WorkerExit.CONFIGURATION)  # not tried again
    trial.event(PhoneMoved, state=PhoneState.FAILED)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thief:
        thief.bind((alice.address, alice.port))
        with pytest.raises(CommandRefused) as refused:
            herd["alice"].start()
        for words in (str(alice.port), str(os.getpid())):
            assert words in str(refused.value)
    trial.harm(herd["alice"].start)
    trial.event(PhoneMoved, state=PhoneState.READY)
    assert herd["alice"].info().port == alice.port
    trial.bystanders()


@pytest.mark.soak
@pytest.mark.fault("CPU overload, four times the cores")
def test_cpu_overload(trial: Trial) -> None:
    """For 20 s, with thresholds of 1, 2 and 4 s."""
    hang = {"late": "1s", "suspect": "2s", "hung": "4s"}
    herd = trial.herd(*({**VICTIM, "name": f"phone-{n}", "hang": hang} for n in range(1, 21)))
    pids = {phone.name: phone.pid for phone in herd.phones()}
    burn = [sys.executable, "-c", "import time\nwhile time.process_time() < 60: pass"]
    burners = [subprocess.Popen(burn) for _ in range(4 * (os.cpu_count() or 1))]
    try:
        trial.harm(lambda: time.sleep(20))
        trial.bystanders()
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    assert {phone.name: phone.pid for phone in herd.phones()} == pids
