"""Provisional responses that arrive (RFC 3262): PRACK, from both ends.

Who calls acknowledges every reliable 1xx in its order; who is called sends it again until then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ..stack import Hop
from .context import Context
from .message import Message
from .timers import Timer

__all__ = ["Pracks", "ReliableRinging", "wants_reliable"]

_TAG = "100rel"
_MOST = 2**31 - 1


def wants_reliable(invite: Message) -> bool:
    """Whether provisional responses to ``invite`` must be reliable (§3)."""
    return _TAG in (tag.lower() for tag in invite.headers.values("Require"))


def _rseq(response: Message) -> int | None:
    """The number of a reliable provisional response; None if it is an ordinary one."""
    if not 100 < response.code < 200 or not wants_reliable(response):
        return None
    digits = response.headers.get("RSeq").strip()
    return int(digits[:11]) if digits.isascii() and digits.isdigit() else None


class Pracks:
    """Acknowledges the reliable responses to one INVITE of ours in one dialog (§4)."""

    def __init__(self, send: Callable[[str], None]) -> None:
        """``send`` sends a PRACK with this RAck."""
        self._send = send
        self._last: int | None = None

    def take(self, response: Message) -> bool:
        """Acknowledge ``response`` if it wants that; False if it is not to be looked at.

        That is a copy, whose PRACK repeats itself, or one that has overtaken another one.
        """
        number = _rseq(response)
        if number is None:
            return True
        if self._last is not None and number != self._last + 1:
            return False
        self._last = number
        self._send(f"{number} {response.cseq.number} INVITE")
        return True

    @property
    def acknowledged(self) -> bool:
        """Whether there was one."""
        return self._last is not None


class ReliableRinging:
    """The provisional responses to one INVITE whose caller wants them acknowledged (§3)."""

    def __init__(
        self,
        ctx: Context,
        destination: Hop,
        respond: Callable[[int, int], bytes],
        on_timeout: Callable[[], None],
    ) -> None:
        """``respond`` sends this code with this RSeq and returns the datagram."""
        self._ctx = ctx
        self._destination = destination
        self._respond = respond
        self._on_timeout = on_timeout
        # From the lower half of the numbers: it never comes to their end.
        self.number = 1 + int(ctx.random() * (_MOST // 2))
        """RSeq of the latest."""
        self._waiting: deque[int] = deque()
        self._open = False
        """The latest has not been acknowledged."""
        self._data = b""
        self._interval = ctx.config.t1
        self._timers: tuple[Timer, ...] = ()

    def go_on(self, number: int) -> None:
        """After the number of another process; its latest one is perhaps not acknowledged yet."""
        self.number = number
        self._open = True

    def restart(self) -> None:
        """The latest one is not waited for: a new one takes its place."""
        self._open = False

    def send(self, code: int) -> None:
        """Send ``code``, once the one before it is acknowledged."""
        if self._open:
            if code not in self._waiting:
                self._waiting.append(code)
            return
        self.number += 1
        self._open = True
        self._data = self._respond(code, self.number)
        self._interval = self._ctx.config.t1
        self._timers = (
            self._ctx.after(self._interval, self._on_repeat),
            self._ctx.after(64 * self._ctx.config.t1, self._on_limit),
        )

    def acknowledge(self, prack: Message, cseq: int) -> bool:
        """Take a PRACK; False if it acknowledges nothing that is open (481)."""
        words = prack.headers.get("RAck").split()
        if not self._open or words != [str(self.number), str(cseq), "INVITE"]:
            return False
        self._open = False
        running = bool(self._timers)
        self._cancel()
        if self._waiting and running:
            self.send(self._waiting.popleft())
        return True

    def stop(self) -> None:
        """A final response is sent: no more copies, but a PRACK on its way is still welcome."""
        self._waiting.clear()
        self._cancel()

    def _cancel(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers = ()

    def _on_repeat(self) -> None:
        self._ctx.count("sip_retransmitted")
        self._ctx.send(self._data, self._destination)
        self._interval *= 2
        self._timers = (self._ctx.after(self._interval, self._on_repeat), self._timers[1])

    def _on_limit(self) -> None:
        self.stop()
        self._on_timeout()
