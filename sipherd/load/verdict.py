"""PASS, FAIL or INVALID, with the evidence.

INVALID comes before FAIL: where this box was the limit, or the run was cut short, nothing that was
measured says anything of who was called.  FAIL is a gate that was not reached, a phone that grew,
or something left over after the drain.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias

import msgspec

from . import soak
from .gates import Gate, GateResult, judge, say
from .metrics import Tally
from .records import BoxSample, Leftovers, PhoneSample

__all__ = ["Exit", "Finding", "FindingKind", "Limits", "Verdict", "VerdictKind", "give"]

VerdictKind: TypeAlias = Literal["PASS", "FAIL", "INVALID"]

FindingKind: TypeAlias = Literal[
    "interrupted",
    "late_starts",
    "loop_lag",
    "socket_drops",
    "cpu",
    "rtp_ports",
    "gate",
    "growth",
    "not_drained",
]


class Exit(enum.IntEnum):
    """Exit codes of a load run."""

    GOOD = 0
    FAILED = 1
    """The call, scenario or gate failed."""
    USAGE = 2
    """Usage or configuration."""
    INVALID = 3
    """This box was the limit."""
    BROKEN = 4
    """The supervisor or a phone failed."""
    INTERRUPTED = 130


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What this box must keep for a run to be valid."""

    late: float = 0.1
    """Seconds by which 99 % of the attempts may at most be late."""
    loop_lag: float = 0.1
    """Seconds by which a loop may wake up too late …"""
    loop_lag_share: float = 5.0
    """… in at most this percentage of the samples.  One hiccup is nothing, a habit is."""
    cpu: float = 0.95
    """Share of all cores that may be busy …"""
    cpu_lag: float = 0.1
    """… while any loop is late by so many seconds …"""
    cpu_share: float = 5.0
    """… in at most this percentage of the samples.

    Processors that are busy with something else and yet leave every loop its turn are no limit: at
    a load of 13 on two of them, 20 calls per second were on time within 36 ms
    (`benchmarks/load_cost.py`).
    """
    habit: int = 3
    """Samples of lag or of busy processors that count, at least: a short run has few."""
    socket_drops: int = 0
    """Datagrams that the kernel may throw away."""
    rtp_exhausted: int = 0
    """Calls that may be refused for want of an RTP port."""
    growth: soak.Allowance = soak.Allowance()


class Finding(msgspec.Struct, frozen=True):
    """One thing that speaks against a run."""

    kind: FindingKind
    text: str
    """One line, with the numbers."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on a run; ``run.json`` holds it as plain data."""

    kind: VerdictKind
    gates: tuple[GateResult, ...]
    invalid: tuple[Finding, ...] = ()
    """Why this box, and not who was called, was the limit."""
    failed: tuple[Finding, ...] = ()
    """Gates not reached, growth, what was left over.  Said of an INVALID run, too."""

    @property
    def reasons(self) -> tuple[Finding, ...]:
        """What made it what it is; empty for PASS."""
        return self.invalid or self.failed

    @property
    def exit(self) -> Exit:
        """The exit code that says so."""
        return {"PASS": Exit.GOOD, "FAIL": Exit.FAILED, "INVALID": Exit.INVALID}[self.kind]


def _late(tally: Tally, limits: Limits) -> Finding | None:
    p99, worst = tally.value("late_p99"), tally.value("late_max")
    unstarted = tally.counts["unstarted"]
    if unstarted * 100 > tally.counts["attempts"]:
        return Finding(
            "late_starts",
            f"{unstarted} of {tally.counts['attempts']} calls were still not started when the run "
            "ended",
        )
    if p99 is None or p99 <= limits.late:
        return None
    return Finding(
        "late_starts",
        f"calls started late: 1 % of them by {say(p99, 'seconds')} or more, the worst by "
        f"{say(worst, 'seconds')} (limit {say(limits.late, 'seconds')})",
    )


def _too_often(
    samples: Sequence[BoxSample],
    of: Callable[[BoxSample], float],
    limit: float,
    share: float,
    habit: int,
) -> tuple[float, float] | None:
    """Percentage of samples above the limit, and the greatest; None: seldom enough."""
    over = [of(sample) for sample in samples if of(sample) > limit]
    percent = 100 * len(over) / len(samples) if samples else 0.0
    return (percent, max(over)) if len(over) >= habit and percent > share else None


