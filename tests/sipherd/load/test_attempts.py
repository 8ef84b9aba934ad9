"""The attempts of a run against a herd that exists in memory alone."""

from __future__ import annotations

from collections import Counter

import pytest

from loadherd import ORIGIN, LoadHerd, MadeLeg, phone_info, phones, profile
from sipherd.load.attempts import Command
from sipherd.load.profile import Arrival, Entry, HoldTime, Kind, LoadLimits
from sipherd.load.records import CallAttempt, Outcome
from sipherd.protocol.events import IncomingCall
from sipherd.protocol.messages import (
    AnswerCall,
    AwaitIncoming,
    CancelCall,
    HangUpCall,
    HoldCall,
    ListCalls,
    PlaceCall,
    PlayAudio,
    RejectCall,
    RetrieveCall,
    SendDtmf,
    TransferCall,
)
from sipherd.protocol.states import PhoneState

ENTRIES = {
    "answer": Entry(after=0.5),
    "callee_hangs_up": Entry(kind="callee_hangs_up"),
    "hold_retrieve": Entry(kind="hold_retrieve", on_hold=1.0),
    "dtmf": Entry(kind="dtmf", digits="12"),
    "transfer": Entry(kind="transfer", to="carol"),
    "busy": Entry(kind="busy", after=0.2),
    "no_answer": Entry(kind="no_answer", after=3.0),
    "cancel": Entry(kind="cancel", after=1.0),
}
BY = {"callee_hangs_up": "callee", "busy": "callee", "no_answer": "timeout"}


def outcomes(herd: LoadHerd) -> Counter[Outcome]:
    return Counter(record.outcome for record in herd.records)


def in_order(records: list[CallAttempt]) -> list[CallAttempt]:
    return sorted(records, key=lambda record: record.number)


# -- one call of each kind -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ENTRIES)
@pytest.mark.parametrize("b2bua", [False, True])
@pytest.mark.parametrize("incoming_is_first", [False, True])
def test_each_kind_ends_as_intended_with_nothing_left(
    kind: Kind, b2bua: bool, incoming_is_first: bool
) -> None:
    herd = LoadHerd(profile(ENTRIES[kind], duration=3.0))
    herd.b2bua = b2bua
    if incoming_is_first:
        herd.reply_delay = 0.02
    herd.until()
    assert herd.run.is_over
    assert [r.outcome for r in herd.records] == [ENTRIES[kind].expected] * 3
    assert [r.number for r in in_order(herd.records)] == [1, 2, 3]
    assert {r.ended_by for r in herd.records} == {BY.get(kind, "caller")}
    assert not herd.up()
    for record in herd.records:
        assert record.started == pytest.approx(record.intended, abs=0.01)
        assert record.caller == "alice"
        assert record.callee == "bob"
        assert record.drawn == kind
        assert record.hold == 4.0
        assert record.sip_call_id.startswith("id-")
        assert record.from_uri == "sip:1001@127.0.0.1"
        assert record.caller_incarnation == record.callee_incarnation == 1
    # Each was shown when it began, as what it would be if nothing more were heard of it.
    assert [r.outcome for r in herd.started] == ["unfinished"] * 3
    assert herd.answered == (3 if ENTRIES[kind].answered else 0)
    assert herd.run.size == 0


def test_the_callee_answers_after_its_time_and_the_caller_hangs_up_after_the_hold_time() -> None:
    herd = LoadHerd(profile(ENTRIES["answer"], limits=LoadLimits(total=1)))
    herd.until()
    (record,) = herd.records
    assert record.answered == pytest.approx(0.5, abs=0.01)
    assert record.ended == pytest.approx(4.5, abs=0.02)
    assert [status for status, _ in record.responses] == [180, 200]
    assert record.final_code == 200
    assert len(herd.sent(AnswerCall)) == len(herd.sent(HangUpCall)) == 1


