"""What a runner tells its live view: calls that start, are answered and end, and then a snapshot.

Without a clock: who tells it of something says when, in seconds since the run's start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .live import Phase, PhoneNow, Snapshot
from .metrics import Tally
from .records import CallAttempt, RunEvent, as_intended

__all__ = ["Meter"]

#: Whole seconds that the rates are the mean of, and that the view shows one by one.
_RATE_OF = 5
_SHOWN = 40
_TOP = 10


class Meter:
    """Counts a run while it goes on.

    Args:
        name: of the run.
        planned: seconds in which calls start; None: until somebody stops it.
        planned_calls: how many it will be; None: nobody knows.
        limit: of calls at once; None: there is none.

    """

    def __init__(
        self,
        name: str,
        *,
        planned: float | None = None,
        planned_calls: int | None = None,
        limit: int | None = None,
    ) -> None:
        self._name = name
        self._planned, self._planned_calls, self._limit = planned, planned_calls, limit
        self._tally = Tally()
        self._started: Counter[int] = Counter()
        self._missed: Counter[int] = Counter()
        self._deaths: Counter[str] = Counter()
        self._phones: Counter[str] = Counter()
        """Calls by phone on either side, as ``Tally.phones_not_intended`` has them."""
        self._calls = self._under_way = self._answered = self._restarts = self._faults = 0

    @property
    def tally(self) -> Tally:
        """Of all attempts that are over."""
        return self._tally

    def start(self, t: float) -> None:
        """An INVITE was sent."""
        self._calls += 1
        self._under_way += 1
        self._count(self._started, t)

    def answer(self) -> None:
        """A call was answered."""
        self._answered += 1

    def end(self, attempt: CallAttempt, t: float) -> None:
        """An attempt is over, or was never sent."""
        if attempt.started is None:
            self._calls += 1
        else:
            self._under_way -= 1
            self._answered -= attempt.answered is not None
        self._tally.add(attempt)
        if not attempt.warm_up:
            self._phones.update({attempt.caller, attempt.callee})
        if not as_intended(attempt):
            self._count(self._missed, t)

    def event(self, event: RunEvent) -> None:
        """Something happened to the herd."""
        self._tally.add_event(event)
        if event.kind == "phone_died":
            self._deaths[event.phone] += 1
        elif event.kind == "fault":
            self._faults += 1
        elif event.kind == "phone_state" and event.facts.get("state") == "ready":
            self._restarts += event.incarnation > 1

    def snapshot(
        self, now: float, phase: Phase, intended_rate: float, warnings: Sequence[str] = ()
    ) -> Snapshot:
        """The run as it is now."""
        tally = self._tally
        return Snapshot(
            name=self._name,
            phase=phase,
            elapsed=now,
            planned=self._planned,
            planned_calls=self._planned_calls,
            intended_rate=intended_rate,
            started_rate=self._rate(self._started, now),
            missed_rate=self._rate(self._missed, now),
            recent_rates=[float(self._started[s]) for s in _seconds(now, _SHOWN)],
            calls=self._calls,
            ended=tally.counts["attempts"],
            as_intended=tally.counts["as_intended"],
            under_way=self._under_way,
            answered=self._answered,
            limit=self._limit,
            setup=(
                tally.value("srd_ok_p50"),
                tally.value("srd_ok_p95"),
                tally.value("srd_ok_p99"),
            ),
            late=(tally.value("late_p99"), tally.value("late_max")),
            causes=[(c.replace("_", " "), n) for c, n in tally.causes.most_common(_TOP)],
            worst=self._worst(),
            restarts=self._restarts,
            faults=self._faults,
            warnings=warnings,
        )

    def _worst(self) -> list[PhoneNow]:
        missed, deaths = self._tally.phones_not_intended, self._deaths
        troubled = sorted(
            {*missed, *deaths} - {""}, key=lambda name: (-missed[name], -deaths[name], name)
        )
        return [
            PhoneNow(name=name, calls=self._phones[name], missed=missed[name], deaths=deaths[name])
            for name in troubled[:_TOP]
        ]

    def _count(self, counter: Counter[int], t: float) -> None:
        second = int(t)
        if second not in counter:  # once a second: forget what nobody is shown any more
            for old in [s for s in counter if s < second - 2 * _SHOWN]:
                del counter[old]
        counter[second] += 1

    @staticmethod
    def _rate(counter: Counter[int], now: float) -> float:
        """The mean of the last whole seconds."""
        seconds = _seconds(now, _RATE_OF)
        return sum(counter[s] for s in seconds) / len(seconds) if seconds else 0.0


def _seconds(now: float, count: int) -> range:
    """The last whole seconds before `now`, at most `count` of them."""
    return range(max(0, int(now) - count), int(now))
