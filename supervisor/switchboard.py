"""Calls between clients and workers: commands to the right process, happenings to the right client.

A worker names its incoming calls itself (``i1`` …); everybody else knows calls by the herd's ids
(``c1`` …).  The translation is here and nowhere else.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass

import msgspec

from ..protocol.errors import PhoneNotFound
from ..protocol.events import (
    Answered,
    BehaviourEvent,
    CallCleanedUp,
    CallEnded,
    CallEvent,
    CancelResolved,
    EndCause,
    IncomingCall,
    LimitReached,
    Overflow,
    Referred,
    Registered,
    RegistrationFailed,
    RtpPairSkipped,
    SipTrace,
    TurnedAway,
    Unregistered,
    WorkerEvent,
)
from ..protocol.messages import (
    AnswerCall,
    AwaitIncoming,
    CallCommand,
    CancelCall,
    CancelReport,
    Done,
    HangUpCall,
    PhoneCommand,
    PlaceCall,
    Refused,
    RegisterPhone,
    RejectCall,
    TransferCall,
    UnregisterPhone,
)
from ..protocol.spec import bracketed, is_number
from ..protocol.states import CallState, PhoneState
from .calls import CallDesk, CallRecord, Waiter
from .events import EventStream
from .life import Life
from .phones import Phone, PhoneTable
from .requests import Request, Requests

__all__ = ["RTP_REST", "Switchboard"]

RTP_REST = 32.0
"""Seconds that the far end of a crashed call may send on: it knows of nothing (64·T1)."""


@dataclass(slots=True)
class _Sent:
    """A command a worker has not answered yet; ``request`` is None for one of our own."""

    phone: Phone
    call: CallRecord | None
    """None for a command about the phone itself."""
    body: PlaceCall | CallCommand | PhoneCommand
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

    def carry_out(
        self, request: Request, body: PlaceCall | AwaitIncoming | CallCommand | PhoneCommand
    ) -> None:
        """What a client wants of a call or a phone.  Raises PhoneNotFound and CallNotFound."""
        match body:
            case PlaceCall():
                self._place(request, body)
            case AwaitIncoming():
                self._await_incoming(request, body)
            case TransferCall():
                self._transfer(request, body)
            case RegisterPhone() | UnregisterPhone():
                self._register(request, body)
            case _:
                self._command(request, body)

    def _place(self, request: Request, body: PlaceCall) -> None:
        """Have a phone place a call.  Raises PhoneNotFound."""
        phone = self._table.find(body.phone)
        target = self._dial(phone, body.target, direct=body.direct)
        if phone.state is not PhoneState.READY:
            self._requests.refuse(request, "phone_not_ready", phone.why_not_ready())
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

    def _dial(self, phone: Phone, target: str, *, direct: bool = False) -> str:
        """The SIP URI that ``phone`` calls for ``target``.  Raises PhoneNotFound.

        A name or number goes by way of the phone's registrar or proxy, so that the PBX is what is
        tested; a phone without, or ``direct``, calls the herd's phone straight.
        """
        target = target.strip()
        if _is_uri(target):
            return target
        domain = phone.spec.domain
        if direct or not domain:
            return self._table.find(target).uri
        try:
            number = self._table.find(target).spec.number
        except PhoneNotFound:
            if not is_number(target):
                raise
            number = target  # of somebody else's phone
        return f"sip:{number}@{bracketed(domain)}"

    def _command(self, request: Request, body: CallCommand) -> None:
        """Do something about one call that is up.  Raises CallNotFound."""
        call = self.desk.find(body.call)
        if self._refused_ended(request, call):
            return
        if isinstance(body, AnswerCall | RejectCall):
            if call.taken and call.owner != request.client:
                why = f"call {call.id} was handed to another client, which may still answer it"
                self._requests.refuse(request, "taken", why)
                return
            # Nobody else is to get it while the worker carries this out.
            self.desk.unqueue(call)
        self._send(
            self._phone_of(call), call, msgspec.structs.replace(body, call=call.key), request
        )

    def _transfer(self, request: Request, body: TransferCall) -> None:
        """Have the far end of a call reach somebody else.  Raises CallNotFound, PhoneNotFound."""
        call = self.desk.find(body.call)
        if bool(body.target) == bool(body.consult):
            why = "a transfer has a target or another call to join, one of the two"
            self._requests.refuse(request, "bad_transfer", why)
        elif body.target:
            phone = self._phone_of(call)
            target = self._dial(phone, body.target)
            self._command(request, msgspec.structs.replace(body, target=target))
        else:
            consult = self.desk.find(body.consult)
            if consult is call or consult.phone != call.phone:
                why = f"call {consult.id} is not another call of phone {call.phone}"
                self._requests.refuse(request, "bad_transfer", why)
            elif not self._refused_ended(request, consult):
                self._command(request, msgspec.structs.replace(body, consult=consult.key))

    def _register(self, request: Request, body: PhoneCommand) -> None:
        """Have a phone register or unregister.  Raises PhoneNotFound."""
        phone = self._table.find(body.phone)
        if phone.spec.register is None:
            self._requests.refuse(request, "no_registrar", phone.why_no_registrar())
        elif phone.state is not PhoneState.READY:
            self._requests.refuse(request, "phone_not_ready", phone.why_not_ready())
        else:
            self._send(phone, None, msgspec.structs.replace(body, phone=phone.name), request)

    def _refused_ended(self, request: Request, call: CallRecord) -> bool:
        if call.state is not CallState.ENDED:
            return False
        cause = call.info.cause or ""
        is_cancelled = cause in ("cancelled", "answered_elsewhere")
        reason = "cancelled" if is_cancelled else "already_ended"
        why = f"call {call.id}: {reason} ({cause})".replace("_", " ")
        self._requests.refuse(request, reason, why)
        return True

    def _phone_of(self, call: CallRecord) -> Phone:
        phone = self._table.get(call.phone)
        assert phone is not None  # a phone is removed only after its calls
        return phone

    def _await_incoming(self, request: Request, body: AwaitIncoming) -> None:
        """Hand over the next incoming call.  Raises PhoneNotFound."""
        phones = [self._table.find(word) for word in body.which]
        for phone in phones:
            if phone.state in (PhoneState.STOPPED, PhoneState.FAILED, PhoneState.DRAINING):
                self._requests.refuse(request, "phone_not_ready", phone.why_not_ready())
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
            case TurnedAway() | RtpPairSkipped() | LimitReached() | SipTrace():
                self._emit(phone, t, body, None)
            case _ if isinstance(body, BehaviourEvent):
                self._emit(phone, t, body, None)
            case CallCleanedUp(how=how, rtp_port=port):
                if how != "bye_unanswered":  # its far end sends no audio any more
                    phone.rtp_resting.pop(port, None)
                self._emit(phone, t, body, None)
            case Registered() | RegistrationFailed() | Unregistered():
                phone.registration.apply(body, t)
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
        if body.replaces:
            self._ring_in_place(phone, t, body, call)
            return
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

    def _ring_in_place(self, phone: Phone, t: float, body: IncomingCall, call: CallRecord) -> None:
        """A call that takes the place of another one, and is answered by itself (RFC 3891)."""
        old = phone.calls.get(body.replaces)
        if old is not None:
            call.owner = old.owner
        replaced = msgspec.structs.replace(body, call=call.id, replaces=old.id if old else "")
        self._emit(phone, t, replaced, call)

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
        if sent.call is not None:
            self._carried_out(sent, sent.call, reply)
        if sent.request is None or sent.request.over:
            return
        if isinstance(reply, Refused):
            self._requests.refuse(sent.request, reply.reason, _in_our_names(sent, reply.message))
        elif sent.call is None:
            self._requests.done(sent.request)
        elif isinstance(reply.result, CancelReport):
            report = msgspec.structs.replace(reply.result, call=sent.call.id)
            self._requests.done(sent.request, report)
        else:
            self._requests.done(sent.request, sent.call.info)

    def _carried_out(self, sent: _Sent, call: CallRecord, reply: Done | Refused) -> None:
        match sent.body:
            case PlaceCall(detached=detached):
                if isinstance(reply, Refused):
                    if sent.phone.calls.pop(call.key, None) is not None:
                        self.desk.forget(call)
                    return
            case AnswerCall(detached=detached) if isinstance(reply, Done) and sent.request:
                call.owner = None if detached else sent.request.client
                call.taken = True
            case _:
                return
        # It gave up, or is gone: nobody has learnt of this call, unless it may outlive its client.
        unknown = sent.request is not None and sent.request.over and not detached
        if unknown and call.state is not CallState.ENDED:
            self._hang_up(call)

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
        cancelled = {command.call for command in commands if isinstance(command.body, CancelCall)}
        ended: list[str] = []
        for call in list(phone.calls.values()):
            if call.info.direction == "out" and not call.info.sip_call_id:
                self.desk.forget(call)  # its INVITE was never sent
                continue
            ended.append(call.id)
            if call.info.rtp_port and not stopped:
                phone.rtp_resting[call.info.rtp_port] = self.now + RTP_REST
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
            if isinstance(command.body, CancelCall) and command.call is not None:
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
        self._send(self._phone_of(call), call, HangUpCall(call=call.key), None)

    def _send(
        self,
        phone: Phone,
        call: CallRecord | None,
        body: PlaceCall | CallCommand | PhoneCommand,
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


def _in_our_names(sent: _Sent, message: str) -> str:
    """What a worker said about a command, with the herd's ids for its calls."""
    calls = {key: call.id for key, call in sent.phone.calls.items()}
    if sent.call is not None:  # it may have ended
        calls[sent.call.key] = sent.call.id
    return re.sub(
        r"\bcall ([a-z][0-9]+)\b", lambda match: f"call {calls.get(match[1], match[1])}", message
    )


def _is_uri(target: str) -> bool:
    return target.partition(":")[0].lower() in ("sip", "sips", "tel")
