"""How late the loops of the herd came to their work of late, a figure for each second or less.

A loop that is late is the first sign of a box that has more to do than it can.  A phone tells it
through its slot (``protocol.pulse``); the supervisor is as late as its look at the phones, and as
what it hears of them is old.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from ..protocol.messages import LoopLag

__all__ = ["Lags"]

_KEPT = 20
_EVERY = 0.5
"""Seconds between two figures, at least."""


class Lags:
    """Those of the last ten seconds or more.  Without a clock."""

    def __init__(self) -> None:
        self._kept: deque[LoopLag] = deque(maxlen=_KEPT)
        self._supervisor = 0.0
        self._phones = 0.0

    def __iter__(self) -> Iterator[LoopLag]:
        return iter(self._kept)

    def heard(self, age: float) -> None:
        """A message of a phone was taken up ``age`` seconds after what it tells had happened."""
        self._supervisor = max(self._supervisor, age)

    def looked(self, now: float, delay: float, phones: float) -> None:
        """A look at the phones came ``delay`` late, the phones were by ``phones`` at worst."""
        self._supervisor = max(self._supervisor, delay)
        self._phones = max(self._phones, phones)
        if self._kept and now - self._kept[-1].t < _EVERY:
            return
        self._kept.append(LoopLag(now, self._supervisor, self._phones))
        self._supervisor = self._phones = 0.0
