"""Transactions (RFC 3261 §17, corrected by RFC 6026).

Theory of operation.  A transaction owns one request, its retransmissions and the final response.
What it learns goes up through a `ClientUser` or, on the server side, by being found with `find`.

    client INVITE      CALLING ─1xx→ PROCEEDING ─2xx→ ACCEPTED (Timer M)
                          └──────────────┴─3xx-6xx→ COMPLETED (ACK sent, Timer D)
    client non-INVITE  TRYING ─1xx→ PROCEEDING ─final→ COMPLETED (Timer K)
    server INVITE      PROCEEDING ─2xx→ ACCEPTED (Timer L)
                          └─3xx-6xx→ COMPLETED (Timers G, H) ─ACK→ CONFIRMED (Timer I)
    server non-INVITE  TRYING ─1xx→ PROCEEDING ─final→ COMPLETED (Timer J)

Over a reliable transport nothing is sent again (Timers A, E, G) and no copy is waited for (Timers
D, I, J, K are zero); Timers B, F and H hold there too.

Every path ends in TERMINATED, where the transaction is forgotten.  The 2xx to an INVITE and its
ACK are not the transaction's matter: the UA core repeats and acknowledges it (§13.2.2.4,
§13.3.1.4).  RFC 6026's ACCEPTED states keep a repeated INVITE from becoming a new call, and let
repeated or forked 2xx find their call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Protocol, TypeAlias

from ..stack import Hop
from .context import Context
from .message import Message
from .timers import Timer

__all__ = [
    "COOKIE",
    "ClientInvite",
    "ClientNonInvite",
    "ClientTransaction",
    "ClientUser",
    "ServerInvite",
    "ServerNonInvite",
    "ServerTransaction",
    "State",
    "Transactions",
]

COOKIE = "z9hG4bK"
"""What a branch begins with that identifies its transaction (§8.1.1.7)."""

ServerKey: TypeAlias = tuple[str, ...]
Origin: TypeAlias = tuple[str, str, int, str]


class State(Enum):
    """States of all four machines; each uses some of them."""

    CALLING = "calling"
    TRYING = "trying"
    PROCEEDING = "proceeding"
    ACCEPTED = "accepted"
    COMPLETED = "completed"
    CONFIRMED = "confirmed"
    TERMINATED = "terminated"


class ClientUser(Protocol):
    """Who sent a request and waits for what becomes of it."""

    def on_response(self, response: Message, source: Hop) -> None:
        """A response that the user has not seen; for INVITE also every copy of a 2xx."""

    def on_timeout(self) -> None:
        """Timer B or F: nobody answered."""

    def on_unreachable(self) -> None:
        """The request could not be delivered: ICMP error, no connection, no such name."""


class ClientTransaction:
    """What both client machines share: the request, its first timer pair, its end."""

    def __init__(
        self,
        transactions: Transactions,
        request: Message,
        destination: Hop,
        user: ClientUser,
        state: State,
    ) -> None:
        self.request = request
        self.destination = destination
        self.state = state
        self.unresolved = False
        """It was unreachable because the name of the destination leads to no address."""
        self._data = request.encode()
        self._user = user
        self._transactions = transactions
        self._ctx = transactions.ctx
        self._interval = self._ctx.config.t1
        self._ctx.send(self._data, destination)
        self._retransmit: Timer | None = None
        if not destination.reliable:
            self._retransmit = self._ctx.after(self._interval, self._on_retransmit)
        self._timeout = self._ctx.after(64 * self._ctx.config.t1, self._on_timeout)

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
        self._transactions._drop_client(self)

    def _repeat(self) -> None:
        self._ctx.count("sip_retransmitted")
        self._ctx.send(self._data, self.destination)

    def _on_retransmit(self) -> None:
        raise NotImplementedError

    def _on_timeout(self) -> None:
        self.terminate()
        self._user.on_timeout()

    def _stop(self) -> None:
        if self._retransmit is not None:
            self._retransmit.cancel()
        self._timeout.cancel()

    def _absorb(self, seconds: float) -> None:
        """Take copies of the response for so long, then terminate: Timers D and K."""
        self._ctx.after(0.0 if self.destination.reliable else seconds, self.terminate)


class ClientInvite(ClientTransaction):
    """INVITE, caller's side (§17.1.1, RFC 6026 §7.2)."""

    def __init__(
        self,
        transactions: Transactions,
        request: Message,
        destination: Hop,
        user: ClientUser,
    ) -> None:
        super().__init__(transactions, request, destination, user, State.CALLING)
        self._ack = b""

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
                self._ctx.after(64 * self._ctx.config.t1, self.terminate)  # Timer M
            else:
                self.state = State.COMPLETED
                self._ack = self._acknowledge(response)
                self._ctx.send(self._ack, self.destination)
                # Timer D: "at least 32 seconds for unreliable transports", whatever T1 is.
                self._absorb(max(32.0, 64 * self._ctx.config.t1))
            self._user.on_response(response, source)
        elif 200 <= code < 300:
            # In ACCEPTED a copy or a fork.  In COMPLETED it crossed with the failure of another
            # branch; §13.2.2.4 still wants it acknowledged, or its sender repeats it for 32 s.
            self._user.on_response(response, source)
        elif code >= 300 and self.state is State.COMPLETED:
            self._ctx.count("sip_duplicate")
            self._ctx.send(self._ack, self.destination)

    def unreachable(self) -> None:
        # After a 1xx somebody is there: the error is an old one, from before.
        if self.state is State.CALLING:
            self.terminate()
            self._user.on_unreachable()

    def _acknowledge(self, response: Message) -> bytes:
        """The ACK for a 3xx-6xx: part of this transaction, with its branch (§17.1.1.3)."""
        request = self.request
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
        if response.code < 200:
            self.state = State.PROCEEDING  # Timers E and F go on
        else:
            self._stop()
            self.state = State.COMPLETED
            self._absorb(self._ctx.config.t4)  # Timer K
        self._user.on_response(response, source)

    def unreachable(self) -> None:
        if self.unanswered:
            self.terminate()
            self._user.on_unreachable()


