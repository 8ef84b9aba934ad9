"""The phone: commands and datagrams in, SIP by its stack, datagrams and happenings out.

It knows the stack by its contract only, and has no socket or clock: the poll loop tells it the
time, and gets back when it wants to be ticked next.  What a phone does by itself is here:
``on_incoming``, the caller's ring timeout, the RTP ports of calls, the order of leaving.
"""

from __future__ import annotations

import contextlib
import resource
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, TypeAlias

import msgspec

from ..protocol.events import (
    Address,
    Answered,
    CallCleanedUp,
    CallEnded,
    CallPlaced,
    CancelResolved,
    IncomingCall,
    LimitReached,
    MediaStats,
    RtpPairSkipped,
    TurnedAway,
)
from ..protocol.messages import (
    AnswerCall,
    CallCommand,
    CancelCall,
    CancelReport,
    Done,
    Drain,
    Envelope,
    Exit,
    HangUpCall,
    HoldCall,
    InjectFault,
    PhoneCommand,
    PlaceCall,
    PlayAudio,
    RecordAudio,
    RefuseCalls,
    RegisterNow,
    RegisterPhone,
    RejectCall,
    RetrieveCall,
    SendDtmf,
    StartBehaviour,
    StopAudio,
    StopRecording,
    SupervisorToWorker,
    TransferCall,
    UnregisterPhone,
    Welcome,
    WorkerMessage,
)
from .audio import Audio, AudioCommand, Wire
from .dialling import Dialling, Wanted
from .info_keys import InfoKeys
from .media.loader import Loaded
from .reporter import Reporter
from .resolve import Resolved
from .rtp_ports import NoRtpPort, RtpLease
from .rtp_sockets import Datagram
from .sip.timers import Timer, Timers
from .stack import (
    Aged,
    CallEvent,
    CallWanted,
    CommandEnded,
    Hop,
    Media,
    MediaPlan,
    Output,
    RegistrationEvent,
    Remember,
    Send,
    SlotWanted,
    Stack,
    StackRefusal,
)

__all__ = ["Keeper", "Phone", "PhoneStack", "Ports"]

WAIT_FOR_EXIT = 1.0
"""Seconds a drained process waits to be told to exit."""
CLEAN_UP_LIMIT = 32.0
"""Seconds that a process which only ends old calls waits for their far ends (64*T1)."""
QUICK_WAIT = 0.4
"""The same after SIGTERM."""
ORPHAN_WAIT = 0.35
"""Seconds an orphan serves on for the answers to its BYEs; the nursery kills it at 0.7 s."""

_EXHAUSTED_EVERY = 10.0
"""Seconds between two events about it, at least: a stranger may provoke them."""

Command: TypeAlias = PlaceCall | CallCommand | PhoneCommand


class PhoneStack(Stack, Protocol):
    """The stack, and what this phone reports of it."""

    last_error: str
    """Traceback of the latest fault of its own (counter ``engine_error``)."""

    def sip_call_id(self, call: str) -> str:
        """The Call-ID of a call that has not ended."""


class Keeper(Protocol):
    """What outlives this process (`journal.Journal`).  Its methods raise OSError."""

    def write(self, key: str, data: bytes) -> None:
        """Keep ``data`` under ``key``."""

    def forget(self, key: str) -> None:
        """Keep nothing there."""


class Ports(Protocol):
    """Where the media ports of calls come from (`rtp_ports.RtpPorts`)."""

    def lease(self) -> RtpLease:
        """A pair for one call.  Raises NoRtpPort."""

    def rested(self, port: int) -> None:
        """Nobody sends to the pair any more that was to rest after a crash."""


