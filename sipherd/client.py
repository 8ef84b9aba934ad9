"""One connection to a supervisor: commands out, replies and events in.

A ZeroMQ socket belongs to one thread, so a connection has an I/O thread of its own.  Other threads
put commands into a queue and wake it through an eventfd.  The supervisor's death is read from a
pidfd that was opened before anything was asked of it: whoever waits is told at once.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import zmq

from .protocol.codec import MAX_MESSAGE, MAX_REQUEST, encode, from_supervisor_to_client
from .protocol.errors import (
    CallNotFound,
    CommandRefused,
    HerdClosed,
    HerdNotRunning,
    PhoneNotFound,
    ProtocolError,
    SipherdError,
    SupervisorDied,
    TimedOut,
)
from .protocol.events import Event
from .protocol.messages import (
    ClientRequest,
    Done,
    Envelope,
    Events,
    Expired,
    GetHerd,
    HerdInfo,
    Leave,
    Missed,
    Refused,
    Result,
    SupervisorToClient,
)
from .ways import LocalWay, Remote, RemoteWay, Way

__all__ = [
    "END_TIMEOUT",
    "REPLY_TIMEOUT",
    "STOP_TIMEOUT",
    "Connection",
    "Listener",
    "Request",
    "start_timeout",
]

REPLY_TIMEOUT = 10.0
"""Seconds that a supervisor gets for a command that waits for nothing but itself."""

END_TIMEOUT = 40.0
"""Seconds within which every end of a call is certain: 64·T1 for a BYE or CANCEL that nobody
answers, and some for the way."""

STOP_TIMEOUT = 15.0
"""Seconds: a stop reports after 10 at the latest, and the supervisor needs a moment to be gone."""


def start_timeout(phones: int) -> float:
    """Seconds that so many phones get to start."""
    # On a busy box a process takes some 10 ms; the rest is for what goes wrong.
    return 20.0 + 0.1 * phones


#: Seconds that a reply may take beyond the command's own deadline, which the supervisor keeps.
_GRACE = 2.0
#: Seconds that a dead supervisor's last messages get to come out of the kernel's buffers, at most.
_LAST_WORDS = 5.0
#: Milliseconds: twelve days, and libzmq adds up to as many.
_NEVER = 2**30
#: Milliseconds that close() waits for the last command to leave.
_LINGER = 500
_HIGH_WATER = 10_000


class Listener(Protocol):
    """Gets what nobody asked for.  Called by the I/O thread: must not block."""

    def on_events(self, events: Iterable[Event]) -> None: ...

    def on_missed(self, first: int, last: int) -> None: ...

    def on_lost(self, error: SipherdError) -> None:
        """The connection is over; called once, also after close()."""


def _ignore(result: Result) -> None:
    """What is done with a result unless somebody cares."""


@dataclass(slots=True, eq=False)
class Request:
    """One command that was sent, and its end."""

    id: int
    body: ClientRequest
    timeout: float | None
    awaited: str
    on_result: Callable[[Result], None]
    """Called by the I/O thread before it reads on: what comes after the reply finds it done."""
    on_orphan: Callable[[Result], None]
    """Called with a result for which nobody waits any more."""
    future: Future[Result] = field(default_factory=Future)


class Connection:
    """A client of the herd `herd`: of this machine, its sockets in `where`, or of another one.

    Raises:
        HerdNotRunning: nobody serves this herd's control socket.
        RuntimeDirectoryError: the socket's path is too long, or not for us to use.
        KeysError: the key for a herd of another machine can't be used.
        KeyRefused: that herd does not let us in.
    """

    def __init__(self, herd: str, where: Path | Remote, listener: Listener | None = None) -> None:
        self._way: Way = RemoteWay(where) if isinstance(where, Remote) else LocalWay(herd, where)
        self.is_remote = isinstance(where, Remote)
        self.clock_ahead = 0.0
        """Seconds that the supervisor's monotonic clock is ahead of ours."""
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._listener = listener
        self._ids = itertools.count(1)
        self._lock = threading.Lock()  # guards the four below
        self._outbox: deque[Request] = deque()
        self._pending: dict[int, Request] = {}
        self._closing = False
        self._over: SipherdError | None = None
        self._sent = 0
        self._context = zmq.Context(1)
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.set(zmq.MAXMSGSIZE, MAX_MESSAGE)
        self._socket.set(zmq.SNDHWM, _HIGH_WATER)
        self._socket.set(zmq.RCVHWM, _HIGH_WATER)
        self._socket.set(zmq.LINGER, _LINGER)
        # A new connection would be another client to the supervisor, without our calls.  Not by -1:
        # with that libzmq throws away what came before the end of the connection and is not read.
        self._socket.set(zmq.RECONNECT_IVL, _NEVER)
        # Told of the connection's end, which comes behind the last message, or that there is none.
        self._monitor = self._socket.get_monitor_socket(self._way.events)
        self._is_cut = False  # the I/O thread's: nothing that is sent would arrive
        try:
            self._way.connect(self._socket, self._monitor)
        except BaseException:
            self._close_sockets(0)
            self._release()
            raise
        # A daemon: at the interpreter's exit, threads are joined before anybody can call close().
        self._thread = threading.Thread(target=self._run, name=f"sipherd-{herd}", daemon=True)
        self._thread.start()
        if isinstance(where, Remote):
            try:
                self._get_to_know(where)
            except BaseException:
                self.close()
                raise

    def _get_to_know(self, remote: Remote) -> None:
        asked = time.monotonic()
        info = self.request(GetHerd(), awaited=f"an answer of the herd at {remote.endpoint}")
        assert isinstance(info, HerdInfo)
        if remote.herd not in (None, info.herd):
            raise HerdNotRunning(
                f'the herd at {remote.endpoint} is "{info.herd}", not "{remote.herd}"'
            )
        self._way.herd, self._way.pid = info.herd, info.pid
        self.clock_ahead = info.clock - (asked + time.monotonic()) / 2

    @property
    def herd(self) -> str:
        """The herd's name."""
        return self._way.herd

    @property
    def supervisor_pid(self) -> int:
        """Process id of the supervisor, on its machine."""
        return self._way.pid

    # -- for any thread --------------------------------------------------------------------------

    def submit(
        self,
        body: ClientRequest,
        timeout: float | None = REPLY_TIMEOUT,
        *,
        awaited: str = "",
        on_result: Callable[[Result], None] = _ignore,
        on_orphan: Callable[[Result], None] = _ignore,
    ) -> Request:
        """Send a command and don't wait.  `timeout` (seconds) is its deadline at the supervisor.

        Raises:
            HerdClosed, SupervisorDied: it can't be sent any more.
        """
        awaited = awaited or f"the supervisor's answer to {type(body).__name__}"
        request = Request(next(self._ids), body, timeout, awaited, on_result, on_orphan)
        with self._lock:
            if self._over or self._closing:
                raise self._why_over()
            self._pending[request.id] = request
            self._outbox.append(request)
            # Within the lock: close() must not have closed the descriptor.
            os.eventfd_write(self._wake, 1)
        return request

    def wait(self, request: Request) -> Result:
        """The command's result.

        Raises:
            PhoneNotFound, CallNotFound, CommandRefused: the supervisor refused it.
            TimedOut: its deadline passed.
            HerdClosed, SupervisorDied: nobody will answer.
        """
        patience = None if request.timeout is None else request.timeout + _GRACE
        try:
            return request.future.result(patience)
        except SipherdError:
            raise
        except TimeoutError:
            self._give_up(request)
            raise TimedOut(request.awaited, request.timeout or 0.0) from None
        except BaseException:  # Ctrl-C
            self._give_up(request)
            raise

    def request(
        self,
        body: ClientRequest,
        timeout: float | None = REPLY_TIMEOUT,
        *,
        awaited: str = "",
        on_result: Callable[[Result], None] = _ignore,
        on_orphan: Callable[[Result], None] = _ignore,
    ) -> Result:
        """Send a command and wait for its result; see `submit` and `wait`."""
        return self.wait(
            self.submit(body, timeout, awaited=awaited, on_result=on_result, on_orphan=on_orphan)
        )

    def wait_gone(self, timeout: float) -> bool:
        """Whether the supervisor's process is dead, now or within `timeout` seconds.

        One of another machine is when it has closed the connection, last thing of all.
        """
        with self._lock:
            if self._over or self._closing:
                return isinstance(self._over, SupervisorDied)
        self._thread.join(timeout)
        return isinstance(self._over, SupervisorDied)

    def close(self) -> None:
        """Leave the herd: as if this process had died.  Can be called more than once."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            os.eventfd_write(self._wake, 1)
        self._thread.join()
        self._release()

    def _release(self) -> None:
        self._context.term()
        self._way.close()
        os.close(self._wake)

    def _close_sockets(self, linger: int | None = None) -> None:
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(linger)

    def _give_up(self, request: Request) -> None:
        if not request.future.cancel() and request.future.exception() is None:
            request.on_orphan(request.future.result())  # it came after all, and too late

    def _why_over(self) -> SipherdError:
        # A new one for each who asks: an exception that is raised twice mixes up its tracebacks.
        # Who has left need not be told what became of the supervisor.
        if isinstance(self._over, SupervisorDied) and not self._closing:
            return self._way.lost()
        return HerdClosed(f'this side has left the herd "{self.herd}"')

    # -- the I/O thread --------------------------------------------------------------------------

    def _run(self) -> None:
        poller = zmq.Poller()
        end = self._way.end(self._monitor)
        for source in (self._socket, self._monitor, self._wake, end):
            poller.register(source, zmq.POLLIN)
        try:
            while True:
                ready = dict(poller.poll())
                if self._wake in ready:
                    os.eventfd_read(self._wake)
                    self._send_outbox()
                    if self._closing:
                        self._send(encode(Envelope(id=next(self._ids), body=Leave())))
                        break
                if self._socket in ready:
                    self._receive()
                if self._monitor in ready:
                    poller.unregister(self._monitor)
                    self._is_cut = True
                if end in ready:
                    self._hear_last_words()
                    break
        finally:
            self._finish()

    def _hear_last_words(self) -> None:
        """Read all that the supervisor had sent when it died.

        Its death may be known before libzmq's own thread has read the socket to its end.
        """
        deadline = time.monotonic() + _LAST_WORDS
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._monitor, zmq.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            ready = dict(poller.poll(int(left * 1000) + 1))
            # First: what is there when the end is known is all there will be.
            is_over = self._monitor in ready
            while self._socket.poll(0):
                self._receive()
            if is_over:
                return

    def _send_outbox(self) -> None:
        while True:
            with self._lock:
                if not self._outbox:
                    return
                request = self._outbox.popleft()
            data = self._encode(request)
            if len(data) > MAX_REQUEST:
                message = f"{len(data)} bytes in one command, at most {MAX_REQUEST}; split it"
                self._end(request.id, CommandRefused("too_big", message))
            elif not self._send(data):
                if self._way.is_ending(self._monitor):
                    return  # whoever waits is told so
                message = f"the supervisor of herd {self.herd} takes no commands, is it stopped?"
                self._end(request.id, CommandRefused("internal", message))

    def _encode(self, request: Request) -> bytes:
        seq = self._sent + 1
        return encode(Envelope(id=request.id, seq=seq, timeout=request.timeout, body=request.body))

    def _send(self, data: bytes) -> bool:
        if self._is_cut:
            return False
        self._sent += 1
        try:
            self._socket.send(data, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _receive(self) -> None:
        """Read what is there, but give the outbox its turn after a while."""
        for _ in range(100):
            try:
                data = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            # The supervisor's mistake is not ours to repair: what it belongs to times out.
            with contextlib.suppress(ProtocolError):
                self._handle(from_supervisor_to_client.decode(data))

    def _handle(self, message: Envelope[SupervisorToClient]) -> None:
        match message.body:
            case Events(events=events):
                if self._listener:
                    self._listener.on_events(events)
            case Missed(first=first, last=last):
                if self._listener:
                    self._listener.on_missed(first, last)
            case Done(result=result):
                self._end(message.reply_to, result)
            case Refused() as refused:
                self._end(message.reply_to, _error_of(refused))
            case Expired():
                self._end(message.reply_to, None, expired=True)

    def _end(self, id: int, result: Result | SipherdError, *, expired: bool = False) -> None:
        with self._lock:
            request = self._pending.pop(id, None)
        if request is None:
            return
        if expired:
            result = TimedOut(request.awaited, request.timeout or 0.0)
        if not isinstance(result, SipherdError):
            request.on_result(result)
        if not request.future.set_running_or_notify_cancel():
            if not isinstance(result, SipherdError):
                request.on_orphan(result)
        elif isinstance(result, SipherdError):
            request.future.set_exception(result)
        else:
            request.future.set_result(result)

    def _finish(self) -> None:
        with self._lock:
            if self._closing:
                self._over = HerdClosed()
            else:
                self._over = self._way.lost()
            if self._is_cut or not self._closing:
                self._socket.set(zmq.LINGER, 0)
            pending = list(self._pending)
        self._close_sockets()
        for id in pending:
            self._end(id, self._why_over())
        if self._listener:
            self._listener.on_lost(self._why_over())


def _error_of(refused: Refused) -> SipherdError:
    match refused.reason:
        case "no_such_phone":
            return PhoneNotFound(refused.wanted, refused.near)
        case "no_such_call":
            return CallNotFound(refused.wanted, refused.near)
    return CommandRefused(refused.reason, refused.message)
