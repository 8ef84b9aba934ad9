"""The Python API, on private herds that really run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

import sipherd
from sipherd import (
    Call,
    CallFailed,
    CallState,
    CommandRefused,
    Herd,
    HerdClosed,
    HerdNotRunning,
    PhoneNotFound,
    PhoneSpec,
    PhoneState,
    SupervisorDied,
    TimedOut,
)
from sipherd.calls import EventStream
from sipherd.protocol.events import CallEnded
from sipherd.protocol.events import IncomingCall as IncomingEvent


def up(herd: Herd) -> tuple[Call, Call]:
    """A call from alice to bob that is answered: her leg and his."""
    call = herd["alice"].call("bob")
    incoming = herd["bob"].incoming(timeout=5)
    incoming.answer()
    call.wait_answered(timeout=5)
    return call, incoming


# Calls.


@pytest.mark.interop("Call out", "phone to phone")
@pytest.mark.interop("Call in", "phone to phone")
@pytest.mark.interop("Hanging up", "phone to phone")
@pytest.mark.interop("Being hung up on", "phone to phone")
def test_a_call(herd: Herd) -> None:
    alice, bob = herd
    call = alice.call(bob)
    assert call.wait_ringing(timeout=5).code == 180
    incoming = bob.incoming(timeout=5)
    assert incoming.from_uri == f"sip:{alice.number}@127.0.0.1"
    assert incoming.sip_call_id == call.sip_call_id
    incoming.answer()
    info = call.wait_answered(timeout=5)
    assert (info.state, info.codec, info.code) == (CallState.ANSWERED, "PCMU", 200)
    assert herd["alice"].info().activity == "in call: 1"
    assert [known.call for known in herd.calls()] == [call.id, incoming.id]

    ended = call.hang_up(timeout=5)
    assert (ended.cause, ended.by, ended.bye_answered) == ("hung_up", "local", True)
    ended = incoming.wait_ended(timeout=5)
    assert (ended.cause, ended.by) == ("hung_up", "remote")
    assert herd.calls() == []


@pytest.mark.parametrize("whom", ["name", "number", "uri"])
def test_whom_to_call(herd: Herd, whom: str) -> None:
    call = herd["alice"].call(getattr(herd["bob"], whom))
    assert call.wait_ringing(timeout=5).to_uri == herd["bob"].uri
    call.hang_up()


def test_no_call_comes(herd: Herd) -> None:
    began = time.monotonic()
    with pytest.raises(TimedOut, match=r"an incoming call at bob: not within 0\.2 s"):
        herd["bob"].incoming(timeout=0.2)
    assert 0.2 <= time.monotonic() - began < 5
    with pytest.raises(TimeoutError):  # what a caller may know it as
        herd["bob"].incoming(timeout=0)


@pytest.mark.interop("Rejected call", "phone to phone")
@pytest.mark.interop("Rejecting a call", "phone to phone")
def test_a_call_is_rejected(herd: Herd) -> None:
    call = herd["alice"].call("bob")
    herd["bob"].incoming(timeout=5).reject(603, "Not Today")
    with pytest.raises(CallFailed) as caught:
        call.wait_answered(timeout=5)
    assert (caught.value.cause, caught.value.code) == ("rejected", 603)
    assert caught.value.why == "603 Not Today"


@pytest.mark.interop("Cancel", "phone to phone")
def test_cancel(herd: Herd) -> None:
    call = herd["alice"].call("bob")
    call.wait_ringing(timeout=5)
    assert call.cancel(timeout=5).outcome == "cancelled"
    assert call.wait_ended(timeout=5).cause == "cancelled"
    with pytest.raises(CallFailed, match="cancelled"):
        call.wait_answered(timeout=5)


def test_cancel_too_late(herd: Herd) -> None:
    call, _ = up(herd)
    assert call.cancel(timeout=5).outcome == "already_answered"
    assert call.state is CallState.ANSWERED
    call.hang_up()


@pytest.mark.interop("Cancelled by the caller", "phone to phone")
def test_a_call_that_is_given_up_while_it_rings(herd: Herd) -> None:
    """Whoever took it is told, and can't answer it any more."""
    call = herd["alice"].call("bob")
    incoming = herd["bob"].incoming(timeout=5)
    call.hang_up(timeout=5)
    assert incoming.wait_ended(timeout=5).cause == "cancelled"
    with pytest.raises(CommandRefused) as caught:
        incoming.answer()
    assert caught.value.reason == "cancelled"


