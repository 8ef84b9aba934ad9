"""Bodies of messages: the session description, alone or in a multipart (RFC 3261 §7.4, RFC 5621).

Of a ``multipart/mixed`` body the first ``application/sdp`` part that describes a session counts.
A part that we cannot read refuses the message, unless its Content-Disposition says that it may be
left out (RFC 5621 §3: ``handling`` is ``required`` where nothing is said).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .context import SDP
from .message import Headers, Malformed, Message, read_headers
from .uri import UriError, parse_params

__all__ = ["Unsupported", "content_type", "session_description"]

_TYPE = re.compile(r"\s*([A-Za-z0-9.!%*_+`'~-]+/[A-Za-z0-9.!%*_+`'~-]+)\s*(;.*)?", re.DOTALL)
_MIXED = ("multipart/mixed", "multipart/alternative")
_PLAIN = ("", "identity", "7bit", "8bit", "binary")
_MOST_PARTS = 16
_DEEPEST = 3


class Unsupported(Exception):
    """A body that we cannot read and may not leave out (415)."""


def content_type(headers: Headers) -> str:
    """``type/subtype`` in lower case, without parameters; empty where there is none."""
    return headers.get("Content-Type").partition(";")[0].strip().lower()


def session_description(message: Message) -> bytes | None:
    """The session description that ``message`` carries, or None.

    Raises Unsupported, and Malformed for a multipart that cannot be taken apart.
    """
    if not message.content:
        return None
    found = next(_descriptions(message, message.headers, message.content, 0), None)
    return found or None


def _descriptions(
    message: Message, headers: Headers, content: bytes, depth: int
) -> Iterator[bytes]:
    kind = content_type(headers)
    encodings = (headers.get("Content-Encoding"), headers.get("Content-Transfer-Encoding"))
    plain = all(encoding.strip().lower() in _PLAIN for encoding in encodings)
    disposition = headers.get("Content-Disposition").replace(" ", "").lower()
    if plain and kind == SDP and disposition.partition(";")[0] in ("", "session"):
        yield content
    elif plain and kind in _MIXED and depth < _DEEPEST:
        # All parts are looked at: one of the later ones may be what we must not leave out.
        yield from [
            description
            for part_headers, part in _parts(message, headers, content)
            for description in _descriptions(message, part_headers, part, depth + 1)
        ]
    elif "handling=optional" not in disposition:
        raise Unsupported(kind)


def _parts(message: Message, headers: Headers, content: bytes) -> Iterator[tuple[Headers, bytes]]:
    """The parts of a multipart body (RFC 2046 §5.1.1)."""
    match = _TYPE.fullmatch(headers.get("Content-Type"))
    try:
        boundary = parse_params(match[2] or "").get("boundary") if match else None
    except UriError:
        boundary = None
    if not boundary:
        raise Malformed("a multipart body without boundary", message)
    mark = re.escape(boundary.encode("utf-8", "surrogateescape"))
    pieces = re.split(rb"(?:\A|\r?\n)--" + mark + rb"(--)?[ \t]*(?:\r?\n|\Z)", content)
    # What is before the first delimiter and behind the closing one is no part.
    bodies, closings = pieces[2::2], pieces[1::2]
    if b"--" not in closings or len(bodies) > _MOST_PARTS:
        raise Malformed("a multipart body that does not end", message)
    for body in bodies[: closings.index(b"--")]:
        yield read_headers(body)
