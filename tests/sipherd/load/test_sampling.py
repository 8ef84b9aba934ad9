"""Samples of a herd that really runs."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sipherd import Call, Herd, TimedOut
from sipherd.client import Connection
from sipherd.load import sampling
from sipherd.load.kernel import offspring
from sipherd.load.records import BoxSample, Leftovers, PhoneSample
from sipherd.load.sampling import PHONES_EVERY, SAMPLES_EVERY, Sampler, Sampling

PHONES = [
    {"name": "alice", "number": "1001", "media": "none"},
    {"name": "bob", "number": "1002", "media": "audio", "max_calls": 1},
]

Until = Callable[[Callable[[], bool]], None]


@pytest.fixture
def herd() -> Iterator[Herd]:
    with Herd(PHONES) as herd:
        yield herd


@pytest.fixture
def connection(herd: Herd, runtime_dir: Path) -> Iterator[Connection]:
    connection = Connection(herd.name, runtime_dir)
    yield connection
    connection.close()


@pytest.fixture
def sampler(connection: Connection) -> Sampler:
    return Sampler(connection)


@pytest.fixture
def until() -> Until:
    def until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    return until


def up(herd: Herd) -> Call:
    call = herd["alice"].call("bob")
    herd["bob"].incoming(timeout=5).answer()
    call.wait_answered(timeout=5)
    return call


def test_a_box_that_copes(sampler: Sampler, herd: Herd) -> None:
    up(herd)
    sample = sampler.sample(12.5, 0.25)
    assert (sample.t, sample.loop_lag) == (12.5, 0.25)
    assert (sample.calls, sample.processes) == (2, 4)
    assert 0.0 <= sample.cpu <= 1.0
    assert (sample.socket_drops, sample.rtp_exhausted) == (0, 0)


def test_a_phone_that_was_held_up(sampler: Sampler, herd: Herd, until: Until) -> None:
    os.kill(herd["bob"].info().pid, signal.SIGSTOP)
    call = herd["alice"].call("bob")  # its INVITE waits in the socket
    time.sleep(0.3)
    os.kill(herd["bob"].info().pid, signal.SIGCONT)
    herd["bob"].incoming(timeout=5)
    until(lambda: 0.3 <= sampler.sample(0.0).phone_lag < 60)
    call.cancel()


def test_a_supervisor_that_was_held_up(sampler: Sampler, herd: Herd, until: Until) -> None:
    os.kill(herd.pid, signal.SIGSTOP)
    time.sleep(1.5)  # within that it would have looked at its phones
    os.kill(herd.pid, signal.SIGCONT)
    until(lambda: 0.3 <= sampler.sample(0.0).supervisor_lag < 60)


def test_datagrams_that_had_no_room(sampler: Sampler, herd: Herd) -> None:
    bob = herd["bob"]
    here = bob.info()
    os.kill(here.pid, signal.SIGSTOP)
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        for _ in range(20_000):
            peer.sendto(b"x", ("127.0.0.1", here.port))
    os.kill(here.pid, signal.SIGCONT)
    assert sampler.sample(0.0).socket_drops > 0
    assert sampler.sample(0.0).socket_drops == 0, "told once"


def test_each_phone_has_its_turn(sampler: Sampler, herd: Herd) -> None:
    turns = [sampler.phones(float(t)) for t in range(int(PHONES_EVERY / SAMPLES_EVERY))]
    seen = [sample for turn in turns for sample in turn]
    assert {sample.phone for sample in seen} == {"alice", "bob"}
    for sample in seen:
        assert sample.incarnation == 1
        assert 500_000 < sample.memory < 50_000_000
        assert sample.fds > 5
        assert sample.threads >= 1


def test_one_that_is_dead_is_left_out(sampler: Sampler, herd: Herd, until: Until) -> None:
    dead = herd["bob"].info().pid
    os.kill(dead, signal.SIGKILL)
    until(lambda: herd["bob"].info().incarnation == 2 and herd.info().states == {"ready": 2})
    seen = [sample for t in range(10) for sample in sampler.phones(float(t))]
    assert {(sample.phone, sample.incarnation) for sample in seen} == {("alice", 1), ("bob", 2)}


def test_only_phones_of_the_run(connection: Connection, herd: Herd) -> None:
    sampler = Sampler(connection, ["bob"])
    seen = {sample.phone for t in range(5) for sample in sampler.phones(float(t))}
    assert seen == {"bob"}


def test_what_is_left_and_that_nothing_is(sampler: Sampler, herd: Herd, until: Until) -> None:
    assert sampler.leftovers() == Leftovers()
    call = up(herd)
    until(lambda: sampler.leftovers(0.0) == Leftovers(calls=2, dialogs=2, rtp_ports=1))
    call.hang_up(timeout=5)
    assert sampler.leftovers() == Leftovers()


def test_processes_of_nobody(sampler: Sampler, herd: Herd, monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor, nursery = herd.pid, herd.info().nursery_pid
    alice = herd["alice"].info().pid
    # What a phone's process has started is its own until it dies; then it is its subreaper's.
    more = {1: alice, 2: 1, 3: supervisor, 4: 3, 5: nursery}
    below = offspring(supervisor)
    monkeypatch.setattr(sampling, "offspring", lambda pid: {**below, **more})
    assert sampler.leftovers(0.0) == Leftovers(processes=3)


def test_a_thread_takes_samples_until_it_is_stopped(sampler: Sampler) -> None:
    seen: list[BoxSample] = []
    phones: list[PhoneSample] = []
    enough = threading.Event()

    def on_sample(sample: BoxSample) -> None:
        seen.append(sample)
        if len(seen) == 2:
            enough.set()

    watch = Sampling(
        sampler,
        began=time.monotonic() - 100,
        loop_lag=lambda: 0.5,
        on_sample=on_sample,
        on_phones=phones.extend,
    )
    watch.start()
    assert enough.wait(10)
    watch.stop()
    watch.stop()
    taken = len(seen)
    assert all(sample.t > 101 and sample.loop_lag == 0.5 for sample in seen)
    assert phones
    time.sleep(0.05)
    assert len(seen) == taken


def test_a_thread_ends_with_the_herd(herd: Herd, sampler: Sampler, until: Until) -> None:
    watch = Sampling(
        sampler,
        began=time.monotonic(),
        loop_lag=float,
        on_sample=lambda sample: None,
        on_phones=lambda samples: None,
    )
    watch.start()
    herd.close()
    until(lambda: not watch.is_alive)
    watch.stop()


def test_a_supervisor_that_does_not_answer_in_time_is_asked_again(
    sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = threading.Event()
    real = sampler.sample
    asked: list[float] = []

    def sample(t: float, loop_lag: float = 0.0) -> BoxSample:
        asked.append(t)
        if len(asked) == 1:
            raise TimedOut("an answer", 10.0)
        return real(t, loop_lag)

    monkeypatch.setattr(sampler, "sample", sample)
    watch = Sampling(
        sampler,
        began=time.monotonic(),
        loop_lag=float,
        on_sample=lambda sample: seen.set(),
        on_phones=lambda samples: None,
    )
    watch.start()
    assert seen.wait(10)
    watch.stop()


def test_one_that_was_never_started_can_be_stopped(sampler: Sampler) -> None:
    Sampling(
        sampler,
        began=0.0,
        loop_lag=float,
        on_sample=lambda sample: None,
        on_phones=lambda samples: None,
    ).stop()
