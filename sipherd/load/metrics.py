"""The metrics of a run: RFC 6076, the telephone network's old ones, and ``as_intended``.

A Tally counts attempts, and can be merged with another; each metric is read from it by name.
A ratio is a percentage; over nothing it is undefined, which is None and never 0.

What the RFC leaves open is decided so: a challenge and its retry are one INVITE or REGISTER; an
INVITE that nobody answered (our own Timer B, ICMP) counts as an INVITE, and is no response of
anybody, so that it is in the denominators alone and is shown as ``no_response``; an attempt that
was never sent is no INVITE, but it did not end as intended either.  Attempts of the warm-up
are counted apart, and are in no metric.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from . import delays
from .distribution import Distribution
from .records import CallAttempt, MediaStats, RegisterAttempt, RunEvent, as_intended

__all__ = [
    "DISTRIBUTIONS",
    "INEFFECTIVE",
    "METRICS",
    "Metric",
    "Tally",
    "Unit",
    "UnknownMetricError",
    "metric",
    "tally",
]

Unit: TypeAlias = Literal["percent", "seconds", "score", "count"]

EFFECTIVE = frozenset({480, 486, 600, 603})
"""Beside 2xx: the callee's own doing, and no defect of anybody (RFC 6076 section 4.7)."""
INEFFECTIVE = frozenset({408, 500, 503, 504})
"""A proxy or agent that failed or was overloaded (RFC 6076 section 4.8)."""

_STATISTIC = re.compile(r"(?P<of>\w+?)_(?P<which>mean|min|max|p(?P<percent>\d+(?:\.\d+)?))")


class UnknownMetricError(ValueError):
    """No metric has this name: one line with names that are like it."""


class Metric(msgspec.Struct, frozen=True):
    """What a metric is: its unit, and what it says, for help and reports."""

    unit: Unit
    what: str


METRICS: Mapping[str, Metric] = {
    "as_intended": Metric("percent", "attempts that ended as the profile drew for them"),
    "ser": Metric("percent", "sessions established, of INVITEs not redirected (RFC 6076 4.6)"),
    "seer": Metric("percent", "established, or declined by the callee (RFC 6076 4.7)"),
    "isa": Metric("percent", "INVITEs answered 408, 500, 503 or 504 (RFC 6076 4.8)"),
    "scr": Metric("percent", "sessions completed by a BYE and its 2xx (RFC 6076 4.9)"),
    "ira": Metric("percent", "REGISTER attempts that failed (RFC 6076 4.2)"),
    "asr": Metric("percent", "answered, of all INVITEs (ITU-T E.411)"),
    "acd": Metric("seconds", "mean duration of answered calls"),
    "no_response": Metric("percent", "INVITEs that nobody answered: Timer B, ICMP, no such host"),
    "loss": Metric("percent", "RTP packets that never came"),
    "attempts": Metric("count", "calls the profile wanted, without the warm-up"),
    "invites": Metric("count", "of these, sent"),
    "answered": Metric("count", "of these, answered"),
    "not_intended": Metric("count", "attempts that did not end as drawn"),
    "refused": Metric("count", "attempts that were never sent"),
    "crashed": Metric("count", "calls lost because a phone died"),
    "one_way": Metric("count", "calls in which a side heard nothing"),
    "retransmissions": Metric("count", "requests sent again"),
    "registers": Metric("count", "REGISTER attempts"),
    "deaths": Metric("count", "phones that died, however and for whatever reason"),
}
"""Those that are one number."""

DISTRIBUTIONS: Mapping[str, Metric] = {
    "srd_ok": Metric("seconds", "INVITE to the first sign of progress, successful (RFC 6076 4.3)"),
    "srd_failed": Metric("seconds", "the same of failed attempts"),
    "pdd": Metric("seconds", "INVITE to the first 180 or 183"),
    "setup": Metric("seconds", "INVITE to 2xx"),
    "sdd_ok": Metric("seconds", "BYE to its 2xx (RFC 6076 4.4)"),
    "sdd_failed": Metric("seconds", "the same where it failed"),
    "sdt_ok": Metric("seconds", "2xx to BYE (RFC 6076 4.5)"),
    "sdt_failed": Metric("seconds", "2xx to the loss of the call"),
    "rrd": Metric("seconds", "REGISTER to its 2xx, successful ones alone (RFC 6076 4.1)"),
    "late": Metric("seconds", "start of an attempt after its intended time"),
    "mos": Metric("score", "mean opinion score of each side of a call, 1 to 5"),
    "jitter": Metric("seconds", "interarrival jitter of each side (RFC 3550)"),
    "round_trip": Metric("seconds", "RTCP round trip of each side"),
}
"""Those that are many: what is asked for is their ``_mean``, ``_min``, ``_max`` or ``_p99.9``."""


