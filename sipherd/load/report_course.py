"""The part of the page that shows a run's course: what happened, and charts over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from . import charts
from .axes import length
from .findings import Happening, HappeningKind, Report
from .markup import NOTHING, Markup, element
from .words import planned

__all__ = ["SIGNS", "over_time", "section"]

#: Upright lines in a chart: with more of them it would show nothing else.
_MOST_UPRIGHTS = 80

SIGNS: dict[HappeningKind, tuple[str, str]] = {
    "death": ("\N{MULTIPLICATION SIGN}", "a process died"),
    "restart": ("\N{UPWARDS ARROW}", "a phone is back"),
    "fault": ("F", "a fault was injected"),
    "overload": ("!", "this box was overloaded"),
    "trouble": ("?", "other trouble"),
    "note": ("\N{BULLET}", "note"),
}
"""A sign and what it means, for each kind of happening."""


def section(title: str, *content: Markup) -> Markup:
    """A part of the page with a title."""
    return element("section", element("h2", title), *content)


def over_time(report: Report) -> Markup:
    """What happened, and the charts of everything that was measured."""
    course, window = report.course, report.course.window
    marks = _marks(report.happenings)
    uprights = [mark for mark in marks if mark.kind not in ("restart", "note")]
    if len(uprights) > _MOST_UPRIGHTS:
        uprights = []
    spans = _spans(report)

    def rates(counts: Sequence[int]) -> list[float | None]:
        # The run ends within its last window.
        last = report.seconds - window * (len(counts) - 1)
        lengths = [*(window for _ in counts[1:]), last if 0 < last < window else window]
        return [count / seconds for count, seconds in zip(counts, lengths, strict=True)]

    def scaled(values: Iterable[float | None], factor: float) -> list[float | None]:
        return [None if value is None else factor * value for value in values]

    def milliseconds(values: Iterable[float | None]) -> list[float | None]:
        return scaled(values, 1000)

    def chart(title: str, unit: str, help_text: str, *series: charts.Series) -> Markup:
        return charts.time_chart(
            title,
            series,
            window,
            unit=unit,
            help_text=help_text,
            marks=uprights,
            spans=spans,
        )

    looked = any(value is not None for value in course.cpu)
    box = []
    if looked:
        box.append(
            chart(
                "This box",
                "%",
                "How busy all cores were, whoever used them: the busiest moment of each step.",
                charts.Series("busy", scaled(course.cpu, 100), "orange", filled=True),
            )
        )
    if any(course.drops):
        box.append(
            chart(
                "Datagrams thrown away",
                "",
                "By this box's kernel, for want of room in a socket of a phone.",
                charts.Series("thrown away", course.drops, "red", filled=True),
            )
        )
    if any(value is not None for value in course.memory_max):
        box.append(
            chart(
                "Memory of a phone's process",
                "MB",
                "Private memory (USS); in a soak it should be flat.",
                charts.Series("half (p50)", scaled(course.memory_p50, 1e-6), "green"),
                charts.Series("largest", scaled(course.memory_max, 1e-6), "blue"),
            )
        )
    each = f"One step is {length(window)}."
    return section(
        "Over time",
        _time_line(marks, spans, course.seconds),
        chart(
            "Call rate",
            "calls/s",
            f"{each} A call that was not sent at all counts as not as intended.",
            charts.Series("started", rates(course.started), "blue"),
            charts.Series("intended", rates(course.intended), "soft"),
            charts.Series("not as intended", rates(course.missed), "red", filled=True),
        ),
        chart(
            "Calls at once",
            "calls",
            f"The most at one moment of each {length(window)}.",
            charts.Series("being set up or up", course.under_way, "blue", filled=True),
            charts.Series("answered", course.answered, "green"),
        ),
        chart(
            "Setup time",
            "ms",
            "Session request delay (srd_ok): INVITE to the first response other than 100, "
            "of answered calls that started in the step.",
            charts.Series("half (p50)", milliseconds(course.setup_p50), "green"),
            charts.Series("p95", milliseconds(course.setup_p95), "blue"),
            charts.Series("p99", milliseconds(course.setup_p99), "orange"),
        ),
        chart(
            "Late starts",
            "ms",
            "How long after its intended time a call was sent, and how late a loop of runner, "
            "supervisor or phones was: what this box added.",
            charts.Series("p95", milliseconds(course.late_p95), "blue"),
            charts.Series("latest", milliseconds(course.late_max), "orange"),
            *([charts.Series("loops", milliseconds(course.lag), "violet")] if looked else ()),
        ),
        *box,
    )


def _time_line(
    marks: Sequence[charts.Mark], spans: Sequence[charts.Span], seconds: float
) -> Markup:
    if not marks and not spans:
        return NOTHING
    present = {mark.kind for mark in marks}
    key = [
        element("li", element("span", sign, class_=f"key {kind}"), meaning)
        for kind, (sign, meaning) in SIGNS.items()
        if kind in present
    ]
    return element(
        "figure",
        element(
            "figcaption",
            element("h3", "What happened" if marks else "Phases"),
            element("ul", *key, class_="legend"),
        ),
        charts.lanes(
            [(kind, *SIGNS[kind]) for kind in SIGNS if kind in present], marks, spans, seconds
        ),
    )


def _marks(happened: Iterable[Happening]) -> list[charts.Mark]:
    return [
        charts.Mark(
            max(one.t, 0.0),
            one.kind,
            SIGNS[one.kind][0],
            f"{one.phone}: {one.text}" if one.phone else one.text,
        )
        for one in happened
    ]


def _spans(report: Report) -> list[charts.Span]:
    """Warm-up and drain, where the profile says when they were."""
    found = []
    warm_up = report.facts.profile.get("warm_up")
    if isinstance(warm_up, int | float) and warm_up > 0:
        found.append(charts.Span("warm-up", 0.0, min(float(warm_up), report.seconds)))
    placing = planned(report.facts.profile)
    if placing is not None and 0 < placing < report.seconds:
        found.append(charts.Span("drain", placing, report.seconds))
    return found
