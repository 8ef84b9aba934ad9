"""SIP messages: our front end over pyVoIP's data model (RFC 3261 §7).

`parse` reads a datagram, `Message.encode` writes one.  Headers keep their order; names are
case-insensitive and may be compact; folded lines are joined; Content-Length is honoured; bare LF
line ends are tolerated.  What a header means is read only when somebody asks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TypeVar

from ..pyvoip import MessageModel, phrase
from .uri import (
    NameAddr,
    UriError,
    bracket,
    format_params,
    parse_host_port,
    parse_params,
    split_commas,
)

__all__ = [
    "MAX_BODY",
    "CSeq",
    "Headers",
    "Malformed",
    "Message",
    "Via",
    "as_sent",
    "parse",
    "read_headers",
    "readable",
]

_T = TypeVar("_T")

MAX_BODY = 32768
"""Bytes of the longest body that is read: a session description has a few hundred."""

_COMPACT = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}
_TOKEN = re.compile(r"[A-Za-z0-9.!%*_+`'~-]+")
_VIA = re.compile(
    r"SIP\s*/\s*2\.0\s*/\s*(?P<transport>[A-Za-z0-9.!%*_+`'~-]+)\s+(?P<by>[^;]+)(?P<params>;.*)?",
    re.IGNORECASE | re.DOTALL,
)
_CSEQ = re.compile(r"(?P<number>\d{1,10})\s+(?P<method>[A-Za-z0-9.!%*_+`'~-]+)")


class Malformed(Exception):
    """The bytes are not a SIP message, or a header of it cannot be read.

    ``code`` is what a request deserves; ``message`` is what could be read of it, if anything.
    """

    def __init__(self, why: str, message: Message | None = None, *, code: int = 400) -> None:
        super().__init__(why)
        self.message = message
        self.code = code


def readable(text: str) -> str:
    """``text`` off the wire for people and JSON: bytes that were no UTF-8 become U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


@lru_cache(maxsize=512)  # asked a hundred times per call, for a few dozen names
def _key(name: str) -> str:
    key = name.lower()
    return _COMPACT.get(key, key)


class Headers:
    """Header fields in order, looked up by any spelling of their name."""

    __slots__ = ("_index", "_items")

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._items = list(items)
        self._index: dict[str, list[str]] | None = None  # made when first asked for

    def _indexed(self) -> dict[str, list[str]]:
        if self._index is None:
            self._index = {}
            for name, value in self._items:
                self._index.setdefault(_key(name), []).append(value)
        return self._index

    def add(self, name: str, value: str) -> None:
        """Append one field."""
        self._items.append((name, value))
        self._index = None

    def replace_first(self, name: str, value: str) -> None:
        """Put ``value`` in place of the first field called ``name``, which must be there."""
        key = _key(name)
        at = next(i for i, (written, _) in enumerate(self._items) if _key(written) == key)
        self._items[at] = (self._items[at][0], value)
        self._index = None

    def items(self) -> list[tuple[str, str]]:
        """All fields as they were written, in order."""
        return self._items

    def get(self, name: str, default: str = "") -> str:
        """The first field called ``name``."""
        values = self._indexed().get(_key(name))
        return values[0] if values else default

    def fields(self, name: str) -> list[str]:
        """Every field called ``name``, one string per line."""
        return self._indexed().get(_key(name), [])

    def values(self, name: str) -> list[str]:
        """Every element of every field called ``name``, comma-joined lists taken apart."""
        return [value for line in self.fields(name) for value in split_commas(line)]

    def __getitem__(self, name: str) -> str:
        return self._indexed()[_key(name)][0]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _key(name) in self._indexed()

    def __iter__(self) -> Iterator[str]:
        return iter(self._indexed())

    def __len__(self) -> int:
        return len(self._items)


