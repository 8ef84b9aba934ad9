"""What a call leaves in its phone once it has ended: as little as its copies need, and no cycle."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import pytest
from desks import B_, A, Desk, Wire

from sipherd.protocol.messages import CancelCall, HangUpCall, HoldCall, RejectCall, TransferCall
from sipherd.worker.sip.leg import Leg
from sipherd.worker.sip.message import Message

LINGER = 33.0
"""Seconds after which the last transaction of a call is forgotten: 64*T1, and a bit."""


@pytest.fixture
def _no_collector() -> Iterator[None]:
    """Only reference counts free memory."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Pair:
    """Alice calls Bob, who answers at once or not at all."""

    def __init__(self, *, answers: bool = True) -> None:
        self.wire = Wire()
        self.alice = Desk(self.wire, A)
        self.bob = Desk(self.wire, B_, on_incoming={"answer_after": 0} if answers else None)
        self._number = 0

    def call(self) -> tuple[str, str]:
        """Place one more call; its keys at Alice and Bob."""
        self._number += 1
        ours, theirs = f"c{self._number}", f"i{self._number}"
        self.alice.call(self.bob.uri, ours)
        self.wire.advance(0.05)
        return ours, theirs

    def hang_up(self) -> None:
        """One call, and its end by one of the two."""
        ours, theirs = self.call()
        if self._number % 2:
            self.alice.run(HangUpCall(call=ours))
        else:
            self.bob.run(HangUpCall(call=theirs))
        self.forget()

    def forget(self) -> None:
        """Deliver what flies, and forget what the test remembers."""
        self.wire.settle()
        for desk in (self.alice, self.bob):
            desk.told.clear()
        self.wire.passed.clear()
        self.wire.audio.clear()


def alive(kind: type) -> int:
    return sum(isinstance(thing, kind) for thing in gc.get_objects())


@pytest.mark.usefixtures("_no_collector")
def test_an_ended_call_costs_two_kilobytes() -> None:
    """Calls are kept for half a minute after their end: at ten a second that is hundreds."""
    pair = Pair()
    tracemalloc.start()
    try:
        for _ in range(300):  # until what remembers the last calls is full
            pair.hang_up()
        pair.wire.advance(LINGER)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(100):
            pair.hang_up()
        after, _ = tracemalloc.get_traced_memory()
        pair.wire.advance(LINGER)
        rested, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / 200 < 2048
    assert (rested - before) / 200 < 256


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("end", ["hang_up", "hold", "reject", "cancel", "transfer"])
def test_a_leg_goes_with_its_call(end: str) -> None:
    """And with it what it was made of; no collection is needed."""
    pair = Pair(answers=end not in ("reject", "cancel"))
    legs, messages = alive(Leg), alive(Message)
    ours, theirs = pair.call()
    assert alive(Leg) == legs + 2
    if end == "reject":
        pair.bob.run(RejectCall(call=theirs, code=603))
    elif end == "cancel":
        pair.alice.run(CancelCall(call=ours))
    elif end == "transfer":
        pair.alice.run(TransferCall(call=ours, target="sip:nobody@192.0.2.99"))
        pair.alice.run(HangUpCall(call=ours))
        pair.wire.advance(LINGER)  # the call that Bob was asked for ends, too
    else:
        if end == "hold":
            pair.alice.run(HoldCall(call=ours))
        pair.bob.run(HangUpCall(call=theirs))
    pair.forget()
    assert alive(Leg) == legs
    assert alive(Message) == messages
