"""Writes a run down while it goes on, and shows it: what a runner tells goes to the directory of
the run, the live view and Prometheus.

Everything here is called by one thread, that of ``Runner.run``; samples alone come from another
one, and wait for the next tick.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable

import msgspec

from .arrivals import RateCurve
from .axes import clock
from .live import Phase, Snapshot
from .meter import Meter
from .profile import LoadProfile
from .prometheus import RunMetrics
from .records import BoxSample, CallAttempt, PhoneSample, RegisterAttempt, RunEvent, RunFacts
from .sipp_stats import SippStats
from .store import RunWriter
from .trouble import Trouble
from .watch import Watch

__all__ = ["Recorder"]

STATS_EVERY = 1.0
"""Seconds between two rows of ``stats.csv``."""


class Recorder:
    """The listener of a run.

    Args:
        writer: of the run's directory.
        facts: what the run is; `started_at` becomes the moment at which it begins.
        profile: what is to be done.
        planned_calls: how many calls it will be.
        watch: shows it.
        metrics: for Prometheus; None: nobody asks.
        phase: where the run is.
        begun: called when the run starts.

    """

    def __init__(
        self,
        writer: RunWriter,
        facts: RunFacts,
        profile: LoadProfile,
        planned_calls: int | None,
        watch: Watch,
        metrics: RunMetrics | None = None,
        *,
        phase: Callable[[], Phase],
        begun: Callable[[], None] = lambda: None,
    ) -> None:
        self.facts = facts
        self._writer, self._watch, self._metrics = writer, watch, metrics
        self._phase, self._begun = phase, begun
        self._curve = RateCurve(profile.arrival, profile.duration)
        self._end = profile.seconds
        self._meter = Meter(
            facts.name,
            planned=profile.seconds,
            planned_calls=planned_calls,
            limit=profile.limits.concurrent,
        )
        self._trouble = Trouble(profile.warm_up)
        self._stats = SippStats(facts.started_at)
        self._samples: queue.SimpleQueue[BoxSample | list[PhoneSample]] = queue.SimpleQueue()
        self._planned, self._seen = planned_calls, 0
        self._next_row = STATS_EVERY
        self._next_view = 0.0

    # -- for any thread --------------------------------------------------------------------------

    def on_sample(self, sample: BoxSample) -> None:
        """How the box was doing."""
        self._samples.put(sample)

    def on_phones(self, samples: list[PhoneSample]) -> None:
        """What phones took."""
        self._samples.put(samples)

    # -- the runner's listener -------------------------------------------------------------------

    def on_begin(self, at: float) -> None:
        """The run starts now."""
        self.facts = msgspec.structs.replace(self.facts, started_at=at)
        self._writer.write_facts(self.facts)
        self._stats = SippStats(at)
        self._writer.add_stats(self._stats.header())
        if self._metrics:
            self._metrics.rate(self._curve.rate(0.0))
        self._begun()

    def on_started(self, attempt: CallAttempt, t: float) -> None:
        """An INVITE was sent."""
        self._writer.add(attempt, time.monotonic())
        self._meter.start(t)
        self._seen = max(self._seen, attempt.number)
        self._stats.started()
        if self._metrics:
            self._metrics.started()

    def on_answered(self) -> None:
        """A call was answered."""
        self._meter.answer()
        if self._metrics:
            self._metrics.answered()

    def on_attempt(self, attempt: CallAttempt, t: float) -> None:
        """An attempt is over."""
        self._writer.add(attempt, time.monotonic())
        self._meter.end(attempt, t)
        self._stats.ended(attempt)
        if self._metrics:
            self._metrics.ended(attempt)

    def on_event(self, event: RunEvent) -> None:
        """Something happened to the herd."""
        self._writer.add_event(event)
        self._meter.event(event)
        if self._metrics:
            self._metrics.event(event)

    def on_register(self, attempt: RegisterAttempt) -> None:
        """A phone has registered, or failed to."""
        self._writer.add(attempt, time.monotonic())

    def on_tick(self, t: float) -> None:
        """Write and show what is due."""
        self._take_samples()
        self._writer.tick(time.monotonic())
        phase = self._phase()
        if phase == "draining" and self.facts.state == "running":
            self.facts = msgspec.structs.replace(self.facts, state="draining")
            self._writer.write_facts(self.facts)
            if self._planned is not None and self._seen < self._planned:
                planned = f"{self._seen:,} of {self._planned:,} calls"
                self._say(f"no new calls after {planned} in {clock(t)}")
        if t >= self._next_row:
            self._write_row(t)
        if t >= self._next_view:
            self._next_view = t + self._watch.every
            warnings = self._trouble.warnings(self._meter.tally)
            self._show(self._meter.snapshot(t, phase, self._rate(t), warnings))

    def _show(self, snapshot: Snapshot) -> None:
        # Whom it is shown to may be gone, a closed terminal or the end of a pipe; the run is not.
        with contextlib.suppress(OSError):
            self._watch.show(snapshot)

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._watch.say(text)

    def finish(self, t: float) -> None:
        """Write what is left: the run is over after `t` seconds."""
        self._take_samples()
        self._write_row(t)
        self._writer.commit()

    def _write_row(self, t: float) -> None:
        rate = self._rate(t)
        self._writer.add_stats(self._stats.row(t, rate))
        if self._metrics:
            self._metrics.rate(rate)
        # Those that were missed are not made up for: SIPp's periods are as long as they were.
        self._next_row = max(self._next_row + STATS_EVERY, t)

    def _rate(self, t: float) -> float:
        """What the profile wants now."""
        if self._phase() in ("draining", "finished") or (self._end is not None and t >= self._end):
            return 0.0
        return self._curve.rate(t)

    def _take_samples(self) -> None:
        now = time.monotonic()
        while not self._samples.empty():
            taken = self._samples.get_nowait()
            if isinstance(taken, list):
                for sample in taken:
                    self._writer.add(sample, now)
                continue
            self._writer.add(taken, now)
            self._trouble.sample(taken)
            if self._metrics:
                self._metrics.sample(taken)
