"""`sipherd load`: runs of a second or two over herds of their own, and what is refused."""

from __future__ import annotations

import functools
import json
import os
import resource
import signal
import socket
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from commandline import Run, process
from sipherd import Herd
from sipherd.load import run_report
from sipherd.load.records import CallAttempt, RunFacts
from sipherd.load.rundir import runner_of
from sipherd.load.sippflags import SIPP_FLAGS
from sipherd.load.store import RunReader
from sipherd.load.verdict import Limits
from sipherd.load_commands import _SIPP_FLAGS

PHONES = """
phones:
  - {name: "phone-{n}", count: 4, number: "{1000 + n}", media: none}
"""
LOAD = """
load:
  callers: phone-*
  callees: phone-*
  arrival: 20
  duration: 1s
  drain: 10s
  hold: 200ms
"""


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "load.yaml"
    path.write_text(PHONES + LOAD)
    return path


@pytest.fixture
def any_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the box that runs the tests is busy with is not what they are about."""
    patient = Limits(late=30.0, loop_lag=30.0, cpu=1.1)
    monkeypatch.setattr(run_report, "give", functools.partial(run_report.give, limits=patient))


def stored(directory: Path | None = None) -> tuple[RunFacts, list[CallAttempt]]:
    """The one run here."""
    if directory is None:
        (directory,) = Path("runs").iterdir()
    with RunReader(directory) as reader:
        return reader.facts, list(reader.attempts())


def wait_for(what: Callable[[], bool], timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


# --- runs ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("any_box")
def test_a_run_over_phones_of_its_own(run: Run, written: Path, tmp_path: Path) -> None:
    ran = run("load", str(written), "--junit", str(tmp_path / "verdict.xml"))
    assert ran.code == 0, ran
    assert "PASS: 20 calls" in ran.out
    facts, attempts = stored()
    assert ran.out.splitlines()[-1] == f"run runs/{facts.name}: PASS"
    assert facts.state == "finished"
    assert facts.verdict is not None
    assert facts.verdict["kind"] == "PASS"
    assert facts.herd.startswith("private-")
    assert facts.phones == ("phone-1", "phone-2", "phone-3", "phone-4")
    assert facts.environment["kernel"]
    assert [attempt.number for attempt in attempts] == list(range(1, 21))
    assert {attempt.outcome for attempt in attempts} == {"answer"}
    suite = ElementTree.parse(tmp_path / "verdict.xml").getroot()
    assert suite.find("testsuite[@failures='0'][@errors='0']") is not None
    directory = Path("runs", facts.name)
    assert runner_of(directory) is None
    rows = (directory / "stats.csv").read_text().splitlines()
    assert rows[0].startswith("StartTime;")
    assert len(rows) >= 2


@pytest.mark.usefixtures("any_box")
def test_a_gate_that_is_not_reached(run: Run, written: Path) -> None:
    ran = run("load", str(written), "--gate", "answered >= 1000", "-m", "5")
    assert ran.code == 1, ran
    assert ran.out.splitlines().count("") > 0
    assert "answered is 5, wanted >= 1000" in ran.out


@pytest.mark.usefixtures("any_box")
def test_a_running_herd_is_joined_by_flags_alone(run: Run, herd: Herd) -> None:
    flags = ("--callers", "alice", "--callees", "bob", "-r", "20", "-d", "100", "-m", "5")
    ran = run("load", "--herd", herd.name, *flags, "--run", "mine", "--json")
    assert ran.code == 0, ran
    facts, attempts = stored(Path("mine"))
    assert len(attempts) == 5
    assert facts.herd == herd.name
    assert herd.calls() == []
    last = json.loads(ran.out.splitlines()[-1])
    assert (last["kind"], last["run"]) == ("verdict", "mine")
    assert len(herd) == 2  # it goes on


@pytest.mark.usefixtures("any_box")
def test_a_callee_that_rejects(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "load.yaml"
    path.write_text(
        """
