"""Phones that die: restarted in time, parked in the end, and what the herd says of it."""

from __future__ import annotations

import signal

import pytest

from sipherd.protocol.events import HerdStopping, PhoneDied, PhoneMoved
from sipherd.protocol.exits import WorkerExit
from sipherd.protocol.messages import (
    AddPhones,
    Done,
    Drained,
    Exit,
    GetHerd,
    Hello,
    ListPhones,
    PhoneInfo,
    Ready,
    RemovePhones,
    ResetPhones,
    RestartPhones,
    StartPhones,
    StopHerd,
    StopPhones,
    Welcome,
)
from sipherd.protocol.restart_spec import RestartSpec
from sipherd.protocol.states import PhoneState
from sipherd.supervisor.effects import (
    Begin,
    DeathCause,
    DropStale,
    Finish,
    Forked,
    ForkRefused,
    Log,
    NurseryGone,
    ProcessGone,
    Signal,
    StartProcess,
)
from sipherd.supervisor.restarts import BURST
from supervisor_driver import Driver, phone

ALICE = phone("alice", "1001")
BOB = phone("bob", "1002")
TEMPORARY = RestartSpec(policy="temporary")


@pytest.fixture
def herd() -> Driver:
    herd = Driver(ALICE, BOB)
    herd.begin()
    return herd


def info(herd: Driver, name: str = "alice") -> PhoneInfo:
    found: PhoneInfo = herd.answer(ListPhones(which=(name,))).phones[0]
    return found


def crash(herd: Driver, times: int, name: str = "alice") -> None:
    """The phone dies as soon as it is READY, so often."""
    for _ in range(times):
        herd.die(name, signal=signal.SIGSEGV)
        while herd.state(name) is PhoneState.BACKOFF:
            herd.after(0.05)
        herd.bring_up()


# -- restarted -----------------------------------------------------------------------------------


def test_a_phone_that_dies_is_back_at_once_on_its_sockets(herd: Driver) -> None:
    sockets = herd.phone("alice").sockets
    herd.die("alice", signal=signal.SIGSEGV)
    (start,) = herd.wanted(StartProcess)
    assert (start.phone, start.incarnation, start.sockets) == ("alice", 2, sockets)
    herd.serve(start)
    assert herd.state("alice") is PhoneState.READY
    moves = herd.told(PhoneMoved, lambda event: event.phone == "alice")
    assert [(move.state.value, move.why) for move in moves[2:]] == [
        ("backoff", "SIGSEGV"),
        ("starting", ""),
        ("ready", ""),
    ]
    assert (info(herd).deaths, info(herd).restarts, info(herd).why) == (1, 1, "")
    counters = herd.answer(GetHerd()).counters
    assert (counters["phone_deaths"], counters["phone_restarts"]) == (1, 1)


def test_the_second_restart_waits_and_ps_says_for_how_long(herd: Driver) -> None:
    crash(herd, 1)
    herd.die("alice", signal=signal.SIGSEGV)
    assert not herd.wanted(StartProcess)
    assert info(herd).retry_in == pytest.approx(0.1)
    herd.now += 0.06
    told = info(herd)
    assert (told.state, told.why) == (PhoneState.BACKOFF, "SIGSEGV")
    assert told.retry_in == pytest.approx(0.04)
    herd.after(0.05)
    assert len(herd.wanted(StartProcess)) == 1
    assert info(herd).retry_in is None


def test_the_sixth_death_within_the_window_parks_it(herd: Driver) -> None:
    crash(herd, 5)
    assert herd.state("alice") is PhoneState.READY
    herd.die("alice", signal=signal.SIGSEGV)
    assert herd.state("alice") is PhoneState.FAILED
    assert info(herd).why == "SIGSEGV; 5 restarts within 30 s"
    assert 5060 not in herd.kernel.bound.values()
    assert [died.next_action for died in herd.told(PhoneDied)] == [
        "restart now",
        "restart in 0.1 s",
        "restart in 0.2 s",
        "restart in 0.4 s",
        "restart in 0.8 s",
        "parked: 5 restarts within 30 s",
    ]
    assert herd.state("bob") is PhoneState.READY


def test_starts_that_hang_park_it_in_the_end(herd: Driver) -> None:
    herd.die("alice", exit_code=1)
    for _ in range(5):
        herd.fork(herd.wanted(StartProcess)[0])
        herd.after(10.0)
        assert herd.signals() == [("alice", signal.SIGKILL)]
        herd.die("alice", signal=signal.SIGKILL)
        herd.after(2.0)
    assert herd.state("alice") is PhoneState.FAILED
    assert info(herd).why == ("not ready within 10 s; 5 restarts in a row did not come up")