def test_a_call_is_put_on_hold_in_the_middle_of_it_and_retrieved() -> None:
    herd = LoadHerd(profile(ENTRIES["hold_retrieve"], limits=LoadLimits(total=1)))
    herd.until(1.4)
    assert not herd.sent(HoldCall)
    herd.until(1.6)
    assert herd.sent(HoldCall)
    assert not herd.sent(RetrieveCall)
    herd.until(2.6)
    assert herd.sent(RetrieveCall)
    assert not herd.sent(HangUpCall)
    herd.until()
    assert outcomes(herd) == {"answer": 1}


def test_steps_within_a_call_wait_for_each_other() -> None:
    herd = LoadHerd(
        profile(Entry(kind="hold_retrieve"), hold=HoldTime(mean=0.0), limits=LoadLimits(total=1))
    )
    herd.reply_delay = 0.3
    herd.until()
    order = [
        type(command.body)
        for command in herd.commands
        if isinstance(command.body, HoldCall | RetrieveCall | HangUpCall)
    ]
    assert order == [HoldCall, RetrieveCall, HangUpCall]
    assert outcomes(herd) == {"answer": 1}


def test_digits_are_sent_once_and_a_refusal_of_them_is_not_as_intended() -> None:
    herd = LoadHerd(profile(ENTRIES["dtmf"], duration=2.0))
    refused = iter([True])
    herd.refuse = lambda c: (
        "not_negotiated" if isinstance(c.body, SendDtmf) and next(refused, False) else ""
    )
    herd.until()
    assert [c.body.digits for c in herd.sent(SendDtmf)] == ["12", "12"]  # type: ignore[union-attr]
    assert [(r.outcome, r.cause) for r in in_order(herd.records)] == [
        ("disrupted", "dtmf_failed"),
        ("answer", "hung_up"),
    ]


def test_the_new_call_of_a_transfer_lasts_for_the_rest_of_the_hold_time_and_is_ended() -> None:
    herd = LoadHerd(profile(ENTRIES["transfer"], limits=LoadLimits(total=1)))
    herd.until(3.9)
    assert sorted(leg.phone for leg in herd.up()) == ["bob", "carol"]
    herd.until()
    assert outcomes(herd) == {"answer": 1}
    assert herd.records[0].cause == "transferred"
    assert not herd.up()


def test_a_refused_transfer_is_disrupted_and_the_call_is_ended_all_the_same() -> None:
    herd = LoadHerd(profile(ENTRIES["transfer"], limits=LoadLimits(total=1)))
    herd.refuse = lambda c: "not_allowed" if isinstance(c.body, TransferCall) else ""
    herd.until()
    assert [(r.outcome, r.cause) for r in herd.records] == [("disrupted", "transfer_failed")]
    assert not herd.up()


def test_a_callee_that_is_nobody_of_ours_is_called_and_hung_up_on() -> None:
    herd = LoadHerd(profile(callees=("sip:echo@192.0.2.1",), limits=LoadLimits(total=1)))
    herd.until(0.5)
    (leg,) = herd.up()
    herd.answer_out(leg)
    herd.until()
    (record,) = herd.records
    assert record.outcome == "answer"
    assert record.callee == ""
    assert record.ended == pytest.approx(4.5, abs=0.1)


def test_a_stranger_that_answers_what_was_to_be_cancelled_is_hung_up_on() -> None:
    entry = Entry(kind="cancel", after=2.0)
    herd = LoadHerd(profile(entry, callees=("sip:echo@192.0.2.1",), limits=LoadLimits(total=1)))
    herd.until(0.5)
    herd.answer_out(herd.up()[0])
    herd.until()
    assert outcomes(herd) == {"answer": 1}
    assert not herd.sent(CancelCall)
    assert not herd.up()


# -- phones that act by themselves -----------------------------------------------------------------


def test_a_phone_that_answers_by_itself_needs_nobody_who_waits() -> None:
    herd = LoadHerd(
        profile(duration=3.0), phones(on_incoming={"answer_after": 0.1}), media="tone:440"
    )
    herd.until()
    assert outcomes(herd) == {"answer": 3}
    assert not any(c.body.which == ("bob",) for c in herd.sent(AwaitIncoming))  # type: ignore[union-attr]


