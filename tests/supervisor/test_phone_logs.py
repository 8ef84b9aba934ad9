"""The log files of phones: rotation, and disks that are full, slow or not there."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sipherd.protocol.log_spec import LogSpec
from sipherd.supervisor import phone_logs
from sipherd.supervisor.log import Log, LogWriter
from sipherd.supervisor.phone_logs import PhoneLogs

Make = Callable[..., PhoneLogs]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[PhoneLogs] = []

    def make(limit: int = phone_logs.LIMIT, **spec: Any) -> PhoneLogs:
        made.append(PhoneLogs(LogSpec(dir=str(tmp_path / "logs"), **spec), limit=limit))
        return made[-1]

    yield make
    for logs in made:
        logs.close(5.0)


def test_a_file_for_each_phone_that_nobody_else_reads(make: Make, tmp_path: Path) -> None:
    logs = make()
    logs.write("alice", "one\n")
    logs.write("bob", "two\n")
    logs.write("alice", "three\n")
    assert logs.close(5.0)
    assert {path.name: path.read_text() for path in (tmp_path / "logs").iterdir()} == {
        "alice.log": "one\nthree\n",
        "bob.log": "two\n",
    }
    assert (tmp_path / "logs").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "logs" / "bob.log").stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_there_goes_on(make: Make, tmp_path: Path) -> None:
    for text in ("one\n", "two\n"):
        logs = make()
        logs.write("alice", text)
        assert logs.close(5.0)
    assert (tmp_path / "logs" / "alice.log").read_text() == "one\ntwo\n"


def test_rotation_by_size(make: Make, tmp_path: Path) -> None:
    logs = make(max_size=4096, keep=2)
    for n in range(10):
        logs.write("alice", f"{n}{'x' * 1998}\n")
    assert logs.close(5.0)
    files = {path.name: path.read_text() for path in (tmp_path / "logs").iterdir()}
    assert {name: [line[0] for line in text.splitlines()] for name, text in files.items()} == {
        "alice.log": ["8", "9"],
        "alice.log.1": ["6", "7"],
        "alice.log.2": ["4", "5"],
    }


def test_none_is_kept(make: Make, tmp_path: Path) -> None:
    logs = make(max_size=4096, keep=0)
    for n in range(4):
        logs.write("alice", f"{n}{'x' * 3000}\n")
    assert logs.close(5.0)
    (left,) = (tmp_path / "logs").iterdir()
    assert left.read_text()[0] == "3"


def test_more_phones_than_files_are_kept_open(make: Make, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers, not paths
    logs = make()
    for _ in range(2):
        for n in range(200):
            logs.write(f"p{n}", f"{n}\n")
    assert logs.close(5.0)
    assert len(list((tmp_path / "logs").iterdir())) == 200
    assert (tmp_path / "logs" / "p7.log").read_text() == "7\n7\n"
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208


def test_a_file_that_is_removed_is_made_again(make: Make, tmp_path: Path) -> None:
    logs = make()
    logs.write("alice", "one\n")
    file = tmp_path / "logs" / "alice.log"
    done = threading.Event()
    while not (file.exists() and file.read_text()):
        assert not done.wait(0.01)
    file.unlink()
    logs.write("alice", "two\n")
    assert logs.close(5.0)
    assert file.read_text() == "two\n"


@pytest.mark.parametrize("name", ["../alice", "", "a/b", ".hidden", "x" * 65])
def test_what_is_no_phone_s_name_gets_no_file(make: Make, tmp_path: Path, name: str) -> None:
    logs = make()
    logs.write(name, "x\n")
    assert logs.close(5.0)
    assert not list((tmp_path / "logs").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs"]


def test_a_full_disk_drops_whole_lines_and_counts(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = make()
    room = [5]
    write = os.write

    def full(fd: int, data: bytes) -> int:
        taken = data[: room[0]]
        if not taken:
            raise OSError(28, "No space left on device")
        room[0] -= len(taken)
        return write(fd, taken)

    monkeypatch.setattr(phone_logs.os, "write", full)
    for text in ("one\n", "two\n", "three\n"):
        logs.write("alice", text)
    assert logs.close(5.0)
    assert (tmp_path / "logs" / "alice.log").read_text() == "one\n"
    assert logs.dropped == 2
    assert logs.error == "No space left on device"


def test_a_disk_that_hangs_blocks_nobody(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = make(limit=10)
    released = threading.Event()
    write = os.write

    def slow(fd: int, data: bytes) -> int:
        assert released.wait(30)
        return write(fd, data)

    monkeypatch.setattr(phone_logs.os, "write", slow)
    for n in range(100):
        logs.write("alice", f"{n}\n")
    # One may be in the hands of the thread.
    assert logs.dropped in (89, 90)
    assert not logs.close(0.05)
    released.set()
    assert logs.close(5.0)
    assert len((tmp_path / "logs" / "alice.log").read_text().splitlines()) in (10, 11)


def test_a_directory_that_can_t_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        PhoneLogs(LogSpec(dir=str(tmp_path / "file")))
    with pytest.raises(OSError, match="Not a directory"):
        PhoneLogs(LogSpec(dir=str(tmp_path / "file" / "below")))


def test_lines_about_phones_go_to_their_files_too(make: Make, tmp_path: Path) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    writer = LogWriter(null, null)
    log = Log(writer, is_terminal=True)
    logs = make()
    log.also_to(logs)
    log.write("error", "phone_died", {"phone": "alice", "cause": "SIGSEGV"})
    log.write("warning", "output", {"phone": "mallory", "line": "x"}, phone="bob", pid=7)
    log.write("debug", "detail", phone="bob")
    log.write("error", "nursery_died", {"pid": 3})
    assert logs.close(5.0)
    assert writer.close(5.0)
    os.close(null)
    lines = {
        path.name: [json.loads(line) for line in path.read_text().splitlines()]
        for path in (tmp_path / "logs").iterdir()
    }
    (died,), (output,) = lines.pop("alice.log"), lines.pop("bob.log")
    assert not lines
    assert died.pop("timestamp").endswith("Z")
    assert died == {"level": "error", "event": "phone_died", "phone": "alice", "cause": "SIGSEGV"}
    assert (output["line"], output["phone"], output["pid"]) == ("x", "bob", 7)


def test_lines_that_are_missing_are_told_of_on_stderr(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write_end = os.pipe()
    null = os.open(os.devnull, os.O_WRONLY)
    writer = LogWriter(null, write_end)
    log = Log(writer, is_terminal=False)
    logs = make(limit=1)
    log.also_to(logs)
    monkeypatch.setattr(PhoneLogs, "dropped", 5)
    log.write("error", "one", phone="alice")
    log.write("error", "two", phone="alice")
    assert writer.close(5.0)
    for fd in (null, write_end):
        os.close(fd)
    with os.fdopen(read) as errors:
        lines = [json.loads(line) for line in errors]
    assert [line["event"] for line in lines] == ["one", "phone_log_dropped", "two"]
    assert lines[1]["lines"] == 5