def test_a_call_that_was_given_up_is_handed_to_nobody(herd: Herd) -> None:
    call = herd["alice"].call("bob")
    with herd.events(timeout=5, after=0) as events:
        call.wait_ringing(timeout=5)
        call.hang_up(timeout=5)
        assert any(e.phone == "bob" and isinstance(e.body, CallEnded) for e in events)
    with pytest.raises(TimedOut):
        herd["bob"].incoming(timeout=0.2)


def test_nobody_answers(herd: Herd) -> None:
    call = herd["alice"].call("bob", ring_timeout=0.3)
    with pytest.raises(CallFailed, match="no answer"):
        call.wait_answered(timeout=5)


def test_waiting_for_what_does_not_happen(herd: Herd) -> None:
    call = herd["alice"].call("bob")
    with pytest.raises(TimedOut, match=f"the answer of call {call.id}: not within"):
        call.wait_answered(timeout=0.1)
    call.hang_up()
    assert call.hang_up().cause == "cancelled"  # it is over: nothing to do, nothing to say


def test_a_phone_that_answers_by_itself(herd: Herd) -> None:
    carol = herd.add("carol", media="none", on_incoming={"answer_after": 0, "hang_up_after": 0.2})
    call = herd["alice"].call(carol)
    incoming = carol.incoming(timeout=5)
    assert call.wait_answered(timeout=5).codec == "PCMU"
    assert call.wait_ended(timeout=5).by == "remote"
    assert incoming.wait_ended(timeout=5).by == "local"


def test_a_phone_that_rings_for_ever(herd: Herd) -> None:
    """A client may answer all the same."""
    dora = herd.add("dora", media="none", on_incoming={"ring": True})
    call = herd["alice"].call(dora)
    dora.incoming(timeout=5).answer()
    call.wait_answered(timeout=5)
    call.hang_up()


def test_a_phone_dies_in_a_call(herd: Herd) -> None:
    call, incoming = up(herd)
    os.kill(herd["bob"].info().pid, signal.SIGKILL)
    assert incoming.wait_ended(timeout=5).cause == "phone_crashed"
    port = herd["bob"].info().port
    again = herd["bob"].start()  # it is on its way by itself
    assert (again.state, again.port, again.incarnation) == (PhoneState.READY, port, 2)
    ended = call.wait_ended(timeout=10)  # by the next process
    assert (ended.cause, ended.by) == ("hung_up", "remote")


def test_a_phone_dies_in_a_call_that_it_has_placed(herd: Herd) -> None:
    """Who placed it is told at once; and its far end is not left in it."""
    call, incoming = up(herd)
    os.kill(herd["alice"].info().pid, signal.SIGKILL)
    assert call.wait_ended(timeout=5).cause == "phone_crashed"
    ended = incoming.wait_ended(timeout=10)
    assert (ended.cause, ended.by) == ("hung_up", "remote")


# Whose call it is.


def test_a_call_ends_with_its_client(herd: Herd) -> None:
    with Herd.connect(herd.name) as other:
        other["alice"].call("bob")
    # The queue hands out what is alive: it has ended, or is about to.
    with herd.events(timeout=5, after=0) as events:
        assert any(getattr(event.body, "cause", "") == "cancelled" for event in events)


def test_a_detached_call_does_not(herd: Herd) -> None:
    with Herd.connect(herd.name) as other:
        call = other["alice"].call("bob", detached=True)
        incoming = herd["bob"].incoming(timeout=5)
        incoming.answer()
        call.wait_answered(timeout=5)
    assert herd["alice"].info().activity == "in call: 1"
    incoming.hang_up(timeout=5)


