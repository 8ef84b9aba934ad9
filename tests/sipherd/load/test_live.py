"""The view of a run while it runs."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest
from rich.console import Console

from sipherd.load.live import PhoneNow, Snapshot, line, view

RUNNING = Snapshot(
    name="nightly",
    phase="running",
    elapsed=754,
    planned=3600,
    planned_calls=72000,
    intended_rate=20,
    started_rate=19.8,
    missed_rate=0.4,
    recent_rates=(20, 0, 10, 20),
    calls=15080,
    ended=14950,
    as_intended=14800,
    under_way=130,
    answered=88,
    limit=500,
    setup=(0.0062, 0.0213, 0.119),
    late=(0.0021, 0.31),
    causes=(("rejected (503)", 100), ("no response", 50)),
    worst=(PhoneNow(name="phone-017", calls=311, missed=40, deaths=2),),
    restarts=5,
    faults=4,
    warnings=("late starts: p99 31 ms",),
)


def shown(snapshot: Snapshot, width: int = 100, **options: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    console.print(view(snapshot, **options))
    return out.getvalue()


def changed(**changes: Any) -> Snapshot:
    return msgspec.structs.replace(RUNNING, **changes)


def test_one_line_says_it_all() -> None:
    assert line(RUNNING) == (
        "12:34 running, 19.8 of 20 calls/s, 130 at once, 15,080 calls, 99.00 % as intended, "
        "150 not, most: rejected (503) 100, setup p95 21.3 ms, 5 restarts, 47:26 left, "
        "warning: late starts: p99 31 ms"
    )


def test_the_view_has_what_a_person_looks_for() -> None:
    told = " ".join(shown(RUNNING).split())
    for wanted in (
        "nightly running 12:34 47:26 left",
        "call rate 19.8 of 20 calls/s intended █▁▅█",
        "calls at once 130 88 answered, at most 500",
        "calls 15,080 of 72,000",
        "as intended 99.00 % 150 not, 0.4 a second now",
        "setup time 21.3 ms p95; p50 6.20 ms, p99 119 ms",
        "late starts 2.10 ms p99; latest 310 ms",
        "restarts 5 4 faults injected",
        "warning: late starts: p99 31 ms",
        "rejected (503) 100",
        "phone-017 40 of 311 2",
    ):
        assert wanted in told


@pytest.mark.parametrize("width", [40, 80, 200])
def test_it_fits_a_terminal(width: int) -> None:
    many = changed(
        causes=[(f"cause {i}", 9) for i in range(50)],
        worst=[PhoneNow(name=f"phone-{i}", calls=1, missed=1) for i in range(50)],
        warnings=[f"warning {i}" for i in range(50)],
    )
    found = shown(many, width).splitlines()
    assert max(map(len, found)) <= width
    assert len(found) <= 24 or width < 80


def test_nothing_has_happened_yet() -> None:
    fresh = Snapshot(
        name="x",
        phase="warm-up",
        elapsed=0.0,
        intended_rate=20,
        started_rate=0,
        missed_rate=0,
        calls=0,
        ended=0,
        as_intended=0,
        under_way=0,
        answered=0,
    )
    assert line(fresh) == (
        "0:00 warm-up, 0 of 20 calls/s, 0 at once, 0 calls, - as intended, until stopped"
    )
    assert "setup time" in shown(fresh)


def test_draining_and_finished() -> None:
    assert "130 calls left" in line(changed(phase="draining"))
    assert "left" not in line(changed(phase="finished"))


def test_it_is_over_time() -> None:
    assert changed(elapsed=4000.0).left == 0


def test_ascii_only_has_no_bars() -> None:
    assert "█" not in shown(RUNNING, ascii_only=True)


def test_text_of_peers_is_neither_markup_nor_control() -> None:
    evil = "[red]x[/red]\x1b[2J\n"
    snapshot = changed(name=evil, causes=((evil, 1),), warnings=(evil,))
    for text in (shown(snapshot), line(snapshot)):
        assert "[red]x[/red]" in text
        assert "\x1b" not in text
    assert "\n" not in line(snapshot)