@dataclass(slots=True)
class _Call:
    """What the phone itself knows of a call; its SIP state is the stack's."""

    key: str
    lease: RtpLease | None = None
    answered: bool = False
    gave_up: bool = False
    """We cancelled it because nobody answered."""
    no_media: bool = False
    """We refused it for want of an RTP port."""
    ring_timer: Timer | None = None
    """Caller: until we give up.  Callee: until we answer by ourselves."""
    hang_up_timer: Timer | None = None
    media: MediaStats | None = None
    """What became of its audio, once that is over."""
    cancels: list[int] = field(default_factory=list)
    """CancelCall commands that wait for the outcome."""


class Phone:
    """One phone from its welcome to its exit.

    ``transmit(data, destination)`` puts a message on the wire and returns False if nobody can be
    there; ``tell(body, reply_to)`` sends to the supervisor; ``resolve(hop, resolved)`` calls back
    later.  ``counts`` are the counters of the process beside the stack's.
    """

    def __init__(
        self,
        *,
        welcome: Welcome,
        stack: PhoneStack,
        ports: Ports,
        journal: Keeper,
        transmit: Callable[[bytes, Hop], bool],
        tell: Callable[[WorkerMessage, int], None],
        resolve: Callable[[Hop, Resolved], None],
        rtp: Wire,
        load: Callable[[str, Loaded], None],
        counts: Counter[str],
        now: float,
        wall: float,
    ) -> None:
        self.now = now
        self.exit_at: float | None = None
        """When the process is to exit at the latest; None while it serves."""
        self.exit_now = False
        """It has nothing left to do: exit with code 0."""
        self._spec = welcome.spec
        self._host = welcome.host
        self._stack = stack
        self._ports = ports
        self._journal = journal
        self._transmit = transmit
        self._counts = counts
        self._timers = Timers()
        self._reporter = Reporter(
            tell=tell,
            clock=lambda: self.now,
            after=self._after,
            counters=stack.counters,
            counts=counts,
        )
        self._dialling = Dialling(
            phone=self._spec.name,
            stack=stack,
            reporter=self._reporter,
            resolve=resolve,
            invite=self._invite,
            take=self._take,
            clock=lambda: self.now,
        )
        self._info_keys = InfoKeys(stack, self._reporter.report)
        self._audio = Audio(
            wire=rtp,
            load=load,
            report=self._reporter.report,
            done=self._reporter.done,
            refuse=self._reporter.refuse,
            cname=f"{self._spec.name}@{self._host}",
            wall=wall,
            counts=counts,
        )
        self._calls: dict[str, _Call] = {}
        self._unanswered_byes: list[str] = []
        self._draining = False
        self._drained = False
        self._orphaned = False
        self._stack_errors = 0
        self._tell_exhausted_at = 0.0
        self._reporter.ready()
        self._only_cleans_up = welcome.purpose == "clean_up"
        if self._only_cleans_up:
            self._stack.close()
        elif self._spec.register is not None:
            # After Ready: a phone serves first, then registers.
            self._take(self._stack.register(0, now))

    # What the loop calls

    def next_deadline(self) -> float | None:
        """When `tick` is wanted next, or None."""
        deadlines = (self._signalling_deadline(), self._audio.next_timer())
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def _signalling_deadline(self) -> float | None:
        deadlines = (self._timers.next(), self._stack.next_timer(), self.exit_at)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def tick(self, now: float) -> None:
        """Run every timer that is due."""
        self.now = now
        self._audio.tick(now)
        due = self._signalling_deadline()
        if due is None or due > now:
            return  # nothing but audio, 50 times a second
        while (callback := self._timers.pop_due(now)) is not None:
            callback()
        due = self._stack.next_timer()
        if due is not None and due <= now:
            self._take(self._stack.tick(now))
        if self.exit_at is not None and now >= self.exit_at:
            self.exit_now = True
        self._settle()

    def receive(self, data: bytes, source: Hop, now: float) -> None:
        """A message came in."""
        self.now = now
        self._counts["sip_received"] += 1
        if self._spec.trace:
            self._reporter.trace("in", data, source)
        self._take(self._stack.receive(data, source, now))
        self._settle()

    def catch_up(
        self,
        waiting: Sequence[Aged],
        now: float,
        left: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:
        """These came while the phone had no process, and this the one before has ``left``."""
        self.now = now
        if waiting:
            self._counts["sip_received"] += len(waiting)
            self._counts["backlog_read"] += len(waiting)
        if self._spec.trace:
            for datagram in waiting:
                self._reporter.trace("in", datagram.data, datagram.source)
        self._take(self._stack.catch_up(waiting, now, left))
        if self._only_cleans_up and not self._draining:
            self.exit_at = now + CLEAN_UP_LIMIT
            self._drain()
        self._settle()

    def audio(self, datagram: Datagram, now: float) -> None:
        """RTP or RTCP came in."""
        self.now = now
        call, is_rtp, data, source = datagram
        self._audio.receive(call, is_rtp, data, source, now)

    def unreachable(
        self, data: bytes, destination: Hop, now: float, *, unresolved: bool = False
    ) -> None:
        """This message of ours reached nobody; ``unresolved``: its name leads to no address."""
        self.now = now
        self._take(self._stack.unreachable(data, destination, now, unresolved=unresolved))
        self._settle()

    def command(self, message: Envelope[SupervisorToWorker], now: float) -> None:
        """A message of the supervisor."""
        self.now = now
        body = message.body
        if isinstance(body, Exit):
            self.exit_now = True
        elif isinstance(body, RefuseCalls):
            self._stack.refuse_calls()
            self._reporter.refuses_calls()
        elif isinstance(body, Drain):
            self._drain()
        elif isinstance(body, RegisterNow):
            self._take(self._stack.take_slot(now))
        elif isinstance(body, Welcome | StartBehaviour):
            self._counts["link_unexpected"] += 1
        elif isinstance(body, InjectFault):
            self._take(self._stack.drop_registration(now))  # the others are the loop's
        elif self._reporter.is_new(message.id):
            self._run(message.id, body)
        self._settle()

    def leave(self, now: float, *, orphaned: bool = False) -> None:
        """SIGTERM, or the end of the lifeline: one BYE, CANCEL or 480 for each call, then exit.

        No answer is waited for; what comes before the exit is still served.
        """
        self.now = now
        self._orphaned = self._orphaned or orphaned
        self._drain()
        for call in self._calls.values():
            self._end_audio(call)  # recordings are complete, whether or not an answer still comes
        self._say_drained()
        wait = now + (ORPHAN_WAIT if orphaned else QUICK_WAIT)
        self.exit_at = wait if self.exit_at is None else min(self.exit_at, wait)
        self._settle()

    def pair_skipped(self, port: int, why: str) -> None:
        """A stranger holds one of our RTP pairs."""
        self._counts["rtp_pairs_skipped"] += 1
        self._reporter.report(RtpPairSkipped(port=port, why=why))

    def exhausted(self, wanted: str, now: float) -> None:
        """The process has as many descriptors as it may, and could not have one for this."""
        self.now = now
        self._counts["descriptors_exhausted"] += 1
        if now >= self._tell_exhausted_at:
            self._tell_exhausted_at = now + _EXHAUSTED_EVERY
            ceiling, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            self._reporter.report(LimitReached(ceiling=ceiling, wanted=wanted))

    def failed(self, what: str, traceback: str, now: float) -> None:
        """Something of ours raised: count it, log it, go on."""
        self._counts["worker_error"] += 1
        self.now = now
        self._reporter.error(what, traceback)

    # Commands

    def _run(self, id: int, body: Command) -> None:
        try:
            match body:
                case PlaceCall():
                    if body.call in self._calls or body.call in self._dialling:
                        raise StackRefusal("duplicate_call", f"there is a call {body.call} already")
                    self._dialling.place(id, body)
                case CancelCall():
                    self._cancel(id, body.call)
                case AnswerCall():
                    self._answer(body.call)
                    self._reporter.done(id)
                case RejectCall():
                    self._take(
                        self._stack.reject(body.call, self.now, code=body.code, reason=body.reason)
                    )
                    self._reporter.done(id)
                case HangUpCall():
                    if not self._dialling.drop(body.call):
                        self._take(self._stack.hang_up(body.call, self.now))
                    self._reporter.done(id)
                case HoldCall():
                    self._take(self._stack.hold(body.call, id, self.now))
                case RetrieveCall():
                    self._take(self._stack.retrieve(body.call, id, self.now))
                case TransferCall(consult=consult) if consult:
                    self._take(self._stack.transfer_to_call(body.call, id, consult, self.now))
                case TransferCall():
                    self._take(self._stack.transfer(body.call, id, body.target, self.now))
                case RegisterPhone():
                    self._take(self._stack.register(id, self.now))
                case UnregisterPhone():
                    self._take(self._stack.unregister(id, self.now))
                case SendDtmf() if self._spec.dtmf == "info":
                    self._take(self._info_keys.press(id, body.call, body.digits, self.now))
                case SendDtmf() | PlayAudio() | StopAudio() | RecordAudio() | StopRecording():
                    self._run_audio(id, body)
        except StackRefusal as refusal:
            self._reporter.refuse(id, refusal.reason, str(refusal))
        except Exception as error:
            # A fault of ours: whoever waits for the end of the command is not to wait for ever.
            if not self._reporter.is_replied(id):
                self._reporter.refuse(id, "internal_error", f"{type(error).__name__}: {error}")
            raise

    def _run_audio(self, id: int, body: AudioCommand) -> None:
        """Raises StackRefusal."""
        if body.call not in self._calls:
            raise StackRefusal("no_such_call", f"call {body.call}: no such call")
        if self._spec.media == "none":
            raise StackRefusal("no_media", f"phone {self._spec.name} has media: none")
        self._audio.run(id, body, self.now)

    def collect(self, deliver: Callable[[], None], now: float) -> None:
        """What a thread was asked for has come, names or files: ``deliver`` it."""
        self.now = now
        deliver()
        self._settle()

    def _invite(self, wanted: Wanted, next_hop: Address) -> None:
        """Raises StackRefusal, and then nothing has happened."""
        body, target, referred_by = wanted.body, wanted.target, wanted.referred_by
        try:
            lease = self._ports.lease()
        except NoRtpPort as error:
            self._counts["rtp_exhausted"] += 1
            raise StackRefusal("no_media", str(error)) from None
        media = Media(host=self._host, port=lease.port)
        try:
            outputs = self._stack.call(
                body.call,
                target,
                media,
                self.now,
                referred_by=referred_by,
                messages=body.messages,
            )
        except BaseException:
            lease.close()
            raise
        call = _Call(body.call, lease)
        self._calls[body.call] = call
        patience = body.ring_timeout
        if patience is None:
            patience = self._spec.ring_timeout
        call.ring_timer = self._after(patience, lambda: self._give_up(call))
        self._reporter.report(
            CallPlaced(
                call=body.call,
                target=body.dialled or body.target,
                sip_call_id=self._stack.sip_call_id(body.call),
                request_uri=target.request_uri,
                next_hop=next_hop,
            )
        )
        if not referred_by:
            self._reporter.done(wanted.command)
        self._take(outputs)

    def _cancel(self, id: int, key: str) -> None:
        """Raises StackRefusal.  The reply waits for the outcome."""
        if self._dialling.drop(key):
            # Nothing was sent: nobody can answer it any more.
            self._reporter.reply(id, Done(result=CancelReport(call=key, outcome="cancelled")))
            return
        call = self._calls.get(key)
        try:
            outputs = self._stack.cancel(key, self.now)
        except StackRefusal as refusal:
            if refusal.reason != "cancel_pending" or call is None:
                raise
            call.cancels.append(id)  # one cancellation, one outcome, told to all who asked
            return
        assert call is not None, key
        _stop(call.ring_timer)
        call.cancels.append(id)
        self._take(outputs)

    def _answer(self, key: str) -> None:
        """Answer with a port of ours; without one, refuse the caller.  Raises StackRefusal."""
        call = self._calls.get(key)
        try:
            lease = self._ports.lease()
        except NoRtpPort as error:
            self._counts["rtp_exhausted"] += 1
            outputs = self._stack.reject(key, self.now, code=500, reason="No Media Port")
            if call is not None:
                call.no_media = True
            self._take(outputs)
            raise StackRefusal("no_media", str(error)) from None
        try:
            outputs = self._stack.answer(key, Media(host=self._host, port=lease.port), self.now)
        except BaseException:
            lease.close()
            raise
        assert call is not None, key
        call.lease = lease
        self._take(outputs)

    # What the stack puts out

    def _take(self, outputs: list[Output]) -> None:
        """Send and report in order, and do what the phone does by itself."""
        queue = deque(outputs)
        while queue:
            output = queue.popleft()
            if isinstance(output, Send):
                if self._spec.trace:
                    self._reporter.trace("out", output.data, output.destination)
                self._counts["sip_sent"] += 1
                if not self._transmit(output.data, output.destination):
                    more = self._stack.unreachable(output.data, output.destination, self.now)
                    queue.extend(more)
            elif isinstance(output, Remember):
                self._remember(output)
            elif isinstance(output, CommandEnded):
                over, more = self._info_keys.ended(output, self.now)
                queue.extend(more)
                if not over:
                    continue
                if output.refusal is None:
                    self._reporter.done(output.command)
                else:
                    self._reporter.refuse(
                        output.command, output.refusal.reason, str(output.refusal)
                    )
            elif isinstance(output, SlotWanted):
                self._reporter.ask_to_register()
            elif isinstance(output, CallWanted):
                self._dialling.refer(output)
            elif isinstance(output, MediaPlan):
                self._follow(output)
            else:
                self._happened(output)

    def _remember(self, wanted: Remember) -> None:
        try:
            if wanted.record is None:
                self._journal.forget(wanted.key)
            else:
                self._journal.write(wanted.key, wanted.record)
        except OSError:  # no memory: the call goes on, and would be left behind by a crash
            self._counts["journal_failed"] += 1

    def _follow(self, plan: MediaPlan) -> None:
        """What the audio of a call is from now on."""
        call = self._calls.get(plan.call)
        # Once its end was reported, nothing happens in a call.
        if call is None or call.lease is None or call.media is not None:
            return
        if self._spec.media == "audio":
            self._audio.follow(plan, call.lease, self.now, answered=call.answered)

    def _happened(self, event: CallEvent | RegistrationEvent | TurnedAway | CallCleanedUp) -> None:
        match event:
            case CallCleanedUp(how=how, rtp_port=port):
                self._counts["calls_cleaned_up"] += 1
                if how != "bye_unanswered":
                    self._ports.rested(port)
            case IncomingCall():
                call = _Call(event.call)
                self._calls[event.call] = call
                self._reporter.report(event)
                self._on_incoming(call, event.replaces)
                return
            case Answered():
                known = self._calls.get(event.call)
                if known is not None and not known.answered:
                    self._on_answered(known)
                if known is not None and known.lease is not None and self._spec.media == "audio":
                    event = msgspec.structs.replace(event, rtp_port=known.lease.port)
            case CancelResolved():
                self._on_cancel_resolved(event)
                return
            case CallEnded():
                self._on_ended(event)
                return
            case _:
                pass
        self._reporter.report(event)

    def _on_incoming(self, call: _Call, replaces: str) -> None:
        """What the herd file says; a client may be quicker."""
        if replaces:
            self._answer_by_itself(call)  # whoever it was with has been answered before
            return
        behaviour = self._spec.on_incoming
        if behaviour is None or behaviour.ring:
            return
        if behaviour.reject is not None:
            self._take(self._stack.reject(call.key, self.now, code=behaviour.reject))
            return
        assert behaviour.answer_after is not None
        if behaviour.answer_after == 0:
            self._answer_by_itself(call)
        else:
            call.ring_timer = self._after(
                behaviour.answer_after, lambda: self._answer_by_itself(call)
            )

    def _answer_by_itself(self, call: _Call) -> None:
        try:
            self._answer(call.key)
        except StackRefusal as refusal:
            self._reporter.warn("not_answered", call=call.key, why=str(refusal))
            return
        behaviour = self._spec.on_incoming
        after = behaviour.hang_up_after if behaviour is not None else None
        if after is not None and call.key in self._calls:
            call.hang_up_timer = self._after(after, lambda: self._hang_up_by_itself(call))

    def _hang_up_by_itself(self, call: _Call) -> None:
        with contextlib.suppress(StackRefusal):  # it is ending already
            self._take(self._stack.hang_up(call.key, self.now))

    def _give_up(self, call: _Call) -> None:
        """The caller's patience is over."""
        with contextlib.suppress(StackRefusal):  # it is ending already
            outputs = self._stack.cancel(call.key, self.now)
            call.gave_up = True
            self._take(outputs)

    def _on_answered(self, call: _Call) -> None:
        call.answered = True
        _stop(call.ring_timer)
        self._audio.answered(call.key, self.now)

    def _on_cancel_resolved(self, event: CancelResolved) -> None:
        call = self._calls.get(event.call)
        if call is not None and call.gave_up and not call.cancels:
            return  # nobody asked: what became of the call is its CallEnded
        self._reporter.report(event)
        if call is not None:
            waiting, call.cancels = call.cancels, []
            report = CancelReport(call=event.call, outcome=event.outcome, code=event.code)
            for id in waiting:
                self._reporter.reply(id, Done(result=report))

    def _on_ended(self, event: CallEnded) -> None:
        call = self._calls.pop(event.call, None)
        if call is not None:
            _stop(call.ring_timer)
            _stop(call.hang_up_timer)
            event = msgspec.structs.replace(event, media=self._end_audio(call))
            if call.lease is not None:
                call.lease.close()
            if call.gave_up and event.cause == "cancelled":
                event = msgspec.structs.replace(event, cause="no_answer", by="timeout")
            elif call.no_media and event.cause == "rejected":
                event = msgspec.structs.replace(event, cause="no_media")
            if event.bye_answered is False:
                self._unanswered_byes.append(event.call)
        self._reporter.report(event)
        if call is not None:
            for id in call.cancels:
                self._reporter.refuse(id, "already_ended", f"call {event.call}: already ended")

    def _end_audio(self, call: _Call) -> MediaStats | None:
        if call.media is None:
            call.media = self._audio.end(call.key, self.now)
        return call.media

    # Leaving

    def _drain(self) -> None:
        if not self._draining:
            self._draining = True
            self._dialling.close()
            # BYEs that went unanswered before belong to calls long over.
            self._unanswered_byes.clear()
        self._take(self._stack.drain(self.now))

    def _settle(self) -> None:
        """After everything that happens: what follows from it."""
        errors = self._stack.counters.get("engine_error", 0)
        if errors != self._stack_errors:
            self._stack_errors = errors
            self._reporter.error("the SIP engine failed", self._stack.last_error)
        if self._draining and self._stack.is_idle():
            if not self._drained:
                self._say_drained()
                self.exit_at = self.now + WAIT_FOR_EXIT
            if self._orphaned:
                self.exit_now = True
        self._reporter.count()

    def _say_drained(self) -> None:
        if self._drained:
            return
        self._drained = True
        left = [call.key for call in self._calls.values() if call.answered]
        self._reporter.drained((*self._unanswered_byes, *left))

    # Timers

    def _after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        return self._timers.start(self.now + seconds, callback)


def _stop(timer: Timer | None) -> None:
    if timer is not None:
        timer.cancel()
