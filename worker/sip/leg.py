"""What both kinds of call leg do alike: BYE, requests within the dialog, 2xx until ACK.

States of a leg, caller (c) and callee (s); every path ends in ENDED, told by one CallEnded:

    CALLING    c  INVITE sent, no response yet
    PROCEEDING c  a 1xx came
    RINGING    s  INVITE received, nothing but 1xx sent
    ACCEPTED   s  our 2xx is sent, its ACK not yet here: no BYE may be sent (§15)
    CONFIRMED     the call is up
    ENDING        our BYE is sent, its final response not yet here
    ENDED
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, Protocol, TypeAlias

from ...protocol.events import EndCause, SipMessage
from ..stack import CallEnded, Hop, Media, StackRefusal
from . import sdp
from .asks import Ask, Bye, OnFinal
from .authentication import Attempt, Requests
from .bodies import Unsupported, session_description
from .context import ACCEPT, ALLOW, CAPABILITIES, EVENTS, SDP, Context
from .dialog import Dialog
from .info import Infos
from .journal import CallRecord, DialogRecord, Left, record_key
from .memory import LeftBehind
from .message import Malformed, Message, readable
from .offer_answer import Session
from .refer import Refers
from .reinvite import Changes
from .replaces import uri_replacing
from .session_timer import SessionTimer
from .timers import Timer
from .transactions import ServerTransaction, Transactions
from .unacked import UnackedAnswer
from .uri import NameAddr, SipUri, UriError

__all__ = ["LEFT_BEHIND", "EndedBy", "Ending", "Leg", "LegState", "Registry", "cancel_timer"]


EndedBy: TypeAlias = Literal["local", "remote", "timeout"]


class LegState(Enum):
    """See the table above."""

    CALLING = "calling"
    PROCEEDING = "proceeding"
    RINGING = "ringing"
    ACCEPTED = "accepted"
    CONFIRMED = "confirmed"
    ENDING = "ending"
    ENDED = "ended"


class Registry(Protocol):
    """What a leg needs of its user agent."""

    ctx: Context
    transactions: Transactions
    requests: Requests
    """What every request of ours but CANCEL and ACK is sent by: it answers challenges."""

    def forget(self, leg: Leg, cause: EndCause) -> None:
        """The leg has ended: no command and no request finds it any more."""

    def respond(
        self,
        transaction: ServerTransaction,
        code: int,
        *,
        extra: tuple[tuple[str, str], ...] = (),
        content: bytes = b"",
        reason: str = "",
    ) -> bytes:
        """Respond in ``transaction``; returns the datagram sent."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call whose BYE is out will be reported."""

    cause: EndCause
    by: EndedBy
    code: int | None = None
    reason: str = ""


LEFT_BEHIND = Ending("phone_crashed", "local")
"""Of a call that another process has left behind."""