def test_a_phone_that_answers_what_was_to_be_rejected_is_hung_up_on_at_once() -> None:
    herd = LoadHerd(
        profile(Entry(kind="busy", after=1.0), duration=2.0),
        phones(on_incoming={"answer_after": 0.1}),
    )
    herd.until()
    assert outcomes(herd) == {"answer": 2}
    assert all((r.ended or 9) < 0.5 for r in herd.records)


def test_a_phone_that_rejects_by_itself_is_a_callee_that_rejects() -> None:
    herd = LoadHerd(profile(duration=2.0), phones(on_incoming={"reject": 603}))
    herd.until()
    assert outcomes(herd) == {"reject": 2}
    assert {r.final_code for r in herd.records} == {603}


# -- media -----------------------------------------------------------------------------------------


def test_both_sides_play_once_they_are_up_if_they_have_media() -> None:
    infos = phones(media="audio")
    herd = LoadHerd(profile(limits=LoadLimits(total=1)), infos, media="/tmp/a.wav")
    herd.until()
    (play,) = herd.sent(PlayAudio)
    assert play.body == PlayAudio(call="c2", source="/tmp/a.wav", loop=True)


def test_a_tone_has_no_end_to_begin_again_at() -> None:
    herd = LoadHerd(profile(limits=LoadLimits(total=1)), phones(media="audio"), media="tone:440")
    herd.until()
    assert [c.body.loop for c in herd.sent(PlayAudio)] == [False]  # type: ignore[union-attr]


# -- the open loop ---------------------------------------------------------------------------------


def test_calls_start_at_their_time_whatever_becomes_of_the_others() -> None:
    herd = LoadHerd(profile(hold=HoldTime(mean=100.0), duration=5.0, drain=200.0))
    herd.until(6.0)
    assert [r.started for r in herd.started] == pytest.approx([0, 1, 2, 3, 4], abs=0.01)


def test_a_limit_of_calls_at_once_makes_the_next_one_late() -> None:
    limits = LoadLimits(concurrent=1, total=3)
    herd = LoadHerd(profile(duration=None, limits=limits))
    herd.until()
    late = [record.late for record in in_order(herd.records)]
    assert late == pytest.approx([0.0, 3.0, 6.0], abs=0.1)
    assert outcomes(herd) == {"answer": 3}


def test_what_has_not_started_when_the_time_is_over_never_does() -> None:
    herd = LoadHerd(profile(duration=4.0, limits=LoadLimits(concurrent=1)))
    herd.until()
    assert [(r.outcome, r.cause, r.started is None) for r in in_order(herd.records)] == [
        ("answer", "hung_up", False),
        ("answer", "hung_up", False),
        ("unfinished", "too_late", True),
        ("unfinished", "too_late", True),
    ]


def test_warm_up_running_draining_finished() -> None:
    herd = LoadHerd(profile(duration=5.0, warm_up=2.0))
    phases = [herd.run.phase]
    for t in (1.0, 2.5, 4.5, 6.0):
        herd.until(t)
        phases.append(herd.run.phase)
    herd.until()
    phases.append(herd.run.phase)
    assert phases == ["warm-up", "warm-up", "running", "draining", "draining", "finished"]
    assert [r.warm_up for r in in_order(herd.records)] == [True, True, False, False, False]


# -- commands that are refused ---------------------------------------------------------------------


def test_a_refused_placement_is_an_attempt_that_never_was() -> None:
    herd = LoadHerd(profile(duration=2.0))
    herd.refuse = lambda c: "phone_not_ready" if isinstance(c.body, PlaceCall) else ""
    herd.until()
    assert [(r.outcome, r.cause, r.started) for r in herd.records] == [
        ("refused", "phone_not_ready", None)
    ] * 2
    assert not herd.started
    assert herd.run.size == 0


def test_a_placement_that_came_too_fast_is_repeated_and_late() -> None:
    herd = LoadHerd(profile(limits=LoadLimits(total=1)))
    held_up = iter([True])
    herd.refuse = lambda c: (
        "too_fast" if isinstance(c.body, PlaceCall) and next(held_up, False) else ""
    )
    herd.until()
    (record,) = herd.records
    assert record.outcome == "answer"
    assert record.late == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("kind", [AnswerCall, HangUpCall])