phones:
  - {name: alice, number: "1001", media: none}
  - {name: bob, number: "1002", media: none, on_incoming: {reject: 603}}
load: {callers: alice, callees: bob, arrival: 10, duration: 1s, drain: 5s}
"""
    )
    ran = run("load", str(path))
    assert ran.code == 1, ran
    assert "FAIL: 10 calls" in ran.out
    assert {attempt.final_code for attempt in stored()[1]} == {603}


def test_what_the_box_can_not_do_is_refused_and_can_be_forced(run: Run, written: Path) -> None:
    ran = run("load", str(written), "-r", "5000")
    assert ran.code == 3
    assert "5000 calls per second need" in ran.err
    assert "--force" in ran.err
    assert not Path("runs").exists()


@pytest.mark.slow
def test_a_forced_run_names_what_the_box_lacked(run: Run, written: Path) -> None:
    ran = run("load", str(written), "-r", "5000", "--duration", "1", "--drain", "1", "--force")
    assert ran.code == 3, ran
    assert "INVALID" in ran.out
    facts, _ = stored()
    assert facts.verdict is not None
    kinds = {finding["kind"] for finding in facts.verdict["invalid"]}
    assert kinds & {"late_starts", "loop_lag"}
    assert "5000 calls per second need" in facts.environment["forced"][0]


# --- ended before its time -----------------------------------------------------------------------


def begun() -> bool:
    """A call of the run here has ended."""
    for path in Path("runs").glob("*/run.json"):
        with RunReader(path.parent) as reader:
            return any(attempt.ended is not None for attempt in reader.attempts())
    return False


@pytest.fixture
def long(tmp_path: Path) -> Path:
    path = tmp_path / "long.yaml"
    path.write_text(PHONES + LOAD.replace("duration: 1s", "duration: 10m"))
    return path


@pytest.mark.parametrize("way", ["stop", "ctrl-c"])
def test_it_is_drained(run: Run, long: Path, way: str) -> None:
    with process("load", str(long)) as running:
        wait_for(begun)
        if way == "stop":
            ran = run("load", "stop", "--drain")
            assert ran.code == 0, ran
            assert f"drains (pid {running.pid})" in ran.out
            assert "is over" in ran.out
        else:
            running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    facts, attempts = stored()
    assert facts.state == "finished"
    assert facts.verdict is not None
    assert running.returncode == {"PASS": 0, "INVALID": 3}[facts.verdict["kind"]], (out, err)
    assert not [attempt for attempt in attempts if attempt.outcome == "unfinished"]
    assert "Traceback" not in err


@pytest.mark.parametrize("way", ["stop", "ctrl-c"])
def test_it_is_ended_now(run: Run, long: Path, way: str) -> None:
    long.write_text(long.read_text().replace("hold: 200ms", "hold: {uniform: [100ms, 30s]}"))
    with process("load", str(long)) as running:
        wait_for(begun)
        if way == "stop":
            assert run("load", "stop", "--now").code == 0
        else:
            running.send_signal(signal.SIGINT)
            wait_for(lambda: stored()[0].state == "draining")
            running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=20)
    assert running.returncode == (130 if way == "ctrl-c" else 3), (out, err)
    facts, attempts = stored()
    assert facts.state == "interrupted"
    assert facts.verdict is not None
    assert facts.verdict["kind"] == "INVALID"
    assert ("Ctrl-C" if way == "ctrl-c" else "SIGTERM") in facts.verdict["invalid"][0]["text"]
    assert "unfinished" in {attempt.outcome for attempt in attempts}


def test_what_is_over_can_not_be_stopped(run: Run) -> None:
    ran = run("load", "stop")
    assert ran.code == 2
    assert "no run in" in ran.err
    assert run("load", "stop", "nothing").code == 2


# --- killed --------------------------------------------------------------------------------------


def test_the_runner_is_killed(long: Path, herd: Herd) -> None:
    """Its calls end within seconds, and all but the last second is in the database."""
    flags = ("--callers", "alice", "--callees", "bob", "-r", "20", "-d", "60000", "-m", "500")
    with process("load", "--herd", herd.name, *flags, "--run", "mine") as running:
        wait_for(lambda: len(herd.calls()) >= 10)
        time.sleep(1.0)  # the second that may be lost is another one
        placed = len(herd.calls()) // 2
        running.kill()
        running.communicate()
    deadline = time.monotonic() + 5
    while herd.calls():
        assert time.monotonic() < deadline, "calls are still up 5 s later"
        time.sleep(0.05)
    facts, attempts = stored(Path("mine"))
    assert facts.state == "running"
    assert runner_of(Path("mine")) is None
    assert len(attempts) >= placed - 20
    assert len({attempt.sip_call_id for attempt in attempts} - {""}) >= placed - 20


@pytest.mark.usefixtures("killed")
def test_the_supervisor_is_killed(run: Run, long: Path) -> None:
    with process("load", str(long)) as running:
        wait_for(begun)
        facts, _ = stored()
        with Herd.connect(facts.herd) as herd:
            pid = herd.pid
        os.kill(pid, signal.SIGKILL)
        out, err = running.communicate(timeout=20)
    assert running.returncode == 4, (out, err)
    assert "Traceback" not in err
    facts, attempts = stored()
    assert facts.state == "interrupted"
    assert facts.interrupted
    assert facts.verdict is not None
    assert facts.verdict["kind"] == "INVALID"
    assert attempts
    ran = run("report")
    assert ran.code == 0
    assert "INVALID" in ran.out


@pytest.mark.slow
def test_phones_and_the_nursery_are_killed(run: Run, tmp_path: Path) -> None:
    """The run goes on, the report shows them, and gates judge."""
    path = tmp_path / "long.yaml"
    path.write_text(
        PHONES.replace("count: 4", "count: 8") + LOAD.replace("duration: 1s", "duration: 5s")
    )
    with process("load", str(path), "--gate", "deaths <= 5", "--gate", "crashed < 1") as running:
        wait_for(begun)
        with Herd.connect(stored()[0].herd) as herd:
            pids = [phone.info().pid for phone in herd][:5]
            nursery = herd.info().nursery_pid
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            os.kill(nursery, signal.SIGKILL)
        out, err = running.communicate(timeout=60)
    assert "Traceback" not in err
    facts, attempts = stored()
    assert facts.state == "finished", (out, err)
    assert len(attempts) == 100
    with RunReader(Path("runs", facts.name)) as reader:
        deaths = [event.phone for event in reader.events() if event.kind == "phone_died"]
        nurseries = [event for event in reader.events() if event.kind == "nursery_died"]
    assert len(set(deaths)) == 5
    assert len(nurseries) == 1
    assert facts.verdict is not None
    passed = {gate["gate"]["text"]: gate["passed"] for gate in facts.verdict["gates"]}
    assert passed["deaths <= 5"]
    crashed = [attempt for attempt in attempts if attempt.outcome == "crashed"]
    assert passed["crashed < 1"] is (not crashed)
    assert running.returncode in ((1, 3) if crashed else (0, 3))
    assert "SIGKILL" in run("report").out


# --- a disk that is full -------------------------------------------------------------------------


def test_the_directory_can_not_be_written_any_more(run: Run, long: Path) -> None:
    with process("load", str(long)) as running:
        wait_for(begun)
        pages = resource.getpagesize()
        resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (pages, pages))
        out, err = running.communicate(timeout=30)
    assert running.returncode == 2, (out, err)
    (line,) = err.splitlines()
    assert "the run was ended, for it can't be kept any more" in line
    ran = run("report")
    assert ran.code == 0
    assert "INVALID" in ran.out


# --- metrics -------------------------------------------------------------------------------------


def test_metrics_are_served_while_it_runs(long: Path) -> None:
    with process("load", str(long), "--metrics", "0") as running:
        assert running.stdout is not None
        url = running.stdout.readline().removeprefix("metrics: ").strip()
        wait_for(begun)
        with urllib.request.urlopen(url, timeout=10) as answer:
            told = answer.read().decode()
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=20)
    assert 'sipherd_calls_ended_total{expected="answer",outcome="answer"}' in told
    assert "sipherd_intended_rate 20.0" in told


# --- what can't be done --------------------------------------------------------------------------


def test_the_flags_are_sipps() -> None:
    assert _SIPP_FLAGS.keys() == SIPP_FLAGS.keys()


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ((), "Missing FILE"),
        (("none.yaml",), "none.yaml: No such file or directory, expected a load profile"),
        (
            ("load.yaml", "--callers", "bert"),
            "$.load.callers: 'bert': expected a phone of the herd",
        ),
        (("load.yaml", "--gate", "fast"), "METRIC COMPARISON VALUE"),
        (("load.yaml", "-r", "fast"), "-r 'fast': expected a number"),
        (("load.yaml", "--duration", "-5"), "--duration"),
        (("load.yaml", "--media", "none.wav"), "no such file, expected an audio file"),
        (("load.yaml", "--media", "tone"), "all phones that take part have `media: none`"),
        (("load.yaml", "-inf", "none.csv"), "none.csv: No such file"),
        (("load.yaml", "--herd", "lab"), 'no herd "lab" is running'),
        (("load.yaml", "--metrics", "box"), "expected a port, or HOST:PORT"),
        (("load.yaml", "--junit", "none/v.xml"), "there is no directory none"),
        (("-r", "10", "-m", "5"), 'no herd "default" is running'),
        (("-r", "10"), "it never ends"),
        (("load.yaml", "--run", "/proc/mine"), "can't be written"),
    ],
)
def test_what_a_person_gets_wrong(
    run: Run, written: Path, arguments: tuple[str, ...], wanted: str
) -> None:
    ran = run("load", *arguments)
    assert ran.code == 2, ran
    assert wanted in ran.err
    assert len(ran.err.splitlines()) == 1
    assert not Path("runs").exists()


def test_keys_of_phones_without_media(run: Run, written: Path) -> None:
    written.write_text(written.read_text() + "  mix: [{kind: dtmf, digits: 12}]\n")
    ran = run("load", str(written))
    assert ran.code == 2
    assert "$.load.mix: dtmf: phone-1 has `media: none`" in ran.err


def test_a_directory_that_holds_a_run(run: Run, written: Path) -> None:
    Path("mine").mkdir()
    Path("mine/run.json").write_text("{}")
    ran = run("load", str(written), "--run", "mine")
    assert ran.code == 2
    assert ran.err == "sipherd: mine holds a run already: name another directory, or remove it\n"
    assert sorted(path.name for path in Path("mine").iterdir()) == ["run.json"]


def test_a_port_that_is_taken(run: Run, written: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ran = run("load", str(written), "--metrics", str(taken.getsockname()[1]))
    assert ran.code == 2
    assert "Address already in use; expected a free address" in ran.err
    assert not Path("runs").exists()


def test_a_herd_of_another_machine(
    run: Run, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run("load", "-m", "5", "--connect", "tcp://192.0.2.1:7060")
    assert ran.code == 2
    assert "a run is done where its herd is" in ran.err


def test_a_phone_that_can_not_start(run: Run, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        path = tmp_path / "load.yaml"
        path.write_text(
            f"""
phones:
  - {{name: alice, port: {port}, media: none}}
  - {{name: bob, media: none}}
load: {{callers: alice, callees: bob, arrival: 10, duration: 1s}}
"""
        )
        ran = run("load", str(path))
    assert ran.code == 2, ran
    assert str(port) in ran.err
    assert not Path("runs").exists()
