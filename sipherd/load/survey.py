"""Counts a run's attempts, once through, into what a report says of them.

Memory does not grow with the calls but for a few numbers each (40 bytes): a million is 40 MB.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from . import delays
from .findings import (
    Course,
    Figure,
    Judgement,
    MixLine,
    PhoneCourse,
    Report,
    happenings,
    worst_first,
)
from .records import BoxSample, CallAttempt, PhoneSample, RunEvent, RunFacts, as_intended

__all__ = ["Survey", "cause_of", "percentile", "report", "window_for"]

#: Windows of a run: enough for a wide screen, and so many that a row is a pixel or more on a phone.
_WINDOWS = 120
_LENGTHS = (1, 2, 5, 10, 15, 30, *(60 * m for m in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360)))
_EXAMPLES_PER_CAUSE = 5
_EXAMPLES = 60


def window_for(seconds: float) -> float:
    """The length of a window, in seconds: a round one, so that there are at most 120."""
    for length in _LENGTHS:
        if seconds <= length * _WINDOWS:
            return float(length)
    return 86400.0 * math.ceil(seconds / _WINDOWS / 86400)


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Nearest rank of sorted values: the smallest that `share` (0-100) % do not exceed."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share / 100 * len(ordered)) - 1)]


def cause_of(attempt: CallAttempt) -> str:
    """Why the attempt did not end as intended, in words that group with others of the kind."""
    if attempt.outcome == "crashed":  # the other side's leg may have been hung up after it
        return "phone crashed"
    cause = attempt.cause.replace("_", " ") or attempt.outcome.replace("_", " ")
    code = attempt.final_code
    if code is not None and code >= 300 and not (code == 487 and attempt.cause == "cancelled"):
        cause += f" ({code})"
    if attempt.outcome in ("refused", "unfinished", "no_response"):
        return cause
    return f"{cause}, {attempt.expected.replace('_', ' ')} intended"


class Survey:
    """Takes attempts in any order; `report` says what was counted."""

    def __init__(self, seconds: float) -> None:
        self._window = window_for(seconds)
        self._count = max(1, math.ceil(seconds / self._window - 1e-9))
        self._seconds = seconds
        self._intended = self._zeros()
        self._started = self._zeros()
        self._missed = self._zeros()
        self._setup = [array("f") for _ in range(self._count)]
        self._late = [array("f") for _ in range(self._count)]
        self._begun, self._over = self._windows(), self._windows()
        self._talk, self._hung_up = self._windows(), self._windows()
        self._by_phone: dict[str, tuple[array[int], array[int]]] = {}
        self._causes: Counter[str] = Counter()
        self._codes: Counter[int] = Counter()
        self._mix: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        self._examples: dict[str, list[CallAttempt]] = defaultdict(list)
        self._cpu, self._lag, self._drops = self._reals(), self._reals(), self._zeros()
        self._memory = [array("d") for _ in range(self._count)]
        self.calls = 0
        self.as_intended = 0

    def add(self, attempt: CallAttempt) -> None:
        """Count the attempt."""
        good = as_intended(attempt)
        begun = attempt.intended if attempt.started is None else attempt.started
        at = self._index(begun)
        self._intended[self._index(attempt.intended)] += 1
        if attempt.started is not None:
            self._started[at] += 1
            self._add_times(attempt, attempt.started, at)
        for phone in {attempt.caller, attempt.callee} - {""}:
            calls, missed = self._of(phone)
            calls[at] += 1
            missed[at] += not good
        if attempt.warm_up:
            return
        self.calls += 1
        self.as_intended += good
        for code, _ in attempt.responses:
            self._codes[code] += 1
        line = self._mix[attempt.drawn, attempt.expected]
        line[0] += 1
        line[1] += good
        if not good:
            self._missed[at] += 1
            cause = cause_of(attempt)
            self._causes[cause] += 1
            if len(self._examples[cause]) < _EXAMPLES_PER_CAUSE:
                self._examples[cause].append(attempt)

    def add_box(self, sample: BoxSample) -> None:
        """Count how this box was doing."""
        at = self._index(math.nextafter(sample.t, -math.inf))  # the end of its interval
        lag = max(sample.loop_lag, sample.phone_lag, sample.supervisor_lag)
        self._cpu[at] = max(self._cpu[at] or 0.0, sample.cpu)
        self._lag[at] = max(self._lag[at] or 0.0, lag)
        self._drops[at] += sample.socket_drops

    def add_phone(self, sample: PhoneSample) -> None:
        """Count what a phone's process took."""
        self._memory[self._index(sample.t)].append(float(sample.memory))

    def _add_times(self, attempt: CallAttempt, started: float, at: int) -> None:
        delay = delays.request(attempt)
        if delay is not None and delay.successful:
            self._setup[at].append(delay.seconds)
        self._late[at].append(max(0.0, started - attempt.intended))
        end = self._seconds if attempt.ended is None else started + attempt.ended
        self._begun[at].append(started)
        self._over[self._index(end)].append(end)
        if attempt.answered is not None:
            answered = started + attempt.answered
            self._talk[self._index(answered)].append(answered)
            self._hung_up[self._index(end)].append(end)

    def course(self) -> Course:
        """The run in windows."""
        setup = [sorted(values) for values in self._setup]
        late = [sorted(values) for values in self._late]
        memory = [sorted(values) for values in self._memory]
        return Course(
            window=self._window,
            intended=tuple(self._intended),
            started=tuple(self._started),
            missed=tuple(self._missed),
            under_way=self._most_at_once(self._begun, self._over),
            answered=self._most_at_once(self._talk, self._hung_up),
            setup_p50=tuple(percentile(values, 50) for values in setup),
            setup_p95=tuple(percentile(values, 95) for values in setup),
            setup_p99=tuple(percentile(values, 99) for values in setup),
            late_p95=tuple(percentile(values, 95) for values in late),
            late_max=tuple(percentile(values, 100) for values in late),
            cpu=tuple(self._cpu),
            lag=tuple(self._lag),
            drops=tuple(self._drops),
            memory_p50=_held(percentile(values, 50) for values in memory),
            memory_max=_held(percentile(values, 100) for values in memory),
        )

    def report(
        self,
        facts: RunFacts,
        events: Iterable[RunEvent],
        figures: Iterable[Figure],
        judgement: Judgement,
    ) -> Report:
        """All that was counted, with what others found."""
        happened = happenings(events)
        deaths = Counter(h.phone for h in happened if h.kind == "death" and h.phone)
        for phone in (*facts.phones, *deaths):
            self._of(phone)
        phones = [
            PhoneCourse(name=name, calls=tuple(calls), missed=tuple(missed), deaths=deaths[name])
            for name, (calls, missed) in self._by_phone.items()
        ]
        causes = sorted(self._causes.items(), key=lambda item: (-item[1], item[0]))
        examples = [one for cause, _ in causes for one in self._examples[cause]][:_EXAMPLES]
        return Report(
            facts=facts,
            seconds=self._seconds,
            judgement=judgement,
            figures=tuple(figures),
            course=self.course(),
            calls=self.calls,
            as_intended=self.as_intended,
            causes=tuple(causes),
            codes=tuple(sorted(self._codes.items())),
            mix=tuple(
                MixLine(drawn=drawn, expected=expected, calls=calls, as_intended=good)
                for (drawn, expected), (calls, good) in sorted(self._mix.items())
            ),
            phones=tuple(worst_first(phones)),
            happenings=tuple(happened),
            examples=tuple(sorted(examples, key=lambda attempt: attempt.number)),
        )

    def _zeros(self) -> array[int]:
        return array("q", bytes(8 * self._count))

    def _of(self, phone: str) -> tuple[array[int], array[int]]:
        if phone not in self._by_phone:
            self._by_phone[phone] = (self._zeros(), self._zeros())
        return self._by_phone[phone]

    def _index(self, t: float) -> int:
        """The window of a time; what is before or behind the run belongs to its first or last."""
        return min(max(int(t / self._window), 0), self._count - 1)

    def _reals(self) -> list[float | None]:
        return [None] * self._count

    def _windows(self) -> list[array[float]]:
        return [array("d") for _ in range(self._count)]

    def _most_at_once(
        self, begins: Sequence[array[float]], ends: Sequence[array[float]]
    ) -> tuple[int, ...]:
        """For each window the most that were between begin and end at one moment."""
        most = []
        up = 0
        for window, (begun, over) in enumerate(zip(begins, ends, strict=True)):
            top = 0
            # An end comes before a begin of the same moment.
            for t, step in sorted([*((t, 1) for t in begun), *((t, -1) for t in over)]):
                if t > window * self._window:
                    top = max(top, up)
                up += step
            most.append(max(top, up))
        return tuple(most)


