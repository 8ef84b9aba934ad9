"""Transfers: REFER and what is told about them (RFC 3515), in the dialog of a call.

Transferor: `Transfer` sends REFER and waits for the NOTIFYs of the subscription that it implies.
The far end has reached the target when one of them has a 2xx in it; then the call ends.
Transferee: `Referral` is the other end, it tells what becomes of the call that was asked for.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..pyvoip import phrase
from ..stack import CallWanted, CommandEnded, StackRefusal, TransferFailed, Transferred
from .context import CAPABILITIES
from .dialog import Dialog
from .message import Malformed, Message, readable
from .timers import Timer
from .transactions import ServerTransaction
from .uri import NameAddr, SipUri, UriError

if TYPE_CHECKING:
    from .authentication import Attempt
    from .leg import Leg, Registry

__all__ = ["Referral", "Refers"]

_PATIENCE = 180
"""Seconds after which a transfer that nothing is told about has failed: proxies give up then."""
_FRAGMENT = "message/sipfrag;version=2.0"
_STATUS = re.compile(rb"\s*SIP/2\.0[ \t]+([1-6]\d\d)(?:[ \t]+([^\r\n]*))?", re.IGNORECASE)


def _status(content: bytes) -> tuple[int, str] | None:
    """Code and phrase of the status line in a ``message/sipfrag`` body."""
    match = _STATUS.match(content)
    if match is None:
        return None
    return int(match[1]), (match[2] or b"").decode("utf-8", "replace").strip()


class Refers:
    """The transfers of one call, either way; one at a time each way."""

    def __init__(self, leg: Leg, registry: Registry) -> None:
        self._leg = leg
        self._registry = registry
        self._ctx = registry.ctx
        self._transfer: Transfer | None = None
        self._was_transfer = False
        """There was one: late news of it are no surprise."""
        self._referrals = 0
        self.referral: Referral | None = None

    # Ours

    def transfer(
        self, command: int, target: str, refer_to: str, consult: Leg | None = None
    ) -> None:
        """Send REFER.  Raises StackRefusal."""
        if self._transfer is not None:
            raise StackRefusal("transfer_pending", f"call {self._leg.key} is being transferred")
        self._was_transfer = True
        self._transfer = Transfer(command, target, consult)
        dialog = self._leg.dialog
        assert dialog is not None
        by = NameAddr.parse(dialog.local).uri
        extra = (
            ("Contact", self._ctx.contact_by(dialog.next_hop().transport)),
            ("Refer-To", f"<{refer_to}>"),
            ("Referred-By", f"<{by}>"),
            *CAPABILITIES,
        )
        self._transfer.sent = self._leg.ask("REFER", self._on_final, extra=extra)

    def _on_final(self, code: int, response: Message | None) -> None:
        transfer = self._transfer
        if transfer is None:
            return
        if code >= 300:
            self._fail(code, readable(response.reason) if response is not None else phrase(code))
            return
        transfer.limit = self._ctx.after(_PATIENCE, lambda: self._fail(None, "nothing was told"))
        if transfer.consult is not None:
            transfer.consult.given_away = True

    def receive_notify(self, transaction: ServerTransaction, dialog: Dialog) -> None:
        """News of our transfer."""
        request = transaction.request
        event, _, params = request.headers.get("Event").partition(";")
        if event.strip().lower() != "refer" or not self._was_transfer:
            self._registry.respond(transaction, 481)  # RFC 6665 §4.1.3: no such subscription
            return
        self._registry.respond(transaction, 200)
        transfer = self._transfer
        told = re.search(r"(?:^|;)\s*id\s*=\s*(\d+)", params)
        if transfer is None or (told is not None and int(told[1]) != transfer.cseq):
            return
        over = request.headers.get("Subscription-State").strip().lower().startswith("terminated")
        status = _status(request.content)
        if status is not None and 200 <= status[0] < 300:
            self._succeed()
        elif status is not None and status[0] >= 300:
            self._fail(status[0], readable(status[1]))
        elif over:
            self._fail(None, "its end was not told")

    def _succeed(self) -> None:
        transfer = self._take()
        self._ctx.emit(Transferred(call=self._leg.key, target=transfer.target))
        self._ctx.emit(CommandEnded(transfer.command))
        self._leg.give_away()

    def _fail(self, code: int | None, reason: str) -> None:
        transfer = self._take()
        if transfer.consult is not None:
            transfer.consult.given_away = False
        self._ctx.emit(
            TransferFailed(call=self._leg.key, target=transfer.target, code=code, reason=reason)
        )
        why = f"the far end did not reach {transfer.target}: {code or ''} {reason}"
        self._ctx.emit(
            CommandEnded(transfer.command, StackRefusal("transfer_failed", " ".join(why.split())))
        )

    def _take(self) -> Transfer:
        transfer, self._transfer = self._transfer, None
        assert transfer is not None
        if transfer.limit is not None:
            transfer.limit.cancel()
        return transfer

    # The peer's

    def receive_refer(self, transaction: ServerTransaction, dialog: Dialog) -> None:
        """We are to call somebody (§2.4.2)."""
        request = transaction.request
        if not self._leg.confirmed or self.referral is not None:
            self._registry.respond(transaction, 491)
            return
        code, target = _refer_to(request)
        if code:
            self._registry.respond(transaction, code)
            return
        by = NameAddr.parse(dialog.remote).uri
        if "Referred-By" in request.headers:
            try:
                by = NameAddr.parse(request.headers["Referred-By"]).uri
            except UriError as error:
                raise Malformed(f"unreadable Referred-By: {error}", request) from None
        self._referrals += 1
        silent = request.headers.get("Refer-Sub").partition(";")[0].strip().lower() == "false"
        # The id may be left out of the first one only (§2.4.6), and some peers don't expect it.
        event = "refer" if self._referrals == 1 else f"refer;id={request.cseq.number}"
        contact = ("Contact", self._ctx.contact_by(transaction.destination.transport))
        extra = (contact, ("Refer-Sub", "false")) if silent else (contact,)  # RFC 4488
        self._registry.respond(transaction, 202, extra=extra)
        self.referral = Referral(self, self._leg, event, by, silent=silent)
        self.referral.tell(100)
        self._ctx.emit(CallWanted(call=self._leg.key, target=readable(target), by=readable(by)))

    def failed(self, code: int) -> None:
        """The call that the peer asked for can't be placed.  Raises StackRefusal."""
        if self.referral is None:
            raise StackRefusal("not_referred", f"call {self._leg.key} was asked for nothing")
        self.referral.tell(code)

    def contact(self) -> tuple[str, str]:
        """Our Contact, for a request in the dialog."""
        assert self._leg.dialog is not None
        return "Contact", self._ctx.contact_by(self._leg.dialog.next_hop().transport)

    def stop(self) -> None:
        """The call is over."""
        if self._transfer is not None:
            self._fail(None, "the call ended before its end was told")
        self.referral = None


