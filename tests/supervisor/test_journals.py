"""The memory files that outlive the phones' processes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from sipherd.supervisor.journals import Journals
from sipherd.worker.journal import Journal


@pytest.fixture
def journals() -> Iterator[Journals]:
    made = Journals()
    yield made
    made.close_all()


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_each_phone_has_one_that_stays(journals: Journals) -> None:
    alice, bob = journals.open("alice"), journals.open("bob")
    assert alice != bob
    os.write(alice, b"a call")
    assert journals.open("alice") == alice
    assert os.pread(journals.open("alice"), 100, 0) == b"a call"
    assert not os.get_inheritable(alice)


def test_a_phone_of_the_same_name_begins_with_an_empty_one(journals: Journals) -> None:
    os.write(journals.open("alice"), b"a call")
    journals.close("alice")
    journals.close("alice")
    assert os.fstat(journals.open("alice")).st_size == 0


def test_closed_they_are_gone(journals: Journals) -> None:
    fds = [journals.open(name) for name in "abc"]
    journals.close_all()
    assert len(journals) == 0
    assert not any(map(is_open, fds))


def test_a_journal_is_used_once_it_has_a_record(journals: Journals) -> None:
    assert not journals.is_used("alice")
    journal = Journal(journals.open("alice"))
    assert not journals.is_used("alice")
    journal.write("a", b"x")
    assert journals.is_used("alice")
