"""The herd's beginning and end, phones that fail, and what clients may ask of phones."""

from __future__ import annotations

import signal

import pytest

from sipherd.protocol.events import (
    CallEnded,
    HerdReady,
    LimitReached,
    NurseryDied,
    PhoneAdded,
    PhoneDied,
    PhoneRemoved,
    PortSkipped,
)
from sipherd.protocol.exits import WorkerExit
from sipherd.protocol.limits import Limits
from sipherd.protocol.messages import (
    AddPhones,
    Counters,
    Done,
    Drained,
    Expired,
    GetHerd,
    Happened,
    Hello,
    ListPhones,
    PlaceCall,
    Ready,
    Refused,
    RemovePhones,
    ResetPhones,
    RestartPhones,
    StartPhones,
    StopHerd,
    StopPhones,
    StopReport,
    Welcome,
)
from sipherd.protocol.restart_spec import RestartSpec
from sipherd.protocol.states import PhoneState
from sipherd.supervisor.effects import (
    Begin,
    Finish,
    Forget,
    Forked,
    ForkRefused,
    Log,
    NurseryGone,
    StartProcess,
    StopRequested,
    ToWorker,
)
from supervisor_driver import Driver, phone

ALICE = phone("alice", "1001")
BOB = phone("bob", "1002")
MORTAL = phone("alice", "1001", restart=RestartSpec(policy="temporary"))


@pytest.fixture
def herd() -> Driver:
    herd = Driver(ALICE, BOB)
    herd.begin()
    return herd


# -- beginning ---------------------------------------------------------------------------------


def test_phones_come_up_in_order_on_ports_two_apart(herd: Driver) -> None:
    assert [(p.name, p.port, p.state) for p in herd.core.table] == [
        ("alice", 5060, PhoneState.READY),
        ("bob", 5062, PhoneState.READY),
    ]
    assert herd.told(HerdReady)[0].phones == 2
    assert [event.n for event in herd.events] == list(range(1, len(herd.events) + 1))


def test_a_phone_with_a_proxy_is_bound_to_the_address_towards_it() -> None:
    herd = Driver(ALICE, phone("bob", proxy="pbx.lab"))
    herd.begin()
    assert [added.address for added in herd.told(PhoneAdded)] == ["127.0.0.1", "10.0.0.1"]
    assert [p.spec.address for p in herd.core.table] == ["127.0.0.1", "10.0.0.1"]


def test_an_empty_herd_is_ready_at_once() -> None:
    herd = Driver()
    herd.begin()
    assert herd.told(HerdReady)


def test_foreign_ports_are_skipped_and_said_so() -> None:
    herd = Driver(*(phone(f"p{n}") for n in range(5)))
    herd.kernel.foreign[5062] = "pid 7 (sipp)"
    herd.begin()
    assert [p.port for p in herd.core.table] == [5060, 5064, 5066, 5068, 5070]
    (skip,) = herd.told(PortSkipped)
    assert (skip.port, skip.why) == (5062, "in use by pid 7 (sipp)")


def test_a_range_too_small_starts_nothing() -> None:
    herd = Driver(*(phone(f"p{n}") for n in range(4)), sip="5060-5064")
    herd.step(Begin(herd.spec.phones))
    finish = herd.finished()
    assert finish is not None
    assert finish.exit_code == 2
    assert "5060-5064" in finish.message
    assert not herd.wanted(StartProcess)
    assert not herd.kernel.bound
    assert not len(herd.core.table)


def test_one_phone_that_fails_takes_the_others_with_it() -> None:
    herd = Driver(ALICE, BOB)
    herd.step(Begin(herd.spec.phones))
    first, second = herd.wanted(StartProcess)
    herd.serve(first)
    herd.fork(second)
    herd.die("bob", exit_code=3)
    assert herd.signals() == [("alice", signal.SIGTERM)]
    assert herd.finished() is None
    herd.die("alice", signal=signal.SIGTERM)
    finish = herd.finished()
    assert finish == Finish(4, "phone bob did not start: exit code 3")
    assert not herd.kernel.bound
    assert not len(herd.core.table)


def test_at_most_32_processes_start_at_once() -> None:
    herd = Driver(*(phone(f"p{n}") for n in range(40)), sip="5060-5160")
    herd.step(Begin(herd.spec.phones))
    starts = herd.wanted(StartProcess)
    assert len(starts) == 32
    herd.serve(starts[0])
    (next_one,) = herd.wanted(StartProcess)
    assert next_one.phone == "p32"
    herd.serve(next_one)
    for start in starts[1:]:
        herd.serve(start)
    herd.bring_up()
    assert herd.told(HerdReady)


