"""Charts as static HTML and inline SVG: lines over time, bars, a heat map.

A plot is an SVG that is stretched to the width there is; its lines keep their thickness. All
text is HTML around it, so it is as large on a phone as on a desk. What a chart shows by colour
and height is in a table below it, too, for readers who see neither.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from .axes import clock, number, tick_labels, time_ticks, value_ticks
from .markup import NOTHING, Markup, element, joined

__all__ = [
    "Bar",
    "Mark",
    "Row",
    "Series",
    "Span",
    "bars",
    "heat_map",
    "lanes",
    "table",
    "time_chart",
]

#: Units of an SVG's own coordinates: fine enough for any screen, short to write.
_WIDE = 1000
_HIGH = 100
#: Happenings that one sign names when it is pointed at.
_MOST_TOLD = 20


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart: a value for each window, None where there was nothing to measure."""

    name: str
    values: Sequence[float | None]
    style: str
    """A class of the style sheet: the line's colour and dashes."""
    filled: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at one moment."""

    at: float
    """Seconds since the run's start."""
    kind: str
    """A class of the style sheet."""
    sign: str
    """One character, for those who can't tell the colours apart."""
    text: str


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time that is not the run proper: warm-up, drain."""

    name: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Bar:
    """How often something was counted."""

    name: str
    count: int
    style: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a heat map."""

    name: str
    levels: Sequence[int | None]
    """A shade for each window, 0 the lightest; None where nothing happened."""
    notes: Sequence[str]
    """What each window's shade says, in words."""
    total: str = ""
    remark: str = ""
    """Left out where there is no room for it."""


def table(heads: Sequence[str], rows: Sequence[Sequence[object]], *, left: int = 1) -> Markup:
    """A table whose first `left` columns are text and the others numbers; the first names a row."""

    def cell(column: int, content: object, head: bool) -> Markup:
        name, scope = ("th", "col" if head else "row") if head or column == 0 else ("td", None)
        return element(name, content, scope=scope, class_="n" if column >= left else None)

    top = element("tr", *(cell(i, head, True) for i, head in enumerate(heads)))
    body = [element("tr", *(cell(i, c, False) for i, c in enumerate(row))) for row in rows]
    inner = element("table", element("thead", top), element("tbody", *body))
    return element("div", inner, class_="scroll")


def time_chart(
    title: str,
    series: Sequence[Series],
    window: float,
    *,
    unit: str = "",
    help_text: str = "",
    marks: Sequence[Mark] = (),
    spans: Sequence[Span] = (),
) -> Markup:
    """Lines over time, one step for each window of `window` seconds, with the figures below."""
    count = max((len(one.values) for one in series), default=0)
    seconds = max(count, 1) * window
    top = max((v for one in series for v in one.values if v is not None), default=0.0)
    ticks = value_ticks(top)
    shades = [_shade(span, seconds) for span in spans if span.start < seconds]
    grid = [_level(tick, ticks[-1]) for tick in ticks[1:]]
    shapes = [shape for one in series for shape in _steps(one, count, ticks[-1])]
    lines = [_upright(mark, seconds) for mark in marks if mark.at <= seconds]
    svg = _svg(title, *shades, *grid, *shapes, *lines)
    scale = [
        element("span", label, style=f"bottom:{100 * tick / ticks[-1]:.4g}%")
        for tick, label in zip(ticks, tick_labels(ticks), strict=True)
    ]
    plot = element(
        "div",
        element("div", *scale, class_="y", aria_hidden="true"),
        element("div", svg, class_="plot", data_windows=count),
        _time_axis(seconds),
        class_="chart",
    )
    heads = ["Time", *(one.name for one in series)]
    rows = [[clock(i * window), *(number(one.values[i]) for one in series)] for i in range(count)]
    caption = element(
        "figcaption",
        element("h3", title, element("small", f" {unit}") if unit else NOTHING),
        element("p", help_text, class_="help") if help_text else NOTHING,
        _legend(series, unit),
    )
    return element("figure", caption, plot, _details("Figures", table(heads, rows)))


