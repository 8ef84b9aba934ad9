"""The directory of a run: what is written is there again, also after a kill."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import loadrun
from sipherd.load.records import (
    BoxSample,
    CallAttempt,
    Leftovers,
    MediaStats,
    PhoneSample,
    RegisterAttempt,
    RunEvent,
    RunFacts,
    SipMessage,
)
from sipherd.load.store import (
    COMMIT_EVERY,
    SCHEMA_VERSION,
    Record,
    RunReader,
    RunWriter,
    StoreError,
)

FACTS = RunFacts(name="r", started_at=1_700_000_000.25, profile={"rate": 20.0, "seed": 7})


def attempt(number: int, **fields: object) -> CallAttempt:
    plain = {
        "number": number,
        "intended": number / 20,
        "caller": "alice",
        "drawn": "answer",
        "outcome": "answer",
    }
    return msgspec.convert(plain | fields, CallAttempt)


FULL = attempt(
    3,
    started=0.151,
    callee="bob",
    from_uri="sip:1001@127.0.0.1",
    to_uri="sip:1002@127.0.0.1:5062",
    sip_call_id='it"s, odd\n',
    responses=[(100, 0.001), (180, 0.0105), (200, 0.5)],
    answered=0.5,
    bye_sent=2.5,
    bye_answered=2.501,
    bye_code=200,
    ended=2.501,
    hold=2.0,
    ended_by="caller",
    cause="hung_up",
    final_code=200,
    retransmissions=1,
    messages=[(0.0, True, "INVITE"), (0.1, True, "INVITE", 0, True), (0.5, False, "INVITE", 200)],
    caller_media={"sent": 100, "received": 98, "lost": 2, "jitter_ms": 1.5, "mos": 4.2},
    caller_incarnation=1,
    callee_incarnation=2,
    warm_up=True,
)


def written(directory: Path, *records: CallAttempt) -> RunReader:
    with RunWriter(directory, FACTS) as writer:
        for record in records:
            writer.add(record, 0.0)
    return RunReader(directory)


def test_everything_written_is_read_again(tmp_path: Path) -> None:
    run = tmp_path / "deep" / "run"
    box = [BoxSample(t=1.0, loop_lag=0.002, cpu=0.5, socket_drops=3), BoxSample(t=2.0)]
    phones = [
        PhoneSample(t=1.0, phone="bob", incarnation=1, memory=2_000_000, fds=12, threads=1),
        PhoneSample(t=1.0, phone="alice", incarnation=1, memory=2_100_000, fds=12, threads=1),
    ]
    register = RegisterAttempt(at=-1.0, phone="alice", delay=0.01, code=200)
    death = RunEvent(t=4.0, phone="bob", incarnation=1, kind="phone_died", facts={"calls": ["c1"]})
    with RunWriter(run, FACTS) as writer:
        records: list[Record] = [FULL, attempt(1), *box, *phones, register]
        for record in records:
            writer.add(record, 0.0)
        writer.add_event(death)
        writer.add_stats("A;B;")
        writer.add_stats("1;2;")
        done = msgspec.structs.replace(
            FACTS, state="finished", ended=60.0, leftovers=Leftovers(calls=1)
        )
        writer.write_facts(done)
    with RunReader(run) as reader:
        assert reader.facts == done
        assert list(reader.attempts()) == [attempt(1), FULL]
        assert list(reader.box_samples()) == box
        assert list(reader.phone_samples()) == phones[::-1]
        assert list(reader.registrations()) == [register]
        assert list(reader.events()) == [death]
        assert reader.attempt(3) == FULL
        assert reader.attempt('it"s, odd\n') == FULL
        assert reader.attempt(2) is None
        assert reader.attempt("nobody's") is None
    assert (run / "stats.csv").read_text() == "A;B;\n1;2;\n"
    assert sorted(path.name for path in run.iterdir()) == [
        "calls.sqlite",
        "events.ndjson",
        "run.json",
        "stats.csv",
    ]


def test_a_record_is_committed_in_time_and_not_before(tmp_path: Path) -> None:
    with RunWriter(tmp_path, FACTS) as writer, RunReader(tmp_path) as reader:
        assert writer.due() is None
        writer.add(attempt(1), 100.0)
        writer.add(attempt(2), 100.2)
        assert writer.due() == 100.0 + COMMIT_EVERY
        writer.tick(100.0 + COMMIT_EVERY - 0.01)
        assert list(reader.attempts()) == []
        writer.tick(100.0 + COMMIT_EVERY)
        assert [a.number for a in reader.attempts()] == [1, 2]
        assert writer.due() is None
    assert COMMIT_EVERY <= 1.0


def test_a_late_record_commits_those_that_waited(tmp_path: Path) -> None:
    with RunWriter(tmp_path, FACTS) as writer, RunReader(tmp_path) as reader:
        writer.add(attempt(1), 100.0)
        writer.add(attempt(2), 107.0)
        assert [a.number for a in reader.attempts()] == [1, 2]


def test_many_records_are_committed_before_their_time(tmp_path: Path) -> None:
    with RunWriter(tmp_path, FACTS) as writer, RunReader(tmp_path) as reader:
        for number in range(1, 5_001):
            writer.add(attempt(number), 1.0)
        assert sum(1 for _ in reader.attempts()) == 4_000


def test_an_attempt_written_again_takes_its_own_place(tmp_path: Path) -> None:
    begun = attempt(3, outcome="unfinished", started=0.151)
    with written(tmp_path, begun, FULL) as reader:
        assert list(reader.attempts()) == [FULL]


def test_a_directory_holds_one_run(tmp_path: Path) -> None:
    written(tmp_path).close()
    with pytest.raises(StoreError, match="holds a run already: name another directory"):
        RunWriter(tmp_path, FACTS)


def test_a_run_can_be_read_where_nothing_can_be_written(tmp_path: Path) -> None:
    """A finished run's database has no log, for which a reader would have to write beside it."""
    written(tmp_path, FULL).close()
    assert (tmp_path / "calls.sqlite").read_bytes()[18:20] == b"\x01\x01"  # not WAL


