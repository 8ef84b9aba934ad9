"""Write down what a soak has shown: a run's directory as a page of Markdown.

    sipherd load examples/soak.yaml --run runs/soak
    python benchmarks/soak_page.py runs/soak > docs/soak.md

What is on the page is computed from the run's database: whether phones grew between the end of the
warm-up and the end of the run (Theil and Sen's slope of each process), whether all was gone after
the drain, how this box was doing, and the verdict.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from sipherd.load.records import BoxSample, RunFacts
from sipherd.load.soak import Resource, Slope, slopes
from sipherd.load.store import RunReader

_UNITS: dict[Resource, tuple[str, float]] = {
    "memory": ("private memory, MiB", 1024 * 1024),
    "fds": ("descriptors", 1),
    "threads": ("threads", 1),
}


def page(directory: Path) -> str:
    """The page about the run in this directory."""
    with RunReader(directory) as run:
        facts = run.facts
        warm_up = float(facts.profile.get("warm_up", 0.0))
        found = list(slopes(run.phone_samples(), since=warm_up))
        box = [sample for sample in run.box_samples() if sample.t > warm_up]
        outcomes = [attempt.outcome == attempt.expected for attempt in run.attempts()]
    lines = [
        "# Soak",
        "",
        "What became of the processes of a herd that placed calls for long. Written by",
        "`python benchmarks/soak_page.py RUN > docs/soak.md` from the directory of a run of",
        "`sipherd load examples/soak.yaml --run RUN`.",
        "",
        *_facts(facts, outcomes),
        "",
        "## Growth",
        "",
        f"From the end of the warm-up ({warm_up:g} s) to that of the run; each process by itself.",
        "",
        "| resource | processes | first | last | most it grew | slope an hour | greatest |",
        "|---|---|---|---|---|---|---|",
        *_growth(found),
        "",
        "First and last are medians of a tenth of the samples and of all processes, as slopes are.",
        "",
        "## After the drain",
        "",
        _leftovers(facts),
        "",
        "## This box",
        "",
        *_box(box),
    ]
    return "\n".join(lines) + "\n"


def _facts(facts: RunFacts, as_intended: Sequence[bool]) -> Iterator[str]:
    began = datetime.datetime.fromtimestamp(facts.started_at, datetime.UTC)
    verdict = (facts.verdict or {}).get("kind", "none: it was cut short")
    yield "| | |"
    yield "|---|---|"
    yield f"| verdict | {verdict} |"
    yield f"| begun | {began:%Y-%m-%d %H:%M} UTC |"
    yield f"| lasted | {facts.ended or 0.0:.0f} s |"
    yield f"| calls | {len(as_intended)}, {sum(as_intended)} of them as intended |"
    yield f"| phones | {len(facts.phones)} |"
    for name in ("cpu", "cores", "kernel", "python"):
        if name in facts.environment:
            yield f"| {name} | {facts.environment[name]} |"


def _growth(found: Sequence[Slope]) -> Iterator[str]:
    for resource, (name, scale) in _UNITS.items():
        of = [slope for slope in found if slope.resource == resource]
        if not of:
            continue
        figures = (
            statistics.median(slope.first for slope in of),
            statistics.median(slope.last for slope in of),
            max(slope.last - slope.first for slope in of),
            statistics.median(slope.per_hour for slope in of),
            max(slope.per_hour for slope in of),
        )
        cells = " | ".join(f"{figure / scale:.2f}" for figure in figures)
        yield f"| {name} | {len(of)} | {cells} |"


def _leftovers(facts: RunFacts) -> str:
    left = facts.leftovers
    if left is None:
        return "Nobody has looked what was left."
    return (
        f"{left.calls} calls, {left.dialogs} dialogs, {left.rtp_ports} RTP ports, "
        f"{left.processes} processes."
    )


def _box(samples: Sequence[BoxSample]) -> Iterator[str]:
    if not samples:
        yield "No samples."
        return
    yield "| | median | 99th percentile | worst |"
    yield "|---|---|---|---|"
    lags = {
        "runner's loop late, ms": [1000 * sample.loop_lag for sample in samples],
        "supervisor's loop late, ms": [1000 * sample.supervisor_lag for sample in samples],
        "phones' loops late, ms": [1000 * sample.phone_lag for sample in samples],
        "processors busy, %": [100 * sample.cpu for sample in samples],
        "calls at the same time": [float(sample.calls) for sample in samples],
    }
    for name, values in lags.items():
        ranked = sorted(values)
        p99 = ranked[min(len(ranked) - 1, round(0.99 * len(ranked)))]
        yield f"| {name} | {statistics.median(ranked):.1f} | {p99:.1f} | {ranked[-1]:.1f} |"
    yield ""
    drops = sum(sample.socket_drops for sample in samples)
    yield f"{drops} datagrams were dropped for want of room."


def main() -> None:
    parser = argparse.ArgumentParser(description="Write down what a soak has shown.")
    parser.add_argument("run", type=Path, help="the run's directory")
    print(page(parser.parse_args().run), end="")


if __name__ == "__main__":
    main()
