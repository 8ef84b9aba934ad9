"""The control sockets: who becomes a client, what clients ask for, and the way back to them.

There is one for this machine, and may be one for others (``remote.py``).  ZeroMQ takes from all
connections of a socket in turn, so a client that floods is ahead of nobody else by more than a
message; how many it gets carried out, its token bucket says.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import zmq

from ..protocol.access import why_local_only
from ..protocol.codec import encode, from_client
from ..protocol.errors import ProtocolError
from ..protocol.messages import ClientMessage, Envelope, Leave, Refused
from . import effects
from .clients import RATE, Client, Clients, NotAdmitted
from .effects import Input
from .log import Log
from .pace import Sparse
from .poller import Poller, Turn
from .remote import RemoteDoor
from .routers import Delivery, Router

__all__ = ["Reception"]

BATCH = 100
"""Messages of each socket in one pass at the most, so that the others get their turn."""
PASS = 0.02
"""Seconds after which a pass ends, however many there are: workers come first in the next."""
BYTES_PER_TOKEN = 4096
"""A command costs its sender a token, and one more for so many bytes."""


class Reception:
    """Clients' messages to the core, and its replies to clients.

    ``counts`` gets ``client_garbage``, ``clients_refused``, ``clients_held_up`` (commands that came
    too fast) and ``undeliverable``; ``feed`` takes inputs for the core.
    """

    def __init__(
        self,
        socket: Router,
        remote: RemoteDoor | None,
        *,
        poller: Poller,
        log: Log,
        counts: Counter[str],
        feed: Callable[[Input], None],
    ) -> None:
        self._socket = socket
        self._remote = remote
        self._poller = poller
        self._log = log
        self._counts = counts
        self._feed = feed
        self._clients = Clients()
        self._ids = itertools.count(1)
        self._sparse: dict[str, Sparse] = {}
        """By log event."""
        for fd in (socket.fd, *(remote.fds if remote else ())):
            poller.add_wake(fd)

    def keys(self) -> tuple[str, ...]:
        """The clients, by the name of their key; empty for one of this machine."""
        return tuple(client.key for client in self._clients)

    def has_input(self) -> bool:
        """Whether ``receive`` has something to do; the loop must not sleep then."""
        return self._socket.has_input() or (self._remote is not None and self._remote.has_input())

    def deadline(self) -> float | None:
        """When ``receive`` is wanted next, whatever comes."""
        return self._remote.deadline() if self._remote else None

    def receive(self) -> None:
        """Hand on the messages that are there, up to a batch."""
        end = time.monotonic() + PASS
        for route, frame in self._socket.receive(BATCH):
            self._take(route, frame)
            if time.monotonic() > end:
                break
        if self._remote is None:
            return
        self._remote.look(time.monotonic())
        end = time.monotonic() + PASS
        for route, frame in self._remote.receive(BATCH):
            self._take_remote(self._remote, route, frame)
            if time.monotonic() > end:
                break
        self._dismiss_gone(self._remote)

    def _take(self, route: bytes, frame: zmq.Frame | None) -> None:
        message = self._decode(frame)
        if message is None or frame is None:
            return
        client = self._clients.get(route)
        if client is None and not isinstance(message.body, Leave):
            try:
                client = self._clients.admit(route, frame)
            except NotAdmitted as error:
                self._turn_away(self._socket, route, message.id, error)
                return
            self._poller.add(client.pidfd, Turn.OTHERS, functools.partial(self._gone, client))
        if client is not None:
            self._hand_on(client, message, len(frame))

    def _take_remote(self, remote: RemoteDoor, route: bytes, frame: zmq.Frame | None) -> None:
        message = self._decode(frame)
        if message is None or frame is None:
            return
        try:
            peer = remote.peer(route, frame)
        except NotAdmitted as error:
            self._turn_away(remote, route, message.id, error)
            return
        self._dismiss_gone(remote)
        ours = _route_of(route)
        client = self._clients.get(ours)
        if client is not None and client.peer is not peer:
            self._gone(client)  # a route can be chosen, and one that is free again be another's
            client = None
        if client is None and not isinstance(message.body, Leave):
            client = self._clients.admit_remote(ours, peer)
            self._tell("info", "remote_client", **client.who)
        if client is not None:
            self._hand_on(client, message, len(frame))

    def _decode(self, frame: zmq.Frame | None) -> Envelope[ClientMessage] | None:
        try:
            if frame is None:
                raise ProtocolError("a message has one frame")
            message = from_client.decode(frame.bytes)
            if message.id <= 0:
                raise ProtocolError("a request has an id above 0")
        except ProtocolError as error:
            self._counts["client_garbage"] += 1
            self._warn("client_garbage", error=str(error))
            return None
        return message

    def _hand_on(self, client: Client, message: Envelope[ClientMessage], size: int) -> None:
        if isinstance(message.body, Leave):
            self._gone(client)
            return
        refusal = None
        if not client.bucket.take(1 + size / BYTES_PER_TOKEN, time.monotonic()):
            self._counts["clients_held_up"] += 1
            self._warn("client_too_fast", **client.who)
            refusal = Refused(
                reason="too_fast",
                message=f"this client sends more than {RATE:g} commands a second; wait a moment",
            )
        elif client.peer is not None and (why := why_local_only(message.body)):
            refusal = Refused(reason="local_only", message=why)
        self._feed(effects.FromClient(client.route, message, refusal))

    def _turn_away(
        self, door: Router | RemoteDoor, route: bytes, request: int, error: NotAdmitted
    ) -> None:
        self._counts["clients_refused"] += 1
        self._warn("client_refused", why=str(error))
        if error.may_know:
            body = Refused(reason="too_many_clients", message=str(error))
            door.send(
                route, encode(Envelope(id=next(self._ids), reply_to=request, seq=1, body=body))
            )

    def send(self, route: bytes, body: Any, reply_to: int = 0) -> Delivery:
        """A message to a client.  Never blocks.

        That one who is dead does not get it is no news: a phone's behaviour dies with the phone,
        and what it waited for is refused for that reason.
        """
        client = self._clients.get(route)
        if client is None:
            return Delivery.GONE
        door = self._socket if client.peer is None else self._remote
        assert door is not None
        data = encode(
            Envelope(id=next(self._ids), reply_to=reply_to, seq=client.seq + 1, body=body)
        )
        delivery = door.send(client.socket_route, data)
        if delivery is Delivery.SENT:
            client.seq += 1
        elif reply_to and not client.is_dead():
            self._counts["undeliverable"] += 1
            name = type(body).__name__
            self._warn("undeliverable", message=name, why=delivery.value, **client.who)
        return delivery

    def dismiss(self, route: bytes) -> bool:
        """Whether there was a client of this route; it is none any longer."""
        client = self._clients.get(route)
        if client is None:
            return False
        self._gone(client)
        return True

    def _dismiss_gone(self, remote: RemoteDoor) -> None:
        for peer in remote.take_gone():
            client = self._clients.get(_route_of(peer.route))
            if client is not None and client.peer is peer:
                self._gone(client)

    def _gone(self, client: Client) -> None:
        if client.peer is None:
            self._poller.remove(client.pidfd)
        else:
            self._tell("info", "remote_client_gone", **client.who)
        self._clients.remove(client)
        self._feed(effects.ClientGone(client.route))

    def _warn(self, event: str, **fields: str | int) -> None:
        self._tell("warning", event, **fields)

    def _tell(self, level: str, event: str, **fields: str | int) -> None:
        """A line in the log, unless there were too many of this kind."""
        more = self._sparse.setdefault(event, Sparse()).line(time.monotonic())
        if more is not None:
            self._log.write(level, event, **fields, **more)

    def close(self) -> None:
        """Serve no longer."""
        for client in self._clients:
            self._clients.remove(client)
        self._socket.close()
        if self._remote is not None:
            self._remote.close()


def _route_of(route: bytes) -> bytes:
    """A route at the other door, apart from those of this machine."""
    return b"tcp:" + route