def test_a_reader_does_not_keep_the_writer_from_closing(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, FACTS)
    writer.add(FULL, 0.0)
    writer.commit()
    with RunReader(tmp_path) as reader:
        rows = reader.attempts()
        assert next(rows) == FULL
        writer.add(attempt(4), 0.0)
        writer.close()
        rows.close()  # type: ignore[attr-defined]
    with RunReader(tmp_path) as reader:
        assert [a.number for a in reader.attempts()] == [3, 4]


def test_no_place_to_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"the run can't be written there: .*Not a directory"):
        RunWriter(tmp_path / "file" / "run", FACTS)


def test_a_failed_commit_loses_nothing(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, FACTS)
    writer._database.execute("PRAGMA busy_timeout=0")
    other = sqlite3.connect(tmp_path / "calls.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writer.add(FULL, 0.0)
    with pytest.raises(StoreError, match=r"calls\.sqlite: can't be written: database is locked"):
        writer.commit()
    other.execute("ROLLBACK")
    other.close()
    writer.close()
    with RunReader(tmp_path) as reader:
        assert list(reader.attempts()) == [FULL]


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("run.json", None, "holds no run: it has no run.json"),
        ("run.json", b"{", "is not of a run"),
        ("run.json", b'{"name": 3}', "is not of a run"),
        ("calls.sqlite", None, "is missing"),
        ("calls.sqlite", b"no database at all, and longer than a header " * 9, "not a database"),
    ],
)
def test_what_is_not_a_run(tmp_path: Path, file: str, content: bytes | None, says: str) -> None:
    written(tmp_path, FULL).close()
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(StoreError, match=says) as refused:
        RunReader(tmp_path)
    assert "\n" not in str(refused.value)


def test_another_version_of_the_records(tmp_path: Path) -> None:
    written(tmp_path, FULL).close()
    with sqlite3.connect(tmp_path / "calls.sqlite") as database:
        database.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    database.close()
    with pytest.raises(StoreError, match=f"has version {SCHEMA_VERSION + 1} of the records"):
        RunReader(tmp_path)


@pytest.mark.parametrize("harm", ["UPDATE attempts SET outcome = 'odd'", "DROP TABLE attempts"])
def test_a_damaged_database(tmp_path: Path, harm: str) -> None:
    written(tmp_path, FULL).close()
    with sqlite3.connect(tmp_path / "calls.sqlite") as database:
        database.execute(harm)
    database.close()
    with (
        RunReader(tmp_path) as reader,
        pytest.raises(StoreError, match=r"calls\.sqlite is damaged, in attempts: "),
    ):
        list(reader.attempts())


def test_the_last_moment_of_a_run(tmp_path: Path) -> None:
    with RunWriter(tmp_path, loadrun.facts()) as writer:
        pass
    with RunReader(tmp_path) as reader:
        assert reader.last() == 0.0
    calls = [loadrun.attempt(1), loadrun.attempt(2, started=None, ended=None, intended=7.0)]
    for n, (record, last) in enumerate(
        [(calls[0], 5.501), (calls[1], 7.0), (BoxSample(t=6.0), 6.0), (BoxSample(t=8.0), 8.0)]
    ):
        with RunWriter(tmp_path / str(n), loadrun.facts()) as writer:
            writer.add(calls[0], 0.0)
            writer.add(record, 0.0)
        with RunReader(tmp_path / str(n)) as reader:
            assert reader.last() == pytest.approx(last)


