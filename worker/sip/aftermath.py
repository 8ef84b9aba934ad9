"""The calls that an earlier process of the phone has left behind: none stays a ghost at its peer.

    left (`journal.Left`)   what is done
    INVITED                 it rings on, as a call of this process, with the same To tag; one whose
                            time is over, and all of a phone that only cleans up: 480
    REFUSED                 the response again, until its ACK
    ACCEPTED                the 2xx again, until its ACK or for 64*T1; BYE
    CALLING                 CANCEL after a 1xx; ACK of the 487; a 2xx that crosses: ACK, BYE
    PROCEEDING, CANCELLING  the same, the CANCEL at once
    ANSWERED                ACK, BYE
    CONFIRMED, ENDING       BYE

Each is a leg again, so challenges are answered, forks are ended, and the peer's own BYE or CANCEL
finds its call.  The leg's record stays until its last answer is here or is not awaited any more:
a crash in the midst of this is cleaned up by the next process.

A leg that is only ended is no call of this process: all that it reports is replaced by one
CallCleanedUp.  Nothing is sent before `begin`, so that what waited in the socket is read first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ...protocol.events import CallCleanedUp, CleanUp
from ..stack import CallEnded, Hop, Output, Remember, Send
from . import admission, sdp
from .authentication import credentials_of
from .callee import CalleeLeg
from .caller import CallerLeg
from .context import Context
from .dialog import Dialog
from .forks import LateAnswer
from .journal import CSEQ_GAP, CallRecord, Left, UnreadableRecord, decode, record_key
from .leg import Leg, LegState
from .memory import LeftBehind
from .message import Malformed, Message, as_sent, parse, readable
from .transaction_state import State
from .vias import stamp_via

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["Aftermath"]


class Aftermath:
    """What the process before has left of its calls."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ctx = engine.ctx
        self._left: dict[str, CallRecord] = {}
        """By the keys of their legs: those that have not been ended yet."""
        self._legs: list[tuple[Leg, CallRecord]] = []
        """Those that wait for `begin`."""
        self._late: list[CallRecord] = []
        """So do these: answers to an INVITE of ours that came too late to be the call."""

    def __len__(self) -> int:
        """Calls that are being ended."""
        return len(self._left)

    def __contains__(self, call: object) -> bool:
        """Whether the call with this key is only being ended."""
        return call in self._left

    def restore(self, records: Mapping[str, bytes]) -> None:
        """Read the journal.  Nothing is sent."""
        for key, data in records.items():
            try:
                record = decode(data)
                self._restore(record)
            except (UnreadableRecord, Malformed):
                self._ctx.count("journal_unreadable")
                self._ctx.emit(Remember(key, None))

    def begin(self, *, resume: bool) -> None:
        """Go on with what still rings, if that is wanted, and end all else."""
        late, self._late = self._late, []
        for record in late:
            self._end_late_answer(record)
        legs, self._legs = self._legs, []
        for leg, record in legs:
            if leg.state is LegState.ENDED:
                continue  # by what waited in the socket
            rung = max(self._ctx.now - record.began, 0.0)
            if resume and isinstance(leg, CalleeLeg) and leg.rings_on(rung, record):
                del self._left[leg.key]
                self._ctx.count("calls_resumed")
                leg.start(rung)
            else:
                leg.clean_up()

    def translate(self, outputs: Iterable[Output]) -> list[Output]:
        """``outputs`` without what concerns only the calls that are being ended."""
        return [told for output in outputs if (told := self._translated(output)) is not None]

    # Inside

    def _translated(self, output: Output) -> Output | None:
        if isinstance(output, Send | Remember):
            return output
        record = self._left.get(getattr(output, "call", ""))
        if record is None:
            return output
        if not isinstance(output, CallEnded):
            return None
        del self._left[output.call]
        return CallCleanedUp(
            sip_call_id=readable(record.call_id),
            how=_how(output),
            code=output.code,
            rtp_port=record.rtp_port,
        )

    def _restore(self, record: CallRecord) -> None:
        """Raises Malformed."""
        engine = self._engine
        if not record.invite:
            self._late.append(record)
            return
        key = engine.next_key()
        leg: Leg
        if record.role == "caller":
            leg = CallerLeg.left_behind(engine, key, record)
        else:
            request = parse(record.invite)
            source = record.source or record.hop
            transaction = engine.transactions.accept(request, record.hop)
            transaction.to_tag = record.local_tag
            transaction.of_call = True
            engine.transactions.merged(transaction)
            stamp_via(request, source)
            if record.left is Left.REFUSED:
                left = LeftBehind(self._ctx, record_key(record.local_tag), record)
                transaction.on_over = left.forget
                transaction.respond(parse(record.response).code, record.response)
                return
            try:
                offered = admission.read_offer(request, self._ctx.config.codecs)
            except sdp.SdpError:  # of a call that is up, and had another one since
                offered = None
            leg = CalleeLeg(engine, key, transaction, offered, source)
            leg.go_on(record)
        if record.reinvite and leg.dialog is not None:
            self._expect_answer(record, leg.dialog)
        engine.calls.add(leg)
        self._left[key] = record
        self._legs.append((leg, record))

    def _end_late_answer(self, record: CallRecord) -> None:
        assert record.dialog is not None
        self._ctx.send(record.ack, record.ack_hop or record.hop)
        LateAnswer(self._engine, record.dialog.restore(gap=CSEQ_GAP), record)

    def _expect_answer(self, record: CallRecord, dialog: Dialog) -> None:
        """A re-INVITE has no final response yet: it is acknowledged, should it come."""
        invite = as_sent(record.reinvite)
        transactions = self._engine.transactions
        user = _Reinvite(self._ctx, dialog, invite)
        hop = record.reinvite_hop or dialog.next_hop()
        transaction = transactions.restore(invite, hop, user, State.PROCEEDING)
        transaction.abandon(64 * self._ctx.config.t1)


class _Reinvite:
    """The user of a re-INVITE's transaction, in a call that is being ended."""

    def __init__(self, ctx: Context, dialog: Dialog, invite: Message) -> None:
        self._ctx = ctx
        self._dialog = dialog
        self._invite = invite

    def on_response(self, response: Message, source: Hop) -> None:
        """A 2xx would be repeated for 64*T1 without an ACK (RFC 3261 §14.2)."""
        if 200 <= response.code < 300:
            number, credentials = self._invite.cseq.number, credentials_of(self._invite)
            ack = self._dialog.request(self._ctx, "ACK", cseq=number, extra=credentials)
            self._ctx.send(ack.encode(), self._dialog.next_hop())

    def on_timeout(self) -> None:
        """The BYE decides."""

    def on_unreachable(self) -> None:
        """The BYE decides."""


def _how(ended: CallEnded) -> CleanUp:
    """What ended a call that was left behind."""
    if ended.bye_answered is not None:
        return "bye" if ended.bye_answered else "bye_unanswered"
    if ended.by == "remote":
        return "peer" if ended.cause in ("hung_up", "cancelled", "answered_elsewhere") else "final"
    if ended.by == "timeout":
        return "no_response"
    if ended.code is None:
        return "cancel_unanswered"
    return "cancel" if ended.code == 487 else "refused"