class ServerTransaction:
    """What both server machines share: the request, where replies go, the last reply."""

    def __init__(
        self,
        transactions: Transactions,
        key: ServerKey,
        request: Message,
        destination: Hop,
        state: State,
    ) -> None:
        self.key = key
        self.request = request
        self.destination = destination
        self.state = state
        self.origin: Origin | None = None
        self.to_tag = ""
        """The tag that every response of this transaction carries (§8.2.6.2)."""
        self.on_cancel: Callable[[Message], None] | None = None
        """Called when a CANCEL for this INVITE arrives before its final response."""
        self.of_call = False
        """It became a call here: a drained agent waits for the ACK to its refusal."""
        self._last = b""
        self._transactions = transactions
        self._ctx = transactions.ctx

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
        if self._last and self.state in (State.PROCEEDING, State.COMPLETED):
            self._ctx.send(self._last, self.destination)

    def terminate(self) -> None:
        """Forget the transaction."""
        self.state = State.TERMINATED
        self._transactions._drop_server(self)

    def _send(self, data: bytes) -> None:
        self._last = data
        self._ctx.send(data, self.destination)

    def _absorb(self, seconds: float) -> None:
        """Take copies of the request or ACK for so long, then terminate: Timers I and J."""
        self._ctx.after(0.0 if self.destination.reliable else seconds, self.terminate)


class ServerInvite(ServerTransaction):
    """INVITE, callee's side (§17.2.1, RFC 6026 §7.1)."""

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
        self._send(data)
        wait = 64 * self._ctx.config.t1
        if code < 200:
            return
        if code < 300:
            self.state = State.ACCEPTED
            self._last = b""  # the core repeats a 2xx, and it alone (RFC 6026 §7.1)
            self._ctx.after(wait, self.terminate)  # Timer L
        else:
            self.state = State.COMPLETED
            if not self.destination.reliable:
                self._timer_g = self._ctx.after(self._interval, self._on_timer_g)
            self._timer_h = self._ctx.after(wait, self._on_timer_h)

    @property
    def accepted(self) -> bool:
        """Our final response was a 2xx: its ACK is the core's matter."""
        return self.state is State.ACCEPTED

    def acknowledge(self) -> None:
        """Take the ACK to a 3xx-6xx."""
        if self.state is State.COMPLETED:
            self._stop()
            self.state = State.CONFIRMED  # absorbs copies of the ACK until Timer I
            self._absorb(self._ctx.config.t4)

    def _on_timer_g(self) -> None:
        self._ctx.count("sip_retransmitted")
        self._ctx.send(self._last, self.destination)
        self._interval = min(2 * self._interval, self._ctx.config.t2)
        self._timer_g = self._ctx.after(self._interval, self._on_timer_g)

    def _on_timer_h(self) -> None:
        self._ctx.count("sip_ack_missing")
        self._stop()
        self.terminate()

    def _stop(self) -> None:
        for timer in (self._timer_g, self._timer_h):
            if timer is not None:
                timer.cancel()


