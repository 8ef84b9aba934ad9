"""Functions that phones run for a client, as the supervisor sees them."""

from __future__ import annotations

import pytest

from sipherd.protocol.behaviour import MAX_CODE, Behaviour
from sipherd.protocol.events import (
    BehaviourEnded,
    BehaviourFailed,
    BehaviourStarted,
    PhoneDied,
    PhoneMoved,
)
from sipherd.protocol.exits import WorkerExit
from sipherd.protocol.messages import (
    AddPhones,
    Drain,
    Exit,
    Hello,
    ListPhones,
    PhoneList,
    Ready,
    RefuseCalls,
    Refused,
    StartBehaviour,
    StopPhones,
    Welcome,
)
from sipherd.protocol.restart_spec import RestartSpec
from sipherd.protocol.states import PhoneState
from sipherd.supervisor.effects import DrainRequested, Log, StartProcess
from supervisor_driver import Driver, phone

WATCH = Behaviour(name="watch", code=b"secret")
FAILED = BehaviourFailed(name="watch", error="ValueError: boom", traceback="Traceback …")


def added(policy: str = "permanent", *, ready: bool = True) -> Driver:
    """A herd with alice, who has a behaviour, and bob."""
    herd = Driver(phone("bob", "1002"))
    herd.begin()
    spec = phone("alice", "1001", restart=RestartSpec(policy=policy))  # type: ignore[arg-type]
    herd.ask(AddPhones(specs=(spec,), behaviours={"alice": WATCH}), id=999)
    if ready:
        herd.bring_up()
    return herd


def test_it_is_welcomed_with_it_and_starts_when_the_phone_is_ready() -> None:
    herd = added(ready=False)
    (start,) = herd.wanted(StartProcess)
    pid = herd.fork(start)
    herd.from_worker("alice", Hello(pid=pid, token=start.token))
    (welcome,) = herd.to_worker("alice")
    assert welcome.behaviour == WATCH
    assert herd.state("alice") is PhoneState.STARTING
    herd.from_worker("alice", Ready())
    assert herd.to_worker("alice") == [StartBehaviour()]
    herd.happens("alice", BehaviourStarted(name="watch", pid=pid))
    started = next(e for e in herd.events if isinstance(e.body, BehaviourStarted))
    assert (started.phone, started.pid, started.incarnation) == ("alice", pid, 1)


def test_others_have_none() -> None:
    herd = added()
    infos = {info.name: info.behaviour for info in herd.answer(ListPhones()).phones}
    assert infos == {"bob": "", "alice": "watch"}
    assert herd.to_worker("bob") == []


def test_nobody_is_told_its_code() -> None:
    herd = added()
    assert "secret" not in repr(WATCH)
    assert b"secret" not in repr(herd.answer(ListPhones())).encode()


def test_it_fails_and_the_policy_decides() -> None:
    herd = added()
    herd.to_worker("alice")
    herd.happens("alice", FAILED)
    assert herd.to_worker("alice") == [Exit(why="its behaviour failed")]
    assert herd.told(BehaviourFailed) == [FAILED]
    (line,) = (log for log in herd.wanted(Log) if log.event == "behaviour_failed")
    assert line.fields["traceback"] == "Traceback …"
    herd.die("alice", exit_code=WorkerExit.BEHAVIOUR)
    (died,) = herd.told(PhoneDied)
    assert died.cause == "its behaviour watch failed: ValueError: boom"
    herd.bring_up()
    assert herd.state("alice") is PhoneState.READY
    assert herd.phone("alice").incarnation == 2
    assert herd.to_worker("alice") == [StartBehaviour()]  # from the beginning


def test_a_later_death_is_not_blamed_on_it() -> None:
    herd = added()
    herd.happens("alice", FAILED)
    herd.die("alice", exit_code=WorkerExit.BEHAVIOUR)
    herd.bring_up()
    herd.die("alice", exit_code=WorkerExit.BEHAVIOUR)
    assert [died.cause for died in herd.told(PhoneDied)][-1] == "exit code 76"


def test_a_temporary_phone_is_parked() -> None:
    herd = added("temporary")
    herd.happens("alice", FAILED)
    herd.die("alice", exit_code=WorkerExit.BEHAVIOUR)
    assert herd.state("alice") is PhoneState.FAILED
    assert herd.wanted(StartProcess) == []


def test_it_can_not_be_loaded() -> None:
    """Whoever asked is told why, and nothing is left of the phone."""
    herd = added(ready=False)
    (start,) = herd.wanted(StartProcess)
    pid = herd.fork(start)
    herd.from_worker("alice", Hello(pid=pid, token=start.token))
    herd.to_worker("alice")
    failed = BehaviourFailed(name="watch", error="No module", traceback="", is_loaded=False)
    herd.happens("alice", failed)
    assert herd.to_worker("alice") == [Exit(why="its behaviour failed")]
    herd.die("alice", exit_code=WorkerExit.CONFIGURATION)
    refused = herd.reply(999)
    assert isinstance(refused, Refused)
    why = "phone alice did not start: its behaviour watch can't be loaded: No module"
    assert refused.message == why
    assert [info.name for info in herd.answer(ListPhones()).phones] == ["bob"]


def test_what_raises_because_the_phone_is_stopped_did_not_fail() -> None:
    herd = added()
    herd.ask(StopPhones(which=("alice",)))
    herd.happens("alice", FAILED)
    assert herd.told(BehaviourFailed) == []
    assert herd.told(BehaviourEnded) == [BehaviourEnded(name="watch", why="stopped")]
    messages = herd.to_worker("alice")
    assert [type(m) for m in messages] == [StartBehaviour, Drain]


def test_what_raises_because_the_herd_is_drained_leaves_the_phone_its_calls() -> None:
    herd = added()
    herd.ring("alice", "i1")
    herd.step(DrainRequested("SIGUSR1"))
    herd.happens("alice", FAILED)
    assert herd.told(BehaviourEnded) == [BehaviourEnded(name="watch", why="stopped")]
    assert herd.to_worker("alice") == [StartBehaviour(), RefuseCalls()]
    assert herd.state("alice") is PhoneState.READY


def test_the_process_that_cleans_up_has_none() -> None:
    herd = added("temporary")
    herd.ring("alice", "i1")
    herd.die("alice", signal=9)
    (start,) = herd.wanted(StartProcess)
    pid = herd.fork(start)
    herd.from_worker("alice", Hello(pid=pid, token=start.token))
    (welcome,) = (m for m in herd.to_worker("alice") if isinstance(m, Welcome))
    assert (welcome.purpose, welcome.behaviour) == ("clean_up", None)
    herd.from_worker("alice", Ready())
    assert StartBehaviour() not in herd.to_worker("alice")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"carol": WATCH}, 'a behaviour for phone "carol", which is not among those to be added'),
        (
            {"alice": Behaviour(name="f", code=bytes(MAX_CODE + 1))},
            "phone alice: a behaviour of 262145 bytes, at most 262144",
        ),
    ],
)
def test_refused(given: dict[str, Behaviour], why: str) -> None:
    herd = Driver(phone("bob", "1002"))
    herd.begin()
    refused = herd.answer(AddPhones(specs=(phone("alice", "1001"),), behaviours=given))
    assert refused == Refused(reason="bad_behaviour", message=why)
    phones = herd.answer(ListPhones())
    assert isinstance(phones, PhoneList)
    assert len(phones.phones) == 1
    assert herd.told(PhoneMoved, lambda event: event.phone == "alice") == []
