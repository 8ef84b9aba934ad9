"""A phone as caller, SIPp as callee: every final response, and every outcome of a cancellation."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from peers.herd import HerdProcess
from peers.sipp import Sipp, wait_for
from sipherd import Call, Herd

StartSipp = Callable[..., Sipp]
StartHerd = Callable[..., HerdProcess]

ALICE = {"name": "alice", "media": "none"}


@pytest.fixture
def herd(start_herd: StartHerd) -> HerdProcess:
    return start_herd([ALICE])


@pytest.fixture
def client(herd: HerdProcess) -> Iterator[Herd]:
    with Herd.connect(herd.name) as client:
        yield client


# The command line: `sipherd call`.


@pytest.mark.interop("Call out", "SIPp")
@pytest.mark.interop("Hanging up", "SIPp")
@pytest.mark.parametrize("scenario", ["callee_answers", "callee_answers_at_once"])
def test_call_is_answered(herd: HerdProcess, start_sipp: StartSipp, scenario: str) -> None:
    sipp = start_sipp(scenario)
    done = herd.command("call", "alice", sipp.uri, "--duration", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    sipp.passes()
    ended = herd.wait_event(phone="alice", kind="ended")
    assert (ended["cause"], ended["by"], ended["bye_answered"]) == ("hung_up", "local", True)


@pytest.mark.interop("Rejected call", "SIPp")
@pytest.mark.parametrize(
    ("code", "reason"), [(486, "Busy Here"), (404, "Not Found"), (603, "Decline")]
)
def test_call_is_rejected(herd: HerdProcess, start_sipp: StartSipp, code: int, reason: str) -> None:
    sipp = start_sipp(f"callee_rejects_{code}")
    done = herd.command("call", "alice", sipp.uri, "--duration", "1")
    assert done.returncode == 1
    assert f"{code} {reason}" in done.stdout + done.stderr
    sipp.passes()
    ended = herd.wait_event(phone="alice", kind="ended")
    assert (ended["cause"], ended["by"]) == ("rejected", "remote")
    assert (ended["code"], ended["reason"]) == (code, reason)


def test_call_to_nobody(herd: HerdProcess, start_sipp: StartSipp) -> None:
    """The port is closed: ICMP ends the call at once, and the phone keeps serving."""
    gone = start_sipp("callee_answers")
    gone.close()
    done = herd.command("call", "alice", gone.uri, timeout=20)
    assert done.returncode == 1
    assert herd.wait_event(phone="alice", kind="ended")["cause"] == "unreachable"

    sipp = start_sipp("callee_answers")
    assert herd.command("call", "alice", sipp.uri, "--duration", "0.1").returncode == 0
    sipp.passes()


def test_ctrl_c_cancels(herd: HerdProcess, start_sipp: StartSipp) -> None:
    sipp = start_sipp("callee_rings_until_cancel")
    with herd.start_command("call", "alice", sipp.uri) as command:
        herd.wait_event(phone="alice", kind="progress", code=180)
        command.send_signal(signal.SIGINT)
        command.communicate(timeout=10)
        assert command.returncode == 130
    sipp.passes()
    assert herd.wait_event(phone="alice", kind="ended")["cause"] == "cancelled"


def test_a_dead_clients_call_is_cancelled(herd: HerdProcess, start_sipp: StartSipp) -> None:
    sipp = start_sipp("callee_rings_until_cancel")
    with herd.start_command("call", "alice", sipp.uri) as command:
        herd.wait_event(phone="alice", kind="progress", code=180)
        command.kill()
        herd.wait_event(phone="alice", kind="ended")
    sipp.passes()


# Dialogs.


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(
            "callee_behind_proxies",
            marks=pytest.mark.interop("Record-Route and loose routing", "SIPp"),
        ),
        pytest.param("callee_forks", marks=pytest.mark.interop("Forked 2xx", "SIPp")),
    ],
)
def test_dialog(client: Herd, start_sipp: StartSipp, scenario: str) -> None:
    sipp = start_sipp(scenario)
    call = client["alice"].call(sipp.uri)
    call.wait_answered(timeout=5)
    if scenario == "callee_forks":
        wait_for(lambda: sipp.received("BYE"), "the BYE of the other fork")
    call.hang_up()
    sipp.passes()


def test_every_200_is_acknowledged(client: Herd, start_sipp: StartSipp) -> None:
    sipp = start_sipp("callee_repeats_200")
    call = client["alice"].call(sipp.uri)
    wait_for(lambda: len(sipp.received("ACK")) == 2, "the second ACK")
    call.hang_up()
    sipp.passes()


@pytest.mark.interop("Outbound proxy", "SIPp")
def test_the_call_goes_to_the_outbound_proxy(start_herd: StartHerd, start_sipp: StartSipp) -> None:
    sipp = start_sipp("callee_answers")
    herd = start_herd([ALICE | {"proxy": f"{sipp.address}:{sipp.port}"}])
    with Herd.connect(herd.name) as client:
        call = client["alice"].call("sip:bob@elsewhere.invalid")
        call.wait_answered(timeout=5)
        call.hang_up()
        sipp.passes()
    (invite,) = sipp.received("INVITE")
    assert invite.startswith("INVITE sip:bob@elsewhere.invalid SIP/2.0")


@pytest.mark.interop("Being hung up on", "SIPp")
def test_the_callee_hangs_up(client: Herd, herd: HerdProcess, start_sipp: StartSipp) -> None:
    sipp = start_sipp("callee_hangs_up")
    call = client["alice"].call(sipp.uri)
    ended = call.wait_ended(timeout=5)
    sipp.passes()
    assert (ended.cause, ended.by) == ("hung_up", "remote")


def test_a_bye_is_repeated(client: Herd, start_sipp: StartSipp) -> None:
    sipp = start_sipp("callee_ignores_first_bye")
    call = client["alice"].call(sipp.uri)
    call.wait_answered(timeout=5)
    call.hang_up()
    sipp.passes()


# Cancel: each row of the outcome table.


def cancel_when(call: Call, herd: HerdProcess, kind: str) -> str:
    """Cancel as soon as this event of the call is out; the outcome."""
    herd.wait_event(kind=kind, call=call.id)
    return call.cancel(timeout=40).outcome


def test_cancel_already_answered(client: Herd, herd: HerdProcess, start_sipp: StartSipp) -> None:
    """Nothing is sent, the call stays up until it is hung up."""
    sipp = start_sipp("callee_answers")
    call = client["alice"].call(sipp.uri)
    assert cancel_when(call, herd, "answered") == "already_answered"
    assert not herd.events(kind="ended")
    call.hang_up()
    sipp.passes()
    assert not sipp.received("CANCEL")


@pytest.mark.interop("Cancel", "SIPp")
def test_cancelled(client: Herd, herd: HerdProcess, start_sipp: StartSipp) -> None:
    sipp = start_sipp("callee_rings_until_cancel")
    call = client["alice"].call(sipp.uri)
    assert cancel_when(call, herd, "progress") == "cancelled"
    sipp.passes()
    assert herd.wait_event(kind="ended")["cause"] == "cancelled"


def test_cancel_waits_for_a_provisional_response(
    client: Herd, herd: HerdProcess, start_sipp: StartSipp
) -> None:
    sipp = start_sipp("callee_waits_before_ringing")
    call = client["alice"].call(sipp.uri)
    assert cancel_when(call, herd, "placed") == "cancelled"
    sipp.passes()


@pytest.mark.interop("Cancel crosses the answer", "SIPp")
def test_answered_then_ended(client: Herd, herd: HerdProcess, start_sipp: StartSipp) -> None:
    sipp = start_sipp("callee_answers_despite_cancel")
    call = client["alice"].call(sipp.uri)
    assert cancel_when(call, herd, "progress") == "answered_then_ended"
    sipp.passes()


def test_answered_before_the_cancel_could_leave(
    client: Herd, herd: HerdProcess, start_sipp: StartSipp
) -> None:
    sipp = start_sipp("callee_answers_after_silence")
    call = client["alice"].call(sipp.uri)
    assert cancel_when(call, herd, "placed") == "answered_then_ended"
    sipp.passes()


def test_already_ended(client: Herd, herd: HerdProcess, start_sipp: StartSipp) -> None:
    sipp = start_sipp("callee_rejects_despite_cancel")
    call = client["alice"].call(sipp.uri)
    herd.wait_event(kind="progress", call=call.id)
    report = call.cancel(timeout=10)
    assert (report.outcome, report.code) == ("already_ended", 486)
    sipp.passes()


def test_the_phone_crashes_meanwhile(
    client: Herd, herd: HerdProcess, start_sipp: StartSipp
) -> None:
    """The callee keeps the INVITE pending; the phone dies before its final response."""
    sipp = start_sipp("callee_no_final_after_cancel", timeout=60)
    call = client["alice"].call(sipp.uri)
    herd.wait_event(kind="progress", call=call.id)
    with herd.start_command("cancel", call.id, "--json") as command:
        wait_for(lambda: sipp.received("CANCEL"), "the CANCEL")
        os.kill(herd.processes()[0], signal.SIGKILL)
        out, error = command.communicate(timeout=10)
    assert "phone_crashed" in out, error
    assert herd.wait_event(kind="cancel_resolved")["outcome"] == "phone_crashed"
    assert herd.wait_event(kind="phone_died")["calls"] == [call.id]


@pytest.mark.slow
def test_outcomes_that_take_64_t1(start_herd: StartHerd, start_sipp: StartSipp) -> None:
    """Those who wait 32 s do it at the same time, each on a phone of its own."""
    outcomes = {
        "callee_silent": "cancelled_no_response",
        "callee_no_final_after_cancel": "cancelled_unconfirmed",
        "callee_481_to_cancel": "cancelled_unconfirmed",
    }
    herd = start_herd([{"name": name.replace("_", "-")} for name in [*outcomes, "idle", "bob"]])
    bob = start_sipp("caller_never_acks", target=herd.phone("bob").target, timeout=45)
    silent = start_sipp("callee_silent", timeout=45)
    with ExitStack() as stack:
        client = stack.enter_context(Herd.connect(herd.name))
        client["bob"].incoming(timeout=5).answer()
        client["idle"].call(silent.uri)
        sipps = {name: start_sipp(name, timeout=45) for name in outcomes}
        commands = {}
        for name, sipp in sipps.items():
            call = client[name.replace("_", "-")].call(sipp.uri)
            herd.wait_event(kind="placed" if "silent" in name else "progress", call=call.id)
            command = herd.start_command("cancel", call.id, "--json")
            commands[name] = stack.enter_context(command)
        for name, outcome in outcomes.items():
            out, error = commands[name].communicate(timeout=40)
            assert outcome in out, f"{name}: {out}{error}"
    for sipp in sipps.values():
        sipp.passes(45)
    # Timer A doubles from T1 until Timer B: copies after 0.5, 1.5, 3.5, 7.5, 15.5, 31.5 s.
    silent.passes(45)
    assert len(silent.received("INVITE")) == 7
    assert herd.wait_event(phone="idle", kind="ended")["cause"] == "no_response"
    bob.passes(45)
    assert herd.wait_event(phone="bob", kind="ended")["cause"] == "no_ack"