@pytest.mark.parametrize("reason", ["too_fast", "expired"])
def test_commands_within_a_call_are_repeated_until_they_are_carried_out(
    kind: type, reason: str
) -> None:
    herd = LoadHerd(profile(limits=LoadLimits(total=1)))
    left = iter([True, True])
    herd.refuse = lambda c: reason if isinstance(c.body, kind) and next(left, False) else ""
    herd.until()
    assert outcomes(herd) == {"answer": 1}
    assert len(herd.sent(kind)) == 3


def test_a_call_that_the_herd_does_not_know_any_more_is_over() -> None:
    herd = LoadHerd(profile(limits=LoadLimits(total=1)))
    herd.until(2.0)
    herd.legs.clear()
    herd.until()
    assert [(r.outcome, r.cause) for r in herd.records] == [("unfinished", "")]
    assert herd.run.size == 0


# -- events that are lost --------------------------------------------------------------------------


def test_how_a_call_is_is_asked_for_when_events_were_lost() -> None:
    herd = LoadHerd(profile(limits=LoadLimits(total=1)))
    herd.deaf = True  # from the INVITE on
    herd.until(1.0)
    herd.deaf = False
    herd.run.missed(herd.now)
    herd.until()
    (record,) = herd.records
    assert record.outcome == "answer"
    assert [status for status, _ in record.responses][-1] == 200
    assert herd.sent(ListCalls)


def test_a_call_that_ended_unheard_is_found_to_be_over() -> None:
    herd = LoadHerd(profile(limits=LoadLimits(total=1)))
    herd.until(2.0)
    herd.deaf = True
    herd.end(herd.up()[0], "hung_up", "local")
    herd.until(3.0)
    herd.deaf = False
    assert not herd.records
    herd.run.missed(herd.now)
    herd.until()
    (record,) = herd.records
    assert record.outcome == "answer"
    assert record.ended == pytest.approx(2.0, abs=0.1)


def test_an_end_that_nobody_tells_is_asked_for_after_its_time() -> None:
    herd = LoadHerd(profile(limits=LoadLimits(total=1), drain=100.0))
    herd.until(2.0)
    herd.deaf = True
    herd.until()
    assert outcomes(herd) == {"answer": 1}
    assert herd.now - ORIGIN == pytest.approx(47, abs=2)  # and the callee's is looked for, too


# -- phones that die -------------------------------------------------------------------------------


def test_the_callers_process_dies_in_a_call() -> None:
    herd = LoadHerd(profile(limits=LoadLimits(total=1)))
    herd.until(2.0)
    herd.crash("alice")
    herd.until(2.5)
    herd.revive("alice")
    herd.until()
    (record,) = herd.records
    assert (record.outcome, record.cause) == ("crashed", "phone_crashed")
    assert not herd.up()


def test_the_callees_leg_is_ended_if_the_callers_phone_stays_dead() -> None:
    herd = LoadHerd(profile(limits=LoadLimits(total=1)))
    herd.until(2.0)
    herd.crash("alice", next_state=PhoneState.FAILED)
    herd.until()
    assert outcomes(herd) == {"crashed": 1}
    assert not herd.up()
    assert [c.body.call for c in herd.sent(HangUpCall)] == ["c2"]  # type: ignore[union-attr]


def test_the_callees_process_dies_in_a_call() -> None:
    herd = LoadHerd(profile(limits=LoadLimits(total=2)))
    herd.until(0.5)
    herd.crash("bob")
    herd.until(0.9)
    herd.revive("bob")
    herd.until()
    assert [(r.outcome, r.cause) for r in in_order(herd.records)] == [
        ("crashed", "phone_crashed"),
        ("answer", "hung_up"),
    ]
    assert not herd.up()


