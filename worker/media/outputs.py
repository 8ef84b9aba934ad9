"""What a media session puts out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ..stack import Address
from .dtmf import Digit

__all__ = [
    "Digit",
    "DigitSent",
    "MediaOutput",
    "OneWay",
    "Recorded",
    "SendRtcp",
    "SendRtp",
    "SourceEnded",
]


@dataclass(frozen=True, slots=True)
class SendRtp:
    """A datagram for the RTP socket, now."""

    data: bytes
    destination: Address


@dataclass(frozen=True, slots=True)
class SendRtcp:
    """A datagram for the RTCP socket, now."""

    data: bytes
    destination: Address


@dataclass(frozen=True, slots=True)
class DigitSent:
    """The first digit of those to send is over."""


@dataclass(frozen=True, slots=True)
class SourceEnded:
    """The source is at its end; silence follows it."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Samples to append to the recording."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class OneWay:
    """Audio is sent and expected, and nothing has come for so many seconds."""

    seconds: float


MediaOutput: TypeAlias = SendRtp | SendRtcp | Digit | DigitSent | SourceEnded | Recorded | OneWay
