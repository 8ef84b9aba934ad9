"""Session descriptions: offer and answer for one audio stream (RFC 3264, RFC 4566).

PCMU, PCMA and telephone-event at 8 kHz; everything else that is offered is declined stream by
stream, so that a video call still gets its audio.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

from ..pyvoip import PayloadType, Section, TransmitType, parse_sections
from ..stack import Address, Media, MediaPlan
from .uri import is_numeric

__all__ = [
    "CODECS",
    "Codec",
    "Description",
    "NotAcceptable",
    "SdpError",
    "Stream",
    "answer",
    "answered_direction",
    "describe",
    "offer",
    "parse",
    "plan",
    "session_id",
]

AUDIO = (PayloadType.PCMU, PayloadType.PCMA)
"""What we speak."""
_BY_NAME = {str(type_.description): type_ for type_ in AUDIO}
CODECS = tuple(_BY_NAME)
_EVENT_PAYLOAD = 101
_PROTOCOL = "RTP/AVP"

_MIRROR = {
    TransmitType.SENDRECV: TransmitType.SENDRECV,
    TransmitType.SENDONLY: TransmitType.RECVONLY,
    TransmitType.RECVONLY: TransmitType.SENDONLY,
    TransmitType.INACTIVE: TransmitType.INACTIVE,
}
_SENDS = (TransmitType.SENDRECV, TransmitType.SENDONLY)
_RECEIVES = (TransmitType.SENDRECV, TransmitType.RECVONLY)


class SdpError(ValueError):
    """Not a session description."""


class NotAcceptable(Exception):
    """No stream of the offer can be used (488)."""


@dataclass(frozen=True, slots=True)
class Codec:
    """A payload type as one side numbers it."""

    payload: int
    type: PayloadType

    @property
    def name(self) -> str:
        """As in ``a=rtpmap``: ``PCMU``, ``telephone-event``."""
        return str(self.type.description)


@dataclass(frozen=True, slots=True)
class Stream:
    """One ``m=`` section of the peer's description."""

    line: str
    """The m= value as written."""
    port: int
    host: str
    codecs: tuple[Codec, ...]
    """The formats we know, in the peer's order of preference; empty if the stream is no use."""
    direction: TransmitType
    rtcp_port: int | None = None
    """Of ``a=rtcp`` (RFC 3605)."""

    def limited_to(self, codecs: tuple[str, ...]) -> Stream:
        """The same without audio codecs that are none of these."""
        kept = tuple(c for c in self.codecs if c.type is PayloadType.EVENT or c.name in codecs)
        return self if len(kept) == len(self.codecs) else replace(self, codecs=kept)

    @property
    def usable(self) -> bool:
        """Whether it is audio that we can speak."""
        return any(codec.type in AUDIO for codec in self.codecs)


@dataclass(frozen=True, slots=True)
class Description:
    """A peer's session description, offer or answer."""

    streams: tuple[Stream, ...]
    times: str = "0 0"
    """Value of its ``t=`` line, which the answer must repeat (RFC 3264 §6)."""

    def limited_to(self, codecs: tuple[str, ...]) -> Description:
        """The same without audio codecs that are none of these."""
        return replace(self, streams=tuple(stream.limited_to(codecs) for stream in self.streams))

    @property
    def audio(self) -> Stream | None:
        """The first stream we can use."""
        return next((stream for stream in self.streams if stream.usable), None)

    @property
    def address(self) -> Address | None:
        """Where the peer wants its audio, if it is known and numeric."""
        stream = self.audio
        # 0.0.0.0 is RFC 2543's hold (RFC 3264 §8.4): nowhere to send to.
        if stream is None or not is_numeric(stream.host) or stream.host in ("0.0.0.0", "::"):
            return None
        return stream.host, stream.port

    @property
    def codec(self) -> str:
        """Name of the first audio codec; empty where there is none."""
        stream = self.audio
        if stream is None:
            return ""
        return next(codec.name for codec in stream.codecs if codec.type in AUDIO)