@dataclass(frozen=True, slots=True)
class Via:
    """One Via element (§20.42)."""

    transport: str
    host: str
    port: int | None
    params: dict[str, str | None] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Via:
        """Raises UriError."""
        match = _VIA.fullmatch(text.strip())
        if match is None:
            raise UriError(f"not a Via: {text!r}")
        host, port = parse_host_port(match["by"])
        params = match["params"]
        return cls(match["transport"].upper(), host, port, parse_params(params) if params else {})

    @property
    def branch(self) -> str:
        """The branch parameter; empty where there is none (RFC 2543)."""
        return self.params.get("branch") or ""

    @property
    def sent_by(self) -> str:
        """``host[:port]``, lower case: part of what identifies a transaction (§17.2.3)."""
        host = bracket(self.host.lower())
        return host if self.port is None else f"{host}:{self.port}"

    def __str__(self) -> str:
        by = bracket(self.host) if self.port is None else f"{bracket(self.host)}:{self.port}"
        return f"SIP/2.0/{self.transport} {by}{format_params(self.params)}"


@dataclass(frozen=True, slots=True)
class CSeq:
    """The CSeq header."""

    number: int
    method: str


class Message(MessageModel):
    """One SIP request or response."""

    headers: Headers  # type: ignore[assignment]  # pyVoIP: a dict that loses order and repeats
    uri: str
    """Request URI as written; empty for a response."""
    code: int
    """Status code; 0 for a request."""
    reason: str
    content: bytes
    """The body, cut to its Content-Length."""

    def __init__(
        self,
        headers: Headers,
        *,
        method: str = "",
        uri: str = "",
        code: int = 0,
        reason: str = "",
        content: bytes = b"",
    ) -> None:
        heading = f"{method} {uri} SIP/2.0" if method else f"SIP/2.0 {code:d} {reason}"
        super().__init__(heading, method=method, code=code)
        self.headers = headers
        self.uri = uri
        self.code = code
        self.reason = reason
        self.content = content

    @classmethod
    def request(
        cls, method: str, uri: str, headers: list[tuple[str, str]], content: bytes = b""
    ) -> Message:
        """A request of ours."""
        return cls(Headers(headers), method=method, uri=uri, content=content)

    @classmethod
    def response(
        cls, code: int, headers: list[tuple[str, str]], content: bytes = b"", reason: str = ""
    ) -> Message:
        """A response of ours; ``reason`` defaults to the usual phrase."""
        return cls(Headers(headers), code=code, reason=reason or phrase(code), content=content)

    def encode(self) -> bytes:
        """The datagram.  Content-Length is written last, and always."""
        lines = [f"{name}: {value}\r\n" for name, value in self.headers.items()]
        head = f"{''.join(lines)}Content-Length: {len(self.content)}\r\n\r\n"
        return b"%b\r\n%b%b" % (self.heading, head.encode("utf-8", "surrogateescape"), self.content)

    @property
    def is_request(self) -> bool:
        """Whether it is a request."""
        return bool(self.method)

    @property
    def call_id(self) -> str:
        """The Call-ID; empty where it is missing."""
        return self.headers.get("Call-ID")

    @cached_property
    def via(self) -> Via:
        """The topmost Via.  Raises Malformed."""
        values = self.headers.values("Via")
        if not values:
            raise Malformed("no Via", self)
        return self._read(Via.parse, values[0], "Via")

    @cached_property
    def from_(self) -> NameAddr:
        """The From header.  Raises Malformed."""
        return self._read(NameAddr.parse, self.headers.get("From"), "From")

    @cached_property
    def to(self) -> NameAddr:
        """The To header.  Raises Malformed."""
        return self._read(NameAddr.parse, self.headers.get("To"), "To")

    @cached_property
    def cseq(self) -> CSeq:
        """The CSeq header.  Raises Malformed."""
        match = _CSEQ.fullmatch(self.headers.get("CSeq").strip())
        # §8.1.1.5: less than 2**31.
        if match is None or int(match["number"]) >= 2**31:
            raise Malformed("unreadable CSeq", self)
        return CSeq(int(match["number"]), match["method"])

    @cached_property
    def contact(self) -> NameAddr | None:
        """The first Contact, or None.  Raises Malformed."""
        values = self.headers.values("Contact")
        return self._read(NameAddr.parse, values[0], "Contact") if values else None

    def _read(self, parser: Callable[[str], _T], text: str, name: str) -> _T:
        try:
            return parser(text)
        except UriError as error:
            raise Malformed(f"unreadable {name}: {error}", self) from None


