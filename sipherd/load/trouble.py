"""What a live view warns of: that this box is about to be the limit of the run."""

from __future__ import annotations

from collections import deque

from .metrics import Tally
from .records import BoxSample
from .verdict import FindingKind, Limits, give

__all__ = ["Trouble"]

#: Samples, one a second as a rule, over which a habit is told from a hiccup.
_RECENT = 60
#: Samples before which nothing is said of habits: a start is busy.
_FIRST = 5
_HABITS: frozenset[FindingKind] = frozenset({"loop_lag", "cpu"})
#: What made a run INVALID once, however long ago.
_FOR_EVER: frozenset[FindingKind] = frozenset({"socket_drops", "rtp_ports"})


class Trouble:
    """Judges the last minute by the rules of the verdict.

    Args:
        since: end of the warm-up, in seconds of the run.
        limits: what the box must keep.

    """

    def __init__(self, since: float = 0.0, limits: Limits | None = None) -> None:
        self._since = since
        self._limits = limits or Limits()
        self._recent: deque[BoxSample] = deque(maxlen=_RECENT)
        self._for_ever: dict[FindingKind, str] = {}

    def sample(self, sample: BoxSample) -> None:
        """Take how the box was doing."""
        if sample.t > self._since:
            self._recent.append(sample)

    def warnings(self, tally: Tally) -> list[str]:
        """A line for each thing that makes the run INVALID if it goes on."""
        found = give(tally, (), box=self._recent, since=self._since, limits=self._limits).invalid
        told = {finding.kind: finding.text for finding in found}
        self._for_ever |= {kind: text for kind, text in told.items() if kind in _FOR_EVER}
        if len(self._recent) < _FIRST:
            told = {kind: text for kind, text in told.items() if kind not in _HABITS}
        return list((self._for_ever | told).values())
