"""What a run leaves in its directory while it goes on, and what it shows."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadrun import attempt, facts
from sipherd.load.live import Phase, Snapshot
from sipherd.load.profile import Arrival, LoadProfile
from sipherd.load.prometheus import RunMetrics
from sipherd.load.recorder import Recorder
from sipherd.load.records import BoxSample, PhoneSample, RegisterAttempt, RunEvent
from sipherd.load.store import RunReader, RunWriter

PROFILE = LoadProfile(
    callers=("alice",), callees=("bob",), arrival=Arrival(rate=10.0), duration=10.0, warm_up=1.0
)


class Shown:
    """A watch that keeps what it is shown."""

    every = 2.0

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []
        self.said: list[str] = []

    def show(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)

    def say(self, text: str) -> None:
        self.said.append(text)

    def close(self) -> None: ...


class Run:
    """A recorder with all around it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.phase: Phase = "running"
        self.begun = False
        self.watch = Shown()
        self.metrics = RunMetrics()
        about = facts(state="running", ended=None, started_at=1.0)
        self.writer = RunWriter(directory, about)
        self.recorder = Recorder(
            self.writer,
            about,
            PROFILE,
            100,
            self.watch,
            self.metrics,
            phase=lambda: self.phase,
            begun=self.begin,
        )

    def begin(self) -> None:
        self.begun = True

    def rows(self) -> list[dict[str, str]]:
        with (self.directory / "stats.csv").open(newline="") as file:
            return list(csv.DictReader(file, delimiter=";"))


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path / "run")
    yield made
    made.writer.close()


def test_the_start_is_that_of_the_run(run: Run) -> None:
    run.recorder.on_begin(1795521600.0)
    assert run.begun
    with RunReader(run.directory) as reader:
        assert reader.facts.started_at == 1795521600.0
    assert run.rows() == []
    assert (run.directory / "stats.csv").read_text().startswith("StartTime;")


def test_a_call_that_goes_on_is_there_and_is_replaced(run: Run) -> None:
    run.recorder.on_begin(1.0)
    begun = attempt(1, outcome="unfinished", ended=None, answered=None)
    run.recorder.on_started(begun, 0.1)
    run.writer.commit()
    with RunReader(run.directory) as reader:
        assert list(reader.attempts()) == [begun]
    run.recorder.on_answered()
    run.recorder.on_attempt(attempt(1), 5.6)
    run.recorder.on_register(RegisterAttempt(at=1.0, phone="alice", code=200, delay=0.1))
    run.recorder.on_event(RunEvent(t=2.0, phone="alice", kind="phone_died"))
    run.recorder.finish(6.0)
    with RunReader(run.directory) as reader:
        assert list(reader.attempts()) == [attempt(1)]
        assert [one.code for one in reader.registrations()] == [200]
        assert [one.kind for one in reader.events()] == ["phone_died"]
    assert run.metrics.registry.get_sample_value("sipherd_calls_started_total") == 1


def test_it_is_committed_within_a_second(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    run.recorder.on_begin(1.0)
    run.recorder.on_attempt(attempt(1), 0.0)
    for tick in range(1, 5):
        clock = 100.0 + tick / 4
        run.recorder.on_tick(tick / 4)
    with RunReader(run.directory) as reader:
        assert len(list(reader.attempts())) == 1


def test_a_row_every_second(run: Run) -> None:
    run.recorder.on_begin(1.0)
    for n in range(1, 4):
        run.recorder.on_started(attempt(n), n / 10)
    for tick in range(13):
        run.recorder.on_tick(tick / 4)
    run.recorder.finish(3.5)
    rows = run.rows()
    elapsed = ["00:00:01", "00:00:02", "00:00:03", "00:00:03"]
    assert [row["ElapsedTime(C)"] for row in rows] == elapsed
    assert [row["OutgoingCall(P)"] for row in rows] == ["3", "0", "0", "0"]
    assert rows[0]["TargetRate"] == "10"


def test_nothing_is_wanted_any_more_while_it_drains(run: Run) -> None:
    run.recorder.on_begin(1.0)
    run.recorder.on_tick(1.0)
    run.phase = "draining"
    run.recorder.on_tick(2.0)
    assert [row["TargetRate"] for row in run.rows()] == ["10", "0"]
    assert run.recorder.facts.state == "draining"
    with RunReader(run.directory) as reader:
        assert reader.facts.state == "draining"


def test_samples_of_another_thread_are_kept(run: Run) -> None:
    run.recorder.on_begin(1.0)
    run.recorder.on_sample(BoxSample(t=2.0, cpu=0.5, socket_drops=4))
    sample = PhoneSample(t=2.0, phone="alice", incarnation=1, memory=5, fds=6, threads=7)
    run.recorder.on_phones([sample])
    run.recorder.on_tick(2.1)
    run.recorder.finish(3.0)
    with RunReader(run.directory) as reader:
        assert [box.cpu for box in reader.box_samples()] == [0.5]
        assert list(reader.phone_samples()) == [sample]
    (shown,) = run.watch.snapshots
    assert "dropped 4 datagrams" in shown.warnings[0]
    assert run.metrics.registry.get_sample_value("sipherd_cpu_ratio") == 0.5


def test_it_is_shown_as_often_as_wanted(run: Run) -> None:
    run.recorder.on_begin(1.0)
    for tick in range(20):
        run.recorder.on_tick(tick / 4)
    assert [shown.elapsed for shown in run.watch.snapshots] == [0.0, 2.0, 4.0]
    assert run.watch.snapshots[0].planned_calls == 100
    assert run.watch.snapshots[0].intended_rate == 10


def test_it_goes_on_when_nobody_looks_any_more(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(run.watch, "show", gone)
    monkeypatch.setattr(run.watch, "say", gone)
    run.recorder.on_begin(1.0)
    run.recorder.on_tick(0.0)
    run.phase = "draining"
    run.recorder.on_tick(5.0)
    assert run.recorder.facts.state == "draining"


@pytest.mark.parametrize(
    ("started", "told"), [(7, ["no new calls after 7 of 100 calls in 0:05"]), (100, [])]
)
def test_an_end_before_its_time_is_told(run: Run, started: int, told: list[str]) -> None:
    run.recorder.on_begin(1.0)
    for n in range(1, started + 1):
        run.recorder.on_started(attempt(n), 1.0)
    run.phase = "draining"
    run.recorder.on_tick(5.0)
    run.recorder.on_tick(6.0)
    assert run.watch.said == told
