"""The report of a run as one HTML page that needs nothing but itself.

It opens from a mail or a USB stick, without a network and without scripts: the one script only
shows the figures under the pointer.  What peers sent is escaped (``load.markup``), and the page's
Content-Security-Policy lets no other script run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from importlib.resources import files
from string import Template
from typing import Any

from . import charts, delays, spread
from .axes import clock, length, number
from .findings import Figure, Happening, JudgedGate, PhoneCourse, Report
from .markup import NOTHING, Markup, element, joined, safe
from .records import CallAttempt
from .report_course import SIGNS, over_time, section
from .survey import cause_of
from .words import code_name, headline, state_word

__all__ = ["page"]

#: Rows that a reader still looks at; the rest is counted, and in the run's database.
_MOST_PHONES = 60
_MOST_CELLS = 40
_MOST_HAPPENINGS = 500

_SHADES = ("all as intended", "up to 1 % not", "up to 5 %", "up to 20 %", "more than 20 %")
_SHADE_LIMITS = (0.0, 0.01, 0.05, 0.2)


def page(report: Report, *, zone: tzinfo = UTC, generator: str = "sipherd") -> str:
    """The page, ready to be written to a file.  Times of day are those of `zone`."""
    script = _resource("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    verdict = report.judgement.word or state_word(report)
    return Template(_resource("report.html")).substitute(
        policy=policy,
        generator=safe(generator),
        title=safe(f"{verdict}: {report.facts.name}"),
        style=_resource("report.css"),
        script=script,
        body=_body(report, zone, generator),
    )


def _resource(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _body(report: Report, zone: tzinfo, generator: str) -> Markup:
    return joined(
        [
            _header(report, zone),
            _verdict(report),
            _gates(report.judgement.gates),
            _tiles(report.figures),
            over_time(report),
            _why(report),
            _heat(report),
            _happened(report.happenings),
            _examples(report.examples),
            _all_figures(report.figures),
            _environment(report),
            element("footer", f"Written by {generator}."),
        ]
    )


def _header(report: Report, zone: tzinfo) -> Markup:
    facts = report.facts
    started = datetime.fromtimestamp(facts.started_at, zone)
    when = f"{started:%Y-%m-%d %H:%M:%S %Z}, {length(report.seconds)}"
    herd = f"herd {facts.herd}, " if facts.herd else ""
    if facts.herd.startswith("private-"):  # a name that nobody gave
        herd = "a herd of its own, "
    what = f"{herd}{number(len(facts.phones))} phones. Started {when}."
    return element(
        "header", element("h1", f"Load run {facts.name}"), element("p", what, class_="soft")
    )


def _verdict(report: Report) -> Markup:
    word = report.judgement.word
    shown = word or state_word(report)
    reasons = element("ul", *(element("li", reason) for reason in report.judgement.why))
    return element(
        "section",
        element("strong", shown),
        element("p", headline(report)),
        reasons if report.judgement.why else NOTHING,
        class_=f"verdict {word.lower()}".strip(),
        aria_label="Verdict",
    )


def _gates(gates: Sequence[JudgedGate]) -> Markup:
    if not gates:
        return NOTHING
    signs = {
        "passed": "\N{CHECK MARK} passed",
        "failed": "\N{MULTIPLICATION SIGN} failed",
        "undefined": "\N{MULTIPLICATION SIGN} failed: nothing to measure",
    }
    heads = ("Gate", "Result", "Measured", "Evidence")
    rows = [
        element(
            "tr",
            element("th", element("code", gate.gate), scope="row"),
            element(
                "td", signs.get(gate.state, "? nothing to measure"), class_=f"state {gate.state}"
            ),
            element("td", gate.measured),
            element("td", gate.evidence, class_="soft"),
        )
        for gate in gates
    ]
    head = element("thead", element("tr", *(element("th", h, scope="col") for h in heads)))
    inner = element("table", head, element("tbody", *rows), class_="gates")
    return section("Gates", element("div", inner, class_="scroll whole"))


def _tiles(figures: Sequence[Figure]) -> Markup:
    tiles = [
        element(
            "div",
            element("dt", figure.label),
            element("dd", number(figure.value, figure.unit)),
            title=figure.meaning or None,
        )
        for figure in figures
        if figure.headline
    ]
    return element("dl", *tiles, class_="tiles") if tiles else NOTHING


def _why(report: Report) -> Markup:
    causes = [charts.Bar(cause, count, "red") for cause, count in report.causes]
    styles = {1: "soft", 2: "green", 3: "violet", 4: "orange", 5: "red", 6: "orange"}
    codes = [
        charts.Bar(str(code), count, styles.get(code // 100, "soft"), code_name(code))
        for code, count in report.codes
    ]
    mix = [
        (
            line.drawn,
            line.expected.replace("_", " "),
            f"{line.calls:,}",
            f"{line.as_intended:,}",
            number(100 * line.as_intended / line.calls if line.calls else None, "%"),
        )
        for line in report.mix
    ]
    failures = (
        charts.bars(("Cause", "Calls"), causes)
        if causes
        else element("p", "Every call ended as intended.", class_="soft")
    )
    mixed = charts.table(("Drawn", "Outcome", "Calls", "As intended", "Share"), mix, left=2)
    return element(
        "div",
        section("Not as intended, by cause", failures),
        section("The mix", mixed),
        section("Responses to INVITE", charts.bars(("Code", "Responses"), codes)),
        class_="two",
    )


def _heat(report: Report) -> Markup:
    if not report.phones:
        return NOTHING
    # A window of the charts has few calls of one phone: a cell is several of them.
    merged = math.ceil(len(report.course.started) / _MOST_CELLS)
    window = report.course.window * merged
    shown = report.phones[:_MOST_PHONES]
    rows = [_heat_row(phone, merged) for phone in shown]
    told = "Share of a phone's calls, as caller or callee, that did not end as intended; "
    told += "their number on the right. A call counts for both of its phones."
    rest = report.phones[_MOST_PHONES:]
    if rest:
        missed = sum(phone.missed_total for phone in rest)
        told += (
            f" These are the {len(shown)} worst of {number(len(report.phones))} phones;"
            f" the other {number(len(rest))} have {number(missed)} such calls together."
        )
    lines = [
        (
            phone.name,
            f"{phone.total:,}",
            f"{phone.missed_total:,}",
            number(100 * phone.missed_total / phone.total if phone.total else None, "%"),
            phone.deaths,
        )
        for phone in shown
    ]
    heads = ("Phone", "Calls", "Not as intended", "Share", "Deaths")
    return section(
        "Phones",
        element("p", told, class_="help"),
        charts.heat_map("Phones over time", rows, window, _SHADES),
        element("details", element("summary", "Figures"), charts.table(heads, lines)),
    )


def _heat_row(phone: PhoneCourse, merged: int) -> charts.Row:
    levels: list[int | None] = []
    notes = []
    for at in range(0, len(phone.calls), merged):
        calls, missed = (sum(c[at : at + merged]) for c in (phone.calls, phone.missed))
        if not calls:
            levels.append(None)
            notes.append("no call")
            continue
        share = missed / calls
        level = next((i for i, limit in enumerate(_SHADE_LIMITS) if share <= limit), 4)
        levels.append(level)
        notes.append(f"{missed} of {calls} not as intended" if missed else "all as intended")
    total = f"{phone.missed_total:,} of {phone.total:,}"
    died = "once" if phone.deaths == 1 else f"{phone.deaths} times"
    return charts.Row(phone.name, levels, notes, total, f", died {died}" if phone.deaths else "")


def _happened(happened: Sequence[Happening]) -> Markup:
    if not happened:
        return NOTHING
    rows = [
        element(
            "tr",
            element("td", clock(one.t), class_="when"),
            element("td", SIGNS[one.kind][0], class_=f"sign-cell {one.kind}"),
            element("th", one.phone or "herd", scope="row"),
            element("td", one.text, class_="long"),
        )
        for one in happened[:_MOST_HAPPENINGS]
    ]
    head = element(
        "thead",
        element(
            "tr",
            element("th", "Time", scope="col"),
            element("td"),
            element("th", "Phone", scope="col"),
            element("th", "What happened", scope="col"),
        ),
    )
    more = len(happened) - len(rows)
    note = f"And {number(more)} more: see events.ndjson." if more > 0 else ""
    inner = element("table", head, element("tbody", *rows))
    return section(
        "Restarts, faults and trouble",
        element("div", inner, class_="scroll"),
        element("p", note, class_="help") if note else NOTHING,
    )


def _examples(examples: Sequence[CallAttempt]) -> Markup:
    if not examples:
        return NOTHING
    heads = ("Call", "Time", "From", "To", "Cause", "Call-ID", "Setup")
    rows = [
        (
            one.number,
            clock(one.intended if one.started is None else one.started),
            one.caller,
            one.callee or one.to_uri,
            cause_of(one),
            one.sip_call_id,
            _setup(one),
        )
        for one in examples
    ]
    return section(
        "Calls to look at",
        element(
            "p",
            "The first calls of each cause. ",
            element("code", "sipherd ladder RUN CALL"),
            " draws one.",
            class_="help",
        ),
        charts.table(heads, rows, left=6),
    )


def _setup(attempt: CallAttempt) -> str:
    delay = delays.request(attempt)
    return "-" if delay is None else number(1000 * delay.seconds, "ms")


def _all_figures(figures: Sequence[Figure]) -> Markup:
    if not figures:
        return NOTHING
    counted = [
        ((one.label, number(one.value, one.unit)), one.key, one.meaning)
        for one in spread.single(figures)
    ]
    told = spread.rows(figures)
    shown = [i for i in range(len(spread.HEADS)) if any(row.values[i] for row in told)]
    many = [((row.label, *(row.values[i] for i in shown)), row.key, row.meaning) for row in told]
    return section(
        "All figures",
        _figure_table(("Figure", "Value"), counted),
        _figure_table(("Figure", *(spread.HEADS[i] for i in shown)), many) if many else NOTHING,
    )


def _figure_table(heads: Sequence[str], rows: Sequence[tuple[Sequence[str], str, str]]) -> Markup:
    """Rows of a label with its values, a gate's name for it, and its meaning."""
    found = [
        element(
            "tr",
            element("th", label, scope="row"),
            *(element("td", value, class_="n") for value in values),
            element("td", element("code", key)),
            element("td", meaning, class_="soft"),
        )
        for (label, *values), key, meaning in rows
    ]
    first, *numbers = heads
    head = element(
        "thead",
        element(
            "tr",
            element("th", first, scope="col"),
            *(element("th", one, scope="col", class_="n") for one in numbers),
            element("th", "In a gate", scope="col"),
            element("th", "Meaning", scope="col"),
        ),
    )
    inner = element("table", head, element("tbody", *found))
    return element("div", inner, class_="scroll whole")


def _environment(report: Report) -> Markup:
    facts = report.facts
    lines = [
        part
        for name, value in facts.environment.items()
        for part in (element("dt", name.replace("_", " ")), element("dd", _plain(value)))
    ]
    profile = json.dumps(facts.profile, indent=2, ensure_ascii=False, default=str)
    return section(
        "Environment",
        element("dl", *lines, class_="facts") if lines else NOTHING,
        element(
            "details",
            element("summary", "Profile, seed included"),
            element("pre", *_lines(profile)),
        ),
    )


def _lines(text: str) -> list[object]:
    return [part for line in text.splitlines() for part in (line, Markup("\n"))]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
