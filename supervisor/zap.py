"""Who is let in over TCP: the answering side of ZeroMQ's authentication protocol (RFC 27).

libzmq asks for each connection whose handshake proved that the client has the secret to a public
key.  No socket in here: frames in, frames out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zmq.utils import z85

__all__ = ["DOMAIN", "Verdict", "judge", "read_user"]

DOMAIN = b"sipherd"
"""Domain of the sockets that are asked for."""
_VERSION = b"1.0"
_OK, _REFUSED, _FULL = b"200", b"400", b"500"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one connection."""

    reply: list[bytes]
    address: str
    """Where the client is."""
    key: str
    """The name of its key; empty if that is not known."""
    why: str
    """Why it is refused; empty if it is let in."""


def judge(frames: Sequence[bytes], keys: Mapping[str, str], *, serial: int, full: bool) -> Verdict:
    """Let a client in whose public key is one of ``keys`` (key to name), unless all is ``full``.

    Each message of a connection that was let in then says by which key, and its serial number:
    see ``read_user``.
    """
    version, request, domain, address, _, mechanism, *credentials = [*frames, *[b""] * 6][
        : max(len(frames), 6)
    ]
    status, key, name, why = _REFUSED, "", "", ""
    if version != _VERSION or domain != DOMAIN:
        status, why = _FULL, "a request that is not understood"
    elif mechanism != b"CURVE" or len(credentials) != 1 or len(credentials[0]) != 32:
        why = f"mechanism {mechanism.decode(errors='replace')}, only CURVE is let in"
    else:
        key = z85.encode(credentials[0]).decode()
        name = keys.get(key, "")
        if not name:
            why = f"key {key} is not on the list"
        elif full:
            status, why = _FULL, "too many clients of other machines"
        else:
            status = _OK
    text = why.encode() or b"OK"
    user = f"{key} {serial}".encode() if status == _OK else b""
    reply = [_VERSION, request, status, text, user, b""]
    return Verdict(reply, address.decode(errors="replace"), name, why)


def read_user(text: str) -> tuple[str, int]:
    """Public key and serial number, from the ``User-Id`` of a message."""
    key, _, serial = text.partition(" ")
    return key, int(serial)
