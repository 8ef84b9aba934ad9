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
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import msgspec

from .client import END_TIMEOUT, REPLY_TIMEOUT, Connection
from .protocol.errors import CallFailed, CommandRefused, EventsMissed, SipherdError, TimedOut
from .protocol.events import (
    Answered,
    CallEnded,
    CallPlaced,
    CancelResolved,
    DtmfReceived,
    Event,
    Held,
    Progress,
    Referred,
    Retrieved,
)
from .protocol.events import IncomingCall as IncomingEvent
from .protocol.messages import (
    AnswerCall,
    CallInfo,
    CallList,
    CancelCall,
    CancelReport,
    ClientRequest,
    HangUpCall,
    HoldCall,
    ListCalls,
    PlayAudio,
    RecordAudio,
    RejectCall,
    Result,
    RetrieveCall,
    SendDtmf,
    Snapshot,
    StopAudio,
    StopRecording,
    Subscribe,
    TransferCall,
)
from .protocol.states import CallState

__all__ = ["Call", "EventStream", "IncomingCall", "Watch", "audio_source"]

_ORDER = list(CallState)


class Call:
    """One leg of a call, at one phone of the herd.

    It belongs to this process: when the process ends, the call is ended, unless it is detached.
    """

    def __init__(self, watch: Watch, info: CallInfo) -> None:
        self._watch = watch
        self._info = info
        self._lost: SipherdError | None = None
        self._unread = ""
        """Digits that `wait_dtmf` has not returned yet."""
        self._successors: deque[str] = deque()
        """Calls that came of this one by a transfer, and were not asked for yet."""
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

    def wait_held(self, timeout: float | None = None) -> CallInfo:
        """Wait until the far end has put the call on hold.  Raises as `wait_ringing`."""
        return self._wait(lambda info: "remote" in info.held, "hold", timeout)

    def wait_retrieved(self, timeout: float | None = None) -> CallInfo:
        """Wait until the far end does not hold the call any more.  Raises as `wait_ringing`."""

        def reached(info: CallInfo) -> bool:
            return info.answered is not None and "remote" not in info.held

        return self._wait(reached, "retrieval", timeout)

    def wait_dtmf(self, count: int = 1, timeout: float | None = None) -> str:
        """Wait for the next `count` keys that the far end presses.  Raises as `wait_ringing`.

        Each key is returned once; what comes of a time-out stays for the next wait.
        """
        self._wait(lambda info: len(self._unread) >= count, f"{count} keys", timeout)
        with self._changed:
            digits, self._unread = self._unread[:count], self._unread[count:]
        return digits

    def wait_transferred(self, timeout: float | None = None) -> Call:
        """Wait until a transfer has put somebody else at the far end; returns the new call.

        At the one who is transferred, the call to whom the far end named; at the one to whom an
        attended transfer leads, the call that replaces this one.

        Raises:
            CallFailed: the call ended before.
            TimedOut: it was not transferred within `timeout` seconds.
        """
        self._wait(lambda info: bool(self._successors), "transfer", timeout)
        with self._changed:
            id = self._successors.popleft()
        return self._watch.follow(id)

    def hold(self, timeout: float = END_TIMEOUT) -> None:
        """Put the call on hold; returns once the far end has accepted it.

        Raises:
            CommandRefused: it is not up, or the far end refused; the message has its code.
        """
        self._change_hold(HoldCall(call=self.id), timeout)

    def retrieve(self, timeout: float = END_TIMEOUT) -> None:
        """Take the call off hold.  Raises as `hold`."""
        self._change_hold(RetrieveCall(call=self.id), timeout)

    def _change_hold(self, body: HoldCall | RetrieveCall, timeout: float) -> None:
        def on_result(result: Result) -> None:
            # The event may come a moment later, and who asks now is to see it done.
            assert isinstance(result, CallInfo)
            self._update(msgspec.structs.replace(self._info, held=result.held))

        awaited = f"the far end of call {self.id} to accept it"
        self._watch.connection.request(body, timeout, awaited=awaited, on_result=on_result)

    def transfer(self, target: Call | str, timeout: float = END_TIMEOUT) -> None:
        """Have the far end call somebody else; returns once it has reached them.

        Args:
            target: a phone's name or number, or a SIP URI; or another call of the same phone, whose
                far end is joined with this one (attended transfer).
            timeout: seconds.

        Raises:
            CommandRefused: it did not; `reason` is `transfer_failed` …, and this call is still up.
        """
        consult, blind = (target.id, "") if isinstance(target, Call) else ("", target)
        body = TransferCall(call=self.id, target=blind, consult=consult)
        self._request(body, timeout, "transfer")

    def send_dtmf(self, digits: str, timeout: float = END_TIMEOUT) -> None:
        """Press keys (`0-9 * # A-D`); returns once all are sent.

        Raises:
            CommandRefused: the call is not up, has no audio, or a key is none.
        """
        self._request(SendDtmf(call=self.id, digits=digits), timeout, "keys")

    def play(self, source: str | Path, *, loop: bool = False) -> None:
        """Send this from now on; returns once it has begun.

        Args:
            source: `silence`, `echo`, `tone:HZ`, or an audio file.
            loop: begin again at the end of a file.

        Raises:
            CommandRefused: it can't be played: the file is missing, no audio, or empty …
        """
        self._request(PlayAudio(call=self.id, source=audio_source(source), loop=loop))

    def stop_playing(self) -> None:
        """Send silence from now on."""
        self._request(StopAudio(call=self.id))

    def record(
        self,
        file: str | Path,
        what: Literal["received", "sent", "mixed", "both"] = "received",
    ) -> None:
        """Write the call's audio to a WAV file, until it ends or `stop_recording`.

        `both` makes two channels: received on the left, sent on the right.

        Raises:
            CommandRefused: the file can't be written, or the call has no audio.
        """
        path = str(Path(file).absolute())
        self._request(RecordAudio(call=self.id, file=path, what=what))

    def stop_recording(self) -> None:
        """Complete the file."""
        self._request(StopRecording(call=self.id))

    def _request(self, body: ClientRequest, timeout: float = REPLY_TIMEOUT, what: str = "") -> None:
        awaited = f"the {what} of call {self.id}" if what else ""
        self._watch.connection.request(body, timeout, awaited=awaited)

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
            case Answered(code=code, codec=codec, rtp_port=port):
                changes = {"code": code, "reason": "", "state": CallState.ANSWERED}
                changes |= {"codec": codec} if codec else {}
                changes |= {"rtp_port": port} if port else {}
                if self._info.answered is None:
                    changes["answered"] = event.t
            case CancelResolved(outcome=outcome):
                changes = {"cancel_outcome": outcome}
            case Held(by=by):
                changes = {"held": tuple(sorted({*self._info.held, by}))}
            case Retrieved(by=by):
                changes = {"held": tuple(side for side in self._info.held if side != by)}
            case DtmfReceived(digit=digit):
                self._unread += digit
                changes = {"digits": self._info.digits + digit}
            case Referred(new_call=new_call):
                self._succeed(new_call)
            case CallEnded() as end:
                changes = {"state": CallState.ENDED, "ended": event.t, "cause": end.cause}
                changes |= {"by": end.by, "bye_answered": end.bye_answered, "media": end.media}
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

    def _succeed(self, call: str) -> None:
        """A transfer made another call of this one."""
        with self._changed:
            self._successors.append(call)
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


def audio_source(source: str | Path) -> str:
    """As the phone's process understands it: a path is made absolute."""
    if isinstance(source, str) and (
        source in ("silence", "echo") or source.partition(":")[0] == "tone"
    ):
        return source
    return str(Path(source).absolute())


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
        event = self._next(self._timeout)
        if event is None:
            raise StopIteration
        return event

    def _next(self, timeout: float | None) -> Event | None:
        """The next event; None if there is none within `timeout` seconds, or ever."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._missed or self._over, timeout)
            if self._missed:
                missed, self._missed = self._missed, None
                raise EventsMissed(*missed)
            return self._events.popleft() if self._events else None

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

    def follow(self, id: str) -> Call:
        """A call that the herd has, and that this side did not place.  Raises CallNotFound."""
        followed: list[Call] = []

        def on_result(result: Result) -> None:
            assert isinstance(result, CallList)
            followed.append(Call(self, result.calls[0]))
            self.add(followed[0])

        self.connection.request(ListCalls(which=(id,)), on_result=on_result)
        return followed[0]

    def on_events(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event.body, IncomingEvent) and event.body.replaces in self._calls:
                self._calls[event.body.replaces]._succeed(event.body.call)
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
