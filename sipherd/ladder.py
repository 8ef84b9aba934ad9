"""A ladder diagram of the SIP messages between two phones: time runs down, arrows go across."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.text import Text

from .protocol.events import Event, SipTrace
from .protocol.text import printable

__all__ = ["Message", "Party", "draw", "messages"]

MIN_WIDTH = 48
MAX_WIDTH = 84

#: Columns of the time at the left: `  12.3 ms `.
_GUTTER = 11


@dataclass(frozen=True, slots=True)
class Party:
    """One side of the ladder; what is not known of it is left out."""

    name: str
    number: str = ""
    port: int = 0
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """One SIP message on its way from one phone to the other."""

    t: float
    """When it left, seconds on the monotonic clock."""
    sender: str
    """Name of the phone."""
    first_line: str
    cseq: str
    arrived: bool
    again: bool
    """A copy of it was sent before."""

    @property
    def label(self) -> str:
        """`INVITE`, `180 Ringing`, `200 OK (BYE)`."""
        first, _, rest = self.first_line.partition(" ")
        if not first.startswith("SIP/"):
            label = first
        else:
            final = rest[:1] not in ("", "1")
            label = f"{rest} ({self.cseq.rpartition(' ')[2]})" if final else rest
        return printable(f"{label}, again" if self.again else label)

    @property
    def style(self) -> str:
        """Colour of the arrow: what kind of message it is."""
        first, _, code = self.first_line.partition(" ")
        if not first.startswith("SIP/"):
            return "cyan"
        return {"1": "yellow", "2": "green"}.get(code[:1], "red")


def messages(events: Iterable[Event]) -> list[Message]:
    """The messages that were sent, in order; each arrived if somebody traced that it did."""
    traces = [(event, event.body) for event in events if isinstance(event.body, SipTrace)]
    arrived = Counter(_key(trace) for _, trace in traces if trace.direction == "in")
    sent: Counter[tuple[str, str, str]] = Counter()
    found = []
    for event, trace in traces:
        if trace.direction == "out":
            key = _key(trace)
            again = sent[key] > 0
            sent[key] += 1
            seen = sent[key] <= arrived[key]
            found.append(Message(event.t, event.phone, trace.first_line, trace.cseq, seen, again))
    return sorted(found, key=lambda message: message.t)


def _key(trace: SipTrace) -> tuple[str, str, str]:
    return trace.sip_call_id, trace.cseq, trace.first_line


def draw(
    left: Party, right: Party, sent: Sequence[Message], width: int, *, ascii_only: bool = False
) -> list[Text]:
    """The ladder, a line each, none longer than `width` (but at least 48) columns.

    Times are milliseconds since the first message left.
    """
    rail, dash, to_right, to_left = ("|", "-", ">", "<") if ascii_only else ("│", "─", "▶", "◀")
    width = min(max(width, MIN_WIDTH), MAX_WIDTH)
    at_left = _GUTTER + 2
    between = width - at_left - 4
    lines = _heads(left, right, width)
    empty = f"{'':{at_left}}{rail}{'':{between}}{rail}"
    lines.append(Text(empty, style="dim"))
    for message in sent:
        milliseconds = f"{(message.t - sent[0].t) * 1000:.1f} ms"
        line = Text(f"{milliseconds:>{_GUTTER}}  ", style="dim")
        line.append(rail, style="dim")
        label = f" {message.label} "
        if len(label) > between - 4:
            label = label[: between - 5] + " "
        shaft = label.center(between - 1, dash)
        tip = (to_right if message.sender == left.name else to_left) if message.arrived else "x"
        arrow = shaft + tip if message.sender == left.name else tip + shaft
        line.append(arrow, style=message.style)
        line.append(rail, style="dim")
        lines.append(line)
    lines.append(Text(empty, style="dim"))
    return lines


def _heads(left: Party, right: Party, width: int) -> list[Text]:
    room = width - _GUTTER
    pairs = [(_about(left), _about(right), "bold")]
    if left.port or right.port:
        pairs.append((_numbered("port", left.port), _numbered("port", right.port), ""))
    if left.pid or right.pid:
        pairs.append((_numbered("pid", left.pid), _numbered("pid", right.pid), ""))
    rows = []
    for one, two, style in pairs:
        # Long names are cut, never pushed over the edge.
        one, two = (text[: room // 2 - 1] for text in (one, two))
        rows.append(Text(f"{'':{_GUTTER}}{one}{two:>{room - len(one)}}", style=style))
    return rows


def _about(party: Party) -> str:
    return printable(f"{party.name} {party.number}".rstrip())


def _numbered(what: str, number: int) -> str:
    return f"{what} {number}" if number else ""
