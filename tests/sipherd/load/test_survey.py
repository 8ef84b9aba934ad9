"""What is counted from the records of a run."""

from __future__ import annotations

import pytest

from loadrun import attempt, attempts, events, facts, run
from sipherd.load.findings import Judgement, Report
from sipherd.load.metrics import tally
from sipherd.load.records import BoxSample, CallAttempt, PhoneSample, RunEvent
from sipherd.load.survey import cause_of, percentile, report, window_for
from sipherd.protocol.events import CallCleanedUp, CleanUp


def counted(*made: CallAttempt, seconds: float = 10.0) -> Report:
    return report(facts(ended=seconds), made, [], [], Judgement())


@pytest.mark.parametrize(
    ("seconds", "window"),
    [(0, 1), (60, 1), (120, 1), (121, 2), (3600, 30), (86400, 900), (86400 * 365, 86400 * 4)],
)
def test_windows_are_round_and_at_most_120(seconds: float, window: float) -> None:
    assert window_for(seconds) == window
    assert seconds / window <= 120


def test_percentiles_are_nearest_rank() -> None:
    values = [float(i) for i in range(1, 11)]
    assert [percentile(values, p) for p in (0, 50, 91, 99, 100)] == [1, 5, 10, 10, 10]
    assert percentile([], 50) is None


def test_setup_times_are_those_of_successful_calls() -> None:
    """RFC 6076, section 4.3: successful and failed are never mixed."""
    busy = attempt(2, outcome="busy", final_code=486, responses=((486, 9.0),), answered=None)
    course = counted(attempt(1), busy).course
    assert course.setup_p50[0] == course.setup_p99[0] == pytest.approx(0.01)


def test_windows() -> None:
    found = counted(
        attempt(intended=0.5, started=1.5),
        attempt(intended=1.0, started=1.0),
        attempt(intended=2.0, started=None, outcome="refused", cause="no_port"),
    ).course
    assert found.window == 1
    assert found.intended[:4] == (1, 1, 1, 0)
    assert found.started[:4] == (0, 2, 0, 0)
    assert found.missed[:4] == (0, 0, 1, 0)
    assert found.late_max[:3] == (None, 1.0, None)
    assert found.setup_p50[0] is None
    assert found.setup_p50[1] == pytest.approx(0.01)


def test_the_most_calls_at_once() -> None:
    """The first ends in the moment in which the third begins."""
    found = counted(
        attempt(started=0.0, answered=0.5, ended=3.0),
        attempt(started=2.0, answered=0.5, ended=2.0),
        attempt(started=3.0, answered=None, ended=0.25, outcome="busy", expected="busy"),
    ).course
    assert found.under_way[:5] == (1, 1, 2, 2, 0)
    assert found.answered[:5] == (1, 1, 2, 1, 0)
    assert found.under_way[5:] == (0,) * 5


def test_what_never_ended_is_up_to_the_end() -> None:
    found = counted(attempt(started=8.0, ended=None, outcome="unfinished"))
    assert found.course.under_way[-2:] == (1, 1)


def test_a_time_outside_of_the_run_counts_for_its_edge() -> None:
    found = counted(attempt(intended=-1, started=-1.0), attempt(intended=11, started=11.0))
    assert (found.course.started[0], found.course.started[-1]) == (1, 1)


def test_warm_up_is_in_the_course_but_not_in_what_is_judged() -> None:
    found = counted(attempt(warm_up=True, outcome="crashed"), attempt(2))
    assert sum(found.course.started) == 2
    assert (found.calls, found.as_intended, found.causes) == (1, 1, ())
    assert found.codes == ((100, 1), (180, 1), (200, 1))
    assert sum(found.course.missed) == 0


def test_causes_codes_and_mix() -> None:
    refused = {"outcome": "reject", "cause": "rejected", "final_code": 503}
    found = counted(
        attempt(1),
        attempt(2, responses=((100, 0.1), (503, 0.2)), **refused),
        attempt(3, responses=((503, 0.2),), **refused),
        attempt(4, outcome="crashed", cause="phone_crashed", final_code=None),
    )
    assert found.causes == (("rejected (503), answer intended", 2), ("phone crashed", 1))
    assert found.codes == ((100, 3), (180, 2), (200, 2), (503, 2))
    line = found.mix[0]
    assert (line.drawn, line.calls, line.as_intended) == ("answer", 4, 1)
    assert [one.number for one in found.examples] == [2, 3, 4]


def test_an_answer_that_was_not_wanted_says_so() -> None:
    assert cause_of(attempt(expected="busy")) == "hung up, busy intended"


