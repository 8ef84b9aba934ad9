"""One call's messages as a ladder: an SVG that stands by itself, and what to draw it from.

`sipherd.ladder` draws the same on a terminal.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..ladder import Message, Party
from .markup import Markup, element
from .records import CallAttempt, SipMessage
from .words import code_name

__all__ = ["from_record", "parties", "svg"]

_WIDTH = 760
_LEFT, _RIGHT = 150, 700
_TOP = 84
_STEP = 34
#: A label longer than this would run over the rails.
_LONGEST = 60

_STYLE = """
svg { background: #fff; color: #1b1f24; font: 14px system-ui, "Noto Sans", sans-serif; }
text { fill: currentColor; } .soft { fill: #57606a; font-size: 12px; } .name { font-weight: 600; }
.rail { stroke: #a8b1ba; } .cyan { color: #0969b8; } .green { color: #1a7f4b; }
.yellow { color: #8a6100; } .red { color: #c62828; }
.shaft { stroke: currentColor; stroke-width: 1.5; } .tip { fill: currentColor; }
@media (prefers-color-scheme: dark) {
svg { background: #14181d; color: #e4e8ec; } .soft { fill: #9aa5b1; } .rail { stroke: #4a545f; }
.cyan { color: #5cb0f5; } .green { color: #4fc386; } .yellow { color: #e3b341; }
.red { color: #ff7b72; } }
"""


def from_record(attempt: CallAttempt) -> list[Message]:
    """What the caller's phone sent and received of the call, without ``trace: true``.

    When the callee sent what arrived is not in a record, nor what never did.  A request is drawn
    as lost where nobody answered it or any copy of it.  A record without messages, of a phone that
    died, has what metrics are made of: neither ACK nor CANCEL, and no copies.
    """
    if attempt.started is None:
        return []
    caller, callee = (party.name for party in parties(attempt))
    start = attempt.started
    if attempt.messages:
        return [
            Message(
                t=start + one.t,
                sender=caller if one.sent else callee,
                first_line=_first_line(one.code) if one.code else f"{one.method} SIP/2.0",
                cseq=f"0 {one.method}",
                arrived=not one.sent or _was_answered(attempt.messages, index),
                again=one.again,
            )
            for index, one in enumerate(attempt.messages)
        ]

    def message(t: float, sender: str, first_line: str, cseq: str, arrived: bool) -> Message:
        return Message(start + t, sender, first_line, cseq, arrived, False)

    invite = f"INVITE {attempt.to_uri} SIP/2.0".replace("  ", " ")
    found = [message(0.0, caller, invite, "1 INVITE", bool(attempt.responses))]
    for code, t in attempt.responses:
        found.append(message(t, callee, _first_line(code), "1 INVITE", True))
    if attempt.bye_sent is not None:
        sender, other = (callee, caller) if attempt.ended_by == "callee" else (caller, callee)
        answered = attempt.bye_answered
        found.append(message(attempt.bye_sent, sender, "BYE", "2 BYE", answered is not None))
        if answered is not None:
            found.append(message(answered, other, _first_line(200), "2 BYE", True))
    return sorted(found, key=lambda one: one.t)


def _was_answered(messages: Sequence[SipMessage], index: int) -> bool:
    """Whether the message of ours at ``index`` needs no answer, or it or a copy of it has one."""
    asked = messages[index]
    if asked.code or asked.method == "ACK":
        return True
    for one in messages[index + 1 :]:
        if one.method == asked.method and one.sent and not one.code and not one.again:
            return False  # another one, and what answers that does not answer this
        if one.method == asked.method and one.code and not one.sent:
            return True
    return False


def parties(attempt: CallAttempt) -> tuple[Party, Party]:
    """Caller and callee, as far as a record knows them."""
    callee = attempt.callee or attempt.to_uri
    if callee == attempt.caller:  # a phone that calls itself has two sides all the same
        callee += " (callee)"
    return Party(attempt.caller), Party(callee)


def svg(left: Party, right: Party, sent: Sequence[Message], *, title: str = "") -> str:
    """The ladder as an SVG document: it follows the reader's choice of light or dark.

    Times are milliseconds since the first message left.
    """
    height = _TOP + _STEP * (len(sent) + 1)
    rails = [
        element("line", class_="rail", x1=x, x2=x, y1=_TOP - 24, y2=height - 10)
        for x in (_LEFT, _RIGHT)
    ]
    rows = [
        _row(message, sent[0].t, _TOP + _STEP * i + 16, message.sender == left.name)
        for i, message in enumerate(sent)
    ]
    name = title or f"SIP messages between {left.name} and {right.name}"
    told = "; ".join(_told(message, sent[0].t) for message in sent)
    document = element(
        "svg",
        element("title", name),
        element("desc", told),
        element("style", Markup(_STYLE)),
        *_head(left, _LEFT),
        *_head(right, _RIGHT),
        *rails,
        *rows,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_WIDTH} {height}",
        width=_WIDTH,
        height=height,
        role="img",
    )
    return document + "\n"


def _head(party: Party, x: int) -> list[Markup]:
    about = [party.number, f"port {party.port}" if party.port else ""]
    about.append(f"pid {party.pid}" if party.pid else "")
    lines = [(_cut(party.name, 34), "name"), (", ".join(filter(None, about)), "soft")]
    anchor = "middle" if x == _LEFT else "end"
    at = x if x == _LEFT else _WIDTH - 10
    return [
        element("text", text, x=at, y=24 + 20 * i, text_anchor=anchor, class_=style)
        for i, (text, style) in enumerate(lines)
        if text
    ]


def _row(message: Message, begin: float, y: int, to_right: bool) -> Markup:
    arrived = message.arrived
    start, end = (_LEFT, _RIGHT) if to_right else (_RIGHT, _LEFT)
    back = -1 if to_right else 1
    if not arrived:  # it stops before the other rail
        end += 60 * back
    shaft = element("line", class_="shaft", x1=start, x2=end + 6 * back * arrived, y1=y, y2=y)
    if arrived:
        tip = element("path", class_="tip", d=f"M{end} {y}l{9 * back} -5v10z")
    else:
        tip = element("path", class_="shaft", d=f"M{end - 5} {y - 5}l10 10m0 -10l-10 10")
    time = f"{(message.t - begin) * 1000:,.1f} ms"
    middle = (_LEFT + _RIGHT) // 2
    return element(
        "g",
        element("text", time, x=_LEFT - 12, y=y + 4, text_anchor="end", class_="soft"),
        element("text", _cut(message.label, _LONGEST), x=middle, y=y - 6, text_anchor="middle"),
        shaft,
        tip,
        class_=message.style,
    )


def _told(message: Message, begin: float) -> str:
    lost = "" if message.arrived else ", which did not arrive"
    return f"after {(message.t - begin) * 1000:.1f} ms {message.sender} sent {message.label}{lost}"


def _first_line(code: int) -> str:
    return f"SIP/2.0 {code} {code_name(code)}".rstrip()


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
