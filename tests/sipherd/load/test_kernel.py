"""Readings of /proc: from files like the kernel's own, and from processes that there are."""

from __future__ import annotations

import mmap
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sipherd.load.kernel import (
    Cpu,
    Drops,
    UdpSocket,
    offspring,
    open_sockets,
    process_name,
    udp_sockets,
    usage,
)

ME = os.getpid()
UDP = """\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode \
ref pointer drops
  201: 0100007F:13C4 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1001 2 \
000 {alice}
  202: 00000000:13C6 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1002 2 \
000 7
"""
UDP6 = """\
  sl  local_address                         remote_address                        st
  203: 00000000000000000000000001000000:13C4 00000000000000000000000000000000:0000 07 \
00000000:00000000 00:00000000 00000000     0        0 1003 2 000 {bob}
"""
little_endian = pytest.mark.skipif(sys.byteorder != "little", reason="files of another machine")


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def stat(proc: Path, *processors: str) -> None:
    (proc / "stat").write_text("\n".join(("cpu  9 9 9 9 9 9 9 9 9 9", *processors, "ctxt 1")))


def test_how_busy_our_processors_are(tmp_path: Path) -> None:
    stat(tmp_path, "cpu0 0 0 0 0 0 0 0 0 0 0", "cpu1 10 0 0 10 0 0 0 0 0 0", "cpu2 0 0 0 0")
    cpu = Cpu(tmp_path, cpus={0, 1})
    # Waiting for a disk is idle, what a hypervisor takes away is not; nor is a guest's time twice.
    stat(tmp_path, "cpu0 10 5 5 50 10 5 5 10 9 9", "cpu1 20 0 0 100 0 0 0 0 0 0", "cpu2 99 0 0 0")
    assert cpu.busy() == pytest.approx((40 + 10) / (100 + 100))
    assert cpu.busy() == 0.0, "no time has passed"


def test_idle_time_that_goes_back(tmp_path: Path) -> None:
    stat(tmp_path, "cpu0 0 0 0 100 0 0 0 0 0 0")
    cpu = Cpu(tmp_path, cpus={0})
    stat(tmp_path, "cpu0 10 0 0 99 0 0 0 0 0 0")
    assert cpu.busy() == 1.0


def test_this_machines_processors() -> None:
    cpu = Cpu()
    deadline = time.process_time() + 0.2
    while time.process_time() < deadline:
        pass
    assert 0.0 < cpu.busy() <= 1.0


def network(proc: Path, *, alice: int, bob: int) -> None:
    folder = proc / "77/net"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "udp").write_text(UDP.format(alice=alice))
    (folder / "udp6").write_text(UDP6.format(bob=bob))


@little_endian
def test_udp_sockets_of_a_network(tmp_path: Path) -> None:
    network(tmp_path, alice=3, bob=5)
    assert list(udp_sockets(77, tmp_path)) == [
        UdpSocket("127.0.0.1", 5060, 1001, 3),
        UdpSocket("0.0.0.0", 5062, 1002, 7),
        UdpSocket("::1", 5060, 1003, 5),
    ]
    assert not list(udp_sockets(78, tmp_path))


@little_endian
def test_what_was_dropped_since_the_last_time(tmp_path: Path) -> None:
    network(tmp_path, alice=3, bob=5)
    drops = Drops(77, [("127.0.0.1", 5060)], tmp_path)
    assert drops.since_last() == 0
    network(tmp_path, alice=4, bob=9)
    assert drops.since_last() == 1
    drops.watch([("127.0.0.1", 5060), ("::1", 5060)])
    network(tmp_path, alice=6, bob=9)
    assert drops.since_last() == 2 + 9, "what is watched since now counts as new"
    network(tmp_path, alice=0, bob=9)
    assert drops.since_last() == 0, "another socket with the same number"


def test_drops_of_a_real_socket() -> None:
    with (
        socket.socket(type=socket.SOCK_DGRAM) as full,
        socket.socket(type=socket.SOCK_DGRAM) as peer,
    ):
        full.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        full.bind(("127.0.0.1", 0))
        drops = Drops(ME, [full.getsockname()])
        for _ in range(100):
            peer.sendto(b"x" * 1000, full.getsockname())
        assert 50 < drops.since_last() < 100
        assert drops.since_last() == 0


def test_what_a_process_takes() -> None:
    before = usage(ME)
    assert before is not None
    # Not of the heap, which may have as much to spare.
    with mmap.mmap(-1, 10_000_000) as block, socket.socket() as one, socket.socket() as other:
        block.write(b"x" * len(block))
        size = len(block)
        after = usage(ME)
        assert one.fileno() != other.fileno()
    assert after is not None
    assert after.memory - before.memory > 0.9 * size
    assert after.fds == before.fds + 2
    assert after.threads == before.threads


def test_a_process_that_is_gone() -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    assert usage(gone.pid) is None
    assert open_sockets(gone.pid) == set()
    assert process_name(gone.pid) == ""


def test_the_sockets_of_a_process() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        (found,) = [each for each in udp_sockets(ME) if each[:2] == sock.getsockname()]
        assert found.inode in open_sockets(ME)
    assert found.inode not in open_sockets(ME)


def test_descendants() -> None:
    script = "sleep 60 & exec sleep 60"
    with subprocess.Popen(["sh", "-c", script], start_new_session=True) as child:
        try:
            until(lambda: len(offspring(child.pid)) == 1)
            (grandchild,) = offspring(child.pid)
            found = offspring(ME)
            assert (found[child.pid], found[grandchild]) == (ME, child.pid)
            assert list(found).index(child.pid) < list(found).index(grandchild)
        finally:
            os.killpg(child.pid, signal.SIGKILL)
        until(lambda: child.pid not in offspring(ME))  # a zombie is no process any more
