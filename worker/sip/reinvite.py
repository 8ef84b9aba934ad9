"""Changes of a session that is up: re-INVITE and UPDATE, both ways (RFC 3261 §14, RFC 3311).

One exchange of descriptions at a time.  What we want to change while another exchange is under
way, ours or the peer's, waits in a queue.  Where re-INVITEs of both sides cross both are answered
491, and each side tries again after a time of its own (§14.1); meanwhile the peer's is served.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..stack import CommandEnded, Held, Hop, Retrieved, StackRefusal
from . import sdp
from .admission import read_offer
from .authentication import Attempt, credentials_of
from .bodies import Unsupported, session_description
from .context import CAPABILITIES
from .dialog import Dialog
from .journal import lasting
from .message import Malformed, Message, readable
from .reliable import Pracks
from .timers import Timer
from .transactions import ServerTransaction

if TYPE_CHECKING:
    from .leg import Leg, Registry

__all__ = ["Changes"]

_MOST_TRIES = 8
"""Of one re-INVITE that is answered 491 or 422 again and again."""


@dataclass(slots=True)
class _Change:
    """A re-INVITE that is to be sent."""

    command: int = 0
    """0: nobody waits for its end."""
    holding: bool | None = None
    """What it is for; None is to refresh the session as it is."""
    tries: int = 0


class Changes:
    """Changes of the session of one call."""

    def __init__(self, leg: Leg, registry: Registry) -> None:
        self._leg = leg
        self._registry = registry
        self._ctx = registry.ctx
        self._waiting: deque[_Change] = deque()
        self._change: _Change | None = None
        """The one at work: its INVITE is out, or is to be sent again after a 491."""
        self._exchange: _Exchange | None = None
        self._retry: Timer | None = None
        self._wish = False
        """Whether we hold the call once everything that was asked for is done."""

    @property
    def unanswered(self) -> tuple[bytes, Hop | None]:
        """Our INVITE without final response as it was sent, and where to; else nothing."""
        sent = self._exchange.sent if self._exchange is not None else None
        if sent is None or not sent.transaction.unanswered:
            return b"", None
        return sent.transaction.data, lasting(sent.destination)

    # Ours

    def hold(self, command: int, *, on: bool) -> None:
        """Put the call on hold, or take it back.  Raises StackRefusal."""
        if self._wish is on:
            raise self._no_change(on)
        self._wish = on
        self._waiting.append(_Change(command, on))
        self.run()

    def refresh(self) -> None:
        """Keep the session up: by UPDATE if the peer takes it, else by re-INVITE (RFC 4028)."""
        leg = self._leg
        if "UPDATE" not in leg.peer_allows:
            self._reinvite()
            return
        assert leg.dialog is not None
        contact = self._ctx.contact_by(leg.dialog.next_hop().transport)
        extra = (("Contact", contact), *CAPABILITIES, *leg.timer.asks())
        leg.ask("UPDATE", self._on_refreshed, extra=extra)

    def _on_refreshed(self, code: int, response: Message | None) -> None:
        leg = self._leg
        if response is None or not leg.confirmed:
            return
        if 200 <= code < 300:
            assert leg.dialog is not None
            with suppress(Malformed):
                leg.dialog.refresh(response)
            leg.timer.take_2xx(response)
        elif code == 422 and leg.timer.take_422(response):
            self.refresh()
        elif code not in (408, 481):
            self._reinvite()

    def _reinvite(self) -> None:
        """Send a re-INVITE that changes nothing."""
        # One that waits or is under way refreshes the session as well.
        if self._change is None and not self._waiting:
            self._waiting.append(_Change())
            self.run()

    def run(self) -> None:
        """Begin the next change, if nothing is in its way."""
        while self._change is None and self._waiting and self._leg.settled:
            change = self._waiting.popleft()
            if change.holding is not None and change.holding is self._leg.session.holding:
                # What was to come before it has failed.
                self._end(change, self._no_change(change.holding))
                continue
            self._change = change
            self._send(change)

    def stop(self) -> None:
        """The call is over."""
        if self._retry is not None:
            self._retry.cancel()
        if self._exchange is not None:
            # Its answer, should it come, is still acknowledged.
            self._exchange.abandon()
            self._exchange = None
        changes = [*([self._change] if self._change else []), *self._waiting]
        self._change = None
        self._waiting.clear()
        for change in changes:
            self._end(change, StackRefusal("already_ended", f"call {self._leg.key} has ended"))

    def _send(self, change: _Change) -> None:
        leg = self._leg
        assert leg.dialog is not None
        change.tries += 1
        if change.holding is not None:
            leg.session.holding = change.holding
        content = leg.session.offer()
        invite = leg.dialog.request(
            self._ctx,
            "INVITE",
            extra=(
                ("Contact", self._ctx.contact_by(leg.dialog.next_hop().transport)),
                *CAPABILITIES,
                *leg.timer.asks(),
            ),
            content=content,
        )
        self._exchange = _Exchange(self, leg.dialog, self._registry)
        self._exchange.sent = self._registry.requests.send_within(
            leg.dialog, invite, self._exchange
        )

    def _no_change(self, holding: bool) -> StackRefusal:
        reason, state = ("already_held", "on hold") if holding else ("not_held", "not on hold")
        return StackRefusal(reason, f"call {self._leg.key} is {state}")

    def _end(self, change: _Change, refusal: StackRefusal | None = None) -> None:
        if not self._waiting and self._change is None:
            self._wish = self._leg.session.holding
        if change.command:
            self._ctx.emit(CommandEnded(change.command, refusal))

    def _finish(self, refusal: StackRefusal | None = None) -> None:
        """The change at work has come to its end."""
        change, self._change, self._exchange = self._change, None, None
        assert change is not None
        self._leg.touch()
        session = self._leg.session
        if refusal is not None:
            session.withdraw()
            if change.holding is not None:
                session.holding = not change.holding
        elif change.holding is not None:
            kind = Held if change.holding else Retrieved
            self._ctx.emit(kind(call=self._leg.key, by="local"))
        self._end(change, refusal)
        self.run()

    # What becomes of our INVITE (_Exchange)

    def prack(self, dialog: Dialog, rack: str) -> None:
        """Acknowledge a reliable 1xx (RFC 3262 §4)."""
        self._leg.prack(dialog, rack)

    def accepted(self, response: Message) -> None:
        """2xx, and its ACK is out."""
        leg = self._leg
        try:
            content = session_description(response)
            answer = leg.session.read(content) if content else None
        except (sdp.SdpError, Unsupported, Malformed):
            self._unusable("an unusable answer")
            return
        if answer is not None and answer.audio is None:
            self._unusable("no audio in the answer")
            return
        leg.timer.take_2xx(response)
        if answer is None:
            leg.session.keep()
        else:
            leg.session.take_answer(answer)
        self._finish()

    def _unusable(self, why: str) -> None:
        # The peer believes that all is well: there is no way back but the end of the call.
        self._ctx.count("sip_malformed")
        self._leg.lose("protocol_error", f"2xx with {why}")

    def refused(self, response: Message | None) -> None:
        """Another final response, or None: nobody answered."""
        change = self._change
        assert change is not None
        code = response.code if response is not None else 408
        if code in (408, 481):
            self._leg.lose("dialog_lost", f"{code} to INVITE", timeout=response is None)
        elif code == 491 and change.tries < _MOST_TRIES:
            # §14.1, in steps of 10 ms: who made the Call-ID waits longer than the other.
            dice = self._ctx.random()
            wait = 2.1 + 1.9 * dice if self._leg.outgoing else 2.0 * dice
            self._leg.session.withdraw()
            if change.holding is not None:
                self._leg.session.holding = not change.holding
            self._exchange = None
            self._retry = self._ctx.after(round(wait, 2), self._try_again)
        elif (
            code == 422
            and change.tries < _MOST_TRIES
            and response is not None
            and self._leg.timer.take_422(response)
        ):
            self._leg.session.withdraw()
            self._send(change)
        else:
            why = readable(response.reason) if response is not None else ""
            self._finish(StackRefusal("rejected", f"the far end refused: {code} {why}".rstrip()))

    def unreachable(self) -> None:
        """ICMP error: as if 503 had come (§8.1.3.1)."""
        self._finish(StackRefusal("unreachable", "the far end can't be reached"))

    def _try_again(self) -> None:
        change = self._change
        assert change is not None
        if self._leg.settled:
            self._send(change)
        else:  # the peer's re-INVITE was answered, and lacks its ACK: then, `run`
            self._change = None
            self._waiting.appendleft(change)

    # The peer's

    def receive_invite(self, transaction: ServerTransaction) -> None:
        """A re-INVITE: answer as the phone would, with the same media (§14.2).

        Raises Malformed before anything has changed.
        """
        leg, request = self._leg, transaction.request
        if leg.answering or self._exchange is not None or (leg.outgoing and not leg.confirmed):
            # Ours is out, or a 2xx of ours lacks its ACK: one exchange of descriptions at a time.
            self._registry.respond(transaction, 491)
            return
        if not leg.confirmed:
            # The first INVITE is not answered yet.
            self._registry.respond(transaction, 500, extra=(self._retry_after(),))
            return
        try:
            offered = read_offer(request, self._ctx.config.codecs)
            content = leg.session.offer() if offered is None else leg.session.answer(offered)
        except (sdp.SdpError, sdp.NotAcceptable):
            self._registry.respond(transaction, 488)  # the session stays as it was (§14.2)
            return
        assert leg.dialog is not None
        leg.dialog.refresh(request)
        leg.note_peer(request)
        leg.accept(transaction, content)
        if offered is not None:
            leg.session.answered()

    def receive_update(self, transaction: ServerTransaction, dialog: Dialog) -> None:
        """UPDATE (RFC 3311 §5.2): with an offer, or to refresh target and timer only.

        Raises Malformed before anything has changed.
        """
        leg, request = self._leg, transaction.request
        try:
            offered = read_offer(request, self._ctx.config.codecs)
            if offered is not None and leg.session.offered:
                self._registry.respond(transaction, 491)
                return
            if offered is not None and leg.owes_answer:
                self._registry.respond(transaction, 500, extra=(self._retry_after(),))
                return
            if offered is not None and leg.session.remote is None:
                raise sdp.NotAcceptable("nothing is agreed that could be changed")
            content = b"" if offered is None else leg.session.answer(offered)
        except (sdp.SdpError, sdp.NotAcceptable):
            self._registry.respond(transaction, 488)
            return
        dialog.refresh(request)
        leg.note_peer(request)
        contact = self._ctx.contact_by(transaction.destination.transport)
        extra: tuple[tuple[str, str], ...] = (("Contact", contact), *CAPABILITIES)
        if leg.confirmed:
            extra = (*extra, *leg.timer.accepts(request))
        self._registry.respond(transaction, 200, extra=extra, content=content)
        if offered is not None:
            leg.session.answered()

    def _retry_after(self) -> tuple[str, str]:
        """§14.2: between 0 and 10 s."""
        return "Retry-After", str(round(10 * self._ctx.random()))


class _Exchange:
    """The user of the transaction of one re-INVITE of ours (ClientUser)."""

    def __init__(self, changes: Changes, dialog: Dialog, registry: Registry) -> None:
        self.sent: Attempt | None = None
        self._changes: Changes | None = changes
        self._dialog = dialog
        self._registry = registry
        self._ack: tuple[bytes, Hop] | None = None
        self._credentials: tuple[tuple[str, str], ...] = ()
        self._pracks: Pracks | None = Pracks(lambda rack: changes.prack(dialog, rack))

    def abandon(self) -> None:
        """The call is over: acknowledge a 2xx that comes all the same, and nothing else."""
        self._changes = self._pracks = None
        if self.sent is not None:  # else the final response is here
            self.sent.abandon(64 * self._registry.ctx.config.t1)

    def on_response(self, response: Message, source: Hop) -> None:
        if response.code < 200:
            if self._pracks is not None:
                self._pracks.take(response)
            return
        if self.sent is not None:
            # For half a minute only copies of the 2xx come: they need neither call nor request.
            self._credentials = credentials_of(self.sent.request)
            self.sent.leave_to(self)
            self._pracks = self.sent = None
        if 200 <= response.code < 300:
            self._acknowledge(response)
        changes, self._changes = self._changes, None
        if changes is None:
            return  # a copy of the 2xx, or the call is over
        if response.code < 300:
            self._dialog.peer = source
            changes.accepted(response)
        else:
            changes.refused(response)

    def on_timeout(self) -> None:
        changes, self._changes = self._changes, None
        if changes is not None:
            changes.refused(None)

    def on_unreachable(self) -> None:
        changes, self._changes = self._changes, None
        if changes is not None:
            changes.unreachable()

    def _acknowledge(self, response: Message) -> None:
        ctx = self._registry.ctx
        if self._ack is None:
            try:
                self._dialog.refresh(response)
            except Malformed:
                ctx.count("sip_malformed")
            ack = self._dialog.request(
                ctx, "ACK", cseq=response.cseq.number, extra=self._credentials
            )
            self._ack = ack.encode(), self._dialog.next_hop()
        else:
            ctx.count("sip_duplicate")
        ctx.send(*self._ack)
