"""Server transactions: requests of peers (RFC 3261 §17.2, RFC 6026 §7.1); see `transactions`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from ..stack import Hop
from .message import Message
from .timers import Timer
from .transaction_state import State

if TYPE_CHECKING:
    from .transactions import Transactions

__all__ = ["Origin", "ServerInvite", "ServerKey", "ServerNonInvite", "ServerTransaction"]

ServerKey: TypeAlias = tuple[str, ...]
Origin: TypeAlias = int
"""Stands for Call-ID, From tag and CSeq, what copies by different paths have in common.

Their hash: it is keyed at random and has 64 bits, so two requests never have the same.
"""


class ServerTransaction:
    """What both server machines share: the request, where replies go, the last reply."""

    __slots__ = (
        "_ctx",
        "_request",
        "_transactions",
        "destination",
        "key",
        "last",
        "of_call",
        "on_cancel",
        "on_over",
        "origin",
        "state",
        "to_tag",
    )

    def __init__(
        self,
        transactions: Transactions,
        key: ServerKey,
        request: Message,
        destination: Hop,
        state: State,
    ) -> None:
        self.key = key
        self._request: Message | None = request
        self.destination = destination
        self.state = state
        self.origin: Origin | None = None
        self.to_tag = ""
        """The tag that every response of this transaction carries (§8.2.6.2)."""
        self.on_cancel: Callable[[Message], None] | None = None
        """Called when a CANCEL for this INVITE arrives before its final response."""
        self.of_call = False
        """It became a call here: a drained agent waits for the ACK to its refusal."""
        self.on_over: Callable[[], None] | None = None
        """Called when our 3xx-6xx to this INVITE is acknowledged, or never will be."""
        self.last = b""
        """The latest response, as it is sent again; empty after a 2xx to INVITE, or an ACK."""
        self._transactions = transactions
        self._ctx = transactions.ctx

    @property
    def request(self) -> Message:
        """The request; it is not kept beyond the final response."""
        assert self._request is not None, f"{self.key}: the request is answered, and forgotten"
        return self._request

    @property
    def unanswered(self) -> bool:
        """No final response sent yet."""
        return self.state in (State.TRYING, State.PROCEEDING)

    def respond(self, code: int, data: bytes) -> None:
        """Send the encoded response ``data``."""
        raise NotImplementedError

    def receive_again(self) -> None:
        """Take a copy of the request."""
        self._ctx.count("sip_duplicate")
        if self.last and self.state in (State.PROCEEDING, State.COMPLETED):
            self._ctx.send(self.last, self.destination)

    def terminate(self) -> None:
        """Forget the transaction."""
        self.state = State.TERMINATED
        self._transactions._drop_server(self)

    def _send(self, data: bytes, *, final: bool) -> None:
        self.last = data
        self._ctx.send(data, self.destination)
        if final:
            self._request = self.on_cancel = None

    def _absorb(self, seconds: float) -> None:
        """Take copies of the request or ACK for so long, then terminate: Timers I and J."""
        self._transactions.linger(self, 0.0 if self.destination.reliable else seconds)


class ServerInvite(ServerTransaction):
    """INVITE, callee's side (§17.2.1, RFC 6026 §7.1)."""

    __slots__ = ("_interval", "_timer_g", "_timer_h")

    def __init__(
        self, transactions: Transactions, key: ServerKey, request: Message, destination: Hop
    ) -> None:
        super().__init__(transactions, key, request, destination, State.PROCEEDING)
        self._interval = self._ctx.config.t1
        self._timer_g: Timer | None = None
        self._timer_h: Timer | None = None

    def respond(self, code: int, data: bytes) -> None:
        if not self.unanswered:
            raise RuntimeError(f"a second final response ({code}) for one INVITE")
        self._send(data, final=code >= 200)
        wait = 64 * self._ctx.config.t1
        if code < 200:
            return
        if code < 300:
            self.state = State.ACCEPTED
            self.last = b""  # the core repeats a 2xx, and it alone (RFC 6026 §7.1)
            self._transactions.linger(self, wait)  # Timer L
        else:
            self.state = State.COMPLETED
            if not self.destination.reliable:
                self._timer_g = self._ctx.after(self._interval, self._on_timer_g)
            self._timer_h = self._ctx.after(wait, self._on_timer_h)

    def go_on(self, state: State, response: bytes) -> None:
        """Be as another process has left it: in PROCEEDING or ACCEPTED."""
        self.state = state
        if state is State.PROCEEDING:
            self.last = response
        else:
            self._request = None
            self._transactions.linger(self, 64 * self._ctx.config.t1)  # Timer L

    @property
    def accepted(self) -> bool:
        """Our final response was a 2xx: its ACK is the core's matter."""
        return self.state is State.ACCEPTED

    def acknowledge(self) -> None:
        """Take the ACK to a 3xx-6xx."""
        if self.state is State.COMPLETED:
            self._stop()
            self.last = b""
            self.state = State.CONFIRMED  # absorbs copies of the ACK until Timer I
            self._absorb(self._ctx.config.t4)
            self._tell_over()

    def _on_timer_g(self) -> None:
        self._ctx.count("sip_retransmitted")
        self._ctx.send(self.last, self.destination)
        self._interval = min(2 * self._interval, self._ctx.config.t2)
        self._timer_g = self._ctx.after(self._interval, self._on_timer_g)

    def _on_timer_h(self) -> None:
        self._ctx.count("sip_ack_missing")
        self._stop()
        self.terminate()
        self._tell_over()

    def _tell_over(self) -> None:
        on_over, self.on_over = self.on_over, None
        if on_over is not None:
            on_over()

    def _stop(self) -> None:
        for timer in (self._timer_g, self._timer_h):
            if timer is not None:
                timer.cancel()
        self._timer_g = self._timer_h = None


class ServerNonInvite(ServerTransaction):
    """Any other request (§17.2.2)."""

    __slots__ = ()

    def __init__(
        self, transactions: Transactions, key: ServerKey, request: Message, destination: Hop
    ) -> None:
        super().__init__(transactions, key, request, destination, State.TRYING)

    def respond(self, code: int, data: bytes) -> None:
        if not self.unanswered:
            raise RuntimeError(f"a second final response ({code}) for one {self.key[-1]}")
        self._send(data, final=code >= 200)
        if code < 200:
            self.state = State.PROCEEDING
        else:
            self.state = State.COMPLETED
            self._absorb(64 * self._ctx.config.t1)  # Timer J
