"""Signs of life: slots, and what a process says through one."""

from __future__ import annotations

import math
import mmap
import os
import signal
import struct
import subprocess
import time
from collections.abc import Iterator

import pytest

from sipherd.protocol.pulse import PULSE_SIZE, PULSE_SLOTS, SharedPulse, Vitals
from sipherd.supervisor.pulses import Pulses, run_state


@pytest.fixture
def pulses() -> Iterator[Pulses]:
    pulses = Pulses()
    yield pulses
    pulses.close()


def test_a_process_says_when_it_is_due(pulses: Pulses) -> None:
    slot = pulses.lease(("alice", 1))
    assert pulses.read(("alice", 1)).due == 0.0
    with mmap.mmap(pulses.fd, 0) as memory:
        pulse = SharedPulse(memory, slot)
        pulse.due(1234.5)
        assert pulses.read(("alice", 1)).due == 1234.5
        del pulse


def test_how_late_it_was_at_worst_counts_anew_once_it_was_read(pulses: Pulses) -> None:
    slot = pulses.lease(("alice", 1))
    with mmap.mmap(pulses.fd, 0) as memory:
        pulse = SharedPulse(memory, slot)
        for late in (0.1, 0.3, 0.2):
            pulse.late(late)
        pulse.dialogs(3)
        assert pulses.read(("alice", 1)) == Vitals(0.0, 0.3, 3)
        pulse.late(0.05)
        assert pulses.read(("alice", 1)) == Vitals(0.0, 0.05, 3)
        assert pulses.read(("alice", 1)) == Vitals(0.0, 0.0, 3)
        del pulse


@pytest.mark.parametrize("wild", [math.nan, math.inf, -math.inf, -1.0, 1e300])
def test_what_a_wild_process_writes_harms_nobody(pulses: Pulses, wild: float) -> None:
    slot = pulses.lease(("alice", 1))
    with mmap.mmap(pulses.fd, 0) as memory:
        struct.pack_into("4d", memory, slot * 32, 5.0, wild, wild, wild)
    vitals = pulses.read(("alice", 1))
    assert vitals.dialogs == 0
    assert 0.0 <= vitals.late < math.inf


def test_a_slot_that_is_used_again_is_empty(pulses: Pulses) -> None:
    slots = [pulses.lease((f"p{n}", 1)) for n in range(3)]
    assert len(set(slots)) == 3
    with mmap.mmap(pulses.fd, 0) as memory:
        pulse = SharedPulse(memory, slots[1])
        pulse.due(5.0)
        pulse.late(1.0)
        pulse.dialogs(2)
        del pulse
    pulses.release(("p1", 1))
    pulses.release(("p1", 1))
    assert pulses.lease(("p9", 4)) == slots[1]
    assert pulses.read(("p9", 4)) == Vitals()
    assert pulses.lease(("p10", 1)) not in slots


def test_what_a_nursery_took_with_it_is_free(pulses: Pulses) -> None:
    for n in range(3):
        pulses.lease((f"p{n}", 1))
    pulses.release_all_but({("p1", 1)})
    assert pulses.read(("p1", 1)).due == 0.0
    assert {pulses.lease(("a", 1)), pulses.lease(("b", 1))} == {0, 2}


def test_no_slot_is_left(pulses: Pulses) -> None:
    for n in range(PULSE_SLOTS):
        pulses.lease(("p", n))
    with pytest.raises(OSError, match="more than 65536 processes"):
        pulses.lease(("one", 1))


def test_nobody_can_cut_the_memory_off(pulses: Pulses) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(pulses.fd, 0)
    assert os.fstat(pulses.fd).st_size == PULSE_SIZE


def test_run_state() -> None:
    process = subprocess.Popen(["sleep", "60"])
    try:
        deadline = time.monotonic() + 5
        while run_state(process.pid) != "S":
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGSTOP)
        while run_state(process.pid) != "T":
            assert time.monotonic() < deadline
    finally:
        process.kill()
        process.wait()
    assert run_state(process.pid) == ""
