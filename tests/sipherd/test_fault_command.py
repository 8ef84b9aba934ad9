"""`sipherd fault` and `Phone.fault`, on processes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import psutil
import pytest

from commandline import Ran, Run
from sipherd import CommandRefused, Herd, Phone
from sipherd.protocol.events import FaultInjected, PhoneDied


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def death(herd: Herd, phone: Phone, harm: Callable[[], object]) -> PhoneDied:
    """How the phone's process dies of it."""
    with herd.events(timeout=10) as events:
        harm()
        return next(
            event.body
            for event in events
            if event.phone == phone.name and isinstance(event.body, PhoneDied)
        )


def test_each_fault(run: Run) -> None:
    names = ("killed", "leaving", "vanishing", "stopped", "hanging")
    with Herd([{"name": name, "media": "none"} for name in names], faults=True) as herd:

        def fault(*words: str) -> Ran:
            return run("fault", *words, "--herd", herd.name)

        died = death(herd, herd["killed"], lambda: fault("killed", "kill"))
        assert died.cause.startswith("SIGKILL")
        died = death(herd, herd["leaving"], lambda: fault("leaving", "exit=7"))
        assert died.cause.startswith("exit code 7")
        vanishing = herd["vanishing"]
        died = death(herd, vanishing, lambda: vanishing.fault("vanish"))
        assert died.cause.startswith("SIGKILL")

        stopped = psutil.Process(herd["stopped"].info().pid)
        hanging = psutil.Process(herd["hanging"].info().pid)
        ran = fault("stopped", "stop", "--json")
        assert json.loads(ran.out) == {"phone": "stopped", "fault": "stop"}
        with herd.events(timeout=10) as events:
            herd["hanging"].fault("hang")
            assert any(isinstance(event.body, FaultInjected) for event in events)
        until(lambda: stopped.status() == psutil.STATUS_STOPPED)
        until(lambda: hanging.cpu_times().user > 0.3)
        for process in (stopped, hanging):  # they would take their time over the herd's end
            process.kill()


def test_not_without_leave(run: Run, herd: Herd) -> None:
    ran = run("fault", "alice", "kill", "--herd", herd.name)
    assert ran.code == 1
    assert "faults: allowed" in ran.err
    with pytest.raises(CommandRefused) as refused:
        herd["alice"].fault("hang")
    assert refused.value.reason == "faults_not_allowed"


@pytest.mark.parametrize("word", ["die", "exit=256", "exit=-1", "exit", "drop_registration"])
def test_a_fault_that_is_none(run: Run, word: str) -> None:
    ran = run("fault", "alice", word)
    if word == "exit":  # code 1, and no herd of the default name
        assert "no herd" in ran.err
        return
    assert ran.code == 2
    assert "expected one of kill, stop, hang, exit=N, drop-registration, vanish" in ran.err
