"""Who becomes a client: the kernel's word about the peer, not the peer's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from sipherd.supervisor.clients import Clients, NotAdmitted
from sipherd.supervisor.routers import FileRouter, Router

SEND = """
import sys
import zmq
peer = zmq.Context().socket(zmq.DEALER)
peer.connect("ipc://" + sys.argv[1])
peer.send(b"x")
sys.stdin.read()
"""


@pytest.fixture
def router(runtime_dir: Path) -> Iterator[Router]:
    context = zmq.Context(1)
    router = FileRouter(context, runtime_dir / "c.sock")
    yield router
    router.close()
    context.term()


def receive(router: Router) -> zmq.Frame:
    """The next message."""
    poller = zmq.Poller()
    poller.register(router.fd, zmq.POLLIN)
    while not router.has_input():
        assert poller.poll(5000), "nothing came"
    [(_, frame)] = router.receive(1)
    assert frame is not None
    return frame


@pytest.fixture
def frame(router: Router, runtime_dir: Path) -> Iterator[zmq.Frame]:
    """A message of this process."""
    context = zmq.Context(1)
    peer = context.socket(zmq.DEALER)
    peer.connect(f"ipc://{runtime_dir / 'c.sock'}")
    peer.send(b"x")
    yield receive(router)
    peer.close()
    context.term()


def test_a_process_of_ours(frame: zmq.Frame) -> None:
    clients = Clients()
    client = clients.admit(b"r", frame)
    assert client.pid == os.getpid()
    assert clients.get(b"r") is client
    assert len(clients) == 1
    clients.remove(client)
    assert clients.get(b"r") is None


def test_no_more_than_the_limit(frame: zmq.Frame) -> None:
    clients = Clients(limit=1)
    client = clients.admit(b"r", frame)
    with pytest.raises(NotAdmitted, match="at most 1 clients") as caught:
        clients.admit(b"s", frame)
    assert caught.value.may_know
    clients.remove(client)
    clients.remove(clients.admit(b"s", frame))


def test_a_message_that_came_from_nowhere() -> None:
    with pytest.raises(NotAdmitted, match="not known") as caught:
        Clients().admit(b"r", zmq.Frame(b"x"))
    assert not caught.value.may_know


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user(router: Router, runtime_dir: Path) -> None:
    # As if somebody had opened what the supervisor makes private.
    runtime_dir.chmod(0o755)
    (runtime_dir / "c.sock").chmod(0o666)
    pid = os.fork()
    if not pid:
        # Not by exec: that user may have no way to this interpreter.
        try:
            os.setuid(65534)
            peer = zmq.Context().socket(zmq.DEALER)
            peer.connect(f"ipc://{runtime_dir / 'c.sock'}")
            peer.send(b"x")
            signal.pause()
        finally:
            os._exit(1)
    try:
        with pytest.raises(NotAdmitted, match="user 65534 is not the herd's") as caught:
            Clients().admit(b"r", receive(router))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert not caught.value.may_know


def test_a_process_that_is_dead_already(router: Router, runtime_dir: Path) -> None:
    """Nobody could tell when it dies: what it asked for would never end."""
    peer = subprocess.Popen(
        [sys.executable, "-c", SEND, str(runtime_dir / "c.sock")], stdin=subprocess.PIPE
    )
    with peer:
        frame = receive(router)
        peer.kill()
    with pytest.raises(NotAdmitted, match=f"no process {peer.pid}"):
        Clients().admit(b"r", frame)


def test_whether_it_is_dead(router: Router, runtime_dir: Path) -> None:
    """Before anybody has looked at its pidfd."""
    clients = Clients()
    program = [sys.executable, "-c", SEND, str(runtime_dir / "c.sock")]
    with subprocess.Popen(program, stdin=subprocess.PIPE) as process:
        client = clients.admit(b"r", receive(router))
        assert not client.is_dead()
        process.kill()
        process.wait()
    assert client.is_dead()
    clients.remove(client)
