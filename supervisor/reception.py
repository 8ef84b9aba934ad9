"""The control socket: who becomes a client, what clients ask for, and the way back to them."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

from ..protocol.codec import encode, from_client
from ..protocol.errors import ProtocolError
from ..protocol.messages import Envelope, Leave, Refused
from . import effects
from .clients import Client, Clients, NotAdmitted
from .effects import Input
from .log import Log
from .poller import Poller, Turn
from .routers import Delivery, Router

__all__ = ["Reception"]

BATCH = 100
"""Messages in one pass at the most, so that the others get their turn."""


class Reception:
    """Clients' messages to the core, and its replies to clients.

    ``counts`` gets ``client_garbage`` and ``clients_refused``; ``feed`` takes inputs for the core.
    """

    def __init__(
        self,
        socket: Router,
        *,
        poller: Poller,
        log: Log,
        counts: Counter[str],
        feed: Callable[[Input], None],
    ) -> None:
        self._socket = socket
        self._poller = poller
        self._log = log
        self._counts = counts
        self._feed = feed
        self._clients = Clients()
        self._ids = itertools.count(1)
        poller.add_wake(socket.fd)

    def __len__(self) -> int:
        return len(self._clients)

    def has_input(self) -> bool:
        """Whether ``receive`` has something to do; the loop must not sleep then."""
        return self._socket.has_input()

    def receive(self) -> None:
        """Hand on the messages that are there, up to a batch."""
        for route, frame in self._socket.receive(BATCH):
            try:
                if frame is None:
                    raise ProtocolError("a message has one frame")
                message = from_client.decode(frame.bytes)
                if message.id <= 0:
                    raise ProtocolError("a request has an id above 0")
            except ProtocolError as error:
                self._counts["client_garbage"] += 1
                self._log.write("warning", "client_garbage", error=str(error))
                continue
            client = self._clients.get(route)
            if isinstance(message.body, Leave):
                if client is not None:
                    self._gone(client)
                continue
            if client is None:
                try:
                    client = self._clients.admit(route, frame)
                except NotAdmitted as error:
                    self._turn_away(route, message.id, error)
                    continue
                on_dead = functools.partial(self._gone, client)
                self._poller.add(client.pidfd, Turn.OTHERS, on_dead)
            self._feed(effects.FromClient(route, message))

    def _turn_away(self, route: bytes, request: int, error: NotAdmitted) -> None:
        self._counts["clients_refused"] += 1
        self._log.write("warning", "client_refused", why=str(error))
        if error.may_know:
            body = Refused(reason="too_many_clients", message=str(error))
            self._socket.send(
                route, encode(Envelope(id=next(self._ids), reply_to=request, seq=1, body=body))
            )

    def send(self, route: bytes, body: Any, reply_to: int = 0) -> Delivery:
        """A message to a client.  Never blocks."""
        client = self._clients.get(route)
        if client is None:
            return Delivery.GONE
        data = encode(
            Envelope(id=next(self._ids), reply_to=reply_to, seq=client.seq + 1, body=body)
        )
        delivery = self._socket.send(route, data)
        if delivery is Delivery.SENT:
            client.seq += 1
        elif reply_to:
            self._counts["undeliverable"] += 1
            name = type(body).__name__
            self._log.write(
                "warning", "undeliverable", message=name, why=delivery.value, client=client.pid
            )
        return delivery

    def dismiss(self, route: bytes) -> bool:
        """Whether there was a client of this route; it is none any longer."""
        client = self._clients.get(route)
        if client is None:
            return False
        self._gone(client)
        return True

    def _gone(self, client: Client) -> None:
        self._poller.remove(client.pidfd)
        self._clients.remove(client)
        self._feed(effects.ClientGone(client.route))

    def close(self) -> None:
        """Serve no longer."""
        for client in self._clients:
            self._clients.remove(client)
        self._socket.close()