def test_an_unanswered_call_goes_to_the_next_client(herd: Herd) -> None:
    call = herd["alice"].call("bob")
    with Herd.connect(herd.name) as other:
        taken = other["bob"].incoming(timeout=5)
        with pytest.raises(TimedOut):
            herd["bob"].incoming(timeout=0.1)
    again = herd["bob"].incoming(timeout=5)
    assert again.id == taken.id
    again.answer()
    call.wait_answered(timeout=5)
    call.hang_up()


# Phones.


def test_a_phone_is_found_by_name_and_number(herd: Herd) -> None:
    assert herd["1001"].name == herd.phone("alice").name == "alice"
    assert [phone.number for phone in herd] == ["1001", "1002"]
    assert len(herd) == 2


def test_a_phone_that_is_not_there(herd: Herd) -> None:
    with pytest.raises(PhoneNotFound) as caught:
        herd["alcie"]
    assert caught.value.near == ("alice",)
    with pytest.raises(LookupError, match='no phone "1003"; near: 100'):
        herd["alice"].call("1003")


def test_stop_and_start(herd: Herd) -> None:
    alice = herd["alice"]
    report = alice.stop()
    assert (report.phone, report.how) == ("alice", "drained")
    assert alice.info().state is PhoneState.STOPPED
    with pytest.raises(CommandRefused, match="alice is stopped"):
        alice.call("bob")
    with pytest.raises(CommandRefused, match="alice is stopped"):
        alice.incoming(timeout=1)
    info = alice.start()
    assert (info.state, info.port) == (PhoneState.READY, alice.port)


@pytest.mark.interop("Restart on the same port", "phone to phone")
@pytest.mark.parametrize("who", ["alice", "bob"])
def test_the_first_call_after_a_restart(herd: Herd, who: str) -> None:
    up(herd)[0].hang_up(timeout=5)
    port = herd[who].port
    assert herd[who].restart().port == port
    up(herd)[0].hang_up(timeout=5)


def test_add_and_remove(herd: Herd) -> None:
    carol = herd.add("carol", number="1003", media="none")
    assert carol.port not in (herd["alice"].port, herd["bob"].port)
    assert herd.remove(carol).how == "drained"
    assert len(herd) == 2
    with pytest.raises(ValueError, match="port 70000"):
        herd.add("carol", port=70000)
    with pytest.raises(CommandRefused, match="alice"):
        herd.add("alice")


def test_ways_to_name_phones() -> None:
    cid = PhoneSpec(name="cid", number="3")
    with Herd(["ann", {"name": "ben", "media": "none"}, cid]) as herd:
        assert [info.number for info in herd.phones()] == ["ann", "ben", "3"]
        assert herd.info().states == {"ready": 3}
        assert herd.counters()["ports_allocated"] == 3


def test_phones_by_count() -> None:
    with Herd(phones=2) as herd:
        assert [(phone.name, phone.number) for phone in herd] == [
            ("phone-1", "1001"),
            ("phone-2", "1002"),
        ]


def test_all_or_nothing(runtime_dir: Path) -> None:
    with Herd() as herd:
        with pytest.raises(CommandRefused, match=r"192\.0\.2\.1"):
            herd.add("carol", address="192.0.2.1")
        assert herd.phones() == []
    with pytest.raises(CommandRefused, match=r"192\.0\.2\.1"):
        Herd(["ann", {"name": "ben", "address": "192.0.2.1"}])


def test_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "herd.yaml"
    file.write_text("herd: lab\nphones: [{name: ann, port: 5060}, {name: ben}]")
    with Herd.from_file(file) as one, Herd.from_file(file) as other:
        assert "lab" not in (one.name, other.name)
        ports = [info.port for herd in (one, other) for info in herd.phones()]
        assert len(set(ports)) == 4


# Events.


def until_both_ended(events: EventStream) -> list[int]:
    """The numbers of the events until both legs of the call are over."""
    numbers, ended = [], 0
    for event in events:
        numbers.append(event.n)
        ended += isinstance(event.body, CallEnded)
        if ended == 2:
            return numbers
    raise AssertionError(f"{ended} of two legs ended, after the events {numbers}")


