"""The sockets of this machine: nobody speaks for another, or on the wrong one.

Real sockets and processes; what the kernel says of a peer is in `test_clients.py`, what the core
makes of a token in `test_core.py`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import zmq

from sipherd.protocol.codec import MAX_MESSAGE, encode, from_supervisor_to_worker
from sipherd.protocol.events import CallPlaced
from sipherd.protocol.messages import (
    Done,
    Drained,
    Envelope,
    Exit,
    GetHerd,
    Happened,
    Hello,
    ListCalls,
    Ready,
    StopHerd,
)
from sipherd.protocol.paths import HerdPaths
from sipherd.protocol.states import PhoneState
from supervisor_process import MakeRaw, Raw, Start, Supervisor, a_herd, wait_for

A_CALL = CallPlaced(
    call="c99",
    target="bob",
    sip_call_id="x@192.0.2.1",
    request_uri="sip:bob@192.0.2.1",
    next_hop=("192.0.2.1", 5060),
)


def strays(supervisor: Supervisor) -> float:
    return supervisor.info().counters["worker_strays"]


def garbage(supervisor: Supervisor, of: str) -> float:
    return supervisor.info().counters[f"{of}_garbage"]


@pytest.fixture
def worker(raw: MakeRaw, runtime_dir: Path) -> Raw:
    """Somebody at the workers' socket who is no worker."""
    return raw(HerdPaths(runtime_dir, "lab").workers)


def test_the_directory_is_made_for_its_owner_alone(start: Start, runtime_dir: Path) -> None:
    directory = runtime_dir / "made"
    start(a_herd(), directory=directory)
    assert directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else(start: Start, tmp_path: Path) -> None:
    directory = tmp_path / "theirs"
    directory.mkdir(0o700)
    os.chown(directory, 65534, -1)
    supervisor = start(a_herd(), directory=directory)
    assert supervisor.wait() == 2
    assert "owned by user 65534, not by you" in supervisor.ready["error"]


def test_a_directory_that_others_may_write_to(start: Start, tmp_path: Path) -> None:
    directory = tmp_path / "open"
    directory.mkdir()
    directory.chmod(0o777)
    supervisor = start(a_herd(), directory=directory)
    assert supervisor.wait() == 2
    assert "others may write to it; chmod 700" in supervisor.ready["error"]


@pytest.mark.parametrize("phone", ["alice", "nobody"])
def test_a_hello_with_a_wrong_token_is_told_to_exit(start: Start, worker: Raw, phone: str) -> None:
    supervisor = start(a_herd("alice"))
    before = supervisor.wait_ready()["alice"]
    hello = Hello(pid=os.getpid(), token="0" * 32)
    worker.socket.send(encode(Envelope(id=1, phone=phone, incarnation=1, seq=1, body=hello)))
    assert worker.socket.poll(10_000)
    answer = from_supervisor_to_worker.decode(worker.socket.recv())
    assert isinstance(answer.body, Exit)
    after = supervisor.phones()["alice"]
    assert (after.pid, after.state) == (before.pid, PhoneState.READY)


def test_nobody_speaks_for_a_phone_that_was_not_welcomed_as_it(start: Start, worker: Raw) -> None:
    supervisor = start(a_herd("alice"))
    before = supervisor.wait_ready()["alice"]
    lies = (
        Ready(),
        Happened(t=0.0, body=A_CALL),
        Drained(),
        Done(),
    )
    for seq, body in enumerate(lies, 1):
        worker.socket.send(
            encode(Envelope(id=seq, phone="alice", incarnation=1, seq=seq, body=body))
        )
    wait_for(lambda: strays(supervisor) == len(lies), "all of them counted")
    after = supervisor.phones()["alice"]
    assert (after.pid, after.state) == (before.pid, PhoneState.READY)
    assert supervisor.ask(ListCalls()).calls == ()


def test_a_client_at_the_workers_socket(start: Start, worker: Raw) -> None:
    supervisor = start(a_herd("alice"))
    worker.socket.send(encode(Envelope(id=1, body=StopHerd(now=True))))
    wait_for(lambda: garbage(supervisor, "worker") == 1, "it counted")
    supervisor.wait_ready()
    assert not worker.socket.poll(0)


def test_a_worker_at_the_clients_socket(start: Start, raw: MakeRaw) -> None:
    supervisor = start(a_herd("alice"))
    supervisor.wait_ready()
    client = raw()
    for body in (Hello(pid=1, token="0" * 32), Ready(), Drained()):
        client.socket.send(encode(Envelope(id=1, phone="alice", incarnation=1, seq=1, body=body)))
    wait_for(lambda: garbage(supervisor, "client") == 3, "they counted")
    assert isinstance(client.ask(2, GetHerd()).body, Done)
    assert supervisor.phones()["alice"].state is PhoneState.READY


def test_a_frame_that_is_too_long_for_the_workers_socket(start: Start, worker: Raw) -> None:
    supervisor = start(a_herd("alice"))
    monitor = worker.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    worker.socket.send(b"x" * (MAX_MESSAGE + 1))
    assert monitor.poll(15_000), "still connected"
    worker.socket.disable_monitor()
    monitor.close(0)
    supervisor.wait_ready()
    assert garbage(supervisor, "worker") == 0


def test_garbage_does_not_fill_the_log(start: Start, raw: MakeRaw, worker: Raw) -> None:
    supervisor = start(a_herd())
    client = raw()
    for _ in range(500):
        client.socket.send(b"garbage")
        worker.socket.send(b"garbage")
    wait_for(lambda: garbage(supervisor, "client") == 500, "all of it counted")
    wait_for(lambda: garbage(supervisor, "worker") == 500, "all of it counted")
    assert 1 <= len(supervisor.wait_logged("client_garbage")) < 100
    assert 1 <= len(supervisor.wait_logged("worker_garbage")) < 100
