"""Where a run shows itself while it goes on: redrawn on a terminal, lines elsewhere, or objects."""

from __future__ import annotations

import re
import sys
from typing import Protocol, TextIO

import msgspec
from rich.console import Console
from rich.live import Live
from rich.text import Text

from .. import render
from ..protocol.text import printable
from .axes import clock
from .live import Snapshot, line, view

__all__ = ["AsLines", "AsRecords", "OnTerminal", "Watch"]


class Watch(Protocol):
    """Shows a run."""

    every: float
    """Seconds from one snapshot to the next."""

    def show(self, snapshot: Snapshot) -> None:
        """Show the run as it is now."""

    def say(self, text: str) -> None:
        """Say something once."""

    def close(self) -> None:
        """Show nothing any more."""


class OnTerminal:
    """A view that is redrawn in place, and is gone when the run is over."""

    every = 0.5

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._console = Console(file=stream, highlight=False)
        encoding = (getattr(stream, "encoding", None) or "ascii").lower()
        self._ascii_only = not encoding.startswith("utf")
        self._live: Live | None = None

    def show(self, snapshot: Snapshot) -> None:
        """Show the run as it is now."""
        drawn = view(snapshot, ascii_only=self._ascii_only)
        if self._live is None:
            # No thread of its own: who shows says when.
            self._live = Live(
                drawn,
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
            )
            self._live.start(refresh=True)
        else:
            self._live.update(drawn, refresh=True)

    def say(self, text: str) -> None:
        """Say something once, above the view."""
        self._console.print(Text(printable(text)))

    def close(self) -> None:
        """Take the view away; can be called more than once."""
        if self._live is not None:
            self._live.stop()
            self._live = None


class AsLines:
    """A plain line every few seconds, for a log or a pipe."""

    every = 5.0

    def __init__(self) -> None:
        self._warned: set[str] = set()

    def show(self, snapshot: Snapshot) -> None:
        """Show the run as it is now; what it is warned of on lines of their own, and once."""
        render.say(line(msgspec.structs.replace(snapshot, warnings=())))
        for warning in snapshot.warnings:
            kind = re.sub(r"[0-9][0-9.,]*( m?s)?", "#", warning)
            if kind not in self._warned:
                self._warned.add(kind)
                render.say(f"{clock(snapshot.elapsed)} warning: {printable(warning)}")

    def say(self, text: str) -> None:
        """Say something once."""
        render.say(printable(text))

    def close(self) -> None:
        """Nothing is left to do."""


class AsRecords:
    """An object on a line of its own every second, for programs; what is said goes to stderr."""

    every = 1.0

    def show(self, snapshot: Snapshot) -> None:
        """Show the run as it is now."""
        render.say({"kind": "progress", **msgspec.to_builtins(snapshot)})

    def say(self, text: str) -> None:
        """Say something once."""
        print(printable(text), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing is left to do."""
