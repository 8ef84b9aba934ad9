"""What is recorded of a call: both directions on one time line, gaps filled with silence."""

from __future__ import annotations

import warnings
from typing import Literal, TypeAlias

from .codec import RATE

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "'audioop' is deprecated", DeprecationWarning)
    import audioop

__all__ = ["Recorder", "What"]

What: TypeAlias = Literal["received", "sent", "mixed", "both"]

_WAIT = RATE // 5
"""Samples (200 ms) that a late packet is waited for."""
_AHEAD = RATE
"""How far (1 s) a time stamp may be off the clock before it is taken for another time line."""


class _Track:
    """Samples by their place on the time line, until they are taken."""

    def __init__(self) -> None:
        self._pcm = bytearray()
        self._first = 0
        """Place of the first sample that was not taken yet."""

    def put(self, place: int, pcm: bytes) -> None:
        """Lay samples down; what is before the first place is too late."""
        offset = 2 * (place - self._first)
        if offset < 0:
            pcm = pcm[-offset:]
            offset = 0
        if len(self._pcm) < offset:
            self._pcm += bytes(offset - len(self._pcm))
        self._pcm[offset : offset + len(pcm)] = pcm

    def take(self, until: int) -> bytes:
        """The samples before a place, silence where there are none."""
        size = max(2 * (until - self._first), 0)
        taken = bytes(self._pcm[:size])
        del self._pcm[:size]
        self._first += size // 2
        return taken + bytes(size - len(taken))


class Recorder:
    """Lays down what is heard and what is sent; `take` gives what is complete.

    Heard audio is placed by its time stamps, so that loss is silence of the right length and
    misordered packets find their place.
    """

    def __init__(self, what: What, now: float) -> None:
        self.what = what
        self._began = now
        self._heard = _Track()
        self._sent = _Track()
        self._anchor: tuple[int, int] | None = None
        """A time stamp of the peer's, and its place."""
        self._taken = 0

    @property
    def channels(self) -> int:
        """Channels of what `take` gives."""
        return 2 if self.what == "both" else 1

    @property
    def seconds(self) -> float:
        """What `take` gave so far."""
        return self._taken / RATE

    def heard(self, timestamp: int, pcm: bytes, now: float) -> None:
        """A packet came."""
        if self.what == "sent":
            return
        clock = self._place(now)
        place = clock
        if self._anchor is not None:
            stamp, anchored = self._anchor
            ahead = timestamp - stamp & 0xFFFFFFFF
            place = anchored + ahead - (ahead >> 31 << 32)
            if abs(place - clock) > _AHEAD:
                place = clock
        self._anchor = timestamp, place
        self._heard.put(place, pcm)

    def restart(self) -> None:
        """The peer's time stamps begin anew: another stream."""
        self._anchor = None

    def sent(self, when: float, pcm: bytes) -> None:
        """A packet went out whose time by our schedule is ``when``."""
        if self.what != "received":
            self._sent.put(self._place(when), pcm)

    def take(self, now: float, *, all: bool = False) -> bytes:
        """Samples that nothing can change any more, as they go into the file.

        With ``all`` everything up to now: the recording ends.
        """
        until = self._place(now) - (0 if all else _WAIT)
        if until <= self._taken:
            return b""
        self._taken = until
        if self.what == "received":
            return self._heard.take(until)
        if self.what == "sent":
            return self._sent.take(until)
        heard, sent = self._heard.take(until), self._sent.take(until)
        if self.what == "mixed":
            return audioop.add(heard, sent, 2)  # saturates
        return audioop.add(audioop.tostereo(heard, 2, 1, 0), audioop.tostereo(sent, 2, 0, 1), 2)

    def _place(self, when: float) -> int:
        return round((when - self._began) * RATE)
