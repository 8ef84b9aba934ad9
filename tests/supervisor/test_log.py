"""The log writer against readers that are slow, gone or closed; and what lines look like."""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sipherd.supervisor.log import MAX_LINE, Lines, Log, LogWriter

PIPE_ROOM = 65536


class Pipe:
    """A pipe whose read end the test has."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        self._open = {self.read_fd, self.write_fd}

    def close(self, fd: int) -> None:
        self._open.discard(fd)
        os.close(fd)

    def close_all(self) -> None:
        for fd in list(self._open):
            self.close(fd)

    def read_all(self) -> bytes:
        """Everything up to the end; the writer must be closed."""
        self.close(self.write_fd)
        found = b""
        while chunk := os.read(self.read_fd, 65536):
            found += chunk
        return found

    def read(self, size: int = 65536) -> bytes:
        """What is there, as soon as something is."""
        poll = select.poll()
        poll.register(self.read_fd, select.POLLIN)
        assert poll.poll(5000), "nothing came"
        return os.read(self.read_fd, size)


@pytest.fixture
def pipes() -> Iterator[Callable[[], Pipe]]:
    made: list[Pipe] = []

    def make() -> Pipe:
        made.append(Pipe())
        return made[-1]

    yield make
    for pipe in made:
        pipe.close_all()


Pipes = Callable[[], Pipe]


def test_lines_come_out_in_order_and_where_they_belong(pipes: Pipes) -> None:
    out, err = pipes(), pipes()
    writer = LogWriter(out.write_fd, err.write_fd)
    for n in range(1000):
        writer.out(f"o{n}\n")
        writer.err(f"e{n}\n")
    assert writer.close(5)
    assert out.read_all().decode().split() == [f"o{n}" for n in range(1000)]
    assert err.read_all().decode().split() == [f"e{n}" for n in range(1000)]
    assert writer.dropped == 0


def test_a_line_is_written_without_being_asked(pipes: Pipes) -> None:
    out, err = pipes(), pipes()
    writer = LogWriter(out.write_fd, err.write_fd)
    for n in (b"1\n", b"2\n"):
        writer.err(n.decode())
        assert err.read() == n
    assert writer.close(5)


def test_a_reader_that_does_not_read_costs_lines_and_nothing_else(pipes: Pipes) -> None:
    out, err = pipes(), pipes()
    writer = LogWriter(out.write_fd, err.write_fd, limit=100)
    line = "x" * 99 + "\n"
    sent = 2 * PIPE_ROOM // 100 + 100
    began = time.monotonic()
    for _ in range(sent):
        writer.err(line)
    assert time.monotonic() - began < 5
    assert writer.dropped > 0
    writer.out("the other one goes on\n")
    assert out.read() == b"the other one goes on\n"
    # What waits is written as soon as there is room.
    wanted = line.encode() * (sent - writer.dropped)
    found = b""
    while len(found) < len(wanted):
        found += err.read()
    assert found == wanted
    assert writer.close(5)


def test_a_stopped_reader_delays_the_end_by_the_deadline_at_most(pipes: Pipes) -> None:
    out, err = pipes(), pipes()
    writer = LogWriter(out.write_fd, err.write_fd)
    for _ in range(PIPE_ROOM // 50):
        writer.err("y" * 99 + "\n")
    began = time.monotonic()
    assert not writer.close(0.2)
    assert time.monotonic() - began < 5
    # Let the thread end, for the guard's sake.
    err.close(err.read_fd)
    assert writer.close(5)


def test_a_closed_reader_is_forgotten(pipes: Pipes) -> None:
    out, err = pipes(), pipes()
    out.close(out.read_fd)
    writer = LogWriter(out.write_fd, err.write_fd, limit=50)
    for n in range(200):
        writer.out("nobody reads this\n")
        if n % 10 == 0:
            writer.err("somebody reads this\n")
    assert writer.close(5)
    assert err.read_all().decode().splitlines() == ["somebody reads this"] * 20


def test_a_full_disk_costs_lines_until_there_is_room(tmp_path: Path) -> None:
    err = os.open("/dev/full", os.O_WRONLY)
    writer = LogWriter(os.open(os.devnull, os.O_WRONLY), err)
    for _ in range(3):
        writer.err("no room\n")
    deadline = time.monotonic() + 10
    while writer.dropped < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    log = tmp_path / "log"
    with log.open("wb") as file:
        os.dup2(file.fileno(), err)
    Log(writer, is_terminal=False).write("info", "room again")
    assert writer.close(5)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["room again", "output_dropped"]
    assert lines[1]["lines"] == 3
    os.close(err)
    os.close(writer._out.fd)


def test_a_descriptor_that_is_not_open(pipes: Pipes) -> None:
    err = pipes()
    writer = LogWriter(9999, err.write_fd)
    writer.out("to nowhere\n")
    writer.err("to somewhere\n")
    assert writer.close(5)
    assert err.read_all() == b"to somewhere\n"


def test_a_pipe_that_somebody_made_non_blocking_loses_nothing(pipes: Pipes) -> None:
    out, err = pipes(), pipes()
    os.set_blocking(err.write_fd, False)
    writer = LogWriter(out.write_fd, err.write_fd)
    line = "z" * 9999 + "\n"
    for _ in range(20):
        writer.err(line)
    found = b""
    while len(found) < 20 * len(line):
        found += err.read(3000)
    assert found == line.encode() * 20
    assert writer.close(5)


def logged(pipes: Pipes, write: Callable[[Log], None], *, is_terminal: bool = False) -> str:
    out, err = pipes(), pipes()
    writer = LogWriter(out.write_fd, err.write_fd)
    write(Log(writer, is_terminal=is_terminal))
    assert writer.close(5)
    return err.read_all().decode()


def test_json_lines(pipes: Pipes) -> None:
    text = logged(
        pipes,
        lambda log: log.write("warning", "phone_died", {"cause": "SIGSEGV"}, phone="a", pid=7),
    )
    line = json.loads(text)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "phone_died",
        "level": "warning",
        "cause": "SIGSEGV",
        "phone": "a",
        "pid": 7,
    }


def test_what_is_shown_elsewhere_is_left_out(pipes: Pipes) -> None:
    out, err = pipes(), pipes()
    writer = LogWriter(out.write_fd, err.write_fd)
    log = Log(writer, is_terminal=False, without=("phone_died",))
    log.write("error", "phone_died")
    log.write("error", "nursery_died")
    assert writer.close(5)
    (line,) = err.read_all().splitlines()
    assert json.loads(line)["event"] == "nursery_died"


def test_debug_is_left_out(pipes: Pipes) -> None:
    assert logged(pipes, lambda log: log.write("debug", "detail")) == ""


def test_fields_from_elsewhere_cannot_pretend(pipes: Pipes) -> None:
    """A worker's fields have any names: none of them replaces what the supervisor knows."""
    names = ("event", "level", "timestamp", "self", "exc_info", "stack_info", "exception", "fields")
    fields = dict.fromkeys((*names, "phone"), "worker's")
    line = json.loads(
        logged(pipes, lambda log: log.write("info", "ours", fields, phone="right", pid=1))
    )
    assert (line["event"], line["level"], line["phone"]) == ("ours", "info", "right")
    assert line["exc_info_"] == line["self_"] == "worker's"


