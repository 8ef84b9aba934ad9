"""Real phones that are killed, and the processes after them: each row of the clean-up table."""

from __future__ import annotations

import os
import signal
from typing import Any

import msgspec
import pytest
from smallherd import SmallHerd, SmallPhone

from sipherd.protocol.events import (
    Answered,
    CallCleanedUp,
    CallEnded,
    Confirmed,
    IncomingCall,
    Progress,
    SipTrace,
)
from sipherd.protocol.messages import Done, Drain, Drained, Exit, HangUpCall, HoldCall, PlaceCall

RINGS: dict[str, Any] = {"media": "none", "trace": True}
ANSWERS: dict[str, Any] = RINGS | {"on_incoming": {"answer_after": 0}}


def kill(herd: SmallHerd, phone: SmallPhone) -> None:
    os.kill(phone.pid, signal.SIGKILL)
    herd.death(phone)


def again(herd: SmallHerd, phone: SmallPhone, **welcome: Any) -> SmallPhone:
    """The next process of the phone, on the same sockets."""
    following = SmallPhone(herd, phone.spec, phone.incarnation + 1, same=phone)
    herd.phones[phone.spec.name, following.incarnation] = following
    herd.ask(following)
    herd.until(lambda: following.pid or None, "the process")
    following.welcome(**welcome)
    return following


def place(phone: SmallPhone, target: str, call: str = "c1") -> None:
    body = PlaceCall(phone=phone.spec.name, target=target, call=call, dialled="peer")
    assert isinstance(phone.run(body), Done)


def up(herd: SmallHerd) -> tuple[SmallPhone, SmallPhone]:
    alice, bob = herd.fork("alice", **RINGS), herd.fork("bob", **ANSWERS)
    place(alice, bob.uri)
    alice.wait(Answered)
    bob.wait(Confirmed)
    return alice, bob


def sent(phone: SmallPhone) -> list[str]:
    """What it has told that it sent; once each, for whom the peer is slow to answer it repeats."""
    traces = [trace for trace in phone.heard(SipTrace) if trace.direction == "out"]
    return list(dict.fromkeys(trace.cseq for trace in traces))


def has_nothing_to_send(herd: SmallHerd, phone: SmallPhone) -> None:
    """It ends all that it has begun, and was silent all the while."""
    phone.send(Drain())
    phone.wait(Drained)
    assert not sent(phone)
    phone.send(Exit(why="test"))
    assert herd.death(phone).exit_code == 0


def test_a_caller_that_is_killed_in_a_call(herd: SmallHerd) -> None:
    alice, bob = up(herd)
    kill(herd, alice)
    after = again(herd, alice)
    ended = bob.wait(CallEnded)
    assert (ended.cause, ended.by) == ("hung_up", "remote")
    cleaned = after.wait(CallCleanedUp)
    assert (cleaned.how, cleaned.sip_call_id) == ("bye", bob.heard(IncomingCall)[0].sip_call_id)
    assert not after.heard(CallEnded)
    # The one of its INVITE was 1.
    assert sent(after) == ["102 BYE"]


def test_a_callee_that_is_killed_in_a_call(herd: SmallHerd) -> None:
    alice, bob = up(herd)
    kill(herd, bob)
    after = again(herd, bob)
    assert alice.wait(CallEnded).by == "remote"
    assert after.wait(CallCleanedUp).how == "bye"
    assert sent(after) == ["101 BYE"]


def test_a_callee_that_is_killed_while_it_rings(herd: SmallHerd) -> None:
    alice, bob = herd.fork("alice", **RINGS), herd.fork("bob", **RINGS)
    place(alice, bob.uri)
    first = bob.wait(IncomingCall)
    alice.wait(Progress)
    kill(herd, bob)
    bob.spec = msgspec.convert({"name": "bob"} | ANSWERS, type(bob.spec))
    after = again(herd, bob)
    assert after.wait(IncomingCall).sip_call_id == first.sip_call_id
    alice.wait(Answered)
    after.wait(Confirmed)
    assert not after.heard(CallCleanedUp)