def test_a_call_whose_other_side_crashed_was_not_just_hung_up() -> None:
    """The process that comes after it ends its calls with BYE."""
    lost = attempt(outcome="crashed", cause="hung_up")
    assert cause_of(lost) == "phone crashed"
    assert tally([lost]).causes == {"phone_crashed": 1}


def test_phones_the_worst_first_and_those_without_a_call_too() -> None:
    died = RunEvent(t=1.0, phone="carol", kind="phone_died")
    about = facts(phones=("alice", "bob", "dave"))
    made = [attempt(1), attempt(2, callee="", outcome="crashed")]
    found = report(about, made, [died], [], Judgement()).phones
    assert [(one.name, one.total, one.missed_total, one.deaths) for one in found] == [
        ("alice", 2, 1, 0),
        ("carol", 0, 0, 1),
        ("bob", 1, 0, 0),
        ("dave", 0, 0, 0),
    ]


def test_phones_that_fare_alike_are_in_the_order_of_people() -> None:
    names = ("phone-10", "phone-9", "alice", "phone-1", "7", "phone-9b")
    found = report(facts(phones=names), [], [], [], Judgement())
    assert [phone.name for phone in found.phones] == [
        *("7", "alice", "phone-1", "phone-9", "phone-9b", "phone-10")
    ]


def test_an_interrupted_run_lasts_as_long_as_its_records() -> None:
    about = facts(ended=None, state="running")
    made = iter([attempt(started=2.0, ended=5.0), attempt(started=3.0, ended=None)])
    assert report(about, made, [], [], Judgement()).seconds == 7.0
    assert report(about, [], [], [], Judgement()).seconds == 0.0


def test_a_whole_run_adds_up() -> None:
    found = run()
    assert found.calls == 1200
    assert sum(found.course.intended) == sum(found.course.started) == 1200
    missed = found.calls - found.as_intended
    assert missed == sum(found.course.missed) == sum(count for _, count in found.causes) > 0
    assert sum(line.calls for line in found.mix) == 1200
    assert sum(phone.total for phone in found.phones) == 2 * 1200


def test_happenings_are_told_in_order() -> None:
    found = report(facts(), attempts(10, 1, 4), reversed(events(60)), [], Judgement()).happenings
    assert [one.t for one in found] == sorted(one.t for one in found)
    told = {(one.kind, one.text) for one in found}
    assert ("restart", "ready again, incarnation 2") in told
    assert ("fault", "fault: kill") in told


def test_an_event_of_another_version_is_named() -> None:
    strange = RunEvent(t=1.0, kind="phone_sang", facts={"song": 1})
    found = report(facts(), [], [strange], [], Judgement()).happenings
    assert (found[0].kind, found[0].text) == ("trouble", "phone sang")


@pytest.mark.parametrize(("how", "kind"), [("bye", "note"), ("bye_unanswered", "trouble")])
def test_what_a_death_leads_to_is_no_trouble_unless_nobody_answers(how: CleanUp, kind: str) -> None:
    cleaned = RunEvent.of(1.0, CallCleanedUp(sip_call_id="x", how=how), "alice", 2)
    (found,) = report(facts(), [], [cleaned], [], Judgement()).happenings
    assert found.kind == kind


def test_what_a_phone_passes_through_is_no_happening() -> None:
    passing = RunEvent(t=1.0, kind="phone_state", facts={"state": "backoff", "previous": "ready"})
    assert report(facts(), [], [passing], [], Judgement()).happenings == ()


def test_samples_of_the_box_and_its_phones() -> None:
    box = [
        BoxSample(t=0.5, cpu=0.2, loop_lag=0.01, socket_drops=2),
        BoxSample(t=1.0, cpu=0.9, supervisor_lag=0.03, socket_drops=1),
        BoxSample(t=99.0, cpu=0.1, phone_lag=0.5),
    ]
    phones = [
        PhoneSample(t=1.5, phone=name, incarnation=1, memory=memory, fds=9, threads=1)
        for name, memory in (("a", 1_000_000), ("b", 2_000_000), ("c", 9_000_000))
    ]
    course = report(facts(ended=10.0), [], [], [], Judgement(), box=box, phones=phones).course
    assert (course.cpu[0], course.lag[0], course.drops[0]) == (0.9, 0.03, 3)
    assert (course.cpu[1], course.lag[1], course.drops[1]) == (None, None, 0)
    assert (course.cpu[-1], course.lag[-1]) == (0.1, 0.5)
    assert course.memory_p50[:2] == (None, 2e6)
    assert course.memory_max == (None, *[9e6] * 9)  # until somebody looks again