class Leg:
    """One call at this phone."""

    outgoing = False
    """We called."""

    def __init__(
        self, registry: Registry, key: str, call_id: str, local_tag: str, state: LegState
    ) -> None:
        self.key = key
        self.call_id = call_id
        self.local_tag = local_tag
        self.state = state
        self.record_key = record_key(local_tag)
        self.began = registry.ctx.now
        self._left_behind: LeftBehind | None = None
        """What takes the place of the call in the journal once it has ended."""
        self.dialog: Dialog | None = None
        self.peer_allows: frozenset[str] = frozenset()
        """Methods that the peer has said it takes."""
        self._registry = registry
        self._ctx = registry.ctx
        self.session = Session(self._ctx, key)
        self.timer = SessionTimer(
            self._ctx, lambda: self.changes.refresh(), self._on_session_expired
        )
        self.changes = Changes(self, registry)
        self.refers = Refers(self, registry)
        self.infos = Infos(self, registry)
        self.given_away = False
        """We are referring somebody to the peer, who will talk to them and not to us."""
        self._unacked: UnackedAnswer | None = None
        self._asks: set[Ask] = set()
        self._ending = Ending("hung_up", "local")
        self._hang_up_later = False
        self._bye_sent: float | None = None
        self._served: dict[str, Callable[[ServerTransaction, Dialog], None]] = {
            "INVITE": self._receive_invite,
            "UPDATE": self.changes.receive_update,
            "OPTIONS": self._receive_options,
            "INFO": self.infos.receive,
            "REFER": self.refers.receive_refer,
            "NOTIFY": self.refers.receive_notify,
            "MESSAGE": self._receive_message,
            "PRACK": self._receive_prack,
        }

    # What it is like

    @property
    def confirmed(self) -> bool:
        """The call is up: a 2xx and its ACK have made it."""
        return self.state is LegState.CONFIRMED

    @property
    def answering(self) -> bool:
        """A 2xx of ours, to the INVITE or a re-INVITE, lacks its ACK."""
        return self._unacked is not None

    @property
    def settled(self) -> bool:
        """The call is up and no INVITE of the peer is being dealt with."""
        return self.confirmed and not self.answering

    @property
    def owes_answer(self) -> bool:
        """The peer's offer has not been answered yet."""
        return False

    @property
    def peer_uri(self) -> str:
        """URI of the peer, as it or we have given it."""
        assert self.dialog is not None
        return NameAddr.parse(self.dialog.remote).uri

    # What outlives this process (memory.Remembered)

    def touch(self) -> None:
        """What is to be known of the call has changed."""
        if self._left_behind is None:
            self._ctx.touch(self)

    def record(self, *, answered_now: bool) -> CallRecord:
        """See `memory.Remembered`."""
        raise NotImplementedError

    def leave_record(self, record: CallRecord) -> LeftBehind:
        """The call is about to end here, and not yet for the far end: ``record`` stays."""
        self._left_behind = LeftBehind(self._ctx, self.record_key, record)
        return self._left_behind

    def _record(self, left: Left, **more: Any) -> CallRecord:
        """What the records of both kinds of call have."""
        reinvite, hop = self.changes.unanswered
        return CallRecord(
            call=self.key,
            role="caller" if self.outgoing else "callee",
            left=left,
            began=self.began,
            call_id=self.call_id,
            local_tag=self.local_tag,
            dialog=DialogRecord.of(self.dialog) if self.dialog is not None else None,
            reinvite=reinvite,
            reinvite_hop=hop,
            rtp_port=self.session.media.port if self.session.media is not None else 0,
            **more,
        )

    # Commands

    def hang_up(self) -> None:
        """End the call whatever its state.  Raises StackRefusal."""
        raise NotImplementedError

    def drain(self) -> None:
        """End the call because the phone stops; harmless if it is ending already."""
        raise NotImplementedError

    def hold(self, command: int, *, on: bool) -> None:
        """Put the call on hold, or take it back.  Raises StackRefusal."""
        self.require_answered()
        self.changes.hold(command, on=on)

    def transfer(self, command: int, target: str, consult: Leg | None = None) -> None:
        """Refer the peer to a SIP URI, or to the peer of ``consult``.  Raises StackRefusal."""
        for leg in (self, consult):
            if leg is not None:
                leg.require_confirmed()
        try:
            if consult is None:
                self.refers.transfer(command, target, str(SipUri.parse(target)))
            else:
                assert consult.dialog is not None
                uri = uri_replacing(consult.dialog)
                self.refers.transfer(command, target, uri, consult)
        except UriError as error:
            raise StackRefusal("bad_uri", str(error)) from None

    def adopt(self, record: CallRecord) -> None:
        """Take what the records of both kinds of call have."""
        self.began = record.began
        self.session.media = Media(host=self._ctx.config.host, port=record.rtp_port)

    def clean_up(self) -> None:
        """End the call that another process has left behind; harmless if it is ending already."""
        if self.state is LegState.CONFIRMED:
            self.send_bye(LEFT_BEHIND)

    def give_away(self) -> None:
        """The peer talks to somebody else now."""
        self.send_bye(Ending("transferred", "local"))

    def give_way(self) -> None:
        """Another call has taken the place of this one (RFC 3891 §3)."""
        if self.state in (LegState.ACCEPTED, LegState.CONFIRMED):
            self._hang_up_answered(Ending("replaced", "remote"))

    def require_answered(self) -> None:
        """Raises StackRefusal unless the call is up, or nearly so."""
        if self.state is LegState.ENDING or self._hang_up_later:
            raise StackRefusal("already_ended", f"call {self.key} is being ended")
        if self.state not in (LegState.ACCEPTED, LegState.CONFIRMED):
            raise StackRefusal("not_answered", f"call {self.key} has not been answered")

    def require_confirmed(self) -> None:
        """Raises StackRefusal unless the call is up."""
        self.require_answered()
        if not self.confirmed:
            raise StackRefusal("not_answered", f"call {self.key} waits for its ACK")

    def _hang_up_answered(self, ending: Ending) -> None:
        """End an answered call, at once or as soon as a BYE is allowed."""
        if self.state is LegState.CONFIRMED:
            self.send_bye(ending)
        elif self.state is LegState.ACCEPTED:
            # §15: the callee must not send BYE before the ACK, or the end of waiting for it.
            self._ending = ending
            self._hang_up_later = True
        else:
            raise StackRefusal("already_ended", f"call {self.key} is being ended")

    # Requests of ours within the dialog

    def ask(
        self,
        method: str,
        on_final: OnFinal,
        *,
        dialog: Dialog | None = None,
        extra: tuple[tuple[str, str], ...] = (),
        content: bytes = b"",
        content_type: str = SDP,
        usage: bool = False,
    ) -> Attempt:
        """Send a request that is neither INVITE nor BYE, in the call's dialog or in ``dialog``.

        ``on_final`` gets the code of the final response, and the response: None with 408 where
        nobody answered and with 503 where nobody can.  481 and 408 end the call (RFC 5057), but
        for a request of another ``usage`` of the dialog than the call.
        """
        dialog = dialog or self.dialog
        assert dialog is not None
        request = dialog.request(
            self._ctx, method, extra=extra, content=content, content_type=content_type
        )

        def on_end(ask: Ask, code: int, response: Message | None) -> None:
            self._asks.discard(ask)
            on_final(code, response)
            # §12.2.1.2: the peer does not know the dialog any more, or is not there.
            if code in (408, 481) and not usage and self.confirmed:
                self.lose("dialog_lost", f"{code} to {method}", timeout=response is None)

        ask = Ask(on_end)
        self._asks.add(ask)
        ask.sent = self._registry.requests.send_within(dialog, request, ask)
        return ask.sent

    def prack(self, dialog: Dialog, rack: str) -> None:
        """Acknowledge a reliable 1xx of that dialog (RFC 3262 §4)."""
        self.ask("PRACK", lambda code, response: None, dialog=dialog, extra=(("RAck", rack),))

    def note_peer(self, message: Message) -> None:
        """Remember what the peer says that it can do."""
        if "Allow" in message.headers:
            self.peer_allows = frozenset(
                method.upper() for method in message.headers.values("Allow")
            )

    def _on_session_expired(self) -> None:
        if self.state in (LegState.ACCEPTED, LegState.CONFIRMED):
            self._hang_up_answered(Ending("session_expired", "timeout"))

    # End

    def end(
        self,
        cause: EndCause,
        by: EndedBy,
        code: int | None = None,
        reason: str = "",
        bye_answered: bool | None = None,
    ) -> None:
        """Report the end of the call and leave no timer behind."""
        self.state = LegState.ENDED
        self._stop_timers()
        if self._left_behind is None:
            self._left_behind = LeftBehind(self._ctx, self.record_key, None)
        self._ctx.emit(
            CallEnded(
                call=self.key,
                cause=cause,
                by=by,
                code=code,
                reason=readable(reason),
                bye_answered=bye_answered,
                messages=self._take_messages(),
                bye_sent=self._bye_sent,
            )
        )
        self._registry.forget(self, cause)
        self._let_go()

    def _take_messages(self) -> tuple[SipMessage, ...]:
        """Those of the leg, if somebody wants them: for its end."""
        return ()

    def _let_go(self) -> None:
        """Let go of all that refers back to the leg.

        So its memory is free as soon as the last transaction needs it no more, and does not wait
        for a collection of the garbage of a hundred calls.
        """
        self._served.clear()
        if self.dialog is not None:
            self.dialog.let_go()
        del self.timer, self.changes, self.refers, self.infos

    def lose(self, cause: EndCause, why: str, *, timeout: bool = False) -> None:
        """The call cannot go on: BYE, which the peer may still understand (§12.2.1.2)."""
        self.send_bye(Ending(cause, "timeout" if timeout else "local", reason=why))

    def _stop_timers(self) -> None:
        if self._unacked is not None:
            self._unacked.stop()
            self._unacked = None
        self.timer.stop()
        self.changes.stop()
        self.refers.stop()
        self.infos.stop()
        for ask in self._asks:
            ask.abandon()
        self._asks.clear()

    def send_bye(self, ending: Ending) -> None:
        """End the call that is up."""
        assert self.dialog is not None
        self._ending = ending
        self.state = LegState.ENDING
        self._bye_sent = self._ctx.now
        self._stop_timers()
        bye = self.dialog.request(self._ctx, "BYE")
        self._registry.requests.send_within(self.dialog, bye, Bye(self._on_bye_end))
        self.session.silence()

    def _on_bye_end(self, answered: bool) -> None:
        ending = self._ending
        self.end(ending.cause, ending.by, ending.code, ending.reason, bye_answered=answered)

    # Requests of the peer within the dialog

    def dialog_with(self, remote_tag: str) -> Dialog | None:
        """The dialog with that tag of the peer, early ones included."""
        dialog = self.dialog
        return dialog if dialog is not None and dialog.remote_tag == remote_tag else None

    def receive(self, transaction: ServerTransaction, source: Hop) -> None:
        """Take a request with our tags.  Raises Malformed before anything has changed."""
        request = transaction.request
        dialog = self.dialog_with(request.from_.tag)
        if dialog is None:
            self._registry.respond(transaction, 481)
            return
        if not dialog.in_order(request):
            self._registry.respond(transaction, 500)
            return
        dialog.peer = source
        serve = self._served.get(request.method)
        if request.method == "BYE":
            self._receive_bye(transaction)
        elif self.state is LegState.ENDING:
            self._registry.respond(transaction, 481)
        elif serve is not None:
            serve(transaction, dialog)
        else:
            self._registry.respond(transaction, 405, extra=(("Allow", ALLOW),))

    def receive_ack(self, request: Message, source: Hop) -> None:
        """Take an ACK that belongs to no transaction: to a 2xx of ours."""
        unacked = self._unacked
        if (
            unacked is None
            or self.dialog is None
            or request.from_.tag != self.dialog.remote_tag
            or request.cseq.number != unacked.cseq
        ):
            self._ctx.count("sip_duplicate")
            return
        self.dialog.peer = source
        unacked.stop()
        self._unacked = None
        first = self.state is LegState.ACCEPTED
        self.state = LegState.CONFIRMED
        if first:
            self.touch()
            self._on_confirmed()
        if self._hang_up_later:
            self.send_bye(self._ending)
        elif self.session.offered and not self._take_answer(request):
            self.lose("protocol_error", "ACK with an unusable answer")
        else:
            self.changes.run()

    def _on_confirmed(self) -> None:
        """The ACK to the 2xx that made the call."""

    def _receive_bye(self, transaction: ServerTransaction) -> None:
        self._registry.respond(transaction, 200)
        if self.state is not LegState.ENDING:  # else the BYEs crossed, and ours is awaited still
            self.end("transferred" if self.given_away else "hung_up", "remote")

    def _receive_invite(self, transaction: ServerTransaction, dialog: Dialog) -> None:
        self.changes.receive_invite(transaction)

    def _receive_options(self, transaction: ServerTransaction, dialog: Dialog) -> None:
        extra = (("Accept", ACCEPT), ("Allow-Events", EVENTS), *CAPABILITIES)
        self._registry.respond(transaction, 200, extra=extra)

    def _receive_message(self, transaction: ServerTransaction, dialog: Dialog) -> None:
        self._registry.respond(transaction, 200)

    def _receive_prack(self, transaction: ServerTransaction, dialog: Dialog) -> None:
        """Nothing of ours waits for one."""
        self._registry.respond(transaction, 481)

    def accept(self, transaction: ServerTransaction, content: bytes) -> None:
        """Send the 2xx to an INVITE and repeat it until the ACK."""
        request = transaction.request
        contact = self._ctx.contact_by(transaction.destination.transport)
        extra = (("Contact", contact), *CAPABILITIES, *self.timer.accepts(request))
        data = self._registry.respond(transaction, 200, extra=extra, content=content)
        self._unacked = UnackedAnswer(
            self._ctx, data, transaction.destination, request.cseq.number, self._on_no_ack
        )

    def _on_no_ack(self) -> None:
        ending = self._ending if self._hang_up_later else Ending("no_ack", "timeout")
        self.send_bye(ending)

    def _take_answer(self, request: Message) -> bool:
        """Read the answer in an ACK to our offer; False if the call cannot go on with it.

        An ACK without a body breaks RFC 3261 §13.2.1, but signalling tests send it: such a call
        stays up without audio.
        """
        try:
            content = session_description(request)
            answer = self.session.read(content) if content else None
        except (sdp.SdpError, Unsupported, Malformed):
            return False
        if answer is None:
            self.session.keep()
            return True
        self.session.take_answer(answer)
        return answer.audio is not None


def cancel_timer(timer: Timer | None) -> None:
    """Cancel ``timer`` if there is one."""
    if timer is not None:
        timer.cancel()
