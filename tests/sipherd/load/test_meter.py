"""What the live view is told."""

from __future__ import annotations

from loadrun import attempt, events
from sipherd.load.live import line, view
from sipherd.load.meter import Meter


def test_calls_under_way() -> None:
    meter = Meter("x", planned=60.0, planned_calls=3, limit=10)
    for n in range(3):
        meter.start(n / 10)
    meter.answer()
    meter.answer()
    meter.end(attempt(1), 0.5)
    found = meter.snapshot(1.0, "running", 3.0)
    assert (found.calls, found.under_way, found.answered) == (3, 2, 1)
    assert (found.ended, found.as_intended, found.missed) == (1, 1, 0)
    assert (found.left, found.planned_calls, found.limit) == (59.0, 3, 10)


def test_rates_are_those_of_the_last_whole_seconds() -> None:
    meter = Meter("x")
    for n in range(200):
        meter.start(n / 20)  # 20 a second for 10 s
    assert meter.snapshot(10.0, "running", 20.0).started_rate == 20.0
    assert meter.snapshot(0.5, "running", 20.0).started_rate == 0.0
    found = meter.snapshot(13.0, "running", 20.0)
    assert found.started_rate == 20 * 2 / 5
    assert list(found.recent_rates) == [20.0] * 10 + [0.0] * 3


def test_an_attempt_that_was_never_sent() -> None:
    meter = Meter("x")
    meter.end(attempt(started=None, outcome="refused", cause="no_port"), 0.5)
    found = meter.snapshot(1.0, "running", 1.0)
    assert (found.calls, found.under_way, found.missed, found.missed_rate) == (1, 0, 1, 1.0)
    assert list(found.causes) == [("no port", 1)]


def test_phones_that_do_badly_and_what_happened() -> None:
    meter = Meter("x")
    for event in events(60):
        meter.event(event)
    meter.start(0.0)
    meter.end(attempt(outcome="crashed", cause="phone_crashed", answered=None), 1.0)
    found = meter.snapshot(2.0, "draining", 0.0)
    assert [(one.name, one.calls, one.missed, one.deaths) for one in found.worst][:3] == [
        ("alice", 1, 1, 0),
        ("bob", 1, 1, 0),
        ("phone-003", 0, 0, 1),
    ]
    assert (found.restarts, found.faults) == (5, 5)


def test_it_forgets_what_nobody_is_shown() -> None:
    meter = Meter("x")
    for second in range(10_000):
        meter.start(float(second))
    assert len(meter._started) < 200
    assert meter.snapshot(10_000.0, "running", 1.0).started_rate == 1.0


def test_a_fresh_one_can_be_shown() -> None:
    found = Meter("x").snapshot(0.0, "warm-up", 20.0)
    assert line(found).startswith("0:00 warm-up, 0 of 20 calls/s")
    assert view(found)
