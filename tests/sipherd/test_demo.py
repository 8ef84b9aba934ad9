"""`sipherd demo`: the first thing anybody sees."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commandline import Run, process
from sipherd import Herd


def test_for_programs(run: Run) -> None:
    ran = run("demo", "--json")
    assert (ran.code, ran.err) == (0, "")
    told = json.loads(ran.out.splitlines()[-1])
    assert told["verdict"] == "pass"
    assert 0 < told["setup_ms"] < 5000
    pids = told["pids"]
    assert len({pids["supervisor"], pids["alice"], pids["bob"]}) == 3
    events = told["events"]
    assert [event["n"] for event in events] == list(range(1, len(events) + 1))
    kinds = [event["kind"] for event in events if event.get("phone") == "alice"]
    wanted = [kind for kind in kinds if kind in ("placed", "progress", "answered", "ended")]
    assert wanted == ["placed", "progress", "answered", "ended"]
    assert {event["pid"] for event in events if event["kind"] == "sip"} == {
        pids["alice"],
        pids["bob"],
    }


@pytest.mark.parametrize("columns", [60, 100])
def test_the_ladder(columns: int) -> None:
    with process("demo", environ={"COLUMNS": str(columns)}) as demo:
        out, error = demo.communicate(timeout=30)
    assert (demo.returncode, error) == (0, "")
    assert "\x1b" not in out
    lines = out.splitlines()
    assert max(map(len, lines)) <= columns
    for label in ("INVITE", "180 Ringing", "200 OK (INVITE)", "ACK", "BYE", "200 OK (BYE)"):
        assert len([line for line in lines if f" {label} " in line]) == 1, label
    assert "alice 1001" in out
    assert out.count("pid ") == 3
    assert lines[-1].startswith("pass: ")


def test_ascii() -> None:
    with process("demo", environ={"PYTHONIOENCODING": "ascii"}) as demo:
        out, error = demo.communicate(timeout=30)
    assert (demo.returncode, error) == (0, "")
    assert out.isascii()
    assert "-->|" in out


def test_beside_other_herds(run: Run, herd: Herd) -> None:
    with Herd(phones=2) as other:
        assert run("demo").code == 0
        assert len(other) == len(herd) == 2


def test_a_name_that_is_taken(run: Run, herd: Herd) -> None:
    ran = run("demo", "--herd", herd.name)
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert line.startswith("sipherd: ")
    assert herd.name in line


def test_a_directory_with_too_long_a_name(run: Run, runtime_dir: Path) -> None:
    ran = run("demo", "--runtime-dir", str(runtime_dir / ("d" * 100)))
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert "at most 107" in line
