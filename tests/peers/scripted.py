"""Small SIP parties that do everything right but for one thing: they test the scenario files.

They are written for a loopback link and for SIPp: no timer, no retransmission, one call each.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import socket
from dataclasses import dataclass, field, replace

__all__ = ["Callee", "Caller", "Member", "Received", "Silence", "described"]

_serial = itertools.count(1)

OFFER = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
OFFER += "m=audio 40000 RTP/AVP 0\r\n"


def described(direction: str, version: int = 1) -> str:
    """A session description with this direction, and this version in ``o=``."""
    return OFFER.replace("o=- 1 1", f"o=- 1 {version}") + f"a={direction}\r\n"


def spoiled(body: str, part: str) -> str:
    """The description with its direction or version wrong."""
    if part == "version":
        return re.sub(r"o=- 1 \d+", "o=- 1 9", body)
    return re.sub(r"a=(send|recv)\w+", "a=inactive", body) if part == "direction" else body


class Silence(Exception):
    """The other party did not send what was awaited."""


@dataclass(frozen=True)
class Request:
    """The parts of a request that the scenarios look at."""

    method: str
    uri: str
    branch: str
    from_tag: str
    to_tag: str | None
    cseq: int
    routes: tuple[str, ...] = ()
    body: str = ""
    extra: tuple[str, ...] = ()
    content_type: str = "application/sdp"


@dataclass(frozen=True)
class Received:
    """One message that came in."""

    text: str
    source: tuple[str, int]

    @property
    def start(self) -> str:
        words = self.text.split(maxsplit=2)
        return words[1] if words[0].startswith("SIP/") else words[0]

    def all(self, header: str) -> list[str]:
        return re.findall(rf"^{header}:[ \t]*(.*?)\r?$", self.text, re.MULTILINE | re.IGNORECASE)

    def find(self, pattern: str) -> str:
        found = re.search(pattern, self.text, re.MULTILINE)
        if found is None:
            raise AssertionError(f"no {pattern!r} in\n{self.text}")
        return found[1]


class _Party:
    """One UDP socket and a fault: (method or code, field) of the one thing to do wrong."""

    def __init__(self, address: str, fault: tuple[str, str] | None) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 0))
        # After a fault the other side may be silent, and that is right: if a message is missing.
        patience = 10 if fault is None else 2 if fault[1] == "once" else 5
        self._socket.settimeout(patience)
        self.address, self.port = self._socket.getsockname()
        self.fault = fault
        self.serial = next(_serial)
        self._tag = f"tag{self.serial}"

    def close(self) -> None:
        self._socket.close()

    def receive(self, *wanted: str) -> Received:
        """The next message that begins with one of these methods or codes; skips others."""
        while True:
            try:
                data, source = self._socket.recvfrom(65535)
            except TimeoutError:
                raise Silence(f"no {' or '.join(wanted)} from SIPp") from None
            message = Received(data.decode(), source)
            if message.start in wanted:
                return message

    def send(self, text: str, destination: tuple[str, int]) -> None:
        self._socket.sendto(text.encode(), destination)

    def respond(
        self,
        request: Received,
        code: int,
        *,
        answer: bool = False,
        extra: tuple[str, ...] = (),
        body: str = "",
        known_as: str = "",
    ) -> None:
        where = known_as or f"{code}"
        via, sender, to = (request.all(header)[0] for header in ("Via", "From", "To"))
        cseq = request.all("CSeq")[0]
        if self._is_faulty(where, "branch"):
            via += "x"
        if self._is_faulty(where, "from_tag"):
            sender += "x"
        if self._is_faulty(where, "cseq"):
            cseq = f"9{cseq}"
        if ";tag=" not in to and not self._is_faulty(where, "no_to_tag"):
            to += f";tag={'other' if self._is_faulty(where, 'to_tag') else self._tag}"
        if not body and answer and not self._is_faulty(where, "body"):
            body = OFFER
        if self.fault is not None and self.fault[0] == where:
            body = spoiled(body, self.fault[1])
        lines = [
            f"SIP/2.0 {code} Whatever",
            f"Via: {via}",
            f"From: {sender}",
            f"To: {to}",
            f"Call-ID: {request.all('Call-ID')[0]}",
            f"CSeq: {cseq}",
            *(header for header in extra if not self._is_faulty(where, header.partition(":")[0])),
        ]
        if not self._is_faulty(where, "contact"):
            lines.append(f"Contact: <sip:callee@{self.address}:{self.port}>")
        if body:
            lines.append("Content-Type: application/sdp")
        self.send("\r\n".join([*lines, f"Content-Length: {len(body)}", "", body]), request.source)

    def _is_faulty(self, where: str, what: str) -> bool:
        return self.fault == (where, what)


@dataclass
class _Leg:
    """One dialog of a caller: a forked call has two."""

    tag: str
    target: str
    routes: tuple[str, ...] = field(default=())


class Caller(_Party):
    """A caller; its faults are (method, field of Request)."""

    def __init__(
        self, address: str, target: tuple[str, int], fault: tuple[str, str] | None = None
    ) -> None:
        super().__init__(address, fault)
        self._destination = target
        self._call_id = f"{self.serial}@{address}"
        self._branches = itertools.count(1)
        self._invite = Request(
            method="INVITE",
            uri=f"sip:service@{target[0]}:{target[1]}",
            branch=self._branch(),
            from_tag=self._tag,
            to_tag=None,
            cseq=7,
            body=OFFER,
        )
        self._cseq = 7

    def _branch(self) -> str:
        return f"z9hG4bK{self.serial}x{next(self._branches)}"

    def invite(self, *extra: str, body: str = OFFER) -> None:
        self._invite = replace(self._invite, extra=extra, body=body)
        self._request(self._invite)

    def leg(self, response: Received) -> _Leg:
        """The dialog of a 2xx."""
        routes = tuple(reversed(response.all("Record-Route")))
        target = response.find(r"^Contact: *<([^>]+)>")
        return _Leg(response.find(r"^To:.*;tag=([^;\s]+)"), target, routes)

    def ack_2xx(self, leg: _Leg) -> None:
        self._in_dialog("ACK", leg, self._invite.cseq)

    def bye(self, leg: _Leg) -> None:
        self._cseq += 1
        self._in_dialog("BYE", leg, self._cseq)

    def leave_out(self, numbers: int) -> None:
        """Do not use so many CSeq numbers; but for a fault of ("BYE", "gap")."""
        if self.fault is None or self.fault[1] != "gap":
            self._cseq += numbers

    def _in_dialog(self, method: str, leg: _Leg, cseq: int) -> None:
        request = replace(
            self._invite,
            method=method,
            uri=leg.target,
            branch=self._branch(),
            to_tag=leg.tag,
            cseq=cseq,
            routes=leg.routes,
            body="",
            extra=(),
        )
        self._request(request)
        self._last = request

    def request(
        self,
        leg: _Leg,
        method: str,
        *extra: str,
        body: str = "",
        content_type: str = "application/sdp",
        known_as: str = "",
    ) -> Request:
        """Any request within a dialog but ACK; a fault names a header to leave out."""
        self._cseq += 1
        request = replace(
            self._invite,
            method=method,
            uri=leg.target,
            branch=self._branch(),
            to_tag=leg.tag,
            cseq=self._cseq,
            routes=leg.routes,
            body=body,
            extra=extra,
            content_type=content_type,
        )
        self._request(request, known_as)
        return request

    def ack(self, leg: _Leg, request: Request, *, known_as: str, refused: bool = False) -> None:
        """The ACK to the final response to a re-INVITE."""
        branch = request.branch if refused else self._branch()
        ack = replace(request, method="ACK", branch=branch, body="", extra=())
        self._request(ack, known_as)

    def repeat(self) -> None:
        """The last request within a dialog again, a copy of it.

        A fault of, say, ("BYE again", "branch") changes the copy.
        """
        self._request(self._last, f"{self._last.method} again")

    def ack_rejection(self, response: Received) -> None:
        tag = response.find(r"^To:.*;tag=([^;\s]+)")
        self._request(replace(self._invite, method="ACK", to_tag=tag, body="", extra=()))

    def cancel(self) -> None:
        self._request(replace(self._invite, method="CANCEL", body="", extra=()))

    def _request(self, request: Request, known_as: str = "") -> None:
        if self.fault is not None and self.fault[0] == (known_as or request.method):
            request = self._spoiled(request, self.fault[1])
        lines = [
            f"{request.method} {request.uri} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.address}:{self.port};branch={request.branch}",
            *(f"Route: {route}" for route in request.routes),
            "Max-Forwards: 70",
            f"From: <sip:caller@{self.address}>;tag={request.from_tag}",
            f"To: <{self._invite.uri}>" + (f";tag={request.to_tag}" if request.to_tag else ""),
            f"Call-ID: {self._call_id}",
            f"CSeq: {request.cseq} {request.method}",
            f"Contact: <sip:caller@{self.address}:{self.port}>",
            *request.extra,
            *([f"Content-Type: {request.content_type}"] if request.body else []),
            f"Content-Length: {len(request.body)}",
            "",
            request.body,
        ]
        if self.fault is not None and self.fault[0] == (known_as or request.method):
            lines = [line for line in lines if not line.startswith(f"{self.fault[1]}:")]
        self.send("\r\n".join(lines), self._destination)

    def _spoiled(self, request: Request, part: str) -> Request:
        """The request with one part wrong in the way that is easiest to get wrong."""
        wrong: dict[str, object] = {
            "uri": self._invite.uri if request.uri != self._invite.uri else "sip:wrong@127.0.0.1",
            "branch": (
                self._invite.branch if request.branch != self._invite.branch else self._branch()
            ),
            "from_tag": "other",
            "to_tag": "other",
            # Too low, where it must grow; another one, where it must be the same.
            "cseq": request.cseq + 1 if request.method in ("ACK", "CANCEL") else self._invite.cseq,
            "direction": spoiled(request.body, "direction"),
            "version": spoiled(request.body, "version"),
            "routes": tuple(reversed(request.routes)),
            "extra": (),
        }
        # What is in no header, such as a message too few, the party itself does wrong.
        name = "body" if part in ("direction", "version") else part
        return replace(request, **{name: wrong[part]}) if part in wrong else request  # type: ignore[arg-type]


class Member(Caller):
    """A caller with credentials, who also registers: alice, 1001 of lab.test."""

    def __init__(
        self, address: str, target: tuple[str, int], fault: tuple[str, str] | None = None
    ) -> None:
        super().__init__(address, target, fault)
        self._number = 0

    def _credentials(self, where: str, method: str, uri: str, nonce: str, nc: int) -> str:
        """An Authorization header; its faults are (where, field of it)."""
        if self._is_faulty(where, "nonce"):
            nonce += "x"
        count = f"{nc + self._is_faulty(where, 'nc'):08x}"
        password = "guessed" if self._is_faulty(where, "response") else "wonderland"
        secret, what = _md5(f"alice:lab.test:{password}"), _md5(f"{method}:{uri}")
        fields = {
            "username": '"alice"',
            "realm": '"lab.test"',
            "nonce": f'"{nonce}"',
            "uri": f'"{uri}"',
            "response": f'"{_md5(f"{secret}:{nonce}:{count}:c:auth:{what}")}"',
            "algorithm": "MD5",
            "opaque": '"a, b=c"',
            "qop": '"auth"' if self._is_faulty(where, "qop") else "auth",
            "nc": count,
            "cnonce": '"c"',
        }
        if self._is_faulty(where, "opaque"):
            del fields["opaque"]
        return "Authorization: Digest " + ", ".join(f"{k}={v}" for k, v in fields.items())

    def invite_again(self, nonce: str) -> None:
        """The INVITE once more, with credentials."""
        extra = self._credentials("INVITE again", "INVITE", self._invite.uri, nonce, 1)
        self._cseq += 1
        again = replace(self._invite, branch=self._branch(), cseq=self._cseq, extra=(extra,))
        self._request(again, "INVITE again")
        self._invite = again

    def ack_as_alice(self, leg: _Leg) -> None:
        """The ACK to a 2xx, with the credentials of its INVITE."""
        invite = self._invite
        ack = replace(invite, method="ACK", uri=leg.target, to_tag=leg.tag, body="")
        self._request(replace(ack, branch=self._branch()))

    def bye_as_alice(self, leg: _Leg, nonce: str, nc: int, where: str = "BYE") -> None:
        self._cseq += 1
        extra = self._credentials(where, "BYE", leg.target, nonce, nc)
        bye = replace(
            self._invite,
            method="BYE",
            uri=leg.target,
            branch=self._branch(),
            to_tag=leg.tag,
            cseq=self._cseq,
            body="",
            extra=(extra,),
        )
        self._request(bye, where)

    def register(self, where: str, expires: int, nonce: str = "", nc: int = 0) -> None:
        """One REGISTER; its faults are (where, field)."""

        def wrong(what: str) -> bool:
            return self._is_faulty(where, what)

        self._number += 2 if wrong("cseq") else 1
        uri = "sip:1001@lab.test" if wrong("uri") else "sip:lab.test"
        contact = f"<sip:1001@{self.address}:{self.port + wrong('contact')}>;expires={expires}"
        if not wrong("branch"):
            self._register_branch = self._branch()
        lines = [
            f"REGISTER {uri} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.address}:{self.port};branch={self._register_branch}",
            "Max-Forwards: 70",
            f"From: <sip:1001@lab.test>;tag={'other' if wrong('from_tag') else self._tag}",
            "To: <sip:1001@lab.test>",
            f"Call-ID: {self._call_id}",
            f"CSeq: {self._number} REGISTER",
            "Contact: *" if wrong("star") else f"Contact: {contact}",
            f"Expires: {expires}",
        ]
        if nonce:
            lines.append(self._credentials(where, "REGISTER", uri, nonce, nc))
        self.send("\r\n".join([*lines, "Content-Length: 0", "", ""]), self._destination)


def _md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


class Callee(_Party):
    """A callee; its faults are (code or method, field)."""

    def __init__(self, address: str, fault: tuple[str, str] | None = None) -> None:
        super().__init__(address, fault)
        self._numbers = itertools.count(1)
        self.invite: Received
        """The INVITE of the call that was answered."""

    def bye(self, invite: Received) -> None:
        self.request(invite, "BYE")

    def leave_out(self, numbers: int) -> None:
        """Do not use so many CSeq numbers; but for a fault of ("BYE", "gap")."""
        if not self._is_faulty("BYE", "gap"):
            self._numbers = itertools.count(1 + numbers)

    def request(
        self,
        invite: Received,
        method: str,
        *extra: str,
        body: str = "",
        content_type: str = "application/sdp",
        known_as: str = "",
    ) -> None:
        """A request within the dialog of that INVITE; a fault names a header to leave out."""
        where = known_as or method
        number = next(self._numbers)
        uri = invite.find(r"^Contact: *<([^>]+)>")
        own = self._tag
        caller = invite.all("From")[0]
        if self._is_faulty(where, "uri"):
            uri = "sip:wrong@127.0.0.1"
        if self._is_faulty(where, "from_tag"):
            own = "other"
        if self._is_faulty(where, "to_tag"):
            caller += "x"
        lines = [
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.address}:{self.port};branch=z9hG4bK{self.serial}x{number}",
            "Max-Forwards: 70",
            f"From: {invite.all('To')[0]};tag={own}",
            f"To: {caller}",
            f"Call-ID: {invite.all('Call-ID')[0]}",
            f"CSeq: {number} {method}",
            f"Contact: <sip:callee@{self.address}:{self.port}>",
            *extra,
            *([f"Content-Type: {content_type}"] if body else []),
        ]
        if self.fault is not None and self.fault[0] == where:
            lines = [line for line in lines if not line.startswith(f"{self.fault[1]}:")]
        lines += [f"Content-Length: {len(body)}", "", body]
        self.send("\r\n".join(lines), invite.source)
