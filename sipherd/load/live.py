"""What a load run shows of itself while it runs: a view that is redrawn, or a line now and then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..protocol.text import printable
from .axes import clock, number
from .report_text import as_table

__all__ = ["Phase", "PhoneNow", "Snapshot", "line", "view"]

Phase: TypeAlias = Literal["warm-up", "running", "draining", "finished"]

#: Rows of a list: the view has to fit a terminal of 24 lines.
_TOP = 5
_BARS = "▁▂▃▄▅▆▇█"


class PhoneNow(msgspec.Struct, frozen=True, kw_only=True):
    """A phone that does badly."""

    name: str
    calls: int
    missed: int
    deaths: int = 0


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A run at one moment."""

    name: str
    phase: Phase
    elapsed: float
    """Seconds since the start."""
    planned: float | None = None
    """Seconds that calls start for; None: as long as nobody stops it."""
    planned_calls: int | None = None
    """How many calls it will be; None: that is not known."""
    intended_rate: float
    """Calls/s that the profile wants now."""
    started_rate: float
    """Calls/s of the last seconds."""
    missed_rate: float
    """Those of them that did not end as intended, calls/s."""
    recent_rates: Sequence[float] = ()
    """``started_rate`` of the last minute or so, the oldest first."""
    calls: int
    """Attempts so far."""
    ended: int
    as_intended: int
    under_way: int
    """From INVITE to end, now."""
    answered: int
    """Answered and up, now."""
    limit: int | None = None
    """Of concurrent calls."""
    setup: tuple[float | None, float | None, float | None] = (None, None, None)
    """p50, p95 and p99 of the session request delay so far, in seconds."""
    late: tuple[float | None, float | None] = (None, None)
    """p99 of how late calls started, and the latest of all, in seconds."""
    causes: Sequence[tuple[str, int]] = ()
    """Why calls did not end as intended, the most frequent first."""
    worst: Sequence[PhoneNow] = ()
    restarts: int = 0
    faults: int = 0
    warnings: Sequence[str] = ()
    """What makes the run INVALID if it goes on."""

    @property
    def left(self) -> float | None:
        """Seconds until the last call starts; None if nobody knows."""
        return None if self.planned is None else max(0.0, self.planned - self.elapsed)

    @property
    def missed(self) -> int:
        """Calls that are over and did not end as intended."""
        return self.ended - self.as_intended


def line(snapshot: Snapshot) -> str:
    """The run in one line, for a log or a terminal without a cursor."""
    share = _share(snapshot)
    parts = [f"{clock(snapshot.elapsed)} {snapshot.phase}"]
    if snapshot.phase in ("warm-up", "running"):
        wanted = number(snapshot.intended_rate)
        parts.append(f"{number(snapshot.started_rate)} of {wanted} calls/s")
        parts.append(f"{snapshot.under_way:,} at once")
    parts += [
        "1 call" if snapshot.calls == 1 else f"{snapshot.calls:,} calls",
        f"{share} as intended",
    ]
    if snapshot.missed:
        parts.append(f"{snapshot.missed:,} not")
    if snapshot.causes:
        cause, count = snapshot.causes[0]
        parts.append(f"most: {cause} {count:,}")
    if snapshot.setup[1] is not None:
        parts.append(f"setup p95 {_ms(snapshot.setup[1])}")
    if snapshot.restarts:
        parts.append(f"{snapshot.restarts} restarts")
    parts.append(_left(snapshot))
    parts += [f"warning: {warning}" for warning in snapshot.warnings]
    return printable(", ".join(part for part in parts if part))


