"""Commands of clients: each is answered exactly once, and none runs twice.

A client numbers its commands.  One that is sent again while it runs changes nothing; one that was
answered lately is answered with the same reply.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from ..protocol.errors import CallNotFound, PhoneNotFound
from ..protocol.messages import ClientMessage, Done, Envelope, Expired, Refused, Result
from .effects import Effect, ToClient
from .timers import Timer, Timers

__all__ = ["ANSWERS_KEPT", "Request", "Requests"]

ANSWERS_KEPT = 32
"""Replies remembered for each client: it sends a command again within a few others, or never."""


@dataclass(slots=True, eq=False)
class Request:
    """A command that was not answered yet, until ``over``."""

    client: bytes
    id: int
    body: ClientMessage
    over: bool = False
    timer: Timer | None = None
    on_over: Callable[[], None] | None = None
    """Called once when it ends, however it ends."""


@dataclass(slots=True)
class _Client:
    last_seq: int = 0
    running: dict[int, Request] = field(default_factory=dict)
    answered: OrderedDict[int, Done | Refused | Expired] = field(default_factory=OrderedDict)


class Requests:
    """The commands of all clients."""

    def __init__(self, timers: Timers, effects: list[Effect]) -> None:
        self._timers = timers
        self._effects = effects
        self._clients: dict[bytes, _Client] = {}
        self.gaps = 0
        """Messages of clients that were lost on the way."""

    def open(self, client: bytes, message: Envelope[ClientMessage], now: float) -> Request | None:
        """A command to carry out, or None for one that is known already."""
        known = self._clients.setdefault(client, _Client())
        if message.seq > known.last_seq + 1:
            self.gaps += message.seq - known.last_seq - 1
        known.last_seq = max(known.last_seq, message.seq)
        if message.id in known.answered:
            self._effects.append(ToClient(client, known.answered[message.id], message.id))
            return None
        if message.id in known.running:
            return None
        request = Request(client, message.id, message.body)
        known.running[message.id] = request
        # A NaN would upset the order of all timers.
        if message.timeout is not None and math.isfinite(message.timeout):
            request.timer = self._timers.at(
                now + max(message.timeout, 0.0), lambda: self._end(request, Expired())
            )
        return request

    def done(self, request: Request, result: Result = None) -> None:
        """It was carried out."""
        self._end(request, Done(result=result))

    def refuse(self, request: Request, reason: str, message: str) -> None:
        """It was not, and changed nothing."""
        self._end(request, Refused(reason=reason, message=message))

    def not_found(self, request: Request, error: PhoneNotFound | CallNotFound) -> None:
        """It named something that is not there."""
        refused = Refused(
            reason=f"no_such_{error.kind}",
            message=str(error),
            wanted=error.wanted,
            near=error.near,
        )
        self._end(request, refused)

    def expire(self, request: Request) -> None:
        """Its client, or its deadline, gave it up."""
        self._end(request, Expired())

    def running(self, client: bytes, id: int) -> Request | None:
        """The command of this number, if it was not answered yet."""
        known = self._clients.get(client)
        return known.running.get(id) if known else None

    def drop_client(self, client: bytes) -> None:
        """Nobody reads the answers any more."""
        known = self._clients.pop(client, None)
        if known is not None:
            for request in known.running.values():
                self._close(request)

    def _end(self, request: Request, reply: Done | Refused | Expired) -> None:
        if request.over:
            return
        self._close(request)
        known = self._clients[request.client]
        del known.running[request.id]
        known.answered[request.id] = reply
        if len(known.answered) > ANSWERS_KEPT:
            known.answered.popitem(last=False)
        self._effects.append(ToClient(request.client, reply, request.id))

    @staticmethod
    def _close(request: Request) -> None:
        request.over = True
        if request.timer is not None:
            request.timer.cancel()
        if request.on_over is not None:
            request.on_over()
