"""The checks a request passes before anything is done with it (RFC 3261 §8.2, §16.3).

Two steps.  `check_form` asks whether the headers that every request must have can be read; what
fails is answered 400.  `inspect` asks, in the order of §8.2, whether we can serve it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..stack import StackConfig
from . import sdp
from .bodies import Unsupported, session_description
from .context import ACCEPT, ALLOW, SDP, SUPPORTED
from .message import Malformed, Message
from .session_timer import MIN_SE, is_too_short
from .transactions import COOKIE
from .uri import SipUri, UriError

__all__ = ["METHODS", "Refusal", "answerable", "check_form", "inspect", "read_offer"]

METHODS = frozenset(ALLOW.split(", "))
_SUPPORTED = frozenset(SUPPORTED.split(", "))
_OFFERING = ("INVITE", "UPDATE", "PRACK")
"""Methods that may carry an offer."""
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
            uri = SipUri.parse(request.uri)
        except UriError as error:
            raise Malformed(f"unreadable request URI: {error}", request) from None
        if uri.headers:
            raise Malformed("headers in the request URI", request)  # §19.1.1
    elif ":" not in request.uri or any(char in ' <>"\t' for char in request.uri):
        raise Malformed("unreadable request URI", request)
    if request.method == "INVITE" or (request.method == "UPDATE" and "Contact" in headers):
        _check_contact(request)


def _check_contact(request: Message) -> None:
    """§8.1.1.8: what makes or refreshes a dialog has exactly one Contact, a SIP URI."""
    contact = request.contact
    if contact is None:
        if request.via.branch.startswith(COOKIE):
            raise Malformed("INVITE without Contact", request)
        return  # RFC 2543 did not ask for one
    written = request.headers.values("Contact")[0]
    if "<" not in written and "?" in written:
        raise Malformed("a Contact with headers but without angle brackets", request)  # §20.10
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
    # §8.2.2.3.  ACK and CANCEL never come here.
    unknown = [tag for tag in request.headers.values("Require") if tag.lower() not in _SUPPORTED]
    if unknown:
        return Refusal(420, (("Unsupported", ", ".join(unknown)),))
    if request.method in _OFFERING:
        if is_too_short(request):
            return Refusal(422, (("Min-SE", str(MIN_SE)),))
        if request.method == "INVITE" and not _accepts_sdp(request):
            return Refusal(406)
        try:
            session_description(request)
        except Unsupported:
            extra = (("Accept", ACCEPT), ("Accept-Encoding", "identity"))
            return Refusal(415, extra)  # §8.2.3
    return None


def _accepts_sdp(invite: Message) -> bool:
    """Whether the caller will read our description (§20.1); empty says no more than absent."""
    ranges = {value.partition(";")[0].strip().lower() for value in invite.headers.values("Accept")}
    return not ranges or not ranges.isdisjoint((SDP, "application/*", "*/*"))


def read_offer(request: Message, codecs: tuple[str, ...]) -> sdp.Description | None:
    """The offer in a request, or None for a late one.  Raises SdpError and NotAcceptable."""
    content = session_description(request)
    if content is None:
        return None
    offered = sdp.parse(content).limited_to(codecs)
    if offered.audio is None:
        raise sdp.NotAcceptable("no stream of the offer can be used")
    return offered
