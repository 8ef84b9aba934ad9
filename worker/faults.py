"""What `sipherd fault` has a phone's process do to itself."""

from __future__ import annotations

import os
import signal
from typing import NoReturn

__all__ = ["hang", "vanish"]


def hang() -> NoReturn:
    """Keep the one thread busy, and everything else of the process waiting, for ever."""
    while True:
        pass


def vanish() -> NoReturn:
    """Be gone at once, with nothing said to anybody."""
    while True:
        os.kill(os.getpid(), signal.SIGKILL)
