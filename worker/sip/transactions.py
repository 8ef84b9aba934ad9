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

Most of a transaction's life comes after its final response, up to 64*T1, and a busy phone has
hundreds in that state.  So each lets go then of what only an open one needs: request, datagram,
user.  What is left is its key and, where copies are answered, the last datagram.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator

from ..stack import Hop
from .client_transactions import (
    ClientInvite,
    ClientKey,
    ClientNonInvite,
    ClientTransaction,
    ClientUser,
)
from .context import Context
from .message import Message
from .server_transactions import (
    Origin,
    ServerInvite,
    ServerKey,
    ServerNonInvite,
    ServerTransaction,
)
from .transaction_state import State

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


class _Lingering:
    """Transactions that all linger for the same time: a queue needs one timer, not one each."""

    def __init__(self, ctx: Context, seconds: float) -> None:
        self._ctx = ctx
        self._seconds = seconds
        self._queue: deque[tuple[float, ClientTransaction | ServerTransaction]] = deque()

    def add(self, transaction: ClientTransaction | ServerTransaction) -> None:
        """Terminate it so many seconds from now."""
        when = self._ctx.now + self._seconds
        self._queue.append((when, transaction))
        if len(self._queue) == 1:
            self._ctx.timers.start(when, self._on_due)

    def _on_due(self) -> None:
        queue = self._queue
        while queue and queue[0][0] <= self._ctx.now:
            _, transaction = queue.popleft()
            transaction.terminate()
        if queue:
            self._ctx.timers.start(queue[0][0], self._on_due)


class Transactions:
    """All transactions of one user agent."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self._clients: dict[ClientKey, ClientTransaction] = {}
        self._servers: dict[ServerKey, ServerTransaction] = {}
        self._origins: set[Origin] = set()
        self._lingering: dict[float, _Lingering] = {}
        """By the seconds that they linger: there are three such times, and zero."""

    def __len__(self) -> int:
        return len(self._clients) + len(self._servers)

    def linger(self, transaction: ClientTransaction | ServerTransaction, seconds: float) -> None:
        """Terminate a transaction that only takes copies any more, so many seconds from now."""
        if seconds not in self._lingering:
            self._lingering[seconds] = _Lingering(self.ctx, seconds)
        self._lingering[seconds].add(transaction)

    # Client side

    def send(self, request: Message, destination: Hop, user: ClientUser) -> ClientTransaction:
        """Start the client transaction of ``request``; its top Via holds a fresh branch."""
        kind = ClientInvite if request.method == "INVITE" else ClientNonInvite
        transaction = kind(self, request, destination, user)
        self._clients[transaction.key] = transaction
        return transaction

    def restore(
        self, request: Message, destination: Hop, user: ClientUser, left: State
    ) -> ClientInvite:
        """The client transaction of an INVITE that another process has sent and ``left`` so."""
        transaction = ClientInvite(self, request, destination, user, left=left)
        self._clients[transaction.key] = transaction
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
        self._clients.pop(transaction.key, None)

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
            # Interned, as most are of one peer: a transaction keeps its key for half a minute.
            return via.branch, sys.intern(via.sent_by), sys.intern(method)
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
        origin = hash((request.call_id, request.from_.tag, request.cseq))
        if origin in self._origins:
            return True
        self._origins.add(origin)
        transaction.origin = origin
        return False

    def _drop_server(self, transaction: ServerTransaction) -> None:
        self._servers.pop(transaction.key, None)
        if transaction.origin is not None:
            self._origins.discard(transaction.origin)
