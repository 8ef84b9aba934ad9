"""What changed from one run to another: figures, gates, causes, codes, and what they ran on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from ..protocol.text import printable
from ..render import table
from .axes import number
from .findings import Figure, JudgedGate, Report
from .report_text import Block, as_table
from .words import headline, state_word

__all__ = ["Comparison", "Difference", "Direction", "compare", "lines", "summary"]

Direction: TypeAlias = Literal["better", "worse", ""]
"""Empty: too little to tell, or neither."""

#: A change below it is noise: of ratios in percentage points, of the rest relative to the larger.
_POINTS = 0.1
_RELATIVE = 0.01


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of two runs; None where a run has none."""

    key: str
    label: str
    unit: str
    before: float | None
    after: float | None
    direction: Direction

    @property
    def change(self) -> float | None:
        """By how much it is more, in its unit."""
        if self.before is None or self.after is None:
            return None
        return self.after - self.before


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two runs side by side."""

    names: tuple[str, str]
    verdicts: tuple[str, str]
    """The verdict, or why there is none, and the run in a sentence."""
    figures: tuple[Difference, ...]
    gates: tuple[tuple[str, str, str], ...]
    """A gate and what came of it in each run, of those whose result changed."""
    causes: tuple[tuple[str, int, int], ...]
    """Of those whose count changed, the largest change first."""
    codes: tuple[tuple[str, int, int], ...]
    setting: tuple[tuple[str, str, str], ...]
    """What differs in profile and environment: a comparison of unlike runs says little."""


def compare(before: Report, after: Report) -> Comparison:
    """The two runs side by side."""
    return Comparison(
        names=(before.facts.name, after.facts.name),
        verdicts=(_verdict(before), _verdict(after)),
        figures=tuple(_figures(before.figures, after.figures)),
        gates=tuple(_gates(before.judgement.gates, after.judgement.gates)),
        causes=_counts(before.causes, after.causes),
        codes=_counts(
            [(str(code), count) for code, count in before.codes],
            [(str(code), count) for code, count in after.codes],
        ),
        setting=tuple(_setting(before, after)),
    )


def summary(comparison: Comparison) -> RenderableType:
    """What a terminal shows."""
    parts: list[RenderableType] = [Text(line) for line in _heads(comparison)]
    for title, heads, rows, numbers in _blocks(comparison):
        parts += [Text(""), Text(title, style="bold"), as_table(heads, rows, numbers)]
    return Group(*parts)


def lines(comparison: Comparison) -> list[str]:
    """The same without colours."""
    found = _heads(comparison)
    for title, heads, rows, numbers in _blocks(comparison):
        right = [heads[i] for i in numbers]
        found += ["", f"{title}:", *table(heads, rows, right=right).splitlines()]
    return found


def _heads(comparison: Comparison) -> list[str]:
    return [
        printable(f"{name}: {verdict}")
        for name, verdict in zip(comparison.names, comparison.verdicts, strict=True)
    ]


def _blocks(comparison: Comparison) -> list[Block]:
    three = frozenset({1, 2, 3})
    changes = [(one, _changed(one)) for one in comparison.figures]
    figures = [
        (
            one.label,
            number(one.before, one.unit),
            number(one.after, one.unit),
            change,
            one.direction,
        )
        for one, change in changes
        if change
    ]
    title = f"Figures, {len(figures)} of {len(changes)} changed"
    found: list[Block] = [
        (title, ("Figure", "Before", "After", "Change", ""), list(figures), three),
        ("Gates", ("Gate", "Before", "After"), list(comparison.gates), frozenset()),
    ]
    for title, head, counts in (
        ("Not as intended", "Cause", comparison.causes),
        ("Responses to INVITE", "Code", comparison.codes),
    ):
        rows = [(what, f"{a:,}", f"{b:,}", _signed(float(b - a))) for what, a, b in counts]
        found.append((title, (head, "Before", "After", "Change"), list(rows), three))
    differs = ("What", "Before", "After")
    found.append(("Not the same in both", differs, list(comparison.setting), frozenset()))
    return [block for block in found if block[2]]


def _verdict(report: Report) -> str:
    return f"{report.judgement.word or state_word(report)}. {headline(report)}"


def _changed(one: Difference) -> str:
    """By how much; empty if nobody could read it from the two."""
    if number(one.before, one.unit) == number(one.after, one.unit):
        return ""
    if one.change is None:
        return "-"
    return _signed(one.change, "points" if one.unit == "%" else one.unit)


def _signed(change: float, unit: str = "") -> str:
    # Twelve digits: 99.2 - 98.7 is 0.5.
    return ("+" if change > 0 else "-") + number(float(f"{abs(change):.12g}"), unit)


def _figures(before: Sequence[Figure], after: Sequence[Figure]) -> Iterable[Difference]:
    old = {figure.key: figure for figure in before}
    new = {figure.key: figure for figure in after}
    for key in [*old, *(key for key in new if key not in old)]:
        one = new.get(key) or old[key]
        was = old[key].value if key in old else None
        now = new[key].value if key in new else None
        yield Difference(
            key=key,
            label=one.label,
            unit=one.unit,
            before=was,
            after=now,
            direction=_direction(one, was, now),
        )


def _direction(figure: Figure, before: float | None, after: float | None) -> Direction:
    if before is None or after is None or not figure.better:
        return ""
    least = _POINTS if figure.unit == "%" else _RELATIVE * max(abs(before), abs(after))
    if abs(after - before) <= least:
        return ""
    return "better" if (after > before) == (figure.better == "more") else "worse"


def _gates(
    before: Sequence[JudgedGate], after: Sequence[JudgedGate]
) -> Iterable[tuple[str, str, str]]:
    old = {gate.gate: gate for gate in before}
    new = {gate.gate: gate for gate in after}
    for name in [*old, *(name for name in new if name not in old)]:
        was, now = old.get(name), new.get(name)
        if was is None or now is None or was.state != now.state:
            yield name, _result(was), _result(now)


def _result(gate: JudgedGate | None) -> str:
    return "not asked" if gate is None else f"{gate.state} ({gate.measured})"


def _counts(
    before: Iterable[tuple[str, int]], after: Iterable[tuple[str, int]]
) -> tuple[tuple[str, int, int], ...]:
    old, new = dict(before), dict(after)
    changed = [(key, old.get(key, 0), new.get(key, 0)) for key in {**old, **new}]
    changed = [entry for entry in changed if entry[1] != entry[2]]
    return tuple(sorted(changed, key=lambda entry: (-abs(entry[2] - entry[1]), entry[0])))


def _setting(before: Report, after: Report) -> Iterable[tuple[str, str, str]]:
    for part in ("profile", "environment"):
        old = dict(_flat(getattr(before.facts, part)))
        new = dict(_flat(getattr(after.facts, part)))
        for key in {**old, **new}:
            if old.get(key) != new.get(key):
                yield f"{part} {key}", old.get(key, "-"), new.get(key, "-")
    phones = len(before.facts.phones), len(after.facts.phones)
    if phones[0] != phones[1]:
        yield "phones", str(phones[0]), str(phones[1])


def _flat(values: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", str(value)
