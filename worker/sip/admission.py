"""The checks a request passes before anything is done with it (RFC 3261 §8.2, §16.3).

Two steps.  `check_form` asks whether the headers that every request must have can be read; what
fails is answered 400.  `inspect` asks, in the order of §8.2, whether we can serve it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..stack import StackConfig
from . import sdp
from .context import ACCEPT, ALLOW
from .message import Malformed, Message
from .uri import SipUri, UriError

__all__ = ["METHODS", "Refusal", "answerable", "check_form", "inspect", "read_offer"]

METHODS = frozenset(ALLOW.split(", "))
_SINGLE = ("From", "To", "Call-ID", "CSeq")
_AT_MOST_ONCE = ("Max-Forwards", "Content-Length", "Content-Type", "Expires")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A final response other than 2xx."""

    code: int
    extra: tuple[tuple[str, str], ...] = ()


def answerable(request: Message | None) -> bool:
    """Whether enough of a malformed request is there to send a response to it (§8.2.6.2)."""
    if request is None or not request.is_request or request.method == "ACK":
        return False
    try:
        request.via  # noqa: B018  # read for its exception
    except Malformed:
        return False
    return all(request.headers.get(name) for name in _SINGLE)


def check_form(request: Message) -> None:
    """Read what every request must have (§8.1.1).  Raises Malformed."""
    headers = request.headers
    for name in _SINGLE:
        if len(headers.fields(name)) != 1 or not headers[name]:
            raise Malformed(f"{name} must be there once", request)
    for name in _AT_MOST_ONCE:
        if len(headers.fields(name)) > 1:
            raise Malformed(f"more than one {name}", request)
    if request.cseq.method != request.method:
        raise Malformed("the method of CSeq is not that of the request", request)
    if not request.from_.uri or not request.to.uri:
        raise Malformed("From or To without a URI", request)
    hops = headers.get("Max-Forwards", "70")
    # 0 is fine: the request is for us, and goes no further (§16.3 concerns proxies).
    if not hops.isascii() or not hops.isdigit() or int(hops[:9]) > 255:
        raise Malformed("unreadable Max-Forwards", request)
    if request.uri.lower().startswith(("sip:", "sips:")):
        try:
            SipUri.parse(request.uri)
        except UriError as error:
            raise Malformed(f"unreadable request URI: {error}", request) from None
    elif ":" not in request.uri or any(char in ' <>"\t' for char in request.uri):
        raise Malformed("unreadable request URI", request)
    if request.method == "INVITE":
        _check_contact(request)


def _check_contact(request: Message) -> None:
    """§8.1.1.8: an INVITE has exactly one Contact, a SIP URI."""
    contact = request.contact
    if contact is None:
        raise Malformed("INVITE without Contact", request)
    try:
        SipUri.parse(contact.uri)
    except UriError as error:
        raise Malformed(f"unreadable Contact: {error}", request) from None


def inspect(request: Message, config: StackConfig) -> Refusal | None:
    """Whether a request of good form can be served; None if it can."""
    in_dialog = bool(request.to.tag)
    if request.method not in METHODS and not in_dialog:
        return Refusal(405, (("Allow", ALLOW),))  # §8.2.1
    if not in_dialog:
        scheme = request.uri.partition(":")[0].lower()
        if scheme not in ("sip", "sips"):
            return Refusal(416)  # §8.2.2.1
        if config.match_user and SipUri.parse(request.uri).user_name != config.user:
            return Refusal(404)
    required = request.headers.values("Require")
    if required:
        # §8.2.2.3; we support no option tag at all.  ACK and CANCEL never come here.
        return Refusal(420, (("Unsupported", ", ".join(required)),))
    if request.content and request.method == "INVITE":
        return _inspect_content(request)
    return None


def _inspect_content(request: Message) -> Refusal | None:
    headers = request.headers
    kind = headers.get("Content-Type").partition(";")[0].strip().lower()
    encoding = headers.get("Content-Encoding").strip().lower()
    if kind == ACCEPT and encoding in ("", "identity"):
        return None
    # §20.15: a body that is no session may say that it can be ignored.
    if "handling=optional" in headers.get("Content-Disposition").replace(" ", "").lower():
        return None
    extra = (("Accept", ACCEPT), ("Accept-Encoding", "identity"))
    return Refusal(415, extra)  # §8.2.3


def read_offer(request: Message) -> sdp.Description | None:
    """The offer in an INVITE, or None for a late one.  Raises SdpError and NotAcceptable."""
    kind = request.headers.get("Content-Type").partition(";")[0].strip().lower()
    if not request.content or kind != ACCEPT:
        return None
    offered = sdp.parse(request.content)
    if offered.audio is None:
        raise sdp.NotAcceptable("no stream of the offer can be used")
    return offered