def test_a_caller_that_is_killed_while_it_rings(herd: SmallHerd) -> None:
    alice, bob = herd.fork("alice", **RINGS), herd.fork("bob", **RINGS)
    place(alice, bob.uri)
    alice.wait(Progress)
    kill(herd, alice)
    after = again(herd, alice)
    ended = bob.wait(CallEnded)
    assert (ended.cause, ended.by) == ("cancelled", "remote")
    assert after.wait(CallCleanedUp).how == "cancel"
    assert sent(after) == ["1 CANCEL", "1 ACK"]


def test_a_peer_that_hangs_up_while_there_is_no_process(herd: SmallHerd) -> None:
    alice, bob = up(herd)
    kill(herd, alice)
    os.kill(bob.pid, signal.SIGTERM)  # it hangs up, and does not wait for an answer
    assert bob.is_gone()
    after = again(herd, alice)
    assert after.wait(CallCleanedUp).how == "peer"
    assert [t.first_line for t in after.heard(SipTrace)][-1].startswith("SIP/2.0 200")


def test_a_re_invite_before_the_crash(herd: SmallHerd) -> None:
    alice, bob = up(herd)
    assert isinstance(alice.run(HoldCall(call="c1")), Done)
    kill(herd, alice)
    after = again(herd, alice)
    assert bob.wait(CallEnded).by == "remote"
    assert after.wait(CallCleanedUp).how == "bye"
    assert sent(after) == ["103 BYE"]


def test_a_crash_in_the_midst_of_it(herd: SmallHerd) -> None:
    """Nobody answers the first BYE; the next process sends another, with a higher number."""
    alice, bob = up(herd)
    os.kill(bob.pid, signal.SIGSTOP)
    kill(herd, alice)
    second = again(herd, alice)
    herd.until(lambda: sent(second) or None, "the BYE")
    kill(herd, second)
    third = again(herd, second)
    herd.until(lambda: "203 BYE" in sent(third) or None, "the next BYE")
    os.kill(bob.pid, signal.SIGCONT)
    assert third.wait(CallCleanedUp).how == "bye"
    # The ACK once more: from here it cannot be known that the first one was sent.
    assert sent(second)[0] == "102 BYE"
    assert sent(third)[:2] == ["1 ACK", "203 BYE"]
    bob.wait(CallEnded)
    kill(herd, third)
    fourth = again(herd, third)
    has_nothing_to_send(herd, fourth)


def test_a_process_that_only_cleans_up(herd: SmallHerd) -> None:
    alice, bob = up(herd)
    carol = herd.fork("carol", **RINGS)
    os.kill(bob.pid, signal.SIGSTOP)
    kill(herd, alice)
    after = again(herd, alice, purpose="clean_up")
    place(carol, after.uri)
    assert carol.wait(CallEnded).code == 480
    assert not after.heard(Drained)
    os.kill(bob.pid, signal.SIGCONT)
    assert after.wait(CallCleanedUp).how == "bye"
    after.wait(Drained)
    after.send(Exit(why="drained"))
    assert after.is_gone()
    assert herd.death(after).exit_code == 0


@pytest.mark.parametrize("killed", ["caller", "callee"])
def test_what_is_left_is_left_where_that_is_wanted(herd: SmallHerd, killed: str) -> None:
    alice, bob = up(herd)
    phone = alice if killed == "caller" else bob
    kill(herd, phone)
    phone.spec = msgspec.structs.replace(phone.spec, after_crash="leave")
    after = again(herd, phone)
    has_nothing_to_send(herd, after)


def test_the_calls_of_others_go_on(herd: SmallHerd) -> None:
    alice, bob = up(herd)
    others = herd.fork("carol", **RINGS), herd.fork("dave", **ANSWERS)
    place(others[0], others[1].uri, "c2")
    others[1].wait(Confirmed)
    kill(herd, alice)
    again(herd, alice)
    bob.wait(CallEnded)
    assert isinstance(others[0].run(HangUpCall(call="c2")), Done)
    for phone in others:
        assert phone.wait(CallEnded).cause == "hung_up"
    assert others[1].heard(CallEnded)[0].by == "remote"
