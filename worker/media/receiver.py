"""What is heard: the peer's streams, their statistics, their audio and their DTMF."""

from __future__ import annotations

from collections.abc import Callable

from .codec import CODECS
from .dtmf import Digit, DtmfReceiver
from .rtp import RtpPacket
from .stats import Arrival, StreamStats

__all__ = ["Receiver"]

EVENT = "telephone-event"
_MAX_PAYLOAD = 2400
"""300 ms: no peer sends more in one packet."""


class Receiver:
    """Takes the packets that are the peer's."""

    def __init__(self) -> None:
        self.accepted: dict[int, str] = {}
        """Payload types, and what they stand for."""
        self.on_audio: Callable[[int, bytes, float], None] | None = None
        """Told time stamp, samples and arrival of each packet of audio, duplicates left out."""
        self.on_restart: Callable[[], None] | None = None
        """Told of another stream: its time stamps have nothing to do with those before."""
        self.dtmf = DtmfReceiver()
        self.stream: StreamStats | None = None
        """The stream that is heard now."""
        self.last_heard: float | None = None
        self._past = [0, 0, 0, 0]
        """Packets received, lost, too late and expected of the streams before it."""

    def receive(self, packet: RtpPacket, now: float, *, listening: bool) -> list[Digit]:
        """Take a packet with an accepted payload type; returns the digits that ended by it.

        Without ``listening`` it is counted, and not heard.
        """
        kind = self.accepted[packet.payload_type]
        stream = self.stream
        if stream is None or stream.ssrc != packet.ssrc:
            stream = self._change(packet.ssrc)
        arrival = stream.count(packet.sequence, len(packet.payload))
        if arrival in (Arrival.DUPLICATE, Arrival.JUMP):
            return []
        self.last_heard = now
        if kind == EVENT:
            if not listening:
                return []
            return self.dtmf.receive(packet.ssrc, packet.timestamp, packet.payload, now)
        stream.time(packet.timestamp, now)
        if listening and self.on_audio is not None and len(packet.payload) <= _MAX_PAYLOAD:
            self.on_audio(packet.timestamp, CODECS[kind].decode(packet.payload), now)
        return []

    def restart_time(self) -> None:
        """The peer may have paused."""
        if self.stream is not None:
            self.stream.restart_time()
        if self.on_restart is not None:
            self.on_restart()

    def totals(self) -> tuple[int, int, int, int]:
        """Packets received, lost, too late for a listener, and expected."""
        received, lost, late, expected = self._past
        stream = self.stream
        if stream is not None:
            received += stream.received
            lost += stream.lost
            late += stream.too_late
            expected += stream.expected
        return received, lost, late, expected

    def _change(self, ssrc: int) -> StreamStats:
        self._past = list(self.totals())
        if self.stream is not None and self.on_restart is not None:
            self.on_restart()
        self.stream = StreamStats(ssrc)
        return self.stream
