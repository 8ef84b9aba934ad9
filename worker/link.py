"""The worker's end of the connection to its supervisor: a ZeroMQ DEALER that never blocks.

What the supervisor must learn (events, replies, Drained) waits here when ZeroMQ's queue is full;
what is only nice to know (log lines, counters, SIP traces) is dropped then, and counted.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator

import zmq

from ..protocol.codec import MAX_MESSAGE, encode, from_supervisor_to_worker
from ..protocol.errors import ProtocolError
from ..protocol.events import SipTrace
from ..protocol.messages import (
    Counters,
    Envelope,
    Exit,
    Happened,
    LogLine,
    SupervisorToWorker,
    WorkerMessage,
)

__all__ = ["Link"]

_HIGH_WATER = 1000
"""Messages in ZeroMQ's own queue, each way."""
_BACKLOG = 4000
"""Messages that wait for a place in that queue: about 1 MB, and two thousand calls' events."""
# Plain numbers: with audio they are combined hundreds of times a second.
_IN, _OUT = int(zmq.POLLIN), int(zmq.POLLOUT)
_ROUND = 64
"""Messages taken at a time, so that SIP and timers get their turn."""


class Link:
    """Numbered messages to and from the supervisor.

    ``counts`` gets ``link_dropped`` (what was nice to know), ``link_lost`` (what was not),
    ``link_garbage``, ``link_foreign`` (for another phone or incarnation), ``link_gaps``.
    """

    def __init__(
        self,
        endpoint: str,
        phone: str,
        incarnation: int,
        counts: Counter[str],
        *,
        high_water: int = _HIGH_WATER,
        backlog: int = _BACKLOG,
    ) -> None:
        self._phone = phone
        self._incarnation = incarnation
        self._counts = counts
        self._limit = backlog
        self._backlog: deque[tuple[WorkerMessage, int]] = deque()
        self._sent = 0
        self._received = 0
        self._more = False
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.set(zmq.LINGER, 0)  # until `close` says how long
        self._socket.set(zmq.MAXMSGSIZE, MAX_MESSAGE)
        self._socket.set(zmq.SNDHWM, high_water)
        self._socket.set(zmq.RCVHWM, high_water)
        self._socket.connect(endpoint)
        self.fd = int(self._socket.get(zmq.FD))
        """Readable when the state of the socket may have changed.  It is edge-triggered: ask
        `wants_turn` before sleeping, and after each use of the socket."""

    def send(self, body: WorkerMessage, *, reply_to: int = 0) -> None:
        """Send, or keep for later, or drop what is not important.  Never blocks or raises."""
        if not self._flush() or not self._transmit(body, reply_to):
            self._keep(body, reply_to)

    def wants_turn(self) -> bool:
        """Whether `receive` has something to do; the loop must not sleep then."""
        if self._more:
            return True
        wanted = _IN | _OUT if self._backlog else _IN
        return bool(int(self._socket.get(zmq.EVENTS)) & wanted)

    def receive(self) -> Iterator[Envelope[SupervisorToWorker]]:
        """The messages that are there, at most a round of them."""
        self._flush()
        for _ in range(_ROUND):
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                self._more = False
                return
            message = self._accept(parts)
            if message is not None:
                yield message
        self._more = True

    def close(self, linger: float) -> None:
        """Let what was sent go out for at most ``linger`` seconds; then the socket is gone."""
        self._flush()
        self._socket.close(linger=round(linger * 1000))
        self._context.term()

    # Inside

    def _accept(self, parts: list[bytes]) -> Envelope[SupervisorToWorker] | None:
        try:
            if len(parts) != 1:
                raise ProtocolError(f"{len(parts)} parts")
            message = from_supervisor_to_worker.decode(parts[0])
        except ProtocolError:
            self._counts["link_garbage"] += 1
            return None
        # An Exit for a process that nobody awaits is addressed to nobody.
        if isinstance(message.body, Exit):
            return message
        if message.phone != self._phone or message.incarnation != self._incarnation:
            self._counts["link_foreign"] += 1
            return None
        if message.seq != self._received + 1:
            self._counts["link_gaps"] += 1
        self._received = message.seq
        return message

    def _transmit(self, body: WorkerMessage, reply_to: int) -> bool:
        number = self._sent + 1
        data = encode(
            Envelope(
                id=number,
                reply_to=reply_to,
                phone=self._phone,
                incarnation=self._incarnation,
                seq=number,
                body=body,
            )
        )
        try:
            self._socket.send(data, zmq.NOBLOCK)
        except zmq.Again:
            return False
        self._sent = number
        return True

    def _flush(self) -> bool:
        """Send what waits; True if nothing waits any more."""
        while self._backlog:
            if not self._transmit(*self._backlog[0]):
                return False
            self._backlog.popleft()
        return True

    def _keep(self, body: WorkerMessage, reply_to: int) -> None:
        if isinstance(body, (LogLine, Counters)) or (
            isinstance(body, Happened) and isinstance(body.body, SipTrace)
        ):
            self._counts["link_dropped"] += 1
            return
        if len(self._backlog) >= self._limit:
            # The oldest goes; the number it would have had goes with it, so that the supervisor
            # sees the gap.
            self._backlog.popleft()
            self._sent += 1
            self._counts["link_lost"] += 1
        self._backlog.append((body, reply_to))
