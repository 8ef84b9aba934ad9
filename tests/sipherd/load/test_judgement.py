"""Gates with their evidence."""

from __future__ import annotations

import pytest

from loadrun import attempt
from sipherd.load.gates import parse
from sipherd.load.judgement import evidence, judgement
from sipherd.load.metrics import DISTRIBUTIONS, METRICS, MediaStats, tally
from sipherd.load.verdict import give

MEDIA = MediaStats(sent=9, received=9, lost=1, mos=4.2)
TALLY = tally(
    [
        attempt(1, caller_media=MEDIA),
        attempt(2, outcome="crashed", cause="phone_crashed", final_code=None, answered=None),
    ]
)


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        ("as_intended", "1 of 2 attempts; not: phone crashed 1"),
        ("seer", "1 of 2 INVITEs not redirected"),
        ("loss", "1 of 10 RTP packets"),
        ("acd", "of 1 calls"),
        ("srd_ok_p95", "of 1 values"),
        ("srd_ok_p99.9", "of 1 values"),
        ("crashed", ""),
    ],
)
def test_evidence(metric: str, text: str) -> None:
    assert evidence(metric, TALLY) == text


@pytest.mark.parametrize("name", [*METRICS, *(f"{of}_p50" for of in DISTRIBUTIONS)])
def test_every_metric_has_evidence_or_none(name: str) -> None:
    assert isinstance(evidence(name, TALLY), str)


def test_a_verdict() -> None:
    gates = [parse(text) for text in ("as_intended >= 99", "srd_ok_p95 < 1s", "rrd_p50 < 1s")]
    found = judgement(give(TALLY, gates), TALLY)
    assert found.word == "FAIL"
    assert [(gate.state, gate.measured) for gate in found.gates] == [
        ("failed", "50 %"),
        ("passed", "10 ms"),
        ("undefined", "undefined"),
    ]
    assert found.why[0].startswith("as_intended is 50 %")


def test_what_is_said_of_an_invalid_run_beside_its_reasons() -> None:
    gates = [parse("as_intended >= 99")]
    found = judgement(give(TALLY, gates, interrupted="the runner was gone after 3 s"), TALLY)
    first, second, *_ = found.why
    assert first == "the runner was gone after 3 s"
    assert second.startswith("also: as_intended is 50 %")
