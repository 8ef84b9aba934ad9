"""What we send: 50 packets a second on a schedule that does not drift.

Packet n is due at ``start + n · 20 ms`` whatever happened to those before it, and its RTP time
stamp is ``n · 160`` on: a loop that was held up catches up, or leaves a gap of the right length.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

from ..stack import Address
from . import rtp
from .codec import CODECS, FRAME_SAMPLES, FRAME_SECONDS
from .dtmf import DtmfSender
from .outputs import DigitSent, MediaOutput, SendRtp, SourceEnded
from .sources import Silence, Source

__all__ = ["Identity", "Sender"]

_BURST = 5
"""Packets that are sent at once at most; what is further behind is left out."""
_LATE = FRAME_SECONDS
"""Seconds behind its schedule that count as late."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes a stream ours (RFC 3550 §5.1: unpredictable)."""

    ssrc: int
    sequence: int
    timestamp: int

    @classmethod
    def fresh(cls) -> Identity:
        """A new one, from the kernel's randomness."""
        data = os.urandom(10)
        # Half the range, as RFC 3711 §3.3.1 wants it: the first wrap is far from the start.
        sequence = int.from_bytes(data[4:6]) & 0x7FFF
        return cls(int.from_bytes(data[:4]), sequence, int.from_bytes(data[6:]))


class Sender:
    """Our stream of one call; nothing is sent before `start`."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.source: Source = Silence()
        self.dtmf = DtmfSender()
        self.on_frame: Callable[[float, bytes], None] | None = None
        """Told when each frame of audio is due, and its samples."""
        self.packets = 0
        self.octets = 0
        """Of payload."""
        self.late = 0
        self.left_out = 0
        """Frames that were too far behind to be sent."""
        self.last_sent = -math.inf
        self._codec = CODECS["PCMU"]
        self._payload = 0
        self._dtmf_payload: int | None = None
        self._origin = 0.0
        self._frame: int | None = None
        """Number of the next frame; None before the first start."""
        self._running = False
        self._marker = True

    @property
    def is_running(self) -> bool:
        """Whether packets are sent."""
        return self._running

    @property
    def has_events(self) -> bool:
        """Whether the peer takes DTMF as RTP events."""
        return self._dtmf_payload is not None

    def use(self, codec: str, payload: int, dtmf_payload: int | None) -> None:
        """What is sent, and its payload type numbers."""
        self._codec = CODECS[codec]
        self._payload = payload
        self._dtmf_payload = dtmf_payload

    def start(self, now: float) -> None:
        """Send from now on; on the same schedule as before, if there was one."""
        if self._running:
            return
        self._running = True
        self._marker = True  # RFC 3551 §4.1: the first packet after a pause
        if self._frame is None:
            self._origin, self._frame = now, 0
        else:
            self._frame = max(self._frame, math.ceil(self._frames(now)))

    def stop(self) -> None:
        """Send nothing until the next start."""
        self._running = False

    def next_timer(self) -> float | None:
        """When the next packet is due."""
        if not self._running or self._frame is None:
            return None
        return self._origin + self._frame * FRAME_SECONDS

    def timestamp(self, now: float) -> int:
        """The RTP time stamp of that moment."""
        samples = round(self._frames(now) * FRAME_SAMPLES) if self._frame is not None else 0
        return self.identity.timestamp + samples & 0xFFFFFFFF

    def tick(self, now: float, destination: Address) -> list[MediaOutput]:
        """Send what is due."""
        outputs: list[MediaOutput] = []
        if not self._running or self._frame is None:
            return outputs
        # The small term: a timer that is due must not be found early by a rounding error.
        latest = math.floor(self._frames(now) + 1e-6)
        behind = latest - self._frame + 1 - _BURST
        if behind > 0:
            self.left_out += behind
            self._frame += behind
        while self._frame <= latest:
            due = self._origin + self._frame * FRAME_SECONDS
            self._send(self._frame, due, destination, outputs)
            self.late += now - due > _LATE
            self._frame += 1
            self.last_sent = now
        return outputs

    def _send(
        self, frame: int, due: float, destination: Address, outputs: list[MediaOutput]
    ) -> None:
        identity = self.identity
        timestamp = identity.timestamp + frame * FRAME_SAMPLES
        event = None
        if self._dtmf_payload is not None and (left := self.dtmf.left):
            event = self.dtmf.next(timestamp & 0xFFFFFFFF)
            if self.dtmf.left != left:
                outputs.append(DigitSent())
        if event is not None:
            assert self._dtmf_payload is not None
            number, payload = self._dtmf_payload, event.payload
            timestamp, marker = event.timestamp, event.marker
            self._marker = False
        else:
            pcm = self.source.frame()
            if pcm is None:
                outputs.append(SourceEnded())
                self.source = Silence()
                pcm = self.source.frame()
            if self.on_frame is not None:
                self.on_frame(due, pcm)
            number, payload = self._payload, self._codec.encode(pcm)
            marker, self._marker = self._marker, False
        sequence = identity.sequence + self.packets
        data = rtp.build(number, sequence, timestamp, identity.ssrc, payload, marker=marker)
        self.packets += 1
        self.octets += len(payload)
        outputs.append(SendRtp(data, destination))

    def _frames(self, now: float) -> float:
        """Frames from the origin to ``now``."""
        return (now - self._origin) / FRAME_SECONDS
