"""What the parts of one user agent share: configuration, time, timers, outputs, identity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..stack import DEFAULT_PORT, Hop, Output, Send, StackConfig, Transport
from .message import Malformed, Message, Via
from .timers import Timer, Timers
from .transcript import Transcripts
from .uri import SipUri, bracket, quote

if TYPE_CHECKING:
    from .memory import Remembered

__all__ = ["ACCEPT", "ALLOW", "CAPABILITIES", "EVENTS", "SDP", "SUPPORTED", "Context"]

SDP = "application/sdp"
"""Content type of session descriptions."""
ALLOW = "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, PRACK, REFER, NOTIFY, INFO, MESSAGE"
SUPPORTED = "100rel, norefersub, replaces, timer"
"""Option tags of what we can do."""
ACCEPT = f"{SDP}, multipart/mixed, application/dtmf-relay, application/dtmf, message/sipfrag"
EVENTS = "refer"
"""Event packages that we know, each within a call only."""
CAPABILITIES = (("Allow", ALLOW), ("Supported", SUPPORTED))
"""Headers of every message that opens or changes a session (§13.2.1, §13.3.1.4)."""


class Context:
    """The surroundings of every transaction and call of one user agent.

    `now` is set by the engine before anything runs; what is to be sent or reported is collected
    in `outputs` in order.
    """

    def __init__(
        self, config: StackConfig, token: Callable[[], str], random: Callable[[], float]
    ) -> None:
        self.config = config
        self.token = token
        self.random = random
        """A number from 0 to 1, another one each time."""
        self.now = 0.0
        self.outputs: list[Output] = []
        self.changed: dict[str, tuple[Remembered, bool]] = {}
        """Whose records are to be written, by key, and whether its 2xx came just now."""
        self.transcripts = Transcripts()
        """The messages of calls for which somebody wants them."""
        self.timers = Timers()
        self.counters: Counter[str] = Counter()
        host = bracket(config.host)
        self._sent_by = f"{host}:{config.port}"
        self._us = config.host.lower(), config.port
        self.contact = self.contact_by(config.transport)
        """Value of our Contact header, where nothing asks for another transport."""
        display = f"{quote(config.display_name)} " if config.display_name else ""
        ours = SipUri(config.domain or config.host, config.user)
        self.identity = f"{display}<{config.registrar.aor if config.registrar else ours}>"
        """Value of our From header in a call of ours, without tag."""

    def emit(self, output: Output) -> None:
        """Report ``output`` to the worker."""
        self.outputs.append(output)

    def contact_by(self, transport: Transport) -> str:
        """Value of our Contact header for a peer that is to reach us by ``transport``."""
        params = {} if transport == "udp" else {"transport": transport}
        return f"<{SipUri(self.config.host, self.config.user, self.config.port, params)}>"

    def way(self, uri: SipUri, *, direct: bool = False) -> tuple[Hop, tuple[str, ...]]:
        """Next hop and Route headers of a request for ``uri`` outside of any dialog.

        The outbound proxy, if there is one; else for the domain that we are registered in the
        registrar's server, which need not be what the domain's name leads to; else, and with
        ``direct`` always, what ``uri`` says.  Raises UriError for a transport we don't have.
        """
        own = uri.hop(self.config.transport)
        if direct:
            return own, ()
        if self.config.proxy:
            proxy = SipUri.parse(f"sip:{self.config.proxy};lr")
            return proxy.hop(self.config.transport), (f"<{proxy}>",)
        registrar = self.config.registrar
        if registrar is not None and uri.host.lower() == SipUri.parse(registrar.aor).host.lower():
            server = SipUri.parse(f"sip:{registrar.server}").hop(own.transport)
            # With another port it is somebody else on the registrar's machine, such as a phone.
            if uri.port is None or uri.port == server.address[1]:
                return server, ()
        return own, ()

    def send(self, data: bytes, destination: Hop) -> None:
        """Put a message on the wire."""
        self.outputs.append(Send(data, destination))
        if self.transcripts:
            self.transcripts.sent(data, self.now)

    def touch(self, call: Remembered, *, answered_now: bool = False) -> None:
        """``call`` has changed; ``answered_now``: a 2xx to its INVITE came just now."""
        key = call.record_key
        self.changed[key] = call, answered_now or (key in self.changed and self.changed[key][1])

    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Run ``callback`` that much later."""
        return self.timers.start(self.now + seconds, callback)

    def count(self, name: str) -> None:
        """One more of ``name``."""
        self.counters[name] += 1

    def new_via(self, transport: Transport) -> str:
        """A Via of ours with a fresh branch; ``rport`` as RFC 3581 asks."""
        written = f"SIP/2.0/{transport.upper()} {self._sent_by}"
        return f"{written};branch=z9hG4bK{self.token()};rport"

    def is_ours(self, via: Via) -> bool:
        """Whether a response's top Via is one that we wrote (§18.1.2)."""
        # The default port means the same when it is left out, and some peers leave it out.
        return (via.host.lower(), via.port or DEFAULT_PORT) == self._us

    def request(
        self,
        method: str,
        uri: str,
        *,
        from_: str,
        to: str,
        call_id: str,
        cseq: int,
        transport: Transport | None = None,
        via: str = "",
        routes: tuple[str, ...] = (),
        extra: tuple[tuple[str, str], ...] = (),
        content: bytes = b"",
        content_type: str = SDP,
    ) -> Message:
        """A request of ours, by ``transport`` (None: the phone's own).

        ``via`` is given where a branch is used again (CANCEL).
        """
        headers = [
            ("Via", via or self.new_via(transport or self.config.transport)),
            *(("Route", route) for route in routes),
            ("Max-Forwards", "70"),
            ("From", from_),
            ("To", to),
            ("Call-ID", call_id),
            ("CSeq", f"{cseq} {method}"),
            ("User-Agent", self.config.user_agent),
            *extra,
        ]
        if content:
            headers.append(("Content-Type", content_type))
        return Message.request(method, uri, headers, content)

    def response(
        self,
        request: Message,
        code: int,
        *,
        to_tag: str = "",
        extra: tuple[tuple[str, str], ...] = (),
        content: bytes = b"",
        reason: str = "",
    ) -> Message:
        """A response to ``request`` (§8.2.6.2).

        ``to_tag`` goes into To unless the request has one there.  Works on a request whose
        headers cannot be read, as long as they are there.
        """
        fields = request.headers.fields
        to = request.headers.get("To")
        if to_tag and not _has_tag(request):
            to = f"{to};tag={to_tag}"
        headers = [("Via", via) for via in fields("Via")]
        if 100 < code < 300 and request.method == "INVITE":
            # §12.1.1: a response that makes a dialog carries the Record-Route of its request.
            headers += [("Record-Route", route) for route in fields("Record-Route")]
        headers += [
            ("From", request.headers.get("From")),
            ("To", to),
            ("Call-ID", request.call_id),
            ("CSeq", request.headers.get("CSeq")),
            ("User-Agent", self.config.user_agent),
            *extra,
        ]
        if content:
            headers.append(("Content-Type", SDP))
        return Message.response(code, headers, content, reason)


def _has_tag(request: Message) -> bool:
    try:
        return bool(request.to.tag)
    except Malformed:
        return False