def metric(name: str) -> Metric:
    """What the metric of this name is, ``srd_ok_p95`` and the like among them.

    Raises:
        UnknownMetricError: There is none.

    """
    if name in METRICS:
        return METRICS[name]
    split = _STATISTIC.fullmatch(name)
    if split and split["of"] in DISTRIBUTIONS:
        if split["percent"] and float(split["percent"]) > 100:
            raise UnknownMetricError(f"{name}: a percentile is at most p100")
        return DISTRIBUTIONS[split["of"]]
    if name in DISTRIBUTIONS:
        raise UnknownMetricError(
            f"{name} is many values: say which, as in {name}_p95, {name}_mean or {name}_max"
        )
    known = [*METRICS, *(f"{of}_p95" for of in DISTRIBUTIONS)]
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
    raise UnknownMetricError(f"no metric is called {name!r}: {hint}")


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


class Tally:
    """What there is to say of a set of attempts, kept as counts: any number of them, in any order.

    The counters are for reading; ``value`` gives a metric by its name.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.final_codes: Counter[int] = Counter()
        """Final responses to INVITEs, as received."""
        self.responses: Counter[int] = Counter()
        """All responses to INVITEs, provisional ones and challenges, too."""
        self.outcomes: Counter[str] = Counter()
        self.causes: Counter[str] = Counter()
        """Why attempts that did not end as intended ended."""
        self.drawn: Counter[str] = Counter()
        """Attempts by the entry of the mix that was drawn for them."""
        self.drawn_as_intended: Counter[str] = Counter()
        self.phones: Counter[str] = Counter()
        """Attempts by calling phone."""
        self.phones_not_intended: Counter[str] = Counter()
        """By phone on either side, attempts that did not end as intended."""
        self.register_codes: Counter[int] = Counter()
        self.distributions = {name: Distribution() for name in DISTRIBUTIONS}

    def add(self, attempt: CallAttempt) -> None:
        """Count an attempt that is over."""
        if attempt.warm_up:
            self.counts["warm_up"] += 1
            return
        self.counts["attempts"] += 1
        self.outcomes[attempt.outcome] += 1
        self.drawn[attempt.drawn] += 1
        self.phones[attempt.caller] += 1
        self.counts["retransmissions"] += attempt.retransmissions
        if attempt.outcome == "crashed":
            self.counts["crashed"] += 1
        if as_intended(attempt):
            self.counts["as_intended"] += 1
            self.drawn_as_intended[attempt.drawn] += 1
        else:
            crashed = attempt.outcome == "crashed"
            self.causes["phone_crashed" if crashed else attempt.cause or attempt.outcome] += 1
            for phone in {attempt.caller, attempt.callee} - {""}:
                self.phones_not_intended[phone] += 1
        if attempt.started is None:
            self.counts["refused"] += 1
            self.counts["unstarted"] += attempt.outcome == "unfinished"
            return
        self._add_invite(attempt)
        self._add_times(attempt)
        for media in (attempt.caller_media, attempt.callee_media):
            if media is not None:
                self._add_media(media)
        if any(m is not None and m.one_way for m in (attempt.caller_media, attempt.callee_media)):
            self.counts["one_way"] += 1

    def _add_invite(self, attempt: CallAttempt) -> None:
        self.counts["invites"] += 1
        self.responses.update(code for code, _ in attempt.responses)
        code = delays.received_code(attempt)
        if code is not None:
            self.final_codes[code] += 1
            self.counts["answered"] += 200 <= code < 300
            self.counts["redirected"] += 300 <= code < 400
            self.counts["effective"] += 200 <= code < 300 or code in EFFECTIVE
            self.counts["ineffective"] += code in INEFFECTIVE
        elif attempt.outcome == "no_response":
            self.counts["no_response"] += 1
        self.counts["completed"] += delays.completed(attempt)

    def _add_times(self, attempt: CallAttempt) -> None:
        for name, delay in (
            ("srd", delays.request(attempt)),
            ("sdd", delays.disconnect(attempt)),
            ("sdt", delays.duration(attempt)),
        ):
            if delay is not None:
                self._record(f"{name}_ok" if delay.successful else f"{name}_failed", delay.seconds)
        for name, seconds in (
            ("pdd", delays.post_dial(attempt)),
            ("setup", delays.setup(attempt)),
            ("late", attempt.late),
        ):
            if seconds is not None:
                self._record(name, seconds)
        talked = delays.call_duration(attempt)
        if talked is not None:
            self.counts["talks"] += 1
            # Whole microseconds: a sum of integers is the same in whatever order it is made.
            self.counts["talk_us"] += round(talked * 1e6)

    def _add_media(self, media: MediaStats) -> None:
        self.counts["rtp_received"] += media.received
        self.counts["rtp_lost"] += media.lost
        if media.received:
            self._record("jitter", media.jitter_ms / 1000)
        if media.mos is not None:
            self._record("mos", media.mos)
        if media.round_trip_ms is not None:
            self._record("round_trip", media.round_trip_ms / 1000)

    def add_register(self, attempt: RegisterAttempt) -> None:
        """Count a REGISTER attempt (RFC 6076 sections 4.1 and 4.2).

        Failed is 4xx to 6xx and Timer F.  A challenge that was answered is part of the attempt and
        no failure of it; a 401 or 407 that is the last word is one.
        """
        self.counts["registers"] += 1
        code = attempt.code
        if code is not None:
            self.register_codes[code] += 1
        if code is None or code >= 400:
            self.counts["registers_failed"] += 1
        elif 200 <= code < 300 and attempt.delay is not None:
            self._record("rrd", attempt.delay)

    def add_event(self, event: RunEvent) -> None:
        """Count what happened to the herd meanwhile."""
        self.counts["deaths"] += event.kind == "phone_died"

    def _record(self, name: str, value: float) -> None:
        self.distributions[name].record(value)

    def merge(self, other: Tally) -> None:
        """Count all attempts of the other one, too."""
        self.add_counters(other.counters())
        for name, distribution in other.distributions.items():
            self.distributions[name].merge(distribution)

    def counters(self) -> dict[str, Counter[Any]]:
        """All counters by name; with ``distributions`` it is all there is."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Counter)}

    def add_counters(self, counters: Mapping[str, Counter[Any]]) -> None:
        """Add what ``counters`` of another one gave."""
        for name, counter in counters.items():
            getattr(self, name).update(counter)

    def value(self, name: str) -> float | None:
        """The metric of this name: percent, seconds, score or count; None: undefined.

        Raises:
            UnknownMetricError: There is no such metric.

        """
        metric(name)
        if name in _FORMULAS:
            return _FORMULAS[name](self.counts)
        if name in METRICS:
            return float(self.counts[name])
        split = _STATISTIC.fullmatch(name)
        assert split is not None
        distribution = self.distributions[split["of"]]
        if split["percent"]:
            return distribution.percentile(float(split["percent"]))
        if not distribution.count:
            return None
        return {
            "mean": distribution.mean,
            "min": distribution.minimum,
            "max": distribution.maximum,
        }[split["which"]]

    def summary(self) -> dict[str, float | None]:
        """All of METRICS, and of each distribution mean, 5 %, median, 95 %, 99 % and greatest."""
        which = ("mean", "p5", "p50", "p95", "p99", "max")
        names = [*METRICS, *(f"{of}_{one}" for of in DISTRIBUTIONS for one in which)]
        return {name: self.value(name) for name in names}


