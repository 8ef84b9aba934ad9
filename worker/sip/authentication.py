"""Requests of ours and the challenges to them (RFC 3261 §22).

`Requests.send` starts the client transaction of a request.  A 401 or 407 does not reach the user
of that transaction as long as it can be answered: the request goes out again with credentials, as
a transaction of its own (§8.1.3.5: same Call-ID, next CSeq, new branch).  A request may be
challenged by several hops in turn, and by each again with stale=true; a hop that has seen our
credentials and still asks for them does not want them.

A nonce is remembered by where the request went, so that the next request there has credentials
from the start, with ``nc`` one higher.

CANCEL and ACK are never challenged: they go by `Transactions` and `Context` as they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Literal, TypeAlias

from ..stack import Address, Hop
from .context import Context
from .dialog import Dialog
from .digest import Nonce, parse_challenges, strongest
from .message import Message
from .transactions import ClientTransaction, ClientUser, State, Transactions
from .uri import SipUri, UriError

__all__ = ["Attempt", "Requests", "credentials_of"]

_ANSWERS = {"WWW-Authenticate": "Authorization", "Proxy-Authenticate": "Proxy-Authorization"}
_MOST_ROUNDS = 5
"""Repetitions of one request: two hops, a stale nonce at each, and one to spare."""
_SPACES = 32
_REALMS = 4
"""Bounds of what is remembered: protection spaces, and realms in each."""

Key: TypeAlias = tuple[str, str]
"""Name of the header with our credentials, and realm."""
Space: TypeAlias = tuple[Address, str, str]
"""Next hop, name of the header, and for Authorization, which the far end reads, the URI's host."""


def credentials_of(request: Message) -> tuple[tuple[str, str], ...]:
    """The credentials in ``request``: the ACK to its 2xx has the same (§22.1)."""
    return tuple(
        (name, value) for name in _ANSWERS.values() for value in request.headers.fields(name)
    )


class Requests:
    """Sends the requests of one user agent, with its credentials where they are asked for."""

    def __init__(self, transactions: Transactions) -> None:
        self.transactions = transactions
        self.ctx: Context = transactions.ctx
        self._spaces: OrderedDict[Space, OrderedDict[str, Nonce]] = OrderedDict()

    def send(
        self,
        request: Message,
        destination: Hop,
        user: ClientUser,
        next_cseq: Callable[[], int] | None = None,
    ) -> Attempt:
        """Start the client transaction of ``request``; its top Via holds a fresh branch.

        ``next_cseq`` takes the number of a repetition from the request's sequence; None: nobody
        else takes any, and the numbers just go up.
        """
        return Attempt(self, request, destination, user, next_cseq)

    def send_within(self, dialog: Dialog, request: Message, user: ClientUser) -> Attempt:
        """The same for a ``request`` of `dialog`."""
        return self.send(request, dialog.next_hop(), user, dialog.next_cseq)

    def restore(self, invite: Message, destination: Hop, user: ClientUser, left: State) -> Attempt:
        """An INVITE that another process has sent, its transaction as it was ``left``."""
        return Attempt(self, invite, destination, user, None, left)

    def recall(self, request: Message, destination: Hop) -> dict[Key, Nonce]:
        """The nonces that ``request`` can be sent with at once."""
        found: dict[Key, Nonce] = {}
        for header in _ANSWERS.values():
            space = _space(request, destination, header)
            for realm, nonce in self._spaces.get(space, {}).items():
                found[header, realm] = nonce
            if space in self._spaces:
                self._spaces.move_to_end(space)
        return found

    def remember(self, request: Message, destination: Hop, key: Key, nonce: Nonce) -> None:
        """Use ``nonce`` for what is sent there next."""
        header, realm = key
        space = _space(request, destination, header)
        realms = self._spaces.setdefault(space, OrderedDict())
        self._spaces.move_to_end(space)
        realms[realm] = nonce
        realms.move_to_end(realm)
        if len(realms) > _REALMS:
            realms.popitem(last=False)
        if len(self._spaces) > _SPACES:
            self._spaces.popitem(last=False)

    def forget(self, request: Message, destination: Hop) -> None:
        """Our credentials are not wanted there."""
        for header in _ANSWERS.values():
            self._spaces.pop(_space(request, destination, header), None)


