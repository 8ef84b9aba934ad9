"""The report of a run for programs: plain data, metrics in the units of gates."""

from __future__ import annotations

from typing import Any

import msgspec

from .run_report import Reading

__all__ = ["as_plain"]


def as_plain(reading: Reading) -> dict[str, Any]:
    """What ``sipherd report --json`` writes.

    Percentages are 0 to 100, times seconds, and what is undefined is null.
    """
    report, tally, verdict = reading
    facts = report.facts
    return {
        "name": facts.name,
        "state": facts.state,
        "started_at": facts.started_at,
        "seconds": report.seconds,
        "herd": facts.herd,
        "phones": len(facts.phones),
        "verdict": None if verdict is None else verdict.kind,
        "why": list(report.judgement.why),
        "gates": []
        if verdict is None
        else [
            {
                "gate": result.gate.text,
                "passed": result.passed,
                "value": result.value,
                "unit": result.gate.unit,
                "evidence": judged.evidence,
            }
            for result, judged in zip(verdict.gates, report.judgement.gates, strict=True)
        ],
        "metrics": tally.summary(),
        "outcomes": dict(tally.outcomes),
        "causes": dict(report.causes),
        "final_codes": _codes(tally.final_codes),
        "responses": _codes(tally.responses),
        "mix": msgspec.to_builtins(report.mix),
        "happenings": msgspec.to_builtins(report.happenings),
        "profile": facts.profile,
        "environment": facts.environment,
    }


def _codes(counted: dict[int, int]) -> dict[str, int]:
    return {str(code): count for code, count in sorted(counted.items())}
