"""The caller's leg: INVITE, its responses, and the one outcome of a cancellation.

A cancellation waits for the first 1xx (§9.1) and is decided by whatever comes first:

    2xx                                    answered_then_ended     ACK, BYE
    487                                    cancelled
    another final response                 already_ended(code)
    no final in 64·T1 after the CANCEL     cancelled_unconfirmed
    no 1xx until Timer B                   cancelled_no_response

A 2xx that came before the command gives already_answered, and the call stays up.
"""

from __future__ import annotations

from enum import Enum

from ...protocol.events import CancelOutcome, EndCause, SipMessage
from ..stack import Answered, CancelResolved, Hop, Media, Progress, StackRefusal, Target
from . import sdp
from .answers import Answers
from .authentication import Attempt
from .bodies import Unsupported, session_description
from .context import CAPABILITIES
from .dialog import Dialog, Opening
from .forks import Early
from .journal import CSEQ_GAP, CallRecord, Left, lasting
from .leg import LEFT_BEHIND, EndedBy, Ending, Leg, LegState, Registry, cancel_timer
from .message import Malformed, Message, as_sent, readable
from .refer import Referral
from .replaces import header_in
from .timers import Timer
from .transactions import ClientTransaction, ServerTransaction, State
from .transcript import Transcript
from .uri import UriError

__all__ = ["CallerLeg"]


_MOST_FORKS = 32
_MOST_TRIES = 4
"""Of one INVITE that is answered 422."""
_CODES = {"no_response": 408, "unreachable": 503}
"""What is told of a call that ended without a final response (§8.1.3.1)."""


class _Cancel(Enum):
    NONE = "none"
    WAITING = "waiting"  # for the first 1xx
    SENT = "sent"


class _CancelUser:
    """The user of a CANCEL's transaction.

    Its response says nothing: only the final response of the INVITE decides (§9.1).
    """

    def on_response(self, response: Message, source: Hop) -> None:
        """200 or 481: the INVITE's own final response, or 64·T1, decides."""

    def on_timeout(self) -> None:
        """Nor does silence: the leg's own timer runs out at the same moment."""

    def on_unreachable(self) -> None:
        """The INVITE may still be answered."""