def lanes(
    kinds: Sequence[tuple[str, str, str]],
    marks: Sequence[Mark],
    spans: Sequence[Span],
    seconds: float,
) -> Markup:
    """What happened, along the time axis: a lane for each kind of mark (kind, sign, meaning).

    Neighbours that would overlap share one sign, with their number.
    """
    rows: list[Markup] = []
    for kind, sign, meaning in kinds:
        signs = _signs([mark for mark in marks if mark.kind == kind], seconds)
        rows.append(element("div", sign, class_=f"who {kind}", title=meaning))
        rows.append(element("div", *signs, class_="plot lane", role="group", aria_label=meaning))
    names = [
        element(
            "span",
            span.name,
            class_="phase",
            style=f"left:{_percent(span.start, seconds)}%;"
            f"width:{_percent(span.end - span.start, seconds)}%",
        )
        for span in spans
    ]
    if names:
        rows += [element("div", class_="who"), element("div", *names, class_="plot lane phases")]
    return element("div", *rows, _time_axis(seconds), class_="chart lanes")


def _signs(marks: Sequence[Mark], seconds: float) -> list[Markup]:
    signs = []
    for group in _neighbours(marks, seconds / 16):
        first = group[0]
        told = "; ".join(f"{clock(mark.at)} {mark.text}" for mark in group[:_MOST_TOLD])
        if len(group) > _MOST_TOLD:
            told += f"; and {len(group) - _MOST_TOLD} more"
        sign = f"{first.sign}{len(group)}" if len(group) > 1 else first.sign
        place = f"left:{_percent(first.at, seconds)}%"
        kind = f"sign {first.kind}"
        signs.append(
            element("span", sign, class_=kind, style=place, title=told, role="img", aria_label=told)
        )
    return signs


def bars(heads: tuple[str, str], rows: Sequence[Bar]) -> Markup:
    """A table whose counts are drawn as bars, too; the shares are of the sum."""
    total = sum(row.count for row in rows) or 1
    most = max((row.count for row in rows), default=0) or 1
    cells = []
    for row in rows:
        width = max(100 * row.count / most, 0.5) if row.count else 0
        bar = element("span", class_=f"bar {row.style}".strip(), style=f"width:{width:.4g}%")
        cells.append(
            element(
                "tr",
                element("th", row.name, _note(row.note), scope="row"),
                element("td", f"{row.count:,}", class_="n"),
                element("td", number(100 * row.count / total, "%"), class_="n"),
                element("td", bar, class_="bars", aria_hidden="true"),
            )
        )
    names = [
        element("th", heads[0], scope="col"),
        element("th", heads[1], scope="col", class_="n"),
        element("th", "Share", scope="col", class_="n"),
        element("td"),
    ]
    head = element("thead", element("tr", *names))
    return element("table", head, element("tbody", *cells), class_="barred")


def heat_map(title: str, rows: Sequence[Row], window: float, shades: Sequence[str]) -> Markup:
    """A row for each phone, a cell for each window; `shades` says what each shade stands for."""
    count = max((len(row.levels) for row in rows), default=0)
    lines = []
    for row in rows:
        cells = list(_cells(row, count, window))
        lines.append(element("span", row.name, class_="who", title=row.name))
        lines.append(_svg(f"{row.name}: {row.total}{row.remark}", *cells, class_="heat"))
        remark = element("small", row.remark) if row.remark else NOTHING
        lines.append(element("span", row.total, remark, class_="sum"))
    legend = [
        element("li", element("span", class_=f"swatch h{i}"), name) for i, name in enumerate(shades)
    ]
    legend.append(element("li", element("span", class_="swatch none"), "no call"))
    lines += [element("span"), _time_axis(max(count, 1) * window), element("span")]
    grid = element("div", *lines, class_="heatmap", role="group", aria_label=title)
    return joined([element("ul", *legend, class_="legend"), grid])


