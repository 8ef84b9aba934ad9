"""Keys in INFO: ``application/dtmf-relay`` and ``application/dtmf`` (RFC 6086 calls it legacy)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..stack import CommandEnded, DtmfReceived, StackRefusal
from .bodies import content_type
from .context import ACCEPT
from .dialog import Dialog
from .message import Message
from .transactions import ServerTransaction

if TYPE_CHECKING:
    from .leg import Leg, Registry

__all__ = ["DTMF", "DTMF_RELAY", "Infos", "Unreadable", "read_key"]

DTMF_RELAY = "application/dtmf-relay"
DTMF = "application/dtmf"

_SIGNAL = re.compile(r"^[ \t]*Signal[ \t]*=[ \t]*(\S+?)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_DURATION = re.compile(r"^[ \t]*Duration[ \t]*=[ \t]*(\d{1,6})", re.IGNORECASE | re.MULTILINE)
_KEYS = "0123456789*#ABCD"
# Some write the event's number (RFC 4733 §3.2).
_NUMBERS = {str(number): key for number, key in enumerate(_KEYS) if number > 9}


class Unreadable(ValueError):
    """No key is named."""


def read_key(call: str, info: Message) -> DtmfReceived | None:
    """The key in an INFO of these two types; None for what is no key (a hook flash).

    Raises Unreadable.
    """
    text = info.content.decode("ascii", "replace")
    signal = _SIGNAL.search(text)
    if signal is not None:
        named = signal[1]
    elif content_type(info.headers) == DTMF:
        named = text.strip()
    else:
        raise Unreadable("no Signal")
    if named in ("!", "16"):
        return None
    key = _NUMBERS.get(named, named).upper()
    if len(key) != 1 or key not in _KEYS:
        raise Unreadable("no such key")
    duration = _DURATION.search(text)
    return DtmfReceived(
        call=call, digit=key, duration_ms=int(duration[1]) if duration else 0, method="info"
    )


class Infos:
    """The INFOs of one call, either way."""

    def __init__(self, leg: Leg, registry: Registry) -> None:
        self._leg = leg
        self._registry = registry
        self._ctx = registry.ctx
        self._waiting: set[int] = set()
        """Commands that wait for a final response."""

    def send(self, command: int, content_type: str, content: bytes) -> None:
        """Send one.  Raises StackRefusal."""
        self._leg.require_confirmed()
        self._waiting.add(command)
        self._leg.ask(
            "INFO",
            lambda code, response: self._on_final(command, code),
            content=content,
            content_type=content_type,
        )

    def _on_final(self, command: int, code: int) -> None:
        self._waiting.discard(command)
        refusal = None
        if code >= 300:
            refusal = StackRefusal("rejected", f"the far end refused INFO: {code}")
        self._ctx.emit(CommandEnded(command, refusal))

    def stop(self) -> None:
        """The call is over."""
        for command in sorted(self._waiting):
            why = f"call {self._leg.key} has ended"
            self._ctx.emit(CommandEnded(command, StackRefusal("already_ended", why)))
        self._waiting.clear()

    def receive(self, transaction: ServerTransaction, dialog: Dialog) -> None:
        """One of the peer; without a body it asks whether we are there (RFC 2976)."""
        request = transaction.request
        if "Info-Package" in request.headers:
            extra = (("Recv-Info", ""),)
            self._registry.respond(transaction, 469, extra=extra, reason="Bad Info Package")
        elif not request.content:
            self._registry.respond(transaction, 200)
        elif content_type(request.headers) not in (DTMF_RELAY, DTMF):
            self._registry.respond(transaction, 415, extra=(("Accept", ACCEPT),))
        else:
            try:
                key = read_key(self._leg.key, request)
            except Unreadable:
                self._ctx.count("sip_malformed")
                self._registry.respond(transaction, 400)
                return
            self._registry.respond(transaction, 200)
            if key is not None:
                self._ctx.emit(key)
