"""Runs over real phones: processes, sockets, and what they die of."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loadlistener import Heard
from sipherd import CommandRefused, Herd, SupervisorDied
from sipherd.load.pairing import pairs_of
from sipherd.load.profile import Arrival, Entry, HoldTime, LoadProfile
from sipherd.load.records import CallAttempt, Leftovers, RegisterAttempt
from sipherd.load.runloop import Pace
from sipherd.load.runner import Runner, RunResult

MIX = (
    Entry(after=0.05),
    Entry(kind="callee_hangs_up"),
    Entry(kind="hold_retrieve"),
    Entry(kind="dtmf", digits="1"),
    Entry(kind="transfer", to="dave"),
    Entry(kind="busy"),
    Entry(kind="no_answer", after=0.3),
    Entry(kind="cancel", after=0.1),
)


def phones(*, media: str = "none") -> list[dict[str, object]]:
    return [
        {"name": name, "number": str(1001 + n), "media": media, "dtmf": "info"}
        for n, name in enumerate(("alice", "bob", "carol", "dave"))
    ]


def profile(*mix: Entry, **changes: object) -> LoadProfile:
    usual: dict[str, object] = {
        "callers": ("alice", "bob"),
        "callees": ("carol",),
        "arrival": Arrival(rate=16.0),
        "duration": 1.0,
        "hold": HoldTime(mean=0.3),
        "mix": mix or (Entry(),),
        "drain": 10.0,
    }
    return LoadProfile(**(usual | changes))  # type: ignore[arg-type]


def runner(herd: Herd, directory: Path, wanted: LoadProfile, heard: Heard, **more: str) -> Runner:
    infos = herd.phones()
    return Runner(herd.name, directory, wanted, pairs_of(wanted, infos), infos, heard, **more)


@contextmanager
def running(run: Runner) -> Iterator[Callable[[], RunResult]]:
    """The run in a thread; what it gives waits for its end."""
    results: list[RunResult] = []
    thread = threading.Thread(target=lambda: results.append(run.run()))
    thread.start()

    def result() -> RunResult:
        thread.join(30)
        assert not thread.is_alive()
        (result,) = results
        return result

    try:
        yield result
    finally:
        run.stop_now()
        thread.join(30)


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_short_run_of_all_kinds(runtime_dir: Path) -> None:
    wanted, heard = profile(*MIX), Heard()
    with Herd(phones()) as herd:
        run = runner(herd, runtime_dir, wanted, heard)
        began = time.time()
        result = run.run()
        assert herd.calls() == []
    assert result.state == "finished"
    assert run.phase == "finished"
    assert [(a.drawn, a.outcome, a.cause) for a in heard.attempts if a.outcome != a.expected] == []
    assert Counter(a.drawn for a in heard.attempts) == {entry.name: 2 for entry in MIX}
    assert sorted(a.number for a in heard.started) == list(range(1, 17))
    assert heard.answered == 10
    assert abs(heard.at - began) < 5
    assert heard.ticks
    for attempt in heard.attempts:
        assert attempt.messages[0].method == "INVITE"
        assert attempt.callee_incarnation == attempt.caller_incarnation == 1
        if attempt.expected == "answer":
            assert attempt.bye_code == 200


def test_both_sides_play_and_hear_each_other(runtime_dir: Path) -> None:
    wanted = profile(Entry(), arrival=Arrival(rate=2.0), hold=HoldTime(mean=1.0), media="tone")
    heard = Heard()
    with Herd(phones(media="audio")) as herd:
        runner(herd, runtime_dir, wanted, heard, media="tone:440").run()
    assert heard.outcomes() == {"answer": 2}
    for attempt in heard.attempts:
        assert attempt.caller_media is not None
        assert attempt.callee_media is not None
        assert attempt.caller_media.received > 10
        assert attempt.callee_media.received > 10


def test_what_is_left_is_counted_while_the_run_is_still_there(runtime_dir: Path) -> None:
    wanted, heard = profile(arrival=Arrival(rate=2.0)), Heard()
    with Herd(phones()) as herd:
        infos = herd.phones()
        found = Leftovers(calls=7)
        run = Runner(
            herd.name,
            runtime_dir,
            wanted,
            pairs_of(wanted, infos),
            infos,
            heard,
            count_leftovers=lambda: found,
        )
        assert run.run().leftovers is found


def test_a_herd_that_is_gone_when_the_leftovers_are_counted(runtime_dir: Path) -> None:
    wanted, heard = profile(arrival=Arrival(rate=2.0)), Heard()

    def count() -> Leftovers:
        raise SupervisorDied("the supervisor of herd lab is gone")

    with Herd(phones()) as herd:
        infos = herd.phones()
        pairs = pairs_of(wanted, infos)
        run = Runner(herd.name, runtime_dir, wanted, pairs, infos, heard, count_leftovers=count)
        found = run.run()
    assert found.state == "interrupted"
    assert found.why == "the supervisor of herd lab is gone"


def test_a_killed_phone_costs_its_own_calls_and_the_run_goes_on(runtime_dir: Path) -> None:
    wanted = profile(duration=4.0, hold=HoldTime(mean=0.5))
    heard = Heard()
    with Herd(phones()) as herd:
        run = runner(herd, runtime_dir, wanted, heard)
        with running(run) as result:
            eventually(lambda: heard.answered > 16)
            os.kill(herd["alice"].info().pid, signal.SIGKILL)
            assert result().state == "finished"
        eventually(lambda: herd.calls() == [])
    assert len(heard.attempts) == 64
    outcomes = heard.outcomes()
    assert outcomes["crashed"] >= 1
    assert outcomes["answer"] > 32
    assert set(outcomes) <= {"answer", "crashed", "refused"}
    assert "phone_died" in {event.kind for event in heard.events}
    # Those that come later are of its next process.
    assert {a.caller_incarnation for a in heard.attempts if a.caller == "alice"} >= {1, 2}


def test_drain_lets_calls_end_and_starts_none(runtime_dir: Path) -> None:
    wanted = profile(duration=600.0, hold=HoldTime(mean=0.5))
    heard = Heard()
    with Herd(phones()) as herd:
        run = runner(herd, runtime_dir, wanted, heard)
        with running(run) as result:
            eventually(lambda: heard.answered > 4)
            run.drain()
            assert result().state == "finished"
        assert herd.calls() == []
    assert set(heard.outcomes()) == {"answer"}
    assert len(heard.attempts) == len(heard.started)


def test_stop_now_ends_what_is_up(runtime_dir: Path) -> None:
    wanted = profile(duration=600.0, hold=HoldTime(mean=600.0))
    heard = Heard()
    with Herd(phones()) as herd:
        run = runner(herd, runtime_dir, wanted, heard)
        with running(run) as result:
            eventually(lambda: heard.answered > 4)
            run.stop_now()
            found = result()
        assert (found.state, found.why) == ("interrupted", "stopped before its end")
        assert herd.calls() == []
    assert set(heard.outcomes()) == {"unfinished"}
    assert {a.number for a in heard.attempts if a.started is not None} == heard.numbers_started()


@pytest.mark.usefixtures("killed")
def test_the_death_of_the_supervisor_leaves_what_was_known(runtime_dir: Path) -> None:
    wanted = profile(duration=600.0, hold=HoldTime(mean=600.0))
    heard = Heard()
    with Herd(phones()) as herd:
        run = runner(herd, runtime_dir, wanted, heard)
        with running(run) as result:
            eventually(lambda: heard.answered > 4)
            os.kill(herd.pid, signal.SIGKILL)
            found = result()
    assert found.state == "interrupted"
    assert "supervisor" in found.why
    # One may have been about to be placed.
    assert {a.number for a in heard.attempts if a.started is not None} == heard.numbers_started()
    assert set(heard.outcomes()) == {"unfinished"}


def test_the_death_of_the_runners_process_ends_its_calls(runtime_dir: Path) -> None:
    with Herd(phones()) as herd:
        process = subprocess.Popen([sys.executable, "-c", RUN_FOR_EVER, herd.name, runtime_dir])
        try:
            eventually(lambda: len(herd.calls()) > 8)
        finally:
            process.kill()
            process.wait()
        killed = time.monotonic()
        eventually(lambda: herd.calls() == [])
        assert time.monotonic() - killed < 10  # 5 s where nobody else needs the box


RUN_FOR_EVER = """
import sys
from pathlib import Path
from sipherd import Herd
from sipherd.load.pairing import pairs_of
from sipherd.load.profile import Arrival, HoldTime, LoadProfile
from sipherd.load.runner import Runner

