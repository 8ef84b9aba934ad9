"""What becomes of a phone that makes no progress: told, ended, or let alone."""

from __future__ import annotations

import signal

import pytest

from sipherd.protocol.events import BoxOverloaded, BoxRecovered, PhoneDied, PhoneLate
from sipherd.protocol.hang_spec import HangSpec
from sipherd.protocol.messages import GetHerd, Hello, ListPhones, StopPhones
from sipherd.protocol.states import PhoneState
from sipherd.supervisor.effects import Begin, StartProcess
from supervisor_driver import Driver, phone

QUICK = HangSpec(late=1, suspect=2, hung=4)


@pytest.fixture
def herd() -> Driver:
    herd = Driver(phone("alice", hang=QUICK), phone("bob"))
    herd.begin()
    herd.after(1)  # it has been seen to make progress
    return herd


def falls_silent(herd: Driver, name: str, run_state: str = "R") -> None:
    herd.silent[name] = (herd.now, run_state)


def levels(herd: Driver, name: str) -> list[str]:
    return [body.level for body in herd.told(PhoneLate, lambda event: event.phone == name)]


def test_a_phone_that_hangs_writes_its_stack_down_and_is_killed(herd: Driver) -> None:
    falls_silent(herd, "alice")
    herd.after(3.9)
    assert levels(herd, "alice") == ["late", "suspect"]
    assert not herd.signals()
    herd.after(0.3)
    assert levels(herd, "alice") == ["late", "suspect", "hung"]
    assert herd.signals() == [("alice", signal.SIGABRT)]
    herd.after(1.7)
    assert not herd.signals()
    herd.after(0.3)
    assert herd.signals() == [("alice", signal.SIGKILL)]
    assert herd.state("alice") is PhoneState.READY, "a death is told by the kernel alone"
    herd.after(100)
    assert not herd.signals()
    herd.die("alice", signal=signal.SIGKILL)
    (died,) = herd.told(PhoneDied)
    assert died.cause.startswith("hung: no progress for 4.")
    assert died.cause.endswith(" s (stack in the log)")
    assert not levels(herd, "bob")


def test_one_that_dies_of_sigabrt_is_not_killed_again(herd: Driver) -> None:
    falls_silent(herd, "alice")
    herd.after(4.3)
    assert herd.signals() == [("alice", signal.SIGABRT)]
    herd.silent.clear()
    herd.die("alice", signal=signal.SIGABRT)
    (died,) = herd.told(PhoneDied)
    assert died.cause.startswith("hung: no progress")
    herd.bring_up()
    herd.after(10)
    assert not herd.signals()


def test_a_sigabrt_of_its_own_is_called_so(herd: Driver) -> None:
    herd.die("alice", signal=signal.SIGABRT)
    assert herd.told(PhoneDied)[0].cause == "SIGABRT"


def test_one_that_is_stopped_is_recorded_as_such_and_writes_nothing(herd: Driver) -> None:
    falls_silent(herd, "alice", "T")
    herd.after(2.3)
    assert [late.stopped for late in herd.told(PhoneLate)] == [True, True]
    (info, _) = herd.answer(ListPhones()).phones
    assert (info.progress, info.stopped) == ("suspect", True)
    assert info.overdue == pytest.approx(2, abs=0.3)
    herd.after(2)
    assert herd.signals() == [("alice", signal.SIGKILL)]
    herd.after(10)
    assert not herd.signals()
    herd.die("alice", signal=signal.SIGKILL)
    assert herd.told(PhoneDied)[0].cause.startswith("stopped (SIGSTOP) for 4.")


def test_a_phone_that_goes_on_in_time_is_let_alone(herd: Driver) -> None:
    falls_silent(herd, "alice")
    herd.after(3.9)
    herd.silent.clear()
    herd.after(10)
    assert levels(herd, "alice") == ["late", "suspect", "fine"]
    assert not herd.signals()


def test_observe_only() -> None:
    herd = Driver(phone("alice", hang=HangSpec(late=1, suspect=2, hung=0)))
    herd.begin()
    falls_silent(herd, "alice")
    herd.after(1000)
    assert levels(herd, "alice") == ["late", "suspect"]
    assert not herd.signals()


def test_a_starting_phone_has_the_deadline_of_its_start() -> None:
    herd = Driver(phone("alice", hang=QUICK, start_timeout=7))
    herd.step(Begin(herd.spec.phones))
    (start,) = herd.wanted(StartProcess)
    herd.fork(start)
    herd.from_worker("alice", Hello(pid=1, token=start.token))
    falls_silent(herd, "alice")
    herd.after(6.9)
    assert not herd.told(PhoneLate)
    assert not herd.signals()
    herd.after(0.2)
    assert herd.signals() == [("alice", signal.SIGKILL)]
    herd.die("alice", signal=signal.SIGKILL)
    assert herd.told(PhoneDied)[0].cause == "not ready within 7 s"


def test_a_phone_that_is_stopped_by_the_herd_is_not_judged(herd: Driver) -> None:
    herd.ask(StopPhones(which=("alice",)))
    falls_silent(herd, "alice")
    herd.after(4.9)
    assert not levels(herd, "alice")
    assert not herd.signals()
    herd.after(0.2)
    assert herd.signals() == [("alice", signal.SIGTERM)]


def test_a_stop_takes_over_from_a_hang(herd: Driver) -> None:
    falls_silent(herd, "alice")
    herd.after(4.3)
    assert herd.signals() == [("alice", signal.SIGABRT)]
    herd.ask(StopPhones(which=("alice",)))
    herd.after(4.9)
    assert not herd.signals()
    herd.after(0.2)
    assert herd.signals() == [("alice", signal.SIGTERM)]


def test_the_next_process_begins_anew(herd: Driver) -> None:
    falls_silent(herd, "alice")
    herd.after(2.5)
    assert herd.phone("alice").progress.level == "suspect"
    herd.die("alice", exit_code=1)
    (info, _) = herd.answer(ListPhones()).phones
    assert info.progress == "fine"


def test_nobody_is_looked_at_in_an_empty_herd() -> None:
    herd = Driver()
    herd.begin()
    assert herd.core.next_deadline() is None


def test_phones_that_are_late_together_tell_of_the_box() -> None:
    herd = Driver(*(phone(f"p{n}", hang=QUICK) for n in range(10)))
    herd.begin()
    for n in range(10):
        falls_silent(herd, f"p{n}")
    herd.after(3)
    (overloaded,) = herd.told(BoxOverloaded)
    assert (overloaded.sign, overloaded.phones_late) == ("phones_late", 10)
    assert herd.answer(GetHerd()).box_overloaded
    herd.after(1.5)
    assert not herd.signals()
    herd.silent.clear()
    herd.after(2)
    assert len(herd.told(BoxRecovered)) == 1
    assert not herd.answer(GetHerd()).box_overloaded
    assert not herd.told(PhoneLate)


def test_a_supervisor_that_was_asleep_blames_nobody(herd: Driver) -> None:
    falls_silent(herd, "alice")
    herd.oversleep(60)
    assert herd.told(BoxOverloaded)[0].sign == "supervisor_late"
    assert herd.told(BoxOverloaded)[0].supervisor_late == pytest.approx(60, abs=0.3)
    assert not herd.signals()
    herd.silent.clear()
    herd.after(5)
    assert herd.told(BoxRecovered)
    assert not herd.signals()
