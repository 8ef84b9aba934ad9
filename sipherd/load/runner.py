"""Drive a load run: a client of the herd that places its calls, and says what became of them.

Three threads share the work, so that nothing slow makes a call late: the connection's reads and
writes, one of the runner's own decides (``load.attempts``) and keeps the time, and the one that
called ``run`` hears of it all through its listener, which may write files and draw.

Every call of the run belongs to this client: when its process dies, they end.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

import msgspec

from ..client import Connection
from ..protocol.errors import (
    CallNotFound,
    CommandRefused,
    PhoneNotFound,
    SipherdError,
    TimedOut,
)
from ..protocol.events import (
    BoxOverloaded,
    BoxRecovered,
    CallCleanedUp,
    Event,
    FaultInjected,
    HerdDraining,
    HerdReloaded,
    HerdStopping,
    LimitReached,
    NurseryDied,
    PhoneDied,
    PhoneLate,
    PhoneMoved,
    Registered,
    RegistrationFailed,
    RtpPairSkipped,
    Unregistered,
)
from ..protocol.messages import PhoneInfo, Result, Subscribe
from .attempts import AnsweredCall, Attempts, Command, Finished, Phase, Started
from .pairing import Pairs
from .profile import LoadProfile
from .records import CallAttempt, Leftovers, RegisterAttempt, RunEvent, RunState
from .schedule import schedule

__all__ = ["Listener", "Phase", "RunResult", "Runner"]

#: A supervisor takes 2,000 commands a second of a client and 4,000 at once (supervisor/clients.py).
COMMANDS_PER_SECOND, COMMANDS_AT_ONCE = 1900.0, 2000.0
#: Seconds from the moment all is prepared to the run's start.
_LEAD = 0.1
_TICK = 0.25
_BATCH = 200
#: What a reader of a report wants to see beside its calls.
_ON_THE_TIME_LINE = (
    BoxOverloaded,
    BoxRecovered,
    CallCleanedUp,
    FaultInjected,
    HerdDraining,
    HerdReloaded,
    HerdStopping,
    LimitReached,
    NurseryDied,
    PhoneDied,
    PhoneLate,
    PhoneMoved,
    RegistrationFailed,
    RtpPairSkipped,
    Unregistered,
)


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
        self._inbox: queue.SimpleQueue[_In] = queue.SimpleQueue()
        self._told: queue.SimpleQueue[_Told] = queue.SimpleQueue()
        self._origin: float | None = None
        self._attempts: Attempts | None = None
        self._loop: _Loop | None = None

    def run(self) -> RunResult:
        """Do it all, and return when every attempt is over.

        Raises:
            HerdNotRunning: nobody serves the herd's control socket.
            BaseException: whatever the listener raised.

        """
        connection = Connection(self._herd, self._directory, _Ears(self._inbox))
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
            loop = _Loop(attempts, connection, self._inbox, self._told)
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
                case _Ended(attempt, t):
                    self._listener.on_attempt(attempt, t)
                case RunEvent():
                    self._listener.on_event(tell)
                case RegisterAttempt():
                    self._listener.on_register(tell)
                case _Over(error):
                    if error is not None:
                        raise error
                    return
            if time.monotonic() >= next_tick:
                self._listener.on_tick(self.now())
                next_tick = time.monotonic() + _TICK

    def _result(self, loop: _Loop) -> RunResult:
        ended = self.now()
        if loop.why:
            return RunResult(state="interrupted", ended=ended, why=loop.why)
        leftovers = self._count_leftovers() if self._count_leftovers is not None else None
        return RunResult(state="finished", ended=ended, leftovers=leftovers)

    def drain(self) -> None:
        """Start no more calls, let the others end by themselves.

        For any thread, and for a signal handler; so are the others below.
        """
        self._inbox.put(_Order.DRAIN)

    def stop_now(self) -> None:
        """End every call and the run."""
        self._inbox.put(_Order.STOP)

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


class _Order(enum.Enum):
    DRAIN = enum.auto()
    STOP = enum.auto()


class _Events(NamedTuple):
    events: tuple[Event, ...]


class _Reply(NamedTuple):
    id: int
    future: Future[Result]


class _Missed(NamedTuple):
    pass


class _Lost(NamedTuple):
    error: SipherdError


_In: TypeAlias = _Order | _Events | _Reply | _Missed | _Lost


class _Ended(NamedTuple):
    attempt: CallAttempt
    t: float


class _Over(NamedTuple):
    error: BaseException | None


_Told: TypeAlias = Started | AnsweredCall | _Ended | RunEvent | RegisterAttempt | _Over


class _Ears:
    """The connection's listener: its thread hands on and returns."""

    def __init__(self, inbox: queue.SimpleQueue[_In]) -> None:
        self._inbox = inbox

    def on_events(self, events: Iterable[Event]) -> None:
        self._inbox.put(_Events(tuple(events)))

    def on_missed(self, first: int, last: int) -> None:
        del first, last
        self._inbox.put(_Missed())

    def on_lost(self, error: SipherdError) -> None:
        self._inbox.put(_Lost(error))


