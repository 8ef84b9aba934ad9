"""What a phone tells its supervisor: what happened, replies to commands, counters, log lines."""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Literal

from ..protocol.events import SipTrace, WorkerEvent
from ..protocol.messages import (
    AskToRegister,
    Counters,
    Done,
    Drained,
    Happened,
    LogLine,
    Ready,
    Refused,
    RefusesCalls,
    WorkerMessage,
)
from .sip.timers import Timer
from .stack import Hop

__all__ = ["COUNTERS_EVERY", "Reporter"]

COUNTERS_EVERY = 1.0
"""Seconds between two reports of the counters, at least."""
_ERRORS_EVERY = 0.2
"""Seconds between two tracebacks in the log, at least."""
_REPLIES = 256
"""Commands whose reply is remembered, in case they come again."""

_CSEQ = re.compile(rb"^CSeq[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_CALL_ID = re.compile(rb"^(?:Call-ID|i)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_TRACE_HEAD = 8192
_TRACE_TEXT = 200


class Reporter:
    """The phone's side of its link.

    ``tell(body, reply_to)`` sends to the supervisor, ``clock()`` is the time of what happens now,
    ``after(seconds, callback)`` starts a timer.  ``counters`` are the stack's, ``counts`` those of
    the process beside them.
    """

    def __init__(
        self,
        *,
        tell: Callable[[WorkerMessage, int], None],
        clock: Callable[[], float],
        after: Callable[[float, Callable[[], None]], Timer],
        counters: Mapping[str, int],
        counts: Counter[str],
    ) -> None:
        self._tell = tell
        self._clock = clock
        self._after = after
        self._counters = counters
        self._counts = counts
        self._counters_timer: Timer | None = None
        self._counted = 0
        self._is_over = False
        self._next_error_line = 0.0
        self._replies: OrderedDict[int, Done | Refused | None] = OrderedDict()

    # What happened

    def report(self, body: WorkerEvent) -> None:
        """Something for the herd's event stream."""
        self._tell(Happened(t=self._clock(), body=body), 0)

    def trace(self, direction: Literal["in", "out"], data: bytes, peer: Hop) -> None:
        """A SIP message on the wire, for a phone with ``trace: true``."""
        head = data[:_TRACE_HEAD]
        cseq, call_id = _CSEQ.search(head), _CALL_ID.search(head)
        self.report(
            SipTrace(
                direction=direction,
                first_line=_readable(head.partition(b"\r\n")[0]),
                cseq=_readable(cseq[1]) if cseq else "",
                sip_call_id=_readable(call_id[1]) if call_id else "",
                peer=peer.address,
                transport=peer.transport,
                size=len(data),
            )
        )

    def ready(self) -> None:
        """The socket is adopted and served."""
        self._tell(Ready(), 0)

    def ask_to_register(self) -> None:
        """A REGISTER is due."""
        self._tell(AskToRegister(), 0)

    def refuses_calls(self) -> None:
        """Whatever call there is has been reported."""
        self._tell(RefusesCalls(), 0)

    def drained(self, unanswered_byes: tuple[str, ...]) -> None:
        """The last word: every call is over.  No counters follow."""
        self._is_over = True
        if self._counters_timer is not None:
            self._counters_timer.cancel()
        self._send_counters()
        self._tell(Drained(unanswered_byes=unanswered_byes), 0)

    # Commands

    def is_new(self, command: int) -> bool:
        """Whether this command has not come before; if it has, its reply is sent again."""
        if command not in self._replies:
            self._remember(command, None)
            return True
        known = self._replies[command]
        if known is not None:
            self._tell(known, command)
        return False

    def is_replied(self, command: int) -> bool:
        """Whether a command of late has its reply."""
        return self._replies.get(command) is not None

    def reply(self, command: int, reply: Done | Refused) -> None:
        """The end of a command."""
        self._remember(command, reply)
        self._tell(reply, command)

    def done(self, command: int) -> None:
        """It was carried out."""
        self.reply(command, Done())

    def refuse(self, command: int, reason: str, message: str) -> None:
        """It was not, and changed nothing."""
        self.reply(command, Refused(reason=reason, message=message))

    def _remember(self, command: int, reply: Done | Refused | None) -> None:
        self._replies[command] = reply
        if len(self._replies) > _REPLIES:
            self._replies.popitem(last=False)

    # Counters

    def count(self) -> None:
        """Something may have been counted: tell it within a second."""
        if self._counters_timer is None and not self._is_over and self._sum() != self._counted:
            self._counters_timer = self._after(COUNTERS_EVERY, self._on_counters_timer)

    def _on_counters_timer(self) -> None:
        self._counters_timer = None
        self._send_counters()

    def _send_counters(self) -> None:
        count = self._sum()
        if count != self._counted:
            self._counted = count
            self._tell(Counters(values={**self._counters, **self._counts}), 0)

    def _sum(self) -> int:
        """Counters only ever grow: another sum is another value of one of them."""
        return sum(self._counters.values()) + sum(self._counts.values())

    # Log

    def warn(self, event: str, **fields: str) -> None:
        """A warning in the log."""
        self._tell(LogLine(level="warning", event=event, fields={**fields}), 0)

    def error(self, what: str, traceback: str) -> None:
        """A fault of ours in the log; a stranger may provoke it a thousand times a second."""
        now = self._clock()
        if now < self._next_error_line:
            self._counts["error_lines_dropped"] += 1
            return
        self._next_error_line = now + _ERRORS_EVERY
        self._tell(LogLine(level="error", event=what, fields={"traceback": traceback}), 0)


def _readable(text: bytes) -> str:
    """Bytes off the wire as one short printable line."""
    decoded = text[:_TRACE_TEXT].decode("utf-8", "replace").strip()
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in decoded)
