"""pyVoIP's message data model without pyVoIP's parsing of the head."""

from __future__ import annotations

from typing import Any

from ._names import SIPMessage, SIPMessageType, SIPStatus

__all__ = ["MessageModel", "phrase", "status"]

_BY_CODE: dict[int, SIPStatus] = {int(member.value): member for member in SIPStatus}


def status(code: int) -> SIPStatus:
    """The pyVoIP status of ``code``; an unknown code counts as x00 of its class (§8.1.3.2)."""
    known = _BY_CODE.get(code)
    # 1xx is the exception: an unknown one is 183, not 100 (RFC 3261 §8.1.3.2).
    return known or _BY_CODE.get(183 if code < 200 else code // 100 * 100, SIPStatus.BAD_REQUEST)


def phrase(code: int) -> str:
    """The reason phrase to write behind ``code``."""
    return str(status(code).phrase)


class MessageModel(SIPMessage):
    """The attributes of ``pyVoIP.SIP.SIPMessage``, filled in by our own front end.

    ``heading``, ``version``, ``type``, ``method`` (requests; empty for responses), ``status``
    (responses only), ``headers``, ``body`` and ``raw`` mean what they mean in pyVoIP, so that its
    ``summary()`` works.  pyVoIP's constructor is not called: it parses the head, and wrongly so
    (no compact names, no folding, Content-Length ignored), and compiles a regular expression per
    message.
    """

    def __init__(self, heading: str, *, method: str = "", code: int = 0) -> None:
        self.heading = heading.encode("utf-8", "surrogateescape")
        self.version = "SIP/2.0"
        self.method = method
        self.body: dict[str, Any] = {}
        self.raw = b""
        if method:
            self.type = SIPMessageType.MESSAGE
        else:
            self.type = SIPMessageType.RESPONSE
            self.status = status(code)
