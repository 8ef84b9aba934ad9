"""RTP packets (RFC 3550 §5): bytes to fields and back."""

from __future__ import annotations

import struct
from typing import NamedTuple

from ..pyvoip import RTPParseError, read_rtp

__all__ = ["RtpError", "RtpPacket", "build", "parse"]

_HEADER = struct.Struct("!BBHII")
_VERSION = 2 << 6
_MARKER = 0x80


class RtpError(ValueError):
    """Not an RTP packet."""


class RtpPacket(NamedTuple):
    """One packet; contributing sources, padding and header extension are left out."""

    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


def parse(data: bytes) -> RtpPacket:
    """Read a datagram.  Raises RtpError, and nothing else, whatever the bytes are."""
    try:
        message = read_rtp(data)
    except RTPParseError as error:
        raise RtpError(str(error)) from None
    payload: bytes = message.payload
    if len(data) < 12 + 4 * message.CC:
        raise RtpError("ends within its contributing sources")
    if message.extension:
        # §5.3.1: 16 bits of the profile's, then the length in words of 32 bits.
        size = 4 + 4 * int.from_bytes(payload[2:4])
        if len(payload) < max(size, 4):
            raise RtpError("ends within its header extension")
        payload = payload[size:]
    if message.padding:
        if not payload or not 0 < payload[-1] <= len(payload):
            raise RtpError("has more padding than payload")
        payload = payload[: -payload[-1]]
    return RtpPacket(
        int(message.payload_type),
        message.marker,
        message.sequence,
        message.timestamp,
        message.SSRC,
        payload,
    )


def build(
    payload_type: int, sequence: int, timestamp: int, ssrc: int, payload: bytes, *, marker: bool
) -> bytes:
    """The datagram of one packet; sequence number and time stamp may be above their 16 and 32 bits.

    ``payload_type`` is below 128.
    """
    second = payload_type | _MARKER if marker else payload_type
    header = _HEADER.pack(_VERSION, second, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc)
    return header + payload
