"""A function that a client gave the phone, in a thread of its own beside the poll loop.

What it does to its phone it asks the supervisor for, as any client does: it has no way to the
loop's data, and the loop never waits for it.  The process may end at any point of it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import traceback
from collections.abc import Callable
from typing import TypeAlias

import dill

from ..protocol import behaviour
from ..protocol.events import BehaviourEnded, BehaviourFailed

__all__ = ["Behaviour", "End", "failure"]

_MAX_TRACEBACK = 4000
"""Characters; its end has where the exception was raised."""
_MAX_ERROR = 300

End: TypeAlias = BehaviourEnded | BehaviourFailed


class Behaviour:
    """Loads at once, which may raise anything; `fd` is readable when `collect` has its end."""

    def __init__(self, given: behaviour.Behaviour) -> None:
        self.name = given.name
        self._run: Callable[[], object] = dill.loads(given.code)
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._end: End | None = None
        self.is_out_of_memory = False
        """It failed for want of memory."""

    def start(self) -> None:
        """Run it, from here on beside the caller."""
        thread = threading.Thread(target=self._be, name="behaviour", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the kernel gives no thread
            self._finish(failure(self.name, error))

    def collect(self) -> End | None:
        """How it ended; None if it has not."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        return self._end

    def close(self) -> None:
        """To be called once it has ended."""
        os.close(self.fd)

    def _be(self) -> None:
        try:
            self._run()
        except BaseException as error:  # whatever it is, the loop has to know
            self.is_out_of_memory = isinstance(error, MemoryError)
            self._finish(failure(self.name, error))
        else:
            self._finish(BehaviourEnded(name=self.name, why="returned"))

    def _finish(self, end: End) -> None:
        self._end = end
        os.eventfd_write(self.fd, 1)


def failure(name: str, error: BaseException, *, is_loaded: bool = True) -> BehaviourFailed:
    """What is told of an exception."""
    trace = "".join(traceback.format_exception(error))
    # The exception's own words may raise, too.
    words = "".join(traceback.TracebackException.from_exception(error).format_exception_only())
    return BehaviourFailed(
        name=name,
        error=_first_line(words, type(error).__name__),
        traceback=trace[-_MAX_TRACEBACK:],
        is_loaded=is_loaded,
    )


def _first_line(words: str, kind: str) -> str:
    """Of an exception as it is printed: with a syntax error, the line that names it."""
    lines = words.strip().splitlines()
    line = next((line for line in lines if kind in line), lines[0] if lines else kind)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)[:_MAX_ERROR]
