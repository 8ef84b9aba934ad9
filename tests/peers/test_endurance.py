"""Many calls with audio, one after the other, at one phone: it is afterwards what it was before."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from peers.herd import HerdProcess
from peers.proc import descriptors, private_kilobytes, sleeps, threads, udp_ports
from peers.sipp import wait_for
from sipherd import Herd

StartHerd = Callable[..., HerdProcess]

SOON = 30.0
LINGER = 33.0
"""Seconds that a transaction lives on after its end: 64*T1 (RFC 3261 §17, RFC 6026), and a bit."""
WARM_UP = 100
"""Calls before the thousand that are measured."""


class Held(NamedTuple):
    """What a process holds."""

    descriptors: dict[int, str]
    threads: int
    ports: set[int]

    @classmethod
    def by(cls, pid: int) -> Held:
        return cls(descriptors(pid), threads(pid), udp_ports(pid))


def make_calls(client: Herd, count: int, folder: Path) -> int:
    """A tone from alice to bob, who records it; the packets of audio that bob got."""
    received = 0
    for number in range(count):
        call = client["alice"].call(client["bob"])
        incoming = client["bob"].incoming(timeout=SOON)
        incoming.answer()
        call.wait_answered(timeout=SOON)
        call.play("tone:440")
        incoming.record(folder / f"{number % 8}.wav")
        # Some packets each way; who hangs up changes.
        with pytest.raises(TimeoutError):
            call.wait_ended(timeout=0.06)
        first, second = (call, incoming) if number % 2 else (incoming, call)
        assert first.hang_up(timeout=SOON).bye_answered
        for leg in (first, second):
            ended = leg.wait_ended(timeout=SOON)
            assert ended.cause == "hung_up"
            assert ended.media is not None
            assert ended.media.sent
        media = incoming.info.media
        assert media is not None
        received += media.received
    return received


def idle(client: Herd, before: dict[str, Held]) -> None:
    """Wait until the phones hold what they held before."""
    for name, held in before.items():
        pid = client[name].info().pid
        wait_for(lambda held=held, pid=pid: Held.by(pid) == held, f"{name} as it was", SOON)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_thousand_calls_leave_nothing_behind(start_herd: StartHerd, tmp_path: Path) -> None:
    """Nor memory, nor timers: once the last transaction is forgotten, both phones sleep."""
    # Their signs of life, each some seconds, are no leftovers.
    hang = {"late": "200s", "suspect": "300s", "hung": "400s"}
    herd = start_herd([{"name": name, "hang": hang} for name in ("alice", "bob")])
    with Herd.connect(herd.name) as client:
        pids = {name: client[name].info().pid for name in ("alice", "bob")}
        before = {name: Held.by(pid) for name, pid in pids.items()}
        # Each page that a phone writes to becomes its own, and most are written to in the first
        # calls.  Some ten seconds of them, of which nothing is left but that.
        make_calls(client, WARM_UP, tmp_path)
        time.sleep(LINGER)
        warm = {name: private_kilobytes(pid) for name, pid in pids.items()}
        assert make_calls(client, 1000, tmp_path) >= 1000
        idle(client, before)
        time.sleep(LINGER)
        for name, pid in pids.items():
            size = private_kilobytes(pid)
            print(f"{name}: {warm[name]} kB before the thousand, {size} kB after it")
            assert size - warm[name] < 1024
            # No timer is left: nothing wakes it.
            slept = sleeps(pid)
            time.sleep(2)
            assert sleeps(pid) == slept
            assert client[name].info().pid == pid
