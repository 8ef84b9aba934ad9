"""pyVoIP's reading of an RTP header, guarded.

Sound are the fixed header and the list of contributing sources.  Not sound: a packet shorter than
three bytes is a TypeError, an unknown payload type refuses the packet, and padding and header
extension stay in the payload; the last two are for the caller (`worker.media.rtp`).

A packet costs 6 µs where 100 calls leave 200 µs on one core: not worth a parser of our own.
"""

from __future__ import annotations

from typing import Any

from ._names import RTPMessage, RTPParseError

__all__ = ["RTPMessage", "RTPParseError", "read_rtp"]

_HEADER = 12
# To pyVoIP this is what each payload type stands for: itself, so that none is unknown.
_NUMBERS: dict[int, Any] = {number: number for number in range(128)}


def read_rtp(packet: bytes) -> RTPMessage:
    """The packet as pyVoIP sees it, `payload_type` a number.  Raises RTPParseError."""
    if len(packet) < _HEADER:
        raise RTPParseError("shorter than an RTP header")
    return RTPMessage(packet, _NUMBERS)
