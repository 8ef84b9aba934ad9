"""A herd that takes no more calls, and stops after the last one."""

from __future__ import annotations

import pytest

from sipherd.protocol.events import CallEnded, HerdDraining, HerdStopping
from sipherd.protocol.exits import WorkerExit
from sipherd.protocol.messages import (
    AddPhones,
    Done,
    ListPhones,
    PlaceCall,
    RefuseCalls,
    Refused,
    RefusesCalls,
    Reload,
    RestartPhones,
    StartPhones,
    StopHerd,
    StopReports,
)
from sipherd.supervisor.effects import DrainRequested, Finish, ReloadRequested, StopRequested
from supervisor_driver import Driver, phone


@pytest.fixture
def herd() -> Driver:
    herd = Driver(phone("alice", "1001"), phone("bob", "1002"))
    herd.begin()
    return herd


def refusing(herd: Driver, *names: str) -> None:
    """The phones have heard of it."""
    for name in names:
        assert herd.to_worker(name) == [RefuseCalls()]
        herd.from_worker(name, RefusesCalls())


def end(herd: Driver, name: str, key: str) -> None:
    herd.happens(name, CallEnded(call=key, cause="normal", by="remote"))


def test_it_stops_when_the_last_call_is_over(herd: Driver) -> None:
    herd.ring("alice", "k1")
    herd.ring("bob", "k2")
    herd.step(DrainRequested("SIGUSR1"))
    assert herd.told(HerdDraining) == [HerdDraining(why="SIGUSR1", calls=2)]
    refusing(herd, "alice", "bob")
    end(herd, "alice", "k1")
    assert herd.core.phase == "ready"
    assert herd.core.status() == "draining, calls left: 1; 2 phones ready"
    end(herd, "bob", "k2")
    assert herd.told(HerdStopping) == [HerdStopping(why="drained")]
    herd.drain("alice")
    herd.drain("bob")
    assert herd.finished() == Finish(0)


def test_without_calls_it_stops_once_every_phone_refuses_them(herd: Driver) -> None:
    herd.step(DrainRequested("SIGUSR1"))
    refusing(herd, "alice")
    assert not herd.told(HerdStopping)
    refusing(herd, "bob")
    assert herd.told(HerdStopping)


def test_a_call_that_crossed_the_word_is_waited_for(herd: Driver) -> None:
    herd.step(DrainRequested("SIGUSR1"))
    refusing(herd, "alice")
    herd.ring("bob", "k1")
    refusing(herd, "bob")
    assert not herd.told(HerdStopping)
    end(herd, "bob", "k1")
    assert herd.told(HerdStopping)


def test_a_client_waits_for_the_end(herd: Driver) -> None:
    call = herd.place("alice", "sip:peer@127.0.0.1:5099")
    first = herd.ask(StopHerd(drain=True))
    second = herd.ask(StopHerd(drain=True), client=b"B")
    refusing(herd, "alice", "bob")
    assert herd.reply(first) is None
    end(herd, "alice", call)
    herd.drain("alice")
    herd.drain("bob")
    for id, client in ((first, b"A"), (second, b"B")):
        reply = herd.reply(id, client)
        assert isinstance(reply, Done)
        assert isinstance(reply.result, StopReports)
    assert len(herd.told(HerdDraining)) == 1


@pytest.mark.parametrize(
    "body",
    [
        PlaceCall(phone="alice", target="bob"),
        AddPhones(specs=(phone("carol"),)),
        StartPhones(),
        RestartPhones(),
        Reload(),
    ],
    ids=lambda body: type(body).__name__,
)
def test_what_it_does_not_do_any_more(herd: Driver, body: object) -> None:
    herd.ring("alice", "k1")
    herd.step(DrainRequested("SIGUSR1"))
    refused = herd.answer(body)
    assert isinstance(refused, Refused)
    assert refused.reason == "herd_draining"
    herd.step(ReloadRequested())
    assert herd.core.phase == "ready"
    assert len(herd.answer(ListPhones()).phones) == 2


def test_a_stop_does_not_wait_for_the_calls(herd: Driver) -> None:
    herd.ring("alice", "k1")
    id = herd.ask(StopHerd(drain=True))
    refusing(herd, "alice", "bob")
    herd.step(StopRequested("SIGTERM", 0))
    herd.drain("alice")
    herd.drain("bob")
    assert isinstance(herd.reply(id), Done)
    assert herd.finished() == Finish(0)


def test_a_phone_that_dies_meanwhile_is_told_again(herd: Driver) -> None:
    herd.ring("alice", "k1")
    herd.step(DrainRequested("SIGUSR1"))
    refusing(herd, "bob")
    herd.die("alice", signal=9)
    assert not herd.told(HerdStopping)
    herd.bring_up()
    refusing(herd, "alice")
    assert herd.told(HerdStopping)


def test_a_phone_that_stays_down_holds_nothing_up(herd: Driver) -> None:
    herd.ring("alice", "k1")
    herd.step(DrainRequested("SIGUSR1"))
    refusing(herd, "bob")
    herd.die("alice", exit_code=WorkerExit.CONFIGURATION)
    assert herd.told(HerdStopping)


def test_not_in_a_herd_that_is_being_stopped(herd: Driver) -> None:
    herd.step(StopRequested("SIGTERM", 0))
    herd.step(DrainRequested("SIGUSR1"))
    assert not herd.told(HerdDraining)
