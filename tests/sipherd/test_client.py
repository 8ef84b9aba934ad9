"""A connection to a supervisor: one that answers, one that doesn't, one that talks nonsense."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from sipherd import (
    CommandRefused,
    Herd,
    HerdClosed,
    HerdNotRunning,
    PhoneNotFound,
    RuntimeDirectoryError,
    SupervisorDied,
    TimedOut,
)
from sipherd.client import Connection
from sipherd.protocol.codec import encode, from_client
from sipherd.protocol.messages import Done, Envelope, Expired, GetHerd, HerdInfo, Leave, ListPhones
from sipherd.protocol.paths import HerdPaths

Answer = Callable[[zmq.Socket[bytes], bytes, Envelope[Any]], None]


@pytest.fixture
def connection(herd: Herd, runtime_dir: Path) -> Iterator[Connection]:
    connection = Connection(herd.name, runtime_dir)
    yield connection
    connection.close()


@contextlib.contextmanager
def supervisor(directory: Path, answer: Answer) -> Iterator[None]:
    """A supervisor that does with each command what `answer` does; it sees Leave and ends."""
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.set(zmq.LINGER, 0)
    path = HerdPaths(directory, "odd").control
    router.bind(f"ipc://{path}")

    def serve() -> None:
        while router.poll(5000):
            route, data = router.recv_multipart()
            message = from_client.decode(data)
            if isinstance(message.body, Leave):
                break
            answer(router, route, message)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        thread.join(10)
        router.close()
        context.term()
        path.unlink(missing_ok=True)


def reply(router: zmq.Socket[bytes], route: bytes, message: Envelope[Any], body: object) -> None:
    router.send_multipart([route, encode(Envelope(id=1, reply_to=message.id, body=body))])


# Nobody there.


def test_no_herd(runtime_dir: Path) -> None:
    with pytest.raises(HerdNotRunning, match=f"looked in {runtime_dir}"):
        Connection("nobody", runtime_dir)


def test_a_socket_that_a_dead_herd_left(runtime_dir: Path) -> None:
    path = HerdPaths(runtime_dir, "dead").control
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(HerdNotRunning):
        Connection("dead", runtime_dir)
    path.unlink()


def test_a_path_that_is_too_long(runtime_dir: Path) -> None:
    with pytest.raises(RuntimeDirectoryError, match="at most 107"):
        Connection("x" * 64, runtime_dir / ("d" * 64))


# Commands and their ends.


def test_a_command_is_done(connection: Connection) -> None:
    result = connection.request(GetHerd())
    assert isinstance(result, HerdInfo)
    assert result.pid == connection.supervisor_pid


def test_a_command_is_refused(connection: Connection) -> None:
    with pytest.raises(PhoneNotFound) as caught:
        connection.request(ListPhones(which=("alcie",)))
    assert caught.value.wanted == "alcie"
    assert caught.value.near == ("alice",)


def test_commands_of_many_threads(connection: Connection) -> None:
    pids: list[int] = []

    def ask() -> None:
        for _ in range(20):
            result = connection.request(GetHerd())
            assert isinstance(result, HerdInfo)
            pids.append(result.pid)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert pids == [connection.supervisor_pid] * 160


def test_a_command_that_is_not_answered(runtime_dir: Path) -> None:
    """The supervisor keeps the deadline; that it does not is why the client has one of its own."""
    with supervisor(runtime_dir, lambda router, route, message: None):
        connection = Connection("odd", runtime_dir)
        began = time.monotonic()
        with pytest.raises(TimedOut, match=r"the answer: not within 0\.1 s"):
            connection.request(GetHerd(), 0.1, awaited="the answer")
        assert time.monotonic() - began < 5
        connection.close()


def test_a_command_that_expires(runtime_dir: Path) -> None:
    with supervisor(
        runtime_dir, lambda router, route, message: reply(router, route, message, Expired())
    ):
        connection = Connection("odd", runtime_dir)
        with pytest.raises(TimedOut, match="the answer"):
            connection.request(GetHerd(), 30, awaited="the answer")
        connection.close()


def test_garbage_and_replies_to_nothing_are_dropped(runtime_dir: Path) -> None:
    def babble(router: zmq.Socket[bytes], route: bytes, message: Envelope[Any]) -> None:
        router.send_multipart([route, b"\xc1\x00garbage"])
        router.send_multipart([route, b""])
        router.send_multipart([route, b"two", b"frames"])
        router.send_multipart([route, encode(Envelope(id=9, reply_to=4711, body=Done()))])
        reply(router, route, message, Done())

    with supervisor(runtime_dir, babble):
        connection = Connection("odd", runtime_dir)
        assert connection.request(GetHerd(), 5) is None
        connection.close()


# The end.


def test_what_came_before_the_end_of_the_connection_is_read(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisor answers `stop` and is gone, before this side was given the time to read:

    supervisor  ────────────── reply ── end ──▶
    I/O thread  ── busy ──────────────────────── reads the reply
    """
    held, go = threading.Event(), threading.Event()
    path = HerdPaths(runtime_dir, "odd").control
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.bind(f"ipc://{path}")
    connection = Connection("odd", runtime_dir)
    request = connection.submit(GetHerd(), 20)
    assert router.poll(10_000)
    route, data = router.recv_multipart()

    def be_busy(*_: object) -> bool:
        held.set()
        assert go.wait(20)
        return True

    with monkeypatch.context() as patch:
        patch.setattr(connection, "_send", be_busy)
        lost = connection.submit(GetHerd(), None)
        assert held.wait(10)
    reply(router, route, from_client.decode(data), Done())
    router.close()
    context.term()
    path.unlink(missing_ok=True)
    assert connection._monitor.poll(10_000)  # the end of the connection is behind the reply
    go.set()
    assert connection.wait(request) is None
    # This process is the supervisor, and lives.
    with pytest.raises(CommandRefused, match="takes no commands"):
        connection.request(GetHerd(), 20)
    connection.close()
    with pytest.raises(HerdClosed):
        connection.wait(lost)


