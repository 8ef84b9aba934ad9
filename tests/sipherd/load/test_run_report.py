"""The report of a run that was written and read again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

import loadcodes
import loadrun
from sipherd.load.axes import number
from sipherd.load.gates import parse
from sipherd.load.metrics import tally
from sipherd.load.profile import Arrival, LoadProfile, Stage
from sipherd.load.records import RegisterAttempt, RunFacts
from sipherd.load.report_html import page
from sipherd.load.report_text import lines
from sipherd.load.run_report import read, read_report
from sipherd.load.store import RunReader, RunWriter, StoreError
from sipherd.load.verdict import give


def written(directory: Path, about: RunFacts) -> Path:
    with RunWriter(directory, about) as writer:
        for attempt in loadrun.attempts(100, 10, 4):
            writer.add(attempt, 0.0)
        for sample in loadrun.box(20):
            writer.add(sample, 0.0)
        writer.add(RegisterAttempt(at=-1.0, phone="alice", delay=0.1, code=200), 0.0)
        for event in loadrun.events(20):
            writer.add_event(event)
    return directory


def test_a_finished_run(tmp_path: Path) -> None:
    attempts = loadrun.attempts(100, 10, 4)
    verdict = give(tally(attempts), [parse("as_intended >= 99"), parse("ira < 1%")])
    about = loadrun.facts(ended=20.0, verdict=msgspec.to_builtins(verdict))
    with RunReader(written(tmp_path / "run", about)) as reader:
        found = read_report(reader)
    assert (found.calls, found.seconds) == (100, 20.0)
    assert found.judgement.word == verdict.kind
    assert found.judgement.gates[1].evidence == "0 of 1 REGISTERs"
    assert max(value or 0 for value in found.course.cpu) == pytest.approx(0.97)
    assert found.happenings
    ira = found.figure("ira")
    assert ira is not None
    assert ira.value == 0
    deaths = found.figure("deaths")
    assert deaths is not None
    assert deaths.value == 5
    assert "100 calls in 20 s" in page(found)
    assert "Gates:" in lines(found)


def test_a_run_whose_runner_was_killed_is_judged_when_it_is_read(tmp_path: Path) -> None:
    about = loadrun.facts(
        ended=None, state="running", gates=("as_intended >= 1",), profile={"duration": 600.0}
    )
    with RunReader(written(tmp_path / "run", about)) as reader:
        found = read(reader)
    assert found.verdict is not None
    assert found.verdict.kind == "INVALID"
    assert found.report.facts.state == "interrupted"
    assert found.report.seconds >= 20.0
    assert re.match(r"the runner was gone after \S.* of 10 m", found.report.judgement.why[0])
    assert [gate.state for gate in found.report.judgement.gates] == ["passed"]
    assert lines(found.report)[0].startswith("INVALID: 100 calls")


@pytest.mark.parametrize(
    ("state", "duration"), [("draining", 600.0), ("running", 5.0), ("draining", None)]
)
def test_killed_while_it_drained(tmp_path: Path, state: str, duration: float | None) -> None:
    about = loadrun.facts(ended=None, state=state, profile={"duration": duration})
    with RunReader(written(tmp_path / "run", about)) as reader:
        (why, *_) = read(reader).report.judgement.why
    assert why.endswith(", before the last calls had ended")


def test_killed_in_a_run_of_stages(tmp_path: Path) -> None:
    stages = (Stage(rate=5, seconds=60, ramp=True), Stage(rate=5, seconds=540))
    profile = LoadProfile(callers=("*",), callees=("*",), arrival=Arrival(stages=stages))
    about = loadrun.facts(ended=None, state="running", profile=msgspec.to_builtins(profile))
    with RunReader(written(tmp_path / "run", about)) as reader:
        (why, *_) = read(reader).report.judgement.why
    assert why.endswith(" of 10 m")


def test_killed_in_a_run_without_an_end(tmp_path: Path) -> None:
    about = loadrun.facts(ended=None, state="running", profile={"duration": None})
    with RunReader(written(tmp_path / "run", about)) as reader:
        (why, *_) = read(reader).report.judgement.why
    assert why.startswith("the runner was gone after ")
    assert " of " not in why


def test_a_run_that_goes_on_has_no_verdict(tmp_path: Path) -> None:
    """Calls that are up have not failed."""
    about = loadrun.facts(ended=None, state="running", gates=("as_intended >= 99",))
    with RunWriter(tmp_path / "run", about) as writer:
        writer.add(loadrun.attempt(1), 0.0)
        up = {"outcome": "unfinished", "ended": None, "final_code": None, "responses": ()}
        writer.add(loadrun.attempt(2, **up), 0.0)
    with RunReader(tmp_path / "run") as reader:
        going, over = read(reader, goes_on=True), read(reader)
    assert going.verdict is None
    assert (going.report.calls, going.report.as_intended) == (1, 1)
    assert lines(going.report)[0].startswith("RUNNING: 1 call in ")
    assert (over.report.calls, over.report.as_intended) == (2, 1)


@pytest.mark.parametrize(
    ("about", "told"),
    [
        ({"verdict": {"kind": "MAYBE"}}, "its verdict is none: "),
        ({"gates": ("as_intended > many",)}, "gate 'as_intended > many': "),
    ],
)
def test_facts_that_nobody_wrote(tmp_path: Path, about: dict[str, Any], told: str) -> None:
    wrong = pytest.raises(StoreError, match=re.escape(f"run.json: {told}"))
    with RunReader(written(tmp_path / "run", loadrun.facts(**about))) as reader, wrong:
        read(reader)


def test_a_run_with_every_response_code(tmp_path: Path) -> None:
    """All that was computed by hand for it is on the page, and so is each code."""
    with RunWriter(tmp_path / "run", loadrun.facts()) as writer:
        for record in (*loadcodes.calls(), *loadcodes.registers()):
            writer.add(record, 0.0)
        for death in loadcodes.deaths():
            writer.add_event(death)
    with RunReader(tmp_path / "run") as reader:
        found = read(reader)
    assert {code for code, _ in found.report.codes} == {100, 180, *loadcodes.FINAL}
    text = re.sub("<[^>]*>", " ", page(found.report))
    told = " ".join(text.split())
    plain = " ".join(" ".join(lines(found.report)).split())
    for name, value in loadcodes.EXPECTED.items():
        figure = found.report.figure(name)
        assert figure is not None
        assert figure.value == pytest.approx(value)
        assert f"{figure.label} {number(value, figure.unit)} {name}" in told
        assert f"{figure.label} {number(value, figure.unit)} {name}" in plain
    for code in loadcodes.FINAL:
        assert re.search(rf"\b{code}\b", told)