def test_a_phone_that_never_says_ready_is_killed_and_fails_the_start() -> None:
    herd = Driver(ALICE)
    herd.step(Begin(herd.spec.phones))
    herd.fork(herd.wanted(StartProcess)[0])
    herd.after(10.0)
    assert herd.signals() == [("alice", signal.SIGKILL)]
    herd.die("alice", signal=signal.SIGKILL)
    finish = herd.finished()
    assert finish is not None
    assert finish.message == "phone alice did not start: not ready within 10 s"


def test_a_kernel_that_gives_no_process_fails_the_start() -> None:
    herd = Driver(ALICE)
    herd.step(Begin(herd.spec.phones))
    herd.step(ForkRefused("alice", 1, "Resource temporarily unavailable"))
    finish = herd.finished()
    assert finish is not None
    assert "no process: Resource temporarily unavailable" in finish.message


# -- who may serve a phone -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("incarnation", "token"), [(1, "wrong"), (2, "token-1"), (1, "token-2")], ids=str
)
def test_a_hello_nobody_awaits_is_told_to_exit(incarnation: int, token: str) -> None:
    herd = Driver(ALICE)
    herd.step(Begin(herd.spec.phones))
    herd.from_worker("alice", Hello(pid=9, token=token), incarnation=incarnation)
    (effect,) = herd.wanted(ToWorker)
    assert type(effect.message.body).__name__ == "Exit"
    assert herd.state("alice") is PhoneState.STARTING
    assert [log.event for log in herd.wanted(Log)] == ["unexpected_hello"]


def test_a_hello_that_crosses_a_stop_is_no_surprise() -> None:
    """The process of a phone that is stopped while it starts is killed; its hello had left."""
    herd = Driver(ALICE)
    herd.step(Begin(herd.spec.phones))
    herd.step(Forked("alice", 1, 77))
    herd.ask(StopPhones(which=("alice",)))
    assert herd.state("alice") is PhoneState.DRAINING
    herd.wanted(ToWorker)
    herd.from_worker("alice", Hello(pid=77, token=herd.phone("alice").token))
    assert [type(effect.message.body).__name__ for effect in herd.wanted(ToWorker)] == ["Exit"]
    assert not herd.wanted(Log)


def test_a_second_hello_with_the_right_token_is_turned_away(herd: Driver) -> None:
    herd.from_worker("alice", Hello(pid=9, token=herd.phone("alice").token))
    assert [type(m).__name__ for m in herd.to_worker("alice")] == ["Exit"]


def test_what_an_old_incarnation_says_is_dropped_and_counted(herd: Driver) -> None:
    herd.die("alice", signal=signal.SIGSEGV)
    herd.bring_up()
    herd.from_worker("alice", Counters(values={"x": 1}), incarnation=1)
    assert herd.phone("alice").counters == {}
    assert herd.answer(GetHerd()).counters["worker_strays"] == 1


def test_what_counts_for_the_herd_outlives_the_process_that_counted_it(herd: Driver) -> None:
    herd.from_worker("alice", Counters(values={"rtp_exhausted": 2, "rtp_datagrams_lost": 5}))
    herd.from_worker("alice", Counters(values={"rtp_exhausted": 3, "rtp_datagrams_lost": 5}))
    herd.die("alice", signal=signal.SIGSEGV)
    herd.bring_up()
    herd.from_worker("alice", Counters(values={"rtp_exhausted": 1}))
    counters = herd.answer(GetHerd()).counters
    assert (counters["rtp_exhausted"], counters["rtp_datagrams_lost"]) == (4, 5)


def test_how_late_the_loops_are(herd: Driver) -> None:
    herd.late["alice"] = (0.25, 2)
    herd.after(0.75)  # a quarter of the shortest `hang.late`
    herd.late.clear()
    heard = Happened(t=herd.now - 0.125, body=LimitReached(ceiling=1, wanted="nothing"))
    herd.from_worker("alice", heard)
    herd.after(0.75)
    assert [(lag.supervisor, lag.phones) for lag in herd.answer(GetHerd()).lags[-2:]] == [
        (0.0, 0.25),
        (0.125, 0.0),
    ]


