"""One call takes the place of another (RFC 3891), and the URI that asks for it (RFC 5589)."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote

from .dialog import Dialog
from .uri import SipUri, UriError, parse_params

__all__ = ["Replaces", "header_in", "uri_replacing"]


@dataclass(frozen=True, slots=True)
class Replaces:
    """The value of a Replaces header; the tags are as its receiver sees them."""

    call_id: str
    local_tag: str
    """``to-tag``."""
    remote_tag: str
    """``from-tag``."""
    early_only: bool = False

    @classmethod
    def parse(cls, text: str) -> Replaces:
        """Raises UriError."""
        call_id, semicolon, rest = text.strip().partition(";")
        params = parse_params(semicolon + rest) if semicolon else {}
        local, remote = params.get("to-tag"), params.get("from-tag")
        if not call_id.strip() or not local or not remote:
            raise UriError(f"not a Replaces: {text!r}")
        return cls(call_id.strip(), local, remote, "early-only" in params)


def uri_replacing(dialog: Dialog) -> str:
    """What to call in order to take our place in ``dialog``.  Raises UriError.

    To its receiver, our peer there, the to-tag is its own, and the from-tag is ours.
    """
    value = f"{dialog.call_id};to-tag={dialog.remote_tag};from-tag={dialog.local_tag}"
    target = str(SipUri.parse(dialog.target).without_headers())
    return f"{target}?Replaces={quote(value, safe='')}"


def header_in(headers: str) -> str:
    """The value of Replaces in the ``headers`` part of a URI; empty where there is none.

    Other headers are not honoured (RFC 3261 §19.1.5).  Raises UriError.
    """
    for field in headers.split("&"):
        name, _, escaped = field.partition("=")
        if unquote(name).strip().lower() == "replaces":
            value = unquote(escaped).strip()
            if not value.isprintable():
                raise UriError("control characters in Replaces")
            Replaces.parse(value)
            return value
    return ""
