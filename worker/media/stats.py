"""What is known of a stream that comes in: sequence, loss, jitter (RFC 3550 §A.1, §A.3, §A.8)."""

from __future__ import annotations

from enum import Enum

from .codec import RATE
from .rtcp import ReportBlock

__all__ = ["BUFFER_SECONDS", "Arrival", "StreamStats"]

_MAX_DROPOUT = 3000
"""Numbers ahead of the last one that are a gap and not another stream (§A.1)."""
_MAX_MISORDER = 100
_WINDOW = 128
"""Latest sequence numbers whose second copy is known for a duplicate."""
BUFFER_SECONDS = 0.06
"""Depth of the jitter buffer that a listener would have: what is later is lost to the ear."""
_DRIFT = 2e-4
"""Share by which the sender's clock may be slower than ours before it counts as delay."""


class Arrival(Enum):
    """What a packet is by its sequence number."""

    NEW = "new"
    """The next one, or one after a gap."""
    MISORDERED = "misordered"
    """An earlier one that had not come yet."""
    DUPLICATE = "duplicate"
    JUMP = "jump"
    """Far from all others; a second one in sequence makes it the new beginning."""


class StreamStats:
    """One synchronisation source, as it is heard here."""

    def __init__(self, ssrc: int) -> None:
        self.ssrc = ssrc
        self.received = 0
        """Packets, without duplicates."""
        self.duplicates = 0
        self.misordered = 0
        self.too_late = 0
        """Packets behind the jitter buffer that a listener would have."""
        self.octets = 0
        self._base = 0
        self._highest = -1
        """Extended highest sequence number; -1 before the first packet."""
        self._before = 0
        """Packets expected before the sequence began anew."""
        self._expected_next = -1
        self._seen = 0
        """Bit n: the nth number below the highest one has come."""
        self._transit: float | None = None
        self._jitter = 0.0
        self._timestamp = 0
        self._media = 0
        """Extended time stamp, from the first packet on."""
        self._earliest = 0.0
        """Transit of the packets that came soonest."""
        self._reported = (0, 0)
        self._last_report = 0
        self._last_report_at = 0.0

    # Packets

    def count(self, sequence: int, octets: int) -> Arrival:
        """Take note of a packet with that sequence number (§A.1)."""
        arrival = self._place(sequence)
        if arrival is Arrival.DUPLICATE:
            self.duplicates += 1
        elif arrival is not Arrival.JUMP:
            self.received += 1
            self.octets += octets
            self.misordered += arrival is Arrival.MISORDERED
        return arrival

    def time(self, timestamp: int, now: float) -> None:
        """Take note of when audio with that time stamp came (§A.8)."""
        if self._transit is None:
            ahead = 0
        else:
            ahead = timestamp - self._timestamp & 0xFFFFFFFF
            ahead -= (ahead >> 31) << 32
        self._timestamp = timestamp & 0xFFFFFFFF
        self._media += ahead
        transit = now - self._media / RATE
        if self._transit is None:
            self._earliest = transit
        else:
            self._jitter += (abs(transit - self._transit) - self._jitter) / 16
        self._transit = transit
        # Leaks upwards, else a sender with a slow clock would be late for ever after an hour.
        self._earliest = min(transit, self._earliest + abs(ahead) / RATE * _DRIFT)
        if transit - self._earliest > BUFFER_SECONDS:
            self.too_late += 1

    def restart_time(self) -> None:
        """The sender paused: its next packet is not late."""
        self._transit = None

    def _place(self, sequence: int) -> Arrival:
        if self._highest < 0:
            self._begin(sequence)
            return Arrival.NEW
        ahead = sequence - self._highest & 0xFFFF
        if 0 < ahead < _MAX_DROPOUT:
            self._highest += ahead
            self._seen = (self._seen << ahead | 1) & (1 << _WINDOW) - 1
            self._expected_next = -1
            return Arrival.NEW
        behind = -ahead & 0xFFFF
        if behind < _MAX_MISORDER:
            bit = 1 << behind
            if self._seen & bit or self._highest - behind < self._base:
                return Arrival.DUPLICATE
            self._seen |= bit
            return Arrival.MISORDERED
        if sequence == self._expected_next:
            # Two in a row: the other side began anew without saying so.
            self._before += self.expected
            self._begin(sequence)
            self.restart_time()
            return Arrival.NEW
        self._expected_next = sequence + 1 & 0xFFFF
        return Arrival.JUMP

    def _begin(self, sequence: int) -> None:
        # One cycle up, so that an early packet behind the first is below the base and not negative.
        self._base = self._highest = 0x10000 + sequence
        self._seen = 1
        self._expected_next = -1

    # Figures

    @property
    def expected(self) -> int:
        """Packets that should have come, by their numbers."""
        return self._before + (self._highest - self._base + 1 if self._highest >= 0 else 0)

    @property
    def lost(self) -> int:
        """Packets that never came."""
        return max(self.expected - self.received, 0)

    @property
    def jitter(self) -> float:
        """Interarrival jitter in seconds (§6.4.1)."""
        return self._jitter

    # Reports

    def heard_report(self, middle_of_ntp: int, now: float) -> None:
        """A sender report of it came."""
        self._last_report = middle_of_ntp
        self._last_report_at = now

    def report(self, now: float) -> ReportBlock:
        """The block about it for our next report (§A.3)."""
        expected, received = self.expected, self.received + self.duplicates
        expected_before, received_before = self._reported
        self._reported = expected, received
        since = expected - expected_before
        lost = since - (received - received_before)
        return ReportBlock(
            ssrc=self.ssrc,
            fraction_lost=min(lost * 256 // since, 255) if since > 0 and lost > 0 else 0,
            lost=expected - received,
            highest=self._highest & 0xFFFFFFFF,
            jitter=min(round(self._jitter * RATE), 2**32 - 1),
            last_report=self._last_report,
            delay=round((now - self._last_report_at) * 65536) if self._last_report else 0,
        )