def test_dialogs_of_a_process_that_is_gone_are_no_more(herd: Driver) -> None:
    herd.late["alice"] = (0.0, 2)
    herd.after(1.0)
    (alice, *_) = herd.answer(ListPhones()).phones
    assert alice.dialogs == 2
    herd.late.clear()
    herd.die("alice", signal=signal.SIGSEGV)
    (alice, *_) = herd.answer(ListPhones()).phones
    assert alice.dialogs == 0


def test_a_process_that_came_too_late_is_killed() -> None:
    herd = Driver(ALICE)
    herd.step(Begin(herd.spec.phones))
    herd.wanted(StartProcess)
    herd.after(10.0)  # no process within the deadline
    herd.step(Forked("alice", 1, 77))
    assert ("alice", signal.SIGKILL) in herd.signals()


@pytest.fixture
def mortal() -> Driver:
    """A herd whose alice is not started again."""
    herd = Driver(MORTAL, BOB)
    herd.begin()
    return herd


# -- death ---------------------------------------------------------------------------------------


def test_a_death_costs_one_phone_and_its_calls(herd: Driver) -> None:
    call = herd.place("alice", "bob")
    herd.die("alice", signal=signal.SIGSEGV)
    assert herd.state("alice") is PhoneState.STARTING
    assert herd.state("bob") is PhoneState.READY
    (death,) = herd.told(PhoneDied)
    assert (death.cause, death.calls, death.state) == ("SIGSEGV", (call,), PhoneState.READY)
    (ended,) = herd.told(CallEnded)
    assert (ended.call, ended.cause) == (call, "phone_crashed")
    assert 5060 in herd.kernel.bound.values()


def test_restart_brings_it_back_on_the_same_port(mortal: Driver) -> None:
    mortal.die("alice", exit_code=1)
    id = mortal.ask(RestartPhones(which=("1001",)))
    mortal.bring_up()
    (info,) = mortal.reply(id).result.phones
    assert (info.state, info.port, info.incarnation) == (PhoneState.READY, 5060, 2)
    assert mortal.answer(GetHerd()).counters["phone_restarts"] == 1


def test_a_thief_of_the_port_is_named(mortal: Driver) -> None:
    mortal.die("alice", exit_code=1)
    mortal.kernel.foreign[5060] = "pid 7 (thief)"
    refused = mortal.answer(StartPhones(which=("alice",)))
    assert refused.reason == "start_failed"
    assert "5060" in refused.message
    assert "pid 7 (thief)" in refused.message
    del mortal.kernel.foreign[5060]
    mortal.ask(StartPhones(which=("alice",)))
    mortal.bring_up()
    assert mortal.state("alice") is PhoneState.READY


def test_a_cause_that_never_comes_is_unknown(mortal: Driver) -> None:
    from sipherd.supervisor.effects import DeathCause, ProcessGone

    mortal.step(ProcessGone("alice", 1))
    assert mortal.state("alice") is PhoneState.READY
    mortal.after(1.0)
    (death,) = mortal.told(PhoneDied)
    assert death.cause == "unknown"
    # It comes after all, and changes nothing.
    mortal.step(DeathCause("alice", 1, 0, None))
    assert mortal.state("alice") is PhoneState.FAILED


def test_a_reset_forgets_the_failure(mortal: Driver) -> None:
    mortal.die("alice", exit_code=1)
    (info,) = mortal.answer(ResetPhones(which=("alice",))).phones
    assert (info.state, info.why) == (PhoneState.STOPPED, "")


def test_the_nursery_s_death_costs_only_the_forks_it_had_not_made(herd: Driver) -> None:
    id = herd.ask(AddPhones(specs=(phone("carol"),)))
    herd.wanted(StartProcess)
    herd.step(NurseryGone(44, "SIGKILL"))
    assert herd.told(NurseryDied)
    herd.bring_up()
    assert herd.state("carol") is PhoneState.READY
    assert herd.phone("carol").incarnation == 2
    assert isinstance(herd.reply(id), Done)
    assert herd.state("alice") is PhoneState.READY


def test_a_phone_stopped_before_it_had_a_process_does_not_wait_for_a_dead_nursery(
    herd: Driver,
) -> None:
    herd.ask(AddPhones(specs=(phone("carol"),)))
    stop = herd.ask(StopPhones(which=("carol",)))
    assert herd.state("carol") is PhoneState.DRAINING
    herd.step(NurseryGone(44, "SIGKILL"))
    assert herd.reply(stop).result.reports[0].how == "killed"


