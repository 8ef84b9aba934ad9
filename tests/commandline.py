"""Run `sipherd COMMAND`, in this process or as one of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import sipherd

__all__ = ["ENVIRON", "HerdIsUp", "Ran", "Run", "command", "process"]


class Ran(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]
"""Type of the fixture `run`."""

HerdIsUp = Callable[[str, int], None]
"""Type of the fixture `herd_is_up`."""

#: Where `python -m sipherd` finds what this process imported.
ENVIRON = {"PYTHONPATH": str(Path(sipherd.__file__).parents[1])}


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "sipherd", *map(str, arguments)]


@contextlib.contextmanager
def process(
    *arguments: str | Path, environ: dict[str, str] | None = None, new_session: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """`sipherd ARGUMENTS` as a process that is gone after the block.

    With `new_session` it has no controlling terminal.
    """
    with subprocess.Popen(
        command(*arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | ENVIRON | (environ or {}),
        start_new_session=new_session,
    ) as running:
        try:
            yield running
        finally:
            if running.poll() is None:
                running.terminate()
                try:
                    running.communicate(timeout=15)
                except subprocess.TimeoutExpired:
                    running.kill()