def test_an_exception_has_its_traceback_in_one_line(pipes: Pipes) -> None:
    def fail(log: Log) -> None:
        try:
            raise ValueError("why")
        except ValueError:
            log.write("error", "internal_error", exc_info=True)

    text = logged(pipes, fail)
    assert text.count("\n") == 1
    assert 'raise ValueError("why")' in json.loads(text)["exception"]


def test_a_terminal_gets_colours_and_no_escape_sequences_of_others(pipes: Pipes) -> None:
    text = logged(
        pipes,
        lambda log: log.write("info", "line", {"reason": "\x1b]0;gotcha\x07\nfake line"}),
        is_terminal=True,
    )
    assert "\x1b[" in text
    assert "\x1b]" not in text
    assert "\x07" not in text
    assert text.count("\n") == 1


def test_dropped_lines_are_told_once_there_is_room(pipes: Pipes) -> None:
    out, err = pipes(), pipes()
    writer = LogWriter(out.write_fd, err.write_fd, limit=10)
    log = Log(writer, is_terminal=False)
    while writer.dropped < 5:
        log.write("info", "much", text="x" * 1000)
    found = b""
    while b"output_dropped" not in found:
        found += err.read()
        log.write("info", "little")
    told = next(line for line in found.splitlines() if b"output_dropped" in line)
    assert json.loads(told)["lines"] >= 5
    err.close(err.read_fd)
    assert writer.close(5)


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_lines_whole_or_in_pieces(size: int) -> None:
    data = "one\n\ntwo ü\nthree".encode()
    lines = Lines()
    found = [line for at in range(0, len(data), size) for line in lines.feed(data[at : at + size])]
    assert found == ["one", "two ü"]
    assert list(lines.end()) == ["three"]


def test_a_long_line_is_broken_and_bytes_are_shown() -> None:
    lines = Lines()
    assert list(lines.feed(b"a" * (2 * MAX_LINE + 1))) == ["a" * MAX_LINE] * 2
    assert list(lines.feed(b"\xff\n")) == ["a\\xff"]
    assert list(lines.feed(b"b" * (MAX_LINE + 1) + b"\n")) == ["b" * MAX_LINE, "b"]
