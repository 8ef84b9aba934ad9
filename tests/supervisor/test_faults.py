"""Harm on purpose: who may ask for it, and what is done."""

from __future__ import annotations

import signal

import pytest

from sipherd.protocol.events import FaultInjected
from sipherd.protocol.messages import InjectFault, Refused, StopPhones
from sipherd.protocol.spec import RegisterSpec
from supervisor_driver import Driver, phone

ALICE = phone("alice", "1001")
BOB = phone("bob", "1002", register=RegisterSpec(server="pbx.test"))


@pytest.fixture
def herd() -> Driver:
    herd = Driver(ALICE, BOB, faults="allowed")
    herd.begin()
    herd.signals()
    for name in ("alice", "bob"):
        herd.commands(name)
    return herd


@pytest.mark.parametrize(("fault", "number"), [("kill", signal.SIGKILL), ("stop", signal.SIGSTOP)])
def test_signals_are_sent_by_the_supervisor(herd: Driver, fault: str, number: int) -> None:
    assert herd.answer(InjectFault(phone="1001", fault=fault)) is None  # type: ignore[arg-type]
    assert herd.signals() == [("alice", number)]
    assert herd.told(FaultInjected) == [FaultInjected(fault=fault)]  # type: ignore[arg-type]
    (event,) = [event for event in herd.events if isinstance(event.body, FaultInjected)]
    assert (event.phone, event.pid) == ("alice", herd.phone("alice").pid)


@pytest.mark.parametrize("fault", ["hang", "exit", "vanish"])
def test_the_process_does_the_rest_to_itself(herd: Driver, fault: str) -> None:
    wanted = InjectFault(phone="alice", fault=fault, code=3)  # type: ignore[arg-type]
    assert herd.answer(wanted) is None
    assert herd.to_worker("alice") == [wanted]
    assert not herd.signals()
    (told,) = herd.told(FaultInjected)
    assert told.code == (3 if fault == "exit" else None)


def test_a_registration_is_dropped_where_there_is_one(herd: Driver) -> None:
    refused = herd.answer(InjectFault(phone="alice", fault="drop_registration"))
    assert isinstance(refused, Refused)
    assert refused.reason == "no_registrar"
    wanted = InjectFault(phone="bob", fault="drop_registration")
    assert herd.answer(wanted) is None
    assert herd.to_worker("bob") == [wanted]


def test_not_without_leave() -> None:
    herd = Driver(ALICE)
    herd.begin()
    refused = herd.answer(InjectFault(phone="alice", fault="kill"))
    assert isinstance(refused, Refused)
    assert refused.reason == "faults_not_allowed"
    assert "faults: allowed" in refused.message
    assert not herd.signals()
    assert not herd.told(FaultInjected)


def test_not_to_a_phone_without_process(herd: Driver) -> None:
    herd.ask(StopPhones(which=("alice",)))
    herd.drain("alice")
    refused = herd.answer(InjectFault(phone="alice", fault="kill"))
    assert isinstance(refused, Refused)
    assert refused.reason == "phone_not_ready"
    assert "stopped" in refused.message


def test_a_code_that_no_process_can_exit_with(herd: Driver) -> None:
    refused = herd.answer(InjectFault(phone="alice", fault="exit", code=256))
    assert isinstance(refused, Refused)
    assert refused.reason == "bad_exit_code"
    assert herd.to_worker("alice") == []
