"""Drive a load run: a client of the herd that places its calls, and says what became of them.

Three threads share the work, so that nothing slow makes a call late: the connection's reads and
writes, one of the runner's own decides (``load.attempts``) and keeps the time, and the one that
called ``run`` hears of it all through its listener, which may write files and draw.

Every call of the run belongs to this client: when its process dies, they end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import msgspec

from ..protocol.messages import PhoneInfo
from .pairing import Pairs
from .profile import LoadProfile
from .records import CallAttempt, Leftovers, RegisterAttempt, RunEvent, RunState

__all__ = ["Listener", "Phase", "RunResult", "Runner"]

Phase: TypeAlias = Literal["warm-up", "running", "draining", "finished"]


class Listener(Protocol):
    """Hears of the run; called by the thread that called ``run``, one call at a time.

    It may take its time: calls start and end meanwhile.  What it raises ends the run at once, and
    is raised by ``run``.  All times are seconds since the run's start.
    """

    def on_begin(self, at: float) -> None:
        """The herd is joined and the run starts now: wall time `at`, seconds since the epoch."""

    def on_started(self, attempt: CallAttempt, t: float) -> None:
        """An INVITE was sent; `attempt` is as it would be if it were never heard of again.

        Kept, it is there when the runner's process is killed: ``unfinished``, and replaced by what
        ``on_attempt`` tells under the same number.
        """

    def on_answered(self) -> None:
        """The caller got its 2xx."""

    def on_attempt(self, attempt: CallAttempt, t: float) -> None:
        """An attempt is over, or was never sent: then ``started`` is None."""

    def on_event(self, event: RunEvent) -> None:
        """Something happened that belongs on the run's time line."""

    def on_register(self, attempt: RegisterAttempt) -> None:
        """A phone has registered, or failed to."""

    def on_tick(self, t: float) -> None:
        """Called about four times a second, whatever happens."""


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a run went, as a whole."""

    state: RunState
    """``finished``, or ``interrupted`` by its herd's end or by ``stop_now``."""
    ended: float
    """Seconds since its start."""
    why: str = ""
    """Of ``interrupted``: one line."""
    leftovers: Leftovers | None = None
    """None: it was not drained, or nobody counts them."""


class Runner:
    """One run.

    Args:
        herd: name of a running herd of this machine, which has all `phones`.
        directory: where its sockets are.
        profile: what is to be done.
        pairs: who calls whom.
        phones: all phones of the herd, as it lists them.
        listener: hears of everything.
        media: what both sides of an answered call play, as PlayAudio takes it (``tone:HZ``, or
            the absolute path of a file); empty: nothing.
        count_leftovers: called once all is over and before the connection to the herd is closed,
            by the thread of ``run``.

    """

    def __init__(
        self,
        herd: str,
        directory: Path,
        profile: LoadProfile,
        pairs: Pairs,
        phones: Sequence[PhoneInfo],
        listener: Listener,
        *,
        media: str = "",
        count_leftovers: Callable[[], Leftovers] | None = None,
    ) -> None:
        self._herd, self._directory = herd, directory
        self._profile, self._pairs, self._phones = profile, pairs, phones
        self._listener = listener
        self._media = media
        self._count_leftovers = count_leftovers

    def run(self) -> RunResult:
        """Do it all, and return when every attempt is over.

        Raises:
            HerdNotRunning: nobody serves the herd's control socket.
            BaseException: whatever the listener raised.

        """
        raise NotImplementedError

    def drain(self) -> None:
        """Start no more calls, let the others end by themselves.

        For any thread, and for a signal handler; so are the others below.
        """
        raise NotImplementedError

    def stop_now(self) -> None:
        """End every call and the run."""
        raise NotImplementedError

    @property
    def phase(self) -> Phase:
        """Where the run is."""
        raise NotImplementedError

    def now(self) -> float:
        """Seconds since the run's start; below 0 before it."""
        raise NotImplementedError

    def take_lag(self) -> float:
        """The longest that the loop which starts calls was late since this was called last, in s.

        For ``BoxSample.loop_lag``.
        """
        raise NotImplementedError
