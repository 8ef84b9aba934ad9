"""Phones beyond help, with real processes: parked, looked after, and brought back."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest

from peers.sipp import loopback_address
from sipherd import Herd
from sipherd.protocol.messages import PhoneInfo
from sipherd.protocol.states import PhoneState
from supervisor_process import wait_for

OPTIONS = (
    "OPTIONS sip:alice@127.0.0.1 SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK1;rport\r\n"
    "From: <sip:peer@127.0.0.1>;tag=1\r\nTo: <sip:alice@127.0.0.1>\r\n"
    "Call-ID: {port}@peer\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
)


@pytest.fixture
def herd() -> Iterator[Herd]:
    with Herd(["bob"]) as herd:
        yield herd


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(10.0)
        yield peer


def await_state(herd: Herd, state: PhoneState, incarnation: int = 0) -> PhoneInfo:
    def is_there() -> PhoneInfo | None:
        info = herd["alice"].info()
        there = info.state is state and incarnation in (0, info.incarnation)
        return info if there else None

    return wait_for(is_there, f"alice {state.value}, incarnation {incarnation}")


def ask_options(peer: socket.socket, port: int) -> None:
    text = OPTIONS.format(port=peer.getsockname()[1])
    peer.sendto(text.encode(), ("127.0.0.1", port))


def test_a_phone_that_crashes_again_and_again(herd: Herd, peer: socket.socket) -> None:
    restart = {"max": 2, "backoff": {"first": 0.05, "cap": 1.0}}
    alice = herd.add("alice", media="none", restart=restart, address=loopback_address())
    for incarnation in (1, 2, 3):
        info = await_state(herd, PhoneState.READY, incarnation)
        os.kill(info.pid, signal.SIGKILL)
    failed = await_state(herd, PhoneState.FAILED)
    assert failed.why == "SIGKILL (perhaps out of memory); 2 restarts within 30 s"
    assert (failed.deaths, failed.restarts, failed.pid) == (3, 2, 0)
    # Callers hear at once that nobody is there.
    peer.connect((alice.info().address, alice.port))
    peer.send(b"x")
    with pytest.raises(ConnectionRefusedError):
        peer.recv(100)
    assert alice.reset().state is PhoneState.STOPPED
    again = alice.start()
    assert (again.state, again.port, again.why) == (PhoneState.READY, alice.port, "")


def test_what_comes_to_a_phone_that_is_held_waits_for_its_next_process(
    herd: Herd, peer: socket.socket
) -> None:
    alice = herd.add("alice", media="none", restart="temporary", on_parked="hold")
    os.kill(alice.info().pid, signal.SIGKILL)
    await_state(herd, PhoneState.FAILED)
    ask_options(peer, alice.port)
    alice.start()
    assert peer.recv(65536).startswith(b"SIP/2.0 200 ")


def test_a_parked_phone_s_last_process_ends_its_calls_and_is_gone(herd: Herd) -> None:
    alice = herd.add("alice", restart="temporary")
    call = alice.call("bob")
    incoming = herd["bob"].incoming(timeout=10)
    incoming.answer()
    call.wait_answered(timeout=10)
    os.kill(alice.info().pid, signal.SIGKILL)
    failed = await_state(herd, PhoneState.FAILED)
    assert (failed.incarnation, failed.deaths, failed.pid) == (2, 1, 0)
    assert failed.why.startswith("SIGKILL")


def test_exit_code_0_stops_a_phone_as_if_somebody_had(herd: Herd) -> None:
    alice = herd.add("alice", media="none")
    os.kill(alice.info().pid, signal.SIGTERM)
    stopped = await_state(herd, PhoneState.STOPPED)
    assert (stopped.deaths, stopped.restarts) == (1, 0)
    assert alice.start().incarnation == 2
