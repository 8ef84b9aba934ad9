"""A lossy link between two parties on this box: a UDP relay, for SIP and for RTP.

Each party gets a second address. What is sent to the second address of one of them reaches it at
the same port, and comes from the same port of the sender's second address, so that replies take the
same way back. A phone shows its second address in Via, Contact and SDP by ``advertise``; a server
by means of its own.
"""

from __future__ import annotations

import heapq
import itertools
import random
import re
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Literal, NamedTuple

from peers.sipp import loopback_address

__all__ = ["Datagram", "Relay"]

Side = Literal["left", "right"]

_CALL_ID = re.compile(rb"^(?:Call-ID|i)[ \t]*:[ \t]*(\S+)", re.MULTILINE | re.IGNORECASE)
_OTHER: dict[Side, Side] = {"left": "right", "right": "left"}


class Datagram(NamedTuple):
    """What the relay has to decide about."""

    to: Side
    port: int
    """Where it goes."""
    data: bytes


class Relay:
    """Relays between the addresses `left` and `right`.

    The fate of a datagram hangs on the seed, on its call (Call-ID; for RTP its ports), and on how
    many of that call went the same way before it, and not on how several calls mix: a run with the
    same calls loses the same messages.

    Args:
        left: address of one party, or of several on different ports.
        right: address of the other.
        ports: at which both can be reached; `open` adds more.
        loss: share that is lost, each way.
        delay: seconds, from and to.
        seed: of both.
        drop: says of a datagram whether it is lost, before `loss` has a say. Called by the relay's
            thread.
    """

    def __init__(
        self,
        left: str,
        right: str,
        ports: Iterable[int],
        *,
        loss: float = 0.0,
        delay: tuple[float, float] = (0.0, 0.0),
        seed: int = 1,
        drop: Callable[[Datagram], bool] | None = None,
    ) -> None:
        self.behind_left, self.behind_right = left, right
        self._address: dict[Side, str] = {"left": left, "right": right}
        self._seen_as: dict[Side, str] = {"left": loopback_address(), "right": loopback_address()}
        self._loss, self._delay, self._seed, self._drop = loss, delay, seed, drop
        self.passed: Counter[Side] = Counter()
        """Datagrams that went on, by the side they went to."""
        self.lost: Counter[Side] = Counter()
        self._flows: dict[tuple[Side, object], random.Random] = {}
        self._numbers: dict[object, int] = {}
        self._sockets: dict[tuple[Side, int], socket.socket] = {}
        self._waiting: list[tuple[float, int, Datagram, int]] = []
        self._serial = itertools.count()
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._wake, woken = socket.socketpair()
        self._selector.register(woken, selectors.EVENT_READ)
        self._woken = woken
        self._error: Exception | None = None
        self.open(*ports)
        self._thread = threading.Thread(target=self._run, name="relay")
        self._thread.start()

    @property
    def left(self) -> str:
        """The second address of the left party: where the right one reaches it."""
        return self._seen_as["left"]

    @property
    def right(self) -> str:
        """The second address of the right party."""
        return self._seen_as["right"]

    def open(self, *ports: int) -> None:
        """Let both sides be reached at these ports, too."""
        for port in ports:
            self._socket("left", port)
            self._socket("right", port)

    def _socket(self, side: Side, port: int) -> socket.socket:
        """The socket that stands for this port of this side."""
        with self._lock:
            if (side, port) not in self._sockets:
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                self._sockets[side, port] = sock
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
                sock.bind((self._seen_as[side], port))
                self._selector.register(sock, selectors.EVENT_READ, (side, port))
            return self._sockets[side, port]

    def _run(self) -> None:
        try:
            while self._step():
                pass
        except Exception as error:
            self._error = error

    def _step(self) -> bool:
        """Wait for the next datagram, or until one is due. False: this is the end."""
        timeout = None
        if self._waiting:
            timeout = max(0.0, self._waiting[0][0] - time.monotonic())
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                return False
            self._receive(*key.data)
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            _, _, datagram, source = heapq.heappop(self._waiting)
            self._send(datagram, source)
        return True

    def _receive(self, side: Side, port: int) -> None:
        sock = self._socket(side, port)
        while True:
            try:
                data, source = sock.recvfrom(65536)
            except BlockingIOError:
                return
            if source[0] != self._address[_OTHER[side]]:
                continue
            datagram = Datagram(side, port, data)
            fate = self._flow(datagram, source[1])
            # Both are drawn in any case: what one call has lost must not move the others' delays.
            is_lost, wait = fate.random() < self._loss, fate.uniform(*self._delay)
            if is_lost or (self._drop is not None and self._drop(datagram)):
                self.lost[side] += 1
            elif wait == 0:
                self._send(datagram, source[1])
            else:
                due = time.monotonic() + wait
                heapq.heappush(self._waiting, (due, next(self._serial), datagram, source[1]))

    def _flow(self, datagram: Datagram, source: int) -> random.Random:
        match = _CALL_ID.search(datagram.data)
        call: object = match[1] if match else frozenset((source, datagram.port))
        if (datagram.to, call) not in self._flows:
            number = self._numbers.setdefault(call, len(self._numbers))
            seed = f"{self._seed} {datagram.to} {number}"
            self._flows[datagram.to, call] = random.Random(seed)
        return self._flows[datagram.to, call]

    def _send(self, datagram: Datagram, source: int) -> None:
        self.passed[datagram.to] += 1
        sock = self._socket(_OTHER[datagram.to], source)
        sock.sendto(datagram.data, (self._address[datagram.to], datagram.port))

    def close(self) -> None:
        """End it. What waits is lost.

        Raises:
            Exception: what `drop` raised.
        """
        self._wake.send(b"x")
        self._thread.join()
        self._selector.close()
        for sock in [self._wake, self._woken, *self._sockets.values()]:
            sock.close()
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
