"""How a measured value was distributed: an HDR histogram, with exact mean, least and greatest.

All have the same range and resolution, so that any two can be merged: those of windows to that of
a run, those of phones to that of a herd.  Percentiles are good to 0.1 % of the value.
"""

from __future__ import annotations

from typing import Any, Self

import msgspec
from hdrh.histogram import HdrHistogram

__all__ = ["Distribution", "PackedDistribution"]

_PER_UNIT = 1_000_000
"""Values are counted in millionths: microseconds where the unit is the second."""
_HIGHEST = 86_400 * _PER_UNIT
_DIGITS = 3


class PackedDistribution(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution in some hundred bytes instead of two hundred thousand."""

    count: int
    total: float
    minimum: float
    maximum: float
    histogram: bytes
    """HdrHistogram V2, compressed, base64: other HDR tools read it, too (unit: 1e-6)."""


class Distribution:
    """Counts values of 0 to 86,400 (a day of seconds); what is above counts as that much."""

    __slots__ = ("_histogram", "count", "maximum", "minimum", "total")

    def __init__(self) -> None:
        self._histogram: Any = None  # made with the first value: many never have one
        self.count = 0
        self.total = 0.0
        self.minimum = float("inf")
        self.maximum = float("-inf")

    def record(self, value: float) -> None:
        """Count a value; one below 0 (a clock's grain) is 0."""
        value = max(0.0, value)
        if self._histogram is None:
            self._histogram = HdrHistogram(1, _HIGHEST, _DIGITS)
        self._histogram.record_value(min(round(value * _PER_UNIT), _HIGHEST))
        self.count += 1
        self.total += value
        self.minimum = min(self.minimum, value)
        self.maximum = max(self.maximum, value)

    @property
    def mean(self) -> float | None:
        """None over nothing."""
        return self.total / self.count if self.count else None

    def percentile(self, percent: float) -> float | None:
        """The least value that `percent` of the values do not exceed; None over nothing.

        Raises:
            ValueError: `percent` is not within 0 and 100.

        """
        if not 0 <= percent <= 100:
            raise ValueError(f"percentile {percent:g} is not within 0 and 100")
        if self._histogram is None:
            return None
        value = self._histogram.get_value_at_percentile(percent) / _PER_UNIT
        # The histogram answers with the upper end of a bucket, which may be beyond all values.
        return float(min(max(value, self.minimum), self.maximum))

    def merge(self, other: Distribution) -> None:
        """Count all values of the other one, too."""
        if other._histogram is None:
            return
        if self._histogram is None:
            self._histogram = HdrHistogram(1, _HIGHEST, _DIGITS)
        self._histogram.add(other._histogram)
        self.count += other.count
        self.total += other.total
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)

    def pack(self) -> PackedDistribution:
        """It, small: to keep, or to send."""
        return PackedDistribution(
            count=self.count,
            total=self.total,
            minimum=self.minimum if self.count else 0.0,
            maximum=self.maximum if self.count else 0.0,
            histogram=self._histogram.encode() if self._histogram is not None else b"",
        )

    @classmethod
    def unpack(cls, packed: PackedDistribution) -> Self:
        """What was packed, to merge or to ask."""
        made = cls()
        if packed.count:
            made._histogram = HdrHistogram(1, _HIGHEST, _DIGITS)
            made._histogram.decode_and_add(packed.histogram)
            made.count, made.total = packed.count, packed.total
            made.minimum, made.maximum = packed.minimum, packed.maximum
        return made
