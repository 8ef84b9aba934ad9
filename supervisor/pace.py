"""How fast somebody may go on."""

from __future__ import annotations

__all__ = ["Bucket", "Sparse"]


class Bucket:
    """A token bucket: ``rate`` tokens a second come in, at most ``size`` are kept."""

    __slots__ = ("_at", "_level", "_rate", "_size")

    def __init__(self, rate: float, size: float) -> None:
        self._rate = rate
        self._size = self._level = size
        self._at: float | None = None

    def take(self, tokens: float, now: float) -> bool:
        """Whether so many tokens were there; they are gone now."""
        if self._at is not None:
            self._level = min(self._size, self._level + (now - self._at) * self._rate)
        self._at = now
        if self._level < tokens:
            return False
        self._level -= tokens
        return True


class Sparse:
    """Lets a few of many like log lines through, so that nobody can fill the log."""

    def __init__(self, rate: float = 1.0, size: float = 20.0) -> None:
        self._bucket = Bucket(rate, size)
        self._suppressed = 0

    def line(self, now: float) -> dict[str, int] | None:
        """What is added to the line: how many were left out before it.  None: leave it out."""
        if not self._bucket.take(1.0, now):
            self._suppressed += 1
            return None
        suppressed, self._suppressed = self._suppressed, 0
        return {"left_out": suppressed} if suppressed else {}
