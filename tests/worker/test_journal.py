"""The journal file: what was written is found again, whenever its process was killed."""

from __future__ import annotations

import os
import random
import resource
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipherd.worker import journal as module
from sipherd.worker.journal import BLOCK, Journal


@pytest.fixture
def fd() -> Iterator[int]:
    made = os.memfd_create("journal", os.MFD_CLOEXEC)
    yield made
    os.close(made)


class Memory:
    """A file that lives for one example of a property."""

    def __init__(self, content: bytes = b"") -> None:
        self.fd = os.memfd_create("journal", os.MFD_CLOEXEC)
        os.pwrite(self.fd, content, 0)

    def __enter__(self) -> int:
        return self.fd

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


def content(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def test_what_was_written_is_there_for_the_next_process(fd: int) -> None:
    first = Journal(fd)
    first.write("a", b"one")
    first.write("b", b"two")
    first.write("a", b"one again")
    first.forget("b")
    first.write("c", b"")
    second = Journal(fd)
    assert second.records() == {"a": b"one again", "c": b""}
    assert second.damaged == 0
    assert ("a" in second, "b" in second, len(second)) == (True, False, 2)


def test_records_come_in_the_order_of_their_writing(fd: int) -> None:
    journal = Journal(fd)
    for key in "bca":
        journal.write(key, b"")
    journal.write("b", b"")
    assert list(Journal(fd).records()) == ["c", "a", "b"]


def test_a_new_file_is_an_empty_journal(fd: int) -> None:
    assert Journal(fd).records() == {}
    assert Journal(fd).damaged == 0


@pytest.mark.parametrize("size", [BLOCK - 100, BLOCK, 4 * BLOCK, 65536])
def test_a_record_of_any_size_is_kept(fd: int, size: int) -> None:
    data = random.Random(size).randbytes(size)
    Journal(fd).write("invite", data)
    assert Journal(fd).records() == {"invite": data}


def test_a_record_may_outgrow_its_place_and_shrink_again(fd: int) -> None:
    journal = Journal(fd)
    for neighbour in "ab":
        journal.write(neighbour, b"next to it")
    for size in (10, 9000, 65536, 10):
        journal.write("a", b"x" * size)
        assert Journal(fd).records() == {"b": b"next to it", "a": b"x" * size}


def test_places_are_used_again(fd: int) -> None:
    journal = Journal(fd)
    for n in range(1000):
        journal.write(f"call {n}", b"x" * 2000)
        journal.write(f"call {n}", b"y" * 6000)
        journal.forget(f"call {n}")
    assert journal.size <= 8 * BLOCK
    again = Journal(fd)
    for n in range(1000):
        again.write(f"call {n}", b"x" * 6000)
        again.forget(f"call {n}")
    assert again.size <= 8 * BLOCK


def test_thousands_of_calls_fit_and_their_memory_is_given_back(fd: int) -> None:
    journal = Journal(fd)
    for n in range(3000):
        journal.write(str(n), b"x" * 1000)
    assert len(Journal(fd).records()) == 3000
    for n in range(3000):
        journal.forget(str(n))
    assert os.fstat(fd).st_blocks * 512 <= 2 * BLOCK
    journal.write("next", b"call")
    assert Journal(fd).records() == {"next": b"call"}


def test_wiped_it_is_empty_and_can_be_used(fd: int) -> None:
    journal = Journal(fd)
    for n in range(10):
        journal.write(str(n), b"x" * 9000)
    journal.wipe()
    assert (len(journal), journal.records(), Journal(fd).records()) == (0, {}, {})
    assert os.fstat(fd).st_blocks * 512 <= 2 * BLOCK
    journal.write("a", b"b")
    assert Journal(fd).records() == {"a": b"b"}


def test_an_older_copy_does_not_come_back_when_the_newer_one_is_forgotten(fd: int) -> None:
    """Killed between the write of the new copy and the end of the old one, both are there."""
    Journal(fd).write("a", b"old")
    before = content(fd)
    Journal(fd).write("a", b"new")
    # As if the old one had never been struck out.
    os.pwrite(fd, before[BLOCK : 2 * BLOCK], BLOCK)
    second = Journal(fd)
    assert second.records() == {"a": b"new"}
    second.forget("a")
    assert Journal(fd).records() == {}


def test_a_message_cannot_bring_a_record_of_its_own(fd: int) -> None:
    """What stands in a message at the begin of a block is no record, once its own one is gone."""
    with Memory() as other:
        Journal(other).write("forged", b"BYE")
        forged = content(other)[BLOCK:]
    journal = Journal(fd)
    for shift in range(BLOCK):  # wherever in its record the message begins
        if shift % 64 == 0:
            journal.write("a", b"x" * shift + forged * 4)
            journal.forget("a")
    assert Journal(fd).records() == {}


def test_a_record_that_cannot_be_written_leaves_the_one_before(
    fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(fd)
    journal.write("a", b"old")
    whole = os.pwrite

    def full(fd: int, data: bytes, offset: int) -> int:
        if len(data) > 100:
            whole(fd, data[: len(data) // 2], offset)
            raise OSError(28, "No space left on device")
        return whole(fd, data, offset)

    monkeypatch.setattr(module.os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        journal.write("a", b"x" * 5000)
    monkeypatch.undo()
    assert journal.records() == Journal(fd).records() == {"a": b"old"}
    journal.write("a", b"new")
    assert Journal(fd).records() == {"a": b"new"}
    assert Journal(fd).damaged == 0


def test_a_write_that_comes_in_parts_is_gone_on_with(
    fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.pwrite
    monkeypatch.setattr(
        module.os, "pwrite", lambda fd, data, offset: whole(fd, data[:1000], offset)
    )
    Journal(fd).write("a", b"x" * 5000)
    assert Journal(fd).records() == {"a": b"x" * 5000}


# Whatever was in the file

KEYS = st.sampled_from(["a", "b", "c", "ü"])
SIZES = st.integers(0, 3 * BLOCK)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), KEYS, SIZES),
        st.tuples(st.just("forget"), KEYS, st.just(0)),
        st.tuples(st.just("reopen"), KEYS, st.just(0)),
        st.tuples(st.just("wipe"), KEYS, st.just(0)),
    ),
    max_size=12,
)


def apply(journal: Journal, model: dict[str, bytes], step: tuple[str, str, int]) -> None:
    what, key, size = step
    if what == "write":
        # No two are alike.
        model[key] = random.Random(f"{size} {len(model)} {key}").randbytes(size)
        journal.write(key, model[key])
    elif what == "forget":
        model.pop(key, None)
        journal.forget(key)
    elif what == "wipe":
        model.clear()
        journal.wipe()


@given(STEPS)
def test_it_is_a_dictionary_that_can_be_opened_again(steps: list[tuple[str, str, int]]) -> None:
    with Memory() as fd:
        journal, model = Journal(fd), dict[str, bytes]()
        for step in steps:
            if step[0] == "reopen":
                journal = Journal(fd)
            apply(journal, model, step)
            assert journal.records() == model
            assert Journal(fd).records() == model
        assert journal.damaged == 0


class Killed(BaseException):
    """The process ends here."""


@given(STEPS, st.integers(0, 2**31))
def test_killed_anywhere_it_has_the_state_before_or_after(
    steps: list[tuple[str, str, int]], when: int
) -> None:
    """Killed in any system call, after any number of its bytes."""
    real_write, real_truncate = os.pwrite, os.ftruncate
    dice = random.Random(when)
    dead = False

    def kill_now() -> bool:
        nonlocal dead
        dead = dead or dice.random() < 0.1
        return dead

    def write(fd: int, data: bytes, offset: int) -> int:
        was_dead = dead
        if kill_now():
            if not was_dead:
                real_write(fd, data[: dice.randrange(len(data) + 1)], offset)
            raise Killed
        return real_write(fd, data, offset)

    def truncate(fd: int, size: int) -> None:
        if kill_now():
            raise Killed
        real_truncate(fd, size)

    before: dict[str, bytes] = {}
    after: dict[str, bytes] = {}
    with Memory() as fd, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.os, "pwrite", write)
        patch.setattr(module.os, "ftruncate", truncate)
        try:
            journal = Journal(fd)
            for step in steps:
                if step[0] == "reopen":
                    journal = Journal(fd)
                before = dict(after)
                apply(journal, after, step)
        except Killed:
            pass
        patch.undo()
        left = Journal(fd).records()
        assert left == after or (dead and left == before)


@given(st.binary(max_size=200), st.binary(max_size=4 * BLOCK))
def test_any_bytes_are_read_without_an_error(first: bytes, rest: bytes) -> None:
    for begin in (first, content_of_a_journal()[:BLOCK]):
        with Memory(begin + rest) as fd:
            journal = Journal(fd)
            assert isinstance(journal.records(), dict)
            journal.write("a", b"b")
            assert Journal(fd).records()["a"] == b"b"


def content_of_a_journal() -> bytes:
    with Memory() as fd:
        journal = Journal(fd)
        for n in range(4):
            journal.write(str(n), WRITTEN[str(n)])
        return content(fd)


WRITTEN = {str(n): random.Random(n).randbytes(n * 3000) for n in range(4)}


@given(st.integers(0, 9 * BLOCK))
def test_a_file_cut_short_has_its_first_records(length: int) -> None:
    with Memory(content_of_a_journal()[:length]) as fd:
        found = Journal(fd).records()
        assert found.items() <= WRITTEN.items()
        if length >= 9 * BLOCK:
            assert found == WRITTEN


@given(st.integers(0, 9 * BLOCK), st.binary(min_size=1, max_size=64))
def test_what_was_overwritten_is_left_out(at: int, garbage: bytes) -> None:
    whole = bytearray(content_of_a_journal())
    same = whole[at : at + len(garbage)] == garbage
    whole[at : at + len(garbage)] = garbage
    with Memory(bytes(whole)) as fd:
        journal = Journal(fd)
        found = journal.records()
        assert found.items() <= WRITTEN.items()
        assert same or len(found) >= len(WRITTEN) - 2 or not found


def test_what_is_torn_is_counted(fd: int) -> None:
    journal = Journal(fd)
    journal.write("a", b"x" * 100)
    journal.write("b", b"x" * 100)
    os.pwrite(fd, b"y", BLOCK + 60)
    again = Journal(fd)
    assert (again.damaged, set(again.records())) == (1, {"b"})
    assert Journal(fd).damaged == 0  # its place is free now
    os.pwrite(fd, b"what", 0)
    assert Journal(fd).damaged == 1


def test_a_limit_of_files_is_an_oserror_like_any_other(fd: int) -> None:
    journal = Journal(fd)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * BLOCK, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            journal.write("a", b"x" * 10 * BLOCK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    journal.write("b", b"x")
    assert Journal(fd).records() == {"b": b"x"}
