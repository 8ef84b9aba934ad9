"""Faults of the processes that are no phones: supervisor and nursery."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from faults.conftest import Trial
from peers.sipp import wait_for
from sipherd import PhoneState
from sipherd.protocol.events import NurseryDied, PhoneDied, PhoneMoved

READY = PhoneState.READY


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.fault("SIGKILL of the supervisor")
def test_supervisor(trial: Trial) -> None:
    herd = trial.herd()
    pids = [herd.info().nursery_pid, *(phone.pid for phone in herd.phones())]
    trial.kill(herd.pid)
    wait_for(lambda: all(map(is_gone, pids)), "every process of the herd gone")
    trial.detected_now()
    trial.killed = True


@pytest.mark.fault("SIGKILL of the nursery")
def test_nursery(trial: Trial) -> None:
    herd = trial.herd()
    before = {phone.name: phone.pid for phone in herd.phones()}
    nursery = herd.info().nursery_pid
    trial.kill(nursery)
    assert trial.event(NurseryDied, phone=None).pid == nursery
    trial.detected()
    wait_for(lambda: herd.info().nursery_pid not in (0, nursery), "another nursery")
    assert {phone.name: phone.pid for phone in herd.phones()} == before
    os.kill(before["alice"], signal.SIGKILL)
    trial.event(PhoneMoved, state=READY)
    trial.ready()
    trial.bystanders()


@pytest.mark.slow
@pytest.mark.fault("SIGSTOP of the nursery")
def test_stopped_nursery(trial: Trial) -> None:
    """It owes an answer when a phone dies: after 5 s it counts as dead."""
    herd = trial.herd()
    nursery = herd.info().nursery_pid
    alice = herd["alice"].info().pid
    trial.kill(nursery, signal.SIGSTOP)
    os.kill(alice, signal.SIGKILL)
    trial.event(PhoneDied)
    assert "no answer" in trial.event(NurseryDied, phone=None).cause
    trial.detected()
    trial.event(PhoneMoved, state=READY)
    trial.ready()
    trial.bystanders()