_FORMULAS: Mapping[str, Callable[[Counter[str]], float | None]] = {
    "as_intended": lambda c: _percent(c["as_intended"], c["attempts"]),
    "not_intended": lambda c: float(c["attempts"] - c["as_intended"]),
    "ser": lambda c: _percent(c["answered"], c["invites"] - c["redirected"]),
    "seer": lambda c: _percent(c["effective"], c["invites"] - c["redirected"]),
    "isa": lambda c: _percent(c["ineffective"], c["invites"]),
    "scr": lambda c: _percent(c["completed"], c["invites"]),
    "ira": lambda c: _percent(c["registers_failed"], c["registers"]),
    "asr": lambda c: _percent(c["answered"], c["invites"]),
    "acd": lambda c: c["talk_us"] / 1e6 / c["talks"] if c["talks"] else None,
    "no_response": lambda c: _percent(c["no_response"], c["invites"]),
    "loss": lambda c: _percent(c["rtp_lost"], c["rtp_lost"] + c["rtp_received"]),
}


def tally(
    attempts: Iterable[CallAttempt],
    registers: Iterable[RegisterAttempt] = (),
    events: Iterable[RunEvent] = (),
) -> Tally:
    """Count all of these."""
    made = Tally()
    for attempt in attempts:
        made.add(attempt)
    for register in registers:
        made.add_register(register)
    for event in events:
        made.add_event(event)
    return made
