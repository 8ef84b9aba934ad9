"""Ten readers of the event stream, one of which never reads: what the others see, what it costs."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import pytest
import zmq

from sipherd import Herd
from sipherd.client import Connection
from sipherd.protocol.codec import encode, from_supervisor_to_client
from sipherd.protocol.errors import SipherdError
from sipherd.protocol.events import Event
from sipherd.protocol.messages import Done, Envelope, Events, Missed, Subscribe
from sipherd.protocol.paths import HerdPaths

READERS = 9
MEGABYTE = 1_000_000
BURST = 200
"""Datagrams that fit into a socket's buffer of the usual size, whatever else goes on."""


class Reader:
    """Sees every event, in order."""

    def __init__(self) -> None:
        self.last = 0
        self.out_of_order = 0
        self.missed: list[tuple[int, int]] = []

    def on_events(self, events: Iterable[Event]) -> None:
        for event in events:
            self.out_of_order += event.n != self.last + 1
            self.last = event.n

    def on_missed(self, first: int, last: int) -> None:
        self.missed.append((first, last))

    def on_lost(self, error: SipherdError) -> None: ...


class NeverReads:
    """Subscribes, and leaves it at that until the end."""

    def __init__(self, path: Path) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.RCVHWM, 1)  # what it does not read stays where it is
        self._socket.connect(f"ipc://{path}")
        self._socket.send(encode(Envelope(id=1, body=Subscribe(after=0))))
        assert self._socket.poll(5000)

    def read_up(self, until: int) -> tuple[list[int], list[tuple[int, int]]]:
        """At last: the numbers of the events, and of those it was told it had missed."""
        got: list[int] = []
        missed: list[tuple[int, int]] = []
        while not got or got[-1] < until:
            assert self._socket.poll(10_000), f"nothing behind {got[-1:]}"
            body = from_supervisor_to_client.decode(self._socket.recv()).body
            if isinstance(body, Events):
                got += [event.n for event in body.events]
            elif isinstance(body, Missed):
                missed.append((body.first, body.last))
            else:
                assert isinstance(body, Done)
        return got, missed

    def close(self) -> None:
        self._socket.close()
        self._context.term()


@contextlib.contextmanager
def readers(herd: Herd, directory: Path) -> Iterator[list[Reader]]:
    found = [Reader() for _ in range(READERS)]
    with contextlib.ExitStack() as stack:
        for reader in found:
            connection = Connection(herd.name, directory, reader)
            stack.callback(connection.close)
            connection.request(Subscribe(after=0))
        yield found


def make_events(port: int, wanted: int, found: list[Reader]) -> None:
    """An event for each datagram to a phone with ``trace``, until so many have been read by all."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.connect(("127.0.0.1", port))
        expected = max(reader.last for reader in found)
        while expected < wanted:
            for _ in range(BURST):
                peer.send(b"\r\n\r\n")  # a keep-alive: it asks for no answer
            expected += BURST
            deadline = time.monotonic() + 20
            while min(reader.last for reader in found) < expected:
                assert time.monotonic() < deadline, [reader.last for reader in found]
                time.sleep(0.001)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "count",
    [
        pytest.param(30_000, marks=pytest.mark.slow),
        pytest.param(1_000_000, marks=pytest.mark.soak),
    ],
)
def test_one_of_ten_never_reads(
    runtime_dir: Path, capsys: pytest.CaptureFixture[str], count: int
) -> None:
    phone = {"name": "alice", "number": "1001", "media": "none", "trace": True}
    with contextlib.ExitStack() as stack:
        herd = stack.enter_context(Herd([phone]))
        found = stack.enter_context(readers(herd, runtime_dir))
        slow = NeverReads(HerdPaths(runtime_dir, herd.name).control)
        stack.callback(slow.close)
        supervisor = psutil.Process(herd.pid)
        before = supervisor.memory_full_info().uss
        began = time.monotonic()
        make_events(herd.phone("alice").port, count, found)
        rate = count / (time.monotonic() - began)
        growth = (supervisor.memory_full_info().uss - before) / MEGABYTE
        with capsys.disabled():
            print(f" {count} events, {rate:.0f}/s: supervisor's USS +{growth:.1f} MB ", end="")

        assert [reader.missed for reader in found] == [[]] * READERS
        assert [reader.out_of_order for reader in found] == [0] * READERS
        assert growth < 10

        last = max(reader.last for reader in found)
        got, missed = slow.read_up(last)
        assert missed, "it was not slow enough"
        told = [*got, *(n for first, end in missed for n in range(first, end + 1))]
        assert sorted(told) == list(range(1, len(told) + 1))
        assert len(told) >= last