def test_the_nursery_s_word_may_come_after_the_phone_s(herd: Driver) -> None:
    herd.ask(AddPhones(specs=(phone("carol"),)))
    start = herd.wanted(StartProcess)[0]
    herd.from_worker("carol", Hello(pid=77, token=start.token))
    herd.from_worker("carol", Ready())
    herd.step(Forked("carol", 1, 77))
    assert herd.state("carol") is PhoneState.READY
    assert herd.signals() == []


# -- adding and removing -------------------------------------------------------------------------


def test_add_is_done_when_all_are_ready(herd: Driver) -> None:
    id = herd.ask(AddPhones(specs=(phone("carol"), phone("dave"))))
    first, second = herd.wanted(StartProcess)
    herd.serve(first)
    assert herd.reply(id) is None
    herd.serve(second)
    assert [p.port for p in herd.reply(id).result.phones] == [5064, 5066]


def test_add_that_fails_leaves_nothing(herd: Driver) -> None:
    bound = dict(herd.kernel.bound)
    id = herd.ask(AddPhones(specs=(phone("carol"), phone("dave"))))
    first, second = herd.wanted(StartProcess)
    herd.serve(first)
    herd.fork(second)
    herd.die("dave", exit_code=1)
    herd.die("carol", signal=signal.SIGTERM)
    refused = herd.reply(id)
    assert (refused.reason, len(herd.core.table)) == ("start_failed", 2)
    assert herd.kernel.bound == bound
    assert len(herd.told(PhoneAdded)) - len(herd.told(PhoneRemoved)) == 2


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        (phone("bob"), "duplicate_name", "bob"),
        (phone("carol", "1001"), "duplicate_name", "1001"),
        (phone("carol", port=5062), "no_port", "belongs to phone bob"),
        (phone("carol", address="192.0.2.1"), "bad_address", "192.0.2.1"),
        (phone("carol", port=80), "not_permitted", "privileged"),
        (phone("carol", media="audio", max_calls=6000), "no_rtp_port", "RTP"),
    ],
)
def test_a_phone_that_can_t_be_is_refused_with_the_reason(
    herd: Driver, spec: object, reason: str, words: str
) -> None:
    bound = dict(herd.kernel.bound)
    refused = herd.answer(AddPhones(specs=(phone("ok"), spec)))
    assert refused.reason == reason
    assert words in refused.message
    assert herd.kernel.bound == bound
    assert len(herd.core.table) == 2


def test_what_its_processes_shared_goes_with_the_phone(herd: Driver) -> None:
    """Not before: a phone that is stopped or dead may be started again."""
    herd.ask(StopPhones(which=("alice",)))
    herd.drain("alice")
    assert herd.wanted(Forget) == []
    herd.ask(RemovePhones(which=("alice",)))
    assert herd.wanted(Forget) == [Forget("alice")]


def test_remove_frees_the_number_for_others(herd: Driver) -> None:
    id = herd.ask(RemovePhones(which=("alice",)))
    herd.drain("alice")
    assert isinstance(herd.reply(id), Done)
    assert herd.answer(ListPhones(which=("alice",))).reason == "no_such_phone"
    herd.ask(AddPhones(specs=(phone("carol"),)))
    assert herd.phone("carol").port == 5060


def test_a_number_that_had_calls_rests_for_32_s(herd: Driver) -> None:
    herd.ring("alice", "i1")
    herd.ask(RemovePhones(which=("alice",)))
    herd.drain("alice")
    herd.ask(AddPhones(specs=(phone("carol"),)))
    assert herd.phone("carol").port == 5064
    herd.now += 32.0
    herd.ask(AddPhones(specs=(phone("dave"),)))
    assert herd.phone("dave").port == 5060


# -- asking --------------------------------------------------------------------------------------


def test_an_unknown_phone_is_refused_with_near_names(herd: Driver) -> None:
    refused = herd.answer(ListPhones(which=("alise",)))
    assert (refused.reason, refused.wanted, refused.near) == ("no_such_phone", "alise", ("alice",))


def test_a_command_sent_again_runs_once(herd: Driver) -> None:
    first = herd.ask(AddPhones(specs=(phone("carol"),)))
    herd.ask(AddPhones(specs=(phone("carol"),)), id=first)
    herd.bring_up()
    assert isinstance(herd.reply(first), Done)
    assert herd.reply(first) is None
    herd.ask(AddPhones(specs=(phone("carol"),)), id=first)
    assert isinstance(herd.reply(first), Done)
    assert len(herd.core.table) == 3


