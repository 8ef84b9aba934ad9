"""RTCP (RFC 3550 §6): sender and receiver reports, SDES with CNAME, BYE, in compound packets."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "Bye",
    "ReceiverReport",
    "ReportBlock",
    "RtcpError",
    "RtcpPacket",
    "SenderInfo",
    "SenderReport",
    "SourceDescription",
    "build",
    "interval",
    "middle_of_ntp",
    "ntp",
    "parse",
    "round_trip",
]

_SR, _RR, _SDES, _BYE = 200, 201, 202, 203
_CNAME = 1
_EPOCH_OF_NTP = 2208988800
"""Seconds from 1900 to 1970."""
_HEADER = struct.Struct("!BBH")
_INFO = struct.Struct("!IIIII")
_BLOCK = struct.Struct("!IIIIII")
_MIN_INTERVAL = 5.0
_COMPENSATION = 1.21828
"""e - 3/2: the mean of the randomised interval would be too short without it (§6.3.1)."""


class RtcpError(ValueError):
    """Not a compound RTCP packet."""


@dataclass(frozen=True, slots=True)
class SenderInfo:
    """What a sender says of itself (§6.4.1)."""

    ntp: int
    """NTP time stamp, 32 bits of seconds and 32 of their fraction."""
    timestamp: int
    """RTP time stamp of the same moment."""
    packets: int
    octets: int


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """What is heard of one source (§6.4.1)."""

    ssrc: int
    fraction_lost: int
    """Since the last report, in 1/256."""
    lost: int
    """In all; negative where more came than were expected (duplicates)."""
    highest: int
    """Extended highest sequence number."""
    jitter: int
    """In time stamp units."""
    last_report: int = 0
    """Middle 32 bits of the NTP time stamp of the last SR from it; 0 without one."""
    delay: int = 0
    """Since then, in 1/65536 s."""


@dataclass(frozen=True, slots=True)
class SenderReport:
    """SR: of one who sent since the report before the last."""

    ssrc: int
    info: SenderInfo
    blocks: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    """RR: of one who did not."""

    ssrc: int
    blocks: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """SDES, its CNAMEs alone."""

    names: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Bye:
    """BYE: these sources send no more."""

    ssrcs: tuple[int, ...]


RtcpPacket: TypeAlias = SenderReport | ReceiverReport | SourceDescription | Bye


def ntp(wall: float) -> int:
    """NTP time stamp of a time in seconds since 1970 (§4)."""
    return int((wall + _EPOCH_OF_NTP) * 2**32) & (2**64 - 1)


def middle_of_ntp(stamp: int) -> int:
    """The 32 bits of it that reports quote."""
    return stamp >> 16 & 0xFFFFFFFF


def round_trip(now: int, block: ReportBlock) -> float | None:
    """Seconds there and back, from a block about us that came at NTP time ``now`` (§6.4.1).

    None where it quotes no SR of ours, or makes no sense.
    """
    if not block.last_report:
        return None
    units = middle_of_ntp(now) - block.last_report - block.delay & 0xFFFFFFFF
    # Above half the range it is negative: clocks of different speed, or a lie.
    return units / 65536 if units < 2**31 else None


def interval(chance: float, *, first: bool) -> float:
    """Seconds until the next report (§6.2, §6.3.1), ``chance`` evenly from 0 to 1.

    For two members: 5 % of a G.711 session's bandwidth would allow a report more often than the
    minimum, so the minimum is what counts; half of it before the first.
    """
    base = _MIN_INTERVAL / 2 if first else _MIN_INTERVAL
    return base * (0.5 + chance) / _COMPENSATION


def build(packets: Sequence[RtcpPacket]) -> bytes:
    """A compound packet; by §6.1 the first is a report, and a CNAME is among the others."""
    return b"".join(map(_build, packets))


def _build(packet: RtcpPacket) -> bytes:
    match packet:
        case SenderReport(ssrc, info, blocks):
            body = ssrc.to_bytes(4) + _INFO.pack(
                info.ntp >> 32,
                info.ntp & 0xFFFFFFFF,
                info.timestamp & 0xFFFFFFFF,
                info.packets & 0xFFFFFFFF,
                info.octets & 0xFFFFFFFF,
            )
            return _with_header(_SR, len(blocks), body + b"".join(map(_build_block, blocks)))
        case ReceiverReport(ssrc, blocks):
            body = ssrc.to_bytes(4) + b"".join(map(_build_block, blocks))
            return _with_header(_RR, len(blocks), body)
        case SourceDescription(names):
            return _with_header(_SDES, len(names), b"".join(_build_chunk(*n) for n in names))
        case Bye(ssrcs):
            return _with_header(_BYE, len(ssrcs), b"".join(s.to_bytes(4) for s in ssrcs))


def _with_header(kind: int, count: int, body: bytes) -> bytes:
    return _HEADER.pack(2 << 6 | count, kind, len(body) // 4) + body


def _build_block(block: ReportBlock) -> bytes:
    lost = max(-(2**23), min(block.lost, 2**23 - 1)) & 0xFFFFFF
    return _BLOCK.pack(
        block.ssrc,
        block.fraction_lost << 24 | lost,
        block.highest & 0xFFFFFFFF,
        block.jitter & 0xFFFFFFFF,
        block.last_report,
        block.delay & 0xFFFFFFFF,
    )


def _build_chunk(ssrc: int, name: str) -> bytes:
    text = name.encode()[:255]
    chunk = ssrc.to_bytes(4) + bytes((_CNAME, len(text))) + text
    return chunk + bytes(4 - len(chunk) % 4)  # at least one zero ends the list (§6.5)


def parse(data: bytes) -> list[RtcpPacket]:
    """Read a datagram; packets of other types are left out.

    Raises RtcpError, and nothing else, whatever the bytes are (checks of §A.2).
    """
    packets: list[RtcpPacket] = []
    offset = 0
    while offset < len(data):
        if len(data) - offset < 4:
            raise RtcpError("ends within a header")
        first, kind, words = _HEADER.unpack_from(data, offset)
        end = offset + 4 + 4 * words
        if first >> 6 != 2:
            raise RtcpError(f"version {first >> 6}")
        if end > len(data):
            raise RtcpError("ends within a packet")
        if offset == 0 and (kind not in (_SR, _RR) or first & 0x20):
            raise RtcpError("does not begin with a report")
        body = data[offset + 4 : end]
        if first & 0x20:
            if end != len(data) or not body or not 0 < body[-1] <= len(body):
                raise RtcpError("padding where none can be")
            body = body[: -body[-1]]
        packet = _parse(kind, first & 0x1F, body)
        if packet is not None:
            packets.append(packet)
        offset = end
    if not packets:
        raise RtcpError("empty")
    return packets


def _parse(kind: int, count: int, body: bytes) -> RtcpPacket | None:
    if kind == _SR:
        if len(body) < 24 + 24 * count:
            raise RtcpError("ends within a sender report")
        high, low, timestamp, packets, octets = _INFO.unpack_from(body, 4)
        info = SenderInfo(high << 32 | low, timestamp, packets, octets)
        return SenderReport(int.from_bytes(body[:4]), info, _parse_blocks(body, 24, count))
    if kind == _RR:
        if len(body) < 4 + 24 * count:
            raise RtcpError("ends within a receiver report")
        return ReceiverReport(int.from_bytes(body[:4]), _parse_blocks(body, 4, count))
    if kind == _SDES:
        return SourceDescription(_parse_chunks(body, count))
    if kind == _BYE:
        if len(body) < 4 * count:
            raise RtcpError("ends within a BYE")
        return Bye(tuple(int.from_bytes(body[4 * n : 4 * n + 4]) for n in range(count)))
    return None


def _parse_blocks(body: bytes, offset: int, count: int) -> tuple[ReportBlock, ...]:
    blocks = []
    for number in range(count):
        ssrc, loss, *rest = _BLOCK.unpack_from(body, offset + 24 * number)
        lost = loss & 0xFFFFFF
        blocks.append(ReportBlock(ssrc, loss >> 24, lost - (lost >> 23 << 24), *rest))
    return tuple(blocks)


def _parse_chunks(body: bytes, count: int) -> tuple[tuple[int, str], ...]:
    names = []
    offset = 0
    for _ in range(count):
        if len(body) < offset + 4:
            raise RtcpError("ends within a description")
        ssrc = int.from_bytes(body[offset : offset + 4])
        offset += 4
        while offset < len(body) and body[offset]:
            if len(body) < offset + 2 or len(body) < offset + 2 + body[offset + 1]:
                raise RtcpError("ends within an item of a description")
            text = body[offset + 2 : offset + 2 + body[offset + 1]]
            if body[offset] == _CNAME:
                names.append((ssrc, text.decode("utf-8", "replace")))
            offset += 2 + len(text)
        offset += 4 - offset % 4
    return tuple(names)
