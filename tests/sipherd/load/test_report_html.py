"""The page: whole, self-contained, and nobody's text is part of its markup."""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta, timezone
from html.parser import HTMLParser

import msgspec

from loadrun import attempt, facts, run
from sipherd.load.findings import Judgement, Report
from sipherd.load.records import RunEvent
from sipherd.load.report_html import page
from sipherd.load.survey import report

#: Elements without an end tag.
VOID = {"meta", "br"}
EVIL = '</title><script>alert(1)</script>"\' onload="x\u202e\x1b[2J'


class Reader(HTMLParser):
    """Reads a page as a browser would; a tag that is not closed is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: Counter[str] = Counter()
        self.links: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            self.attributes[name] += 1
            if name in ("src", "href", "srcset", "action", "data"):
                self.links.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["script"], ["style"]):
            self.text.append(data)


def words(text: str) -> str:
    return " ".join(" ".join(Reader(text).text).split())


def empty() -> Report:
    return report(facts(ended=None, state="interrupted"), [], [], [], Judgement())


def test_what_a_reader_looks_for_is_there() -> None:
    text = words(page(run()))
    for wanted in (
        "FAIL",
        "1,200 calls in 72 s",
        "as_intended >= 99",
        "\N{MULTIPLICATION SIGN} failed",
        "\N{MULTIPLICATION SIGN} failed: nothing to measure",
        "Call rate",
        "Calls at once",
        "Setup time",
        "Late starts",
        "This box",
        "Datagrams thrown away",
        "Memory of a phone's process",
        "Not as intended, by cause",
        "rejected (503), answer intended",
        "486 Busy Here",
        "phone-020",
        "died: SIGKILL (perhaps out of memory)",
        "warm-up",
        "Xeon",
        "open_files 65536, processes 4096",
        "Started 2026-11-24 12:00:00 UTC, 72 s",
    ):
        assert wanted in text


def test_the_page_needs_nothing_but_itself() -> None:
    text = page(run())
    found = Reader(text)
    assert found.links == []
    assert "://" not in text.replace("http://www.w3.org", "")
    assert "@import" not in text
    assert "url(" not in text
    assert (found.tags["script"], found.tags["style"], found.tags["link"]) == (1, 1, 0)


def test_the_script_is_the_one_that_the_policy_allows() -> None:
    text = page(empty())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", policy[1])


def test_what_peers_and_people_wrote_is_text() -> None:
    made = [
        attempt(n, to_uri=EVIL, callee="", caller=EVIL, sip_call_id=EVIL, cause=EVIL, drawn=EVIL)
        for n in (1, 2)
    ]
    made.append(attempt(3, outcome="reject", cause=EVIL, callee=EVIL, sip_call_id=EVIL))
    about = facts(
        name=EVIL, herd=EVIL, phones=(EVIL,), environment={EVIL: EVIL}, profile={EVIL: [EVIL]}
    )
    events = [RunEvent(t=1.0, phone=EVIL, kind=EVIL)]
    judgement = Judgement(word="FAIL", why=(EVIL,))
    text = page(report(about, made, events, [], judgement), generator=EVIL)
    plain = page(report(facts(), [attempt()], [], [], Judgement()))
    assert Reader(text).tags["script"] == Reader(plain).tags["script"] == 1
    assert Reader(text).attributes["onload"] == 0
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert r"\u202e" in text


def test_a_run_without_a_call() -> None:
    text = words(page(empty()))
    assert "INTERRUPTED" in text
    assert "No call in" in text
    assert "Every call ended as intended" in text


def test_a_run_that_was_interrupted_says_so() -> None:
    found = msgspec.structs.replace(run(), judgement=Judgement())
    found = msgspec.structs.replace(found, facts=facts(state="interrupted", ended=None))
    text = words(page(found))
    assert "INTERRUPTED" in text
    assert "no gate judged it" in text


def test_a_herd_that_was_started_for_the_run_has_no_name_to_show() -> None:
    found = report(facts(herd="private-123-abc"), [attempt()], [], [], Judgement())
    text = words(page(found))
    assert "a herd of its own, 2 phones" in text
    assert "private-123" not in text


def test_numbers_of_the_environment_are_short() -> None:
    environment = {"load_average": (13.720703125, 0.5), "cores": 2}
    found = report(facts(environment=environment), [attempt()], [], [], Judgement())
    assert "load average 13.7207, 0.5 cores 2" in words(page(found))


def test_charts_have_titles_and_tables() -> None:
    found = Reader(page(run()))
    assert found.tags["figure"] == 1 + 7  # what happened, and charts with a table each
    assert found.tags["svg"] == 7 + 20
    assert found.tags["title"] >= found.tags["svg"] + 1
    assert found.tags["details"] == 7 + 2


def test_a_chart_without_a_measurement_is_left_out() -> None:
    text = words(page(report(facts(), [attempt()], [], [], Judgement())))
    assert "Late starts" in text
    assert "This box" not in text
    assert "Memory" not in text


def test_times_of_day_are_of_the_zone_asked_for() -> None:
    zone = timezone(timedelta(hours=1), "CET")
    assert "Started 2026-11-24 13:00:00 CET" in words(page(run(), zone=zone))


def test_many_phones_and_calls_stay_readable() -> None:
    """The worst phones have a row, the others are counted; the page stays below a megabyte."""
    text = page(run(calls=4000, rate=4, phones=400))
    assert Reader(text).tags["svg"] == 7 + 60
    assert "60 worst of 400 phones" in text
    assert len(text) < 500_000
