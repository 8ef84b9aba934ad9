"""Who may talk to the control socket, and who has died: one pidfd per client."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import zmq

__all__ = ["LIMIT", "Client", "Clients", "NotAdmitted"]

LIMIT = 500
"""Clients at the same time; each costs a descriptor."""


class NotAdmitted(Exception):
    """This sender does not become a client; the message is for the log, and for itself.

    ``may_know``: it is one of us, and gets an answer.
    """

    def __init__(self, message: str, *, may_know: bool = False) -> None:
        super().__init__(message)
        self.may_know = may_know


@dataclass(slots=True, eq=False)
class Client:
    """One connection of a process of ours."""

    route: bytes
    """Its ZeroMQ routing id, by which the core knows it, too."""
    pid: int
    pidfd: int
    seq: int = 0
    """Messages sent to it."""


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
        if len(self._by_route) >= self._limit:
            raise NotAdmitted(
                f"the herd serves at most {self._limit} clients at once; end one of them",
                may_know=True,
            )
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            # Dead already, or of another pid namespace: nobody could tell when it dies.
            raise NotAdmitted(f"no process {pid} to watch: {error.strerror}") from None
        client = self._by_route[route] = Client(route, pid, pidfd)
        return client

    def remove(self, client: Client) -> None:
        """It died or left."""
        del self._by_route[client.route]
        os.close(client.pidfd)


def _sender(frame: zmq.Frame) -> tuple[int, int]:
    """User and process of the peer, which the kernel vouches for (SO_PEERCRED)."""
    try:
        # localhost:UID:GID:PID for an ipc:// connection.
        _, uid, _, pid = str(frame.get("Peer-Address")).split(":")
        return int(uid), int(pid)
    except (ValueError, zmq.ZMQError):
        raise NotAdmitted("the peer's user is not known") from None
