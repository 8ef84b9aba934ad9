"""Signs of life: slots, and what a process says through one."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from sipherd.protocol.pulse import PULSE_SIZE, PULSE_SLOTS, SharedPulse
from sipherd.supervisor.pulses import Pulses, run_state


@pytest.fixture
def pulses() -> Iterator[Pulses]:
    pulses = Pulses()
    yield pulses
    pulses.close()


def test_a_process_says_when_it_is_due(pulses: Pulses) -> None:
    slot = pulses.lease(("alice", 1))
    assert pulses.due(("alice", 1)) == 0.0
    with mmap.mmap(pulses.fd, 0) as memory:
        pulse = SharedPulse(memory, slot)
        pulse.due(1234.5)
        assert pulses.due(("alice", 1)) == 1234.5
        del pulse


def test_a_slot_that_is_used_again_is_empty(pulses: Pulses) -> None:
    slots = [pulses.lease((f"p{n}", 1)) for n in range(3)]
    assert len(set(slots)) == 3
    with mmap.mmap(pulses.fd, 0) as memory:
        SharedPulse(memory, slots[1]).due(5.0)
    pulses.release(("p1", 1))
    pulses.release(("p1", 1))
    assert pulses.lease(("p9", 4)) == slots[1]
    assert pulses.due(("p9", 4)) == 0.0
    assert pulses.lease(("p10", 1)) not in slots


def test_what_a_nursery_took_with_it_is_free(pulses: Pulses) -> None:
    for n in range(3):
        pulses.lease((f"p{n}", 1))
    pulses.release_all_but({("p1", 1)})
    assert pulses.due(("p1", 1)) == 0.0
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
