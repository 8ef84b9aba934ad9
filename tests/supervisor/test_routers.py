"""A ROUTER with real peers: what it yields, and what becomes of what it sends."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from sipherd.supervisor.routers import Delivery, FileRouter


class Rig:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.context = zmq.Context(1)
        self.router = FileRouter(self.context, path)
        self.peer = self.context.socket(zmq.DEALER)
        self.peer.set(zmq.LINGER, 0)
        self.peer.connect(f"ipc://{path}")

    def receive(self, limit: int = 100) -> list[tuple[bytes, bytes | None]]:
        """What came, as soon as something did."""
        poller = zmq.Poller()
        poller.register(self.router.fd, zmq.POLLIN)
        while not self.router.has_input():
            assert poller.poll(5000), "nothing came"
        return [(r, f.bytes if f is not None else None) for r, f in self.router.receive(limit)]

    def close(self) -> None:
        self.peer.close()
        self.router.close()
        self.context.term()


@pytest.fixture
def rig(runtime_dir: Path) -> Iterator[Rig]:
    rig = Rig(runtime_dir / "r.sock")
    yield rig
    rig.close()
    assert not rig.path.exists()


def test_there_and_back(rig: Rig) -> None:
    rig.peer.send(b"hello")
    [(route, data)] = rig.receive()
    assert data == b"hello"
    assert rig.router.send(route, b"welcome") is Delivery.SENT
    assert rig.peer.recv() == b"welcome"
    assert not rig.router.has_input()


def test_a_message_of_several_frames_is_marked_and_the_next_is_whole(rig: Rig) -> None:
    rig.peer.send_multipart([b"a", b"b", b"c"])
    rig.peer.send(b"")
    rig.peer.send(b"d")
    found: list[bytes | None] = []
    while len(found) < 3:
        found += [data for _, data in rig.receive()]
    assert found == [None, b"", b"d"]


def test_the_limit_leaves_the_rest(rig: Rig) -> None:
    for n in range(5):
        rig.peer.send(b"%d" % n)
    found = rig.receive(2)
    assert len(found) <= 2
    while len(found) < 5:
        found += rig.receive(2)
    assert [data for _, data in found] == [b"0", b"1", b"2", b"3", b"4"]


def test_nobody_has_this_route(rig: Rig) -> None:
    assert rig.router.send(b"nobody", b"x") is Delivery.GONE


def test_a_peer_that_does_not_read(rig: Rig) -> None:
    rig.peer.send(b"hello")
    [(route, _)] = rig.receive()
    data = b"x" * 65536
    while (delivery := rig.router.send(route, data)) is Delivery.SENT:
        pass
    assert delivery is Delivery.FULL


def test_a_stale_socket_file_is_replaced_and_the_new_one_is_private(runtime_dir: Path) -> None:
    path = runtime_dir / "r.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    rig = Rig(path)
    assert path.stat().st_mode & 0o777 == 0o600
    rig.close()


def test_a_path_that_cannot_be_bound(tmp_path: Path) -> None:
    context = zmq.Context(1)
    with pytest.raises(OSError, match="No such file"):
        FileRouter(context, tmp_path / "nowhere" / "r.sock")
    context.term()
