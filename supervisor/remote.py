"""The way in for clients of other machines: a ROUTER on TCP that speaks CURVE and nothing else.

Its I/O thread is its own, so that handshakes and floods from the network leave the messages of
workers alone.  libzmq does not say which connection a ROUTER's peer has, nor can it end one.  But
each message tells its descriptor, and the socket's monitor every descriptor that comes and goes, in
order; so a connection's end is known, and one can be cut with shutdown(2).  Numbers of descriptors
are used again, and messages outlive their connection: a serial number, given when it is let in and
told by its messages, says which of those with one descriptor it is.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import zmq
from zmq.utils.monitor import parse_monitor_message

from ..protocol.codec import MAX_REQUEST
from ..protocol.errors import KeysError
from ..protocol.keys import KeyStore, keys_dir
from ..protocol.spec import bracketed, split_listen
from .clients import NotAdmitted
from .log import Log
from .pace import Sparse
from .routers import Delivery, Router
from .zap import DOMAIN, judge, read_user

__all__ = ["MAX_CONNECTIONS", "MAX_PEERS", "ListenError", "Peer", "RemoteDoor", "open_door"]

MAX_PEERS = 100
"""Connections that have said something."""
MAX_CONNECTIONS = 500
"""With those in their handshake; each costs a descriptor."""
CHECK = 0.4
"""Seconds between looks at the list of keys while anybody is connected."""
SILENCE = 10.0
"""Seconds within which a connection must have said something."""
HANDSHAKE = 5000
"""Milliseconds within which a client must have proved itself."""
HEARTBEAT, HEARTBEAT_TIMEOUT = 1500, 3000
"""Milliseconds: a peer is asked for a sign of life so often, and given up after so long."""
_HIGH_WATER = 200
"""Messages that wait for each peer, and from each: with MAX_REQUEST it bounds our memory."""

_ACCEPTED, _DISCONNECTED = int(zmq.EVENT_ACCEPTED), int(zmq.EVENT_DISCONNECTED)
_BAD_HANDSHAKES = {
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): "gave up, or took too long",
    # libzmq does not tell them apart: another mechanism, or our key is not the one it expects.
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL): "speaks no CURVE, or expects another server key",
}


@dataclass(frozen=True, slots=True, eq=False)
class Peer:
    """One connection that has said something, and whose key is on the list."""

    route: bytes
    fd: int
    serial: int
    public: str
    key: str
    """The name of its key."""
    address: str


@dataclass(slots=True, eq=False)
class _Connection:
    since: float
    first: int
    """It was not let in before this serial number."""
    is_cut: bool = False


class ListenError(Exception):
    """The socket for clients of other machines can't be bound; the message names the remedy."""


def open_door(listen: str, keys: Path | None, log: Log) -> RemoteDoor | None:
    """The way in for clients of other machines, if there is to be one.

    Raises ListenError and KeysError.
    """
    if not listen:
        return None
    try:
        return RemoteDoor(listen, KeyStore(keys_dir(keys, os.environ)), log)
    except OSError as error:
        raise ListenError(
            f"{listen}: {error.strerror}; name a free port of an address of this machine"
        ) from None


