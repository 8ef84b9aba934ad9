"""What real phones leave in their journals when they are killed, and when they are not."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from smallherd import SmallHerd, SmallPhone, sip_socket

from sipherd.protocol.events import Answered, CallEnded, Confirmed, IncomingCall, Progress
from sipherd.protocol.messages import Done, Drain, Drained, Exit, HangUpCall, PlaceCall, Refused
from sipherd.worker.journal import BLOCK, Journal
from sipherd.worker.sip.journal import CallRecord, Left, decode
from sipherd.worker.sip.message import parse

ANSWERS: dict[str, Any] = {"on_incoming": {"answer_after": 0}, "media": "none"}


def records(herd: SmallHerd, name: str) -> list[CallRecord]:
    """What is in the phone's journal now, read from a copy: its process may be alive."""
    fd = herd.journals[name]
    copy = os.memfd_create("copy", os.MFD_CLOEXEC)
    try:
        os.pwrite(copy, os.pread(fd, os.fstat(fd).st_size, 0), 0)
        return [decode(data) for data in Journal(copy).records().values()]
    finally:
        os.close(copy)


def kill(herd: SmallHerd, phone: SmallPhone) -> None:
    os.kill(phone.pid, signal.SIGKILL)
    herd.death(phone)


def place(phone: SmallPhone, target: str) -> None:
    body = PlaceCall(phone=phone.spec.name, target=target, call="c1", dialled="peer")
    assert isinstance(phone.run(body), Done)


def up(herd: SmallHerd, **alice: Any) -> tuple[SmallPhone, SmallPhone]:
    one, two = herd.fork("alice", media="none", **alice), herd.fork("bob", **ANSWERS)
    place(one, two.uri)
    one.wait(Answered)
    two.wait(Confirmed)
    return one, two


def test_both_ends_of_a_call_that_is_up(herd: SmallHerd) -> None:
    alice, bob = up(herd)
    for phone in (alice, bob):
        kill(herd, phone)
    (caller,), (callee,) = records(herd, "alice"), records(herd, "bob")
    assert (caller.left, callee.left) == (Left.CONFIRMED, Left.CONFIRMED)
    assert (caller.role, callee.role) == ("caller", "callee")
    assert (caller.call, callee.call) == ("c1", "i1")
    assert caller.dialog is not None
    assert callee.dialog is not None
    assert caller.call_id == callee.call_id == parse(caller.invite).call_id
    assert caller.dialog.remote_tag == callee.dialog.local_tag == callee.local_tag
    assert callee.dialog.remote_tag == caller.local_tag
    assert caller.dialog.target == callee.contact.strip("<>") == bob.uri
    assert (callee.source, caller.hop) == (
        (alice.host, alice.port, "udp", 0),
        (bob.host, bob.port, "udp", 0),
    )
    assert caller.rtp_port != 0


def test_a_call_that_rings(herd: SmallHerd) -> None:
    bob = herd.fork("bob", media="none")
    alice = herd.fork("alice", media="none")
    place(alice, bob.uri)
    bob.wait(IncomingCall)
    alice.wait(Progress)  # it is written before it leaves
    kill(herd, bob)
    (callee,) = records(herd, "bob")
    assert callee.left is Left.INVITED
    assert callee.response.startswith(b"SIP/2.0 180 ")
    assert parse(callee.invite).method == "INVITE"
    assert parse(callee.response).to.tag == callee.local_tag


def test_an_invite_that_nobody_has_answered(herd: SmallHerd) -> None:
    alice = herd.fork("alice", media="none")
    with sip_socket() as nobody:
        nobody.settimeout(10)
        place(alice, f"sip:x@127.0.0.1:{nobody.getsockname()[1]}")
        sent = nobody.recv(65535)
        kill(herd, alice)
    (caller,) = records(herd, "alice")
    assert (caller.left, caller.invite, caller.dialog) == (Left.CALLING, sent, None)


@pytest.mark.parametrize("end", ["local", "remote"])
def test_nothing_is_left_of_a_call_that_has_ended(herd: SmallHerd, end: str) -> None:
    alice, bob = up(herd)
    who, call = (alice, "c1") if end == "local" else (bob, "i1")
    assert isinstance(who.run(HangUpCall(call=call)), Done)
    for phone in (alice, bob):
        phone.wait(CallEnded)
        name = phone.spec.name
        herd.until(lambda: records(herd, name) == [] or None, "nothing left")  # noqa: B023


def test_a_clean_stop_leaves_nothing(herd: SmallHerd) -> None:
    alice, bob = up(herd)
    alice.send(Drain())
    alice.wait(Drained)
    alice.send(Exit(why="stopped"))
    assert herd.death(alice).exit_code == 0
    bob.wait(CallEnded)
    os.kill(bob.pid, signal.SIGTERM)
    assert herd.death(bob).exit_code == 0
    for name in ("alice", "bob"):
        assert os.fstat(herd.journals[name]).st_size <= BLOCK


def test_a_phone_that_leaves_without_waiting_for_answers_leaves_nothing(herd: SmallHerd) -> None:
    """Stopped at once: its BYE goes out, and no next process is to repeat it."""
    alice, bob = up(herd)
    os.kill(bob.pid, signal.SIGSTOP)  # it will not answer the BYE
    os.kill(alice.pid, signal.SIGTERM)
    assert herd.death(alice).exit_code == 0
    assert records(herd, "alice") == []


def test_the_calls_of_a_crash_may_be_left(herd: SmallHerd) -> None:
    alice, bob = up(herd, after_crash="leave")
    kill(herd, alice)
    assert len(records(herd, "alice")) == 1
    after = herd.fork("alice", 2, media="none", after_crash="leave")
    assert records(herd, "alice") == []
    # It has sent whatever it was going to send, and bob has read whatever there is.
    after.send(Drain())
    after.wait(Drained)
    assert isinstance(bob.run(HangUpCall(call="another")), Refused)
    assert bob.heard(CallEnded) == []
