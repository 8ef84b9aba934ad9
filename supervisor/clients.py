"""Who may talk to the control sockets, and who has died.

A client of this machine is known by the kernel's word and watched by a pidfd; one of another
machine is known by its key, and is gone when its connection is (``remote.py``).
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import zmq

from .pace import Bucket

if TYPE_CHECKING:
    from .remote import Peer

__all__ = ["BURST", "LIMIT", "RATE", "Client", "Clients", "NotAdmitted"]

LIMIT = 500
"""Clients of this machine at the same time; each costs a descriptor."""
RATE, BURST = 2000.0, 4000.0
"""Commands a second that a client may send, and how many at once."""


class NotAdmitted(Exception):
    """This sender does not become a client; the message is for the log, and for itself.

    ``may_know``: it is one of us, and gets an answer.
    """

    def __init__(self, message: str, *, may_know: bool = False) -> None:
        super().__init__(message)
        self.may_know = may_know


@dataclass(slots=True, eq=False, kw_only=True)
class Client:
    """One connection of a process."""

    route: bytes
    """By which the core knows it."""
    socket_route: bytes
    """Its ZeroMQ routing id."""
    pid: int = 0
    pidfd: int = -1
    peer: Peer | None = None
    """The connection of one of another machine."""
    seq: int = 0
    """Messages sent to it."""
    bucket: Bucket = field(default_factory=lambda: Bucket(RATE, BURST))

    @property
    def key(self) -> str:
        """The name of its key; empty for one of this machine."""
        return self.peer.key if self.peer is not None else ""

    def is_dead(self) -> bool:
        """Its process is, though it may not have been dismissed yet."""
        if self.peer is not None:
            return False  # nobody knows
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    @property
    def who(self) -> dict[str, str | int]:
        """What a log line says of it."""
        if self.peer is None:
            return {"client": self.pid}
        return {"client": f"key {self.peer.key}", "address": self.peer.address}


class Clients:
    """The clients by routing id."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._by_route: dict[bytes, Client] = {}
        self._limit = limit

    def __len__(self) -> int:
        return len(self._by_route)

    def __iter__(self) -> Iterator[Client]:
        return iter(list(self._by_route.values()))

    def get(self, route: bytes) -> Client | None:
        return self._by_route.get(route)

    def admit(self, route: bytes, frame: zmq.Frame) -> Client:
        """Make a client of the sender of ``frame``, a message that was found good.

        Raises NotAdmitted.
        """
        uid, pid = _sender(frame)
        if uid not in (0, os.geteuid()):
            raise NotAdmitted(f"user {uid} is not the herd's")
        if sum(client.peer is None for client in self._by_route.values()) >= self._limit:
            raise NotAdmitted(
                f"the herd serves at most {self._limit} clients at once; end one of them",
                may_know=True,
            )
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            # Dead already, or of another pid namespace: nobody could tell when it dies.
            raise NotAdmitted(f"no process {pid} to watch: {error.strerror}") from None
        client = Client(route=route, socket_route=route, pid=pid, pidfd=pidfd)
        self._by_route[route] = client
        return client

    def admit_remote(self, route: bytes, peer: Peer) -> Client:
        """Make a client of somebody whose key is on the list."""
        client = Client(route=route, socket_route=peer.route, peer=peer)
        self._by_route[route] = client
        return client

    def remove(self, client: Client) -> None:
        """It died or left."""
        del self._by_route[client.route]
        if client.peer is None:
            os.close(client.pidfd)


def _sender(frame: zmq.Frame) -> tuple[int, int]:
    """User and process of the peer, which the kernel vouches for (SO_PEERCRED)."""
    try:
        # localhost:UID:GID:PID for an ipc:// connection.
        _, uid, _, pid = str(frame.get("Peer-Address")).split(":")
        return int(uid), int(pid)
    except (ValueError, zmq.ZMQError):
        raise NotAdmitted("the peer's user is not known") from None
