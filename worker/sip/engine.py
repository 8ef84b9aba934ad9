"""The user agent core: messages and commands in, messages and events out (RFC 3261 §8-§15)."""

from __future__ import annotations

import secrets
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from ...protocol.events import EndCause, TurnedAway
from ..stack import Aged, Hop, Media, Output, Stack, StackConfig, StackRefusal, Target
from . import admission, backlog, sdp
from .aftermath import Aftermath
from .authentication import Requests
from .callee import CalleeLeg
from .caller import CallerLeg
from .calls import Calls
from .context import ACCEPT, CAPABILITIES, EVENTS, Context
from .leg import Leg
from .memory import guarded
from .message import Malformed, Message, parse, readable
from .registration import Registration
from .transactions import ServerInvite, ServerTransaction, Transactions
from .uri import SipUri, UriError
from .vias import reply_hop, stamp_via

__all__ = ["Engine"]

# From the kernel at every call: a forked phone shares no random state with its siblings.


def _random_token() -> str:
    return secrets.token_hex(8)


_random_number = secrets.SystemRandom().random


class Engine:
    """One SIP user agent; implements `sipherd.worker.stack.Stack`.

    ``token`` makes the unique part of Call-IDs, branches and tags; ``random`` gives numbers from 0
    to 1 for what must not happen at the same time at both ends.
    """

    def __init__(
        self,
        config: StackConfig,
        token: Callable[[], str] = _random_token,
        random: Callable[[], float] = _random_number,
    ) -> None:
        self.ctx = Context(config, token, random)
        self.transactions = Transactions(self.ctx)
        self.requests = Requests(self.transactions)
        self.counters: Mapping[str, int] = self.ctx.counters
        """Running totals by name."""
        self.last_error = ""
        """Traceback of the latest fault of our own (counter ``engine_error``)."""
        self.calls = Calls()
        self.aftermath = Aftermath(self)
        self._incoming = 0
        self._draining = False
        self._refuses_calls = False
        self._closed = False
        self._registration = Registration(self.requests) if config.registrar else None

    # Time

    def next_timer(self) -> float | None:
        """When `tick` is wanted next, or None."""
        return self.ctx.timers.next()

    def tick(self, now: float) -> list[Output]:
        """Run every timer that is due.  Never raises."""
        self.ctx.now = now
        while (callback := self.ctx.timers.pop_due(now)) is not None:
            try:
                callback()
            except Exception:  # one call's fault must not stop the others' timers
                self._note_error()
        return self._take_outputs()

    # The wire

    def receive(self, data: bytes, source: Hop, now: float) -> list[Output]:
        """Take one message.  Never raises, whatever the bytes are."""
        self.ctx.now = now
        try:
            self._receive(data, source)
        except Exception:
            self._note_error()
        return self._take_outputs()

    def catch_up(
        self,
        waiting: Sequence[Aged],
        now: float,
        left: Mapping[str, bytes] = MappingProxyType({}),
    ) -> list[Output]:
        """Take what came while the phone had no process, and what the one before has left."""
        self.ctx.now = now
        batch = backlog.put_in_order(waiting, self.ctx.config.t1)
        self.ctx.counters.update(batch.counts)
        steps: list[Callable[[], None]] = [
            partial(self.aftermath.restore, left),
            *(partial(self._receive, aged.data, aged.source) for aged in batch.first),
            *(partial(self._receive_cancelled, *pair) for pair in batch.cancelled),
            partial(self.aftermath.begin, resume=not self._closed),
        ]
        steps += [partial(self._receive, aged.data, aged.source) for aged in batch.others]
        for step in steps:
            try:
                step()
            except Exception:
                self._note_error()
        return self._take_outputs()

    def unreachable(
        self, data: bytes, destination: Hop, now: float, *, unresolved: bool = False
    ) -> list[Output]:
        """``data`` (perhaps truncated) could not be delivered to ``destination``.

        Ends the client transaction of that request, if it still waits there; else nothing.
        """
        self.ctx.now = now
        try:
            self._unreachable(data, destination, unresolved)
        except Exception:
            self._note_error()
        return self._take_outputs()

    # Commands

    def read_target(self, text: str, *, direct: bool = False) -> Target:
        """The SIP URI of a call, and the way there.  Raises StackRefusal (``bad_uri``)."""
        try:
            uri = SipUri.parse(text)
            hop, routes = self.ctx.way(uri, direct=direct)
        except UriError as error:
            raise StackRefusal("bad_uri", f"{text}: {error}") from None
        return Target(str(uri.without_headers()), hop, routes, uri.headers)

    def call(
        self,
        call: str,
        target: Target,
        media: Media,
        now: float,
        *,
        referred_by: str = "",
        messages: bool = False,
    ) -> list[Output]:
        """Send an INVITE to ``target``.  Raises StackRefusal."""
        if self._draining or self._refuses_calls:
            raise StackRefusal("draining", "the phone is being stopped")
        if call in self.calls:
            raise StackRefusal("duplicate_call", f"there is a call {call} already")
        self.ctx.now = now
        asking = self.calls.find(referred_by)
        referral = asking.refers.referral if asking is not None else None
        leg = CallerLeg(self, call, target, media, referral)
        if messages:
            leg.keep_messages()
        self.calls.add(leg)
        leg.start()
        return self._take_outputs()

    def ring(self, call: str, now: float, *, code: int = 180) -> list[Output]:
        """Send another provisional response.  Raises StackRefusal."""
        return self._command(now, lambda: self.calls.callee(call).ring(code))

    def answer(self, call: str, media: Media, now: float) -> list[Output]:
        """Send 200 with SDP.  Raises StackRefusal."""
        return self._command(now, lambda: self.calls.callee(call).answer(media))

    def reject(self, call: str, now: float, *, code: int = 486, reason: str = "") -> list[Output]:
        """Send a final 3xx-6xx to a ringing call.  Raises StackRefusal."""
        # The phrase goes onto the wire: it must not end the line.
        phrase = " ".join(reason.split())
        return self._command(now, lambda: self.calls.callee(call).reject(code, phrase))

    def cancel(self, call: str, now: float) -> list[Output]:
        """Cancel an outgoing call; exactly one CancelResolved follows.  Raises StackRefusal."""
        return self._command(now, lambda: self.calls.caller(call).cancel())

    def hang_up(self, call: str, now: float) -> list[Output]:
        """End the call whatever its state is.  Raises StackRefusal."""
        return self._command(now, lambda: self.calls.leg(call).hang_up())

    def hold(self, call: str, command: int, now: float) -> list[Output]:
        """Put an answered call on hold.  Raises StackRefusal."""
        return self._command(now, lambda: self.calls.leg(call).hold(command, on=True))

    def retrieve(self, call: str, command: int, now: float) -> list[Output]:
        """Take it off hold.  Raises StackRefusal."""
        return self._command(now, lambda: self.calls.leg(call).hold(command, on=False))

    def transfer(self, call: str, command: int, target: str, now: float) -> list[Output]:
        """Refer the peer to ``target``.  Raises StackRefusal."""
        return self._command(now, lambda: self.calls.leg(call).transfer(command, target))

    def transfer_to_call(self, call: str, command: int, consult: str, now: float) -> list[Output]:
        """Refer the peer to that of ``consult``.  Raises StackRefusal."""
        other = self.calls.leg(consult)
        if call == consult:
            raise StackRefusal("bad_target", "a call can't be transferred to itself")

        def transfer() -> None:
            self.calls.leg(call).transfer(command, other.peer_uri, other)

        return self._command(now, transfer)

    def refer_failed(self, call: str, code: int, now: float) -> list[Output]:
        """A call that the peer asked for can't be placed.  Raises StackRefusal."""
        return self._command(now, lambda: self.calls.leg(call).refers.failed(code))

    def send_info(
        self, call: str, command: int, content_type: str, content: bytes, now: float
    ) -> list[Output]:
        """Send INFO within the call.  Raises StackRefusal."""
        return self._command(
            now, lambda: self.calls.leg(call).infos.send(command, content_type, content)
        )

    def register(self, command: int, now: float) -> list[Output]:
        """Register now, and stay registered.  Raises StackRefusal."""
        return self._command(now, lambda: self._our_registration().register(command))

    def unregister(self, command: int, now: float) -> list[Output]:
        """Have the registrar forget us.  Raises StackRefusal."""
        return self._command(now, lambda: self._our_registration().unregister(command))

    def drop_registration(self, now: float) -> list[Output]:
        """Have the registrar forget us behind our own back.  Raises StackRefusal."""
        return self._command(now, lambda: self._our_registration().drop())

    def take_slot(self, now: float) -> list[Output]:
        """A REGISTER may be sent now."""
        return self._command(now, lambda: self._our_registration().take_slot())

    def refuse_calls(self) -> None:
        """Refuse new calls with 503; those that there are go on."""
        self._refuses_calls = True

    def drain(self, now: float) -> list[Output]:
        """End every call, refuse new ones with 503, unregister."""
        self.ctx.now = now
        self._draining = True
        drains = [leg.drain for leg in self.calls]
        if self._registration is not None:
            drains.append(self._registration.drain)
        for drain in drains:
            try:
                drain()
            except Exception:  # the other calls must be ended all the same
                self._note_error()
        return self._take_outputs()

    def close(self) -> None:
        """Answer every new call 480, and let nothing of the process before ring on."""
        self._closed = True

    def is_idle(self) -> bool:
        """No call and no unanswered REGISTER, BYE, CANCEL or refusal is left."""
        return not len(self.calls) and next(self.transactions.waiting(), None) is None

    def next_key(self) -> str:
        """The key of a call that the worker has not named."""
        self._incoming += 1
        return f"i{self._incoming}"

    # What legs need (Registry)

    def forget(self, leg: Leg, cause: EndCause) -> None:
        """The leg has ended."""
        self.calls.forget(leg, cause)

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
        response = self.ctx.response(
            transaction.request,
            code,
            to_tag=transaction.to_tag,
            extra=extra,
            content=content,
            reason=reason,
        )
        data = response.encode()
        transaction.respond(code, data)
        return data

    def sip_call_id(self, call: str) -> str:
        """The Call-ID of a call that has not ended.  Raises StackRefusal."""
        return self.calls.leg(call).call_id

    # Inside: commands

    def _command(self, now: float, action: Callable[[], None]) -> list[Output]:
        self.ctx.now = now
        action()
        return self._take_outputs()

    def _our_registration(self) -> Registration:
        if self._registration is None:
            raise StackRefusal("no_registrar", "the phone has no registrar")
        return self._registration

    def _take_outputs(self) -> list[Output]:
        outputs, self.ctx.outputs = self.ctx.outputs, []
        if self.ctx.changed:
            changed, self.ctx.changed = self.ctx.changed, {}
            outputs = guarded(outputs, changed, self._note_error)
        return self.aftermath.translate(outputs) if self.aftermath else outputs

    def _note_error(self) -> None:
        if isinstance(sys.exception(), MemoryError):
            raise  # the fault of no call, and the end of the process
        self.ctx.count("engine_error")
        self.last_error = traceback.format_exc()

    # Inside: datagrams

    def _receive(self, data: bytes, source: Hop) -> None:
        if not data.strip(b"\r\n\0\t "):
            self.ctx.count("sip_keepalive")  # RFC 5626 §3.5.1 and its relatives
            return
        try:
            message = parse(data)
            if self.ctx.transcripts:
                self.ctx.transcripts.received(message, self.ctx.now)
            if message.is_request:
                self._receive_request(message, source)
            else:
                self._receive_response(message, source)
        except Malformed as fault:
            self.ctx.count("sip_malformed")
            self._refuse_malformed(fault, source)

    def _receive_response(self, response: Message, source: Hop) -> None:
        # §8.1.3.3: a response with a second Via was not meant for us.
        if len(response.headers.values("Via")) != 1:
            raise Malformed("a response must have one Via")
        # Read here what the calls will read, so that a bad header changes nothing.
        via, method, _, _ = response.via, response.cseq.method, response.to, response.from_
        transaction = self.transactions.find_client(via.branch, method)
        if transaction is None or not self.ctx.is_ours(via):
            self.ctx.count("sip_unmatched")
            return
        transaction.receive(response, source)

    def _receive_request(self, request: Message, source: Hop) -> None:
        destination = reply_hop(request.via, source)
        method = request.method
        transaction = self.transactions.find_server(request, "INVITE" if method == "ACK" else "")
        if method == "ACK":
            self._receive_ack(request, source, transaction)
            return
        if transaction is not None:
            transaction.receive_again()
            return
        admission.check_form(request)
        # For the reply only: what identifies the transaction is the Via as it came.
        stamp_via(request, source)
        invite = self.transactions.find_server(request, "INVITE") if method == "CANCEL" else None
        transaction = self.transactions.accept(request, destination)
        transaction.to_tag = invite.to_tag if invite is not None else self.ctx.token()
        try:
            if method == "CANCEL":
                self._receive_cancel(transaction, invite)
            else:
                self._serve(transaction, source)
        except Malformed as fault:  # a header or body that is not read for every request
            self.ctx.count("sip_malformed")
            if transaction.unanswered:
                self.respond(transaction, fault.code)
        except Exception:
            self._note_error()
            if transaction.unanswered:
                self.respond(transaction, 500)

    def _receive_ack(
        self, ack: Message, source: Hop, transaction: ServerTransaction | None
    ) -> None:
        admission.check_form(ack)
        # The ACK to a 3xx-6xx belongs to the INVITE's transaction; the ACK to a 2xx to the call,
        # also if its sender, wrongly, used the INVITE's branch again.
        if isinstance(transaction, ServerInvite) and not transaction.accepted:
            transaction.acknowledge()
            return
        leg = self.calls.with_tag(ack.call_id, ack.to.tag)
        if leg is None:
            self.ctx.count("sip_unmatched")
            return
        leg.receive_ack(ack, source)

    def _receive_cancel(
        self, transaction: ServerTransaction, invite: ServerTransaction | None
    ) -> None:
        """§9.2.  Require is not looked at (§8.2.2.3)."""
        if invite is None:
            self.respond(transaction, 481)
            return
        cancel = transaction.request
        self.respond(transaction, 200)
        if invite.on_cancel is not None:  # else the final response was sent before
            invite.on_cancel(cancel)

    def _receive_cancelled(self, invite: Aged, cancel: Aged) -> None:
        """An INVITE that was cancelled before we have seen it: nobody is called."""
        request = parse(invite.data)
        try:
            admission.check_form(request)
            # The process before may have seen it, and rung.
            if self.transactions.find_server(request) is None:
                destination = reply_hop(request.via, invite.source)
                stamp_via(request, invite.source)
                transaction = self.transactions.accept(request, destination)
                transaction.to_tag = self.ctx.token()
                transaction.on_cancel = lambda cancel: self._refuse_cancelled(transaction)
        except Malformed:
            self._receive(invite.data, invite.source)  # it is refused for that
        self._receive(cancel.data, cancel.source)

    def _refuse_cancelled(self, transaction: ServerTransaction) -> None:
        transaction.on_cancel = None
        self.ctx.count("backlog_cancelled")
        self.respond(transaction, 487)

    def _serve(self, transaction: ServerTransaction, source: Hop) -> None:
        """Any new request but ACK and CANCEL."""
        request = transaction.request
        refusal = admission.inspect(request, self.ctx.config)
        if refusal is None and not request.to.tag and self.transactions.merged(transaction):
            refusal = admission.Refusal(482)
        if refusal is not None:
            self.respond(transaction, refusal.code, extra=refusal.extra)
        elif request.to.tag:
            leg = self.calls.with_tag(request.call_id, request.to.tag)
            if leg is None:
                self.respond(transaction, 481)
            else:
                leg.receive(transaction, source)
        elif request.method == "INVITE":
            self._receive_invite(transaction, source)
        elif request.method == "OPTIONS":
            self._receive_options(transaction)
        elif request.method == "MESSAGE":
            self.respond(transaction, 200)
        else:
            # BYE and the like without a To tag; REFER too: it is for whom we talk to, not for
            # strangers, to have us call somebody.
            self.respond(transaction, 481)

    def _receive_invite(self, transaction: ServerTransaction, source: Hop) -> None:
        request = transaction.request
        code, replaced = self.calls.replaced_by(request)
        if replaced is not None and replaced.key in self.aftermath:
            code = 603  # it is being ended
        if code:
            self.respond(transaction, code)
            return
        # Who takes the place of a call is not one more.
        refusal = self._unavailable(one_more=replaced is None)
        if refusal:
            self.respond(transaction, refusal)
            if refusal == 486:
                self.ctx.count("calls_refused_busy")
                self.ctx.emit(
                    TurnedAway(
                        cause="busy",
                        code=486,
                        sip_call_id=readable(request.call_id),
                        from_uri=readable(request.from_.uri),
                        source=source.address,
                    )
                )
            return
        try:
            offered = admission.read_offer(request, self.ctx.config.codecs)
        except sdp.SdpError:
            self.ctx.count("sip_malformed")
            self.respond(transaction, 400, reason="Unreadable Session Description")
            return
        except sdp.NotAcceptable:
            self.respond(transaction, 488)
            return
        leg = CalleeLeg(self, self.next_key(), transaction, offered, source, replaced)
        self.calls.add(leg)
        leg.start()

    def _receive_options(self, transaction: ServerTransaction) -> None:
        """§11.2: the code is what an INVITE would get now."""
        extra = (
            ("Contact", self.ctx.contact),
            ("Accept", ACCEPT),
            ("Allow-Events", EVENTS),
            *CAPABILITIES,
        )
        self.respond(transaction, self._unavailable() or 200, extra=extra)

    def _unavailable(self, *, one_more: bool = True) -> int:
        """The code of a refusal that a new call would get now; 0 if it would ring."""
        limit = self.ctx.config.max_calls if one_more else None
        if self._closed:
            return 480
        if self._draining or (self._refuses_calls and one_more):
            return 503
        calls = len(self.calls) - len(self.aftermath)
        return 486 if limit is not None and calls >= limit else 0

    def _refuse_malformed(self, fault: Malformed, source: Hop) -> None:
        """Answer a request that cannot be read, if it can be answered; forget it at once.

        Stateless (§8.2.7): a copy of the request gets a reply of its own.
        """
        request = fault.message
        if request is None or not admission.answerable(request):
            return
        destination = reply_hop(request.via, source)
        stamp_via(request, source)
        phrase = " ".join(str(fault).split()) if fault.code == 400 else ""
        response = self.ctx.response(
            request, fault.code, to_tag=self.ctx.token(), reason=phrase.capitalize()[:60]
        )
        self.ctx.send(response.encode(), destination)

    def _unreachable(self, data: bytes, destination: Hop, unresolved: bool) -> None:
        method, branch = _sent_request(data)
        transaction = self.transactions.find_client(branch, method)
        if transaction is not None and transaction.destination == destination:
            self.ctx.count("sip_unreachable")
            transaction.unresolved = unresolved
            transaction.unreachable()


if TYPE_CHECKING:
    _implements: type[Stack] = Engine  # the type checker compares every member


def _sent_request(data: bytes) -> tuple[str, str]:
    """Method and branch of a request of ours, of which perhaps only the beginning is left."""
    lines = data.decode("utf-8", "surrogateescape").split("\r\n")
    method = lines[0].partition(" ")[0]
    for line in lines[1:2]:  # we write Via first; a response of ours has no transaction to end
        name, _, value = line.partition(":")
        branch = value.partition(";branch=")[2].partition(";")[0]
        if name == "Via" and method != "SIP/2.0":
            return method, branch
    return method, ""