def _held(values: Iterable[float | None]) -> tuple[float | None, ...]:
    """Each value until the next one: what is sampled now and then goes on in between."""
    found: list[float | None] = []
    for value in values:
        found.append(found[-1] if value is None and found else value)
    return tuple(found)


def report(
    facts: RunFacts,
    attempts: Iterable[CallAttempt],
    events: Iterable[RunEvent],
    figures: Iterable[Figure],
    judgement: Judgement,
    *,
    box: Iterable[BoxSample] = (),
    phones: Iterable[PhoneSample] = (),
    seconds: float | None = None,
) -> Report:
    """The report of a run.  `seconds` is its length where its facts don't say it.

    Without either the attempts are all held at once, to see how long the run was.
    """
    if seconds is None:
        seconds = facts.ended
    if seconds is None:  # interrupted: it lasted as long as there is something to tell of
        attempts = list(attempts)
        seconds = max((_end(attempt) for attempt in attempts), default=0.0)
    survey = Survey(seconds)
    for attempt in attempts:
        survey.add(attempt)
    for sample in box:
        survey.add_box(sample)
    for taken in phones:
        survey.add_phone(taken)
    return survey.report(facts, events, figures, judgement)


def _end(attempt: CallAttempt) -> float:
    begun = attempt.intended if attempt.started is None else attempt.started
    return begun + (attempt.ended or 0.0)