def _cells(row: Row, count: int, window: float) -> list[Markup]:
    """Rectangles; neighbours that say the same, in shade and words, are one."""
    found = []
    at = 0
    for (level, note), same in itertools.groupby(zip(row.levels, row.notes, strict=True)):
        wide = len(list(same))
        if level is not None:
            told = f"{clock(at * window)} to {clock((at + wide) * window)}: {note}"
            found.append(
                element(
                    "rect",
                    element("title", told),
                    x=_short(_WIDE * at / count),
                    width=_short(_WIDE * wide / count),
                    y=0,
                    height=_HIGH,
                    class_=f"h{level}",
                )
            )
        at += wide
    return found


def _steps(one: Series, count: int, top: float) -> list[Markup]:
    """The line, broken where there is no value, and the area under it."""

    def height(value: float) -> str:
        return _short(_HIGH * (1 - value / top))

    shapes = []
    at = 0
    line = ""
    for missing, group in itertools.groupby(one.values, key=lambda value: value is None):
        values = [value or 0.0 for value in group]
        start, at = at, at + len(values)
        if missing:
            continue
        path = f"M{_short(_WIDE * start / count)} {height(values[0])}"
        for i, value in enumerate(values, start + 1):
            path += f"V{height(value)}H{_short(_WIDE * i / count)}"
        if one.filled:
            foot = f"V{_HIGH}H{_short(_WIDE * start / count)}Z"
            shapes.append(element("path", d=path + foot, class_=f"area {one.style}"))
        line += path
    if line:
        shapes.append(element("path", d=line, class_=f"line {one.style}"))
    return shapes


def _svg(title: str, *shapes: Markup, class_: str | None = None) -> Markup:
    return element(
        "svg",
        element("title", title),
        *shapes,
        viewBox=f"0 0 {_WIDE} {_HIGH}",
        preserveAspectRatio="none",
        role="img",
        class_=class_,
    )


def _level(tick: float, top: float) -> Markup:
    y = _short(_HIGH * (1 - tick / top))
    return element("path", d=f"M0 {y}H{_WIDE}", class_="grid")


def _upright(mark: Mark, seconds: float) -> Markup:
    x = _short(_WIDE * mark.at / seconds)
    return element("path", d=f"M{x} 0V{_HIGH}", class_=f"mark {mark.kind}")


def _shade(span: Span, seconds: float) -> Markup:
    start = _WIDE * span.start / seconds
    end = _WIDE * min(span.end, seconds) / seconds
    return element(
        "rect", x=_short(start), width=_short(end - start), y=0, height=_HIGH, class_="phase"
    )


def _time_axis(seconds: float) -> Markup:
    labels = [
        element("span", clock(tick), style=f"left:{_percent(tick, seconds)}%")
        for tick in time_ticks(seconds)
    ]
    return element("div", *labels, class_="x", aria_hidden="true")


def _legend(series: Sequence[Series], unit: str) -> Markup:
    entries = []
    for one in series:
        values = [value for value in one.values if value is not None]
        most = f" (most: {number(max(values), unit)})" if values else " (none)"
        entries.append(
            element(
                "li",
                element("span", class_=f"swatch {one.style}"),
                one.name,
                element("small", most),
            )
        )
    return element("ul", *entries, class_="legend")


def _details(summary: str, content: Markup) -> Markup:
    return element("details", element("summary", summary), content)


def _neighbours(marks: Sequence[Mark], apart: float) -> list[list[Mark]]:
    """Marks, with those at most `apart` seconds behind the first of a group in it."""
    groups: list[list[Mark]] = []
    for mark in sorted(marks, key=lambda mark: mark.at):
        if not groups or mark.at - groups[-1][0].at > apart:
            groups.append([])
        groups[-1].append(mark)
    return groups


def _note(text: str) -> Markup:
    return element("small", f" {text}") if text else NOTHING


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.5g}"


def _short(value: float) -> str:
    """A coordinate in as few characters as it needs."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