class Attempt:
    """One request of ours with its repetitions; made by `Requests`."""

    __slots__ = (
        "_answered",
        "_next_cseq",
        "_nonces",
        "_requests",
        "_rounds",
        "_stopped",
        "_user",
        "destination",
        "request",
        "transactions",
        "verdict",
    )

    def __init__(
        self,
        requests: Requests,
        request: Message,
        destination: Hop,
        user: ClientUser,
        next_cseq: Callable[[], int] | None,
        left: State | None = None,
    ) -> None:
        """``left``: another process has sent it, an INVITE, and left its transaction so."""
        self.destination = destination
        self.verdict: Literal["", "credentials", "challenge"] = ""
        """Why a 401 or 407 reached the user: our credentials are wrong or missing, or there was
        no challenge that we can answer."""
        self._requests = requests
        self._user = user
        self._next_cseq = next_cseq
        self._nonces = requests.recall(request, destination)
        self._answered: set[Key] = set()
        self._rounds = 0
        self._stopped = False
        if self._nonces:
            request = self._authorized(request, request.headers.items())
        self.request = request
        """As it was sent last."""
        transactions = requests.transactions
        self.transactions: list[ClientTransaction] = [
            transactions.send(request, destination, self)
            if left is None
            else transactions.restore(request, destination, self, left)
        ]
        """Those of the request and of its repetitions."""

    @property
    def transaction(self) -> ClientTransaction:
        """That of the request as it was sent last."""
        return self.transactions[-1]

    def leave_to(self, user: ClientUser) -> None:
        """Whatever still comes is for ``user``; challenges, too."""
        for transaction in self.transactions:
            transaction.user = user

    def stop(self) -> None:
        """Answer no more challenges: nobody wants the request any more."""
        self._stopped = True

    def abandon(self, delay: float = 0.0) -> None:
        """Send it no more; an answer that comes within ``delay`` seconds still finds its user."""
        self.stop()
        if self.transaction.unanswered and delay:
            self.transaction.abandon(delay)
        elif self.transaction.unanswered:
            self.transaction.terminate()

    # The transactions' user (ClientUser)

    def on_response(self, response: Message, source: Hop) -> None:
        if response.code in (401, 407) and not self._stopped and self._take(response):
            self._requests.ctx.count("sip_challenged")
            self._repeat()
        else:
            self._user.on_response(response, source)

    def on_timeout(self) -> None:
        self._user.on_timeout()

    def on_unreachable(self) -> None:
        self._user.on_unreachable()

    # Inside

    def _take(self, response: Message) -> bool:
        """Take the challenges of ``response``; False if they can't, or need not, be answered."""
        # Both kinds, whatever the code: a proxy that forked has collected them (§16.7).
        asked = {
            (answer, challenge.realm): challenge
            for header, answer in _ANSWERS.items()
            for challenge in strongest(parse_challenges(response.headers.fields(header))).values()
        }
        if not asked:
            self.verdict = "challenge"
            return False
        refused = any(
            key in self._answered and not challenge.stale for key, challenge in asked.items()
        )
        known = self._requests.ctx.config.credentials is not None
        if refused or not known or self._rounds == _MOST_ROUNDS:
            self.verdict = "credentials"
            self._requests.forget(self.request, self.destination)
            return False
        for key, challenge in asked.items():
            nonce = Nonce(challenge, self._requests.ctx.token())
            self._nonces[key] = nonce
            self._requests.remember(self.request, self.destination, key, nonce)
        self._answered |= asked.keys()
        return True

    def _repeat(self) -> None:
        """Send the request again with credentials for all who asked (§8.1.3.5, §22.2, §22.3)."""
        self._rounds += 1
        old = self.request
        number = old.cseq.number + 1 if self._next_cseq is None else self._next_cseq()
        headers = []
        for name, value in old.headers.items():
            if name == "Via":
                value = self._requests.ctx.new_via(self.destination.transport)
            elif name == "CSeq":
                value = f"{number} {old.method}"
            if name not in _ANSWERS.values():
                headers.append((name, value))
        self.request = self._authorized(old, headers)
        self.transactions.append(
            self._requests.transactions.send(self.request, self.destination, self)
        )

    def _authorized(self, request: Message, headers: list[tuple[str, str]]) -> Message:
        """``request`` with these ``headers`` and our credentials."""
        credentials = self._requests.ctx.config.credentials
        assert credentials is not None
        answers = [
            (header, nonce.authorize(request.method, request.uri, credentials))
            for (header, _), nonce in self._nonces.items()
        ]
        return Message.request(request.method, request.uri, [*headers, *answers], request.content)


def _space(request: Message, destination: Hop, header: str) -> Space:
    host = ""
    if header == "Authorization":
        try:
            host = SipUri.parse(request.uri).host.lower()
        except UriError:
            host = request.uri
    return destination.address, header, host
