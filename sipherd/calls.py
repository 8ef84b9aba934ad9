"""Calls as a client sees them, and the event stream of a herd.

A `Call` is kept up to date by the connection's I/O thread; methods that wait do so on a condition
that the thread notifies.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any

import msgspec

from .client import END_TIMEOUT, Connection
from .protocol.errors import CallFailed, CommandRefused, EventsMissed, SipherdError, TimedOut
from .protocol.events import (
    Answered,
    CallEnded,
    CallPlaced,
    CancelResolved,
    Event,
    Progress,
)
from .protocol.messages import (
    AnswerCall,
    CallInfo,
    CallList,
    CancelCall,
    CancelReport,
    HangUpCall,
    ListCalls,
    RejectCall,
    Result,
    Snapshot,
    Subscribe,
)
from .protocol.states import CallState

__all__ = ["Call", "EventStream", "IncomingCall", "Watch"]

_ORDER = list(CallState)


class Call:
    """One leg of a call, at one phone of the herd.

    It belongs to this process: when the process ends, the call is ended, unless it is detached.
    """

    def __init__(self, watch: Watch, info: CallInfo) -> None:
        self._watch = watch
        self._info = info
        self._lost: SipherdError | None = None
        self._changed = threading.Condition()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} at {self._info.phone}: {self.state.value}>"

    @property
    def id(self) -> str:
        """The herd's own name for it, `c17`."""
        return self._info.call

    @property
    def sip_call_id(self) -> str:
        """The Call-ID header."""
        return self._info.sip_call_id

    @property
    def state(self) -> CallState:
        """Calling, ringing, answered or ended."""
        return self._info.state

    @property
    def info(self) -> CallInfo:
        """All that is known of it, as of the last event."""
        return self._info

    def wait_ringing(self, timeout: float | None = None) -> CallInfo:
        """Wait until the far end rings, or has answered without ringing.

        Raises:
            CallFailed: it ended before.
            TimedOut: neither happened within `timeout` seconds.
        """

        def reached(info: CallInfo) -> bool:
            return info.state is CallState.RINGING or info.answered is not None

        return self._wait(reached, "ringing", timeout)

    def wait_answered(self, timeout: float | None = None) -> CallInfo:
        """Wait until the call is answered.  Raises as `wait_ringing`."""
        return self._wait(lambda info: info.answered is not None, "answer", timeout)

    def wait_ended(self, timeout: float | None = None) -> CallInfo:
        """Wait until the call is over, for whatever cause.

        Raises:
            TimedOut: it was still up after `timeout` seconds.
        """
        return self._wait(lambda info: info.state is CallState.ENDED, "end", timeout)

    def hang_up(self, timeout: float = END_TIMEOUT) -> CallInfo:
        """End the call, whatever its state: BYE, CANCEL or 480.  Returns once it is over.

        Raises:
            TimedOut: its end took longer than `timeout` seconds; it goes on ending.
        """
        deadline = time.monotonic() + timeout
        try:
            self._watch.connection.request(
                HangUpCall(call=self.id), timeout, awaited=f"hanging up call {self.id}"
            )
        except CommandRefused as refused:
            # The far end may have been faster.
            if refused.reason not in ("already_ended", "cancelled", "phone_crashed"):
                raise
        return self.wait_ended(max(deadline - time.monotonic(), 0.0))

    def cancel(self, timeout: float = END_TIMEOUT) -> CancelReport:
        """Cancel an outgoing call; the report holds the one outcome.

        With `already_answered` nothing was sent and the call stays up.

        Raises:
            CommandRefused: the call can't be cancelled: incoming, or a cancel is under way.
            TimedOut: the outcome was not known after `timeout` seconds.
        """
        report = self._watch.connection.request(
            CancelCall(call=self.id), timeout, awaited=f"the outcome of cancelling call {self.id}"
        )
        assert isinstance(report, CancelReport)
        return report

    def _wait(
        self, reached: Callable[[CallInfo], bool], what: str, timeout: float | None
    ) -> CallInfo:
        def over() -> bool:
            info = self._info
            return reached(info) or info.state is CallState.ENDED or self._lost is not None

        with self._changed:
            if not self._changed.wait_for(over, timeout):
                raise TimedOut(f"the {what} of call {self.id}", timeout or 0.0)
            info, lost = self._info, self._lost
        if reached(info):
            return info
        if info.state is CallState.ENDED:
            raise CallFailed(info.call, info.cause or "", info.code, info.reason)
        assert lost is not None
        raise type(lost)(*lost.args)

    # Called by the I/O thread.

    def _apply(self, event: Event) -> None:
        changes: dict[str, Any] = {}
        match event.body:
            case CallPlaced(sip_call_id=sip_call_id, request_uri=to_uri):
                changes = {"sip_call_id": sip_call_id, "to_uri": to_uri}
            case Progress(code=code, reason=reason):
                changes = {"code": code, "reason": reason, "state": CallState.RINGING}
            case Answered(code=code, codec=codec):
                changes = {"code": code, "reason": "", "state": CallState.ANSWERED}
                changes |= {"codec": codec} if codec else {}
                if self._info.answered is None:
                    changes["answered"] = event.t
            case CancelResolved(outcome=outcome):
                changes = {"cancel_outcome": outcome}
            case CallEnded() as end:
                changes = {"state": CallState.ENDED, "ended": event.t, "cause": end.cause}
                changes |= {"by": end.by, "bye_answered": end.bye_answered}
                changes |= {"code": end.code} if end.code is not None else {}
                changes |= {"reason": end.reason} if end.reason else {}
        if changes:
            self._update(msgspec.structs.replace(self._info, **changes))

    def _update(self, info: CallInfo) -> None:
        # An event may be older than the reply that the information came with.
        if _ORDER.index(info.state) >= _ORDER.index(self._info.state):
            with self._changed:
                self._info = info
                self._changed.notify_all()

    def _lose(self, error: SipherdError) -> None:
        with self._changed:
            self._lost = error
            self._changed.notify_all()


