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
from typing import Literal, Protocol, TypeAlias

from ...protocol.events import EndCause
from ..stack import CallEnded, Hop, Media, StackRefusal
from . import sdp
from .admission import read_offer
from .authentication import Requests
from .context import ACCEPT, ALLOW, Context
from .dialog import Dialog
from .message import Message, readable
from .timers import Timer
from .transactions import ServerTransaction, Transactions

__all__ = ["Bye", "EndedBy", "Ending", "Leg", "LegState", "Registry", "cancel_timer"]


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


class UnackedAnswer:
    """A 2xx to INVITE that is repeated until its ACK comes (§13.3.1.4)."""

    def __init__(
        self,
        ctx: Context,
        data: bytes,
        destination: Hop,
        cseq: int,
        on_timeout: Callable[[], None],
    ) -> None:
        self.cseq = cseq
        self._ctx = ctx
        self._data = data
        self._destination = destination
        self._on_timeout = on_timeout
        self._interval = ctx.config.t1
        self._repeat = ctx.after(self._interval, self._on_repeat)
        self._limit = ctx.after(64 * ctx.config.t1, self._on_limit)

    def stop(self) -> None:
        """No more copies: the ACK came, or the call is over."""
        self._repeat.cancel()
        self._limit.cancel()

    def _on_repeat(self) -> None:
        self._ctx.count("sip_retransmitted")
        self._ctx.send(self._data, self._destination)
        self._interval = min(2 * self._interval, self._ctx.config.t2)
        self._repeat = self._ctx.after(self._interval, self._on_repeat)

    def _on_limit(self) -> None:
        self._repeat.cancel()
        self._on_timeout()


class Bye:
    """The user of a BYE's transaction: reports whether a final response came."""

    def __init__(self, on_end: Callable[[bool], None]) -> None:
        self._on_end = on_end

    def on_response(self, response: Message, source: Hop) -> None:
        # Whatever the code, the dialog is over: 481 and 408 say so themselves (§12.2.1.2), and
        # no other answer to a BYE brings it back (§15.1.1).
        if response.code >= 200:
            self._on_end(True)

    def on_timeout(self) -> None:
        self._on_end(False)

    def on_unreachable(self) -> None:
        self._on_end(False)