def parse(data: bytes) -> Message:
    """Read one datagram.

    Raises Malformed; its ``message`` is set where enough was read to answer a request.
    """
    data = data.lstrip(b"\r\n")  # §7.5: empty lines before the start line are ignored
    head, content, complete = _split_head(data)
    lines = head.decode("utf-8", "surrogateescape").split("\n")
    start = lines[0].removesuffix("\r")
    message = _parse_start_line(start.rstrip())
    message.raw = data
    fault = _parse_header_lines(lines, message.headers)
    if message.is_request and start[-1:].isspace():
        fault = fault or "white space after the SIP version"
    if fault:
        raise Malformed(fault, message)
    if not complete:
        raise Malformed("the header section does not end", message)
    if message.version.upper() != "SIP/2.0":
        raise Malformed(f"version {message.version}", message, code=505)
    message.content = _cut(content, message)
    return message


def as_sent(data: bytes) -> Message:
    """A request of ours again, from its datagram.  Raises Malformed."""
    message = parse(data)
    headers = [item for item in message.headers.items() if _key(item[0]) != "content-length"]
    return Message.request(message.method, message.uri, headers, message.content)


def read_headers(data: bytes) -> tuple[Headers, bytes]:
    """Headers and body of one part of a multipart body; what is no header is passed over."""
    headers = Headers()
    if not data.startswith((b"\r\n", b"\n")):  # it may have no headers at all (RFC 2046 §5.1)
        head, data, _ = _split_head(data)
        _parse_header_lines(["", *head.decode("utf-8", "surrogateescape").split("\n")], headers)
        return headers, data
    return headers, data.partition(b"\n")[2]


def _split_head(data: bytes) -> tuple[bytes, bytes, bool]:
    """Head, body, and whether there is an empty line between them (CRLF or LF)."""
    ends = [(at, at + len(mark)) for mark in (b"\n\r\n", b"\n\n") if (at := data.find(mark)) >= 0]
    if not ends:
        return data, b"", False
    end, start = min(ends)
    return data[:end], data[start:], True


def _parse_start_line(line: str) -> Message:
    # §7.1, §7.2: single spaces; a response's reason phrase may hold more of them, or be empty.
    parts = line.split(" ", 2)
    if len(parts) < 2:
        raise Malformed("no start line")
    if parts[0].upper() == "SIP/2.0":
        code = parts[1]
        if len(code) != 3 or not code.isascii() or not code.isdigit() or not "1" <= code[0] <= "6":
            raise Malformed(f"no status code: {code!r}")
        return Message(Headers(), code=int(code), reason=parts[2] if len(parts) == 3 else "")
    if not _TOKEN.fullmatch(parts[0]):
        raise Malformed("no start line")
    # A request whose URI or version is wrong can still be answered: read it as far as it goes.
    _, _, rest = line.partition(" ")
    uri, _, version = rest.rpartition(" ")
    if not version.upper().startswith("SIP/"):
        raise Malformed("no SIP version")
    message = Message(Headers(), method=parts[0], uri=uri)
    message.version = version
    return message


def _parse_header_lines(lines: list[str], headers: Headers) -> str:
    """Fill ``headers`` from all but the first of ``lines``; returns what was wrong, or nothing."""
    items = headers.items()
    fault = ""
    for raw in lines[1:]:
        line = raw.rstrip("\r")
        if line[:1] in (" ", "\t"):  # §7.3.1: a folded line goes on with the one before
            if items:
                name, value = items[-1]
                items[-1] = (name, f"{value} {line.strip()}")
            continue
        name, colon, value = line.partition(":")
        name = name.rstrip()
        if not colon or not _TOKEN.fullmatch(name):
            fault = fault or f"not a header: {line[:40]!r}"
            continue
        items.append((name, value.strip()))
    return fault


def _cut(content: bytes, message: Message) -> bytes:
    """The body as long as Content-Length says (§18.3)."""
    length = len(content)
    if text := message.headers.get("Content-Length"):
        if not text.isascii() or not text.isdigit():
            raise Malformed("unreadable Content-Length", message)
        # First: whatever it claims, the rest of this datagram will not come.
        digits = text.lstrip("0") or "0"
        if len(digits) > 9 or int(digits) > length:
            raise Malformed("Content-Length goes beyond the datagram", message)
        length = int(digits)
    if length > MAX_BODY:
        raise Malformed("the body is too long", message, code=413)
    return content[:length]