class IncomingCall(Call):
    """A call that rings at one of our phones, handed to this client and to no other."""

    @property
    def from_uri(self) -> str:
        """SIP URI of the caller."""
        return self._info.from_uri

    @property
    def from_display(self) -> str:
        """The name beside the caller's URI; may be empty."""
        return self._info.from_display

    def answer(self, *, detached: bool = False) -> None:
        """Answer with 200.  A `detached` call outlives this process.

        Raises:
            CommandRefused: it does not ring any more; `reason` is `cancelled`, `already_answered`
                or `already_ended`.
        """
        if detached:
            self._watch.everything()
        self._watch.connection.request(AnswerCall(call=self.id, detached=detached))

    def reject(self, code: int = 486, reason: str = "") -> None:
        """Answer with a final response, 300 to 699.  Raises as `answer`."""
        self._watch.connection.request(RejectCall(call=self.id, code=code, reason=reason))


class EventStream(Iterator[Event]):
    """The herd's events in order and without a gap; see `Herd.events`.

    The iteration ends when no event came for `timeout` seconds (None: when the herd is closed or
    its supervisor dies).  A reader that falls more than 10,000 events behind gets `EventsMissed`
    once, and can read on.
    """

    _KEPT = 10_000

    def __init__(self, timeout: float | None) -> None:
        self.n = 0
        """Number of the newest event at the time this was made."""
        self._last = 0
        self._timeout = timeout
        self._events: deque[Event] = deque()
        self._missed: tuple[int, int] | None = None
        self._over = False
        self._changed = threading.Condition()

    def __iter__(self) -> EventStream:
        return self

    def __next__(self) -> Event:
        with self._changed:
            self._changed.wait_for(
                lambda: self._events or self._missed or self._over, self._timeout
            )
            if self._missed:
                missed, self._missed = self._missed, None
                raise EventsMissed(*missed)
            if not self._events:
                raise StopIteration
            return self._events.popleft()

    def __enter__(self) -> EventStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the iteration behind what has come so far."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    # Called by the I/O thread.

    def _add(self, events: Iterable[Event]) -> None:
        with self._changed:
            for event in events:
                if self._over:
                    return
                if event.n <= self._last:
                    continue  # sent again for another stream
                self._last = event.n
                if len(self._events) >= self._KEPT:
                    dropped = self._events.popleft().n
                    self._miss(dropped, dropped)
                self._events.append(event)
            self._changed.notify_all()

    def _miss(self, first: int, last: int) -> None:
        self._missed = (self._missed[0] if self._missed else first, last)


