"""The link against a nursery of a few lines: forks, descriptors, deaths, restarts."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sipherd.protocol.errors import ProtocolError
from sipherd.protocol.fork import Died, Fork, Forked, ForkFailed, NurseryMessage, SipSockets
from sipherd.supervisor.nursery_link import (
    MAX_DEATHS,
    NurseryLink,
    NurseryUnfit,
    open_output_pipe,
)

NURSERY = '''
"""Answers as the phone's name says."""
import argparse, array, os, signal, socket, sys, time

from sipherd.protocol.fork import Died, Forked, ForkFailed, decode_fork, pack

parser = argparse.ArgumentParser()
for name in ("control", "lifeline", "lock", "pulses", "supervisor"):
    parser.add_argument(f"--{name}-fd", type=int, required=True)
options = parser.parse_args()
control = socket.socket(fileno=options.control_fd)
passed_on = sorted(set(os.environ) & {"NOTIFY_SOCKET", "WATCHDOG_PID"})
os.write(1, " ".join(["environment:", *passed_on]).encode())


def send(data, *fds):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    control.sendmsg([data], rights)


while True:
    data, fds, _, _ = socket.recv_fds(control, 65536, 8)
    if not data:
        os._exit(0)
    fork = decode_fork(data)
    key = {"phone": fork.phone, "incarnation": fork.incarnation}
    sip, tcp, journal, output = fds
    os.write(output, b"fork\\n")
    if fork.phone == "echo":
        udp = socket.socket(fileno=os.dup(sip))
        send(pack(Forked(**key, pid=udp.getsockname()[1])), os.pidfd_open(os.getpid()))
        udp.close()
        send(pack(Died(**key, exit_code=3, signal=None)))
    elif fork.phone == "refuse":
        send(pack(ForkFailed(**key, error="no")))
    elif fork.phone == "garbage":
        send(b"garbage", options.lock_fd)
        send(pack(Forked(**key, pid=1)), options.lock_fd, options.lock_fd)
        send(pack(ForkFailed(**key, error="sane again")))
    elif fork.phone == "die":
        os._exit(7)
    elif fork.phone == "sleep":
        signal.pause()
    elif fork.phone == "sluggish":
        time.sleep(0.1)
        send(pack(ForkFailed(**key, error="late")))
    os.close(sip)
    os.close(tcp)
    os.close(journal)
    os.close(output)
