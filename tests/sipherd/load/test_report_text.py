"""The summary, on a terminal and in plain lines."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from loadrun import attempt, attempts, facts, run
from sipherd.load.figures import figures
from sipherd.load.findings import Judgement, Report
from sipherd.load.metrics import tally
from sipherd.load.report_text import blocks, lines, summary
from sipherd.load.survey import report


def terminal(report: Report, width: int = 100, *, colour: bool = False) -> str:
    out = io.StringIO()
    system = "standard" if colour else None
    Console(file=out, width=width, force_terminal=True, color_system=system).print(summary(report))
    return out.getvalue()


def test_the_verdict_comes_first() -> None:
    found = lines(run())
    assert found[0].startswith("FAIL: 1,200 calls in 72 s; ")
    assert found[1] == "  as_intended >= 99: it was 98.2 %"
    assert found[2:4] == ["", "Gates:"]


def test_gates_and_their_evidence() -> None:
    text = "\n".join(lines(run()))
    assert "as_intended >= 99   FAILED" in text
    assert "srd_ok_p95 < 200ms  passed" in text
    assert "mos_p5 > 3.8        FAILED: nothing to measure         -  no media" in text


def test_the_terminal_shows_the_same() -> None:
    told = " ".join(terminal(run(), 200).split())
    for line in lines(run()):
        words = line.replace("FAIL: ", "FAIL ").rstrip(":")
        assert " ".join(words.split()) in told


@pytest.mark.parametrize("width", [30, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(len, terminal(run(), width).splitlines())) <= width


def test_a_failed_gate_is_red() -> None:
    assert "\x1b[1;31mFAILED" in terminal(run(), colour=True)


def test_long_lists_are_cut_and_the_rest_is_counted() -> None:
    made = [
        attempt(n, outcome="reject", cause="rejected", final_code=400 + n) for n in range(1, 16)
    ]
    found = report(facts(), made, [], [], Judgement())
    text = "\n".join(lines(found))
    assert "5 other causes" in text
    assert "and 2 more: death 2" in "\n".join(lines(run()))


def test_what_is_empty_is_left_out() -> None:
    found = report(facts(), [], [], [], Judgement())
    assert lines(found) == ["NO VERDICT: No call in 60 s. No gate judged it."]
    assert blocks(found) == []


def test_one_call() -> None:
    found = report(facts(), [attempt()], [], [], Judgement(word="PASS"))
    assert lines(found)[0] == "PASS: 1 call in 60 s; 100 % ended as intended."


def test_a_share_that_rounds_to_all_does_not_say_all() -> None:
    made = attempts(10, 10, 4)
    found = report(facts(), made, [], [], Judgement(word="PASS"))
    found = msgspec.structs.replace(found, calls=100_000, as_intended=99_999)
    assert "> 99.99 % ended as intended, 1 did not." in lines(found)[0]


def test_a_run_that_goes_on() -> None:
    found = report(facts(state="running", ended=None), [attempt()], [], [], Judgement())
    assert lines(found)[0].startswith("RUNNING: 1 call in 5.5 s;")
    assert "The run goes on" in lines(found)[0]


def test_figures_of_many_values_have_a_row_each() -> None:
    made = attempts(100, 10, 4)
    found = report(facts(), made, [], figures(tally(made)), Judgement(word="PASS"))
    told = lines(found)
    head = next(line for line in told if line.startswith("Figure") and "p99" in line)
    assert head.split() == ["Figure", "Mean", "p50", "p95", "p99", "Max", "In", "a", "gate"]
    (delay,) = (line for line in told if line.startswith("Session request delay  "))
    assert delay.count(" ms") == 5
    assert delay.endswith("srd_ok_p95")
    assert not any(line.startswith("One-way audio") for line in told)  # for there was none


def test_an_interrupted_run() -> None:
    found = report(facts(state="interrupted", ended=None), [attempt()], [], [], Judgement())
    assert lines(found)[0].startswith("INTERRUPTED: 1 call in 5.5 s;")
    assert "no gate judged it" in lines(found)[0]


def test_text_of_peers_is_neither_markup_nor_control() -> None:
    evil = "[red]x[/red]\x1b[2J"
    made = [attempt(cause=evil, outcome="reject", caller=evil)]
    found = report(facts(phones=()), made, [], [], Judgement(word="FAIL", why=(evil,)))
    shown = terminal(found, 200)
    assert "[red]x[/red]" in shown
    for text in (shown, "\n".join(lines(found))):
        assert "\x1b" not in text