class Watch:
    """Keeps calls and event streams up to date; the `Listener` of a connection.

    A client is sent the events of its own calls.  Whoever wants more (an event stream, a detached
    call, which has no owner) makes it ask for all events, once.
    """

    connection: Connection

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[str, Call] = {}
        self._streams: weakref.WeakSet[EventStream] = weakref.WeakSet()
        self._everything = False
        self._seen = 0

    def start(self, connection: Connection) -> None:
        """Subscribe through the connection that has this listener."""
        self.connection = connection
        connection.request(Subscribe(own=True))

    def everything(self) -> None:
        """From now on all events of the herd."""
        with self._lock:
            if self._everything:
                return
            self._everything = True
        self.connection.request(Subscribe(), on_result=self._resume)

    def stream(self, timeout: float | None, after: int | None) -> EventStream:
        """The events behind number `after`, as far as the supervisor has them; None: from now."""
        stream = EventStream(timeout)

        def on_result(snapshot: Result) -> None:
            assert isinstance(snapshot, Snapshot)
            stream.n = snapshot.n
            stream._last = snapshot.n if after is None else after
            with self._lock:
                self._streams.add(stream)
            self._resume(snapshot)

        with self._lock:
            # A subscription replaces the one before: the others' events must not be lost by it.
            resume = [after] if after is not None else []
            resume += [self._seen] if self._everything else []
            self._everything = True
        self.connection.request(Subscribe(after=min(resume, default=None)), on_result=on_result)
        return stream

    def add(self, call: Call) -> None:
        """Keep a call up to date from here on; for the I/O thread."""
        if call.state is not CallState.ENDED:
            self._calls[call.id] = call

    def on_events(self, events: Iterable[Event]) -> None:
        for event in events:
            call = self._calls.get(getattr(event.body, "call", ""))
            if call is not None:
                call._apply(event)
                self._drop_ended(call)
            self._seen = max(self._seen, event.n)
        for stream in self._current_streams():
            stream._add(events)

    def on_missed(self, first: int, last: int) -> None:
        for stream in self._current_streams():
            with stream._changed:
                stream._miss(first, last)
                stream._changed.notify_all()
        self._resume(None)

    def on_lost(self, error: SipherdError) -> None:
        for stream in self._current_streams():
            stream.close()
        for call in self._calls.values():
            call._lose(error)
        self._calls.clear()

    def _current_streams(self) -> list[EventStream]:
        with self._lock:
            return list(self._streams)

    def _resume(self, snapshot: Result) -> None:
        """Some events of our calls may be lost: ask how each call is now.

        The snapshot knows only the calls that are up, so each is asked about by its name.
        """
        if isinstance(snapshot, Snapshot):
            self._refresh(CallList(calls=snapshot.calls))
        for id in list(self._calls):
            with contextlib.suppress(SipherdError):
                self.connection.submit(ListCalls(which=(id,)), on_result=self._refresh)

    def _refresh(self, known: Result) -> None:
        assert isinstance(known, CallList)
        for info in known.calls:
            call = self._calls.get(info.call)
            if call is not None:
                call._update(info)
                self._drop_ended(call)

    def _drop_ended(self, call: Call) -> None:
        if call.state is CallState.ENDED:
            del self._calls[call.id]
