"""Deadlines in order, and no heap of cancelled ones."""

from __future__ import annotations

from sipherd.supervisor.timers import Timers


def test_in_order_and_not_before_their_time() -> None:
    timers, ran = Timers(), list[str]()
    timers.at(2.0, lambda: ran.append("b"))
    timers.at(1.0, lambda: ran.append("a"))
    timers.at(3.0, lambda: ran.append("c"))
    assert timers.next() == 1.0
    timers.run(2.0)
    assert ran == ["a", "b"]
    assert timers.next() == 3.0


def test_a_cancelled_one_never_runs() -> None:
    timers, ran = Timers(), list[str]()
    timer = timers.at(1.0, lambda: ran.append("a"))
    timer.cancel()
    timer.cancel()
    timers.run(5.0)
    assert ran == []
    assert timers.next() is None


def test_an_action_may_set_another() -> None:
    timers, ran = Timers(), list[str]()
    timers.at(1.0, lambda: timers.at(1.5, lambda: ran.append("later")) and None)
    timers.run(2.0)
    assert ran == ["later"]


def test_a_hundred_thousand_cancelled_ones_take_no_room() -> None:
    timers = Timers()
    timers.at(1e9, lambda: None)
    for n in range(100_000):
        timers.at(10.0 + n, lambda: None).cancel()
    assert len(timers._heap) < 200
