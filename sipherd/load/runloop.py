"""The thread of a run that keeps the time: the attempts' state machine on a connection.

Everything reaches it through one queue, and leaves it through another; so nobody makes it wait.
"""

from __future__ import annotations

import contextlib
import enum
import queue
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from typing import NamedTuple, TypeAlias

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
from ..protocol.messages import Result
from .attempts import AnsweredCall, Attempts, Command, Finished, Started
from .records import CallAttempt, RegisterAttempt, RunEvent

__all__ = ["Ears", "Ended", "Inbound", "Order", "Over", "Pace", "RunLoop", "Told"]

#: A supervisor takes 2,000 commands a second of a client and 4,000 at once (supervisor/clients.py).
COMMANDS_PER_SECOND, COMMANDS_AT_ONCE = 1900.0, 2000.0
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


class Order(enum.Enum):
    """What somebody outside wants of the run."""

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


Inbound: TypeAlias = Order | _Events | _Reply | _Missed | _Lost


class Ended(NamedTuple):
    """An attempt is over, at `t` seconds of the run."""

    attempt: CallAttempt
    t: float


class Over(NamedTuple):
    """The run is; `error` is a bug of ours."""

    error: BaseException | None


Told: TypeAlias = Started | AnsweredCall | Ended | RunEvent | RegisterAttempt | Over


class Ears:
    """The connection's listener: its thread hands on and returns."""

    def __init__(self, inbox: queue.SimpleQueue[Inbound]) -> None:
        self._inbox = inbox

    def on_events(self, events: Iterable[Event]) -> None:
        self._inbox.put(_Events(tuple(events)))

    def on_missed(self, first: int, last: int) -> None:
        del first, last
        self._inbox.put(_Missed())

    def on_lost(self, error: SipherdError) -> None:
        self._inbox.put(_Lost(error))


class RunLoop:
    """The thread that keeps the time."""

    def __init__(
        self,
        attempts: Attempts,
        connection: Connection,
        inbox: queue.SimpleQueue[Inbound],
        told: queue.SimpleQueue[Told],
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
        """Until all attempts are over; the last thing told is `Over`."""
        error: BaseException | None = None
        try:
            while not self._attempts.is_over:
                self._turn()
            self._hand_out()  # what its last turn had to tell
        except BaseException as caught:  # a bug of ours: for whoever called ``run``
            error = caught
        self._told.put(Over(error))

    def take_lag(self) -> float:
        """The longest that it came too late since this was called last, in seconds."""
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
        self._attempts.tick(now)
        self._lag = max(self._lag, self._attempts.take_lag())
        self._hand_out()

    def _take(self, item: Inbound) -> None:
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
            case Order.DRAIN:
                self._attempts.drain(now)
            case Order.STOP:
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
        if isinstance(body, Registered | RegistrationFailed):
            self._told.put(
                RegisterAttempt(
                    at=t - (body.delay or 0.0),
                    phone=event.phone,
                    delay=body.delay,
                    code=200 if isinstance(body, Registered) else body.code,
                    refresh=body.refresh,
                )
            )
        if isinstance(body, _ON_THE_TIME_LINE):
            self._told.put(RunEvent.of(t, body, event.phone, event.incarnation))

    def _hand_out(self) -> None:
        for output in self._attempts.take():
            if isinstance(output, Command):
                self._outbox.append(output)
            elif isinstance(output, Finished):
                now = time.monotonic() - self._attempts.origin
                self._told.put(Ended(output.attempt, now))
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
