"""What the loop of a phone says of its progress, seen in the memory that it shares."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

from smallherd import SmallHerd

from sipherd.protocol.messages import InjectFault
from sipherd.protocol.pulse import read_pulse

LATE = 0.5


def test_an_idle_phone_keeps_its_promise(runtime_dir: Path) -> None:
    with SmallHerd(runtime_dir) as herd:
        herd.fork("alice", hang={"late": LATE})
        seen = set()

        def three_signs() -> bool | None:
            due = read_pulse(herd.pulses, 0).due
            assert due <= time.monotonic() + LATE
            if due > time.monotonic():
                seen.add(due)
            return len(seen) >= 3 or None

        herd.until(three_signs, "three promises")


def test_each_phone_has_a_slot_of_its_own(runtime_dir: Path) -> None:
    with SmallHerd(runtime_dir) as herd:
        herd.fork("alice", hang={"late": LATE})
        bob = herd.fork("bob", hang={"late": LATE})
        os.kill(bob.pid, signal.SIGSTOP)
        herd.until(lambda: overdue(herd, 1) > 2 * LATE or None, "bob overdue")
        herd.until(lambda: overdue(herd, 0) < 0 or None, "alice in time")


def test_a_loop_that_does_not_go_round_gives_no_sign(runtime_dir: Path) -> None:
    with SmallHerd(runtime_dir) as herd:
        alice = herd.fork("alice", hang={"late": LATE})
        alice.send(InjectFault(phone="alice", fault="hang"))
        herd.until(lambda: overdue(herd, 0) > 2 * LATE or None, "alice overdue")
        began = read_pulse(herd.pulses, 0).due
        herd.until(lambda: overdue(herd, 0) > 4 * LATE or None, "alice overdue for longer")
        assert read_pulse(herd.pulses, 0).due == began
        os.kill(alice.pid, signal.SIGKILL)
        assert alice.is_gone()


def test_a_loop_that_was_held_up_says_how_late_it_came(runtime_dir: Path) -> None:
    with SmallHerd(runtime_dir) as herd:
        alice = herd.fork("alice", hang={"late": LATE})
        herd.until(lambda: -LATE < overdue(herd, 0) < 0 or None, "a promise")
        os.kill(alice.pid, signal.SIGSTOP)
        herd.until(lambda: overdue(herd, 0) > LATE or None, "alice overdue")
        read_pulse(herd.pulses, 0)
        os.kill(alice.pid, signal.SIGCONT)
        herd.until(lambda: read_pulse(herd.pulses, 0).late > LATE or None, "lateness")


def test_a_datagram_that_waited_is_lateness(runtime_dir: Path) -> None:
    with SmallHerd(runtime_dir) as herd, socket.socket(type=socket.SOCK_DGRAM) as peer:
        alice = herd.fork("alice", hang={"late": 600, "suspect": 700, "hung": 800})
        herd.until(lambda: overdue(herd, 0) < 0 or None, "alice asleep for minutes")
        os.kill(alice.pid, signal.SIGSTOP)
        peer.sendto(b"x", ("127.0.0.1", alice.port))
        time.sleep(0.3)
        read_pulse(herd.pulses, 0)
        os.kill(alice.pid, signal.SIGCONT)
        herd.until(lambda: 0.3 <= read_pulse(herd.pulses, 0).late < 60 or None, "lateness")


def overdue(herd: SmallHerd, slot: int) -> float:
    return time.monotonic() - read_pulse(herd.pulses, slot).due
