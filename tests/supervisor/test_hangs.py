"""Verdicts about phones that make no progress, with the time and the phones' signs made up."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from sipherd.protocol.hang_spec import HangSpec
from sipherd.supervisor.hangs import Hangs, Level, Overload, Progress, Recovery, Sign, Verdict

SPEC = HangSpec(late=3, suspect=10, hung=30)
STEP = 0.75


class Box:
    """Some phones that are checked every STEP seconds; those in `silent` give no sign."""

    def __init__(self, phones: int, spec: HangSpec = SPEC) -> None:
        self.now = 1000.0
        self.hangs = Hangs()
        self.spec = spec
        self.progress = {f"p{n}": Progress() for n in range(phones)}
        self.due = dict.fromkeys(self.progress, 0.0)
        self.silent: set[str] = set()
        self.stopped: set[str] = set()
        self.verdicts: list[tuple[float, Verdict]] = []
        self.check()

    def check(self, delay: float = 0.0) -> None:
        signs = []
        for name, progress in self.progress.items():
            if name not in self.silent | self.stopped:
                self.due[name] = self.now + self.spec.late
            state = "T" if name in self.stopped else "S"
            signs.append(Sign(name, progress, self.spec, self.due[name], state))
        for verdict in self.hangs.check(signs, self.now, delay):
            self.verdicts.append((self.now, verdict))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now + STEP <= until:
            self.now += STEP
            self.check()

    def hang(self, names: Iterable[str]) -> None:
        """From now on these are overdue."""
        for name in names:
            self.silent.add(name)
            self.due[name] = self.now

    def levels(self, name: str) -> list[str]:
        """What was told of this phone, in order."""
        told = [v for _, v in self.verdicts if isinstance(v, Level) and v.phone == name]
        assert [v.previous for v in told] == ["fine", *(v.level for v in told)][:-1]
        return [v.level for v in told]

    def when(self, kind: type[Verdict]) -> list[float]:
        return [t for t, verdict in self.verdicts if isinstance(verdict, kind)]

    def hung(self) -> set[str]:
        return {name for name, progress in self.progress.items() if progress.level == "hung"}


def test_a_phone_in_time_is_fine() -> None:
    box = Box(1)
    box.run(100)
    assert not box.verdicts


@pytest.mark.parametrize(
    ("seconds", "level"),
    [(2.9, "fine"), (3, "late"), (9.9, "late"), (10, "suspect"), (29.9, "suspect"), (30, "hung")],
)
def test_levels(seconds: float, level: str) -> None:
    progress = Progress(since=0.0)
    verdicts = Hangs().check([Sign("p", progress, SPEC, 1000.0, "R")], 1000.0 + seconds, 0.0)
    assert progress.level == level
    assert verdicts == ([] if level == "fine" else [Level("p", progress.level, "fine")])


def test_each_level_is_told_once() -> None:
    box = Box(2)
    box.hang(["p1"])
    box.run(100)
    assert box.levels("p1") == ["late", "suspect", "hung"]
    assert box.when(Level) == pytest.approx([1003, 1010.5, 1030])
    assert box.hung() == {"p1"}


def test_a_phone_that_goes_on_is_fine_again() -> None:
    box = Box(2)
    box.hang(["p1"])
    box.run(12)
    assert box.progress["p1"].level == "suspect"
    box.silent.clear()
    box.run(1)
    assert box.progress["p1"].level == "fine"
    assert box.levels("p1") == ["late", "suspect", "fine"]
    assert not box.progress["p1"].overdue


def test_observing_only_never_says_hung() -> None:
    box = Box(2, HangSpec(late=3, suspect=10, hung=0))
    box.hang(["p1"])
    box.run(1000)
    assert box.progress["p1"].level == "suspect"


def test_a_phone_without_any_sign_is_counted_from_the_first_look() -> None:
    progress = Progress()
    hangs = Hangs()
    for seconds, level in ((0.0, "fine"), (2.9, "fine"), (3.0, "late"), (30.0, "hung")):
        hangs.check([Sign("p", progress, SPEC, 0.0)], 5000.0 + seconds, 0.0)
        assert progress.level == level


def test_words() -> None:
    assert Progress(overdue=30.1).in_words() == "no progress for 30.1 s"
    assert Progress(overdue=30, run_state="T").in_words() == "stopped (SIGSTOP) for 30.0 s"
    assert Progress(overdue=30, run_state="t").in_words() == "stopped by a debugger for 30.0 s"


# -- a box without time ----------------------------------------------------------------------------


def test_nobody_hangs_while_the_supervisor_itself_is_late() -> None:
    box = Box(2)
    box.hang(["p0", "p1"])  # so it looks: they have not had their turn since it was asleep
    box.now += 60
    box.check(delay=59.25)
    assert box.hangs.is_frozen
    assert [v for _, v in box.verdicts] == [Overload("supervisor_late", 0, 59.25)]
    box.silent.clear()
    box.run(10)
    assert not box.hangs.is_frozen
    assert [type(v) for _, v in box.verdicts] == [Overload, Recovery]


def test_a_little_late_is_not_overloaded() -> None:
    box = Box(2)
    box.now += STEP
    box.check(delay=1.5)
    assert not box.verdicts


@pytest.mark.parametrize(("phones", "late"), [(3, 3), (20, 3), (100, 10), (500, 50)])
def test_many_that_become_late_together_tell_of_the_box(phones: int, late: int) -> None:
    box = Box(phones)
    box.hang(f"p{n}" for n in range(late))
    box.run(29)
    assert box.hangs.is_frozen
    assert [v for _, v in box.verdicts] == [Overload("phones_late", late, 0.0)]


@pytest.mark.parametrize(("phones", "late"), [(2, 2), (20, 2), (100, 9)])
def test_some_that_become_late_together_hang(phones: int, late: int) -> None:
    box = Box(phones)
    box.hang(f"p{n}" for n in range(late))
    box.run(31)
    assert not box.when(Overload)
    assert len(box.hung()) == late


def test_stopped_phones_tell_nothing_of_the_box() -> None:
    box = Box(5)
    box.stopped.update(box.progress)
    box.due = dict.fromkeys(box.due, box.now)
    box.run(31)
    assert not box.when(Overload)
    assert len(box.hung()) == 5


def test_after_an_overload_everybody_has_all_the_time_anew() -> None:
    box = Box(100)
    box.hang(box.progress)
    box.run(28)
    box.silent = {"p7"}  # this one hangs in truth
    box.run(2)
    assert box.hangs.is_frozen, "calm must last"
    box.run(3)
    (thawed,) = box.when(Recovery)
    assert thawed == pytest.approx(box.now, abs=2 * STEP)
    box.run(28)
    assert box.progress["p7"].level == "suspect"
    box.run(4)
    assert box.hung() == {"p7"}
    assert box.when(Level)[-1] == pytest.approx(thawed + 30, abs=STEP)
    assert len(box.when(Overload)) == len(box.when(Recovery)) == 1


def test_a_level_is_kept_over_an_overload() -> None:
    box = Box(100)
    box.hang(["p7"])
    box.run(12)
    assert box.progress["p7"].level == "suspect"
    box.now += 10
    box.check(delay=9.25)
    box.run(6)
    assert not box.hangs.is_frozen
    assert box.progress["p7"].level == "suspect"
    assert box.levels("p7") == ["late", "suspect"]


def test_phones_that_hang_together_do_not_look_like_an_overload_for_ever() -> None:
    """The first freeze is over when each has been late for 30 s; then they have 30 s more."""
    box = Box(100)
    box.hang(box.progress)
    box.run(60)
    assert not box.hung()
    box.run(15)
    assert len(box.hung()) == 100
    assert len(box.when(Overload)) == len(box.when(Recovery)) == 1


def test_a_box_that_stays_overloaded_ends_nobody() -> None:
    box = Box(100)
    box.hang(["p7"])
    for _ in range(100):
        box.now += 5
        box.check(delay=4.25)
    assert not box.hung()
    assert len(box.verdicts) == 1
