"""Client transactions: requests of ours (RFC 3261 §17.1, RFC 6026 §7.2); see `transactions`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

from ..stack import Hop
from .message import Message
from .timers import Timer
from .transaction_state import State

if TYPE_CHECKING:
    from .transactions import Transactions

__all__ = ["ClientInvite", "ClientKey", "ClientNonInvite", "ClientTransaction", "ClientUser"]

ClientKey: TypeAlias = tuple[str, str]
"""Branch of the top Via, and method."""


class ClientUser(Protocol):
    """Who sent a request and waits for what becomes of it."""

    def on_response(self, response: Message, source: Hop) -> None:
        """A response that the user has not seen; for INVITE also every copy of a 2xx."""

    def on_timeout(self) -> None:
        """Timer B or F: nobody answered."""

    def on_unreachable(self) -> None:
        """The request could not be delivered: ICMP error, no connection, no such name."""


class _Nobody:
    """The user of a transaction that nobody waits for any more."""

    def on_response(self, response: Message, source: Hop) -> None:
        """Too late."""

    def on_timeout(self) -> None:
        """Nobody minds."""

    def on_unreachable(self) -> None:
        """Nobody minds."""


_NOBODY = _Nobody()


class ClientTransaction:
    """What both client machines share: the request, its first timer pair, its end."""

    __slots__ = (
        "_ctx",
        "_interval",
        "_retransmit",
        "_timeout",
        "_transactions",
        "data",
        "destination",
        "key",
        "state",
        "unresolved",
        "user",
    )

    def __init__(
        self,
        transactions: Transactions,
        request: Message,
        destination: Hop,
        user: ClientUser,
        state: State,
        *,
        sent: bool = False,
    ) -> None:
        """``sent``: another process has sent it."""
        self.key: ClientKey = (request.via.branch, request.method)
        self.destination = destination
        self.state = state
        self.unresolved = False
        """It was unreachable because the name of the destination leads to no address."""
        self.user = user
        """Who is told; may be replaced."""
        self.data = request.encode()
        """The request as it is sent; empty after a final response."""
        self._transactions = transactions
        self._ctx = transactions.ctx
        self._interval = self._ctx.config.t1
        if not sent:
            self._ctx.send(self.data, destination)
        self._retransmit: Timer | None = None
        if not destination.reliable:
            self._retransmit = self._ctx.after(self._interval, self._on_retransmit)
        self._timeout: Timer | None = self._ctx.after(64 * self._ctx.config.t1, self._on_timeout)

    @property
    def unanswered(self) -> bool:
        """No final response yet."""
        return self.state in (State.CALLING, State.TRYING, State.PROCEEDING)

    def receive(self, response: Message, source: Hop) -> None:
        """Take a response that matches this transaction."""
        raise NotImplementedError

    def unreachable(self) -> None:
        """The request could not be delivered to its destination (§17.1.4)."""
        raise NotImplementedError

    def abandon(self, delay: float) -> None:
        """Stop waiting for a final response, but stay ``delay`` seconds for a late one."""
        self._stop()
        # In the place of Timer B or F: a late final response sets its own timer instead.
        self._timeout = self._ctx.after(delay, self.terminate)

    def terminate(self) -> None:
        """Forget the transaction."""
        self._stop()
        self.state = State.TERMINATED
        self.user = _NOBODY
        self._transactions._drop_client(self)

    def _repeat(self) -> None:
        self._ctx.count("sip_retransmitted")
        self._ctx.send(self.data, self.destination)

    def _on_retransmit(self) -> None:
        raise NotImplementedError

    def _on_timeout(self) -> None:
        user = self.user
        self.terminate()
        user.on_timeout()

    def _stop(self) -> None:
        for timer in (self._retransmit, self._timeout):
            if timer is not None:
                timer.cancel()
        self._retransmit = self._timeout = None

    def _end_unreachable(self) -> None:
        user = self.user
        self.terminate()
        user.on_unreachable()

    def _absorb(self, seconds: float) -> None:
        """Take copies of the response for so long, then terminate: Timers D and K."""
        self._transactions.linger(self, 0.0 if self.destination.reliable else seconds)


class ClientInvite(ClientTransaction):
    """INVITE, caller's side (§17.1.1, RFC 6026 §7.2)."""

    __slots__ = ("_ack", "_request")

    def __init__(
        self,
        transactions: Transactions,
        request: Message,
        destination: Hop,
        user: ClientUser,
        *,
        left: State | None = None,
    ) -> None:
        """``left`` is the state in which another process has left it, up to ACCEPTED."""
        sent = left is not None
        super().__init__(transactions, request, destination, user, State.CALLING, sent=sent)
        self._request: Message | None = request
        """For the ACK to a 3xx-6xx; None when the final response is there."""
        self._ack = b""
        if left in (State.PROCEEDING, State.ACCEPTED):
            self._stop()
            self.state = left
        if left is State.ACCEPTED:
            self._request, self.data = None, b""
            self._transactions.linger(self, 64 * self._ctx.config.t1)  # Timer M

    def _on_retransmit(self) -> None:  # Timer A doubles without limit; Timer B ends it
        self._repeat()
        self._interval *= 2
        self._retransmit = self._ctx.after(self._interval, self._on_retransmit)

    def receive(self, response: Message, source: Hop) -> None:
        code = response.code
        if self.state in (State.CALLING, State.PROCEEDING):
            if self.state is State.CALLING or code >= 200:
                self._stop()  # Timers A and B: in PROCEEDING a callee may ring for ever
            if code < 200:
                self.state = State.PROCEEDING
            elif code < 300:
                self.state = State.ACCEPTED
                self._request, self.data = None, b""
                self._transactions.linger(self, 64 * self._ctx.config.t1)  # Timer M
            else:
                self.state = State.COMPLETED
                self._ack = self._acknowledge(response)
                self._request, self.data = None, b""
                self._ctx.send(self._ack, self.destination)
                # Timer D: "at least 32 seconds for unreliable transports", whatever T1 is.
                self._absorb(max(32.0, 64 * self._ctx.config.t1))
            self.user.on_response(response, source)
        elif 200 <= code < 300:
            # In ACCEPTED a copy or a fork.  In COMPLETED it crossed with the failure of another
            # branch; §13.2.2.4 still wants it acknowledged, or its sender repeats it for 32 s.
            self.user.on_response(response, source)
        elif code >= 300 and self.state is State.COMPLETED:
            self._ctx.count("sip_duplicate")
            self._ctx.send(self._ack, self.destination)

    def unreachable(self) -> None:
        # After a 1xx somebody is there: the error is an old one, from before.
        if self.state is State.CALLING:
            self._end_unreachable()

    def _acknowledge(self, response: Message) -> bytes:
        """The ACK for a 3xx-6xx: part of this transaction, with its branch (§17.1.1.3)."""
        request = self._request
        assert request is not None
        headers = [
            ("Via", request.headers["Via"]),
            *(("Route", route) for route in request.headers.fields("Route")),
            ("Max-Forwards", "70"),
            ("From", request.headers["From"]),
            ("To", response.headers.get("To")),
            ("Call-ID", request.call_id),
            ("CSeq", f"{request.cseq.number} ACK"),
        ]
        return Message.request("ACK", request.uri, headers).encode()


class ClientNonInvite(ClientTransaction):
    """Any other request (§17.1.2)."""

    __slots__ = ()

    def __init__(
        self,
        transactions: Transactions,
        request: Message,
        destination: Hop,
        user: ClientUser,
    ) -> None:
        super().__init__(transactions, request, destination, user, State.TRYING)

    def _on_retransmit(self) -> None:  # Timer E: doubles up to T2; in PROCEEDING always T2
        self._repeat()
        t2 = self._ctx.config.t2
        self._interval = t2 if self.state is State.PROCEEDING else min(2 * self._interval, t2)
        self._retransmit = self._ctx.after(self._interval, self._on_retransmit)

    def receive(self, response: Message, source: Hop) -> None:
        if not self.unanswered:
            self._ctx.count("sip_duplicate")
            return
        user = self.user
        if response.code < 200:
            self.state = State.PROCEEDING  # Timers E and F go on
        else:
            self._stop()
            self.state = State.COMPLETED
            self.user, self.data = _NOBODY, b""
            self._absorb(self._ctx.config.t4)  # Timer K
        user.on_response(response, source)

    def unreachable(self) -> None:
        if self.unanswered:
            self._end_unreachable()
