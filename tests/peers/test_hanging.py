"""Phones whose processes hang in truth, or are stopped: told, ended with a stack, and back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from peers.herd import HerdProcess
from peers.sipp import wait_for
from sipherd import Herd

StartHerd = Callable[..., HerdProcess]

QUICK = {"late": 0.3, "suspect": 0.6, "hung": 1.2}


def phone(name: str, **hang: float) -> dict[str, object]:
    return {"name": name, "media": "none", "hang": QUICK | hang}


def levels(herd: HerdProcess, name: str) -> list[str]:
    """What was told of its first process."""
    told = herd.events(kind="phone_late", phone=name, incarnation=1)
    return [event["level"] for event in told]


def test_hung_and_stopped(start_herd: StartHerd, tmp_path: Path) -> None:
    names = ("busy", "stopped", "watched")
    herd = start_herd(
        [phone("busy"), phone("stopped"), phone("watched", hung=0), phone("fine")],
        keys={"faults": "allowed"},
    )
    pids = {name: herd.wait_event(kind="phone_state", phone=name, state="ready") for name in names}
    with Herd.connect(herd.name) as client:
        client["busy"].fault("hang")
        client["watched"].fault("hang")
    os.kill(pids["stopped"]["pid"], signal.SIGSTOP)

    died = herd.wait_event(kind="phone_died", phone="busy")
    assert died["cause"].startswith("hung: no progress for ")
    assert died["cause"].endswith(" s (stack in the log)")
    died = herd.wait_event(kind="phone_died", phone="stopped")
    assert died["cause"].startswith("stopped (SIGSTOP) for ")
    for name in ("busy", "stopped"):
        herd.wait_event(kind="phone_state", phone=name, state="ready", incarnation=2)
        assert levels(herd, name)[-1] == "hung"

    def stack() -> list[str]:
        lines = [line["line"] for line in herd.logged(event="output", phone="busy")]
        return lines if lines and "Extension modules" in lines[-1] else []

    lines = wait_for(stack, "the stack", 10)
    assert lines[0] == "Fatal Python error: Aborted"
    assert any(line.endswith(" in hang") for line in lines)
    assert not herd.logged(event="output", phone="stopped")

    herd.wait_event(kind="phone_late", phone="watched", level="suspect")
    assert not herd.events(kind="phone_died", phone="watched")
    assert not herd.events(kind="phone_died", phone="fine")
    assert not list(tmp_path.glob("core*"))
    os.kill(pids["watched"]["pid"], signal.SIGKILL)
    died = herd.wait_event(kind="phone_died", phone="watched")
    assert died["cause"] == "SIGKILL (perhaps out of memory)"


def test_one_that_is_stopped_and_goes_on(start_herd: StartHerd) -> None:
    herd = start_herd([phone("alice", hung=300)])
    pid = herd.processes()[0]
    os.kill(pid, signal.SIGSTOP)
    late = herd.wait_event(kind="phone_late", level="suspect")
    assert late["stopped"] is True
    (line,) = herd.command("ps").stdout.splitlines()[1:]
    assert "suspect: stopped for " in line
    os.kill(pid, signal.SIGCONT)
    herd.wait_event(kind="phone_late", level="fine")
    assert herd.processes() == [pid]
    assert not herd.events(kind="phone_died")


def test_a_supervisor_that_was_stopped_itself_blames_nobody(start_herd: StartHerd) -> None:
    herd = start_herd([phone("alice"), phone("bob")])
    os.kill(herd.pid, signal.SIGSTOP)
    time.sleep(1.5)  # longer than a phone may hang
    os.kill(herd.pid, signal.SIGCONT)
    overloaded = herd.wait_event(kind="box_overloaded")
    assert overloaded["sign"] == "supervisor_late"
    assert overloaded["supervisor_late"] > 1
    herd.wait_event(kind="box_recovered")
    assert not herd.events(kind="phone_died")
