"""`sipherd report`, `ladder` and `compare`, on run directories without a run."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

import loadrun
from commandline import Run
from sipherd.load.gates import parse
from sipherd.load.metrics import tally
from sipherd.load.records import CallAttempt
from sipherd.load.rundir import RunLock
from sipherd.load.store import RunWriter
from sipherd.load.verdict import give

CALLS = [
    loadrun.attempt(1),
    loadrun.attempt(2, outcome="reject", cause="rejected", final_code=503, answered=None),
    loadrun.attempt(3, outcome="refused", started=None, cause="no_phone", sip_call_id=""),
]
GATES = ("as_intended >= 99",)


def write(directory: Path, calls: list[CallAttempt] | None = None, **changes: object) -> Path:
    """A finished run, with its verdict, unless `changes` say otherwise."""
    calls = CALLS if calls is None else calls
    verdict = msgspec.to_builtins(give(tally(calls), map(parse, GATES)))
    about = loadrun.facts(**{"gates": GATES, "verdict": verdict, **changes})
    with RunWriter(directory, about) as writer:
        for call in calls:
            writer.add(call, 0.0)
    return directory


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with two runs in it: a bad one and, later, a good one."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "runs" / "bad", name="bad")
    write(tmp_path / "runs" / "good", CALLS[:1], name="good", started_at=loadrun.NOON + 60)
    return tmp_path


KILLED = {"ended": None, "state": "running", "verdict": None}


def test_the_newest_run(here: Path, run: Run) -> None:
    code, out, err = run("report")
    assert (code, err) == (0, "")
    assert out.startswith("PASS: 1 call in 60 s; 100 % ended as intended.\n")
    assert out.endswith("\nrun runs/good: PASS\n")


@pytest.mark.parametrize("which", ["bad", "runs/bad", "absolute"])
def test_a_run_by_name_or_path(here: Path, run: Run, which: str) -> None:
    code, out, _ = run("report", str(here / "runs" / "bad") if which == "absolute" else which)
    assert code == 0
    assert out.startswith("FAIL: 3 calls in 60 s; 33.33 % ended as intended, 2 did not.\n")
    assert "rejected (503), answer intended      1" in out


def test_what_it_writes(here: Path, run: Run) -> None:
    files = ("--html", "r.html", "--junit", "r.xml", "--csv", "tables", "--parquet", "tables")
    code, out, err = run("report", "bad", *files)
    assert (code, err) == (0, "")
    told = [line.removeprefix("written: ") for line in out.splitlines() if "written: " in line]
    assert told[:2] == ["r.html", "r.xml"]
    assert len(told) == 2 + 2 * 5
    assert all(Path(path).stat().st_size for path in told)
    assert "<title>FAIL: bad" in Path("r.html").read_text()
    (suite,) = ElementTree.parse("r.xml").getroot()
    assert suite.get("failures") == "1"
    left = [path.name for path in here.iterdir()]
    assert sorted(left) == ["r.html", "r.xml", "runs", "tables"]


def test_for_programs(here: Path, run: Run) -> None:
    code, out, _ = run("report", "bad", "--json")
    assert code == 0
    assert out.count("\n") == 1
    found = json.loads(out)
    assert found["run"] == "runs/bad"
    assert found["verdict"] == "FAIL"
    assert found["gates"] == [
        {
            "gate": "as_intended >= 99",
            "passed": False,
            "value": pytest.approx(100 / 3),
            "unit": "percent",
            "evidence": "1 of 3 attempts; not: rejected 1, no phone 1",
        }
    ]
    assert found["metrics"]["srd_ok_p95"] == pytest.approx(0.010)
    assert found["metrics"]["rrd_mean"] is None
    assert found["final_codes"] == {"200": 1, "503": 1}


def test_a_run_whose_runner_was_killed(here: Path, run: Run) -> None:
    write(here / "killed", **KILLED)
    code, out, _ = run("report", "killed", "--junit", "r.xml")
    assert code == 0
    assert out.startswith("INVALID: 3 calls in ")
    assert "\n  the runner was gone after 5.7 s of 60 s\n" in out
    (suite,) = ElementTree.parse("r.xml").getroot()
    assert suite.get("errors") == "1"


def test_a_run_that_goes_on(here: Path, run: Run) -> None:
    write(here / "now", **KILLED)
    with RunLock(here / "now"):
        code, out, _ = run("report", "now")
        assert code == 0
        assert out.startswith("RUNNING: 3 calls in ")
        assert out.endswith("\nrun now: RUNNING\n")
        assert json.loads(run("report", "now", "--json").out)["verdict"] is None
        code, _, err = run("report", "now", "--junit", "r.xml")
    assert code == 2
    assert err == "sipherd: now: its run still goes on, there is no verdict yet for --junit\n"
    assert not Path("r.xml").exists()


def test_no_run(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run("report")
    assert code == 2
    assert err.startswith(f"sipherd: no run is in {tmp_path}/runs: ")
    code, _, err = run("ladder", "nothing", "1")
    assert code == 2
    assert err.startswith("sipherd: nothing: there is no such run")


def test_a_file_that_can_t_be_written(here: Path, run: Run) -> None:
    code, _, err = run("report", "--html", "no/such/place.html")
    assert code == 2
    assert err == "sipherd: no/such/place.html: can't be written: No such file or directory\n"


@pytest.mark.parametrize("call", ["1", "call-1"])
def test_a_ladder(here: Path, run: Run, call: str) -> None:
    code, out, _ = run("ladder", "good", call)
    assert code == 0
    first, _, *rest = out.splitlines()
    assert first == "call 1 at 0:00: alice to bob; answer (hung up); Call-ID call-1"
    told = "\n".join(rest)
    for message in ("INVITE", "180 Ringing", "200 OK (INVITE)", "BYE", "200 OK (BYE)"):
        assert f" {message} " in told


def test_a_ladder_as_a_drawing(here: Path, run: Run) -> None:
    code, out, _ = run("ladder", "good", "1", "--svg", "call.svg")
    assert (code, out) == (0, "written: call.svg\n")
    assert ElementTree.parse("call.svg").getroot().tag.endswith("svg")
    found = json.loads(run("ladder", "good", "1", "--json").out)
    assert found["sip_call_id"] == "call-1"


def test_a_call_that_was_never_sent(here: Path, run: Run) -> None:
    code, out, _ = run("ladder", "bad", "3")
    assert (code, out) == (0, "call 3 at 0:00: alice to bob; never sent (no phone)\n")
    code, _, err = run("ladder", "bad", "3", "--svg", "call.svg")
    assert code == 1
    assert err.startswith("sipherd: nothing to draw: call 3 at 0:00")


@pytest.mark.parametrize("call", ["99", "nobody@nowhere", "9" * 30])
def test_no_such_call(here: Path, run: Run, call: str) -> None:
    code, _, err = run("ladder", "bad", call)
    assert code == 1
    assert err == f"sipherd: runs/bad has no call {call}; `sipherd report` shows some\n"


def test_two_runs(here: Path, run: Run) -> None:
    code, out, _ = run("compare", "bad", "good")
    assert code == 0
    assert out.startswith("bad: FAIL. 3 calls in 60 s; ")
    assert "\ngood: PASS. 1 call in 60 s; " in out
    assert "failed (33.3333 %)" in out
    found = json.loads(run("compare", "bad", "good", "--json").out)
    assert found["names"] == ["bad", "good"]