class Leg:
    """One call at this phone."""

    def __init__(
        self, registry: Registry, key: str, call_id: str, local_tag: str, state: LegState
    ) -> None:
        self.key = key
        self.call_id = call_id
        self.local_tag = local_tag
        self.state = state
        self.dialog: Dialog | None = None
        self.media: Media | None = None
        self.remote: sdp.Description | None = None
        """The peer's latest session description."""
        self._registry = registry
        self._ctx = registry.ctx
        self._session = sdp.session_id(self._ctx.token())
        self._version = 0
        self._unacked: UnackedAnswer | None = None
        self._offered = False
        """Our latest 2xx carried an offer: its ACK must carry the answer."""
        self._ending = Ending("hung_up", "local")
        self._hang_up_later = False
        self._draining = False

    # Commands

    def hang_up(self) -> None:
        """End the call whatever its state.  Raises StackRefusal."""
        raise NotImplementedError

    def drain(self) -> None:
        """End the call because the phone stops; harmless if it is ending already."""
        raise NotImplementedError

    def _hang_up_answered(self, ending: Ending) -> None:
        """End an answered call, at once or as soon as a BYE is allowed."""
        if self.state is LegState.CONFIRMED:
            self._send_bye(ending)
        elif self.state is LegState.ACCEPTED:
            # §15: the callee must not send BYE before the ACK, or the end of waiting for it.
            self._ending = ending
            self._hang_up_later = True
        else:
            raise StackRefusal("already_ended", f"call {self.key} is being ended")

    def _plan_media(self, remote: sdp.Description, *, offered: bool) -> None:
        """Offer and answer are complete: say what the audio is from now on."""
        plan = sdp.plan(self.key, remote, offered=offered)
        if plan is not None:
            self._ctx.emit(plan)

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
        self._ctx.emit(
            CallEnded(
                call=self.key,
                cause=cause,
                by=by,
                code=code,
                reason=readable(reason),
                bye_answered=bye_answered,
            )
        )
        self._registry.forget(self, cause)

    def _stop_timers(self) -> None:
        if self._unacked is not None:
            self._unacked.stop()
            self._unacked = None

    def _send_bye(self, ending: Ending) -> None:
        assert self.dialog is not None
        self._ending = ending
        self.state = LegState.ENDING
        self._stop_timers()
        bye = self.dialog.request(self._ctx, "BYE")
        user = Bye(self._on_bye_end)
        self._registry.requests.send_within(self.dialog, bye, user)

    def _on_bye_end(self, answered: bool) -> None:
        ending = self._ending
        self.end(ending.cause, ending.by, ending.code, ending.reason, bye_answered=answered)

    # Requests within the dialog

    def receive(self, transaction: ServerTransaction, source: Hop) -> None:
        """Take a request with our tags.  Raises Malformed before anything has changed."""
        request = transaction.request
        dialog = self.dialog
        if dialog is None or request.from_.tag != dialog.remote_tag:
            self._registry.respond(transaction, 481)
            return
        if not dialog.in_order(request):
            self._registry.respond(transaction, 500)
            return
        dialog.peer = source
        if request.method == "BYE":
            self._receive_bye(transaction)
        elif self.state is LegState.ENDING:
            self._registry.respond(transaction, 481)
        elif request.method == "INVITE":
            self._receive_invite(transaction)
        elif request.method == "OPTIONS":
            extra = (("Allow", ALLOW), ("Accept", ACCEPT), ("Supported", ""))
            self._registry.respond(transaction, 200, extra=extra)
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
            self._on_confirmed()
        if self._hang_up_later:
            self._send_bye(self._ending)
        elif self._offered and not self._take_answer(request):
            self._send_bye(Ending("protocol_error", "local", reason="ACK with an unusable answer"))

    def _on_confirmed(self) -> None:
        """The ACK to the 2xx that made the call."""

    def _receive_bye(self, transaction: ServerTransaction) -> None:
        self._registry.respond(transaction, 200)
        if self.state is not LegState.ENDING:  # else the BYEs crossed, and ours is awaited still
            self.end("hung_up", "remote")

    def _receive_invite(self, transaction: ServerTransaction) -> None:
        """A re-INVITE: answer as the phone would, with the same media (§14.2)."""
        request = transaction.request
        if self._unacked is not None:
            # A 2xx of ours still lacks its ACK: one exchange of descriptions at a time.
            self._registry.respond(transaction, 491)
            return
        if self.state is not LegState.CONFIRMED:
            # The first INVITE is not answered yet.
            self._registry.respond(transaction, 500, extra=(("Retry-After", "5"),))
            return
        assert self.dialog is not None
        try:
            content = self._describe(request)
        except (sdp.SdpError, sdp.NotAcceptable):
            self._registry.respond(transaction, 488)  # the session stays as it was (§14.2)
            return
        self.dialog.refresh(request)
        self._accept(transaction, content)
        if self.remote is not None and not self._offered:
            self._plan_media(self.remote, offered=False)

    def _describe(self, request: Message) -> bytes:
        """Our description for the 2xx to ``request``: the answer to its offer, or an offer.

        Raises SdpError and NotAcceptable.
        """
        assert self.media is not None
        offered = read_offer(request)
        if offered is None:
            content = sdp.offer(self.media, self._session, self._version + 1)
        else:
            content = sdp.answer(offered, self.media, self._session, self._version + 1)
            self.remote = offered
        self._offered = offered is None
        self._version += 1
        return content

    def _accept(self, transaction: ServerTransaction, content: bytes) -> None:
        """Send the 2xx to an INVITE and repeat it until the ACK."""
        contact = self._ctx.contact_by(transaction.destination.transport)
        extra = (("Contact", contact), ("Allow", ALLOW), ("Supported", ""))
        data = self._registry.respond(transaction, 200, extra=extra, content=content)
        cseq = transaction.request.cseq.number
        self._unacked = UnackedAnswer(
            self._ctx, data, transaction.destination, cseq, self._on_no_ack
        )

    def _on_no_ack(self) -> None:
        ending = self._ending if self._hang_up_later else Ending("no_ack", "timeout")
        self._send_bye(ending)

    def _take_answer(self, request: Message) -> bool:
        """Read the answer in an ACK to our offer; False if the call cannot go on with it.

        An ACK without a body breaks RFC 3261 §13.2.1, but signalling tests send it: such a call
        stays up without audio.
        """
        self._offered = False
        if not request.content:
            return True
        try:
            description = sdp.parse(request.content)
        except sdp.SdpError:
            return False
        self.remote = description
        self._plan_media(description, offered=True)
        return description.audio is not None


def cancel_timer(timer: Timer | None) -> None:
    """Cancel ``timer`` if there is one."""
    if timer is not None:
        timer.cancel()
