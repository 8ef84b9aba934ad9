"""``stats.csv``: a run's counters over time, under the names that SIPp's ``-trace_stat`` writes.

Column for column that of SIPp 3.6 for its ``uac`` scenario, so that what people have for SIPp's
files reads ours.  ``(P)`` is since the row before, ``(C)`` since the start.  A call is successful
if it ended as the profile drew for it; ``ResponseTime1`` is INVITE to 2xx, as in ``uac``;
``CallLength`` is INVITE to the end.  Counters of what only SIPp has are there, and 0.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, tzinfo

from . import delays
from .records import CallAttempt, as_intended

__all__ = ["CALL_LENGTHS_MS", "COLUMNS", "RESPONSE_TIMES_MS", "SippStats"]

RESPONSE_TIMES_MS = (10, 20, 30, 40, 50, 100, 150, 200)
"""Upper bounds of the classes of response times in the built-in ``uac``."""
CALL_LENGTHS_MS = (10, 50, 100, 500, 1000, 5000, 10000)
"""The same of call lengths."""

_CALLS = ("IncomingCall", "OutgoingCall")
_COUNTERS = (
    *("SuccessfulCall", "FailedCall", "FailedCannotSendMessage", "FailedMaxUDPRetrans"),
    *("FailedTcpConnect", "FailedTcpClosed", "FailedUnexpectedMessage", "FailedCallRejected"),
    *("FailedCmdNotSent", "FailedRegexpDoesntMatch", "FailedRegexpShouldntMatch"),
    *("FailedRegexpHdrNotFound", "FailedOutboundCongestion", "FailedTimeoutOnRecv"),
    *("FailedTimeoutOnSend", "FailedTestDoesntMatch", "FailedTestShouldntMatch"),
    *("FailedStrcmpDoesntMatch", "FailedStrcmpShouldntMatch", "OutOfCallMsgs", "DeadCallMsgs"),
    *("Retransmissions", "AutoAnswered", "Warnings", "FatalErrors", "WatchdogMajor"),
    "WatchdogMinor",
)
_TIMES = ("ResponseTime1", "CallLength")


def _both(*names: str) -> Iterator[str]:
    for name in names:
        yield from (f"{name}(P)", f"{name}(C)")


def _classes(name: str, bounds: Sequence[int]) -> Iterator[str]:
    yield name
    yield from (f"{name}_<{bound}" for bound in bounds)
    yield f"{name}_>={bounds[-1]}"


COLUMNS: tuple[str, ...] = (
    *("StartTime", "LastResetTime", "CurrentTime", "ElapsedTime(P)", "ElapsedTime(C)"),
    *("TargetRate", "CallRate(P)", "CallRate(C)"),
    *_both(*_CALLS),
    *("TotalCallCreated", "CurrentCall"),
    *_both(*_COUNTERS),
    *(column for name in _TIMES for column in _both(name, f"{name}StDev")),
    *_classes("ResponseTimeRepartition1", RESPONSE_TIMES_MS),
    *_classes("CallLengthRepartition", CALL_LENGTHS_MS),
)
"""In their order.  Each is followed by a semicolon, the last one, too."""


class _Times:
    """Mean and standard deviation of what was added."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, 0.0, 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.total += seconds
        self.squares += seconds * seconds

    def columns(self) -> tuple[float, float]:
        if not self.count:
            return 0.0, 0.0
        mean = self.total / self.count
        return mean, math.sqrt(max(0.0, self.squares / self.count - mean * mean))


