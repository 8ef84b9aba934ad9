"""CANCEL against answer: whoever is first, there is one outcome, and both sides tell the same.

A relay holds every datagram for a while, so that the two can cross on the way:

    caller  --- CANCEL --. .--> ACK, BYE
                          X
    callee  --- 200 -----' '--> the call is up: 200 to the CANCEL, and it stays
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from peers.herd import Event, HerdProcess
from peers.relay import Datagram, Relay
from peers.sipp import loopback_address, wait_for
from sipherd import Call, CommandRefused, Herd, IncomingCall

StartHerd = Callable[..., HerdProcess]

PORT = 5060
DELAY = 0.05
"""Seconds that the relay holds a datagram."""
SWEEP = 2 * DELAY
"""Seconds that the CANCEL is ahead of the answer at first, and behind it at last."""
AT_ONCE = 8
SOON = 30.0

#: What the two sides tell: the outcome of the CANCEL, what became of the answer, the end of each
#: leg, the caller's first.
AGREED = {
    ("cancelled", "cancelled", "cancelled local", "cancelled remote"),
    ("answered_then_ended", "answered", "cancelled local", "hung_up remote"),
    ("already_answered", "answered", "hung_up local", "hung_up remote"),
}


class Crossings:
    """When the relay got the CANCEL and the 200 of each call; called by its thread."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, float]] = {}

    def look(self, datagram: Datagram) -> bool:
        text = datagram.data.decode(errors="replace")
        call = re.search(r"^Call-ID: *(\S+)", text, re.MULTILINE)
        cseq = re.search(r"^CSeq: *\d+ (\w+)", text, re.MULTILINE)
        assert call
        assert cseq
        for what, start, method in (
            ("200", "SIP/2.0 200", "INVITE"),
            ("CANCEL", "CANCEL", "CANCEL"),
        ):
            if text.startswith(start) and cseq[1] == method:
                self._seen.setdefault(call[1], {}).setdefault(what, time.monotonic())
        return False

    def calls(self) -> set[str]:
        """Call-IDs of those in which each was on its way before the other one arrived."""
        return {
            call
            for call, at in self._seen.items()
            if len(at) == 2 and abs(at["200"] - at["CANCEL"]) < DELAY
        }


class Race(NamedTuple):
    """One call, and how much later than the answer its CANCEL is wanted."""

    call: Call
    incoming: IncomingCall
    offset: float


def run(race: Race, pool: ThreadPoolExecutor) -> tuple[str, str]:
    """The outcome of the CANCEL and that of the answer; the call is over."""
    start = time.monotonic() + 0.05 + max(0.0, -race.offset)

    def at(when: float) -> None:
        time.sleep(max(0.0, when - time.monotonic()))

    def answer() -> str:
        at(start)
        try:
            race.incoming.answer()
        except CommandRefused as refused:
            return refused.reason
        return "answered"

    answered = pool.submit(answer)
    at(start + race.offset)
    outcome = race.call.cancel().outcome
    if outcome == "already_answered":
        race.call.hang_up()
    for leg in (race.call, race.incoming):
        leg.wait_ended(timeout=SOON)
    return outcome, answered.result(SOON)


def told(events: list[Event], race: Race) -> tuple[list[Event], list[Event]]:
    """What was told of either leg."""
    of = {
        leg.id: [e for e in events if e.get("call") == leg.id] for leg in (race.call, race.incoming)
    }
    return of[race.call.id], of[race.incoming.id]


def the(events: list[Event], kind: str) -> Event:
    (found,) = [event for event in events if event["kind"] == kind]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "count", [40, pytest.param(1000, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
)
def test_one_outcome_and_both_sides_agree(start_herd: StartHerd, count: int) -> None:
    crossings = Crossings()
    left, right = loopback_address(), loopback_address()
    with Relay(left, right, [PORT], delay=(DELAY, DELAY), drop=crossings.look) as relay:
        alice = {"name": "alice", "address": left, "advertise": relay.left}
        bob = {"name": "bob", "address": right, "advertise": relay.right, "queue": AT_ONCE}
        herd = start_herd([phone | {"port": PORT, "media": "none"} for phone in (alice, bob)])
        with (
            Herd.connect(herd.name) as client,
            ThreadPoolExecutor(AT_ONCE) as racing,
            ThreadPoolExecutor(AT_ONCE) as answering,
        ):
            offsets = [SWEEP * (2 * number / (count - 1) - 1) for number in range(count)]
            races: list[Race] = []
            outcomes: list[tuple[str, str]] = []
            while offsets:
                now, offsets = offsets[:AT_ONCE], offsets[AT_ONCE:]
                placed = [client["alice"].call(f"sip:bob@{relay.right}:{PORT}") for _ in now]
                incoming = {
                    call.sip_call_id: call
                    for call in (client["bob"].incoming(timeout=SOON) for _ in now)
                }
                for call in placed:
                    call.wait_ringing(timeout=SOON)  # before it, a CANCEL would have to wait
                batch = [
                    Race(call, incoming[call.sip_call_id], offset)
                    for call, offset in zip(placed, now, strict=True)
                ]
                races += batch
                outcomes += racing.map(lambda race: run(race, answering), batch)
            herd.wait_events(2 * count, kind="ended", timeout=SOON)
            events = herd.events()
            for race, (outcome, answer) in zip(races, outcomes, strict=True):
                ours, theirs = told(events, race)
                ends = [the(leg, "ended") for leg in (ours, theirs)]
                seen = (outcome, answer, *(f"{end['cause']} {end['by']}" for end in ends))
                assert seen in AGREED, (race.offset, ours, theirs)
                assert the(ours, "cancel_resolved")["outcome"] == outcome
                # The callee has answered if, and only if, the caller was not told `cancelled`.
                answers = [event for event in theirs if event["kind"] == "answered"]
                assert len(answers) == (outcome != "cancelled")
            wins = Counter(outcome for outcome, _ in outcomes)
            crossed = len(crossings.calls())
            print(f"{dict(wins)}, {crossed} crossings")
            assert wins["cancelled"] >= count // 10
            assert wins["answered_then_ended"] + wins["already_answered"] >= count // 10
            assert crossed >= count // 20
            assert not [call for call in client.calls() if call.state != "ended"]
            for name in ("alice", "bob"):
                wait_for(lambda name=name: client[name].info().activity == "idle", "an idle phone")
