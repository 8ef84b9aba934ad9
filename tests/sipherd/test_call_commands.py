"""The commands about calls, between two phones of a herd."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from commandline import Run, process
from sipherd import Herd, IncomingCall
from sipherd.protocol import events as events_of


@contextmanager
def callee(herd: Herd, act: Callable[[IncomingCall], object]) -> Iterator[None]:
    """Somebody who waits at bob and does this with his next call."""

    def wait() -> None:
        act(herd["bob"].incoming(timeout=10))

    thread = threading.Thread(target=wait)
    thread.start()
    yield
    thread.join(15)
    assert not thread.is_alive()


def answer(call: IncomingCall) -> None:
    call.answer()
    call.wait_ended(timeout=10)


def answer_and_hang_up(call: IncomingCall) -> None:
    call.answer()
    call.hang_up(timeout=10)


def waiting_at_bob(herd: Herd) -> str:
    """The id of his first call, which may be heard of later than the caller's 180."""
    with herd.events(timeout=5, after=0) as events:
        for event in events:
            if isinstance(event.body, events_of.IncomingCall):
                return event.body.call
    raise AssertionError("no call of bob")


# call


def test_a_call_that_lasts(run: Run, herd: Herd) -> None:
    with callee(herd, answer):
        ran = run("call", "alice", "bob", "--duration", "100ms", "--herd", herd.name)
    assert (ran.code, ran.err) == (0, "")
    assert [line.split(maxsplit=3)[3].split(",")[0] for line in ran.out.splitlines()] == [
        "calls bob",
        "180 Ringing",
        "answered",
        "ended: hung up",
    ]


def test_the_far_end_hangs_up(run: Run, herd: Herd) -> None:
    with callee(herd, answer_and_hang_up):
        ran = run("call", "1001", "1002", "--herd", herd.name)
    assert ran.code == 0
    assert ran.out.endswith("ended: hung up by the far end\n")


def test_a_call_for_programs(run: Run, herd: Herd) -> None:
    with callee(herd, answer):
        ran = run("call", "alice", "bob", "--duration", "0", "--json", "--herd", herd.name)
    *events, result = [json.loads(line) for line in ran.out.splitlines()]
    assert [event["kind"] for event in events] == ["placed", "progress", "answered", "ended"]
    assert [event["n"] for event in events] == sorted(event["n"] for event in events)
    assert (result["state"], result["cause"], result["by"]) == ("ended", "hung_up", "local")


def test_a_call_that_is_refused(run: Run, herd: Herd) -> None:
    with callee(herd, lambda call: call.reject(603, "Not Today")):
        ran = run("call", "alice", "bob", "--herd", herd.name)
    assert ran.code == 1
    assert ran.err.startswith("sipherd: call c1 failed: 603 Not Today")


def test_nobody_answers(run: Run, herd: Herd) -> None:
    ran = run("call", "alice", "bob", "--ring-timeout", "300ms", "--herd", herd.name)
    assert ran.code == 1
    assert "no answer" in ran.err


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("sip:bob@no-such-host.invalid", "no-such-host.invalid"),
        ("sip:@@", "sip:@@"),
    ],
)
def test_a_target_that_is_none(run: Run, herd: Herd, target: str, said: str) -> None:
    ran = run("call", "alice", target, "--herd", herd.name)
    assert ran.code == 1
    (line,) = ran.err.splitlines()
    assert said in line
    assert herd["alice"].info().state == "ready"


def test_a_phone_that_is_stopped(run: Run, herd: Herd) -> None:
    herd["alice"].stop()
    ran = run("call", "alice", "bob", "--herd", herd.name)
    assert ran.code == 1
    assert "alice is stopped; start it with: sipherd start alice" in ran.err


def test_a_detached_call_outlives_the_command(run: Run, herd: Herd) -> None:
    with callee(herd, answer):
        ran = run("call", "alice", "bob", "--detach", "--herd", herd.name)
        assert ran.code == 0
        assert "c1 calls bob" in ran.out
        with herd.events(timeout=5, after=0) as events:
            assert any(isinstance(event.body, events_of.Confirmed) for event in events)
        ran = run("hangup", "c1", "--herd", herd.name)
    assert ran.code == 0
    assert ran.out.endswith("c1 ended: hung up\n")


def ringing(command: subprocess.Popen[str]) -> None:
    assert command.stdout
    for line in command.stdout:
        if "180" in line:
            return
    raise AssertionError("it never rang")


def over(herd: Herd) -> None:
    """No call is left; the far end of the last one may tell a moment later."""
    deadline = time.monotonic() + 5
    while calls := herd.calls():
        assert time.monotonic() < deadline, calls
        time.sleep(0.01)


