"""SIP URIs, name-addr headers and header parameters (RFC 3261 §19.1, §20.10, §25.1)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import unquote

from ..stack import DEFAULT_PORT, Address, Hop, Transport, shared_hop

__all__ = [
    "DEFAULT_PORT",
    "NameAddr",
    "SipUri",
    "UriError",
    "bracket",
    "canonical",
    "format_params",
    "is_numeric",
    "parse_host_port",
    "parse_params",
    "quote",
    "split_commas",
]


class UriError(ValueError):
    """The text is not the URI, address or parameter list it should be."""


# user, password and escapes as §25.1 has them; what it forbids there ends the match.  `#` and
# letters beyond ASCII are let through: real phones dial them unescaped.
_URI = re.compile(
    r"(?P<scheme>sips?):"
    r"(?:(?P<user>[^\s@<>\"\x00-\x1f]+)@)?"
    r"(?P<hostport>\[[0-9A-Fa-f:.]+\](?::\d+)?|[A-Za-z0-9._-]+(?::\d+)?)"
    r"(?P<params>(?:;[^\s;?<>\"\x00-\x1f]+)*)"
    r"(?P<headers>\?[^\s<>\"\x00-\x1f]*)?",
    re.IGNORECASE,
)
_HOST_PORT = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+))\s*(?::\s*(?P<port>\d{1,5}))?"
)

TRANSPORTS: Mapping[str, Transport] = {"udp": "udp", "tcp": "tcp"}
"""Those of a ``transport`` parameter that we have."""

_PLAIN = re.compile(r"[A-Za-z0-9.!%*_+`'~:\[\]-]+")  # token or host (§25.1)


def bracket(host: str) -> str:
    """``host`` as it is written in a URI or Via: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