def parse(content: bytes) -> Description:
    """Read the peer's description.  Raises SdpError."""
    sections = parse_sections(content)
    if not sections or "v" not in sections[0].body:
        raise SdpError("it does not begin with a version")
    session, *media = sections
    if not media:
        raise SdpError("it has no media")
    times = session.body.get("t", {"start": "0", "stop": "0"})
    streams = tuple(_stream(section, session) for section in media)
    return Description(streams, f"{times['start']} {times['stop']}")


def _stream(section: Section, session: Section) -> Stream:
    attributes = section.body.get("a", {})
    inherited = session.body.get("a", {}).get("transmit_type", TransmitType.SENDRECV)
    direction = attributes.get("transmit_type", inherited)
    connections = section.body.get("c") or session.body.get("c") or []
    host = str(connections[0]["address"]) if connections else ""
    if host == "0.0.0.0":
        direction = TransmitType.INACTIVE
    # pyVoIP leaves m out when it does not know the profile; then nothing of the stream is usable.
    lines = section.body.get("m") or [None]
    line = lines[0]
    if line is None or line["type"] != "audio" or line["protocol"].value != _PROTOCOL:
        return Stream(section.first, 0, host, (), direction)
    port = int(line["port"])
    if not 0 < port < 65536 or not host:
        return Stream(section.first, 0, host, (), direction)
    codecs = tuple(
        codec
        for payload in line["methods"]
        if (codec := _codec(payload, line["attributes"].get(payload, {}))) is not None
    )
    return Stream(section.first, port, host, codecs, direction, _rtcp_port(attributes))


def _rtcp_port(attributes: dict[str, str]) -> int | None:
    digits = str(attributes.get("rtcp", "")).partition(" ")[0]
    if not digits.isascii() or not digits.isdigit() or not 0 < int(digits[:6]) < 65536:
        return None
    return int(digits[:6])


def _codec(payload: str, attributes: dict[str, dict[str, str]]) -> Codec | None:
    """The codec behind a format number, or None if we don't speak it."""
    if not payload.isascii() or not payload.isdigit() or int(payload) > 127:
        return None
    number = int(payload)
    mapped = attributes.get("rtpmap")
    if mapped is None:
        # Without rtpmap the static assignment of RFC 3551 holds.
        return next((Codec(number, type_) for type_ in AUDIO if type_.value == number), None)
    if mapped["frequency"] != "8000":
        return None
    name = mapped["name"].lower()
    for type_ in (*AUDIO, PayloadType.EVENT):
        if type_.description.lower() == name:
            return Codec(number, type_)
    return None


def plan(
    call: str,
    remote: Description,
    *,
    local: TransmitType = TransmitType.SENDRECV,
    offered: bool = False,
) -> MediaPlan | None:
    """What a completed exchange means for the audio of a call; None if it has none.

    ``remote`` is the peer's description and ``local`` the direction in ours; ``offered`` tells
    that the offer was ours.
    """
    stream = remote.audio
    if stream is None:
        return None
    accepted = {codec.payload: codec.name for codec in stream.codecs}
    codec = next(codec for codec in stream.codecs if codec.type in AUDIO)
    event = next((c.payload for c in stream.codecs if c.type is PayloadType.EVENT), None)
    if offered and event is not None:
        # RFC 3264 §5.1: to us the peer sends the number of our own offer, even if its answer has
        # another one.
        accepted.setdefault(_EVENT_PAYLOAD, PayloadType.EVENT.description)
    address = remote.address
    rtcp_port = stream.rtcp_port
    wish = _MIRROR[stream.direction]
    return MediaPlan(
        call=call,
        remote=address,
        remote_rtcp=(address[0], rtcp_port) if address and rtcp_port else None,
        codec=codec.name,
        payload=codec.payload,
        dtmf_payload=event,
        accepted=tuple(accepted.items()),
        sending=all(way in _SENDS for way in (local, wish)),
        receiving=all(way in _RECEIVES for way in (local, wish)),
    )


def session_id(token: str) -> int:
    """A number for the ``o=`` line, from a random token."""
    return zlib.crc32(token.encode())