class RemoteDoor:
    """Serves ``listen`` (``tcp://HOST:PORT``) for those whose keys are in the store.

    Raises OSError if it can't be bound, and KeysError without a server key and a client's.
    """

    def __init__(self, listen: str, store: KeyStore, log: Log) -> None:
        server = store.server()
        self._store = store
        self._log = log
        self._stamp = store.stamp()
        self._keys = {key.public: key.name for key in store.allowed()}
        if not self._keys:
            raise KeysError(
                f"no client's key in {store.directory}; make one with: sipherd keys new NAME"
            )
        self._connections: dict[int, _Connection] = {}
        """All of them, by descriptor, the newest last."""
        self._peers: dict[int, Peer] = {}
        self._gone: list[Peer] = []
        self._serial = 0
        """Of the connection that was asked about last."""
        self._now = 0.0
        self._check_at = 0.0
        self._sparse = Sparse()
        self._context = zmq.Context(1)
        with contextlib.ExitStack() as on_error:
            on_error.callback(self._context.term)
            self._zap = self._context.socket(zmq.REP)
            on_error.callback(self._zap.close, 0)
            self._zap.set(zmq.LINGER, 0)
            self._zap.bind("inproc://zeromq.zap.01")

            def prepare(router: zmq.Socket[bytes]) -> None:
                router.set(zmq.CURVE_SERVER, 1)
                router.set(zmq.CURVE_SECRETKEY, server.secret.encode())
                router.set(zmq.ZAP_DOMAIN, DOMAIN)
                router.set(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without an answer from here nobody comes in
                router.set(zmq.HANDSHAKE_IVL, HANDSHAKE)
                router.set(zmq.HEARTBEAT_IVL, HEARTBEAT)
                router.set(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT)
                router.set(zmq.IPV6, int("[" in endpoint))
                events = _ACCEPTED | _DISCONNECTED | sum(_BAD_HANDSHAKES)
                self._monitor = router.get_monitor_socket(events)
                on_error.callback(self._monitor.close, 0)

            endpoint = _numeric(listen)
            self._router = Router(
                self._context,
                endpoint,
                max_message=MAX_REQUEST,
                high_water=_HIGH_WATER,
                prepare=prepare,
            )
            on_error.pop_all()
        self.endpoint = self._router.endpoint
        """With the port that was taken if 0 was asked for."""
        sockets = (self._zap, self._monitor)
        self.fds = (self._router.fd, *(cast(int, sock.get(zmq.FD)) for sock in sockets))
        """Edge-triggered: ask ``has_input`` before sleeping."""

    def has_input(self) -> bool:
        """Whether ``look`` or ``receive`` has something to do."""
        return self._router.has_input() or _is_readable(self._zap) or _is_readable(self._monitor)

    def deadline(self) -> float | None:
        """When ``look`` is wanted next."""
        return self._check_at if self._connections else None

    def look(self, now: float) -> None:
        """Let in who may come in, note who is gone, cut whose key was revoked."""
        self._now = now
        while _is_readable(self._zap):
            self._read_list()
            self._read_monitor()  # the connection that is asked about was accepted before
            self._serial += 1
            full = len(self._peers) >= MAX_PEERS
            verdict = judge(
                self._zap.recv_multipart(zmq.NOBLOCK), self._keys, serial=self._serial, full=full
            )
            self._zap.send_multipart(verdict.reply, zmq.NOBLOCK)
            if verdict.why:
                self._tell("remote_refused", address=verdict.address, why=verdict.why)
        self._read_monitor()
        excess = len(self._connections) - MAX_CONNECTIONS
        for fd in list(self._connections)[: -excess - 1 : -1] if excess > 0 else ():
            self._cut(fd)
            self._tell("remote_refused", why=f"more than {MAX_CONNECTIONS} connections")
        if self._connections and now >= self._check_at:
            self._check_at = now + CHECK
            self._check()

    def _check(self) -> None:
        """Cut those that are to be let in no longer, and those that say nothing."""
        self._read_list()
        for peer in list(self._peers.values()):
            if self._keys.get(peer.public) != peer.key:
                self._cut(peer.fd)
                self._lose(peer.fd)
                self._tell("remote_cut", key=peer.key, why="its key was revoked")
        for fd, connection in list(self._connections.items()):
            if fd not in self._peers and self._now > connection.since + SILENCE:
                self._cut(fd)

    def receive(self, limit: int) -> Iterator[tuple[bytes, zmq.Frame | None]]:
        """As ``Router.receive``."""
        return self._router.receive(limit)

    def peer(self, route: bytes, frame: zmq.Frame) -> Peer:
        """Whose message this is.  Raises NotAdmitted: it is none that counts."""
        try:
            # Both are set by this side for each connection, and by nobody else.
            fd = frame.get(zmq.SRCFD)
            public, serial = read_user(str(frame.get("User-Id")))
        except (zmq.ZMQError, ValueError):
            raise NotAdmitted("a message without the key it came by") from None
        known = self._peers.get(fd)
        if known is not None and known.serial == serial:
            return known
        self._read_monitor()
        connection = self._connections.get(fd)
        if connection is None or serial < connection.first:
            raise NotAdmitted("it is gone already")
        if public not in self._keys:
            self._cut(fd)
            raise NotAdmitted("its key was revoked")
        if len(self._peers) >= MAX_PEERS:
            raise NotAdmitted(
                f"the herd serves at most {MAX_PEERS} clients of other machines at once; "
                "end one of them",
                may_know=True,
            )
        peer = Peer(route, fd, serial, public, self._keys[public], str(frame.get("Peer-Address")))
        self._peers[fd] = peer
        return peer

    def send(self, route: bytes, data: bytes) -> Delivery:
        """As ``Router.send``."""
        return self._router.send(route, data)

    def take_gone(self) -> list[Peer]:
        """Those whose connections are over, each once."""
        gone, self._gone = self._gone, []
        return gone

    def close(self) -> None:
        """Serve no longer.  Waits for what is still to leave."""
        self._router.close()
        self._monitor.close(0)
        self._zap.close(0)
        self._context.term()

    # -- inside ----------------------------------------------------------------------------------

    def _read_list(self) -> None:
        """The list of keys, if it has changed."""
        stamp = self._store.stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = {key.public: key.name for key in self._store.allowed()}
        except KeysError as error:
            # Who was to be shut out is not known: shut out everybody.
            self._keys = {}
            self._log.write("error", "keys_unusable", why=str(error))

    def _read_monitor(self) -> None:
        while _is_readable(self._monitor):
            event = parse_monitor_message(self._monitor.recv_multipart(zmq.NOBLOCK))
            kind, fd = int(event["event"]), event["value"]
            if kind == _ACCEPTED:
                self._connections[fd] = _Connection(self._now, self._serial + 1)
            elif kind == _DISCONNECTED:
                self._connections.pop(fd, None)
                self._lose(fd)
            elif why := _BAD_HANDSHAKES.get(kind):
                self._tell("remote_refused", why=why)

    def _lose(self, fd: int) -> None:
        if peer := self._peers.pop(fd, None):
            self._gone.append(peer)

    def _cut(self, fd: int) -> None:
        """End a connection: its descriptor is libzmq's, which will tell when it has closed it."""
        connection = self._connections.get(fd)
        if connection is None or connection.is_cut:
            return
        connection.is_cut = True
        try:
            copy = socket.socket(fileno=os.dup(fd))
        except OSError:
            return  # closed already
        with copy:
            # The number may be another connection's by now: then the monitor has told so before.
            self._read_monitor()
            if self._connections.get(fd) is connection:
                with contextlib.suppress(OSError):
                    copy.shutdown(socket.SHUT_RDWR)

    def _tell(self, event: str, **fields: str) -> None:
        more = self._sparse.line(self._now)
        if more is not None:
            self._log.write("warning", event, **fields, **more)


def _is_readable(sock: zmq.Socket[bytes]) -> bool:
    return bool(cast(int, sock.get(zmq.EVENTS)) & zmq.POLLIN)


def _numeric(listen: str) -> str:
    """The endpoint with an address, which is all that libzmq binds.  Raises OSError."""
    host, port = split_listen(listen)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise OSError(error.errno, error.strerror) from None
    return f"tcp://{bracketed(str(found[0][4][0]))}:{port or '*'}"