def test_slow_never_parks() -> None:
    slow = RestartSpec(max=1, exhausted="slow")
    herd = Driver(phone("alice", restart=slow))
    herd.begin()
    crash(herd, 5)
    herd.die("alice", exit_code=1)
    assert info(herd).retry_in == pytest.approx(30.0)


def test_an_end_that_nobody_asked_for_and_that_is_none(herd: Driver) -> None:
    """Exit code 0 under ``transient``: as if it had been stopped."""
    herd.die("alice", exit_code=0)
    assert herd.state("alice") is PhoneState.STOPPED
    assert 5060 not in herd.kernel.bound.values()
    (died,) = herd.told(PhoneDied)
    assert (died.cause, died.next_action) == ("exit code 0", "stopped")
    herd.ask(StartPhones(which=("alice",)))
    herd.bring_up()
    assert herd.state("alice") is PhoneState.READY


def test_an_exit_code_that_means_do_not_retry(herd: Driver) -> None:
    herd.die("alice", exit_code=WorkerExit.CONFIGURATION)
    assert herd.state("alice") is PhoneState.FAILED
    assert info(herd).why == "exit code 78 (it refused its configuration)"


def test_a_fork_the_kernel_refuses_is_a_death_too(herd: Driver) -> None:
    herd.die("alice", signal=signal.SIGSEGV)
    (start,) = herd.wanted(StartProcess)
    herd.step(ForkRefused("alice", start.incarnation, "Resource temporarily unavailable"))
    assert herd.state("alice") is PhoneState.BACKOFF
    *_, died = herd.told(PhoneDied)
    assert died.cause == "no process: Resource temporarily unavailable"
    assert died.state is PhoneState.STARTING
    herd.after(0.1)
    herd.bring_up()
    assert herd.state("alice") is PhoneState.READY


def test_no_process_in_time_is_a_death_and_what_comes_late_is_killed(herd: Driver) -> None:
    herd.die("alice", signal=signal.SIGSEGV)
    herd.wanted(StartProcess)
    herd.after(10.1)
    (start,) = herd.wanted(StartProcess)
    assert start.incarnation == 3
    herd.step(Forked("alice", 2, 77))
    assert [(s.incarnation, s.number) for s in herd.wanted(Signal)] == [(2, signal.SIGKILL)]
    herd.serve(start)
    assert herd.state("alice") is PhoneState.READY


def test_the_first_start_is_not_tried_again(herd: Driver) -> None:
    id = herd.ask(AddPhones(specs=(phone("carol"),)))
    herd.fork(herd.wanted(StartProcess)[0])
    herd.die("carol", exit_code=3)
    assert herd.reply(id).message == "phone carol did not start: exit code 3"
    assert not herd.wanted(StartProcess)


@pytest.mark.parametrize("ask", [StartPhones, RestartPhones])
def test_a_start_somebody_asked_for_is_not_tried_again(
    herd: Driver, ask: type[StartPhones | RestartPhones]
) -> None:
    herd.die("alice", exit_code=WorkerExit.CONFIGURATION)
    id = herd.ask(ask(which=("alice",)))
    herd.fork(herd.wanted(StartProcess)[0])
    herd.die("alice", exit_code=3)
    assert herd.reply(id).reason == "start_failed"
    assert herd.state("alice") is PhoneState.FAILED


def test_the_nursery_s_death_in_a_restart_blames_nobody(herd: Driver) -> None:
    herd.die("alice", signal=signal.SIGSEGV)
    herd.wanted(StartProcess)
    herd.step(NurseryGone(44, "SIGKILL"))
    herd.bring_up()
    assert herd.state("alice") is PhoneState.READY
    assert info(herd).deaths == 1


def test_restarts_of_many_are_spread(herd: Driver) -> None:
    herd = Driver(*(phone(f"p{n}") for n in range(BURST + 5)), spawn_rate=10.0)
    herd.begin()
    for p in list(herd.core.table):
        herd.die(p.name, signal=signal.SIGKILL)
    assert len(herd.wanted(StartProcess)) == BURST
    assert info(herd, f"p{BURST + 4}").retry_in == pytest.approx(0.5)
    for _ in range(5):
        herd.after(0.105)
        assert len(herd.wanted(StartProcess)) == 1


