"""Messages that no process of the herd should send."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from faults.conftest import Trial
from peers.sipp import wait_for
from sipherd import PhoneState
from sipherd.protocol.codec import encode
from sipherd.protocol.events import Confirmed
from sipherd.protocol.messages import Envelope, Happened, Hello


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    with zmq.Context() as context:
        yield context


def socket(
    context: zmq.Context[zmq.Socket[bytes]], path: Path, identity: bytes = b""
) -> zmq.Socket[bytes]:
    made = context.socket(zmq.DEALER)
    made.linger = 0
    if identity:
        made.setsockopt(zmq.ROUTING_ID, identity)
    made.connect(f"ipc://{path}")
    return made


@pytest.mark.fault("Garbage frames")
def test_garbage(trial: Trial, runtime_dir: Path, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    herd = trial.herd()
    sockets = sorted(path for path in runtime_dir.iterdir() if path.is_socket())
    assert len(sockets) == 2

    def count() -> float:
        counters = herd.counters()
        return counters["worker_garbage"] + counters["client_garbage"]

    strangers = [socket(context, path) for path in sockets]
    for stranger in strangers:
        for garbage in (b"", b"garbage", b"\xc1" * 1000, os.urandom(100)):
            stranger.send(garbage)
        stranger.send_multipart([b"two", b"frames"])
    wait_for(lambda: count() == 10, "ten frames counted")
    for stranger in strangers:
        stranger.close()
    trial.bystanders()


@pytest.mark.fault("Messages of an old incarnation")
def test_old_incarnation(
    trial: Trial, runtime_dir: Path, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    herd = trial.herd()
    (path,) = runtime_dir.glob("*workers*")
    dead = socket(context, path)
    happened = Happened(t=0.0, body=Confirmed(call="x"))
    for seq in range(1, 11):
        dead.send(encode(Envelope(id=0, phone="alice", incarnation=1, seq=seq, body=happened)))
    wait_for(lambda: herd.counters()["worker_strays"] == 10, "ten messages counted")
    dead.close()
    assert herd["alice"].info().state is PhoneState.READY
    trial.bystanders()


@pytest.mark.fault("Second process of one name")
def test_second_process(
    trial: Trial, runtime_dir: Path, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    herd = trial.herd()
    before = herd["alice"].info()
    (path,) = runtime_dir.glob("*workers*")
    second = socket(context, path)
    hello = Hello(pid=os.getpid(), token="guessed")
    second.send(encode(Envelope(id=0, phone="alice", incarnation=1, seq=1, body=hello)))
    assert second.poll(10_000)
    assert b"exit" in second.recv()
    second.close()
    after = herd["alice"].info()
    assert (after.pid, after.incarnation, after.state) == (before.pid, 1, PhoneState.READY)
    trial.bystanders()