def test_a_phone_that_finds_its_ringing_call_again_has_lost_nothing() -> None:
    herd = LoadHerd(profile(Entry(after=2.0), limits=LoadLimits(total=1)))
    herd.until(1.0)
    outgoing = next(leg for leg in herd.up() if leg.direction == "out")
    herd.crash("bob")
    herd.until(1.2)
    herd.dead.clear()
    herd._ring(outgoing, "bob", "1001")
    herd.until()
    (record,) = herd.records
    assert record.outcome == "answer"
    assert not herd.up()


def test_a_callee_that_is_down_gets_its_calls_when_it_is_back() -> None:
    herd = LoadHerd(profile(duration=6.0))
    herd.until(0.5)
    herd.crash("bob", next_state=PhoneState.FAILED)
    herd.refuse = lambda c: (
        "phone_not_ready"
        if isinstance(c.body, AwaitIncoming) and "bob" in herd.dead and c.body.which == ("bob",)
        else ""
    )
    herd.until(3.5)
    waited = len(herd.sent(AwaitIncoming))
    herd.revive("bob")
    herd.until(4.5)
    assert len(herd.sent(AwaitIncoming)) > waited
    herd.until()
    assert outcomes(herd)["answer"] == 2
    assert herd.run.is_over
    assert not herd.up()


# -- calls of others -------------------------------------------------------------------------------


def strangers_call(herd: LoadHerd, call: str = "x1") -> IncomingCall:
    return IncomingCall(
        call=call,
        sip_call_id="stranger",
        from_uri="sip:9999@192.0.2.1",
        from_display="",
        to_uri="sip:1002@127.0.0.1",
        request_uri="sip:1002@127.0.0.1",
        source=("192.0.2.1", 5060),
    )


def test_a_call_of_somebody_else_is_nothing_of_the_run() -> None:
    herd = LoadHerd(profile(duration=3.0))
    herd.until(0.5)
    herd.tell("bob", strangers_call(herd))
    herd.until()
    assert outcomes(herd) == {"answer": 3}
    assert not any(getattr(command.body, "call", "") == "x1" for command in herd.commands)


# -- the end ---------------------------------------------------------------------------------------


def test_drain_starts_no_call_and_lets_the_others_end() -> None:
    herd = LoadHerd(profile())
    herd.until(2.5)
    herd.run.drain(herd.now)
    assert herd.run.phase == "draining"
    herd.until()
    assert outcomes(herd) == {"answer": 3}
    assert herd.now - ORIGIN == pytest.approx(6.0, abs=0.1)


def test_what_outlives_the_drain_is_ended() -> None:
    herd = LoadHerd(profile(hold=HoldTime(mean=1000.0), duration=2.0, drain=5.0))
    herd.until()
    assert [(r.outcome, r.cause) for r in herd.records] == [("unfinished", "hung_up")] * 2
    assert herd.now - ORIGIN == pytest.approx(6.0, abs=0.2)
    assert not herd.up()


def test_stop_ends_everything_now_whatever_it_is_doing() -> None:
    mix = tuple(ENTRIES.values())
    herd = LoadHerd(profile(*mix, arrival=Arrival(rate=10.0)))
    herd.until(3.05)
    herd.reply_delay = 0.5  # one is being placed
    herd.until(3.15)
    herd.run.stop(herd.now)
    herd.until()
    assert herd.now - ORIGIN < 3.15 + 4.1
    assert len(herd.records) == 32
    assert len({r.number for r in herd.records}) == 32
    assert not herd.up()


def test_a_herd_that_is_gone_leaves_what_was_known() -> None:
    herd = LoadHerd(profile())
    herd.until(2.5)
    herd.run.lost(herd.now)
    herd._collect()
    assert herd.run.is_over
    assert [(r.outcome, r.started is not None) for r in herd.records] == [("unfinished", True)] * 3
    assert all(r.sip_call_id and r.answered is not None for r in herd.records)


def test_a_run_of_no_calls_is_over_at_once() -> None:
    herd = LoadHerd(profile(arrival=Arrival(rate=1e-6), duration=0.5))
    herd.until(0.1)
    herd.run.drain(herd.now)
    herd.until()
    assert herd.run.is_over


# -- memory ----------------------------------------------------------------------------------------