# -- what people do meanwhile --------------------------------------------------------------------


@pytest.fixture
def waiting(herd: Driver) -> Driver:
    """Alice is in BACKOFF, with its next start in 0.1 s."""
    crash(herd, 1)
    herd.die("alice", signal=signal.SIGSEGV)
    assert herd.state("alice") is PhoneState.BACKOFF
    return herd


def test_stop_in_backoff(waiting: Driver) -> None:
    (report,) = waiting.answer(StopPhones(which=("alice",))).reports
    assert report.how == "not_running"
    assert waiting.state("alice") is PhoneState.STOPPED
    waiting.after(60.0)
    assert not waiting.wanted(StartProcess)
    assert info(waiting).retry_in is None


@pytest.mark.parametrize("ask", [StartPhones, RestartPhones])
def test_start_and_restart_in_backoff_are_now(
    waiting: Driver, ask: type[StartPhones | RestartPhones]
) -> None:
    id = waiting.ask(ask(which=("alice",)))
    waiting.bring_up()
    (told,) = waiting.reply(id).result.phones
    assert (told.state, told.incarnation) == (PhoneState.READY, 3)
    waiting.after(1.0)
    assert not waiting.wanted(StartProcess)


def test_a_start_in_backoff_that_fails_goes_on_by_the_policy(waiting: Driver) -> None:
    id = waiting.ask(StartPhones(which=("alice",)))
    waiting.fork(waiting.wanted(StartProcess)[0])
    waiting.die("alice", exit_code=1)
    assert waiting.state("alice") is PhoneState.BACKOFF
    waiting.after(1.0)
    waiting.bring_up()
    assert isinstance(waiting.reply(id), Done)


def test_reset_in_backoff_begins_anew(waiting: Driver) -> None:
    (told,) = waiting.answer(ResetPhones(which=("alice",))).phones
    assert told.state is PhoneState.STARTING
    waiting.bring_up()
    waiting.die("alice", signal=signal.SIGSEGV)
    assert waiting.told(PhoneDied)[-1].next_action == "restart now"


def test_remove_in_backoff(waiting: Driver) -> None:
    assert len(waiting.answer(RemovePhones(which=("alice",))).reports) == 1
    waiting.after(60.0)
    assert not waiting.wanted(StartProcess)
    assert len(waiting.core.table) == 1


def test_the_herd_stops_in_backoff(waiting: Driver) -> None:
    id = waiting.ask(StopHerd())
    waiting.drain("bob")
    assert isinstance(waiting.reply(id), Done)
    assert waiting.finished() == Finish(0)
    assert not waiting.kernel.bound


def test_a_reset_gives_it_a_new_window(herd: Driver) -> None:
    crash(herd, 6)
    assert herd.state("alice") is PhoneState.FAILED
    herd.answer(ResetPhones(which=("alice",)))
    herd.ask(StartPhones(which=("alice",)))
    herd.bring_up()
    crash(herd, 5)
    assert herd.state("alice") is PhoneState.READY


def test_a_death_while_a_restart_is_asked_for_ends_the_asking(herd: Driver) -> None:
    id = herd.ask(RestartPhones(which=("alice",)))
    herd.die("alice", signal=signal.SIGSEGV)
    herd.bring_up()
    assert isinstance(herd.reply(id), Done)


# -- the death record ----------------------------------------------------------------------------


def test_a_death_is_one_event_and_one_line_of_the_log(herd: Driver) -> None:
    call = herd.place("alice", "bob")
    pid = herd.phone("alice").pid
    herd.now += 5.0
    herd.wanted(Log)
    herd.die("alice", signal=signal.SIGKILL)
    (died,) = herd.told(PhoneDied)
    assert died.cause == "SIGKILL (perhaps out of memory)"
    assert died.calls == (call,)
    (line,) = herd.wanted(Log)
    assert (line.level, line.event) == ("error", "phone_died")
    assert line.fields == {
        "phone": "alice",
        "incarnation": 1,
        "pid": pid,
        "cause": "SIGKILL (perhaps out of memory)",
        "uptime": 5.0,
        "state": "ready",
        "calls": (call,),
        "next_action": "restart now",
    }


def test_a_stop_is_no_death(herd: Driver) -> None:
    herd.ask(StopPhones(which=("alice",)))
    herd.drain("alice")
    assert not herd.told(PhoneDied)
    assert not herd.wanted(Log)
    assert info(herd).deaths == 0