def offer(
    media: Media,
    session: int,
    version: int = 1,
    *,
    codecs: tuple[str, ...] = CODECS,
    direction: TransmitType = TransmitType.SENDRECV,
    remote: Description | None = None,
) -> bytes:
    """Our offer of one audio stream with ``codecs``, best first.

    ``remote`` is the peer's latest description in a session that is up.  Then the offer keeps its
    streams, one by one and in order, and its payload numbers (RFC 3264 §8).
    """
    taken = remote.audio if remote is not None else None
    if remote is None or taken is None:
        audio = _audio_lines(media.port, _our_codecs(codecs, _EVENT_PAYLOAD), direction)
        return describe(media, session, version, audio)
    event = next((c.payload for c in taken.codecs if c.type is PayloadType.EVENT), None)
    audio = _audio_lines(media.port, _our_codecs(codecs, event, taken), direction)
    return describe(media, session, version, _sections(remote, taken, audio))


def _our_codecs(
    names: tuple[str, ...], event: int | None, agreed: Stream | None = None
) -> list[Codec]:
    numbers = {codec.name: codec.payload for codec in agreed.codecs} if agreed else {}
    codecs = [
        Codec(numbers.get(name, int(_BY_NAME[name])), _BY_NAME[name])
        for name in names
        if name in _BY_NAME
    ]
    if event is not None:
        codecs.append(Codec(event, PayloadType.EVENT))
    return codecs


def answer(
    offered: Description,
    media: Media,
    session: int,
    version: int = 1,
    *,
    direction: TransmitType = TransmitType.SENDRECV,
) -> bytes:
    """Our answer: the first usable stream taken, the others declined.  Raises NotAcceptable.

    Codecs stay in the order of the offer, as RFC 3264 §6.1 recommends: so both sides take the
    same one for the best.  ``direction`` is ours as far as the offer allows it.
    """
    taken = offered.audio
    if taken is None:
        raise NotAcceptable("no stream of the offer can be used")
    way = answered_direction(taken.direction, direction)
    audio = _audio_lines(media.port, list(taken.codecs), way)
    return describe(media, session, version, _sections(offered, taken, audio), offered.times)


def answered_direction(offered: TransmitType, wish: TransmitType) -> TransmitType:
    """The direction in our answer to a stream offered so, when ``wish`` is ours."""
    mirror = _MIRROR[offered]
    sends = all(way in _SENDS for way in (mirror, wish))
    receives = all(way in _RECEIVES for way in (mirror, wish))
    if sends:
        return TransmitType.SENDRECV if receives else TransmitType.SENDONLY
    return TransmitType.RECVONLY if receives else TransmitType.INACTIVE


def _sections(remote: Description, taken: Stream, audio: list[str]) -> list[str]:
    """A line for each stream of ``remote``: ``audio`` for the one taken, the others declined."""
    lines: list[str] = []
    for stream in remote.streams:
        if stream is taken:
            lines += audio
        else:
            # RFC 3264 §6: same media, profile and formats, port 0.
            kind, _, rest = stream.line.partition(" ")
            lines.append(f"m={kind} 0 {rest.partition(' ')[2]}")
    return lines


def _audio_lines(port: int, codecs: list[Codec], direction: TransmitType) -> list[str]:
    lines = [f"m=audio {port} {_PROTOCOL} {' '.join(str(codec.payload) for codec in codecs)}"]
    for codec in codecs:
        lines.append(f"a=rtpmap:{codec.payload} {codec.name}/8000")
        if codec.type is PayloadType.EVENT:
            lines.append(f"a=fmtp:{codec.payload} 0-15")
    lines.append("a=ptime:20")
    lines.append(f"a={direction.value}")
    return lines


def describe(
    media: Media, session: int, version: int, streams: list[str], times: str = "0 0"
) -> bytes:
    """A whole description around the lines of its streams."""
    family = "IP6" if ":" in media.host else "IP4"
    lines = [
        "v=0",
        f"o=- {session} {version} IN {family} {media.host}",
        "s=-",
        f"c=IN {family} {media.host}",
        f"t={times}",
        *streams,
    ]
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8", "surrogateescape")