def test_calls_are_forgotten_as_they_end() -> None:
    mix = tuple(entry for kind, entry in ENTRIES.items() if kind != "transfer")
    herd = LoadHerd(
        profile(
            *mix,
            arrival=Arrival(rate=100.0),
            duration=None,
            limits=LoadLimits(total=3000),
            hold=HoldTime(mean=1.0),
        )
    )
    herd.keep = False
    largest = 0
    t = 0.0
    while not herd.run.is_over:
        t += 5.0
        herd.until(t)
        largest = max(largest, herd.run.size)
        for id in [id for id, leg in herd.legs.items() if leg.ended is not None]:
            del herd.legs[id]
    assert (
        sum(herd.counts[outcome] for outcome in ("answer", "busy", "no_answer", "cancel")) == 3000
    )
    assert largest < 1500  # about 150 calls at once, with all that belongs to them
    assert herd.run.size == 0


def test_every_command_has_its_own_number() -> None:
    herd = LoadHerd(profile(*ENTRIES.values(), arrival=Arrival(rate=8.0)))
    herd.until()
    ids = [command.id for command in herd.commands]
    assert len(ids) == len(set(ids))
    assert all(isinstance(command, Command) for command in herd.commands)
    assert len(herd.sent(RejectCall)) == 10


def test_a_phone_of_another_name_is_no_target() -> None:
    herd = LoadHerd(
        profile(Entry(kind="transfer", to="1003"), limits=LoadLimits(total=1)),
        [*phones()[:2], phone_info("carol", "1003")],
    )
    herd.until()
    assert outcomes(herd) == {"answer": 1}


def test_a_call_that_reaches_a_phone_of_ours_by_way_of_a_stranger_is_answered() -> None:
    """As through a relay: what is dialled is its address, and the Call-ID stays."""
    herd = LoadHerd(profile(Entry(after=0.5), callees=("sip:1002@192.0.2.9",), duration=2.0))
    herd.until(0.3)
    outgoing = herd.up()[0]
    herd._ring(outgoing, "bob", "1001")
    herd.until(1.0)
    assert outgoing.answered is not None
    herd.until()
    first, second = in_order(herd.records)
    assert (first.outcome, first.callee) == ("answer", "bob")
    assert (second.outcome, second.callee) == ("unfinished", "")


def test_a_call_that_was_handed_to_the_run_and_is_not_its_own_is_ended() -> None:
    herd = LoadHerd(profile(duration=3.0))
    herd.until(0.5)
    stranger = MadeLeg("x1", "bob", "in", "stranger", "sip:9999@192.0.2.1", herd.now)
    herd.legs["x1"] = stranger
    waiting = herd._waiting["bob"].pop(0)
    herd.run.done(waiting.id, stranger.info(), herd.now)
    herd.until()
    assert stranger.ended is not None
    assert outcomes(herd) == {"answer": 3}


def test_nobody_waits_at_a_phone_that_is_not_called() -> None:
    herd = LoadHerd(profile(duration=3.0))
    herd.until()
    assert {c.body.which for c in herd.sent(AwaitIncoming)} == {("bob",)}  # type: ignore[union-attr]


def test_lag_is_of_what_is_done_too_late_and_not_of_what_is_held_back() -> None:
    herd = LoadHerd(profile(duration=None, limits=LoadLimits(concurrent=1, total=3)))
    herd.until(9.0)  # the second one was 3 s late
    assert herd.run.take_lag() < 0.01
    herd = LoadHerd(profile(duration=3.0))
    herd.until(0.5)
    herd.run.take_lag()
    herd.now += 0.8
    herd.run.tick(herd.now)
    assert herd.run.take_lag() == pytest.approx(0.3)
    assert herd.run.take_lag() == 0.0


def test_a_transfer_that_takes_too_long_to_be_carried_out_is_not_asked_for_twice() -> None:
    herd = LoadHerd(profile(ENTRIES["transfer"], limits=LoadLimits(total=1)))
    herd.refuse = lambda c: "expired" if isinstance(c.body, TransferCall) else ""
    herd.until()
    assert len(herd.sent(TransferCall)) == 1
    assert outcomes(herd) == {"disrupted": 1}