'''


class Rig:
    """A link, and what a supervisor has beside it."""

    def __init__(self, folder: Path) -> None:
        script = folder / "nursery.py"
        script.write_text(NURSERY)
        self.lock_fd = os.open(folder, os.O_RDONLY)
        self.lifeline, self.lifeline_write = os.pipe()
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.output, self.output_write = open_output_pipe()
        self.journal = os.memfd_create("journal", os.MFD_CLOEXEC)
        self.link = NurseryLink(
            (sys.executable, str(script)),
            lock_fd=self.lock_fd,
            lifeline_fd=self.lifeline,
            pulses_fd=self.lock_fd,
        )
        self.outputs = [self.link.output_fd]

    def fork(self, name: str, incarnation: int = 1) -> None:
        request = Fork(phone=name, incarnation=incarnation, token="t", endpoint="ipc:///nowhere")
        sockets = SipSockets(self.udp.fileno(), self.tcp.fileno())
        self.link.fork(request, sockets, self.journal, self.output_write)

    def receive(self) -> tuple[NurseryMessage, int | None]:
        wait_for(self.link.socket_fd)
        received = self.link.receive()
        assert received is not None
        return received

    def restart(self, now: float = 0.0) -> str:
        wait_for(self.link.pidfd)
        cause = self.link.reap()
        self.link.restart(cause, now)
        self.outputs.append(self.link.output_fd)
        return cause

    def close(self, *, stop: bool = True) -> None:
        if stop:
            assert self.link.stop(5)
        self.link.close()
        self.udp.close()
        self.tcp.close()
        for fd in (
            *(self.lock_fd, self.lifeline, self.lifeline_write),
            *(self.output, self.output_write, self.journal, *self.outputs),
        ):
            os.close(fd)


def wait_for(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(5000), "nothing came"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def test_descriptors_travel_both_ways(rig: Rig) -> None:
    rig.fork("echo", 4)
    message, pidfd = rig.receive()
    assert message == Forked(phone="echo", incarnation=4, pid=rig.udp.getsockname()[1])
    assert pidfd is not None
    assert not os.get_inheritable(pidfd)
    signal.pidfd_send_signal(pidfd, 0)
    os.close(pidfd)
    assert rig.receive() == (Died(phone="echo", incarnation=4, exit_code=3, signal=None), None)
    assert os.read(rig.output, 100) == b"fork\n"
    assert rig.link.receive() is None
    assert not rig.link.has_closed


def test_a_refusal(rig: Rig) -> None:
    rig.fork("refuse")
    assert rig.receive() == (ForkFailed(phone="refuse", incarnation=1, error="no"), None)


def test_a_bad_packet_is_dropped_with_its_descriptors(rig: Rig) -> None:
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    rig.fork("garbage")
    for _ in range(2):
        with pytest.raises(ProtocolError):
            rig.receive()
    assert rig.receive() == (ForkFailed(phone="garbage", incarnation=1, error="sane again"), None)
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_requests_that_do_not_fit_wait(rig: Rig) -> None:
    rig.fork("sluggish", 0)
    count = 0
    while not rig.link.is_congested():
        count += 1
        rig.fork("refuse", count)
    # The last one's descriptors are copies: the originals may go.
    found = 0
    while found < count:
        message, _ = rig.receive()
        rig.link.send_waiting()
        if message.phone == "refuse":
            found += 1
            assert message.incarnation == found
    assert not rig.link.is_congested()


def test_a_dead_nursery_is_started_again(rig: Rig) -> None:
    first = rig.link.pid
    rig.fork("die")
    assert rig.restart() == "exit code 7"
    assert rig.link.pid != first
    rig.fork("refuse")
    assert rig.receive()[0] == ForkFailed(phone="refuse", incarnation=1, error="no")


def test_a_killed_one_is_told_by_the_name_of_the_signal(rig: Rig) -> None:
    rig.fork("sleep")
    rig.link.kill()
    assert rig.restart() == "SIGKILL"


def test_a_fork_request_to_a_dead_nursery_is_no_error(rig: Rig) -> None:
    rig.link.kill()
    wait_for(rig.link.pidfd)
    rig.fork("echo")
    assert rig.link.receive() is None
    assert rig.link.has_closed
    rig.restart()


def test_the_last_words_of_one_that_left_requests_unread(rig: Rig) -> None:
    """The kernel tells of the unread ones first, and only then hands out what was said."""
    rig.fork("refuse")
    rig.fork("sleep")
    rig.fork("refuse", 2)  # never read
    wait_for(rig.link.socket_fd)
    rig.link.kill()
    wait_for(rig.link.pidfd)
    assert rig.receive()[0] == ForkFailed(phone="refuse", incarnation=1, error="no")
    assert rig.link.receive() is None
    assert rig.link.has_closed
    rig.restart()


def test_one_that_dies_too_often_is_given_up(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for death in range(MAX_DEATHS):
        rig.fork("die")
        rig.restart(now=float(death))
    rig.link.last_line = "ImportError: no"
    rig.fork("die")
    with pytest.raises(NurseryUnfit, match=r"6 times within 60 s, .* exit code 7: ImportError: no"):
        rig.restart(now=5.0)
    rig.close(stop=False)


def test_deaths_long_ago_do_not_count(rig: Rig) -> None:
    for death in range(MAX_DEATHS + 2):
        rig.fork("die")
        rig.restart(now=death * 20.0)


def test_a_nursery_that_does_not_go_is_killed(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.fork("sleep")
    wait_for(rig.output)
    assert not rig.link.stop(0.1)
    rig.close(stop=False)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(NurseryUnfit, match=r"/nowhere.*No such file"):
        NurseryLink(("/nowhere",), lock_fd=0, lifeline_fd=0, pulses_fd=0)
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_systemd_s_variables_are_not_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    with contextlib.closing(Rig(tmp_path)) as rig:
        wait_for(rig.link.output_fd)
        assert os.read(rig.link.output_fd, 100) == b"environment:"
