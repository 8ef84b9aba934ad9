"""Faults of a phone's process."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from faults.conftest import VICTIM, Trial, ill
from peers.sipp import wait_for
from sipherd import Herd, PhoneState
from sipherd.protocol.events import (
    Answered,
    CallEnded,
    IncomingCall,
    LimitReached,
    PhoneDied,
    PhoneMoved,
)

READY = PhoneState.READY
QUICKLY_HUNG = {"late": "300ms", "suspect": "600ms", "hung": "1s"}


def restarted(trial: Trial, herd: Herd) -> None:
    """It is back where it was, and can be called."""
    trial.event(PhoneMoved, state=READY)
    trial.ready()
    assert herd["alice"].info().incarnation == 2
    herd["carol"].call("alice").hang_up(timeout=10)
    trial.bystanders()


@pytest.mark.fault("SIGKILL of an idle phone")
def test_idle(trial: Trial) -> None:
    herd = trial.herd()
    trial.kill(herd["alice"].info().pid)
    died = trial.event(PhoneDied)
    trial.detected()
    assert died.cause == "SIGKILL (perhaps out of memory)"
    restarted(trial, herd)


@pytest.mark.fault("SIGKILL of a ringing phone")
def test_ringing(trial: Trial) -> None:
    herd = trial.herd({**VICTIM, "on_incoming": {"answer_after": "0.5s"}})
    call = herd["carol"].call("alice")
    call.wait_ringing(timeout=5)
    trial.event(IncomingCall)  # what it has not told yet dies with it
    trial.kill(herd["alice"].info().pid)
    died = trial.event(PhoneDied)
    trial.detected()
    assert len(died.calls) == 1
    trial.event(PhoneMoved, state=READY)
    trial.ready()
    call.wait_answered(timeout=10)
    call.hang_up(timeout=10)
    assert call.info.cause == "hung_up"
    trial.bystanders()


@pytest.mark.fault("SIGKILL of a phone in a call")
def test_in_a_call(trial: Trial) -> None:
    herd = trial.herd({**VICTIM, "on_incoming": {"answer_after": 0}})
    call = herd["carol"].call("alice")
    call.wait_answered(timeout=5)
    trial.event(Answered)
    trial.kill(herd["alice"].info().pid)
    trial.event(CallEnded, cause="phone_crashed")
    trial.detected()
    trial.event(PhoneMoved, state=READY)
    trial.ready()
    call.wait_ended(timeout=10)
    ended = trial.event(CallEnded, "carol")
    assert (ended.cause, ended.by) == ("hung_up", "remote")
    trial.bystanders()


@pytest.mark.fault("SIGSTOP of a phone")
def test_stopped(trial: Trial) -> None:
    herd = trial.herd({**VICTIM, "hang": QUICKLY_HUNG})
    trial.kill(herd["alice"].info().pid, signal.SIGSTOP)
    died = trial.event(PhoneDied)
    trial.detected()
    assert "stopped" in died.cause
    restarted(trial, herd)


@pytest.mark.fault("Busy loop that holds the GIL")
def test_busy_loop(trial: Trial) -> None:
    herd = trial.herd({**VICTIM, "hang": QUICKLY_HUNG})
    trial.harm(lambda: herd["alice"].fault("hang"))
    died = trial.event(PhoneDied)
    trial.detected()
    assert "hung" in died.cause
    restarted(trial, herd)
    wait_for(lambda: "in hang" in trial.process.log(), "its stack in the log")


@pytest.mark.fault("Crash before hello")
def test_before_hello(trial: Trial) -> None:
    parked(trial, "crash_before_hello")


@pytest.mark.fault("Crash after hello")
def test_after_hello(trial: Trial) -> None:
    parked(trial, "crash_after_hello")


def parked(trial: Trial, illness: str) -> None:
    """Restarted with back-off, and then no more."""
    restart = {"max": 3, "within": "30s", "backoff": {"first": "50ms", "cap": "1s"}}
    herd = trial.herd({**VICTIM, "restart": restart}, command=ill(illness))
    trial.kill(herd["alice"].info().pid)
    trial.event(PhoneDied, state=PhoneState.STARTING)
    trial.detected()
    trial.event(PhoneMoved, state=PhoneState.FAILED)
    info = herd["alice"].info()
    assert info.restarts == 3
    assert "exit code 1" in info.why
    trial.bystanders()


@pytest.mark.fault("Exit with code 0")
def test_exit_0(trial: Trial) -> None:
    herd = trial.herd()
    trial.harm(lambda: herd["alice"].fault("exit", code=0))
    trial.event(PhoneMoved, state=PhoneState.STOPPED)
    trial.detected()
    assert herd["alice"].info().incarnation == 1
    trial.bystanders()


@pytest.mark.fault("Memory leak")
def test_memory(trial: Trial) -> None:
    victim = {**VICTIM, "limits": {"memory": "64MB"}}
    herd = trial.herd(victim, command=ill("hoards_memory"))
    trial.harm(lambda: herd["carol"].call("alice").hang_up())
    died = trial.event(PhoneDied)
    trial.detected()
    assert "memory ceiling 64 MB" in died.cause
    restarted(trial, herd)


@pytest.mark.fault("Descriptor leak")
def test_descriptors(trial: Trial) -> None:
    victim = {"name": "alice", "limits": {"descriptors": 80}, "on_incoming": {"answer_after": 0}}
    herd = trial.herd(victim, command=ill("hoards_descriptors"))
    call = None

    def harm() -> None:
        nonlocal call
        call = herd["carol"].call("alice")

    trial.harm(harm)
    trial.event(LimitReached)
    trial.detected()
    assert call is not None
    assert call.wait_ended(timeout=10).code == 500
    assert herd["alice"].info().incarnation == 1
    trial.bystanders()


@pytest.mark.fault("Phone that ignores SIGTERM")
def test_stubborn(trial: Trial) -> None:
    herd = trial.herd(command=ill("stubborn"))
    trial.harm(lambda: None)
    report = herd["alice"].stop(now=True)
    trial.detected_now()
    assert report.how == "killed"
    trial.bystanders()


@pytest.mark.fault("Worker that can't be imported")
def test_import(trial: Trial, tmp_path: Path, runtime_dir: Path) -> None:
    file = tmp_path / "herd.yaml"
    file.write_text('{"herd": "lost", "phones": [{"name": "alice", "port": 0}]}')
    trial.harm(lambda: None)
    ran = subprocess.run(
        [*ill("import_error"), str(file)], capture_output=True, text=True, timeout=30, check=False
    )
    trial.detected_now()
    assert ran.returncode == 4
    (line,) = [line for line in ran.stderr.splitlines() if line.startswith("sipherd: ")]
    assert "No module named 'gone'" in line
    assert list(runtime_dir.iterdir()) == []
