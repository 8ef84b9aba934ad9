"""The callee's leg: ringing, answer or rejection, and the caller's CANCEL."""

from __future__ import annotations

import re

from ...protocol.events import EndCause
from ..stack import Answered, Confirmed, Hop, IncomingCall, Media, StackRefusal
from . import sdp
from .context import CAPABILITIES
from .dialog import Dialog
from .journal import CSEQ_GAP, CallRecord, Left, lasting
from .leg import LEFT_BEHIND, EndedBy, Ending, Leg, LegState, Registry, cancel_timer
from .message import Message, readable
from .reliable import ReliableRinging, wants_reliable
from .server_transactions import ServerInvite
from .timers import Timer
from .transaction_state import State
from .transactions import ServerTransaction
from .unacked import UnackedAnswer

__all__ = ["CalleeLeg"]

_RING_AGAIN = 60.0
"""Seconds between copies of the 180: proxies stop waiting after three minutes (§13.3.1.1)."""
_ELSEWHERE = re.compile(r"SIP\s*;(?:.*;)?\s*cause\s*=\s*200\s*(?:;.*)?", re.IGNORECASE)


_LEFT = {
    LegState.RINGING: Left.INVITED,
    LegState.ACCEPTED: Left.ACCEPTED,
    LegState.CONFIRMED: Left.CONFIRMED,
    LegState.ENDING: Left.ENDING,
}


