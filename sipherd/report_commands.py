"""The commands about load runs that were written down: report, ladder, compare."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console, RenderableType

from . import ladder as drawn
from . import render
from .options import JSON
from .protocol.text import printable

# What reads and draws runs is imported by the commands: it takes a while, and most have no use
# for it.
if TYPE_CHECKING:
    from .load.records import CallAttempt
    from .load.run_report import Reading

__all__ = ["compare", "ladder", "report"]

_NOT_THERE = 1
_FILE = click.Path(dir_okay=False, path_type=Path)
_DIRECTORY = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.argument("run", required=False)
@click.option("--html", type=_FILE, metavar="FILE", help="Write it as one page for a browser.")
@click.option("--junit", type=_FILE, metavar="FILE", help="Write the verdict as JUnit XML.")
@click.option("--csv", type=_DIRECTORY, metavar="DIR", help="Write all records as CSV files.")
@click.option("--parquet", type=_DIRECTORY, metavar="DIR", help="Write them as Parquet files.")
@JSON
def report(
    run: str | None,
    html: Path | None,
    junit: Path | None,
    csv: Path | None,
    parquet: Path | None,
    as_json: bool,
) -> int:
    """Show what a load run came to.

    RUN is its directory, or the name of one below runs/; without it the run that was started last.
    An interrupted run has a report, too, and so has one that still goes on. The page of --html
    needs nothing but itself and opens offline. Exits 0 whatever the verdict was.

    \b
    Examples:
      sipherd report
      sipherd report runs/2026-11-24T12-00-00 --html report.html
    """
    from .load.export import export
    from .load.report_html import page
    from .load.report_json import as_plain
    from .load.report_text import lines, summary
    from .load.rundir import find
    from .load.words import state_word

    directory = find(run)
    reading = _read(directory)
    if html is not None:
        zone = datetime.fromtimestamp(reading.report.facts.started_at).astimezone().tzinfo
        assert zone is not None
        text = page(reading.report, zone=zone, generator=f"sipherd {_version()}")
        _write(html, text.encode(errors="backslashreplace"))
    if junit is not None:
        _write_junit(junit, directory, reading)
    files = [path for path in (html, junit) if path is not None]
    for format, into in (("csv", csv), ("parquet", parquet)):
        if into is not None:
            with _open(directory) as reader:
                files += export(reader, into, format)  # type: ignore[arg-type]
    if as_json:
        render.say({"run": str(directory), **as_plain(reading)})
        return 0
    _show(summary(reading.report), lines(reading.report))
    render.say("")
    # Once more: the first line is out of sight by now.
    word = reading.report.judgement.word or state_word(reading.report)
    render.say(f"run {printable(str(directory))}: {word}")
    for path in files:
        render.say(f"written: {printable(str(path))}")
    return 0


@click.command()
@click.argument("run")
@click.argument("call")
@click.option("--svg", type=_FILE, metavar="FILE", help="Draw it into an SVG file instead.")
@JSON
def ladder(run: str, call: str, svg: Path | None, as_json: bool) -> int:
    """Draw the messages of one call of a load run.

    RUN is as for `sipherd report`; CALL is the number of the call in it, or its SIP Call-ID.

    \b
    Examples:
      sipherd ladder runs/2026-11-24T12-00-00 17
      sipherd ladder runs/2026-11-24T12-00-00 17 --svg call.svg
    """
    from .load import ladder_svg
    from .load.rundir import find

    directory = find(run)
    with _open(directory) as reader:
        attempt = reader.attempt(int(call)) if call.isascii() and call.isdigit() else None
        attempt = attempt or reader.attempt(call)
    if attempt is None:
        return _complain(f"{directory} has no call {call}; `sipherd report` shows some")
    sent = ladder_svg.from_record(attempt)
    left, right = ladder_svg.parties(attempt)
    about = _about(attempt)
    if svg is not None:
        if not sent:
            return _complain(f"nothing to draw: {about}")
        drawing = ladder_svg.svg(left, right, sent, title=about)
        _write(svg, drawing.encode(errors="backslashreplace"))
    if as_json:
        render.say(attempt)
    elif svg is not None:
        render.say(f"written: {printable(str(svg))}")
    else:
        render.say(printable(about))
        if sent:
            render.say("")
            _draw(left, right, sent)
    return 0


@click.command()
@click.argument("before")
@click.argument("after")
@JSON
def compare(before: str, after: str, as_json: bool) -> int:
    """Show what changed from one load run to another.

    BEFORE and AFTER are as RUN of `sipherd report`. Says which figures are better or worse, which
    gates came out differently, and what was not the same in both.

    \b
    Example:
      sipherd compare runs/monday runs/tuesday
    """
    from .load import compare as comparing
    from .load.rundir import find

    readings = [_read(find(run)) for run in (before, after)]
    found = comparing.compare(*(reading.report for reading in readings))
    if as_json:
        render.say(found)
    else:
        _show(comparing.summary(found), comparing.lines(found))
    return 0


def _open(directory: Path) -> Any:
    from .load.store import RunReader

    return RunReader(directory)


def _read(directory: Path) -> Reading:
    from .load.run_report import read
    from .load.rundir import runner_of

    # First: a run that ends meanwhile is then read once more than needed, and not called
    # interrupted for its run.json of a moment ago.
    goes_on = runner_of(directory) is not None
    with _open(directory) as reader:
        return read(reader, goes_on=goes_on and reader.facts.state in ("running", "draining"))


def _write_junit(path: Path, directory: Path, reading: Reading) -> None:
    import msgspec

    from .load.junit import junit_xml
    from .load.store import StoreError

    if reading.verdict is None:
        raise StoreError(f"{directory}: its run still goes on, there is no verdict yet for --junit")
    facts = msgspec.structs.replace(reading.report.facts, ended=reading.report.seconds)
    _write(path, junit_xml(facts, reading.verdict))


def _write(path: Path, content: bytes) -> None:
    """Write a file as a whole: who watches it never sees a half."""
    from .load.store import StoreError

    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        try:
            fresh.write_bytes(content)
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path}: can't be written: {error.strerror}") from error


def _about(attempt: CallAttempt) -> str:
    from .load.axes import clock

    callee = attempt.callee or attempt.to_uri or "nobody"
    at = clock(attempt.intended if attempt.started is None else attempt.started)
    said = f"call {attempt.number} at {at}: {attempt.caller} to {callee}"
    came = attempt.outcome.replace("_", " ")
    wanted = attempt.expected.replace("_", " ")
    told = came if came == wanted else f"{came}, {wanted} intended"
    if attempt.started is None:
        return f"{said}; never sent ({attempt.cause.replace('_', ' ') or told})"
    cause = f" ({attempt.cause.replace('_', ' ')})" if attempt.cause else ""
    return f"{said}; {told}{cause}; Call-ID {attempt.sip_call_id or 'unknown'}"


def _draw(left: drawn.Party, right: drawn.Party, sent: list[drawn.Message]) -> None:
    console = Console(highlight=False)
    plain = not render.can_show("│─▶◀")
    for line in drawn.draw(left, right, sent, console.width, ascii_only=plain):
        console.print(line, no_wrap=True, overflow="ignore", crop=False)


def _show(summary: RenderableType, lines: list[str]) -> None:
    """Tables for a terminal, plain lines for what is none."""
    if sys.stdout.isatty():
        Console(highlight=False).print(summary)
    else:
        for line in lines:
            render.say(line)


def _complain(text: str) -> int:
    click.echo(f"sipherd: {printable(text)}", err=True)
    return _NOT_THERE


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sipherd")
    except PackageNotFoundError:  # run from its source tree
        return ""