def test_a_command_s_deadline_ends_the_waiting_and_not_the_stop(herd: Driver) -> None:
    id = herd.ask(StopPhones(which=("alice",)), timeout=2.0)
    herd.after(2.0)
    assert isinstance(herd.reply(id), Expired)
    herd.drain("alice")
    assert herd.state("alice") is PhoneState.STOPPED


# -- stopping ------------------------------------------------------------------------------------


def test_stop_and_start_keep_the_port(herd: Driver) -> None:
    id = herd.ask(StopPhones(which=("1001",)))
    assert herd.state("alice") is PhoneState.DRAINING
    herd.drain("alice")
    (report,) = herd.reply(id).result.reports
    assert (report.phone, report.how) == ("alice", "drained")
    assert 5060 not in herd.kernel.bound.values()
    herd.ask(AddPhones(specs=(phone("carol"),)))
    herd.bring_up()
    assert herd.phone("carol").port == 5064
    id = herd.ask(StartPhones(which=("1001",)))
    herd.bring_up()
    assert herd.reply(id).result.phones[0].port == 5060


def test_a_phone_that_does_not_answer_is_told_ever_more_firmly(herd: Driver) -> None:
    id = herd.ask(StopPhones(which=("alice",)))
    herd.after(5.0)
    assert herd.signals() == [("alice", signal.SIGTERM)]
    herd.after(3.0)
    assert herd.signals() == [("alice", signal.SIGKILL)]
    herd.after(2.0)
    assert herd.reply(id).result.reports[0].how == "stuck"


def test_all_phones_share_one_budget(herd: Driver) -> None:
    id = herd.ask(StopHerd())
    phones = [phone.name for phone in herd.core.table]
    assert len(phones) > 1
    herd.after(5.0)
    assert herd.signals() == [(name, signal.SIGTERM) for name in phones]
    herd.after(3.0)
    assert herd.signals() == [(name, signal.SIGKILL) for name in phones]
    herd.after(2.0)
    assert [report.how for report in herd.reply(id).result.reports] == ["stuck"] * len(phones)
    finish = herd.finished()
    assert finish is not None
    assert finish.exit_code == 4


def test_stop_now_interrupts_a_gentle_stop(herd: Driver) -> None:
    gentle = herd.ask(StopPhones(which=("alice",)))
    quick = herd.ask(StopPhones(which=("alice",), now=True))
    assert herd.signals() == [("alice", signal.SIGTERM)]
    herd.die("alice", exit_code=0)
    assert herd.reply(gentle).result == herd.reply(quick).result


def test_a_stop_interrupts_a_start() -> None:
    herd = Driver(ALICE)
    herd.begin()
    added = herd.ask(AddPhones(specs=(phone("carol"),)))
    start = herd.wanted(StartProcess)[0]
    stop = herd.ask(StopPhones(which=("carol",)))
    assert herd.signals() == [("carol", signal.SIGKILL)]
    herd.fork(start)
    herd.die("carol", signal=signal.SIGKILL)
    assert herd.reply(stop).result.reports[0].how == "killed"
    assert herd.reply(added).reason == "start_failed"


def test_a_stopped_phone_stops_at_once(herd: Driver) -> None:
    herd.ask(StopPhones(which=("alice",)))
    herd.drain("alice")
    assert herd.answer(StopPhones(which=("alice",))).reports == (
        StopReport(phone="alice", how="not_running", seconds=0.0),
    )


def test_a_phone_that_crashes_while_it_drains_is_reported(herd: Driver) -> None:
    id = herd.ask(StopPhones(which=("alice",)))
    herd.die("alice", signal=signal.SIGSEGV)
    assert herd.reply(id).result.reports[0].how == "died"
    assert herd.told(PhoneDied)[0].cause == "SIGSEGV"
    assert herd.state("alice") is PhoneState.STOPPED


def test_unanswered_byes_are_reported_by_the_herd_s_call_ids(herd: Driver) -> None:
    call = herd.ring("alice", "i1")
    id = herd.ask(StopPhones(which=("alice",)))
    herd.from_worker("alice", Drained(unanswered_byes=("i1",)))
    herd.die("alice", exit_code=0)
    assert herd.reply(id).result.reports[0].unanswered_byes == (call,)


