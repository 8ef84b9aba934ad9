"""Whether a run can be done here, before it is begun.

Calls that are up at the same time are the rate of arrivals by how long a call is up (Little's law).
What that takes of ports, descriptors, processes, memory and processors is set against what there
is.  Only what can't be done is refused, so the costs are those that nothing goes below; whether
the box kept up, the run itself will tell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from ..plan import shortages as port_shortages
from ..protocol.spec import HerdSpec, PhoneSpec
from .arrivals import RateCurve
from .machine import Machine
from .pairing import Pairs
from .profile import Entry, HoldTime, LoadProfile

__all__ = ["Expected", "expected_calls", "shortages"]

# Measured by `benchmarks/load_cost.py`.
#: Bytes of an idle phone that no other process shares, and of a leg that is up at it.
PHONE_MEMORY = 4_500_000
LEG_MEMORY = 12_000
#: Of a phone's process, and its supervisor's and nursery's for each phone.
PHONE_DESCRIPTORS = 25
SUPERVISOR_DESCRIPTORS = 6
#: RTP and RTCP.
LEG_DESCRIPTORS = 2
#: Tasks of a phone, two of them threads of libzmq; and those of supervisor, nursery, guard, runner.
PHONE_TASKS = 3
HERD_TASKS = 12
#: Processor seconds of a leg, from INVITE to the answer to BYE, and those of them that are the
#: supervisor's, which has one processor at most.  4.7 and 0.8 ms were measured at 100 calls per
#: second on a busy box, CPython 3.11. Under pressure a turn does more at once: 430 calls per second
#: were begun on two processors, and few of them ended in time. So nothing goes below this:
LEG_SECONDS = 0.002
SUPERVISOR_SECONDS = 0.0005

#: How many standard deviations above the average are called the most.
_SIGMAS = 3.0
_RARE = 0.001


class Expected(NamedTuple):
    """Calls of a run that are up at the same time, where most are."""

    rate: float
    """Calls per second, the highest of the run."""
    seconds: float
    """For how long a call is up on average, from its INVITE on."""
    average: float
    """Calls at the same time, on average."""
    most: int
    """Calls at the same time, hardly ever exceeded."""


def expected_calls(profile: LoadProfile, ring_timeout: float = 60.0) -> Expected:
    """How many calls are up at the same time; `ring_timeout` ends those that nobody answers."""
    curve = RateCurve(profile.arrival, profile.duration)
    whole = math.fsum(entry.weight for entry in profile.mix)
    seconds = math.fsum(
        entry.weight / whole * _up(entry, profile.hold.average, ring_timeout)
        for entry in profile.mix
    )
    average = _most_within(curve, seconds)
    most = average + _SIGMAS * math.sqrt(average)
    if not profile.arrival.poisson:
        # Evenly spaced calls can't be more than fit into the longest.
        most = min(most, _most_within(curve, _longest(profile, ring_timeout)))
    calls = curve.all_calls
    limits = [math.inf if calls is None or profile.arrival.poisson else math.ceil(calls)]
    limits.append(math.inf if profile.limits.total is None else profile.limits.total)
    average = min(average, *limits)
    # A hair's breadth above a whole number is that number.
    most = min(math.ceil(most - 1e-9), *limits) if math.isfinite(most) else min(limits)
    return Expected(curve.highest_rate, seconds, average, int(most))


def shortages(
    profile: LoadProfile,
    herd: HerdSpec,
    pairs: Pairs,
    machine: Machine,
    *,
    running: bool = False,
) -> list[str]:
    """What a run over this herd lacks, a line each with the numbers; empty: it can be done.

    A herd that is `running` has its ports, processes and memory already.
    """
    by_name = {phone.name: phone for phone in herd.phones}
    callers = [by_name[name] for name in dict.fromkeys(pairs.callers)]
    ring_timeout = max(phone.ring_timeout for phone in callers)
    expected = expected_calls(profile, ring_timeout)
    legs = _Legs(profile, expected, pairs, _longest(profile, ring_timeout))
    found = [] if running else port_shortages(herd)
    found += _limit(profile, expected)
    found += _max_calls(legs, herd.phones)
    found += _descriptors(legs, herd.phones, machine)
    if not running:
        found += _tasks(len(herd.phones), machine)
    found += _memory(legs, 0 if running else len(herd.phones), machine)
    found += _processors(legs, machine)
    return found


class _Legs:
    """How the calls of a run are spread over the phones of the herd."""

    def __init__(
        self, profile: LoadProfile, expected: Expected, pairs: Pairs, longest: float
    ) -> None:
        self.expected = expected
        self._calling, self._called = pairs.shares()
        self.per_call = 1 + math.fsum(self._called.values())
        """One at the caller, and one more if the callee is a phone of the herd."""
        concurrent = profile.limits.concurrent
        allowed = math.inf if concurrent is None else concurrent
        self.average = min(expected.average, allowed)
        self.most = math.ceil(min(expected.most, allowed) * self.per_call - 1e-9)
        # Whose turn it is at even intervals has no more calls than fit into the longest.
        self._even = not profile.arrival.poisson and pairs.pairing != "random"
        self._fitting = expected.rate * longest

    def at(self, phone: str) -> int:
        """The most legs that are up at a phone at the same time, hardly ever exceeded."""
        shares = (self._calling.get(phone, 0.0), self._called.get(phone, 0.0))
        most = _poisson_bound(self.average * sum(shares))
        if self._even and math.isfinite(self._fitting):
            fitting = sum(math.ceil(self._fitting * share - 1e-9) for share in shares)
            most = min(most, fitting)
        return most


def _up(entry: Entry, hold: float, ring_timeout: float) -> float:
    """Seconds of a call, from its INVITE on."""
    ringing = entry.after
    if ringing is None:
        ringing = ring_timeout if entry.kind == "no_answer" else 0.0
    return ringing + (hold if entry.answered else 0.0)


def _longest(profile: LoadProfile, ring_timeout: float) -> float:
    hold = _longest_hold(profile.hold)
    return max(_up(entry, hold, ring_timeout) for entry in profile.mix)


def _longest_hold(hold: HoldTime) -> float:
    return hold.mean + hold.spread if hold.kind in ("fixed", "uniform") else math.inf


def _most_within(curve: RateCurve, seconds: float) -> float:
    """The most calls to be expected within any so many seconds; 0 has none."""
    if math.isinf(seconds):
        calls = curve.all_calls
        return math.inf if calls is None else float(calls)
    moments = sorted({at for moment in curve.moments for at in (moment, moment + seconds)})

    def within(until: float) -> float:
        return curve.expected_calls(until) - curve.expected_calls(until - seconds)

    most = max(within(moment) for moment in moments)
    for first, last in pairwise(moments):
        # In between it is a parabola: three points tell where its top is.
        begin, middle, end = within(first), within((first + last) / 2), within(last)
        bend = 2 * (begin - 2 * middle + end)
        slope = 4 * middle - 3 * begin - end
        if bend < 0 and 0 < -slope / (2 * bend) < 1:
            most = max(most, begin - slope * slope / (4 * bend))
    return most


def _poisson_bound(average: float) -> int:
    """What a Poisson variable exceeds once in a thousand times."""
    if average > 100:
        return math.ceil(average + _SIGMAS * math.sqrt(average))
    share = total = math.exp(-average)
    bound = 0
    while total < 1 - _RARE:
        bound += 1
        share *= average / bound
        total += share
    return bound


def _calls(expected: Expected) -> str:
    return (
        f"{expected.most} calls at the same time ({expected.rate:g}/s, "
        f"each {expected.seconds:.3g} s, {expected.average:.0f} on average)"
    )


def _limit(profile: LoadProfile, expected: Expected) -> list[str]:
    limit = profile.limits.concurrent
    if limit is None or expected.most <= limit:
        return []
    return [
        f"$.load.limits.concurrent: expects {_calls(expected)}, the limit is {limit}: calls would "
        "start late; expected a higher limit, a lower rate or shorter calls"
    ]


def _max_calls(legs: _Legs, phones: Sequence[PhoneSpec]) -> list[str]:
    short = [
        (phone.name, most, limit)
        for phone in phones
        if (limit := phone.call_limit) is not None and (most := legs.at(phone.name)) > limit
    ]
    if not short:
        return []
    name, most, limit = max(short, key=lambda each: each[1] - each[2])
    return [
        f"$.phones: max_calls is {limit} at {_and_more(name, len(short))}, where {most} calls at "
        f"the same time are to be expected of {_calls(legs.expected)}; expected higher max_calls, "
        "more phones, a lower rate or shorter calls"
    ]


def _descriptors(legs: _Legs, phones: Sequence[PhoneSpec], machine: Machine) -> list[str]:
    found = []
    short = []
    for phone in phones:
        limits = (machine.descriptors, phone.limits.descriptors)
        limit = min((each for each in limits if each is not None), default=None)
        audio = 0 if phone.media == "none" else LEG_DESCRIPTORS * legs.at(phone.name)
        if limit is not None and PHONE_DESCRIPTORS + audio > limit:
            short.append((phone.name, PHONE_DESCRIPTORS + audio, limit))
    if short:
        name, needed, limit = max(short, key=lambda each: each[1] - each[2])
        found.append(
            f"descriptors: {_and_more(name, len(short))} would need {needed}, the limit is "
            f"{limit}; expected a higher one, more phones or fewer calls at the same time"
        )
    needed = SUPERVISOR_DESCRIPTORS * len(phones)
    if machine.descriptors is not None and needed > machine.descriptors:
        found.append(
            f"descriptors: {len(phones)} phones need {needed} in the supervisor, the limit is "
            f"{machine.descriptors}; expected a higher one (ulimit -Hn) or fewer phones"
        )
    return found


def _tasks(phones: int, machine: Machine) -> list[str]:
    needed = PHONE_TASKS * phones + HERD_TASKS
    if machine.tasks is None or needed <= machine.tasks:
        return []
    return [
        f"processes: {phones} phones need {needed} processes and threads, there is room for "
        f"{machine.tasks}; expected a higher limit (pids.max, kernel.pid_max) or fewer phones"
    ]


def _memory(legs: _Legs, phones: int, machine: Machine) -> list[str]:
    needed = PHONE_MEMORY * phones + LEG_MEMORY * legs.most
    if machine.memory is None or needed <= machine.memory:
        return []
    of_phones = f"{phones} phones and " if phones else ""
    return [
        f"memory: {of_phones}{legs.most} call legs at the same time need "
        f"{math.ceil(needed / 1e6)} MB, {machine.memory // 10**6} MB are available; "
        "expected fewer phones or calls"
    ]


def _processors(legs: _Legs, machine: Machine) -> list[str]:
    rate = legs.expected.rate
    found = []
    needed = rate * legs.per_call * LEG_SECONDS
    if needed > machine.processors:
        possible = machine.processors / (legs.per_call * LEG_SECONDS)
        found.append(
            f"processors: {rate:g} calls per second need {needed:.1f}, there are "
            f"{machine.processors:g}; expected at most {possible:.0f} calls per second"
        )
    needed = rate * legs.per_call * SUPERVISOR_SECONDS
    if needed > 1:
        possible = 1 / (legs.per_call * SUPERVISOR_SECONDS)
        found.append(
            f"supervisor: {rate:g} calls per second need {needed:.1f} processors in it, it can use "
            f"one; expected at most {possible:.0f} calls per second of one herd"
        )
    return found


def _and_more(name: str, number: int) -> str:
    return name if number == 1 else f"{name} and {number - 1} more"
