"""The fault matrix: what was done to a herd, and what became of it.

`faults/matrix.toml` lists the rows. Every row needs a test, which says so with
``@pytest.mark.fault(row)`` and measures with the fixture `trial`. ``pytest --faults PAGE`` writes
what was measured.
"""

from __future__ import annotations

import ast
import json
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

__all__ = ["Measured", "marked_rows", "problems", "read_rows", "render"]

TESTS = Path(__file__).parent
ROWS = TESTS / "faults" / "matrix.toml"
PROPERTY = "fault"
"""Of a test report, with what was measured, as JSON."""

_HEAD = """\
# Faults

What was done to a running herd, and what became of it. In every row two phones that have nothing to
do with the fault are in a call with each other; the last column counts how many of their calls
were lost, and of those that they tried to place afterwards.

Written by the test run `tox -e faults`, from the rows that `tests/faults/matrix.toml` lists; each
leads to its test. Times are from the moment of the fault, on a box with two cores; where a row was
tried several times, the longest.

- Detected: the event that tells of it.
- READY again: the phone serves again, on its old port.
"""


class Measured(NamedTuple):
    """What became of one fault; times in seconds, None where there is nothing to measure."""

    detected: float | None = None
    ready: float | None = None
    lost: int | None = None


def read_rows(path: Path = ROWS) -> dict[str, str]:
    """What must hold, by the name of the fault, in order."""
    return {row["fault"]: row["holds"] for row in tomllib.loads(path.read_text())["row"]}


def marked_rows(folder: Path = TESTS) -> Iterator[tuple[str, Path]]:
    """The rows that tests below `folder` are marked with, and the files of these tests.

    Raises:
        ValueError: a mark is made of anything but one plain string.
    """
    for file in sorted(folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fault":
                (row,) = [ast.literal_eval(argument) for argument in node.args]
                yield row, file


def problems(rows: Mapping[str, str], marked: Iterable[str]) -> list[str]:
    """What is wrong with the list or the marks, a line each."""
    marked = list(marked)
    found = [f"{row}: no test" for row in rows if row not in marked]
    found += [f"{row}: {marked.count(row)} tests" for row in rows if marked.count(row) > 1]
    return found + [f"{row}: marked, and not in the list" for row in marked if row not in rows]


def render(
    rows: Mapping[str, str], files: Mapping[str, str], measured: Mapping[str, Measured | None]
) -> str:
    """The page. `files` are links to the tests; a row that failed is measured as None."""
    lines = [
        f"| [{row}]({files.get(row, '')}) | {holds} | {_cells(row, measured)}"
        for row, holds in rows.items()
    ]
    return "\n".join(
        [
            _HEAD,
            "| fault | what must hold | detected | READY again | calls lost elsewhere |",
            "|---|---|---:|---:|---:|",
            *lines,
            "",
        ]
    )


def _cells(row: str, measured: Mapping[str, Measured | None]) -> str:
    found = measured.get(row)
    if found is None:
        return f"**{'failed' if row in measured else 'not run'}** | | |"
    lost = "n/a" if found.lost is None else str(found.lost)
    return f"{_time(found.detected)} | {_time(found.ready)} | {lost} |"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "n/a"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


# Hooks of the tests' conftest.


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--faults", metavar="PAGE", type=Path, help="write the fault matrix of this run to PAGE"
    )


def pytest_configure(config: pytest.Config) -> None:
    if page := config.getoption("--faults"):
        config.pluginmanager.register(_Run(page))


class _Run:
    """Collects what was measured, and writes the page at the end."""

    def __init__(self, page: Path) -> None:
        self._page = page
        self._measured: dict[str, Measured | None] = {}
        self._failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.add(report.nodeid)
        properties: dict[str, Any] = dict(report.user_properties)
        if PROPERTY in properties:  # set at the end of the test, whatever became of it
            row, *figures = json.loads(properties[PROPERTY])
            failed = report.nodeid in self._failed
            self._measured[row] = None if failed else Measured(*figures)

    def pytest_sessionfinish(self) -> None:
        files = {row: os.path.relpath(file, self._page.parent) for row, file in marked_rows()}
        self._page.write_text(render(read_rows(), files, self._measured))
