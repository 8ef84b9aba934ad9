"""Figures as rows."""

from __future__ import annotations

import loadrun
from sipherd.load.figures import figures
from sipherd.load.metrics import METRICS, tally
from sipherd.load.records import MediaStats
from sipherd.load.spread import HEADS, rows, single

MEDIA = MediaStats(sent=9, received=9, lost=0, mos=4.2)
FIGURES = figures(tally([loadrun.attempt(caller_media=MEDIA)]))


def test_what_is_one_number() -> None:
    assert {figure.key for figure in single(FIGURES)} < set(METRICS)


def test_a_row_for_what_is_many() -> None:
    found = {row.key: row for row in rows(FIGURES)}
    delay = found["srd_ok_p95"]
    assert delay.label == "Session request delay"
    assert dict(zip(HEADS, delay.values, strict=True)) == {
        **dict.fromkeys(("Mean", "p50", "p95", "p99", "Max"), "10 ms"),
        "p5": "",
    }
    assert "RFC 6076 4.3" in delay.meaning


def test_of_a_score_the_low_end_is_told() -> None:
    found = {row.key: row for row in rows(FIGURES)}
    assert dict(zip(HEADS, found["mos_p5"].values, strict=True))["p5"] == "4.20"
    assert "mos_p95" not in found
