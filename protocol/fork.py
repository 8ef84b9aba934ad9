"""What supervisor and nursery say to each other over their Unix socket.

One message a packet (SOCK_SEQPACKET), descriptors ride along by SCM_RIGHTS: with ``Fork`` the
phone's SIP sockets, its journal and the write end of its output pipe, with ``Forked`` the child's
pidfd.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import msgspec

from .errors import ProtocolError
from .limits import Limits

__all__ = [
    "JOURNAL_BLOCK",
    "Died",
    "Fork",
    "ForkFailed",
    "Forked",
    "NurseryMessage",
    "SipSockets",
    "decode_fork",
    "decode_from_nursery",
    "pack",
]

MAX_PACKET = 65536
JOURNAL_BLOCK = 4096
"""Bytes of a block of a phone's journal; the first has no record."""


class SipSockets(NamedTuple):
    """Descriptors of the sockets that a phone is reached by, both on one number."""

    udp: int
    tcp: int
    """It listens."""


class Fork(msgspec.Struct, frozen=True, kw_only=True, tag="fork"):
    """Start the process of one phone."""

    phone: str
    incarnation: int
    token: str
    endpoint: str
    """ZeroMQ endpoint the worker says hello to."""
    limits: Limits = Limits()
    pulse: int = 0
    """Its slot for signs of life (``protocol.pulse``)."""


class Forked(msgspec.Struct, frozen=True, kw_only=True, tag="forked"):
    """The process runs; its pidfd rides along."""

    phone: str
    incarnation: int
    pid: int


class ForkFailed(msgspec.Struct, frozen=True, kw_only=True, tag="fork_failed"):
    """The kernel refused."""

    phone: str
    incarnation: int
    error: str


class Died(msgspec.Struct, frozen=True, kw_only=True, tag="died"):
    """The process ended; it is reaped after this message."""

    phone: str
    incarnation: int
    exit_code: int | None
    signal: int | None


NurseryMessage: TypeAlias = Forked | ForkFailed | Died

_fork = msgspec.msgpack.Decoder(Fork)
_from_nursery: msgspec.msgpack.Decoder[NurseryMessage] = msgspec.msgpack.Decoder(NurseryMessage)


def pack(message: Fork | NurseryMessage) -> bytes:
    """One packet."""
    return msgspec.msgpack.encode(message)


def decode_fork(data: bytes) -> Fork:
    """Raises ProtocolError."""
    try:
        return _fork.decode(data)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"not a fork request: {error}") from None


def decode_from_nursery(data: bytes) -> NurseryMessage:
    """Raises ProtocolError."""
    try:
        return _from_nursery.decode(data)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"not a message of the nursery: {error}") from None
