"""The page about a soak, from a run's directory."""

from __future__ import annotations

import runpy
from pathlib import Path

from loadrun import attempt
from sipherd.load.records import BoxSample, Leftovers, PhoneSample, RunFacts
from sipherd.load.store import RunWriter

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "soak_page.py"
FACTS = RunFacts(
    name="soak",
    started_at=1795521600.0,
    profile={"warm_up": 100.0},
    phones=("alice",),
    state="finished",
    ended=3630.0,
    environment={"cores": 2},
    leftovers=Leftovers(dialogs=1),
    verdict={"kind": "FAIL"},
)
MIB = 1024 * 1024


def test_a_run_as_a_page(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "soak", FACTS) as run:
        for number in (1, 2):
            run.add(attempt(number), 0.0)
        for t in range(0, 3700, 100):
            # It grows in the warm-up alone.
            memory = (5 if t < 100 else 7) * MIB
            run.add(
                PhoneSample(
                    t=float(t), phone="alice", incarnation=1, memory=memory, fds=20, threads=3
                ),
                0.0,
            )
            run.add(BoxSample(t=t + 1.0, phone_lag=0.002, cpu=0.25, calls=40), 0.0)
    page: str = runpy.run_path(str(PROGRAM))["page"](tmp_path / "soak")
    assert "| verdict | FAIL |\n" in page
    assert "| begun | 2026-11-24 12:00 UTC |\n" in page
    assert "| calls | 2, 2 of them as intended |\n" in page
    assert "| private memory, MiB | 1 | 7.00 | 7.00 | 0.00 | 0.00 | 0.00 |\n" in page
    assert "| threads | 1 | 3.00 | 3.00 | 0.00 | 0.00 | 0.00 |\n" in page
    assert "0 calls, 1 dialogs, 0 RTP ports, 0 processes." in page
    assert "| phones' loops late, ms | 2.0 | 2.0 | 2.0 |\n" in page


def test_one_that_was_cut_short_has_a_page_too(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "soak", RunFacts(name="soak", started_at=0.0, profile={})):
        pass
    page: str = runpy.run_path(str(PROGRAM))["page"](tmp_path / "soak")
    assert "none: it was cut short" in page
    assert "Nobody has looked" in page
