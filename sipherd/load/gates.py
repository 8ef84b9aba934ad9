"""Gates: what a run has to reach, written as a person would say it.

``as_intended >= 99`` · ``srd_ok_p95 < 200ms`` · ``loss < 1%`` · ``mos_p5 > 3.8`` · ``deaths <= 5``:
a metric (``load.metrics``), a comparison, a value with its unit.  A percentage may have its sign; a
time must say ``us``, ``ms``, ``s`` or ``min``, because nobody can tell 200 of which; a score or a
count has no unit.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping

import msgspec

from .metrics import Unit, UnknownMetricError, metric

__all__ = ["Gate", "GateError", "GateResult", "judge", "parse", "say"]

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_FORM = re.compile(
    r"\s*(?P<metric>[A-Za-z_][\w.]*)\s*(?P<operator>[<>=!]+)\s*"
    r"(?P<value>[-+]?\d+(?:\.\d+)?)\s*(?P<unit>[A-Za-zµ%]*)\s*"
)
_SECONDS: Mapping[str, float] = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}


class GateError(ValueError):
    """A gate can't be understood: one line that says which, why, and how to write it."""

    def __init__(self, text: str, why: str) -> None:
        super().__init__(f"gate {text!r}: {why}")
        self.why = why
        """Without the gate itself, for who has named it already."""


class Gate(msgspec.Struct, frozen=True):
    """One gate, understood."""

    text: str
    """As it was written."""
    metric: str
    operator: str
    limit: float
    """In the metric's unit: percent, seconds, score or count."""

    @property
    def unit(self) -> Unit:
        """Of metric and limit."""
        return metric(self.metric).unit


class GateResult(msgspec.Struct, frozen=True):
    """A gate, judged."""

    gate: Gate
    value: float | None
    """What the metric was, in its unit; None: undefined."""
    passed: bool
    why: str
    """One line: what it was, and what was wanted."""


def _limit(text: str, name: str, unit: Unit, number: str, written: str) -> float:
    value = float(number)
    if unit == "seconds":
        if not written:
            raise GateError(text, f"{number} of what? write {number}ms or {number}s")
        if written not in _SECONDS:
            raise GateError(text, f"{written} is no unit of time: us, ms, s or min")
        return value * _SECONDS[written]
    if unit == "percent":
        if written not in ("", "%"):
            raise GateError(text, f"{name} is a percentage: write {number}%")
        if not 0 <= value <= 100:
            raise GateError(text, "a percentage is from 0 to 100")
        return value
    if written:
        raise GateError(text, f"{name} has no unit: write {number}")
    return value


def parse(text: str) -> Gate:
    """Understand a gate.

    Raises:
        GateError: It can't be, with the remedy.

    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise GateError(
            text, "expected METRIC COMPARISON VALUE, as in 'seer >= 99' or 'pdd_p95 < 2s'"
        )
    if found["operator"] not in _OPERATORS:
        raise GateError(text, f"{found['operator']} is no comparison: {' '.join(_OPERATORS)}")
    name = found["metric"]
    try:
        unit = metric(name).unit
    except UnknownMetricError as error:
        raise GateError(text, str(error)) from error
    return Gate(
        text.strip(),
        name,
        found["operator"],
        _limit(text, name, unit, found["value"], found["unit"]),
    )


def say(value: float | None, unit: Unit) -> str:
    """A metric's value as people read it: ``99.3 %``, ``187 ms``, ``3.85``, ``12``."""
    if value is None:
        return "undefined"
    if unit == "percent":
        return f"{value:.6g} %"
    if unit == "count":
        return f"{value:.0f}"
    if unit == "score":
        return f"{value:.4g}"
    return f"{value:.4g} s" if value >= 1 else f"{value * 1000:.4g} ms"


def judge(gates: Iterable[Gate], value: Callable[[str], float | None]) -> list[GateResult]:
    """Judge gates on a run's metrics.

    A gate on a metric that is undefined, for want of anything to measure, is not passed: what was
    not measured was not reached either.

    Args:
        gates: what to reach.
        value: gives a metric by name (``Tally.value``).

    """
    results = []
    for gate in gates:
        got = value(gate.metric)
        passed = got is not None and _OPERATORS[gate.operator](got, gate.limit)
        why = f"{gate.metric} is {say(got, gate.unit)}"
        if got is None:
            why += ": there was nothing to measure"
        elif not passed:
            why += f", wanted {gate.operator} {say(gate.limit, gate.unit)}"
        results.append(GateResult(gate, got, passed, why))
    return results