@dataclass(slots=True)
class Transfer:
    """One REFER of ours."""

    command: int
    target: str
    consult: Leg | None
    """The call whose far end is to be reached."""
    sent: Attempt | None = None
    limit: Timer | None = None

    @property
    def cseq(self) -> int:
        """Of the REFER as it was sent last: the ``id`` of its subscription."""
        return self.sent.request.cseq.number if self.sent is not None else 0


class Referral:
    """One REFER of the peer, and what it is told: one NOTIFY after the other."""

    def __init__(self, refers: Refers, leg: Leg, event: str, by: str, *, silent: bool) -> None:
        self.by = by
        """URI of who asked."""
        self._refers = refers
        self._leg = leg
        self._event = event
        self._silent = silent
        self._over = False
        self._busy = False
        self._news: deque[tuple[int, str]] = deque()

    def tell(self, code: int, reason: str = "") -> None:
        """The call that was asked for got this response; a final one is the last news."""
        if self._over:
            return
        self._over = code >= 200
        if self._over and self._refers.referral is self:
            self._refers.referral = None
        if not self._silent:
            self._news.append((code, reason or phrase(code)))
            self._send()

    def _send(self) -> None:
        # RFC 6665 §4.2.2: the next one when the one before is answered, or they come in disorder.
        if self._busy or not self._news or not self._leg.confirmed:
            return
        code, reason = self._news.popleft()
        self._busy = True
        state = "terminated;reason=noresource" if code >= 200 else f"active;expires={_PATIENCE}"
        extra = (
            self._refers.contact(),
            ("Event", self._event),
            ("Subscription-State", state),
            *CAPABILITIES,
        )
        content = f"SIP/2.0 {code} {reason}\r\n".encode("utf-8", "surrogateescape")
        self._leg.ask(
            "NOTIFY",
            self._on_final,
            extra=extra,
            content=content,
            content_type=_FRAGMENT,
            usage=True,
        )

    def _on_final(self, code: int, response: Message | None) -> None:
        self._busy = False
        if code in (408, 481):  # nobody listens any more
            self._news.clear()
            self._silent = True
        self._send()


def _refer_to(request: Message) -> tuple[int, str]:
    """The code of a refusal or 0, and the URI that is to be called."""
    values = request.headers.values("Refer-To")
    if len(values) != 1:
        return 400, ""  # §2.4.1
    try:
        uri = SipUri.parse(NameAddr.parse(values[0]).uri)
    except UriError:
        return 400, ""
    method = uri.params.get("method") or "INVITE"
    if method.upper() != "INVITE":
        return 501, ""
    params = {key: value for key, value in uri.params.items() if key != "method"}
    return 0, str(SipUri(uri.host, uri.user, uri.port, params, uri.headers, uri.scheme))
