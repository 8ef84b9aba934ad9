"""The metrics of a run as figures to read: labels, units of a handy size, which way is better."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from .findings import Figure
from .metrics import DISTRIBUTIONS, METRICS, Metric, Tally

__all__ = ["figures"]

_LABELS = {
    "as_intended": "Ended as intended",
    "ser": "Session establishment ratio (SER)",
    "seer": "Session establishment effectiveness (SEER)",
    "isa": "Ineffective session attempts (ISA)",
    "scr": "Session completion ratio (SCR)",
    "ira": "Ineffective registration attempts (IRA)",
    "asr": "Answer-seizure ratio (ASR)",
    "acd": "Average call duration (ACD)",
    "no_response": "Nobody answered",
    "loss": "Packet loss",
    "attempts": "Attempts",
    "invites": "Sent",
    "answered": "Answered",
    "not_intended": "Not as intended",
    "refused": "Never sent",
    "crashed": "Lost to a crash",
    "one_way": "One-way audio",
    "retransmissions": "Requests sent again",
    "registers": "Registration attempts",
    "deaths": "Phones that died",
    "srd_ok": "Session request delay",
    "srd_failed": "Session request delay, failed",
    "pdd": "Post-dial delay",
    "setup": "Setup until answered",
    "sdd_ok": "Session disconnect delay",
    "sdd_failed": "Session disconnect delay, failed",
    "sdt_ok": "Session duration",
    "sdt_failed": "Session duration, lost calls",
    "rrd": "Registration request delay",
    "late": "Late starts",
    "mos": "Audio quality",
    "jitter": "Jitter",
    "round_trip": "Round trip",
}
_MORE = frozenset({"as_intended", "ser", "seer", "scr", "mos"})
#: Durations are what the profile wants them to be, and ASR what the mix makes of it.
_NEITHER = frozenset(
    {"asr", "acd", "setup", "sdt_ok", "sdt_failed", "attempts", "invites", "answered", "registers"}
)
_HEADLINES = ("attempts", "as_intended", "seer", "srd_ok_p95", "late_p99", "loss", "mos_p5")
#: Values that are durations of calls, for which milliseconds are too small.
_SECONDS = frozenset({"acd", "sdt_ok", "sdt_failed", "setup"})


def figures(tally: Tally) -> list[Figure]:
    """All that is defined, the headlines even if they are not; ratios first, then delays."""
    return [*_single(tally), *_distributed(tally)]


def _single(tally: Tally) -> Iterator[Figure]:
    for name, metric in METRICS.items():
        value = tally.value(name)
        if value is not None or name in _HEADLINES[:3]:
            yield _figure(name, name, metric, value)


def _distributed(tally: Tally) -> Iterator[Figure]:
    for of, metric in DISTRIBUTIONS.items():
        if not tally.distributions[of].count:
            continue
        # Of a score the bad end is the low one.
        for which in ("mean", "p5", "p50") if of == "mos" else ("mean", "p50", "p95", "p99", "max"):
            name = f"{of}_{which}"
            yield _figure(name, of, metric, tally.value(name), which)


def _figure(name: str, of: str, metric: Metric, value: float | None, which: str = "") -> Figure:
    unit, factor = {
        "percent": ("%", 1.0),
        "seconds": ("s", 1.0) if of in _SECONDS else ("ms", 1000.0),
        "score": ("", 1.0),
        "count": ("", 1.0),
    }[metric.unit]
    better: Literal["more", "less", ""] = "more" if of in _MORE else "less"
    return Figure(
        key=name,
        label=f"{_LABELS[of]}, {which}" if which else _LABELS[of],
        value=None if value is None else value * factor,
        unit=unit,
        meaning=metric.what,
        better="" if of in _NEITHER else better,
        headline=name in _HEADLINES,
    )
