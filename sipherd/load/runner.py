"""Drive a load run: a client of the herd that places its calls, and says what became of them.

Three threads share the work, so that nothing slow makes a call late: the connection's reads and
writes, one of the runner's own decides (``load.attempts``) and keeps the time, and the one that
called ``run`` hears of it all through its listener, which may write files and draw.

Every call of the run belongs to this client: when its process dies, they end.
"""

from __future__ import annotations

import itertools
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from ..client import Connection
from ..protocol.errors import SipherdError
from ..protocol.messages import PhoneInfo, Subscribe
from .attempts import AnsweredCall, Attempts, Phase, Started
from .pairing import Pairs
from .profile import LoadProfile
from .records import CallAttempt, Leftovers, RegisterAttempt, RunEvent, RunState
from .runloop import Ears, Ended, Inbound, Order, Over, RunLoop, Told
from .schedule import schedule

__all__ = ["Listener", "Phase", "RunResult", "Runner"]

#: Seconds from the moment all is prepared to the run's start.
_LEAD = 0.1
_TICK = 0.25


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
        # Both can be put into by a signal handler, even while its thread is within `get`.
        self._inbox: queue.SimpleQueue[Inbound] = queue.SimpleQueue()
        self._told: queue.SimpleQueue[Told] = queue.SimpleQueue()
        self._origin: float | None = None
        self._attempts: Attempts | None = None
        self._loop: RunLoop | None = None

    def run(self) -> RunResult:
        """Do it all, and return when every attempt is over.

        Raises:
            HerdNotRunning: nobody serves the herd's control socket.
            BaseException: whatever the listener raised.

        """
        connection = Connection(self._herd, self._directory, Ears(self._inbox))
        interval = sys.getswitchinterval()
        # The listener's Python must not keep a call waiting for the default of 5 ms.
        sys.setswitchinterval(0.001)
        try:
            connection.request(Subscribe())
            calls = schedule(self._profile, self._pairs)
            first = list(itertools.islice(calls, 1))  # which may take a while to be drawn
            self._origin = time.monotonic() + _LEAD
            attempts = Attempts(
                itertools.chain(first, calls),
                self._profile,
                self._phones,
                origin=self._origin,
                media=self._media,
            )
            self._attempts = attempts
            loop = RunLoop(attempts, connection, self._inbox, self._told)
            self._loop = loop
            thread = threading.Thread(target=loop.run, name="sipherd-load", daemon=True)
            thread.start()
            try:
                self._listener.on_begin(time.time() + self._origin - time.monotonic())
                self._listen()
            except BaseException:
                self.stop_now()
                raise
            finally:
                thread.join()
            return self._result(loop)
        finally:
            sys.setswitchinterval(interval)
            connection.close()

    def _listen(self) -> None:
        """Tell the listener what there is to tell, until the run is over."""
        next_tick = time.monotonic()
        while True:
            try:
                tell = self._told.get(timeout=max(0.0, next_tick - time.monotonic()))
            except queue.Empty:
                tell = None
            match tell:
                case None:
                    pass
                case Started(attempt):
                    self._listener.on_started(attempt, attempt.started or 0.0)
                case AnsweredCall():
                    self._listener.on_answered()
                case Ended(attempt, t):
                    self._listener.on_attempt(attempt, t)
                case RunEvent():
                    self._listener.on_event(tell)
                case RegisterAttempt():
                    self._listener.on_register(tell)
                case Over(error):
                    if error is not None:
                        raise error
                    return
            if time.monotonic() >= next_tick:
                self._listener.on_tick(self.now())
                next_tick = time.monotonic() + _TICK

    def _result(self, loop: RunLoop) -> RunResult:
        ended = self.now()
        if loop.why:
            return RunResult(state="interrupted", ended=ended, why=loop.why)
        try:
            leftovers = self._count_leftovers() if self._count_leftovers is not None else None
        except SipherdError as error:  # the herd is gone, or doesn't answer
            return RunResult(state="interrupted", ended=ended, why=str(error))
        return RunResult(state="finished", ended=ended, leftovers=leftovers)

    def drain(self) -> None:
        """Start no more calls, let the others end by themselves.

        For any thread, and for a signal handler; so are the others below.
        """
        self._inbox.put(Order.DRAIN)

    def stop_now(self) -> None:
        """End every call and the run."""
        self._inbox.put(Order.STOP)

    @property
    def phase(self) -> Phase:
        """Where the run is."""
        return "warm-up" if self._attempts is None else self._attempts.phase

    def now(self) -> float:
        """Seconds since the run's start; below 0 before it."""
        return -_LEAD if self._origin is None else time.monotonic() - self._origin

    def take_lag(self) -> float:
        """The longest that the loop which starts calls was late since this was called last, in s.

        For ``BoxSample.loop_lag``.
        """
        return 0.0 if self._loop is None else self._loop.take_lag()
