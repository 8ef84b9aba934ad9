"""The answers to an INVITE of ours: each 2xx is acknowledged, also when its call is long over.

An INVITE may be answered by several forks, and a 2xx comes again until its ACK arrives
(RFC 3261 §13.2.2.4).  This goes on for 64*T1 after the first answer (Timer M), while most calls of
a busy phone have ended.  So what it takes is kept apart from the leg, and is small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..stack import Hop
from .authentication import credentials_of
from .dialog import Dialog, Opening
from .forks import LateAnswer
from .journal import CallRecord, Left, lasting
from .message import Message, parse

if TYPE_CHECKING:
    from .leg import Registry

__all__ = ["Answers"]


class _Ack(NamedTuple):
    tag: str
    """Of the peer."""
    data: bytes
    destination: Hop


class Answers:
    """The 2xx to one INVITE; the user of its transaction once the call has ended."""

    __slots__ = (
        "_credentials",
        "_early",
        "_first",
        "_opening",
        "_others",
        "_registry",
        "least_cseq",
    )

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.least_cseq = 0
        """Numbers up to this one may have been used in any dialog of the call."""
        self._opening: Opening | None = None
        self._credentials: tuple[tuple[str, str], ...] = ()
        self._first: _Ack | None = None
        """The ACK to the first fork that answered: mostly there is no other."""
        self._others: dict[str, _Ack] | None = None
        """Those to the others, by To tag."""
        self._early: dict[str, tuple[int, int | None]] | None = None
        """CSeq numbers, ours and the peer's, of early dialogs that had requests, by To tag."""

    def expect(self, invite: Message) -> None:
        """What comes is the answer to ``invite``."""
        self._opening = Opening.by(invite)
        self._credentials = credentials_of(invite)

    def settle(self) -> None:
        """The call is over: keep what the ACK does not say as well."""
        if self._first is not None:
            self._opening, self._credentials = None, ()

    def remember(self, early: Dialog) -> None:
        """A fork that rings may still answer: its numbers go on."""
        assert self._opening is not None
        numbers = early.local_cseq, early.remote_cseq
        if numbers != (self._opening.cseq, None):
            if self._early is None:
                self._early = {}
            self._early[early.remote_tag] = numbers

    def acknowledge(self, response: Message, source: Hop) -> Dialog | None:
        """Send the ACK to a 2xx; returns the dialog that it makes, None if it is a copy."""
        ctx = self._registry.ctx
        tag = response.to.tag
        known = self._ack_to(tag)
        if known is not None:  # our ACK was lost
            ctx.count("sip_duplicate")
            ctx.send(known.data, known.destination)
            return None
        if self._opening is None and self._first is not None:
            # The ACK has the headers of the INVITE, and its number (§13.2.2.4).
            self.expect(parse(self._first.data))
        assert self._opening is not None
        dialog = Dialog.as_caller(self._opening, response, source)
        if self._early is not None:
            # §13.2.2.4 makes anew only the route set.
            local, remote = self._early.pop(tag, (0, None))
            dialog.local_cseq = max(dialog.local_cseq, local)
            dialog.remote_cseq = remote
        dialog.local_cseq = max(dialog.local_cseq, self.least_cseq)
        # The ACK to a 2xx is a request of its own, with a new branch.
        request = dialog.request(ctx, "ACK", cseq=self._opening.cseq, extra=self._credentials)
        ack = _Ack(tag, request.encode(), dialog.next_hop())
        if self._first is None:
            self._first = ack
        else:
            if self._others is None:
                self._others = {}
            self._others[tag] = ack
        ctx.send(ack.data, ack.destination)
        return dialog

    def acknowledged(self, dialog: Dialog, ack: bytes, hop: Hop) -> None:
        """Another process has answered the 2xx of ``dialog``, the first one."""
        self._first = _Ack(dialog.remote_tag, ack, hop)

    def _ack_to(self, tag: str) -> _Ack | None:
        if self._first is not None and self._first.tag == tag:
            return self._first
        return self._others.get(tag) if self._others is not None else None

    def refuse(self, dialog: Dialog) -> None:
        """Another fork answered too, or we had given up: this one is ended."""
        self._registry.ctx.count("sip_forked_answer")
        ack, hop = self.ack_of(dialog)
        record = CallRecord(
            call="",
            role="caller",
            left=Left.ENDING,
            began=self._registry.ctx.now,
            call_id=dialog.call_id,
            local_tag=dialog.local_tag,
            dialog=None,
            invite=b"",
            hop=lasting(hop),
            ack=ack,
            ack_hop=lasting(hop),
        )
        LateAnswer(self._registry, dialog, record)

    def ack_of(self, dialog: Dialog) -> tuple[bytes, Hop]:
        """The ACK that was sent in ``dialog``, and where to."""
        ack = self._ack_to(dialog.remote_tag)
        assert ack is not None
        return ack.data, ack.destination

    # The INVITE's transaction (ClientUser), when the call has ended

    def on_response(self, response: Message, source: Hop) -> None:
        """A copy of a 2xx, or that of another fork."""
        if 200 <= response.code < 300:
            dialog = self.acknowledge(response, source)
            if dialog is not None:
                self.refuse(dialog)

    def on_timeout(self) -> None:
        """The call has ended before."""

    def on_unreachable(self) -> None:
        """The call has ended before."""
