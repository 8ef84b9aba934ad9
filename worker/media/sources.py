"""Where the audio that we send comes from: 20 ms of 16-bit samples at a time."""

from __future__ import annotations

import math
from array import array
from collections import deque
from typing import Protocol

from .codec import FRAME_BYTES, FRAME_SAMPLES, RATE, SILENCE

__all__ = ["Echo", "Samples", "Silence", "Source", "Tone"]

_ECHO_FRAMES = 10
"""What an echo holds back at most: 200 ms."""
_STEPS = 10
"""Frequencies are told apart to a tenth of a Hz."""


class Source(Protocol):
    """Audio to send."""

    def frame(self) -> bytes | None:
        """The next 320 bytes; None at its end."""


class Silence:
    """Silence without end."""

    def frame(self) -> bytes:
        return SILENCE


class Tone:
    """A sine without end and without a step in its phase."""

    def __init__(self, frequency: float, level: float = -10.0) -> None:
        """``frequency`` in Hz, ``level`` in dB of full scale.

        Raises ValueError unless the frequency is above 0 and below 4,000 Hz.
        """
        steps = round(frequency * _STEPS)
        if not 0 < steps < RATE * _STEPS // 2:
            raise ValueError(f"a tone of {frequency:g} Hz: expected above 0 and below 4000 Hz")
        # After so many samples it repeats itself; computed once, played as slices.
        period = RATE * _STEPS // math.gcd(RATE * _STEPS, steps)
        repeats = -(-FRAME_SAMPLES // period) + 1
        peak = 32767 * 10 ** (min(level, 0.0) / 20)
        turn = 2 * math.pi * steps / (RATE * _STEPS)
        wave = array("h", (round(peak * math.sin(turn * n)) for n in range(period)))
        self._period = 2 * period
        self._wave = wave.tobytes()
        # The beginning again behind the end, so that a frame is always one slice.
        self._wave += (self._wave * repeats)[:FRAME_BYTES]
        self._at = 0

    def frame(self) -> bytes:
        frame = self._wave[self._at : self._at + FRAME_BYTES]
        self._at = (self._at + FRAME_BYTES) % self._period
        return frame


class Samples:
    """Samples that are there already, once or again and again."""

    def __init__(self, pcm: bytes, *, loop: bool = False) -> None:
        """``pcm``: 16-bit samples at 8 kHz, at least one."""
        self._pcm = pcm
        self._loop = loop
        self._at = 0

    def frame(self) -> bytes | None:
        if self._at >= len(self._pcm) and not self._loop:
            return None
        frame = self._pcm[self._at : self._at + FRAME_BYTES]
        self._at += FRAME_BYTES
        while len(frame) < FRAME_BYTES:
            if not self._loop:
                return frame + bytes(FRAME_BYTES - len(frame))
            self._at = FRAME_BYTES - len(frame)
            frame += self._pcm[: self._at]
        if self._loop:
            self._at %= len(self._pcm)
        return frame


class Echo:
    """What was heard comes back; silence while nothing is."""

    def __init__(self) -> None:
        self._heard: deque[bytes] = deque(maxlen=_ECHO_FRAMES)
        self._rest = b""

    def hear(self, pcm: bytes) -> None:
        """Samples that came in."""
        data = self._rest + pcm
        whole = len(data) - len(data) % FRAME_BYTES
        for offset in range(0, whole, FRAME_BYTES):
            self._heard.append(data[offset : offset + FRAME_BYTES])
        self._rest = data[whole:]

    def frame(self) -> bytes:
        return self._heard.popleft() if self._heard else SILENCE
