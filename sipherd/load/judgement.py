"""The verdict as a report shows it: each gate with what its number rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .findings import GateState, JudgedGate, Judgement
from .gates import GateResult, say
from .metrics import METRICS, Tally
from .verdict import Verdict

__all__ = ["evidence", "judgement"]

_PARTS: Mapping[str, tuple[str, str]] = {
    "as_intended": ("as_intended", "attempts"),
    "ser": ("answered", "INVITEs not redirected"),
    "seer": ("effective", "INVITEs not redirected"),
    "isa": ("ineffective", "INVITEs"),
    "scr": ("completed", "INVITEs"),
    "ira": ("registers_failed", "REGISTERs"),
    "asr": ("answered", "INVITEs"),
    "no_response": ("no_response", "INVITEs"),
    "loss": ("rtp_lost", "RTP packets"),
}
"""Ratios: the counter above the line, and what is counted below it."""
_CAUSES = 3


def judgement(verdict: Verdict, tally: Tally) -> Judgement:
    """The verdict with its evidence from the run's attempts."""
    return Judgement(
        word=verdict.kind,
        why=tuple(_why(verdict)),
        gates=tuple(_gate(result, tally) for result in verdict.gates),
    )


def _why(verdict: Verdict) -> Iterator[str]:
    for finding in verdict.invalid:
        yield finding.text
    for finding in verdict.failed:
        # Said of a run that is INVALID, too, but not what made it so.
        yield f"also: {finding.text}" if verdict.invalid else finding.text


def _gate(result: GateResult, tally: Tally) -> JudgedGate:
    state: GateState = "passed" if result.passed else "failed"
    gate = result.gate
    return JudgedGate(
        gate=gate.text,
        state="undefined" if result.value is None else state,
        measured=say(result.value, gate.unit),
        evidence=evidence(gate.metric, tally),
    )


def evidence(metric: str, tally: Tally) -> str:
    """What a metric rests on: parts of a ratio, how many values; empty for a plain count."""
    if metric in _PARTS:
        part, what = _PARTS[metric]
        told = f"{tally.counts[part]:,} of {_whole(what, tally):,} {what}"
        return f"{told}{_causes(tally)}" if metric == "as_intended" else told
    if metric == "acd":
        return f"of {tally.counts['talks']:,} calls"
    if metric in METRICS:
        return ""
    return f"of {tally.distributions[metric.rpartition('_')[0]].count:,} values"


def _whole(what: str, tally: Tally) -> int:
    counts = tally.counts
    return {
        "attempts": counts["attempts"],
        "INVITEs": counts["invites"],
        "INVITEs not redirected": counts["invites"] - counts["redirected"],
        "REGISTERs": counts["registers"],
        "RTP packets": counts["rtp_lost"] + counts["rtp_received"],
    }[what]


def _causes(tally: Tally) -> str:
    most = tally.causes.most_common(_CAUSES)
    return "; not: " + ", ".join(f"{c.replace('_', ' ')} {n:,}" for c, n in most) if most else ""
