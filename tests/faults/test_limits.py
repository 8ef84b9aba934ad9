"""Phones that take more of the machine than they may."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from faults.conftest import VICTIM, Trial, ill
from peers.sipp import wait_for
from sipherd import CallFailed, CommandRefused, Herd, PhoneState
from sipherd.protocol.events import LimitReached, PhoneDied, PhoneMoved


def send(herd: Herd, count: int) -> None:
    """Datagrams for alice that mean nothing."""
    info = herd["alice"].info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(count):
            sock.sendto(b"\r\n\r\n", (info.address, info.port))


@pytest.mark.fault("Memory leak")
def test_memory(trial: Trial) -> None:
    victim = {**VICTIM, "limits": {"memory": "100MB"}}
    herd = trial.herd(victim, command=ill("leaks_memory"))
    send(herd, 5)  # half of it is no reason to die
    herd["carol"].call("alice").hang_up(timeout=10)
    assert herd["alice"].info().incarnation == 1
    trial.harm(lambda: send(herd, 20))
    died = trial.event(PhoneDied)
    trial.detected()
    assert died.cause == "memory ceiling 100 MB"
    trial.event(PhoneMoved, state=PhoneState.READY)
    trial.ready()
    trial.bystanders()


@pytest.mark.fault("Descriptor leak")
def test_descriptors(trial: Trial) -> None:
    victim = {**VICTIM, "limits": {"descriptors": 64}}
    herd = trial.herd(victim, command=ill("leaks_descriptors"))
    pid = herd["alice"].info().pid
    trial.harm(lambda: send(herd, 1))
    wait_for(lambda: len(list(Path(f"/proc/{pid}/fd").iterdir())) == 64, "the leak", 10)
    call = herd["carol"].call("alice")
    event = herd["alice"].incoming(timeout=10)
    with pytest.raises(CommandRefused, match="no descriptor left"):
        event.answer()
    with pytest.raises(CallFailed, match="500"):
        call.wait_answered(timeout=10)
    reached = trial.event(LimitReached)
    trial.detected()
    assert (reached.limit, reached.ceiling) == ("descriptors", 64)
    info = herd["alice"].info()
    assert (info.pid, info.state) == (pid, PhoneState.READY)
    trial.bystanders()