def test_the_herd_stops_when_all_are_gone(herd: Driver) -> None:
    id = herd.ask(StopHerd())
    assert herd.answer(PlaceCall(phone="alice", target="bob")).reason == "herd_stopping"
    herd.drain("alice")
    assert herd.reply(id) is None
    herd.drain("bob")
    assert [r.how for r in herd.reply(id).result.reports] == ["drained", "drained"]
    assert herd.finished() == Finish(0)
    assert not herd.kernel.bound


def test_ctrl_c_twice_is_now(herd: Driver) -> None:
    herd.step(StopRequested("Ctrl-C", 130))
    assert herd.signals() == []
    herd.step(StopRequested("Ctrl-C", 130))
    assert herd.signals() == [("alice", signal.SIGTERM), ("bob", signal.SIGTERM)]
    herd.die("alice", exit_code=0)
    herd.die("bob", exit_code=0)
    assert herd.finished() == Finish(130)


def test_a_stop_while_the_herd_begins() -> None:
    herd = Driver(ALICE, BOB)
    herd.step(Begin(herd.spec.phones))
    herd.serve(herd.wanted(StartProcess)[0])
    herd.step(StopRequested("SIGTERM", 0))
    herd.die("alice", exit_code=0)
    herd.die("bob", signal=signal.SIGKILL)
    # Bob's process was never made: the nursery says so once it is asked.
    herd.step(ForkRefused("bob", 1, "stopped"))
    assert herd.finished() == Finish(0)


def test_restart_while_it_is_up_stops_first(herd: Driver) -> None:
    id = herd.ask(RestartPhones(which=("alice",)))
    herd.drain("alice")
    assert herd.reply(id) is None
    herd.bring_up()
    (info,) = herd.reply(id).result.phones
    assert (info.incarnation, info.port) == (2, 5060)


def test_a_phone_being_stopped_can_t_be_started(herd: Driver) -> None:
    herd.ask(StopPhones(which=("alice",)))
    refused = herd.answer(StartPhones(which=("alice",)))
    assert isinstance(refused, Refused)
    assert refused.reason == "phone_not_ready"


def test_ready_after_the_stop_changes_nothing(herd: Driver) -> None:
    herd.ask(AddPhones(specs=(phone("carol"),)))
    start = herd.wanted(StartProcess)[0]
    pid = herd.fork(start)
    herd.from_worker("carol", Hello(pid=pid, token=start.token))
    assert isinstance(herd.to_worker("carol")[0], Welcome)
    herd.ask(StopPhones(which=("carol",)))
    herd.from_worker("carol", Ready())
    assert herd.state("carol") is PhoneState.DRAINING


def test_a_phone_with_any_port_takes_nothing_of_the_rtp_range() -> None:
    herd = Driver(phone("any", port=0, media="audio"), phone("fixed", media="audio"))
    herd.begin()
    assert [p.rtp_first for p in herd.core.table] == [0, 20000]
    herd.ask(RemovePhones(which=("any",)))
    herd.drain("any")
    assert len(herd.core.table) == 1


# -- limits ------------------------------------------------------------------------------------


def test_a_processor_that_is_not_there_is_refused() -> None:
    herd = Driver(ALICE, phone("bob", limits=Limits(cpus=(0, 6, 7))), cpus=(0, 1))
    herd.step(Begin(herd.spec.phones))
    finish = herd.finished()
    assert finish == Finish(
        2, "phone bob: no cpus 6, 7 for this herd, which may run on 0, 1; correct limits.cpus"
    )
    assert not herd.kernel.bound


def test_limits_go_with_the_process() -> None:
    limits = Limits(memory=50_000_000, descriptors=100, cpus=(1,))
    herd = Driver(phone("alice", limits=limits), cpus=(0, 1))
    herd.step(Begin(herd.spec.phones))
    assert [start.limits for start in herd.wanted(StartProcess)] == [limits]
    refused = herd.answer(AddPhones(specs=(phone("carol", limits=Limits(cpus=(2,))),)))
    assert refused.reason == "no_such_cpu"


@pytest.mark.parametrize(
    ("limits", "cause"),
    [(Limits(memory=500_000_000), "memory ceiling 500 MB"), (Limits(), "out of memory")],
)
def test_a_memory_ceiling_is_named(limits: Limits, cause: str) -> None:
    herd = Driver(phone("alice", limits=limits))
    herd.begin()
    herd.die("alice", exit_code=WorkerExit.MEMORY)
    (died,) = herd.told(PhoneDied)
    assert died.cause == cause
    assert died.next_action.startswith("restart")
