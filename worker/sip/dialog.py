"""Dialogs: the state two user agents share for one call (RFC 3261 §12)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..stack import Hop
from .context import SDP, Context
from .message import Malformed, Message
from .uri import NameAddr, SipUri, UriError

__all__ = ["Dialog", "Opening"]


def _target(message: Message, fallback: str) -> str:
    """The remote target: URI of the Contact of ``message``.  Raises Malformed."""
    contact = message.contact
    if contact is None:
        return fallback
    try:
        SipUri.parse(contact.uri)
    except UriError as error:
        raise Malformed(f"unreadable Contact: {error}", message) from None
    return contact.uri


def _nothing() -> None:
    """Nobody wants to know."""


class Opening(NamedTuple):
    """What the INVITE of ours that opens a dialog says about it."""

    call_id: str
    local: str
    """Its From header, with tag."""
    local_tag: str
    cseq: int
    target: str
    """Its request URI."""

    @classmethod
    def by(cls, invite: Message) -> Opening:
        """Read from ``invite``."""
        return cls(
            invite.call_id,
            invite.headers["From"],
            invite.from_.tag,
            invite.cseq.number,
            invite.uri,
        )


class Dialog:
    """One dialog, seen from our side."""

    def __init__(
        self,
        *,
        call_id: str,
        local: str,
        local_tag: str,
        remote: str,
        remote_tag: str,
        local_cseq: int,
        remote_cseq: int | None,
        target: str,
        routes: tuple[str, ...],
        peer: Hop,
    ) -> None:
        self.call_id = call_id
        self.local = local
        """From header of our requests, with tag."""
        self.local_tag = local_tag
        self.remote = remote
        """To header of our requests, with tag."""
        self.remote_tag = remote_tag
        self.local_cseq = local_cseq
        self.remote_cseq = remote_cseq
        self.target = target
        """Remote target, a SIP URI."""
        self.routes = routes
        """Route set, as name-addr values, first hop first."""
        self.peer = peer
        """Where the peer's last message came from."""
        self.changed: Callable[[], None] = _nothing
        """Called when what a BYE of ours needs has changed: the numbers, or the target."""

    @classmethod
    def as_caller(cls, opening: Opening, response: Message, source: Hop) -> Dialog:
        """From a 1xx or 2xx to our INVITE (§12.1.2)."""
        try:
            # A 2xx must have a Contact (§12.1.1); without, what we called is the best guess.
            target = _target(response, opening.target)
        except Malformed:
            target = opening.target
        return cls(
            call_id=opening.call_id,
            local=opening.local,
            local_tag=opening.local_tag,
            remote=response.headers["To"],
            remote_tag=response.to.tag,
            local_cseq=opening.cseq,
            remote_cseq=None,
            target=target,
            routes=tuple(reversed(response.headers.values("Record-Route"))),
            peer=source,
        )

    @classmethod
    def as_callee(cls, invite: Message, tag: str, source: Hop) -> Dialog:
        """From an ``invite`` that we answer with ``tag`` (§12.1.1).  Raises Malformed."""
        return cls(
            call_id=invite.call_id,
            local=f"{invite.headers['To']};tag={tag}",
            local_tag=tag,
            remote=invite.headers["From"],
            remote_tag=invite.from_.tag,
            local_cseq=0,
            remote_cseq=invite.cseq.number,
            # RFC 2543: who gives no Contact is reached where it says that it is from.
            target=_target(invite, invite.from_.uri),
            routes=tuple(invite.headers.values("Record-Route")),
            peer=source,
        )

    def in_order(self, request: Message) -> bool:
        """Note the CSeq of the peer's ``request``; False if it is out of order (§12.2.2)."""
        number = request.cseq.number
        if self.remote_cseq is not None and number < self.remote_cseq:
            return False
        self.remote_cseq = number
        return True

    def refresh(self, message: Message) -> None:
        """Take the remote target of a target refresh request (§12.2.2).  Raises Malformed."""
        target = _target(message, self.target)
        if target != self.target:
            self.target = target
            self.changed()

    def let_go(self) -> None:
        """Nobody wants to know of changes any more."""
        self.changed = _nothing

    def next_cseq(self) -> int:
        """Take the number of our next request in the dialog (§12.2.1.1)."""
        self.local_cseq += 1
        self.changed()
        return self.local_cseq

    def request(
        self,
        ctx: Context,
        method: str,
        *,
        cseq: int | None = None,
        extra: tuple[tuple[str, str], ...] = (),
        content: bytes = b"",
        content_type: str = SDP,
    ) -> Message:
        """A request within the dialog (§12.2.1.1); ``cseq`` only for the ACK of an INVITE."""
        if cseq is None:
            cseq = self.next_cseq()
        uri, routes = self.target, self.routes
        if routes and not self._first_hop().loose:
            # A strict router wants itself as request URI and the target as the last Route.
            uri, routes = (
                str(self._first_hop().without_headers()),
                (*routes[1:], f"<{self.target}>"),
            )
        return ctx.request(
            method,
            uri,
            from_=self.local,
            to=self.remote,
            call_id=self.call_id,
            cseq=cseq,
            transport=self.next_hop().transport,
            routes=routes,
            extra=extra,
            content=content,
            content_type=content_type,
        )

    def next_hop(self) -> Hop:
        """Where our next request in the dialog goes to: the first Route or else the remote target.

        By the transport it names, else by that of the peer's messages (who calls by TCP and leaves
        it out of the Contact means TCP, whatever §19.1.2 says).  What cannot be read, or names a
        transport that we do not have, is replaced by where the peer's last message came from.
        """
        try:
            return self._first_hop().hop(self.peer.transport)
        except UriError:
            return self.peer

    def _first_hop(self) -> SipUri:
        if self.routes:
            try:
                return SipUri.parse(NameAddr.parse(self.routes[0]).uri)
            except UriError:
                # Read as a loose router: its Route is kept, the peer gets it.
                return SipUri("unreadable.invalid", params={"lr": None, "transport": "unknown"})
        return SipUri.parse(self.target)