def test_ctrl_c_cancels_a_call(herd: Herd) -> None:
    with process("call", "alice", "bob", "--herd", herd.name) as command:
        ringing(command)
        command.send_signal(signal.SIGINT)
        out, error = command.communicate(timeout=10)
    assert command.returncode == 130, error
    assert "cancelled" in out
    over(herd)


def test_the_death_of_the_command_ends_the_call(herd: Herd) -> None:
    with herd.events(timeout=5) as events:
        with process("call", "alice", "bob", "--herd", herd.name) as command:
            ringing(command)
            command.kill()
        assert any(getattr(event.body, "cause", "") == "cancelled" for event in events)


def test_the_supervisor_dies_meanwhile(herd: Herd) -> None:
    with process("call", "alice", "bob", "--herd", herd.name) as command:
        ringing(command)
        herd.close()
        out, error = command.communicate(timeout=15)
    # Which comes first: the end of the call, or of the supervisor.
    assert command.returncode in (1, 4), out + error
    assert error.startswith("sipherd: ")


# answer


def test_answer_waits_for_a_call(herd: Herd) -> None:
    with process("answer", "bob", "--herd", herd.name) as command:
        assert command.stdout
        assert command.stdout.readline() == "waiting for a call of bob\n"
        call = herd["alice"].call("bob")
        call.wait_answered(timeout=5)
        call.hang_up()
        out, error = command.communicate(timeout=10)
    assert command.returncode == 0, error
    assert "ended: hung up by the far end" in out


def test_answer_takes_a_call_that_waits(run: Run, herd: Herd) -> None:
    call = herd["alice"].call("bob")
    call.wait_ringing(timeout=5)
    ran = run("answer", "--detach", "--json", "--herd", herd.name)
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["phone"] == "bob"
    call.wait_answered(timeout=5)
    call.hang_up()


def test_answer_of_a_named_call(run: Run, herd: Herd) -> None:
    call = herd["alice"].call("bob")
    call.wait_ringing(timeout=5)
    waiting = waiting_at_bob(herd)
    ran = run("answer", waiting, "--detach", "--herd", herd.name)
    assert ran.out == f"{waiting} answered, end it with: sipherd hangup {waiting}\n"
    call.wait_answered(timeout=5)
    call.hang_up()


def test_no_call_comes(run: Run, herd: Herd) -> None:
    ran = run("answer", "bob", "--timeout", "50ms", "--herd", herd.name)
    assert ran.code == 1
    assert ran.err == "sipherd: a call of bob: not within 0.05 s\n"


def test_ctrl_c_hangs_up_an_answered_call(herd: Herd) -> None:
    with process("answer", "bob", "--herd", herd.name) as command:
        call = herd["alice"].call("bob")
        call.wait_answered(timeout=5)
        command.send_signal(signal.SIGINT)
        _, error = command.communicate(timeout=10)
        assert command.returncode == 130, error
    assert call.wait_ended(timeout=5).by == "remote"


# reject, cancel, hangup


def test_reject(run: Run, herd: Herd) -> None:
    call = herd["alice"].call("bob")
    call.wait_ringing(timeout=5)
    waiting = waiting_at_bob(herd)
    ran = run("reject", waiting, "--code", "480", "--herd", herd.name)
    assert (ran.code, ran.out) == (0, f"{waiting} rejected: 480\n")
    assert call.wait_ended(timeout=5).code == 480
    again = run("reject", waiting, "--herd", herd.name)
    assert again.code == 1
    assert f"call {waiting}" in again.err


def test_cancel(run: Run, herd: Herd) -> None:
    call = herd["alice"].call("bob")
    call.wait_ringing(timeout=5)
    ran = run("cancel", call.id, "--herd", herd.name)
    assert ran.code == 0
    assert ran.out.startswith(f"{call.id} cancelled")
    assert call.wait_ended(timeout=5).cause == "cancelled"


def test_cancel_of_an_answered_call(run: Run, herd: Herd) -> None:
    call = herd["alice"].call("bob")
    herd["bob"].incoming(timeout=5).answer()
    call.wait_answered(timeout=5)
    ran = run("cancel", call.id, "--json", "--herd", herd.name)
    assert (ran.code, json.loads(ran.out)["outcome"]) == (1, "already_answered")
    assert call.info.cause is None
    assert run("hangup", call.id, "--herd", herd.name).code == 0
    assert call.wait_ended(timeout=5).cause == "hung_up"


def test_an_incoming_call_can_not_be_cancelled(run: Run, herd: Herd) -> None:
    call = herd["alice"].call("bob")
    incoming = herd["bob"].incoming(timeout=5)
    ran = run("cancel", incoming.id, "--herd", herd.name)
    assert ran.code == 1
    assert "incoming" in ran.err
    call.hang_up()
