"""The end of a herd with calls up: nobody is left hanging, nothing is left behind."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from peers.herd import HerdProcess, PhoneAt
from peers.sipp import Sipp, wait_for
from sipherd import Herd

StartSipp = Callable[..., Sipp]
StartHerd = Callable[..., HerdProcess]

PHONES = [{"name": "alice", "media": "none"}, {"name": "bob", "media": "none"}]


def assert_free(phones: list[PhoneAt]) -> None:
    """Every SIP port can be bound, by UDP and TCP, right now."""
    for phone in phones:
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            with socket.socket(socket.AF_INET, kind) as probe:
                probe.bind(phone.target)


def is_alive(pid: int) -> bool:
    """Zombies count as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.interop("Several calls at one phone", "SIPp")
def test_stop_waits_for_the_answer_to_every_bye(
    start_herd: StartHerd, start_sipp: StartSipp
) -> None:
    """Ten calls up to a callee that ignores the first BYE; one call rings out, one rings in."""
    herd = start_herd(PHONES)
    alice, bob = herd.phone("alice"), herd.phone("bob")
    ten = start_sipp("callee_ignores_first_bye", calls=10)
    rings_out = start_sipp("callee_rings_until_cancel")
    rings_in = start_sipp("caller_gets_480", target=bob.target)
    with Herd.connect(herd.name) as client:
        for _ in range(10):
            client["alice"].call(ten.uri, detached=True)
        client["alice"].call(rings_out.uri, detached=True)
        herd.wait_events(10, phone="alice", kind="answered")
        herd.wait_events(11, phone="alice", kind="progress")
        herd.wait_event(phone="bob", kind="incoming")

    assert herd.stop() == 0
    assert_free([alice, bob])
    assert not [pid for pid in herd.processes() if is_alive(pid)]
    for sipp in (ten, rings_out, rings_in):
        sipp.passes(5)
    byes = herd.events(phone="alice", kind="ended", bye_answered=True)
    assert len(byes) == 10
    assert {event["cause"] for event in herd.events(kind="ended")} == {"stopped"}


def test_up_works_at_once_after_stop(start_herd: StartHerd, start_sipp: StartSipp) -> None:
    first = start_herd(PHONES)
    before = [first.phone("alice"), first.phone("bob")]
    assert first.stop() == 0
    second = start_herd(PHONES, address=first.address, name=first.name)
    assert [second.phone("alice"), second.phone("bob")] == before


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_stop_of_one_phone_leaves_the_other(
    start_herd: StartHerd, start_sipp: StartSipp, name: str
) -> None:
    herd = start_herd(PHONES)
    other = "bob" if name == "alice" else "alice"
    stopped, goes_on = start_sipp("callee_answers"), start_sipp("callee_answers")
    with Herd.connect(herd.name) as client:
        client[name].call(stopped.uri).wait_answered(timeout=5)
        call = client[other].call(goes_on.uri)
        call.wait_answered(timeout=5)
        before = herd.phone(name)
        assert herd.command("stop", name).returncode == 0
        stopped.passes(5)
        assert_free([before])
        assert not herd.events(phone=other, kind="ended")
        call.hang_up()
        goes_on.passes()
    assert herd.command("start", name).returncode == 0
    again = start_sipp("callee_answers")
    assert herd.command("call", name, again.uri, "--duration", "0.1").returncode == 0
    again.passes()


def test_sigkill_of_the_supervisor(start_herd: StartHerd, start_sipp: StartSipp) -> None:
    """The lifeline breaks: the phone sends its BYE and is gone; the next herd gets the ports."""
    herd = start_herd(PHONES)
    before = [herd.phone("alice"), herd.phone("bob")]
    sipp = start_sipp("callee_answers")
    with Herd.connect(herd.name) as client:
        client["alice"].call(sipp.uri, detached=True).wait_answered(timeout=5)
    workers = herd.processes()
    os.kill(herd.pid, signal.SIGKILL)
    wait_for(lambda: not any(map(is_alive, workers)), "the workers gone")
    sipp.passes(5)
    second = start_herd(PHONES, address=herd.address, name=herd.name)
    assert [second.phone("alice"), second.phone("bob")] == before