@lru_cache(maxsize=1024)
def is_numeric(host: str) -> bool:
    """Whether ``host`` (no brackets) is an IP address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=1024)
def canonical(host: str) -> str:
    """An IPv6 address as the kernel writes it, anything else as it is."""
    return str(ipaddress.IPv6Address(host)) if ":" in host and is_numeric(host) else host


def parse_host_port(text: str) -> tuple[str, int | None]:
    """``host[:port]`` as host (without brackets) and port.  Raises UriError."""
    match = _HOST_PORT.fullmatch(text.strip())
    if match is None:
        raise UriError(f"not a host and port: {text!r}")
    port = None if match["port"] is None else int(match["port"])
    if port is not None and not 0 < port < 65536:
        raise UriError(f"no such port: {port}")
    if match["six"] is None:
        return match["host"], port
    if not is_numeric(match["six"]):
        raise UriError(f"not an IPv6 address: {match['six']!r}")
    return match["six"], port


@dataclass(frozen=True, slots=True)
class SipUri:
    """A ``sip:`` or ``sips:`` URI."""

    host: str
    """Name or address; IPv6 without brackets."""
    user: str = ""
    """Still escaped, with the password if there is one; empty where the URI has no user part."""
    port: int | None = None
    params: Mapping[str, str | None] = field(default_factory=dict)
    """URI parameters by lower-case name; None for one without a value, as ``lr``."""
    headers: str = ""
    """What follows the question mark."""
    scheme: str = "sip"

    @classmethod
    def parse(cls, text: str) -> SipUri:
        """Read a SIP URI.  Raises UriError."""
        return _parse_uri(text)

    @property
    def address(self) -> Address:
        """Where to send to if the host is numeric."""
        return self.host, self.port or DEFAULT_PORT

    def hop(self, default: Transport) -> Hop:
        """Where a request for this URI, or through this Route, goes (RFC 3263 §4).

        By the transport ``default`` if the URI names none.  Raises UriError for a transport that
        we do not have.
        """
        wanted = (self.params.get("transport") or default).lower()
        if self.scheme != "sip" or wanted not in TRANSPORTS:
            what = "TLS (sips:)" if self.scheme != "sip" else f"transport {wanted}"
            raise UriError(f"{what} is not supported, only UDP and TCP are")
        # §19.1.1: maddr stands in for the host.
        host = canonical((self.params.get("maddr") or self.host).strip("[]"))
        port = self.port or (DEFAULT_PORT if is_numeric(host) else None)
        return shared_hop(host, port, TRANSPORTS[wanted])

    @property
    def user_name(self) -> str:
        """The user part with escapes resolved, without password."""
        return unquote(self.user.partition(":")[0])

    @property
    def loose(self) -> bool:
        """Whether this Route entry is a loose router (``lr``)."""
        return "lr" in self.params

    def without_headers(self) -> SipUri:
        """As a request URI may have it: no headers, no method parameter (§19.1.1)."""
        params = {key: value for key, value in self.params.items() if key != "method"}
        return SipUri(self.host, self.user, self.port, params, "", self.scheme)

    def __str__(self) -> str:
        text = f"{self.scheme}:{self.user}@" if self.user else f"{self.scheme}:"
        text += bracket(self.host)
        if self.port is not None:
            text += f":{self.port}"
        for key, value in self.params.items():
            text += f";{key}" if value is None else f";{key}={value}"
        return f"{text}?{self.headers}" if self.headers else text


# One phone talks to few peers: the same handful of URIs comes with every message.
@lru_cache(maxsize=256)
def _parse_uri(text: str) -> SipUri:
    match = _URI.fullmatch(text)
    if match is None:
        raise UriError(f"not a SIP URI: {text!r}")
    host, port = parse_host_port(match["hostport"])
    params: dict[str, str | None] = {}
    for part in match["params"].split(";")[1:]:
        key, equals, value = part.partition("=")
        params[key.lower()] = value if equals else None
    headers = (match["headers"] or "?")[1:]
    return SipUri(host, match["user"] or "", port, params, headers, match["scheme"].lower())


def quote(display: str) -> str:
    """``display`` as a quoted string (§25.1)."""
    return '"' + display.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _split(text: str, separator: str) -> list[str]:
    """Split at ``separator`` where it is neither in quotes nor in angle brackets."""
    parts: list[str] = []
    start = depth = 0
    quoted = escaped = False
    for index, char in enumerate(text):
        if escaped:
            escaped = False
        elif quoted:
            if char == "\\":
                escaped = True
            elif char == '"':
                quoted = False
        elif char == '"':
            quoted = True
        elif char == "<":
            depth += 1
        elif char == ">":
            depth -= 1
        elif char == separator and depth <= 0:
            parts.append(text[start:index])
            start = index + 1
    parts.append(text[start:])
    return parts


def split_commas(value: str) -> list[str]:
    """The elements of a header value that may hold several (§7.3.1); empty ones are left out."""
    if "," not in value:
        return [value.strip()] if value.strip() else []
    return [part.strip() for part in _split(value, ",") if part.strip()]


def parse_params(text: str) -> dict[str, str | None]:
    """``;a=b;c`` as a dictionary by lower-case name.  Raises UriError for what is no parameter."""
    params: dict[str, str | None] = {}
    parts = text.split(";") if '"' not in text else _split(text, ";")
    if parts[0].strip():
        raise UriError(f"not a parameter: {parts[0]!r}")
    for part in parts[1:]:
        key, equals, value = part.partition("=")
        key = key.strip().lower()
        if not key:
            raise UriError(f"a parameter without a name: {text!r}")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = _unquote(value[1:-1])
        params[key] = value if equals else None
    return params


def format_params(params: Mapping[str, str | None]) -> str:
    """The inverse of `parse_params`; values that are no tokens or hosts are quoted again."""
    text = ""
    for key, value in params.items():
        if value is None:
            text += f";{key}"
        else:
            text += f";{key}={value if _PLAIN.fullmatch(value) else quote(value)}"
    return text


@dataclass(frozen=True, slots=True)
class NameAddr:
    """The value of From, To, Contact, Route …: display name, URI and header parameters."""

    uri: str
    """As written: it need not be a SIP URI."""
    display: str = ""
    params: Mapping[str, str | None] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> NameAddr:
        """Read one name-addr or addr-spec.  Raises UriError."""
        text = text.strip()
        display = ""
        if text.startswith('"'):
            end = _closing_quote(text)
            display, text = _unquote(text[1:end]), text[end + 1 :].lstrip()
            if not text.startswith("<"):
                raise UriError("a display name without a URI in angle brackets")
        before, angle, rest = text.partition("<")
        if angle:
            uri, closed, tail = rest.partition(">")
            if not closed:
                raise UriError("an angle bracket is not closed")
            if '"' in before:
                raise UriError(f"a stray quote: {text!r}")
            display = display or before.strip()
        else:
            # Without brackets every parameter belongs to the header, not to the URI (§20.10).
            uri, semicolon, tail = text.partition(";")
            tail = semicolon + tail
        uri = uri.strip()
        if ":" not in uri or len(uri.split()) != 1:
            raise UriError(f"not a URI: {uri!r}")
        return cls(uri, display, parse_params(tail) if tail else {})

    @property
    def tag(self) -> str:
        """The tag parameter; empty where there is none."""
        return self.params.get("tag") or ""

    def __str__(self) -> str:
        text = f"{quote(self.display)} <{self.uri}>" if self.display else f"<{self.uri}>"
        return text + format_params(self.params)


def _closing_quote(text: str) -> int:
    escaped = False
    for index in range(1, len(text)):
        char = text[index]
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == '"':
            return index
    raise UriError("a quoted string is not closed")