class CalleeLeg(Leg):
    """A call that came in."""

    def __init__(
        self,
        registry: Registry,
        key: str,
        transaction: ServerTransaction,
        offered: sdp.Description | None,
        source: Hop,
        replaced: Leg | None = None,
    ) -> None:
        """``offered`` is None for a late offer; ``replaced`` is the call whose place it takes.

        Raises Malformed.
        """
        request = transaction.request
        tag = transaction.to_tag
        super().__init__(registry, key, request.call_id, tag, LegState.RINGING)
        self.dialog = Dialog.as_callee(request, tag, source)
        self.dialog.changed = self.touch
        self._contact = self._ctx.contact_by(transaction.destination.transport)
        self._offered = offered
        self.note_peer(request)
        self._transaction = transaction
        self._cseq = request.cseq.number
        self._received = request.raw
        self._transaction.of_call = True
        self._source = source
        self._replaced = replaced
        self._ring_limit: Timer | None = None
        self._ring_again: Timer | None = None
        self._reliable: ReliableRinging | None = None
        if wants_reliable(request):
            self._reliable = ReliableRinging(
                self._ctx, transaction.destination, self._respond_reliably, self._on_no_prack
            )

    def go_on(self, record: CallRecord) -> None:
        """Be the call that another process has left behind, in place of `start`."""
        self.adopt(record)
        if record.dialog is not None:
            self.dialog = record.dialog.restore(gap=CSEQ_GAP)
            self.dialog.changed = self.touch
        transaction = self._transaction
        assert isinstance(transaction, ServerInvite)
        if record.left is Left.INVITED:
            transaction.go_on(State.PROCEEDING, record.response)
            transaction.on_cancel = self._receive_cancel
            if self._reliable is not None and record.rseq:
                self._reliable.go_on(record.rseq)
            return
        transaction.go_on(State.ACCEPTED, b"")
        self._ending = LEFT_BEHIND
        if record.left is not Left.ACCEPTED:
            self.state = LegState.CONFIRMED
            return
        self.state = LegState.ACCEPTED
        self._hang_up_later = True
        self._unacked = UnackedAnswer(
            self._ctx, record.response, record.hop, self._cseq, self._on_no_ack
        )

    def rings_on(self, rung: float, record: CallRecord) -> bool:
        """Whether the caller of a call that was left behind still waits after so many seconds."""
        if self.state is not LegState.RINGING:
            return False
        limit, _ = self._ring_limits()
        # Who has heard nothing at all gives up earlier: Timer B.
        return rung < (limit if record.response else min(limit, 64 * self._ctx.config.t1))

    def clean_up(self) -> None:
        if self.state is LegState.RINGING:
            self._refuse(480, "phone_crashed", "local")
        elif self._unacked is not None:
            self._unacked.repeat()
        else:
            super().clean_up()

    def start(self, rung: float = 0.0) -> None:
        """Send 180, report the call and start the ring timers; it has ``rung`` for some seconds.

        Who takes the place of another call is not told that it rings: it is answered at once.
        """
        request = self._transaction.request
        ctx = self._ctx
        self.touch()
        self._transaction.on_cancel = self._receive_cancel
        if self._reliable is not None:
            self._reliable.restart()
        # First, so that a worker that answers at once cannot overtake it.
        if self._replaced is None:
            self._send_provisional(180)
        ctx.emit(
            IncomingCall(
                call=self.key,
                sip_call_id=readable(self.call_id),
                from_uri=readable(request.from_.uri),
                from_display=readable(request.from_.display),
                to_uri=readable(request.to.uri),
                request_uri=readable(request.uri),
                source=self._source.address,
                replaces=self._replaced.key if self._replaced is not None else "",
            )
        )
        limit, code = self._ring_limits()
        # The limit first: where both are due at once no 180 goes out with the 480.
        left = max(limit - rung, 0.0)
        self._ring_limit = ctx.after(left, lambda: self._refuse(code, "no_answer", "timeout"))
        self._ring_again = ctx.after(_RING_AGAIN, self._on_ring_again)

    # What outlives this process

    def record(self, *, answered_now: bool) -> CallRecord:
        response = self._transaction.last
        if self.state is LegState.ACCEPTED and self._unacked is not None:
            response = self._unacked.data
        return self._as_left(_LEFT[self.state], response)

    def _as_left(self, left: Left, response: bytes) -> CallRecord:
        return self._record(
            left,
            invite=self._received,
            hop=lasting(self._transaction.destination),
            source=lasting(self._source),
            response=response,
            rseq=self._reliable.number if self._reliable is not None else 0,
            contact=self._contact,
        )

    def _ring_limits(self) -> tuple[float, int]:
        """For how many seconds it rings, and what is sent then."""
        limit = self._ctx.config.ring_timeout
        expires = self._transaction.request.headers.get("Expires").strip()
        if expires.isascii() and expires.isdigit() and int(expires[:9]) < limit:
            return float(expires), 487  # §13.3.1
        return limit, 480

    # Commands

    def ring(self, code: int) -> None:
        """Send a provisional response.  Raises StackRefusal."""
        self._require_ringing()
        if not 100 < code < 200:
            raise StackRefusal("bad_code", f"{code} is no provisional response")
        self._send_provisional(code)

    def answer(self, media: Media) -> None:
        """Accept the call.  Raises StackRefusal."""
        self._require_ringing()
        offered = self._offered
        session = self.session
        session.media = media
        content = session.offer() if offered is None else session.answer(offered)
        session.established = True
        self._stop_ringing()
        self.state = LegState.ACCEPTED
        self.touch()
        self.accept(self._transaction, content)
        self._ctx.emit(
            Answered(
                call=self.key,
                code=200,
                remote_media=offered.address if offered else None,
                codec=offered.codec if offered else "",
            )
        )
        if offered is not None:
            session.answered()
        if self._replaced is not None:
            self._replaced.give_way()

    def reject(self, code: int, reason: str) -> None:
        """Refuse the call.  Raises StackRefusal."""
        self._require_ringing()
        if not 300 <= code < 700:
            raise StackRefusal("bad_code", f"{code} is no final response of a refusal")
        self._refuse(code, "rejected", "local", reason)

    def hang_up(self) -> None:
        if self.state is LegState.RINGING:
            self._refuse(480, "rejected", "local")
        else:
            self._hang_up_answered(Ending("hung_up", "local"))

    def drain(self) -> None:
        if self.state is LegState.RINGING:
            self._refuse(480, "stopped", "local")
        elif self.state is not LegState.ENDING and not self._hang_up_later:
            self._hang_up_answered(Ending("stopped", "local"))

    @property
    def owes_answer(self) -> bool:
        return self.state is LegState.RINGING and self._offered is not None

    def _require_ringing(self) -> None:
        if self.state is not LegState.RINGING:
            raise StackRefusal("already_answered", f"call {self.key} has been answered")

    # Ringing

    def _send_provisional(self, code: int) -> None:
        if self._reliable is None:
            self._respond(code)
        elif self._offered is None:
            # RFC 3262 §5: it would have to carry the offer, and there is no port for it yet.
            self._registry.respond(self._transaction, 100)
        else:
            self._reliable.send(code)

    def _respond(self, code: int, *more: tuple[str, str]) -> bytes:
        self.touch()
        extra = (("Contact", self._contact), *CAPABILITIES, *more)
        return self._registry.respond(self._transaction, code, extra=extra)

    def _respond_reliably(self, code: int, number: int) -> bytes:
        return self._respond(code, ("Require", "100rel"), ("RSeq", str(number)))

    def _on_no_prack(self) -> None:
        """RFC 3262 §3: the caller does not hear us."""
        self._refuse(504, "no_response", "timeout")

    def _receive_prack(self, transaction: ServerTransaction, dialog: Dialog) -> None:
        if self._reliable is None or not self._reliable.acknowledge(
            transaction.request, self._cseq
        ):
            self._registry.respond(transaction, 481)
        elif transaction.request.content:
            self._registry.respond(transaction, 488)  # its offer is not answered: no other one
        else:
            self._registry.respond(transaction, 200)

    def _on_ring_again(self) -> None:
        self._send_provisional(180)
        self._ring_again = self._ctx.after(_RING_AGAIN, self._on_ring_again)

    def _stop_ringing(self) -> None:
        cancel_timer(self._ring_again)
        cancel_timer(self._ring_limit)
        if self._reliable is not None:
            self._reliable.stop()

    def _stop_timers(self) -> None:
        super()._stop_timers()
        self._stop_ringing()

    def _refuse(self, code: int, cause: EndCause, by: EndedBy, reason: str = "") -> None:
        response = self._registry.respond(self._transaction, code, reason=reason)
        left = self.leave_record(self._as_left(Left.REFUSED, response))
        self._transaction.on_over = left.forget  # at its ACK
        self.end(cause, by, code, reason)

    # The caller

    def _receive_cancel(self, cancel: Message) -> None:
        # RFC 3326: a forking proxy tells the losers that somebody else answered.
        reasons = cancel.headers.values("Reason")
        elsewhere = any(_ELSEWHERE.fullmatch(reason) for reason in reasons)
        self._refuse(487, "answered_elsewhere" if elsewhere else "cancelled", "remote")

    def _receive_bye(self, transaction: ServerTransaction) -> None:
        if self.state is not LegState.RINGING:
            super()._receive_bye(transaction)
            return
        # §15.1.2: a BYE in the early dialog ends the INVITE as well.
        self._registry.respond(transaction, 200)
        self._refuse(487, "cancelled", "remote")

    def _on_confirmed(self) -> None:
        self._ctx.emit(Confirmed(call=self.key))
