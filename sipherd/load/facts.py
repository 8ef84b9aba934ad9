"""What a call attempt's record says of its signalling, from what its legs have told.

The caller's leg tells its SIP messages when it ends (``PlaceCall.messages``), and both legs tell
events.  Where there are no messages, for the phone died or was not asked for them, the events say
less: only the first provisional response of each code, and of a BYE only what its sender tells.

A challenge and the INVITE with credentials are one attempt: all times are counted from the first
INVITE.  What is counted and what is not is that of RFC 6076, see ``load.delays``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from ..protocol.events import Answered, CallEnded, CallPlaced, Event, Progress
from .records import Responses, SipMessage

__all__ = ["Facts", "gather"]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The signalling of one attempt; times are seconds since its INVITE, as in CallAttempt."""

    started: float | None = None
    """When the INVITE left, seconds on the box's monotonic clock; None: it never did."""
    responses: Responses = ()
    answered: float | None = None
    ended: float | None = None
    bye_sent: float | None = None
    bye_answered: float | None = None
    bye_code: int | None = None
    final_code: int | None = None
    retransmissions: int = 0
    messages: tuple[SipMessage, ...] = ()

    def fields(self) -> dict[str, Any]:
        """All but ``started``, for ``CallAttempt(**…)``."""
        found = msgspec.structs.asdict(self)
        del found["started"]
        return found


def gather(caller: Iterable[Event], callee: Iterable[Event] = ()) -> Facts:
    """What these events of the caller's leg, and of the callee's if it is ours, say together.

    Args:
        caller: of the caller's leg, in any order; its CallEnded has the messages.
        callee: of the leg that was called, as far as there is one.

    """
    placed: float | None = None
    ended: tuple[float, CallEnded] | None = None
    told: list[tuple[float, int]] = []
    for event in caller:
        match event.body:
            case CallPlaced():
                placed = event.t
            case Progress(code=code) | Answered(code=code):
                told.append((event.t, code))
            case CallEnded() as body:
                ended = event.t, body
            case _:
                pass
    messages = ended[1].messages if ended is not None else ()
    if messages:
        placed = messages[0].t
    if placed is None:
        return Facts()
    start: float = placed
    relative = tuple(msgspec.structs.replace(one, t=one.t - start) for one in messages)
    if ended is not None and not messages and ended[1].cause == "rejected" and ended[1].code:
        told.append((ended[0], ended[1].code))
    responses = (
        _responses(relative) if messages else tuple((code, t - start) for t, code in sorted(told))
    )
    bye = _bye(relative) or _bye_of(ended, start)
    for event in callee:
        # Of a BYE that the callee sent, the callee knows best when, and when the answer came.
        if isinstance(event.body, CallEnded) and event.body.bye_sent is not None:
            mine = _bye_of((event.t, event.body), start)
            bye = _earlier(bye, mine)
    return Facts(
        started=start,
        responses=responses,
        answered=next((t for code, t in responses if 200 <= code < 300), None),
        ended=ended[0] - start if ended is not None else None,
        bye_sent=bye.sent if bye else None,
        bye_answered=bye.answered if bye else None,
        bye_code=bye.code if bye else None,
        final_code=next((code for code, _ in reversed(responses) if code >= 200), None),
        retransmissions=sum(map(_is_retransmission, relative)),
        messages=relative,
    )


class _Bye(msgspec.Struct, frozen=True):
    sent: float
    answered: float | None = None
    code: int | None = None


def _is_retransmission(message: SipMessage) -> bool:
    """Whether a request went out again for want of a response: an ACK does for having one."""
    return message.again and message.sent and not message.code and message.method != "ACK"


def _responses(messages: Sequence[SipMessage]) -> Responses:
    """Those to the INVITE, its repetitions with credentials included, up to its last word.

    What comes after a 2xx belongs to a re-INVITE, or to another fork of the first.
    """
    found: list[tuple[int, float]] = []
    for one in messages:
        if one.method == "INVITE" and one.code and not one.sent and not one.again:
            found.append((one.code, one.t))
            if 200 <= one.code < 300:
                break
    return tuple(found)


def _bye(messages: Sequence[SipMessage]) -> _Bye | None:
    """The first BYE of the leg, whoever sent it, and its final response, challenges left out."""
    byes = [one for one in messages if one.method == "BYE" and not one.again]
    first = next((one for one in byes if not one.code), None)
    if first is None:
        return None
    # That which another request of the same side follows was a challenge.
    last = max(i for i, one in enumerate(byes) if not one.code and one.sent is first.sent)
    for one in byes[last:]:
        if one.code >= 200 and one.sent is not first.sent:
            return _Bye(first.t, one.t, one.code)
    return _Bye(first.t)


def _bye_of(ended: tuple[float, CallEnded] | None, start: float) -> _Bye | None:
    """What the leg that sent a BYE tells of it."""
    if ended is None or ended[1].bye_sent is None:
        return None
    t, body = ended
    assert body.bye_sent is not None
    return _Bye(body.bye_sent - start, t - start if body.bye_answered else None)


def _earlier(one: _Bye | None, callees: _Bye | None) -> _Bye | None:
    """The first BYE of a call whose sides both know of one."""
    if one is None or callees is None:
        return one or callees
    if callees.sent > one.sent:
        return one  # they crossed, and ours was first
    return _Bye(callees.sent, callees.answered, one.code)
