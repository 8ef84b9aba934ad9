"""A client's function beside the poll loop: how it is loaded, and how its end is told."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

import dill
import pytest

from sipherd.protocol import behaviour
from sipherd.protocol.events import BehaviourEnded, BehaviourFailed
from sipherd.worker.behaviour import Behaviour, End, failure


def loaded(function: Callable[[], object]) -> Behaviour:
    code = dill.dumps(function, recurse=True)
    return Behaviour(behaviour.Behaviour(name="watch", code=code))


def run(running: Behaviour) -> End | None:
    """How it ended."""
    running.start()
    poll = select.poll()
    poll.register(running.fd, select.POLLIN)
    assert poll.poll(5000)
    end = running.collect()
    running.close()
    return end


def test_it_returns() -> None:
    running = loaded(lambda: 7)
    assert running.collect() is None
    assert run(running) == BehaviourEnded(name="watch", why="returned")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("boom\nand more"), "ValueError: boom"),
        (KeyError(), "KeyError"),
        (SystemExit(3), "SystemExit: 3"),
        (RuntimeError("a\x1b[2Jb"), "RuntimeError: a\N{REPLACEMENT CHARACTER}[2Jb"),
        (RuntimeError("x" * 5000), "RuntimeError: " + "x" * 286),
    ],
)
def test_it_raises(error: BaseException, told: str) -> None:
    def fail() -> None:
        raise error

    running = loaded(fail)
    end = run(running)
    assert isinstance(end, BehaviourFailed)
    assert (end.name, end.error, end.is_loaded) == ("watch", told, True)
    assert len(end.traceback) <= 4000
    assert not running.is_out_of_memory


def test_it_has_no_memory() -> None:
    running = loaded(lambda: bytes(2**62))
    end = run(running)
    assert isinstance(end, BehaviourFailed)
    assert end.error.startswith("MemoryError")
    assert running.is_out_of_memory


def test_the_traceback_leads_to_the_line() -> None:
    def deep() -> None:
        raise ValueError("boom")

    end = run(loaded(lambda: deep()))
    assert isinstance(end, BehaviourFailed)
    assert "in deep\n" in end.traceback
    assert end.traceback.endswith("ValueError: boom\n")


def test_an_exception_that_can_not_be_printed() -> None:
    class Awful(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert "Awful" in failure("watch", Awful()).error


def test_a_syntax_error_is_named() -> None:
    with pytest.raises(SyntaxError) as caught:
        compile("1 +", "script.py", "exec")
    assert failure("watch", caught.value).error == "SyntaxError: invalid syntax"


@pytest.mark.parametrize("code", [b"", b"garbage", dill.dumps(b"")[:-1]])
def test_what_is_no_pickle(code: bytes) -> None:
    with pytest.raises(Exception, match=r".*") as caught:
        Behaviour(behaviour.Behaviour(name="watch", code=code))
    told: Any = failure("watch", caught.value, is_loaded=False)
    assert not told.is_loaded
    assert told.error
