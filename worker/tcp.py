"""The TCP connections of one phone: accepted by its listener, or opened to where a message goes.

Nothing in here blocks.  Messages that wait for a connection, or for room in it, are queued up to a
limit; what can't be delivered is told.  Whatever happens to one connection concerns no other.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from ..protocol.spec import is_wildcard
from .sip.framing import PING, PONG, Framer
from .stack import Address, Hop

__all__ = ["CONNECT_LIMIT", "IDLE_LIMIT", "MAX_ACCEPTED", "MAX_WAITING", "STUCK_LIMIT", "Tcp"]

CONNECT_LIMIT = 8.0
"""Seconds for a connection to come about; then nobody is there."""
STUCK_LIMIT = 32.0
"""Seconds without progress in the middle of a message, or before the first one: 64*T1."""
IDLE_LIMIT = 900.0
"""Seconds without a message after which a connection is closed; the next message opens another."""
MAX_WAITING = 256 * 1024
"""Bytes that wait in one connection whose peer does not read."""
MAX_ACCEPTED = 128
"""Accepted connections at the same time; one more closes the one that was silent longest."""

_CHUNK = 65536
_ROUND = 16
"""Connections accepted at a time, so that all else gets its turn."""
_PAUSE = 1.0
"""Seconds without accepting when the process has no descriptor left."""
_UNANSWERED = 32
"""Requests of one connection that are remembered until something comes back on it."""

_IP_BIND_ADDRESS_NO_PORT = 24  # <linux/in.h>
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@dataclass(slots=True, eq=False)
class _Item:
    """One message on its way."""

    data: bytes
    hop: Hop
    address: Address
    again: bool = False
    """It was sent before, on a connection that then turned out to be dead."""


class _Connection:
    """One connection, from connect or accept to close."""

    def __init__(self, number: int, sock: socket.socket, peer: Address, *, accepted: bool) -> None:
        self.number = number
        self.sock = sock
        self.fd = sock.fileno()
        self.peer = peer
        self.accepted = accepted
        self.connecting = not accepted
        self.framer = Framer()
        self.waiting: deque[_Item] = deque()
        self.sent = 0
        """Bytes of the first waiting message that are out."""
        self.size = 0
        """Bytes of all waiting messages."""
        self.unanswered: deque[_Item] = deque(maxlen=_UNANSWERED)
        """Requests that are out, since something last came back."""
        self.heard = False
        """A message came on it."""
        self.deadline = 0.0
        self.last = 0.0


class Tcp:
    """All connections of one phone.

    ``received(data, source)`` gets each message; ``lost(data, hop, address)`` each one of ours
    that could not be delivered, but never from within `send`.  ``exhausted()``: a connection could
    not be had for want of a descriptor.  ``counts`` gets ``tcp_accepted``,
    ``tcp_opened``, ``tcp_refused``, ``tcp_bad_stream``, ``tcp_cut_short``, ``tcp_overflow``,
    ``tcp_idle``, ``tcp_evicted``.
    """

    def __init__(
        self,
        listener_fd: int,
        *,
        epoll: select.epoll,
        counts: Counter[str],
        received: Callable[[bytes, Hop], None],
        lost: Callable[[bytes, Hop, Address], None],
        exhausted: Callable[[], None] = lambda: None,
        clock: Callable[[], float],
    ) -> None:
        self._listener = socket.socket(fileno=listener_fd)
        self._listener.setblocking(False)
        self._family = self._listener.family
        self._host: str = self._listener.getsockname()[0]
        self._epoll = epoll
        self._counts = counts
        self._received = received
        self._lost = lost
        self._exhausted = exhausted
        self._clock = clock
        self._by_fd: dict[int, _Connection] = {}
        self._by_number: dict[int, _Connection] = {}
        self._by_peer: dict[Address, _Connection] = {}
        self._number = 0
        self._check_at: float | None = None
        """When a deadline may be over: no later than the first one."""
        self._accepting = True
        epoll.register(listener_fd, select.EPOLLIN)

    def __len__(self) -> int:
        return len(self._by_fd)

    def owns(self, fd: int) -> bool:
        """Whether an event of this descriptor is for `ready`."""
        return fd in self._by_fd or fd == self._listener.fileno()

    # Sending

    def send(self, data: bytes, hop: Hop, address: Address) -> bool:
        """Send on the connection of ``hop``, else on one that leads to ``address``, else open one.

        False: nobody can be reached there.  True promises nothing: ``lost`` may follow.
        """
        return self._dispatch(_Item(data, hop, address))

    def _dispatch(self, item: _Item) -> bool:
        connection = self._by_number.get(item.hop.connection) or self._by_peer.get(item.address)
        if connection is None:
            connection = self._open(item.address)
            if connection is None:
                self._counts["sip_send_failed"] += 1
                return False
        self._put(connection, item)
        return True

    def _open(self, address: Address) -> _Connection | None:
        try:
            sock = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError:
            self._exhausted()
            return None
        try:
            if not is_wildcard(self._host):
                # The kernel picks the port once it knows the peer, so that many can share one.
                sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
                sock.bind((self._host, 0))
            sock.connect(address)
        except BlockingIOError:
            pass
        except (OSError, OverflowError):  # no route; no such port
            sock.close()
            return None
        self._counts["tcp_opened"] += 1
        return self._add(sock, address, accepted=False)

    def _put(self, connection: _Connection, item: _Item) -> None:
        connection.waiting.append(item)
        connection.size += len(item.data)
        if connection.connecting:
            return
        if len(connection.waiting) == 1:
            # What fails here is seen by the poll loop as well, and dealt with there.
            with contextlib.suppress(OSError):
                self._write(connection)
        if connection.waiting:
            self._watch(connection)

    def _write(self, connection: _Connection) -> None:
        """Write what there is room for.  Raises OSError."""
        while connection.waiting:
            item = connection.waiting[0]
            try:
                count = connection.sock.send(memoryview(item.data)[connection.sent :])
            except BlockingIOError:
                return
            connection.sent += count
            self._touch(connection)
            if connection.sent == len(item.data):
                connection.waiting.popleft()
                connection.size -= connection.sent
                connection.sent = 0
                if _awaits_an_answer(item.data):
                    connection.unanswered.append(item)

    # Events

    def ready(self, fd: int, events: int) -> None:
        """epoll has something for this descriptor."""
        if fd == self._listener.fileno():
            self._accept()
            return
        connection = self._by_fd[fd]
        if connection.connecting and not self._is_connected(connection):
            return
        if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            self._read(connection)
        if events & select.EPOLLOUT and self._by_fd.get(fd) is connection:
            try:
                self._write(connection)
            except OSError:
                self._end(connection)
                return
            self._watch(connection)

    def _is_connected(self, connection: _Connection) -> bool:
        if connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._counts["tcp_refused"] += 1
            self._end(connection)
            return False
        connection.connecting = False
        self._touch(connection)
        return True

    def _accept(self) -> None:
        for _ in range(_ROUND):
            try:
                sock, peer = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._pause()
                    return
                continue  # that one is gone again
            sock.setblocking(False)
            accepted = [c for c in self._by_fd.values() if c.accepted]
            if len(accepted) >= MAX_ACCEPTED:
                self._counts["tcp_evicted"] += 1
                self._end(min(accepted, key=lambda c: (c.heard, c.last)))
            self._counts["tcp_accepted"] += 1
            self._add(sock, (peer[0], peer[1]), accepted=True)

    def _pause(self) -> None:
        """The waiting connection would keep the loop awake, and can't be had."""
        if self._accepting:
            self._accepting = False
            self._exhausted()
            self._epoll.unregister(self._listener.fileno())
            self._check_by(self._clock() + _PAUSE)

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            if connection.framer.partial:
                self._counts["tcp_cut_short"] += 1
            self._end(connection)
            return
        source = Hop(*connection.peer, "tcp", connection.number)
        for message in connection.framer.feed(data):
            if message == PING:
                self._put(connection, _Item(PONG, source, connection.peer))
                continue
            connection.heard = True
            connection.unanswered.clear()
            self._received(message, source)
        self._touch(connection)
        if connection.framer.fault:
            self._counts["tcp_bad_stream"] += 1
            self._end(connection)
        elif connection.size > MAX_WAITING:
            self._counts["tcp_overflow"] += 1
            self._end(connection)

    # Time

    def next_deadline(self) -> float | None:
        """When `tick` is wanted next, or None."""
        return self._check_at

    def tick(self) -> None:
        """Close what got nowhere, or was idle for too long."""
        now = self._clock()
        if self._check_at is None or now < self._check_at:
            return
        self._check_at = None
        if not self._accepting:
            self._accepting = True
            self._epoll.register(self._listener.fileno(), select.EPOLLIN)
        for connection in list(self._by_fd.values()):
            if connection.size > MAX_WAITING:
                self._counts["tcp_overflow"] += 1
            elif connection.deadline > now:
                self._check_by(connection.deadline)
                continue
            elif connection.connecting:
                self._counts["tcp_refused"] += 1
            else:
                self._counts["tcp_idle"] += 1
            self._end(connection)

    def _touch(self, connection: _Connection) -> None:
        """Something moved: count the time from now on."""
        connection.last = self._clock()
        silent = connection.accepted and not connection.heard
        if connection.connecting:
            limit = CONNECT_LIMIT
        elif silent or connection.waiting or connection.framer.partial:
            limit = STUCK_LIMIT
        else:
            limit = IDLE_LIMIT
        connection.deadline = connection.last + limit
        self._check_by(connection.deadline)

    def _check_by(self, when: float) -> None:
        self._check_at = when if self._check_at is None else min(self._check_at, when)

    # Begin and end of a connection

    def _add(self, sock: socket.socket, peer: Address, *, accepted: bool) -> _Connection:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A peer that vanished is noticed, also while we have nothing to say.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(STUCK_LIMIT * 1000))
        self._number += 1
        connection = _Connection(self._number, sock, peer, accepted=accepted)
        self._by_fd[connection.fd] = connection
        self._by_number[connection.number] = connection
        self._by_peer[peer] = connection
        self._epoll.register(connection.fd, select.EPOLLIN if accepted else select.EPOLLOUT)
        self._touch(connection)
        return connection

    def _watch(self, connection: _Connection) -> None:
        events = select.EPOLLIN | (select.EPOLLOUT if connection.waiting else 0)
        self._epoll.modify(connection.fd, events)
        if connection.size > MAX_WAITING:
            self._check_by(self._clock())  # ended by `tick`, and not in the midst of sending

    def _end(self, connection: _Connection) -> None:
        """Close it; what was on its way goes by another one, or is lost.

        A connection that served before may have been dead already when we wrote into it, and the
        peer has not seen what we wrote: that is sent once more.  Should the peer have it after
        all, it takes it for the copy that it is.
        """
        self._close(connection)
        items = [*connection.unanswered, *connection.waiting]
        for item in items:
            once_more = (connection.heard or connection.accepted) and not item.again
            if once_more and item.data != PONG:
                item.again = True
                if self._dispatch(item):
                    continue
            self._lost(item.data, item.hop, item.address)

    def _close(self, connection: _Connection) -> None:
        self._epoll.unregister(connection.fd)
        del self._by_fd[connection.fd], self._by_number[connection.number]
        if self._by_peer.get(connection.peer) is connection:
            del self._by_peer[connection.peer]
        connection.sock.close()

    def close(self) -> None:
        """Close everything.  What has been written still arrives."""
        for connection in list(self._by_fd.values()):
            self._close(connection)
        if self._accepting:
            self._epoll.unregister(self._listener.fileno())
        self._listener.close()


def _awaits_an_answer(data: bytes) -> bool:
    """A request other than ACK."""
    return not data.startswith((b"SIP/2.0 ", b"ACK ", PONG))
