"""What changed between two runs."""

from __future__ import annotations

import io
from typing import Any, Literal

import pytest
from rich.console import Console

from loadrun import attempt, facts, run
from sipherd.load.compare import Direction, compare, lines, summary
from sipherd.load.findings import Figure, GateState, JudgedGate, Judgement, Report, VerdictWord
from sipherd.load.survey import report


def figure(value: float | None, better: Literal["more", "less", ""], unit: str = "ms") -> Figure:
    return Figure(key="x", label="X", value=value, unit=unit, better=better)


def made(
    *figures: Figure, gates: tuple[JudgedGate, ...] = (), word: VerdictWord = "PASS", **about: Any
) -> Report:
    judgement = Judgement(word=word, gates=gates)
    return report(facts(**about), [attempt()], [], figures, judgement)


@pytest.mark.parametrize(
    ("before", "after", "better", "unit", "direction"),
    [
        (10.0, 20.0, "less", "ms", "worse"),
        (20.0, 10.0, "less", "ms", "better"),
        (10.0, 20.0, "more", "ms", "better"),
        (20.0, 10.0, "more", "ms", "worse"),
        (20.0, 10.0, "", "ms", ""),
        (100.0, 100.9, "less", "ms", ""),  # noise
        (99.9, 99.5, "more", "%", "worse"),  # 0.4 %, but points count
        (99.9, 99.85, "more", "%", ""),
        (None, 1.0, "less", "ms", ""),
        (1.0, None, "less", "ms", ""),
        (0.0, 0.0, "less", "ms", ""),
    ],
)
def test_better_and_worse(
    before: float | None,
    after: float | None,
    better: Literal["more", "less", ""],
    unit: str,
    direction: Direction,
) -> None:
    found = compare(made(figure(before, better, unit)), made(figure(after, better, unit)))
    assert found.figures[0].direction == direction


def test_a_figure_that_one_run_has_not() -> None:
    found = compare(made(), made(figure(1.0, "less"))).figures[0]
    assert (found.before, found.after, found.change) == (None, 1.0, None)


def test_gates_of_which_the_result_changed() -> None:
    def gate(name: str, state: GateState) -> JudgedGate:
        return JudgedGate(gate=name, state=state, measured="7")

    found = compare(
        made(gates=(gate("a > 1", "passed"), gate("b > 1", "passed"), gate("c > 1", "failed"))),
        made(gates=(gate("a > 1", "passed"), gate("b > 1", "failed"), gate("d > 1", "passed"))),
    )
    assert found.gates == (
        ("b > 1", "passed (7)", "failed (7)"),
        ("c > 1", "failed (7)", "not asked"),
        ("d > 1", "not asked", "passed (7)"),
    )


def test_causes_and_codes_by_the_size_of_their_change() -> None:
    bad = {"outcome": "reject", "cause": "rejected", "final_code": 503}
    refused = {**bad, "responses": ((503, 0.1),)}
    before = report(facts(), [attempt(1), attempt(2)], [], [], Judgement())
    after = report(facts(), [attempt(n, **refused) for n in (1, 2)], [], [], Judgement())
    found = compare(before, after)
    assert found.causes == (("rejected (503), answer intended", 0, 2),)
    assert found.codes == (("100", 2, 0), ("180", 2, 0), ("200", 2, 0), ("503", 0, 2))


def test_what_the_runs_do_not_share() -> None:
    one = made(profile={"rate": 20, "arrival": {"kind": "constant"}}, environment={"cpu": "x"})
    two = made(profile={"rate": 30, "arrival": {"kind": "poisson"}}, phones=("a",))
    assert compare(one, two).setting == (
        ("profile rate", "20", "30"),
        ("profile arrival.kind", "constant", "poisson"),
        ("environment cpu", "x", "-"),
        ("phones", "2", "1"),
    )


def test_lines() -> None:
    one = made(figure(10.0, "less"), name="monday")
    two = made(figure(20.5, "less"), name="tuesday", word="FAIL")
    assert lines(compare(one, two)) == [
        "monday: PASS. 1 call in 60 s; 100 % ended as intended.",
        "tuesday: FAIL. 1 call in 60 s; 100 % ended as intended.",
        "",
        "Figures, 1 of 1 changed:",
        "Figure  Before    After    Change",
        "X        10 ms  20.5 ms  +10.5 ms  worse",
    ]


def test_a_run_and_itself() -> None:
    found = compare(run(), run())
    assert (found.gates, found.causes, found.codes, found.setting) == ((), (), (), ())
    assert {one.direction for one in found.figures} == {""}


def test_the_terminal_shows_the_same() -> None:
    found = compare(run(), run(rate=30.0))
    out = io.StringIO()
    Console(file=out, width=200, force_terminal=True, color_system=None).print(summary(found))
    told = " ".join(out.getvalue().split())
    for line in lines(found):
        assert " ".join(line.rstrip(":").split()) in told


def test_what_reads_the_same_is_not_listed() -> None:
    """A ten-thousandth of a millisecond is no change that anybody looks for."""
    one = made(figure(10.5, "less"), name="monday")
    two = made(figure(10.5001, "less"), name="tuesday")
    found = compare(one, two)
    assert not any(line.startswith("X") for line in lines(found))
    assert [difference.after for difference in found.figures] == [10.5001]  # for programs
