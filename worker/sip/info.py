"""Keys in INFO: ``application/dtmf-relay`` and ``application/dtmf`` (RFC 6086 calls it legacy)."""

from __future__ import annotations

import re

from ..stack import DtmfReceived
from .bodies import content_type
from .message import Message

__all__ = ["DTMF", "DTMF_RELAY", "Unreadable", "read_key"]

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
