"""DTMF as RTP events (RFC 4733): one digit after the other out, and digits from what comes in."""

from __future__ import annotations

import struct
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import NamedTuple

from .codec import FRAME_SAMPLES, RATE

__all__ = ["DIGITS", "Digit", "DtmfReceiver", "DtmfSender", "EventPacket"]

DIGITS = "0123456789*#ABCD"
"""By event number (RFC 4733 §3.2)."""
_ENDS = 3
"""Copies of the packet with the E bit (§2.5.1.4)."""
_VOLUME = 10
"""-10 dBm0."""
_PAYLOAD = struct.Struct("!BBH")
_END = 0x80
_MAX_DURATION = 0xFFFF
SILENCE = 0.15
"""Seconds without a packet after which an event is over, though none with the E bit came."""
_REMEMBERED = 32
"""Events whose late packets are not another digit."""


class EventPacket(NamedTuple):
    """What goes into one RTP packet of an event."""

    marker: bool
    timestamp: int
    """Of the whole event: when it began."""
    payload: bytes


class DtmfSender:
    """Turns digits into one packet for each 20 ms, instead of audio."""

    def __init__(self, *, tone: float = 0.1, pause: float = 0.1) -> None:
        """``tone`` and ``pause``: seconds of each digit, and before the next one.

        The copies of the last packet go out within the pause.
        """
        self._duration = round(tone * RATE)
        self._tone = round(tone * RATE / FRAME_SAMPLES)
        self._pause = max(round(pause * RATE / FRAME_SAMPLES), _ENDS)
        self._queue: deque[str] = deque()
        self._step = 0
        """Frames since the digit at the head of the queue began."""
        self._began = 0

    @property
    def left(self) -> int:
        """Digits that are not over yet."""
        return len(self._queue)

    def send(self, digits: str) -> None:
        """Queue digits.  Raises ValueError for one that is none."""
        digits = digits.upper()
        for digit in digits:
            if digit not in DIGITS:
                raise ValueError(f"{digit!r} is no DTMF digit")
        self._queue += digits

    def clear(self) -> None:
        """Forget what was not sent yet."""
        self._queue.clear()
        self._step = 0

    def next(self, timestamp: int) -> EventPacket | None:
        """The packet of the 20 ms that begin at ``timestamp``; None where audio may be sent."""
        if not self._queue:
            return None
        step, self._step = self._step, self._step + 1
        if step == 0:
            self._began = timestamp
        event = DIGITS.index(self._queue[0])
        if step < self._tone:
            packet = _PAYLOAD.pack(event, _VOLUME, (step + 1) * FRAME_SAMPLES)
            return EventPacket(step == 0, self._began, packet)
        step -= self._tone
        if step + 1 == self._pause:
            self._queue.popleft()
            self._step = 0
        if step < _ENDS:
            packet = _PAYLOAD.pack(event, _END | _VOLUME, self._duration)
            return EventPacket(False, self._began, packet)
        return None


@dataclass(frozen=True, slots=True)
class Digit:
    """A digit that has ended."""

    digit: str
    duration: float
    """Seconds, as far as its packets say."""


@dataclass(slots=True)
class _Event:
    event: int
    duration: int
    heard: float
    before: int = 0
    """Duration of its earlier segments."""


class DtmfReceiver:
    """One digit for each (SSRC, time stamp), from any of its packets.

    It ends by the E bit, a new time stamp, or 150 ms of silence.
    """

    def __init__(self) -> None:
        self._current: tuple[int, int] | None = None
        self._event = _Event(0, 0, 0.0)
        self._known: OrderedDict[tuple[int, int], None] = OrderedDict()

    def receive(self, ssrc: int, timestamp: int, payload: bytes, now: float) -> list[Digit]:
        """Take an event packet; returns the digits that ended by it."""
        if len(payload) < _PAYLOAD.size:
            return []
        event, flags, duration = _PAYLOAD.unpack_from(payload)
        if event >= len(DIGITS):
            return []
        key = (ssrc, timestamp)
        ended: list[Digit] = []
        if key != self._current:
            if key in self._known:
                return []  # a late copy of what is over
            if self._continues(ssrc, timestamp, event):
                self._event.before += self._event.duration
                self._event.duration = duration
            else:
                ended += self._finish()
                self._event = _Event(event, duration, now)
            self._current = key
            self._remember(key)
        self._event.duration = max(self._event.duration, duration)
        self._event.heard = now
        if flags & _END:
            ended += self._finish()
        return ended

    def tick(self, now: float) -> list[Digit]:
        """The digit that has ended by silence, if one has."""
        due = self.next_timer()
        return self._finish() if due is not None and due <= now else []

    def next_timer(self) -> float | None:
        """When `tick` is wanted."""
        return None if self._current is None else self._event.heard + SILENCE

    def finish(self) -> list[Digit]:
        """The call is over: the digit that has not ended."""
        return self._finish()

    def _finish(self) -> list[Digit]:
        if self._current is None:
            return []
        self._current = None
        event = self._event
        return [Digit(DIGITS[event.event], (event.before + event.duration) / RATE)]

    def _remember(self, key: tuple[int, int]) -> None:
        self._known[key] = None
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def _continues(self, ssrc: int, timestamp: int, event: int) -> bool:
        """§2.5.1.3: an event longer than the field goes on in a segment with its own time stamp."""
        if self._current is None or self._event.duration < _MAX_DURATION - FRAME_SAMPLES:
            return False
        ahead = timestamp - self._current[1] & 0xFFFFFFFF
        return (
            ssrc == self._current[0]
            and event == self._event.event
            and ahead in (self._event.duration, _MAX_DURATION)
        )
