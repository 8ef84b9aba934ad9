"""Calls between clients and workers: commands to the right process, happenings to the right client.

A worker names its incoming calls itself (``i1`` …); everybody else knows calls by the herd's ids
(``c1`` …).  The translation is here and nowhere else.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from ..protocol.events import (
    Answered,
    CallEnded,
    CallEvent,
    CancelResolved,
    EndCause,
    IncomingCall,
    Overflow,
    Referred,
    Registered,
    RegistrationEvent,
    RegistrationFailed,
    RtpPairSkipped,
    SipTrace,
    TurnedAway,
    Unregistered,
)
from ..protocol.messages import (
    AnswerCall,
    AwaitIncoming,
    CancelCall,
    CancelReport,
    Done,
    HangUpCall,
    PlaceCall,
    Refused,
    RejectCall,
)
from ..protocol.states import CallState, PhoneState
from .calls import CallDesk, CallRecord, Waiter
from .events import EventStream
from .life import Life
from .phones import Phone, PhoneTable
from .requests import Request, Requests

__all__ = ["Switchboard"]

CallCommand: TypeAlias = AnswerCall | RejectCall | CancelCall | HangUpCall
WorkerEvent: TypeAlias = CallEvent | RegistrationEvent | TurnedAway | RtpPairSkipped | SipTrace


@dataclass(slots=True)
class _Sent:
    """A command a worker has not answered yet; ``request`` is None for one of our own."""

    phone: Phone
    call: CallRecord
    body: PlaceCall | CallCommand
    request: Request | None


class Switchboard:
    """Every call of the herd; part of the core, so without socket or clock."""

    def __init__(
        self, *, table: PhoneTable, life: Life, requests: Requests, events: EventStream
    ) -> None:
        self.desk = CallDesk()
        self._table = table
        self._life = life
        self._requests = requests
        self._events = events
        self._sent: dict[int, _Sent] = {}
        self._ids = itertools.count(1)
        self._overflowing: set[CallRecord] = set()
        self.now = 0.0

    # -- commands of clients ---------------------------------------------------------------------

    def place(self, request: Request, body: PlaceCall) -> None:
        """Have a phone place a call.  Raises PhoneNotFound."""
        phone = self._table.find(body.phone)
        target = body.target.strip()
        if not _is_uri(target):
            target = self._table.find(target).uri
        if phone.state is not PhoneState.READY:
            self._requests.refuse(request, "phone_not_ready", _not_ready(phone))
            return
        seconds = body.ring_timeout
        if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
            self._requests.refuse(
                request, "bad_ring_timeout", f"ring timeout {seconds:g}: more than 0 s expected"
            )
            return
        call = self.desk.open(
            phone.name,
            "out",
            self.now,
            target=body.target,
            owner=None if body.detached else request.client,
        )
        phone.calls[call.key] = call
        phone.used = True
        command = msgspec.structs.replace(
            body, phone=phone.name, target=target, call=call.key, dialled=body.target
        )
        self._send(phone, call, command, request)

    def command(self, request: Request, body: CallCommand) -> None:
        """Answer, reject, cancel or hang up a call.  Raises CallNotFound."""
        call = self.desk.find(body.call)
        if call.state is CallState.ENDED:
            cause = call.info.cause or ""
            is_cancelled = cause in ("cancelled", "answered_elsewhere")
            reason = "cancelled" if is_cancelled else "already_ended"
            why = f"call {call.id}: {reason} ({cause})".replace("_", " ")
            self._requests.refuse(request, reason, why)
            return
        if isinstance(body, AnswerCall | RejectCall):
            if call.taken and call.owner != request.client:
                why = f"call {call.id} was handed to another client, which may still answer it"
                self._requests.refuse(request, "taken", why)
                return
            # Nobody else is to get it while the worker carries this out.
            self.desk.unqueue(call)
        phone = self._table.get(call.phone)
        assert phone is not None  # a phone is removed only after its calls
        self._send(phone, call, msgspec.structs.replace(body, call=call.key), request)

    def await_incoming(self, request: Request, body: AwaitIncoming) -> None:
        """Hand over the next incoming call.  Raises PhoneNotFound."""
        phones = [self._table.find(word) for word in body.which]
        for phone in phones:
            if phone.state in (PhoneState.STOPPED, PhoneState.FAILED, PhoneState.DRAINING):
                self._requests.refuse(request, "phone_not_ready", _not_ready(phone))
                return
        names = frozenset(phone.name for phone in phones)
        call = self.desk.take(names)
        if call is not None:
            self._hand_over(call, request)
            return
        # A phone that acts by itself has no queue: what it has now is what is waited for.
        for phone in phones:
            if phone.spec.on_incoming is not None:
                for call in phone.calls.values():
                    if call.info.direction == "in" and not (call.shown or call.taken):
                        self._hand_over(call, request, own=False)
                        return
        waiter = Waiter(request, names)
        request.on_over = lambda: self.desk.withdraw(waiter)
        self.desk.await_call(waiter)

    # -- what workers say ------------------------------------------------------------------------

    def happened(self, phone: Phone, t: float, body: WorkerEvent) -> None:
        """Something at a phone: note it, number it, and tell whom it concerns."""
        match body:
            case TurnedAway() | RtpPairSkipped() | SipTrace():
                self._emit(phone, t, body, None)
            case Registered() | RegistrationFailed() | Unregistered():
                self._emit(phone, t, body, None)
            case IncomingCall():
                self._ring(phone, t, body)
            case Referred():
                self._refer(phone, t, body)
            case _:
                call = phone.calls.get(body.call)
                if call is not None:  # else it was ended here when its place was refused
                    self._move(phone, call, t, body)

    def _refer(self, phone: Phone, t: float, body: Referred) -> None:
        """The far end of a call had the phone place another one: it has the same owner."""
        old = phone.calls.get(body.call)
        if old is None:
            return
        new = self.desk.open(
            phone.name, "out", t, key=body.new_call, target=body.target, owner=old.owner
        )
        phone.calls[new.key] = new
        self._emit(phone, t, msgspec.structs.replace(body, call=old.id, new_call=new.id), old)

    def _ring(self, phone: Phone, t: float, body: IncomingCall) -> None:
        phone.used = True
        call = self.desk.open(phone.name, "in", t, key=body.call)
        phone.calls[call.key] = call
        call.apply(body, t)
        automatic = phone.spec.on_incoming is not None
        # A phone that acts by itself is asked for by name: whoever waits for any phone's calls
        # does not mean its.
        waiter = self.desk.waiter_for(phone.name, by_name=automatic)
        if waiter is not None and not automatic:
            call.owner = waiter.request.client  # before the event: it is among its own
        self._emit(phone, t, msgspec.structs.replace(body, call=call.id), call)
        if waiter is not None:
            self._hand_over(call, waiter.request, own=not automatic)
        elif not automatic:
            self._offer(phone, call, t)

    def _offer(self, phone: Phone, call: CallRecord, t: float) -> None:
        waiting = self.desk.waiting(phone.name)
        if waiting < phone.spec.queue:
            self.desk.queue(call)
            return
        self._overflowing.add(call)
        self._emit(phone, t, Overflow(call=call.id, waiting=waiting), call)
        self._send(phone, call, RejectCall(call=call.key, code=486), None)

    def _move(
        self,
        phone: Phone,
        call: CallRecord,
        t: float,
        body: CallEvent,
    ) -> None:
        if isinstance(body, CallEnded) and call in self._overflowing and body.cause == "rejected":
            body = msgspec.structs.replace(body, cause="overflow")
        call.apply(body, t)
        self._emit(phone, t, msgspec.structs.replace(body, call=call.id), call)
        if isinstance(body, Answered):
            self.desk.unqueue(call)
        elif isinstance(body, CallEnded):
            del phone.calls[call.key]
            self._overflowing.discard(call)
            self.desk.close(call)

    def replied(self, id: int, reply: Done | Refused) -> None:
        """A worker carried out a command, or not."""
        sent = self._sent.pop(id, None)
        if sent is None:
            return  # it was settled when the phone died
        match sent.body:
            case PlaceCall():
                self._placed(sent, reply)
            case AnswerCall(detached=detached) if isinstance(reply, Done) and sent.request:
                sent.call.owner = None if detached else sent.request.client
                sent.call.taken = True
                if sent.request.over:  # it gave up, or is gone
                    self._hang_up_unless_detached(sent)
        if sent.request is None or sent.request.over:
            return
        if isinstance(reply, Refused):
            why = reply.message.replace(f"call {sent.call.key}", f"call {sent.call.id}")
            self._requests.refuse(sent.request, reply.reason, why)
        elif isinstance(reply.result, CancelReport):
            report = msgspec.structs.replace(reply.result, call=sent.call.id)
            self._requests.done(sent.request, report)
        else:
            self._requests.done(sent.request, sent.call.info)

    def _placed(self, sent: _Sent, reply: Done | Refused) -> None:
        if isinstance(reply, Refused):
            if sent.phone.calls.pop(sent.call.key, None) is not None:
                self.desk.forget(sent.call)
        elif sent.request is not None and sent.request.over:
            self._hang_up_unless_detached(sent)

    def _hang_up_unless_detached(self, sent: _Sent) -> None:
        """Nobody has learnt of this call: end it, unless it may outlive its client."""
        detached = isinstance(sent.body, PlaceCall | AnswerCall) and sent.body.detached
        if not detached and sent.call.state is not CallState.ENDED:
            self._hang_up(sent.call)

    # -- clients and phones that go ----------------------------------------------------------------

    def client_gone(self, client: bytes) -> None:
        """End what belongs to the client; a call it had not answered goes to the next one."""
        for call in self.desk.owned_by(client):
            call.owner = None
            if call.taken and call.state is CallState.RINGING:
                self._hand_back(call)
            else:
                self._hang_up(call)

    def _hand_back(self, call: CallRecord) -> None:
        call.taken = False
        waiter = self.desk.waiter_for(call.phone)
        if waiter is not None:
            self._hand_over(call, waiter.request)
        else:
            self.desk.queue(call, first=True)

    def lost(self, phone: Phone) -> tuple[str, ...]:
        """The phone's process is dead: end its calls and answer who waits for it."""
        stopped = phone.state is PhoneState.DRAINING
        sent = [id for id, command in self._sent.items() if command.phone is phone]
        commands = [self._sent.pop(id) for id in sent]
        cancelled = {c.call for c in commands if isinstance(c.body, CancelCall)}
        ended: list[str] = []
        for call in list(phone.calls.values()):
            if call.info.direction == "out" and not call.info.sip_call_id:
                self.desk.forget(call)  # its INVITE was never sent
                continue
            ended.append(call.id)
            if call in cancelled:
                self._move(
                    phone,
                    call,
                    self.now,
                    CancelResolved(call=call.key, outcome="phone_crashed"),
                )
            cause: EndCause = "stopped" if stopped else "phone_crashed"
            self._move(phone, call, self.now, CallEnded(call=call.key, cause=cause, by="local"))
        phone.calls.clear()
        why = f"phone {phone.name} {'was stopped' if stopped else 'crashed'}"
        reason = "phone_stopped" if stopped else "phone_crashed"
        for command in commands:
            if command.request is None:
                continue
            if isinstance(command.body, CancelCall):
                report = CancelReport(call=command.call.id, outcome="phone_crashed")
                self._requests.done(command.request, report)
            else:
                self._requests.refuse(command.request, reason, why)
        for waiter in self.desk.waiters_on(phone.name):
            self._requests.refuse(waiter.request, reason, why)
        return tuple(ended)

    # -- helpers ---------------------------------------------------------------------------------

    def _hand_over(self, call: CallRecord, request: Request, *, own: bool = True) -> None:
        if own:
            call.owner = request.client
            call.taken = True
        else:
            call.shown = True
        self._requests.done(request, call.info)

    def _hang_up(self, call: CallRecord) -> None:
        phone = self._table.get(call.phone)
        assert phone is not None
        self._send(phone, call, HangUpCall(call=call.key), None)

    def _send(
        self,
        phone: Phone,
        call: CallRecord,
        body: PlaceCall | CallCommand,
        request: Request | None,
    ) -> None:
        id = next(self._ids)
        self._sent[id] = _Sent(phone, call, body, request)
        self._life.send(phone, body, id=id)

    def _emit(
        self,
        phone: Phone,
        t: float,
        body: WorkerEvent | Overflow,
        call: CallRecord | None,
    ) -> None:
        self._events.emit(
            body,
            t,
            phone=phone.name,
            incarnation=phone.incarnation,
            pid=phone.pid,
            owner=call.owner if call else None,
        )


def _is_uri(target: str) -> bool:
    return target.partition(":")[0].lower() in ("sip", "sips", "tel")


def _not_ready(phone: Phone) -> str:
    why = f" ({phone.why})" if phone.why else ""
    return (
        f"phone {phone.name} is {phone.state.value}{why}; start it with: sipherd start {phone.name}"
    )