class ServerNonInvite(ServerTransaction):
    """Any other request (§17.2.2)."""

    def __init__(
        self, transactions: Transactions, key: ServerKey, request: Message, destination: Hop
    ) -> None:
        super().__init__(transactions, key, request, destination, State.TRYING)

    def respond(self, code: int, data: bytes) -> None:
        if not self.unanswered:
            raise RuntimeError(f"a second final response ({code}) for one {self.request.method}")
        self._send(data)
        if code < 200:
            self.state = State.PROCEEDING
        else:
            self.state = State.COMPLETED
            self._absorb(64 * self._ctx.config.t1)  # Timer J


class Transactions:
    """All transactions of one user agent."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self._clients: dict[tuple[str, str], ClientTransaction] = {}
        self._servers: dict[ServerKey, ServerTransaction] = {}
        self._origins: dict[Origin, ServerTransaction] = {}

    def __len__(self) -> int:
        return len(self._clients) + len(self._servers)

    # Client side

    def send(self, request: Message, destination: Hop, user: ClientUser) -> ClientTransaction:
        """Start the client transaction of ``request``; its top Via holds a fresh branch."""
        kind = ClientInvite if request.method == "INVITE" else ClientNonInvite
        transaction = kind(self, request, destination, user)
        self._clients[request.via.branch, request.method] = transaction
        return transaction

    def find_client(self, branch: str, method: str) -> ClientTransaction | None:
        """Whose response has this top branch and CSeq method (§17.1.3)."""
        return self._clients.get((branch, method))

    def waiting(self) -> Iterator[ClientTransaction | ServerTransaction]:
        """Those that a drained agent must wait for.

        Requests other than INVITE without a final response, and refused calls without an ACK.
        (An INVITE of ours without final response belongs to a call.)  Not the ACK to the 503 or
        486 of what was never a call: strangers who send none could hold up every stop.
        """
        for client in self._clients.values():
            if client.unanswered and isinstance(client, ClientNonInvite):
                yield client
        for server in self._servers.values():
            if server.of_call and server.state is State.COMPLETED:
                yield server

    def _drop_client(self, transaction: ClientTransaction) -> None:
        self._clients.pop((transaction.request.via.branch, transaction.request.method), None)

    # Server side

    @staticmethod
    def server_key(request: Message, method: str = "") -> ServerKey:
        """What identifies the server transaction of ``request`` (§17.2.3).

        ``method`` stands in for the request's own: INVITE to find what an ACK or CANCEL is for.
        Raises Malformed.
        """
        via = request.via
        method = method or request.method
        if via.branch.startswith(COOKIE) and via.branch != COOKIE:
            return via.branch, via.sent_by, method
        # RFC 2543: no unique branch.  The To tag is left out, for the tag of an ACK is not that
        # of its INVITE; so is the request URI, which adds nothing to the rest.
        cseq, tag = str(request.cseq.number), request.from_.tag
        return request.call_id, tag, cseq, via.sent_by, via.branch, method

    def find_server(self, request: Message, method: str = "") -> ServerTransaction | None:
        """The transaction that ``request`` belongs to.  Raises Malformed."""
        return self._servers.get(self.server_key(request, method))

    def accept(self, request: Message, destination: Hop) -> ServerTransaction:
        """Start the server transaction of a new request.  Raises Malformed."""
        key = self.server_key(request)
        kind = ServerInvite if request.method == "INVITE" else ServerNonInvite
        transaction = kind(self, key, request, destination)
        self._servers[key] = transaction
        return transaction

    def merged(self, transaction: ServerTransaction) -> bool:
        """Whether this request reached us before along another path (§8.2.2.2).

        To be asked once per request that has no To tag.
        """
        request = transaction.request
        origin = (request.call_id, request.from_.tag, request.cseq.number, request.cseq.method)
        if origin in self._origins:
            return True
        self._origins[origin] = transaction
        transaction.origin = origin
        return False

    def _drop_server(self, transaction: ServerTransaction) -> None:
        self._servers.pop(transaction.key, None)
        if transaction.origin is not None:
            self._origins.pop(transaction.origin, None)