class Deaf:
    def __getattr__(self, name):
        return lambda *arguments: None

name, directory = sys.argv[1], Path(sys.argv[2])
with Herd.connect(name) as herd:
    phones = herd.phones()
profile = LoadProfile(
    callers=("alice",),
    callees=("bob", "carol"),
    arrival=Arrival(rate=20.0),
    duration=600.0,
    hold=HoldTime(mean=600.0),
)
Runner(name, directory, profile, pairs_of(profile, phones), phones, Deaf()).run()
"""


def test_what_a_listener_raises_ends_the_run_and_its_calls(runtime_dir: Path) -> None:
    class Full(Heard):
        def on_attempt(self, attempt: CallAttempt, t: float) -> None:
            raise OSError("No space left on device")

    with Herd(phones()) as herd:
        run = runner(herd, runtime_dir, profile(duration=600.0), Full())
        with pytest.raises(OSError, match="No space left"):
            run.run()
        eventually(lambda: herd.calls() == [])


def test_registrations_are_told_with_how_long_they_took(runtime_dir: Path) -> None:
    """To an address where nobody is: what a registrar answers, the worker's tests have."""
    heard = Heard()
    registered: list[RegisterAttempt] = []
    heard.on_register = registered.append  # type: ignore[method-assign]
    lost = {"name": "erin", "number": "1005", "media": "none"}
    lost["register"] = {"server": "127.0.0.1:9"}  # type: ignore[assignment]
    with Herd([*phones(), lost]) as herd:
        wanted = profile(duration=600.0, arrival=Arrival(rate=2.0))
        run = runner(herd, runtime_dir, wanted, heard)
        with running(run) as result:
            eventually(lambda: heard.answered)
            with pytest.raises(CommandRefused):
                herd["erin"].register()
            eventually(lambda: registered)
            run.drain()
            result()
    assert (registered[0].phone, registered[0].code, registered[0].delay) == ("erin", None, None)
    assert "registration_failed" in {event.kind for event in heard.events}


def test_pace() -> None:
    pace = Pace(rate=10.0, burst=2.0, now=0.0)
    assert [pace.take(0.0) for _ in range(3)] == [True, True, False]
    assert pace.free_at() == pytest.approx(0.1)
    assert pace.take(0.11)
    assert not pace.take(0.11)
    assert [pace.take(9.0) for _ in range(3)] == [True, True, False]