class _Loop:
    """The thread that keeps the time."""

    def __init__(
        self,
        attempts: Attempts,
        connection: Connection,
        inbox: queue.SimpleQueue[_In],
        told: queue.SimpleQueue[_Told],
    ) -> None:
        self._attempts = attempts
        self._connection = connection
        self._inbox = inbox
        self._told = told
        self._outbox: deque[Command] = deque()
        self._pace = Pace(COMMANDS_PER_SECOND, COMMANDS_AT_ONCE, time.monotonic())
        self._lag = 0.0
        self.why = ""
        """Why the run was interrupted."""

    def run(self) -> None:
        error: BaseException | None = None
        try:
            while not self._attempts.is_over:
                self._turn()
            self._hand_out()  # what its last turn had to tell
        except BaseException as caught:  # a bug of ours: for whoever called ``run``
            error = caught
        self._told.put(_Over(error))

    def take_lag(self) -> float:
        lag, self._lag = self._lag, 0.0
        return lag

    def _turn(self) -> None:
        due = self._attempts.due()
        wake = self._pace.free_at() if self._outbox else None
        if due is not None and (wake is None or due < wake):
            wake = due
        timeout = None if wake is None else max(0.0, wake - time.monotonic())
        with contextlib.suppress(queue.Empty):
            self._take(self._inbox.get(timeout=timeout))
            for _ in range(_BATCH):
                self._take(self._inbox.get_nowait())
        now = time.monotonic()
        if due is not None and now - due > self._lag:
            self._lag = now - due
        self._attempts.tick(now)
        self._hand_out()

    def _take(self, item: _In) -> None:
        now = time.monotonic()
        match item:
            case _Events(events):
                for event in events:
                    self._attempts.happened(event, now)
                    self._tell(event)
            case _Reply(id, future):
                self._take_reply(id, future, now)
            case _Missed():
                self._attempts.missed(now)
            case _Lost(error):
                self._lose(error, now)
            case _Order.DRAIN:
                self._attempts.drain(now)
            case _Order.STOP:
                self.why = self.why or "stopped before its end"
                self._attempts.stop(now)

    def _take_reply(self, id: int, future: Future[Result], now: float) -> None:
        match error := future.exception():
            case None:
                self._attempts.done(id, future.result(), now)
            case CommandRefused(reason=reason):
                self._attempts.refused(id, reason, str(error), now)
            case PhoneNotFound():
                self._attempts.refused(id, "no_such_phone", str(error), now)
            case CallNotFound():
                self._attempts.refused(id, "no_such_call", str(error), now)
            case TimedOut():
                self._attempts.refused(id, "expired", str(error), now)
            case SipherdError():
                self._lose(error, now)
            case _:
                raise error

    def _lose(self, error: SipherdError, now: float) -> None:
        self.why = self.why or str(error)
        self._attempts.lost(now)

    def _tell(self, event: Event) -> None:
        t = event.t - self._attempts.origin
        body = event.body
        if isinstance(body, Registered):
            # How long it took is not told; that it did not fail is.
            self._told.put(RegisterAttempt(at=t, phone=event.phone, code=200, refresh=body.refresh))
        elif isinstance(body, RegistrationFailed):
            self._told.put(RegisterAttempt(at=t, phone=event.phone, code=body.code))
        if isinstance(body, _ON_THE_TIME_LINE):
            self._told.put(RunEvent.of(t, body, event.phone, event.incarnation))

    def _hand_out(self) -> None:
        for output in self._attempts.take():
            if isinstance(output, Command):
                self._outbox.append(output)
            elif isinstance(output, Finished):
                now = time.monotonic() - self._attempts.origin
                self._told.put(_Ended(output.attempt, now))
            else:
                self._told.put(output)
        while self._outbox and self._pace.take(time.monotonic()):
            self._send(self._outbox.popleft())

    def _send(self, command: Command) -> None:
        try:
            request = self._connection.submit(command.body, command.timeout)
        except SipherdError as error:
            self._inbox.put(_Lost(error))
            return
        id, inbox = command.id, self._inbox
        request.future.add_done_callback(lambda future: inbox.put(_Reply(id, future)))


class Pace:
    """A token bucket: so many a second, and so many at once."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens = burst
        self._at = now

    def take(self, now: float) -> bool:
        """Whether one more is within it; then it counts."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = max(self._at, now)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def free_at(self) -> float:
        """When the next one is within it."""
        return self._at + max(0.0, 1.0 - self._tokens) / self._rate