def _busy(sample: BoxSample, limits: Limits) -> float:
    """How busy the processors were, where that has kept a loop waiting."""
    lag = max(sample.loop_lag, sample.phone_lag, sample.supervisor_lag)
    return sample.cpu if lag > limits.cpu_lag else 0.0


def _box(samples: Sequence[BoxSample], limits: Limits) -> Iterable[Finding]:
    loops: tuple[tuple[str, Callable[[BoxSample], float]], ...] = (
        ("runner", lambda s: s.loop_lag),
        ("supervisor", lambda s: s.supervisor_lag),
        ("phones", lambda s: s.phone_lag),
    )
    for name, of in loops:
        found = _too_often(samples, of, limits.loop_lag, limits.loop_lag_share, limits.habit)
        if found:
            yield Finding(
                "loop_lag",
                f"the loop of the {name} was more than {say(limits.loop_lag, 'seconds')} late in "
                f"{found[0]:.0f} % of the samples, at worst by {say(found[1], 'seconds')} (limit "
                f"{limits.loop_lag_share:g} %)",
            )
    found = _too_often(
        samples, lambda s: _busy(s, limits), limits.cpu, limits.cpu_share, limits.habit
    )
    if found:
        yield Finding(
            "cpu",
            f"the CPU was above {100 * limits.cpu:g} % and kept loops waiting for more than "
            f"{say(limits.cpu_lag, 'seconds')} in {found[0]:.0f} % of the samples, at worst at "
            f"{100 * found[1]:.0f} % (limit {limits.cpu_share:g} %)",
        )
    drops = sum(sample.socket_drops for sample in samples)
    if drops > limits.socket_drops:
        first = next(sample.t for sample in samples if sample.socket_drops)
        yield Finding(
            "socket_drops",
            f"the kernel dropped {drops} datagrams for want of buffer, the first at {first:.0f} s "
            f"(limit {limits.socket_drops})",
        )
    refused = sum(sample.rtp_exhausted for sample in samples)
    if refused > limits.rtp_exhausted:
        yield Finding(
            "rtp_ports",
            f"{refused} calls were refused because a phone had no RTP port left: give the herd "
            "a wider range",
        )


def _growth(slope: soak.Slope) -> Finding:
    unit, scale = ("MiB", 1024 * 1024) if slope.resource == "memory" else (slope.resource, 1)
    what = "memory" if slope.resource == "memory" else slope.resource
    return Finding(
        "growth",
        f"{slope.phone} (incarnation {slope.incarnation}): {what} grew from "
        f"{slope.first / scale:.3g} to {slope.last / scale:.3g} {unit} in "
        f"{slope.seconds / 3600:.2g} h, {slope.per_hour / scale:.2g} {unit} an hour",
    )


def _left(leftovers: Leftovers) -> Finding | None:
    left = [
        f"{count} {name.replace('_', ' ').replace('rtp', 'RTP')}"
        for name, count in msgspec.structs.asdict(leftovers).items()
        if count
    ]
    return Finding("not_drained", f"left after the drain: {', '.join(left)}") if left else None


def give(
    tally: Tally,
    gates: Iterable[Gate],
    *,
    box: Iterable[BoxSample] = (),
    phones: Iterable[PhoneSample] = (),
    leftovers: Leftovers | None = None,
    since: float = 0.0,
    interrupted: str = "",
    limits: Limits | None = None,
) -> Verdict:
    """Give the verdict on a run.

    Args:
        tally: of all attempts.
        gates: what the profile wants.
        box: how this box was doing.
        phones: what the phones took; judged where one process was seen for long enough.
        leftovers: what was there after the drain; None: nobody looked.
        since: end of the warm-up, in seconds of the run; samples before it are left out.
        interrupted: how the run was cut short (``the runner was killed after 33 s of 60 s``).
        limits: what the box must keep.

    """
    limits = limits or Limits()
    results = tuple(judge(gates, tally.value))
    invalid = [Finding("interrupted", interrupted)] if interrupted else []
    if late := _late(tally, limits):
        invalid.append(late)
    invalid += _box([sample for sample in box if sample.t > since], limits)

    failed = [Finding("gate", result.why) for result in results if not result.passed]
    failed += map(_growth, soak.grown(soak.slopes(phones, since), limits.growth))
    if leftovers is not None and (left := _left(leftovers)):
        failed.append(left)
    kind: VerdictKind = "INVALID" if invalid else "FAIL" if failed else "PASS"
    return Verdict(kind=kind, gates=results, invalid=tuple(invalid), failed=tuple(failed))