class CallerLeg(Leg):
    """A call that this phone made."""

    outgoing = True

    def __init__(
        self,
        registry: Registry,
        key: str,
        target: Target,
        media: Media,
        referral: Referral | None = None,
        identity: tuple[str, str] | None = None,
    ) -> None:
        """``identity`` is a Call-ID and a tag of ours; None: new ones.

        Raises StackRefusal (``bad_uri``).
        """
        ctx = registry.ctx
        call_id, tag = identity or (f"{ctx.token()}@{ctx.config.host}", ctx.token())
        super().__init__(registry, key, call_id, tag, LegState.CALLING)
        self.session.media = media
        self._destination = target.hop
        self._target = target
        self.referral = referral
        """Who asked for the call (REFER) is told what becomes of it."""
        try:
            replaces = header_in(target.headers)
        except UriError as error:
            raise StackRefusal("bad_uri", str(error)) from None
        self._extra = (
            ("Contact", ctx.contact_by(target.hop.transport)),
            *CAPABILITIES,
            *((("Referred-By", f"<{referral.by}>"),) if referral is not None else ()),
            *((("Replaces", replaces), ("Require", "replaces")) if replaces else ()),
        )
        self._description = self.session.offer()
        self._first_invite = self._compose(1)
        self._attempts: list[Attempt] = []
        """Those to send the INVITE: after a 422 there is another one."""
        self._sent = b""
        """The INVITE as it was sent last."""
        self._heard: ClientTransaction | None = None
        """That of the INVITE, once it has had a 1xx."""
        self._cancel = _Cancel.NONE
        self._cancel_asked = False
        """By a command: it will be told the outcome.  A drain is told nothing."""
        self._cancel_timer: Timer | None = None
        self._reported: set[int] = set()
        self._cancel_cause: EndCause = "cancelled"
        self._tries = 1
        self._early: dict[str, Early] = {}
        """Early dialogs by To tag: one per fork of the INVITE that rings."""
        self._answers = Answers(registry)
        self._transcript: Transcript | None = None
        self._ack_left: tuple[bytes, Hop] | None = None
        """The ACK that another process has perhaps not sent."""

    @classmethod
    def left_behind(cls, registry: Registry, key: str, record: CallRecord) -> CallerLeg:
        """The call that another process has left behind, in place of `start`.

        Raises Malformed.
        """
        invite = as_sent(record.invite)
        target = Target(invite.uri, record.hop)
        media = Media(host=registry.ctx.config.host, port=record.rtp_port)
        leg = cls(registry, key, target, media, identity=(record.call_id, record.local_tag))
        leg._go_on(record, invite)
        return leg

    def _go_on(self, record: CallRecord, invite: Message) -> None:
        self.adopt(record)
        self._sent = record.invite
        self._answers.expect(invite)
        self._answers.least_cseq = record.cseq + CSEQ_GAP
        self._cancel_cause = LEFT_BEHIND.cause
        self._cancel = _Cancel.WAITING
        state = State.ACCEPTED
        if record.dialog is not None:
            self.dialog = record.dialog.restore(gap=CSEQ_GAP)
            self.dialog.changed = self.touch
            self.state = LegState.CONFIRMED
            ack = record.ack, record.ack_hop or record.hop
            self._answers.acknowledged(self.dialog, *ack)
            if record.left in (Left.ANSWERED, Left.ENDING):
                self._ack_left = ack
        elif record.left is Left.CALLING:
            state = State.CALLING
        else:
            self.state, state = LegState.PROCEEDING, State.PROCEEDING
        attempt = self._registry.requests.restore(invite, record.hop, self, state)
        attempt.stop()
        self._attempts.append(attempt)
        if state is State.PROCEEDING:
            self._heard = attempt.transaction

    def clean_up(self) -> None:
        if self._ack_left is not None:
            self._ctx.send(*self._ack_left)
            self._ack_left = None
        super().clean_up()
        heard = self._heard is not None and self._heard.state is State.PROCEEDING
        if heard and self._cancel is _Cancel.WAITING:
            self._send_cancel()

    def _compose(self, cseq: int) -> Message:
        uri = self._target.request_uri
        return self._ctx.request(
            "INVITE",
            uri,
            from_=f"{self._ctx.identity};tag={self.local_tag}",
            to=f"<{uri}>",
            call_id=self.call_id,
            cseq=cseq,
            transport=self._destination.transport,
            routes=self._target.routes,
            extra=(*self._extra, *self.timer.asks()),
            content=self._description,
        )

    def start(self) -> None:
        """Send the INVITE."""
        send = self._registry.requests.send
        attempt = send(self._first_invite, self._destination, self, self._next_cseq)
        self._attempts.append(attempt)
        self.touch()

    def keep_messages(self) -> None:
        """Have the end of the call tell its messages; before `start`."""
        self._transcript = self._ctx.transcripts.keep(self.call_id, self.local_tag)

    def _take_messages(self) -> tuple[SipMessage, ...]:
        if self._transcript is None:
            return ()
        self._ctx.transcripts.drop(self._transcript)
        return self._transcript.messages

    def _next_cseq(self) -> int:
        """That of the INVITE that goes out now in answer to a challenge."""
        self.touch()
        return self._invite.cseq.number + 1

    @property
    def _invite(self) -> Message:
        """The INVITE as it was sent last: again with credentials, if it was challenged."""
        return self._attempts[-1].request if self._attempts else self._first_invite

    # What outlives this process

    def record(self, *, answered_now: bool) -> CallRecord:
        if self.state is LegState.CONFIRMED:
            left = Left.ANSWERED if answered_now else Left.CONFIRMED
        elif self.state is LegState.ENDING:
            left = Left.ENDING
        elif self._cancel is _Cancel.SENT:
            left = Left.CANCELLING
        else:
            heard = self._heard is self._attempts[-1].transaction
            left = Left.PROCEEDING if heard else Left.CALLING
        ack, hop = (b"", None) if self.dialog is None else self._answers.ack_of(self.dialog)
        numbers = [early.dialog.local_cseq for early in self._early.values()]
        if self.dialog is not None:
            numbers.append(self.dialog.local_cseq)
        self._sent = self._attempts[-1].transaction.data or self._sent
        return self._record(
            left,
            early_tags=tuple(self._early),
            cseq=max([self._answers.least_cseq, self._invite.cseq.number, *numbers]),
            invite=self._sent,
            hop=lasting(self._destination),
            ack=ack,
            ack_hop=lasting(hop) if hop is not None else None,
            contact=self._extra[0][1],
        )

    # Commands

    def cancel(self) -> None:
        """Ask for the cancellation of the call.  Raises StackRefusal."""
        if self._cancel_asked:
            if self.state in (LegState.CALLING, LegState.PROCEEDING):
                raise StackRefusal("cancel_pending", f"call {self.key} is being cancelled")
            # Its outcome is told: an answer crossed the CANCEL, and the BYE is out.
            raise StackRefusal("already_ended", f"call {self.key} is being ended")
        if self.state in (LegState.CONFIRMED, LegState.ENDING):
            self._ctx.emit(CancelResolved(call=self.key, outcome="already_answered"))
            return
        self._cancel_asked = True
        self._start_cancel()

    def hang_up(self) -> None:
        if self.state in (LegState.CALLING, LegState.PROCEEDING):
            self.cancel()
        else:
            self._hang_up_answered(Ending("hung_up", "local"))

    def drain(self) -> None:
        if self.state in (LegState.CALLING, LegState.PROCEEDING):
            self._give_up("stopped")
        elif self.state is LegState.CONFIRMED:
            self.send_bye(Ending("stopped", "local"))

    def give_way(self) -> None:
        if self.state in (LegState.CALLING, LegState.PROCEEDING):
            self._give_up("replaced")
        else:
            super().give_way()

    def _give_up(self, cause: EndCause) -> None:
        """Cancel for our own reasons; a cancellation that a client asked for keeps its cause."""
        if not self._cancel_asked:
            self._cancel_cause = cause
        self._start_cancel()

    def _start_cancel(self) -> None:
        if self._cancel is not _Cancel.NONE:
            return
        attempt = self._attempts[-1]
        attempt.stop()
        # A 1xx to an INVITE that was challenged after it does not count.
        if attempt.transaction.state is State.PROCEEDING:
            self._send_cancel()
        else:
            # §9.1: no CANCEL before a 1xx.  It could overtake the INVITE, and then ends nothing.
            self._cancel = _Cancel.WAITING

    def _send_cancel(self) -> None:
        self._cancel = _Cancel.SENT
        self.touch()
        invite = self._invite
        # §9.1: request URI, Call-ID, To, From, CSeq number, Route and the top Via, branch and
        # all, are those of the INVITE.
        cancel = self._ctx.request(
            "CANCEL",
            invite.uri,
            from_=invite.headers["From"],
            to=invite.headers["To"],
            call_id=invite.call_id,
            cseq=invite.cseq.number,
            via=invite.headers["Via"],
            routes=tuple(invite.headers.fields("Route")),
        )
        self._registry.transactions.send(cancel, self._destination, _CancelUser())
        wait = 64 * self._ctx.config.t1
        self._cancel_timer = self._ctx.after(wait, self._on_cancel_unconfirmed)

    def _on_cancel_unconfirmed(self) -> None:
        """§9.1: no final response in 64·T1 after the CANCEL: the INVITE counts as cancelled."""
        # Stay to end an answer that comes even later; else the peer would be left in a call.
        wait = 64 * self._ctx.config.t1
        self._attempts[-1].transaction.abandon(wait)
        # And the next process of this phone would, too.
        self._ctx.after(wait, self.leave_record(self.record(answered_now=False)).forget)
        self._resolve("cancelled_unconfirmed")
        self.end(self._cancel_cause, "local")

    def _resolve(self, outcome: CancelOutcome, code: int | None = None) -> None:
        """Tell the outcome to whoever asked, once."""
        if self._cancel_asked:
            self._ctx.emit(CancelResolved(call=self.key, outcome=outcome, code=code))

    def _stop_timers(self) -> None:
        super()._stop_timers()
        cancel_timer(self._cancel_timer)

    def end(
        self,
        cause: EndCause,
        by: EndedBy,
        code: int | None = None,
        reason: str = "",
        bye_answered: bool | None = None,
    ) -> None:
        """Tell whoever asked for the call, and see `Leg.end`."""
        if self.referral is not None:  # no news if it was told that the call is up
            self.referral.tell(code or _CODES.get(cause, 487), reason if code else "")
        # What still comes in answer to the INVITE needs the leg no more.
        self._answers.expect(self._invite)
        self._forget_early()
        self._answers.settle()
        for attempt in self._attempts:
            attempt.leave_to(self._answers)
        self._attempts.clear()
        self._heard = None
        super().end(cause, by, code, reason, bye_answered)

    def _forget_early(self) -> None:
        for early in self._early.values():
            self._answers.remember(early.dialog)
            early.dialog.let_go()
        self._early.clear()

    # The INVITE's transaction (ClientUser)

    def on_response(self, response: Message, source: Hop) -> None:
        """A 1xx, any 2xx, or the first 3xx-6xx to the INVITE."""
        if 200 <= response.code < 300:
            self._receive_2xx(response, source)
        elif self.state not in (LegState.CALLING, LegState.PROCEEDING):
            return  # given up before (cancelled_unconfirmed)
        elif response.code < 200:
            self._receive_1xx(response, source)
        else:
            self._receive_failure(response)

    def on_timeout(self) -> None:
        """Timer B."""
        self._resolve("cancelled_no_response")
        self.end("no_response", "timeout")

    def on_unreachable(self) -> None:
        """ICMP error: as if 503 had come (§8.1.3.1)."""
        self._resolve("already_ended", 503)
        self.end("unreachable", "remote", 503)

    def _receive_1xx(self, response: Message, source: Hop) -> None:
        transaction = self._attempts[-1].transaction
        if self._heard is not transaction:
            self._heard = transaction
            self.touch()
        self.state = LegState.PROCEEDING
        if self._cancel is _Cancel.WAITING:
            self._send_cancel()
        if response.code == 100:
            return
        early = self._early_dialog(response, source)
        if early is not None and not early.pracks.take(response):
            return
        description = self._read_description(response)
        if early is not None and description is not None and not early.agreed:
            early.answer = description
            early.agreed = early.pracks.acknowledged
            if early.agreed:
                self.session.take_answer(description)
            else:
                self.session.preview(description)
        if response.code not in self._reported:
            self._reported.add(response.code)
            self._ctx.emit(
                Progress(
                    call=self.key,
                    code=response.code,
                    reason=readable(response.reason),
                    early_media=description is not None,
                )
            )
            if self.referral is not None:
                self.referral.tell(response.code, response.reason)

    def _early_dialog(self, response: Message, source: Hop) -> Early | None:
        """The early dialog that a 1xx makes or belongs to (§12.1)."""
        tag = response.to.tag
        if tag and tag not in self._early and len(self._early) < _MOST_FORKS:
            dialog = Dialog.as_caller(Opening.by(self._invite), response, source)
            dialog.changed = self.touch
            self._early[tag] = Early(dialog, self.prack)
            self.touch()
        if tag in self._early:
            self.note_peer(response)
        return self._early.get(tag)

    def _receive_bye(self, transaction: ServerTransaction) -> None:
        if self.dialog is None:
            self._registry.respond(transaction, 481)  # §15: not by the callee, and not so early
        else:
            super()._receive_bye(transaction)

    def dialog_with(self, remote_tag: str) -> Dialog | None:
        if self.dialog is not None:
            return super().dialog_with(remote_tag)
        early = self._early.get(remote_tag)
        return early.dialog if early is not None else None

    def _receive_failure(self, response: Message) -> None:
        code = response.code
        if self._cancel is not _Cancel.NONE and code == 487:
            self._resolve("cancelled", code)
            self.end(self._cancel_cause, "local", code, response.reason)
        elif (
            code == 422
            and self._cancel is _Cancel.NONE
            and self._tries < _MOST_TRIES
            and self.timer.take_422(response)
        ):
            # RFC 4028 §7.3: the same call with a longer interval.
            self._tries += 1
            self._first_invite = self._compose(self._invite.cseq.number + 1)
            self.state = LegState.CALLING
            self.start()
        else:
            self._resolve("already_ended", code)
            self.end("rejected", "remote", code, response.reason)

    def _receive_2xx(self, response: Message, source: Hop) -> None:
        early = self._early.get(response.to.tag)
        self._answers.expect(self._invite)  # with credentials, if it was challenged
        if early is not None:
            self._answers.remember(early.dialog)
        dialog = self._answers.acknowledge(response, source)
        if dialog is None:
            return
        if self.state not in (LegState.CALLING, LegState.PROCEEDING):
            self._answers.refuse(dialog)
            return
        self.dialog = dialog
        dialog.changed = self.touch
        self._ctx.touch(self, answered_now=True)
        cancel_timer(self._cancel_timer)
        if self._cancel is not _Cancel.NONE:
            self._resolve("answered_then_ended", response.code)
            self.send_bye(Ending(self._cancel_cause, "local", response.code, response.reason))
            return
        self._take_2xx_description(response, early)

    def _take_2xx_description(self, response: Message, early: Early | None) -> None:
        session = self.session
        agreed = early is not None and early.agreed
        if agreed:
            # RFC 3262 §5: a reliable 1xx had the answer, what the 2xx repeats is not looked at.
            description = session.remote
        elif response.content:
            description = self._read_description(response)
        else:
            # An answer in another 1xx is only a preview of the one in the 2xx (§13.2.1), but some
            # peers leave it out of the latter.
            description = early.answer if early is not None else None
        if response.content and (description is None or description.audio is None):
            cause: EndCause = "protocol_error" if description is None else "no_media"
            why = "2xx with an unusable answer"
            self.send_bye(Ending(cause, "local", response.code, why))
            return
        self._forget_early()
        self.state = LegState.CONFIRMED
        self.note_peer(response)
        self.timer.take_2xx(response)
        self._ctx.emit(
            Answered(
                call=self.key,
                code=response.code,
                remote_media=description.address if description else None,
                codec=description.codec if description else "",
            )
        )
        session.established = True
        if agreed:
            session.confirm()
        elif description is not None:
            session.take_answer(description)
        else:
            session.keep()
        if self.referral is not None:
            self.referral.tell(response.code, response.reason)

    def _read_description(self, response: Message) -> sdp.Description | None:
        try:
            content = session_description(response)
            return self.session.read(content) if content else None
        except (sdp.SdpError, Unsupported, Malformed):
            self._ctx.count("sip_malformed")
            return None