def test_nothing_can_be_asked_after_close(connection: Connection) -> None:
    connection.close()
    connection.close()
    with pytest.raises(HerdClosed):
        connection.request(GetHerd())


def test_close_tells_those_who_wait(runtime_dir: Path) -> None:
    asked = threading.Event()
    with supervisor(runtime_dir, lambda *about: asked.set()):
        connection = Connection("odd", runtime_dir)
        request = connection.submit(GetHerd(), None)
        assert asked.wait(5)
        connection.close()
        with pytest.raises(HerdClosed):
            connection.wait(request)


def test_a_command_that_is_sent_to_a_dying_supervisor(
    killed: None, herd: Herd, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sockets go before it: ZeroMQ finds nobody to send to, and then it is dead."""

    def send(*_: object) -> bool:
        os.kill(herd.pid, signal.SIGKILL)
        return False

    monkeypatch.setattr(connection, "_send", send)
    with pytest.raises(SupervisorDied, match=str(herd.pid)):
        connection.request(GetHerd(), 5)


def test_the_supervisor_dies(killed: None, herd: Herd, connection: Connection) -> None:
    herd["alice"]  # it answers
    os.kill(herd.pid, signal.SIGSTOP)
    request = connection.submit(GetHerd(), None)
    os.kill(herd.pid, signal.SIGKILL)
    with pytest.raises(SupervisorDied, match=str(herd.pid)):
        connection.wait(request)
    assert connection.wait_gone(0)
    with pytest.raises(SupervisorDied):
        connection.request(GetHerd())


def test_refusals_keep_their_reason(herd: Herd) -> None:
    herd["alice"].stop()
    with pytest.raises(CommandRefused) as caught:
        herd["alice"].call("bob")
    assert caught.value.reason == "phone_not_ready"