# -- hold ----------------------------------------------------------------------------------------


def test_a_parked_phone_may_keep_its_sockets() -> None:
    herd = Driver(phone("alice", on_parked="hold", restart=TEMPORARY), BOB)
    herd.begin()
    sockets = herd.phone("alice").sockets
    herd.die("alice", exit_code=1)
    assert herd.state("alice") is PhoneState.FAILED
    assert herd.phone("alice").sockets == sockets
    herd.ask(StartPhones(which=("alice",)))
    (start,) = herd.wanted(StartProcess)
    assert start.sockets == sockets
    herd.serve(start)
    herd.die("alice", exit_code=1)
    herd.answer(ResetPhones(which=("alice",)))
    assert sockets not in herd.kernel.bound


def test_what_grows_old_in_a_held_socket_is_dropped() -> None:
    herd = Driver(phone("alice", on_parked="hold", restart=TEMPORARY), BOB)
    herd.begin()
    herd.die("alice", exit_code=1)
    herd.after(8.0)
    drops = herd.wanted(DropStale)
    assert [(drop.sockets, drop.age) for drop in drops] == [(herd.phone("alice").sockets, 32.0)] * 3
    herd.ask(StartPhones(which=("alice",)))
    herd.bring_up()
    herd.after(8.0)
    assert not herd.wanted(DropStale)


# -- calls that are left behind ------------------------------------------------------------------


@pytest.fixture
def left() -> Driver:
    """Alice died in a call, for the last time: its last process was asked for."""
    herd = Driver(phone("alice", restart=TEMPORARY), BOB, phone("carol"))
    herd.begin()
    herd.place("alice", "bob")
    herd.die("alice", signal=signal.SIGSEGV)
    assert herd.state("alice") is PhoneState.DRAINING
    return herd


def welcome(herd: Driver, start: StartProcess) -> Welcome:
    pid = herd.fork(start)
    herd.from_worker(start.phone, Hello(pid=pid, token=start.token))
    (found,) = (m for m in herd.to_worker(start.phone) if isinstance(m, Welcome))
    herd.from_worker(start.phone, Ready())
    return found


def test_before_a_phone_is_parked_its_calls_are_ended(left: Driver) -> None:
    (died,) = left.told(PhoneDied)
    assert died.next_action == "clean up its calls, then parked"
    (start,) = left.wanted(StartProcess)
    assert welcome(left, start).purpose == "clean_up"
    assert left.state("alice") is PhoneState.DRAINING
    left.from_worker("alice", Drained())
    assert [type(m) for m in left.to_worker("alice")] == [Exit]
    left.die("alice", exit_code=0)
    assert left.state("alice") is PhoneState.FAILED
    assert (info(left).why, info(left).deaths, info(left).restarts) == ("SIGSEGV", 1, 0)
    assert 5060 not in left.kernel.bound.values()
    left.after(60.0)
    assert left.signals() == []
    # The next time it has nothing left behind, and serves.
    left.ask(StartPhones(which=("alice",)))
    (start,) = left.wanted(StartProcess)
    assert welcome(left, start).purpose == "serve"
    left.die("alice", exit_code=1)
    assert left.state("alice") is PhoneState.FAILED


def test_the_journal_may_know_of_calls_that_were_never_told() -> None:
    herd = Driver(phone("alice", restart=TEMPORARY))
    herd.begin()
    herd.journals.add("alice")
    herd.die("alice", signal=signal.SIGSEGV)
    (start,) = herd.wanted(StartProcess)
    assert welcome(herd, start).purpose == "clean_up"


def test_calls_may_be_left_behind_on_purpose() -> None:
    herd = Driver(phone("alice", restart=TEMPORARY, after_crash="leave"), BOB)
    herd.begin()
    herd.journals.add("alice")
    herd.place("alice", "bob")
    herd.die("alice", signal=signal.SIGSEGV)
    assert herd.state("alice") is PhoneState.FAILED


def test_calls_of_earlier_processes_count_too(herd: Driver) -> None:
    herd.place("alice", "bob")
    crash(herd, 5)
    herd.die("alice", signal=signal.SIGSEGV)
    assert herd.state("alice") is PhoneState.DRAINING


def test_calls_of_long_ago_were_ended_by_the_process_after_them(herd: Driver) -> None:
    herd.place("alice", "bob")
    crash(herd, 1)
    herd.now += 35.0
    crash(herd, 6)
    assert herd.state("alice") is PhoneState.FAILED