def view(snapshot: Snapshot, *, ascii_only: bool = False) -> RenderableType:
    """The run as it is redrawn on a terminal, up to 24 lines."""
    parts: list[RenderableType] = [_head(snapshot)]
    whole = snapshot.planned or 0.0
    if whole and snapshot.phase in ("warm-up", "running"):
        parts.append(ProgressBar(total=whole, completed=min(snapshot.elapsed, whole)))
    parts += [Text(""), _numbers(snapshot, ascii_only)]
    parts += [
        Text(f"warning: {printable(warning)}", style="yellow")
        for warning in snapshot.warnings[:_TOP]
    ]
    lists = []
    if snapshot.causes:
        rows = [(cause, f"{count:,}") for cause, count in snapshot.causes[:_TOP]]
        heads = ("Not as intended", "Calls")
        lists.append(as_table(heads, rows, frozenset({1})))
    if snapshot.worst:
        worst = [
            (one.name, f"{one.missed:,} of {one.calls:,}", str(one.deaths))
            for one in snapshot.worst[:_TOP]
        ]
        heads_of_phones = ("Worst phones", "Not as intended", "Deaths")
        lists.append(as_table(heads_of_phones, worst, frozenset({1, 2})))
    if lists:
        parts += [Text(""), Columns(lists, padding=(0, 4))]
    return Group(*parts)


def _head(snapshot: Snapshot) -> Text:
    phase = {"running": "bold green", "draining": "bold yellow"}.get(snapshot.phase, "bold")
    return Text.assemble(
        (printable(snapshot.name), "bold"),
        "  ",
        (snapshot.phase, phase),
        f"  {clock(snapshot.elapsed)}",
        (f"  {_left(snapshot)}", "dim"),
        ("; Ctrl-C ends them now" if snapshot.phase == "draining" else "", "dim"),
    )


def _numbers(snapshot: Snapshot, ascii_only: bool) -> Table:
    found = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    found.add_column(style="dim")
    found.add_column(justify="right")
    found.add_column()
    rates = "" if ascii_only else _spark(snapshot.recent_rates)
    wanted = f"of {number(snapshot.intended_rate)} calls/s intended  {rates}".rstrip()
    if snapshot.phase in ("draining", "finished"):
        wanted = f"calls/s; no new calls  {rates}".rstrip()
    found.add_row("call rate", number(snapshot.started_rate), wanted)
    limit = "" if snapshot.limit is None else f", at most {snapshot.limit:,}"
    found.add_row(
        "calls at once", f"{snapshot.under_way:,}", f"{snapshot.answered:,} answered{limit}"
    )
    total = "" if snapshot.planned_calls is None else f"of {snapshot.planned_calls:,}"
    found.add_row("calls", f"{snapshot.calls:,}", total)
    bad = f"{snapshot.missed:,} not, {number(snapshot.missed_rate)} a second now"
    how = "red" if snapshot.missed else "green"
    found.add_row("as intended", Text(_share(snapshot), style=how), bad if snapshot.missed else "")
    p50, p95, p99 = map(_ms, snapshot.setup)
    found.add_row("setup time", p95, f"p95; p50 {p50}, p99 {p99}")
    found.add_row("late starts", _ms(snapshot.late[0]), f"p99; latest {_ms(snapshot.late[1])}")
    trouble = f"{snapshot.faults} faults injected" if snapshot.faults else ""
    found.add_row("restarts", str(snapshot.restarts), trouble)
    return found


def _left(snapshot: Snapshot) -> str:
    if snapshot.phase == "draining":
        return f"{snapshot.under_way:,} call{'' if snapshot.under_way == 1 else 's'} left"
    if snapshot.phase == "finished":
        return ""
    return "until stopped" if snapshot.left is None else f"{clock(snapshot.left)} left"


def _share(snapshot: Snapshot) -> str:
    if not snapshot.ended:
        return "-"
    return number(100 * snapshot.as_intended / snapshot.ended, "%")


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else number(1000 * seconds, "ms")


def _spark(values: Sequence[float], most: int = 40) -> str:
    """The last values as small bars."""
    values = values[-most:]
    top = max(values, default=0.0)
    if top <= 0:
        return ""
    return "".join(_BARS[round(value / top * (len(_BARS) - 1))] for value in values)
