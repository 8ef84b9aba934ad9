"""The summary of a run for a terminal, and in plain lines for a file or a pipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..protocol.text import printable
from ..render import table
from . import spread
from .axes import clock, number
from .findings import GateState, Report, VerdictWord
from .words import code_name, headline, state_word

__all__ = ["Block", "blocks", "lines", "summary", "verdict_style"]

#: Rows of a list of which the first matter most.
_TOP = 10

_STYLES: dict[VerdictWord, str] = {
    "PASS": "bold green",
    "FAIL": "bold red",
    "INVALID": "bold yellow",
    "": "bold",
}
_GATE_WORDS: dict[GateState, tuple[str, str]] = {
    "passed": ("passed", "green"),
    "failed": ("FAILED", "bold red"),
    "undefined": ("FAILED: nothing to measure", "bold red"),
}

_SPREAD_HEADS = ("Figure", *spread.HEADS, "In a gate")
_SPREAD_NUMBERS = frozenset(range(1, len(spread.HEADS) + 1))

Block: TypeAlias = tuple[str, Sequence[str], list[Sequence[str]], frozenset[int]]
"""A title, heads, rows, and which columns are numbers."""


def verdict_style(word: VerdictWord) -> str:
    """How the verdict looks on a terminal."""
    return _STYLES[word]


def summary(report: Report) -> RenderableType:
    """What a terminal shows."""
    word = report.judgement.word
    parts: list[RenderableType] = [
        Text.assemble((word or state_word(report), verdict_style(word)), f"  {headline(report)}")
    ]
    parts += [Text(f"  {printable(why)}") for why in report.judgement.why]
    for title, heads, rows, numbers in blocks(report):
        parts += [Text(""), Text(title, style="bold"), as_table(heads, rows, numbers)]
    return Group(*parts)


def lines(report: Report) -> list[str]:
    """The same without colours and frames."""
    found = [f"{report.judgement.word or state_word(report)}: {headline(report)}"]
    found += [f"  {printable(why)}" for why in report.judgement.why]
    for title, heads, rows, numbers in blocks(report):
        right = [heads[i] for i in numbers]
        found += ["", f"{title}:", *table(heads, rows, right=right).splitlines()]
    return found


def as_table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: frozenset[int]) -> Table:
    """A table without frames and empty columns; nothing in it is taken for rich's markup."""
    found = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    shown = [i for i in range(len(heads)) if not rows or any(row[i] for row in rows)]
    for i in shown:
        found.add_column(Text(heads[i]), justify="right" if i in numbers else "left")
    for row in rows:
        found.add_row(*(_cell(row[i]) for i in shown))
    return found


def _cell(cell: str) -> Text:
    styles = dict(_GATE_WORDS.values())
    return Text(printable(cell), style=styles.get(cell, ""))


def blocks(report: Report) -> list[Block]:
    """The tables of the summary, without those that would be empty."""
    found: list[Block] = [
        ("Gates", ("Gate", "Result", "Measured", "Evidence"), _gates(report), frozenset({2})),
        ("Figures", ("Figure", "Value", "In a gate"), _figures(report), frozenset({1})),
        ("Times and scores", _SPREAD_HEADS, _spread(report), _SPREAD_NUMBERS),
        ("Not as intended", ("Cause", "Calls"), _causes(report), frozenset({1})),
        ("Responses to INVITE", ("Code", "Reason", "Responses"), _codes(report), frozenset({2})),
        (
            "Worst phones",
            ("Phone", "Calls", "Not as intended", "Deaths"),
            _phones(report),
            frozenset({1, 2, 3}),
        ),
        ("What happened", ("Time", "Phone", "What"), _happened(report), frozenset({0})),
    ]
    return [block for block in found if block[2]]


def _gates(report: Report) -> list[Sequence[str]]:
    return [
        (gate.gate, _GATE_WORDS[gate.state][0], gate.measured, gate.evidence)
        for gate in report.judgement.gates
    ]


def _figures(report: Report) -> list[Sequence[str]]:
    """Those that are one number; of what is counted only what there was."""
    return [
        (one.label, number(one.value, one.unit), one.key)
        for one in spread.single(report.figures)
        if one.headline or one.unit or one.value
    ]


def _spread(report: Report) -> list[Sequence[str]]:
    return [(row.label, *row.values, row.key) for row in spread.rows(report.figures)]


def _causes(report: Report) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [(cause, f"{n:,}") for cause, n in report.causes[:_TOP]]
    rest = report.causes[_TOP:]
    if rest:
        rows.append((f"{len(rest)} other causes", f"{sum(n for _, n in rest):,}"))
    return rows


def _codes(report: Report) -> list[Sequence[str]]:
    return [(str(code), code_name(code), f"{n:,}") for code, n in report.codes]


def _phones(report: Report) -> list[Sequence[str]]:
    bad = [phone for phone in report.phones if phone.missed_total or phone.deaths]
    return [
        (phone.name, f"{phone.total:,}", f"{phone.missed_total:,}", str(phone.deaths))
        for phone in bad[:_TOP]
    ]


def _happened(report: Report) -> list[Sequence[str]]:
    told = [one for one in report.happenings if one.kind not in ("restart", "note")]
    rows: list[Sequence[str]] = [
        (clock(one.t), one.phone or "herd", one.text) for one in told[:_TOP]
    ]
    if len(told) > _TOP:
        kinds = Counter(one.kind for one in told[_TOP:])
        rest = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
        rows.append(("", "", f"and {len(told) - _TOP} more: {rest}"))
    return rows
