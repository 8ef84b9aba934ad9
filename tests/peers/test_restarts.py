"""A phone that is killed again and again costs supervisor and nursery nothing."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable
from typing import NamedTuple

import pytest

from peers.herd import HerdProcess, PhoneAt
from peers.proc import descriptors, private_kilobytes, threads
from peers.sipp import wait_for
from sipherd import Herd
from sipherd.protocol.events import PhoneMoved
from sipherd.supervisor.events import KEPT

StartHerd = Callable[..., HerdProcess]

SOON = 30.0
ALICE = {
    "name": "alice",
    "restart": {
        "policy": "permanent",
        "max": 1000,
        "within": "1s",
        "backoff": {"first": "1ms", "cap": "1ms"},
    },
}
BOB = {"name": "bob", "media": "none", "trace": True}


class Held(NamedTuple):
    """What a process holds."""

    descriptors: int
    threads: int

    @classmethod
    def by(cls, pid: int) -> Held:
        return cls(len(descriptors(pid)), threads(pid))


def restart(client: Herd, count: int) -> None:
    """Kill alice's process so many times, each time as soon as there is another."""
    pid = client["alice"].info().pid
    with client.events(timeout=SOON) as events:
        for _ in range(count):
            os.kill(pid, signal.SIGKILL)
            for event in events:
                if isinstance(event.body, PhoneMoved) and event.body.state == "ready":
                    assert (event.phone, event.pid == pid) == ("alice", False)
                    pid = event.pid
                    break


def fill_the_history(phone: PhoneAt) -> None:
    """Have so many things happen that the supervisor forgets the oldest: a trace of OPTIONS."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((phone.host, 0))
        sock.settimeout(10)
        host, port = sock.getsockname()
        for number in range(KEPT // 2 + 100):  # in and out
            branch = f"z9hG4bK{number}"
            request = (
                f"OPTIONS sip:bob@{phone.host}:{phone.port} SIP/2.0\r\n"
                f"Via: SIP/2.0/UDP {host}:{port};branch={branch}\r\n"
                f"From: <sip:x@{host}>;tag=1\r\nTo: <sip:bob@{phone.host}>\r\n"
                f"Call-ID: {number}@{host}\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n"
                "Content-Length: 0\r\n\r\n"
            )
            sock.sendto(request.encode(), phone.target)
            assert re.match(rb"SIP/2.0 200 ", sock.recv(4096))


@pytest.mark.parametrize(
    "count", [20, pytest.param(1000, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
)
def test_restarts_of_one_phone_leave_nothing(start_herd: StartHerd, count: int) -> None:
    herd = start_herd([ALICE, BOB], keys={"spawn_rate": 1000})
    with Herd.connect(herd.name) as client:
        nursery = client.info().nursery_pid
        pids = {"supervisor": herd.pid, "nursery": nursery}
        restart(client, 5)
        if count >= 1000:
            fill_the_history(herd.phone("bob"))
            restart(client, 100)
        with client.events(timeout=SOON):  # as there is while the restarts are waited for
            before = {name: Held.by(pid) for name, pid in pids.items()}
        warm = {name: private_kilobytes(pid) for name, pid in pids.items()}
        restart(client, count)
        with client.events(timeout=SOON):
            for name, pid in pids.items():
                wait_for(
                    lambda name=name, pid=pid: Held.by(pid) == before[name],
                    f"{name} as it was, {before[name]}",
                    SOON,
                )
        for name, pid in pids.items():
            size = private_kilobytes(pid)
            print(f"{name}: {before[name]}, {warm[name]} kB before, {size} kB after {count}")
            assert size - warm[name] < 1024
        phone = client["alice"].info()
        assert phone.state == "ready"
        assert phone.incarnation == 1 + 5 + (100 if count >= 1000 else 0) + count
        assert client.info().nursery_pid == nursery
        assert client["bob"].info().incarnation == 1
