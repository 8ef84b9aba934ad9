"""Our side of RTCP: when to report what, and what the peer's reports tell (RFC 3550 §6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import rtcp
from .sender import Sender
from .stats import StreamStats

__all__ = ["Reports"]


class Reports:
    """Reports of one call."""

    def __init__(
        self, sender: Sender, cname: str, wall: float, chance: Callable[[], float]
    ) -> None:
        """``wall``: what the clock on the wall shows when ours shows 0; ``chance``: 0 to 1."""
        self.round_trip: float | None = None
        """Seconds, of the last report that told."""
        self.next_at: float | None = None
        self._sender = sender
        self._cname = cname
        self._wall = wall
        self._chance = chance
        self._sent_before = 0

    def start(self, now: float) -> None:
        """There is somebody to report to."""
        if self.next_at is None:
            self.next_at = now + rtcp.interval(self._chance(), first=True)

    def take(
        self, packets: Sequence[rtcp.RtcpPacket], stream: StreamStats | None, now: float
    ) -> None:
        """The peer's report came."""
        ssrc = self._sender.identity.ssrc
        for packet in packets:
            if not isinstance(packet, (rtcp.SenderReport, rtcp.ReceiverReport)):
                continue
            if isinstance(packet, rtcp.SenderReport) and stream and packet.ssrc == stream.ssrc:
                stream.heard_report(rtcp.middle_of_ntp(packet.info.ntp), now)
            for block in packet.blocks:
                if block.ssrc == ssrc:
                    seconds = rtcp.round_trip(self._ntp(now), block)
                    if seconds is not None:
                        self.round_trip = seconds

    def report(self, stream: StreamStats | None, now: float) -> bytes:
        """The report that is due."""
        self.next_at = now + rtcp.interval(self._chance(), first=False)
        return rtcp.build(self._packets(stream, now))

    def bye(self, stream: StreamStats | None, now: float) -> bytes:
        """The last report."""
        ssrc = self._sender.identity.ssrc
        return rtcp.build([*self._packets(stream, now), rtcp.Bye((ssrc,))])

    def _packets(self, stream: StreamStats | None, now: float) -> list[rtcp.RtcpPacket]:
        sender = self._sender
        ssrc = sender.identity.ssrc
        blocks = () if stream is None else (stream.report(now),)
        # §6.4: SR if anything was sent since the last report but one.
        sent, self._sent_before = sender.packets > self._sent_before, sender.packets
        report: rtcp.RtcpPacket
        if sent:
            info = rtcp.SenderInfo(
                self._ntp(now), sender.timestamp(now), sender.packets, sender.octets
            )
            report = rtcp.SenderReport(ssrc, info, blocks)
        else:
            report = rtcp.ReceiverReport(ssrc, blocks)
        return [report, rtcp.SourceDescription(((ssrc, self._cname),))]

    def _ntp(self, now: float) -> int:
        return rtcp.ntp(self._wall + now)