def test_events_are_numbered_without_a_gap(herd: Herd) -> None:
    call, _ = up(herd)
    call.hang_up(timeout=5)
    with herd.events(timeout=5, after=0) as events:
        seen = until_both_ended(events)
    assert seen == list(range(1, len(seen) + 1))


def test_two_streams_from_different_places(herd: Herd) -> None:
    with herd.events(timeout=5) as from_now:
        call, _ = up(herd)
        with herd.events(timeout=5, after=0) as from_the_start:
            call.hang_up(timeout=5)
            everything = until_both_ended(from_the_start)
        later = until_both_ended(from_now)
    assert everything == list(range(1, everything[-1] + 1))
    assert later == list(range(from_now.n + 1, everything[-1] + 1))


def test_watching_takes_nothing(herd: Herd) -> None:
    with Herd.connect(herd.name) as watcher, watcher.events(timeout=5) as events:
        call = herd["alice"].call("bob")
        assert any(isinstance(event.body, IncomingEvent) for event in events)
        assert herd["bob"].incoming(timeout=5).info.phone == "bob"
        call.hang_up()


# Beginning and end.


def test_connect_and_leave(herd: Herd) -> None:
    with Herd.connect(herd.name) as other:
        assert (other.pid, len(other)) == (herd.pid, 2)
    with pytest.raises(HerdClosed):
        other.phones()
    assert len(herd) == 2


def test_connect_to_nobody() -> None:
    with pytest.raises(HerdNotRunning, match="nobody"):
        Herd.connect("nobody")


def test_two_herds_beside_each_other() -> None:
    with Herd(phones=2) as one, Herd(phones=2) as other:
        calls = []
        for herd in (one, other):
            first, second = herd
            calls.append(first.call(second))
            second.incoming(timeout=5).answer()
        for call in calls:
            call.wait_answered(timeout=5)
        across = one["phone-1"].call(other["phone-2"])
        other["phone-2"].incoming(timeout=5).answer()
        across.wait_answered(timeout=5)


def test_stop(herd: Herd) -> None:
    call, _ = up(herd)
    pids = [herd.pid, *(info.pid for info in herd.phones())]
    reports = herd.stop()
    assert [(report.phone, report.how) for report in reports] == [
        ("alice", "drained"),
        ("bob", "drained"),
    ]
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    with pytest.raises(HerdClosed):
        herd.phones()
    assert call.info.cause in (None, "stopped", "hung_up")


def test_the_supervisor_dies(herd: Herd, killed: None) -> None:
    call, _ = up(herd)
    os.kill(herd.pid, signal.SIGKILL)
    with pytest.raises(SupervisorDied):
        call.wait_ended(timeout=5)
    with pytest.raises(SupervisorDied):
        herd.phones()


def test_a_name_that_is_taken(herd: Herd) -> None:
    with pytest.raises(sipherd.HerdNotStarted, match=herd.name):
        Herd(name=herd.name)
    assert len(herd) == 2


SCRIPT = """
    import sys
    from sipherd import Herd

    herd = Herd(phones=[{"name": "ann", "media": "none"}, {"name": "ben", "media": "none"}])
    ann, ben = herd
    call = ann.call(ben)
    ben.incoming(timeout=5).answer()
    call.wait_answered(timeout=5)
    print(herd.pid, *(info.pid for info in herd.phones()), flush=True)
    sys.stdin.read()
"""


def script() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(sipherd.__file__).parents[1])},
    )


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_the_end_of_a_script_is_the_end_of_its_herd(how: str) -> None:
    """It holds a herd and never closes it: nothing stays alive, on a free box for 2 s at most."""
    with script() as running:
        assert running.stdout
        assert running.stdin
        pids = [int(word) for word in running.stdout.readline().split()]
        assert len(pids) == 3
        assert all(map(is_alive, pids))
        if how == "killed":
            running.kill()
        else:
            running.stdin.close()
        running.wait(timeout=10)
    deadline = time.monotonic() + 10
    while alive := [pid for pid in pids if is_alive(pid)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.01)


def test_a_child_of_a_fork_does_not_end_the_herd(herd: Herd) -> None:
    pid = os.fork()
    if pid == 0:
        herd.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert len(herd) == 2
