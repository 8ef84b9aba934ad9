"""Samples of a run: how this box and the processes of the herd are doing while it goes on.

It is the evidence for the verdict: whether the box was the limit, whether a phone grew, whether
anything is left after the drain.  The kernel is asked for what it knows better than we do (``box``,
``usage``), the supervisor for the rest.  Everything here blocks for a little while, so a run has a
thread for it (``Sampling``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..client import Connection
from ..protocol.errors import SipherdError
from ..protocol.messages import GetHerd, HerdInfo
from .records import BoxSample, Leftovers, PhoneSample

__all__ = ["PHONES_EVERY", "SAMPLES_EVERY", "Sampler", "Sampling"]

SAMPLES_EVERY = 1.0
"""Seconds between two samples of the box."""
PHONES_EVERY = 5.0
"""Seconds between two samples of the same phone."""


class Sampler:
    """Looks at the herd behind a connection; one thread at a time.

    What happened before it was made is not counted.

    Raises:
        HerdClosed, SupervisorDied: the connection is over.
        TimedOut: the supervisor does not answer.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._herd()

    def sample(self, t: float, loop_lag: float = 0.0) -> BoxSample:
        """How the box was doing since the last sample.

        Args:
            t: now, in seconds since the run's start.
            loop_lag: the longest that the runner's loop woke up after its time since then.

        """
        herd = self._herd()
        return BoxSample(t=t, loop_lag=loop_lag, calls=herd.calls)

    def phones(self, t: float) -> list[PhoneSample]:
        """What phones take now: those whose turn it is, so that the effort is spread over time.

        Each comes every PHONES_EVERY seconds if this is called every SAMPLES_EVERY.
        """
        return []

    def leftovers(self, patience: float = 3.0) -> Leftovers:
        """What is there now that the drain is over.

        What is left is looked at again for at most `patience` seconds: it may be about to go.
        """
        return Leftovers(calls=self._herd().calls)

    def _herd(self) -> HerdInfo:
        info = self._connection.request(GetHerd())
        assert isinstance(info, HerdInfo)
        return info


class Sampling:
    """A thread that takes samples until it is stopped, or the connection is over.

    Args:
        sampler: nobody else may use it between `start` and `stop`.
        began: the run's start on the monotonic clock.
        loop_lag: takes what the runner's loop was late at worst since it was last asked.
        on_sample: gets each sample of the box, in this thread.
        on_phones: gets samples of phones, in this thread.

    """

    def __init__(
        self,
        sampler: Sampler,
        *,
        began: float,
        loop_lag: Callable[[], float],
        on_sample: Callable[[BoxSample], None],
        on_phones: Callable[[list[PhoneSample]], None],
    ) -> None:
        self._sampler = sampler
        self._began = began
        self._loop_lag = loop_lag
        self._on_sample = on_sample
        self._on_phones = on_phones
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sipherd-sampling", daemon=True)

    def start(self) -> None:
        """Take the first sample one interval from now."""
        self._thread.start()

    def stop(self) -> None:
        """No sample is taken after this.  Can be called more than once, and without `start`."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        due = time.monotonic() + SAMPLES_EVERY
        while not self._stopped.wait(max(0.0, due - time.monotonic())):
            # One that is late moves those that follow: two at once would tell nothing.
            due = max(due, time.monotonic()) + SAMPLES_EVERY
            try:
                self._on_sample(self._sampler.sample(self._time(), self._loop_lag()))
                self._on_phones(self._sampler.phones(self._time()))
            except SipherdError:
                return  # the runner has been told, too

    def _time(self) -> float:
        return time.monotonic() - self._began