def test_the_records_are_those_of_this_version() -> None:
    """Whoever gives a record another field gives the schema another version."""
    fields = [
        name
        for record in (CallAttempt, RegisterAttempt, BoxSample, PhoneSample)
        for name in record.__struct_fields__
    ]
    assert (SCHEMA_VERSION, zlib.crc32(" ".join(fields).encode())) == (2, 1811298020)


def test_an_event_cut_short_by_a_kill_is_left_out(tmp_path: Path) -> None:
    with RunWriter(tmp_path, FACTS) as writer:
        writer.add_event(RunEvent(t=1.0, kind="fault"))
    with (tmp_path / "events.ndjson").open("ab") as file:
        file.write(b'{"t":2.0,"kind":"phone_di')
    with RunReader(tmp_path) as reader:
        assert [event.kind for event in reader.events()] == ["fault"]


def test_a_line_that_is_no_event_is_named(tmp_path: Path) -> None:
    written(tmp_path).close()
    (tmp_path / "events.ndjson").write_bytes(b'{"t":1.0,"kind":"fault"}\nrubbish\n')
    with RunReader(tmp_path) as reader, pytest.raises(StoreError, match="line 2 is not an event"):
        list(reader.events())


numbers = st.floats(allow_nan=False, allow_infinity=False)
maybe = st.none() | numbers
text = st.text(st.characters(exclude_categories=["Cs"]))
media = st.none() | st.builds(
    MediaStats,
    sent=st.integers(0, 10**9),
    received=st.integers(0, 10**9),
    lost=st.integers(0, 10**9),
    mos=maybe,
    one_way=st.booleans(),
)
attempts = st.builds(
    CallAttempt,
    number=st.integers(1, 2**62),
    intended=numbers,
    started=maybe,
    caller=text,
    drawn=text,
    cause=text,
    outcome=st.sampled_from(["answer", "busy", "crashed"]),
    expected=st.just("answer"),
    ended_by=st.sampled_from(["caller", ""]),
    responses=st.lists(st.tuples(st.integers(100, 699), numbers)).map(tuple),
    messages=st.lists(
        st.builds(SipMessage, numbers, st.booleans(), text, st.integers(0, 699), st.booleans())
    ).map(tuple),
    final_code=st.none() | st.integers(200, 699),
    caller_media=media,
    callee_media=media,
    warm_up=st.booleans(),
)


@settings(max_examples=30, deadline=None)
@given(record=attempts)
def test_any_attempt_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, record: CallAttempt
) -> None:
    with written(tmp_path_factory.mktemp("run"), record) as reader:
        assert list(reader.attempts()) == [record]


WRITER = """
    import itertools, os, sys, time
    from pathlib import Path
    from sipherd.load.records import BoxSample, CallAttempt, RunEvent, RunFacts
    from sipherd.load.store import RunWriter

    writer = RunWriter(Path(sys.argv[1]), RunFacts(name="r", started_at=time.time(), profile={}))
    begin = time.monotonic()
    for number in itertools.count(1):
        now = time.monotonic() - begin
        writer.add(
            CallAttempt(number=number, intended=now, started=now, caller="a" * 200, drawn="answer",
                        outcome="answer", responses=((200, 0.1),)),
            now,
        )
        writer.add_event(RunEvent(t=now, kind="fault"))
        # What has been handed over, and when: on the pipe, it survives the kill.
        os.write(1, b"%d %f\\n" % (number, now))
        time.sleep(0.001)
"""


def test_a_kill_costs_at_most_the_last_second(tmp_path: Path) -> None:
    """SIGKILL of a process that writes: no corruption, and only the newest records are missing."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path)],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        handed: list[tuple[int, float]] = []
        deadline = time.monotonic() + 30
        while not handed or handed[-1][1] < 1.8:
            assert time.monotonic() < deadline
            number, now = process.stdout.readline().split()
            handed.append((int(number), float(now)))
    finally:
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read()
        process.stdout.close()
        assert process.wait(10) == -signal.SIGKILL
    handed += [
        (int(n), float(t)) for n, t in (line.split() for line in rest.splitlines(keepends=False))
    ]

    with RunReader(tmp_path) as reader:
        found = [record.number for record in reader.attempts()]
        events = sum(1 for _ in reader.events())
        (verdict,) = reader._database.execute("PRAGMA integrity_check").fetchone()
    assert verdict == "ok"
    assert found == list(range(1, len(found) + 1))  # a beginning of what was handed over, whole
    lost_from = handed[len(found)][1] if len(found) < len(handed) else handed[-1][1]
    assert handed[-1][1] - lost_from <= 1.0
    assert events >= len(handed)  # these are written at once
