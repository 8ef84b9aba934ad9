"""A nursery whose phone ``alice`` is ill, all else being the real code.

python nursery.py ILLNESS [arguments of the nursery]
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

PATIENT = "alice"


def import_error() -> None:
    """The worker's code can't be imported."""
    raise ImportError("No module named 'gone'")


def crash_before_hello() -> None:
    """Every process but the first exits before it says anything."""

    def before(self: Any, **given: Any) -> None:
        if given["incarnation"] > 1:
            os._exit(1)

    _wrap("__init__", before)


def crash_after_hello() -> None:
    """Every process but the first raises when it is welcomed."""

    def before(self: Any, welcome: Any) -> None:
        if self._link._incarnation > 1:
            raise RuntimeError("ill")

    _wrap("_adopt", before)


def talkative() -> None:
    """It prints a line every few microseconds."""

    def talk() -> None:
        while True:
            print("all work and no play", file=sys.stderr)

    def before(self: Any, welcome: Any) -> None:
        threading.Thread(target=talk, daemon=True).start()

    _wrap("_adopt", before)


def hoards_memory() -> None:
    """Its first process keeps a megabyte, and another one, from the first message on."""
    hoard: list[bytearray] = []

    def keep() -> None:
        while True:
            hoard.append(bytearray(10**6))

    _at_the_first_message(keep)


def hoards_descriptors() -> None:
    """Its first process opens files, from the first message on, until it can't."""

    def keep() -> None:
        with contextlib.suppress(OSError):
            while True:
                os.open(os.devnull, os.O_RDONLY)

    _at_the_first_message(keep)


def _at_the_first_message(do: Callable[[], None]) -> None:
    def before(self: Any, welcome: Any) -> None:
        from sipherd.worker.phone import Phone

        receive = Phone.receive

        def wrapper(*given: Any) -> None:
            Phone.receive = receive  # type: ignore[method-assign]
            do()
            receive(*given)

        if self._link._incarnation == 1:
            Phone.receive = wrapper  # type: ignore[method-assign,assignment]

    _wrap("_adopt", before)


def stubborn() -> None:
    """It neither drains nor minds SIGTERM."""

    def before(self: Any, welcome: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        from sipherd.worker.phone import Phone

        Phone._drain = lambda self: None  # type: ignore[method-assign]

    _wrap("_adopt", before)


def _wrap(method: str, before: Callable[..., None]) -> None:
    """Have `before` called before this method of the patient's worker."""
    from sipherd.worker.loop import Worker

    wrapped = getattr(Worker, method)

    def wrapper(self: Any, *given: Any, **named: Any) -> Any:
        phone = named.get("phone") or self._link._phone
        if phone == PATIENT:
            before(self, *given, **named)
        return wrapped(self, *given, **named)

    setattr(Worker, method, wrapper)


if __name__ == "__main__":
    globals()[sys.argv.pop(1)]()
    runpy.run_module("sipherd.worker.nursery", run_name="__main__", alter_sys=True)