class _Counts:
    """What is counted over a period."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.times = {name: _Times() for name in _TIMES}


def _failure(attempt: CallAttempt) -> str:
    """The counter of SIPp that says best why an attempt failed."""
    if attempt.outcome == "no_response":
        timer_b = attempt.cause == "no_response"
        return "FailedMaxUDPRetrans" if timer_b else "FailedCannotSendMessage"
    if attempt.outcome in ("refused", "crashed"):
        return "FailedCallRejected"
    if attempt.outcome == "unfinished":
        return "FailedTimeoutOnRecv"
    return "FailedUnexpectedMessage"


class SippStats:
    """Counts a run and gives its rows.

    Args:
        started_at: wall time of the run's start, seconds since the epoch.
        zone: of the times in the rows; None: the box's own, as SIPp has it.

    """

    def __init__(self, started_at: float, zone: tzinfo | None = None) -> None:
        self._started_at = started_at
        self._zone = zone
        self._period_began = 0.0
        self._whole, self._period = _Counts(), _Counts()
        self._up = 0
        self._classes: dict[str, list[int]] = {
            "ResponseTime1": [0] * (len(RESPONSE_TIMES_MS) + 1),
            "CallLength": [0] * (len(CALL_LENGTHS_MS) + 1),
        }

    def header(self) -> str:
        """The first line, without its end."""
        return "".join(f"{column};" for column in COLUMNS)

    def started(self) -> None:
        """An INVITE was sent."""
        self._up += 1
        self._count("OutgoingCall")

    def ended(self, attempt: CallAttempt) -> None:
        """An attempt is over; ``started`` was called for it, if it was sent at all."""
        if attempt.started is not None:
            self._up -= 1
            self._time("ResponseTime1", delays.setup(attempt), RESPONSE_TIMES_MS)
            self._time("CallLength", attempt.ended, CALL_LENGTHS_MS)
        if as_intended(attempt):
            self._count("SuccessfulCall")
        else:
            self._count("FailedCall")
            self._count(_failure(attempt))
        self._count("Retransmissions", attempt.retransmissions)

    def _count(self, name: str, by: int = 1) -> None:
        self._whole.counts[name] += by
        self._period.counts[name] += by

    def _time(self, name: str, seconds: float | None, bounds: Sequence[int]) -> None:
        if seconds is None:
            return
        self._whole.times[name].add(seconds)
        self._period.times[name].add(seconds)
        over = sum(seconds * 1000 >= bound for bound in bounds)
        self._classes[name][over] += 1

    def row(self, now: float, target_rate: float) -> str:
        """The line of this moment, without its end; the next period begins.

        Args:
            now: seconds since the run's start.
            target_rate: calls per second the profile wants at this moment.

        """
        period = now - self._period_began
        values: list[str] = [
            self._moment(0.0),
            self._moment(self._period_began),
            self._moment(now),
            _clock(period),
            _clock(now),
            f"{target_rate:g}",
            *(
                f"{counts.counts['OutgoingCall'] / seconds if seconds > 0 else 0:g}"
                for counts, seconds in ((self._period, period), (self._whole, now))
            ),
            *self._pairs(_CALLS),
            str(self._whole.counts["OutgoingCall"]),
            str(self._up),
            *self._pairs(_COUNTERS),
        ]
        for name in _TIMES:
            of_period, of_whole = self._period.times[name], self._whole.times[name]
            for inner, outer in zip(of_period.columns(), of_whole.columns(), strict=True):
                values += [_precise(inner), _precise(outer)]
        for classes in self._classes.values():
            values += ["", *map(str, classes)]
        self._period, self._period_began = _Counts(), now
        return "".join(f"{value};" for value in values)

    def _pairs(self, names: Sequence[str]) -> Iterator[str]:
        for name in names:
            yield str(self._period.counts[name])
            yield str(self._whole.counts[name])

    def _moment(self, t: float) -> str:
        """``2026-11-24<TAB>20:20:02.879154<TAB>1795551602.879154``."""
        epoch = self._started_at + t
        return f"{datetime.fromtimestamp(epoch, self._zone):%Y-%m-%d\t%H:%M:%S.%f}\t{epoch:.6f}"


def _clock(seconds: float) -> str:
    whole = int(max(0.0, seconds))
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _precise(seconds: float) -> str:
    """``00:00:00:507000``: hours, minutes, seconds, microseconds."""
    us = round(max(0.0, seconds) * 1e6)
    return f"{_clock(us // 1_000_000)}:{us % 1_000_000:06d}"
