"""Whose process is asked for next, and which are late."""

from __future__ import annotations

from sipherd.protocol.spec import PhoneSpec
from sipherd.supervisor.phones import Phone
from sipherd.supervisor.restarts import Restarts
from sipherd.supervisor.start_window import SIZE, StartWindow
from sipherd.supervisor.timers import Timers


class Starts:
    """A window and what came of it."""

    def __init__(self) -> None:
        self.timers = Timers()
        self.asked: list[Phone] = []
        self.overdue: list[Phone] = []
        self.window = StartWindow(self.timers, self.asked.append, self.overdue.append)


def phone(number: int, start_timeout: float = 10.0) -> Phone:
    spec = PhoneSpec(name=f"p{number}", start_timeout=start_timeout)
    return Phone(
        spec=spec,
        asked=spec,
        host="127.0.0.1",
        port=5060,
        rtp_first=0,
        rtp_pairs=1,
        sockets=None,
        policy=Restarts(spec.restart, lambda: 0.0),
    )


def test_so_many_at_once_and_the_others_in_turn() -> None:
    starts = Starts()
    phones = [phone(n) for n in range(SIZE + 2)]
    for each in phones:
        starts.window.add(each, 0.0)
    assert starts.asked == phones[:SIZE]
    assert starts.window.is_under_way(phones[0])
    assert starts.window.is_queued(phones[SIZE])
    starts.window.over(phones[7])
    assert len(starts.asked) == SIZE
    starts.window.fill(1.0)
    assert starts.asked[SIZE:] == [phones[SIZE]]


def test_one_that_is_no_longer_wanted_gives_its_turn_away() -> None:
    starts = Starts()
    phones = [phone(n) for n in range(SIZE + 2)]
    for each in phones:
        starts.window.add(each, 0.0)
    starts.window.over(phones[SIZE])
    assert not starts.window.is_queued(phones[SIZE])
    starts.window.over(phones[0])
    starts.window.fill(0.0)
    assert starts.asked[-1] is phones[SIZE + 1]


def test_what_is_late_is_told_once() -> None:
    starts = Starts()
    quick, slow, up = phone(1, 1.0), phone(2, 10.0), phone(3, 1.0)
    for each in (quick, slow, up):
        starts.window.add(each, 100.0)
    starts.window.over(up)
    starts.timers.run(105.0)
    assert starts.overdue == [quick]
    starts.timers.run(200.0)
    assert starts.overdue == [quick, slow]


def test_one_that_has_to_be_asked_for_again_has_all_its_time() -> None:
    starts = Starts()
    each = phone(1, 1.0)
    starts.window.add(each, 100.0)
    starts.window.again(each)
    assert starts.window.is_queued(each)
    starts.window.fill(100.9)
    assert starts.asked == [each, each]
    starts.timers.run(101.5)
    assert not starts.overdue
    starts.timers.run(101.9)
    assert starts.overdue == [each]
