"""The report of a run that was written and read again."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

import loadrun
from sipherd.load.gates import parse
from sipherd.load.metrics import tally
from sipherd.load.records import RegisterAttempt, RunFacts
from sipherd.load.report_html import page
from sipherd.load.report_text import lines
from sipherd.load.run_report import read_report
from sipherd.load.store import RunReader, RunWriter
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


def test_an_interrupted_run_can_be_reported(tmp_path: Path) -> None:
    about = loadrun.facts(ended=None, state="running")
    with RunReader(written(tmp_path / "run", about)) as reader:
        found = read_report(reader)
    assert found.judgement.word == ""
    assert found.seconds >= 20.0
    assert lines(found)[0].startswith("INTERRUPTED")
