"""The ladder, drawn from events that nobody lived through."""

from __future__ import annotations

from typing import Literal

import pytest

from sipherd.ladder import MAX_WIDTH, MIN_WIDTH, Party, draw, messages
from sipherd.protocol.events import Confirmed, Event, SipTrace

ALICE = Party("alice", "1001", 40123, 4713)
BOB = Party("bob", "1002", 40125, 4714)


def trace(
    t: float, phone: str, direction: Literal["in", "out"], first_line: str, cseq: str = "1 INVITE"
) -> Event:
    body = SipTrace(
        direction=direction,
        first_line=first_line,
        cseq=cseq,
        sip_call_id="x",
        peer=("127.0.0.1", 5060),
        size=100,
    )
    return Event(n=1, t=t, at=t, phone=phone, body=body)


def sent(t: float, first_line: str, cseq: str = "1 INVITE", *, by: str = "alice") -> list[Event]:
    """A message that leaves, and arrives a millisecond later."""
    other = "bob" if by == "alice" else "alice"
    return [
        trace(t, by, "out", first_line, cseq),
        trace(t + 0.001, other, "in", first_line, cseq),
    ]


INVITE = "INVITE sip:1002@127.0.0.1 SIP/2.0"
CALL = [
    *sent(10.0, INVITE),
    *sent(10.002, "SIP/2.0 180 Ringing", by="bob"),
    *sent(10.0055, "SIP/2.0 200 OK", by="bob"),
    *sent(10.006, "ACK sip:1002@127.0.0.1 SIP/2.0", "1 ACK"),
    *sent(11.0, "BYE sip:1001@127.0.0.1 SIP/2.0", "1 BYE", by="bob"),
    *sent(11.001, "SIP/2.0 200 OK", "1 BYE"),
]


def plain(events: list[Event], width: int = 60, **options: bool) -> list[str]:
    return [line.plain for line in draw(ALICE, BOB, messages(events), width, **options)]


def test_a_call() -> None:
    assert plain(CALL) == [
        "           alice 1001                               bob 1002",
        "           port 40123                             port 40125",
        "           pid 4713                                 pid 4714",
        "             │                                           │",
        "     0.0 ms  │───────────────── INVITE ─────────────────▶│",
        "     2.0 ms  │◀────────────── 180 Ringing ───────────────│",
        "     5.5 ms  │◀──────────── 200 OK (INVITE) ─────────────│",
        "     6.0 ms  │────────────────── ACK ───────────────────▶│",
        "  1000.0 ms  │◀────────────────── BYE ───────────────────│",
        "  1001.0 ms  │────────────── 200 OK (BYE) ──────────────▶│",
        "             │                                           │",
    ]


@pytest.mark.parametrize("width", [0, 47, 60, 61, 80, 500])
def test_no_line_is_wider_than_asked_for(width: int) -> None:
    lines = plain(CALL, width)
    assert max(map(len, lines)) <= min(max(width, MIN_WIDTH), MAX_WIDTH)
    rails = {line.index("│") for line in lines[3:]}
    assert len(rails) == 1
    assert len({line.rindex("│") for line in lines[3:]}) == 1


def test_ascii() -> None:
    text = "\n".join(plain(CALL, ascii_only=True))
    assert text.isascii()
    assert "|----" in text
    assert "--->|" in text


def test_a_message_that_never_arrived() -> None:
    line = plain([trace(1.0, "alice", "out", INVITE)])[4]
    assert line.endswith("─x│")


def test_a_copy_of_a_message() -> None:
    """The first one was lost: only one of the two arrived."""
    events = [trace(1.0, "alice", "out", INVITE), *sent(1.5, INVITE)]
    first, second = messages(events)
    assert (first.again, second.again) == (False, True)
    assert "INVITE, again" in plain(events)[5]
    assert "500.0 ms" in plain(events)[5]


def test_the_order_is_that_of_the_clock() -> None:
    """Two processes: their events may come in another order."""
    assert plain([*CALL[4:], *CALL[:4]]) == plain(CALL)


def test_a_long_label_is_cut() -> None:
    lines = plain(sent(1.0, "SIP/2.0 486 " + "Busy " * 40, by="bob"))
    assert all(len(line) <= 60 for line in lines)


def test_a_refusal_is_red() -> None:
    line = draw(ALICE, BOB, messages(sent(1.0, "SIP/2.0 486 Busy Here", by="bob")), 60)[4]
    assert "red" in [span.style for span in line.spans]


def test_other_events_and_none() -> None:
    other = Event(n=1, t=1.0, at=1.0, phone="alice", body=Confirmed(call="c1"))
    assert messages([other]) == []
    assert len(plain([])) == 5
