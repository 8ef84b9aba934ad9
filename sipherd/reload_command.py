"""`sipherd reload`: be what the herd file says by now."""

from __future__ import annotations

from pathlib import Path

import click

from . import render
from .client import STOP_TIMEOUT, start_timeout
from .options import common
from .protocol.messages import ListPhones, PhoneList, Reload, ReloadReport
from .protocol.text import printable
from .session import Session

__all__ = ["reload"]

#: Names in a line of text; --json has all.
_SHOWN = 10


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@common()
def reload(dry_run: bool, herd: str, runtime_dir: Path | None, as_json: bool) -> int:
    """Read the herd file again: the herd becomes what it says.

    Phones that it has in addition start, those that it has no more hang up and go, changed ones
    start again with what it says of them; all others, and their calls, are left alone, as are
    phones that `sipherd add` added. If something in it is wrong or can't be had, nothing changes.

    \b
    Examples:
      sipherd reload --dry-run
      sipherd reload
    """
    with Session(herd, runtime_dir) as session:
        phones = len(session.request(ListPhones(), PhoneList).phones)
        # The file may have as many again.
        timeout = start_timeout(2 * phones + 1000) + 2 * STOP_TIMEOUT
        report = session.request(Reload(dry_run=dry_run), ReloadReport, timeout, "the reload")
    if as_json:
        render.say(report)
    else:
        for line in as_text(report, dry_run=dry_run):
            render.say(line)
        for problem in report.problems:
            click.echo(f"sipherd: {printable(problem)}", err=True)
    return 4 if report.problems else 0


def as_text(report: ReloadReport, *, dry_run: bool = False) -> list[str]:
    """What changed, a line for each kind of change; the first line counts."""
    kinds = {"added": report.added, "removed": report.removed, "changed": report.changed}
    counts = [f"{len(names)} {kind}" for kind, names in kinds.items()]
    head = "would be: " if dry_run else ""
    lines = [f"{head}{', '.join(counts)}, {len(report.unchanged)} unchanged"]
    for kind, names in kinds.items():
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            lines.append(f"  {kind}: {', '.join(names[:_SHOWN])}{more}")
    if report.herd:
        lines.append(f"  herd: {', '.join(report.herd)}")
    return lines
