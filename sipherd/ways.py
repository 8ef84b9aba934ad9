"""The ways to a supervisor: by its socket file on this machine, or by TCP with a key."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import zmq
from zmq.utils.monitor import recv_monitor_message

from .protocol.errors import (
    ConnectionLost,
    HerdNotRunning,
    KeyRefused,
    KeysError,
    RuntimeDirectoryError,
    SipherdError,
    SupervisorDied,
)
from .protocol.keys import load_client_key
from .protocol.paths import HerdPaths, list_herds
from .protocol.spec import bracketed, split_listen

__all__ = ["LocalWay", "Remote", "RemoteWay", "Way", "remote_from"]

#: Seconds that a supervisor of this machine gets to accept a connection.
_ACCEPT_TIMEOUT = 10.0
#: Milliseconds for the TCP connection, and then for the handshake.
_CONNECT, _HANDSHAKE = 5000, 5000
#: Milliseconds: the other side is asked for a sign of life so often, and given up after so long.
_HEARTBEAT, _HEARTBEAT_TIMEOUT = 1500, 3000
#: Milliseconds that a process may take to be gone after its sockets are.
_DYING = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A herd of another machine: where it listens, and what this client proves itself with."""

    endpoint: str
    """`tcp://HOST:PORT`."""
    key: Path
    herd: str | None = None
    """The name it must have, if any."""


def remote_from(
    endpoint: str | None,
    key: Path | str | None,
    environ: Mapping[str, str],
    *,
    herd: str | None = None,
) -> Remote | None:
    """The herd to connect to over TCP, if there is one to: given here, or by the environment.

    Raises:
        KeysError: it is said where, but not with which key.
        ValueError: the endpoint has another form than `tcp://HOST:PORT`.
    """
    endpoint = endpoint or environ.get("SIPHERD_CONNECT")
    if not endpoint:
        return None
    split_listen(endpoint)
    key = key or environ.get("SIPHERD_KEY")
    if not key:
        raise KeysError(
            f"{endpoint} lets nobody in without a key: name its file with --key or SIPHERD_KEY"
        )
    return Remote(endpoint=endpoint, key=Path(key), herd=herd)


class Way(Protocol):
    """How to get to a supervisor, and how to know that it is gone."""

    herd: str
    pid: int
    """Of the supervisor; 0 as long as it is not known."""
    events: int
    """Of the socket's monitor, the connection's end among them."""

    def connect(self, sock: zmq.Socket[bytes], monitor: zmq.Socket[bytes]) -> None:
        """Raises SipherdError: nobody is there, or this client is not let in."""

    def end(self, monitor: zmq.Socket[bytes]) -> int | zmq.Socket[bytes]:
        """What becomes readable when the supervisor is gone."""

    def is_ending(self, monitor: zmq.Socket[bytes]) -> bool:
        """Whether nobody takes our messages because the supervisor is gone, or about to be."""

    def lost(self) -> SupervisorDied:
        """The error for whoever waits for it then."""

    def close(self) -> None: ...


class LocalWay:
    """By the socket file; the supervisor's death is read from a pidfd.

    Raises HerdNotRunning and RuntimeDirectoryError.
    """

    events = int(zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED)

    def __init__(self, herd: str, directory: Path) -> None:
        self.herd = herd
        self._path = HerdPaths(directory, herd).control
        self.pid = _supervisor_of(self._path, herd)
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            raise _not_running(herd, directory) from None

    def connect(self, sock: zmq.Socket[bytes], monitor: zmq.Socket[bytes]) -> None:
        sock.connect(f"ipc://{self._path}")

    def end(self, monitor: zmq.Socket[bytes]) -> int | zmq.Socket[bytes]:
        return self._pidfd

    def is_ending(self, monitor: zmq.Socket[bytes]) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(_DYING))

    def lost(self) -> SupervisorDied:
        return SupervisorDied(f'the supervisor of herd "{self.herd}" (pid {self.pid}) is gone')

    def close(self) -> None:
        os.close(self._pidfd)