def test_a_clean_up_that_dies_leaves_it_at_that(left: Driver) -> None:
    welcome(left, left.wanted(StartProcess)[0])
    left.die("alice", signal=signal.SIGABRT)
    assert left.state("alice") is PhoneState.FAILED
    *_, died = left.told(PhoneDied)
    assert (died.cause, died.next_action) == ("SIGABRT", "parked")


def test_a_clean_up_has_35_s(left: Driver) -> None:
    welcome(left, left.wanted(StartProcess)[0])
    left.after(35.0)
    assert left.signals() == [("alice", signal.SIGKILL)]
    left.die("alice", signal=signal.SIGKILL)
    assert left.state("alice") is PhoneState.FAILED
    *_, died = left.told(PhoneDied)
    assert died.cause == "its calls are not ended within 35 s"


def test_a_clean_up_without_a_process(left: Driver) -> None:
    (start,) = left.wanted(StartProcess)
    left.step(ForkRefused("alice", start.incarnation, "no"))
    assert left.state("alice") is PhoneState.FAILED


def test_a_clean_up_that_no_nursery_hears_of(left: Driver) -> None:
    left.wanted(StartProcess)
    left.after(10.0)
    assert left.state("alice") is PhoneState.FAILED


def test_the_nursery_s_death_costs_no_clean_up(left: Driver) -> None:
    left.wanted(StartProcess)
    left.step(NurseryGone(44, "SIGKILL"))
    (start,) = left.wanted(StartProcess)
    assert welcome(left, start).purpose == "clean_up"


@pytest.mark.parametrize("is_welcome", [True, False])
def test_a_stop_of_a_phone_that_cleans_up_has_the_time_of_any_stop(
    left: Driver, is_welcome: bool
) -> None:
    (start,) = left.wanted(StartProcess)
    if is_welcome:
        welcome(left, start)
    else:
        left.fork(start)
    id = left.ask(StopPhones(which=("alice",)))
    assert left.reply(id) is None
    left.after(5.0)
    assert left.signals() == [("alice", signal.SIGTERM)]
    left.die("alice", exit_code=0)
    assert left.state("alice") is PhoneState.STOPPED
    assert left.reply(id).result.reports[0].how == "terminated"


def test_exit_code_0_in_a_call(herd: Driver) -> None:
    herd.place("alice", "bob")
    herd.die("alice", exit_code=0)
    (start,) = herd.wanted(StartProcess)
    assert welcome(herd, start).purpose == "clean_up"
    herd.from_worker("alice", Drained())
    herd.die("alice", exit_code=0)
    assert herd.state("alice") is PhoneState.STOPPED


# -- the herd ------------------------------------------------------------------------------------


def test_a_herd_beyond_help_stops_and_says_why() -> None:
    herd = Driver(*(phone(name) for name in ("a", "b", "c", "d")))
    herd.begin()
    for name in ("a", "b"):
        crash(herd, 6, name)
    assert not herd.told(HerdStopping)
    crash(herd, 6, "c")
    (stopping,) = herd.told(HerdStopping)
    assert stopping.why == (
        "3 of 4 phones have failed, more than failed_share 0.5 allows; the first was a: SIGSEGV; "
        "5 restarts within 30 s"
    )
    herd.drain("d")
    assert herd.finished() == Finish(4, stopping.why)


@pytest.mark.parametrize(("share", "stops"), [(0.0, True), (0.4, True), (0.5, False), (1.0, False)])
def test_the_share_of_failed_phones(share: float, stops: bool) -> None:
    herd = Driver(ALICE, BOB, failed_share=share)
    herd.begin()
    crash(herd, 6)
    assert bool(herd.told(HerdStopping)) is stops


def test_phones_that_were_not_to_be_restarted_do_not_stop_the_herd() -> None:
    herd = Driver(phone("alice", restart=TEMPORARY))
    herd.begin()
    herd.die("alice", exit_code=1)
    assert herd.state("alice") is PhoneState.FAILED
    assert not herd.told(HerdStopping)


def test_a_herd_whose_first_start_fails_says_that_alone() -> None:
    herd = Driver(ALICE)
    herd.step(Begin(herd.spec.phones))
    herd.fork(herd.wanted(StartProcess)[0])
    herd.step(ProcessGone("alice", 1))
    herd.step(DeathCause("alice", 1, 3, None))
    assert herd.finished() == Finish(4, "phone alice did not start: exit code 3")
