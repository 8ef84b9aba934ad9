"""Figures as tables that people read: of what has many values one row, with its percentiles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .axes import number
from .findings import Figure

__all__ = ["HEADS", "Row", "rows", "single"]

_STATISTICS = ("mean", "p5", "p50", "p95", "p99", "max")
HEADS = ("Mean", "p5", "p50", "p95", "p99", "Max")
"""Of ``Row.values``."""


class Row(NamedTuple):
    """One quantity."""

    label: str
    values: tuple[str, ...]
    """One for each of HEADS, empty where that is not told."""
    key: str
    """A gate on its bad end: ``srd_ok_p95``."""
    meaning: str


def single(figures: Iterable[Figure]) -> list[Figure]:
    """Those that are one number."""
    return [figure for figure in figures if not _split(figure.key)[1]]


def rows(figures: Iterable[Figure]) -> list[Row]:
    """Those that are many values."""
    found: dict[str, dict[str, Figure]] = {}
    for figure in figures:
        of, which = _split(figure.key)
        if which:
            found.setdefault(of, {})[which] = figure
    return [_row(of, told) for of, told in found.items()]


def _row(of: str, told: dict[str, Figure]) -> Row:
    which, first = next(iter(told.items()))
    values = (told.get(one) for one in _STATISTICS)
    return Row(
        label=first.label.removesuffix(f", {which}"),
        values=tuple("" if one is None else number(one.value, one.unit) for one in values),
        # Of a score the bad end is the low one.
        key=f"{of}_p95" if "p95" in told else f"{of}_p5",
        meaning=first.meaning,
    )


def _split(key: str) -> tuple[str, str]:
    """``srd_ok`` and ``p95`` of ``srd_ok_p95``; of a single number nothing behind it."""
    of, _, which = key.rpartition("_")
    return (of, which) if which in _STATISTICS else (key, "")
