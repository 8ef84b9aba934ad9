"""Metrics as figures."""

from __future__ import annotations

import pytest

from loadrun import attempt
from sipherd.load import figures as module
from sipherd.load.figures import figures
from sipherd.load.metrics import DISTRIBUTIONS, METRICS, MediaStats, Tally, metric, tally


def of(made: Tally) -> dict[str, module.Figure]:
    return {figure.key: figure for figure in figures(made)}


@pytest.mark.parametrize("name", [*METRICS, *DISTRIBUTIONS])
def test_every_metric_has_a_label(name: str) -> None:
    assert module._LABELS[name]


def test_every_key_is_what_a_gate_can_ask_for() -> None:
    media = MediaStats(sent=9, received=9, lost=1, mos=4.2, round_trip_ms=3.0)
    for key in of(tally([attempt(caller_media=media)])):
        metric(key)


def test_units_are_handy() -> None:
    media = MediaStats(sent=9, received=9, lost=1, mos=4.2)
    found = of(tally([attempt(caller_media=media)]))
    assert (found["srd_ok_p95"].value, found["srd_ok_p95"].unit) == (pytest.approx(10, 0.01), "ms")
    assert (found["acd"].value, found["acd"].unit) == (pytest.approx(4.998), "s")
    assert (found["loss"].value, found["loss"].unit) == (10.0, "%")
    assert found["mos_p5"].value == pytest.approx(4.2, 0.01)
    assert found["attempts"].value == 1


def test_what_was_not_measured_is_left_out_but_for_the_first_figures() -> None:
    found = of(tally([]))
    assert found["as_intended"].value is None
    assert found["attempts"].value == 0
    assert not any(key.startswith(("srd", "mos", "loss")) for key in found)


def test_which_way_is_better() -> None:
    found = of(tally([attempt()]))
    assert [found[key].better for key in ("seer", "srd_ok_p95", "acd")] == ["more", "less", ""]
