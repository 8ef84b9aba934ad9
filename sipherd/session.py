"""The connection of one command: requests, and the events of the calls it is about."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from .client import END_TIMEOUT, REPLY_TIMEOUT, Connection
from .options import where
from .protocol.errors import EventsMissed, SipherdError, TimedOut
from .protocol.events import CallEnded, Event
from .protocol.messages import (
    CallInfo,
    CallList,
    ClientRequest,
    ListCalls,
    ListPhones,
    PhoneList,
    Result,
    Snapshot,
    Subscribe,
)
from .protocol.states import CallState

__all__ = ["Session"]

R = TypeVar("R", bound=Result)

#: Events that wait for a command whose output nobody reads, at most.
_KEPT = 10_000


class Session:
    """One command's connection to a running herd.

    Raises:
        HerdNotRunning: there is no such herd.
        KeysError, KeyRefused: it is one of another machine, and the key is not good.
    """

    def __init__(self, herd: str, directory: Path | None) -> None:
        self._inbox: queue.SimpleQueue[Event | list[int] | SipherdError] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._gap: list[int] | None = None
        """First and last number of a gap at the end of the inbox, until somebody hears of it."""
        self._over: SipherdError | None = None
        self._connection = Connection(herd, where(herd, directory), self)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()

    @property
    def supervisor_pid(self) -> int:
        return self._connection.supervisor_pid

    @property
    def herd(self) -> str:
        return self._connection.herd

    @property
    def is_remote(self) -> bool:
        """Whether processes and files of the herd are those of another machine."""
        return self._connection.is_remote

    def now(self) -> float:
        """The supervisor's monotonic clock, by which all moments are told."""
        return time.monotonic() + self._connection.clock_ahead

    def request(
        self,
        body: ClientRequest,
        kind: type[R],
        timeout: float | None = REPLY_TIMEOUT,
        awaited: str = "",
    ) -> R:
        """The command's result, which is a `kind`.  Raises as `Connection.request`."""
        result = self._connection.request(body, timeout, awaited=awaited)
        assert isinstance(result, kind)
        return result

    def subscribe(self, *, after: int | None = None, phones: tuple[str, ...] = ()) -> Snapshot:
        """Ask for events: of these phones, or all."""
        return self.request(Subscribe(after=after, phones=phones), Snapshot)

    def subscribe_own(self) -> None:
        """Ask for the events of the calls that belong to this command."""
        self.request(Subscribe(own=True), Snapshot)

    def wait_gone(self, timeout: float) -> bool:
        """Whether the supervisor is gone, now or within `timeout` seconds."""
        return self._connection.wait_gone(timeout)

    def call(self, id: str) -> CallInfo:
        """A call that is up or ended lately.  Raises CallNotFound."""
        (info,) = self.request(ListCalls(which=(id,)), CallList).calls
        return info

    def has_phone(self, what: str) -> bool:
        """Whether a phone has this name or number."""
        phones = self.request(ListPhones(), PhoneList).phones
        return any(what in (phone.name, phone.number) for phone in phones)

    def next_event(self, timeout: float | None = None) -> Event | EventsMissed | None:
        """The next event, or the numbers of some that were lost; None after `timeout` seconds.

        Raises:
            SupervisorDied: there will be none.
        """
        if self._over is not None:
            raise self._over
        try:
            entry = self._inbox.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(entry, list):
            with self._lock:
                if self._gap is entry:
                    self._gap = None
                return EventsMissed(*entry)
        if isinstance(entry, SipherdError):
            self._over = entry
            raise entry
        return entry

    def call_events(self, call: str, timeout: float | None = None) -> Iterator[Event]:
        """The events of a call until it has ended, or for at most `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            entry = self.next_event(left)
            if entry is None:
                return
            if isinstance(entry, EventsMissed):
                if self.call(call).state is CallState.ENDED:
                    return
            elif getattr(entry.body, "call", "") == call:
                yield entry
                if isinstance(entry.body, CallEnded):
                    return

    def await_end(self, call: str) -> Iterator[Event]:
        """The events of a call that is being ended, until it has.

        Raises:
            TimedOut: it takes longer than any end of a call can.
        """
        deadline = time.monotonic() + END_TIMEOUT
        while time.monotonic() < deadline:
            # In slices: an event can get lost to a Ctrl-C.
            for event in self.call_events(call, 1.0):
                yield event
                if isinstance(event.body, CallEnded):
                    return
            if self.call(call).state is CallState.ENDED:
                return
        raise TimedOut(f"the end of call {call}", END_TIMEOUT)

    # Called by the connection's I/O thread.

    def on_events(self, events: Iterable[Event]) -> None:
        for event in events:
            if self._inbox.qsize() < _KEPT:
                with self._lock:
                    self._gap = None  # one that comes later is another one
                self._inbox.put(event)
            else:
                self.on_missed(event.n, event.n)

    def on_missed(self, first: int, last: int) -> None:
        with self._lock:
            if self._gap is None:
                self._gap = [first, last]
                self._inbox.put(self._gap)
            else:  # nobody has heard of it yet: one gap instead of two
                self._gap[1] = last

    def on_lost(self, error: SipherdError) -> None:
        self._inbox.put(error)
