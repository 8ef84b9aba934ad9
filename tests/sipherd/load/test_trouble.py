"""What a live view warns of."""

from __future__ import annotations

from loadrun import attempt
from sipherd.load.metrics import Tally, tally
from sipherd.load.records import BoxSample
from sipherd.load.trouble import Trouble


def test_a_box_that_copes_is_not_warned_of() -> None:
    trouble = Trouble()
    for t in range(1, 100):
        trouble.sample(BoxSample(t=t, cpu=0.5, loop_lag=0.001))
    assert trouble.warnings(tally([attempt(n) for n in range(1, 50)])) == []


def test_calls_that_start_late() -> None:
    late = [attempt(n, started=n / 10 + 2) for n in range(1, 50)]
    (warning,) = Trouble().warnings(tally(late))
    assert "calls started late" in warning


def test_a_habit_is_told_from_a_hiccup_and_is_forgotten() -> None:
    trouble = Trouble()
    for t in range(1, 5):
        trouble.sample(BoxSample(t=t, loop_lag=0.5))
    assert trouble.warnings(Tally()) == []  # a start is busy
    trouble.sample(BoxSample(t=5, loop_lag=0.5))
    assert "loop of the runner" in trouble.warnings(Tally())[0]
    for t in range(6, 70):
        trouble.sample(BoxSample(t=t))
    assert trouble.warnings(Tally()) == []


def test_drops_are_never_forgotten() -> None:
    trouble = Trouble()
    trouble.sample(BoxSample(t=1, socket_drops=7))
    assert "dropped 7 datagrams" in trouble.warnings(Tally())[0]
    for t in range(2, 70):
        trouble.sample(BoxSample(t=t))
    assert "dropped 7 datagrams" in trouble.warnings(Tally())[0]


def test_the_warm_up_does_not_count() -> None:
    trouble = Trouble(since=10.0)
    for t in range(1, 11):
        trouble.sample(BoxSample(t=t, socket_drops=1, loop_lag=1))
    assert trouble.warnings(Tally()) == []