class RemoteWay:
    """By TCP, with CURVE; the supervisor is as good as gone when the connection is.

    Raises KeysError and HerdNotRunning.
    """

    events = int(
        zmq.EVENT_CLOSED
        | zmq.EVENT_DISCONNECTED
        | zmq.EVENT_HANDSHAKE_SUCCEEDED
        | zmq.EVENT_HANDSHAKE_FAILED_AUTH
        | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
        | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    )

    def __init__(self, remote: Remote) -> None:
        self.herd = remote.herd or ""
        self.pid = 0
        self._remote = remote
        self._key = load_client_key(remote.key)
        host, port = split_listen(remote.endpoint)
        # Here and not by libzmq, which says nothing if there is no such host.
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise HerdNotRunning(f"{remote.endpoint}: {error.strerror}") from None
        self._address = str(found[0][4][0]), port

    def connect(self, sock: zmq.Socket[bytes], monitor: zmq.Socket[bytes]) -> None:
        sock.set(zmq.CURVE_SERVERKEY, self._key.server.encode())
        sock.set(zmq.CURVE_PUBLICKEY, self._key.public.encode())
        sock.set(zmq.CURVE_SECRETKEY, self._key.secret.encode())
        sock.set(zmq.CONNECT_TIMEOUT, _CONNECT)
        sock.set(zmq.HANDSHAKE_IVL, _HANDSHAKE)
        sock.set(zmq.HEARTBEAT_IVL, _HEARTBEAT)
        sock.set(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT)
        host, port = self._address
        sock.set(zmq.IPV6, int(":" in host))
        sock.connect(f"tcp://{bracketed(host)}:{port}")
        deadline = time.monotonic() + (_CONNECT + _HANDSHAKE) / 1000 + 1
        while (left := deadline - time.monotonic()) > 0:
            if monitor.poll(int(left * 1000)):
                event = recv_monitor_message(monitor)
                if event["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                    return
                raise self._why_not(int(event["event"]), int(event["value"]))
        raise self._silent()

    def _why_not(self, event: int, value: int) -> SipherdError:
        where, file = self._remote.endpoint, self._remote.key
        if event == zmq.EVENT_CLOSED:
            return HerdNotRunning(
                f"nobody listens at {where}{self._reason()}; "
                f"start the herd there with: sipherd up FILE --listen {where}"
            )
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH and value == 500:
            return KeyRefused(f"the herd at {where} has too many clients; end one of them")
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return KeyRefused(
                f'the herd at {where} does not let key "{self._key.name}" of {file} in, perhaps it '
                "was revoked; make another one there with: sipherd keys new NAME"
            )
        if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL and value == int(zmq.EAGAIN):
            return self._silent()
        return KeyRefused(
            f"whoever listens at {where} has not the server key that {file} names, or is no herd; "
            "make a key there with: sipherd keys new NAME"
        )

    def _reason(self) -> str:
        """What the kernel says, which libzmq keeps for itself."""
        try:
            socket.create_connection(self._address, 2.0).close()
        except OSError as error:
            return f" ({error.strerror})" if error.strerror else " (no answer)"
        return ""

    def _silent(self) -> HerdNotRunning:
        where = self._remote.endpoint
        return HerdNotRunning(f"whoever listens at {where} does not answer; is the herd stopped?")

    def end(self, monitor: zmq.Socket[bytes]) -> int | zmq.Socket[bytes]:
        return monitor

    def is_ending(self, monitor: zmq.Socket[bytes]) -> bool:
        return bool(monitor.poll(_DYING))

    def lost(self) -> SupervisorDied:
        return ConnectionLost(
            f"the connection to {self._remote.endpoint} is lost: the herd has ended, the network "
            f'is out, or key "{self._key.name}" was revoked'
        )

    def close(self) -> None:
        """Nothing is open."""


def _supervisor_of(path: Path, herd: str) -> int:
    """Pid of the process that listens on the control socket.

    ZeroMQ would wait silently for a socket that nobody serves, so this asks the kernel first.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_ACCEPT_TIMEOUT)
        try:
            probe.connect(os.fsencode(path))
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            raise _not_running(herd, path.parent) from None
        except TimeoutError:
            raise HerdNotRunning(
                f'the supervisor of herd "{herd}" accepts no connections, is it stopped?'
            ) from None
        except OSError as error:
            raise RuntimeDirectoryError(f"control socket {path}: {error.strerror}") from None
        size = struct.calcsize("3i")
        peer = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        pid, uid, _ = struct.unpack("3i", peer)
    # Somebody may have made the directory before us, to be told what is meant for our herd.
    if uid not in (0, os.geteuid()) and os.geteuid() != 0:
        raise RuntimeDirectoryError(
            f"control socket {path}: served by user {uid}, not by you; "
            "name another directory with --runtime-dir or SIPHERD_RUNTIME_DIR"
        )
    return int(pid)


def _not_running(herd: str, directory: Path) -> HerdNotRunning:
    others = [name for name in list_herds(directory) if name != herd]
    remedy = "start one with: sipherd up FILE"
    if others:
        remedy = f"there: {', '.join(others[:5])}, choose one with --herd"
    return HerdNotRunning(f'no herd "{herd}" is running (looked in {directory}); {remedy}')
