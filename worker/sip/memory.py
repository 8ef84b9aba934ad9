"""Which calls have changed, and what must be known of them should this process die now.

Whatever one input of the engine causes comes out at once (`Engine`).  The records of the calls
that it has changed go first, as they are after all of it, so no datagram leaves before what it may
make the far end believe is known; the end of a record goes after the last datagram.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import msgspec

from ..stack import Output, Remember, Send
from .journal import CallRecord, Left, encode

if TYPE_CHECKING:
    from .context import Context

__all__ = ["LeftBehind", "Remembered", "guarded"]


class Remembered(Protocol):
    """A call, or one fork of it."""

    @property
    def record_key(self) -> str:
        """What its record is found by."""

    def record(self, *, answered_now: bool) -> CallRecord | None:
        """What is to be known of it; None: it is over for the far end, too.

        ``answered_now``: the ACK to its 2xx has not left yet.
        """


class LeftBehind:
    """What is to be known of a call that has ended here, and not yet for the far end."""

    __slots__ = ("_ctx", "_record", "record_key")

    def __init__(self, ctx: Context, key: str, record: CallRecord | None) -> None:
        """None: it is over there, too."""
        self.record_key = key
        self._ctx = ctx
        self._record = record
        ctx.touch(self)

    def record(self, *, answered_now: bool) -> CallRecord | None:
        """See `Remembered`."""
        return self._record

    def forget(self) -> None:
        """Now it is."""
        self._record = None
        self._ctx.touch(self)


def guarded(
    outputs: list[Output],
    changed: Mapping[str, tuple[Remembered, bool]],
    on_error: Callable[[], None],
) -> list[Output]:
    """The ``outputs`` of one input, and around them what makes them safe to carry out.

    ``changed`` are the calls that it changed, by key, and whether the 2xx of each came just now.
    ``on_error`` is told in the handler of an exception; that call has no new record.
    """
    before: list[Output] = []
    after: list[Output] = []
    for key, (call, answered_now) in changed.items():
        try:
            record = call.record(answered_now=answered_now)
            if record is None:
                after.append(Remember(key, None))
                continue
            before.append(Remember(key, encode(record)))
            if record.left is Left.ANSWERED:
                sent = msgspec.structs.replace(record, left=Left.CONFIRMED)
                after.append(Remember(key, encode(sent)))
        except Exception:  # a call is better served without a record than not at all
            on_error()
    # Not behind the events: what follows from them may change the call again.
    end = len(outputs)
    while after and end and not isinstance(outputs[end - 1], Send):
        end -= 1
    return [*before, *outputs[:end], *after, *outputs[end:]]
