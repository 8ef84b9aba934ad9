"""A ZeroMQ ROUTER that never blocks.

Its descriptor is edge-triggered in spirit: sending and receiving can both swallow the edge, so
whoever polls it must ask ``has_input`` last thing before it sleeps.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import zmq

from ..protocol.codec import MAX_MESSAGE

__all__ = ["HIGH_WATER", "LINGER", "Delivery", "FileRouter", "Router"]

LINGER = 500
"""Milliseconds that the last messages get to leave when the socket is closed."""
HIGH_WATER = 500
"""Messages that wait for each peer, and from each."""


class Delivery(enum.Enum):
    """What became of a message."""

    SENT = "sent"
    FULL = "queue full"
    """The peer reads too slowly."""
    GONE = "peer gone"


class Router:
    """Serves a ZeroMQ ``endpoint``; ``prepare`` sees the socket before it is bound.

    Raises OSError.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        *,
        max_message: int = MAX_MESSAGE,
        high_water: int = HIGH_WATER,
        prepare: Callable[[zmq.Socket[bytes]], None] | None = None,
    ) -> None:
        self._socket = context.socket(zmq.ROUTER)
        try:
            # A message for nobody is an error to be counted, not silence.
            self._socket.set(zmq.ROUTER_MANDATORY, 1)
            self._socket.set(zmq.SNDHWM, high_water)
            self._socket.set(zmq.RCVHWM, high_water)
            self._socket.set(zmq.LINGER, LINGER)
            self._socket.set(zmq.MAXMSGSIZE, max_message)
            if prepare is not None:
                prepare(self._socket)
            self._socket.bind(endpoint)
        except BaseException as error:
            self._socket.close(0)
            if isinstance(error, zmq.ZMQError):
                raise OSError(error.errno, error.strerror, endpoint) from None
            raise
        self.fd = cast(int, self._socket.get(zmq.FD))
        self.endpoint = cast(bytes, self._socket.get(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()

    def receive(self, limit: int) -> Iterator[tuple[bytes, zmq.Frame | None]]:
        """Up to ``limit`` messages that are there: who sent it, and its one frame.

        None instead of the frame: there was not exactly one.
        """
        receive = self._socket.recv
        for _ in range(limit):
            try:
                route = receive(zmq.NOBLOCK)
            except zmq.Again:
                return
            frame = receive(zmq.NOBLOCK, copy=False)
            if not frame.more:
                yield route, frame
                continue
            more = True
            while more:
                more = receive(zmq.NOBLOCK, copy=False).more
            yield route, None

    def has_input(self) -> bool:
        """Whether ``receive`` would yield."""
        return bool(cast(int, self._socket.get(zmq.EVENTS)) & zmq.POLLIN)

    def send(self, route: bytes, data: bytes) -> Delivery:
        """Never blocks."""
        try:
            self._socket.send(route, zmq.SNDMORE | zmq.NOBLOCK)
            self._socket.send(data, zmq.NOBLOCK)
        except zmq.Again:
            return Delivery.FULL
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return Delivery.GONE
        return Delivery.SENT

    def close(self) -> None:
        """Serve no longer; the context's ``term`` waits for what is still to leave."""
        self._socket.close()


class FileRouter(Router):
    """Serves the socket file ``path``, for this user alone."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        path: Path,
        *,
        max_message: int = MAX_MESSAGE,
    ) -> None:
        path.unlink(missing_ok=True)  # of a herd that was killed; the lock says that it is gone
        self._path = path
        super().__init__(context, f"ipc://{path}", max_message=max_message)
        try:
            path.chmod(0o600)
        except BaseException:
            self._socket.close(0)
            raise

    def close(self) -> None:
        super().close()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
