"""The interop table: which features were seen to work with which SIP programs.

`peers/interop.toml` lists the cells: a table for each feature, in it the reason for each column
that does not apply. Every other cell needs a test, and a test says which cells it fills with
``@pytest.mark.interop(feature, column)``. ``pytest --interop PAGE`` writes what became of them.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

__all__ = ["COLUMNS", "Cell", "marked_cells", "problems", "read_cells", "render"]

#: Who was at the other end; all but the last are witnesses of another make.
COLUMNS = ("SIPp", "baresip", "Kamailio", "phone to phone")

TESTS = Path(__file__).parent
CELLS = TESTS / "peers" / "interop.toml"

_VERSIONS = {
    "SIPp": (["sipp", "-v"], r"SIPp v([0-9.]*[0-9])"),
    "baresip": (["baresip", "-v"], r"baresip v([0-9.]+)"),
    "Kamailio": (["/usr/sbin/kamailio", "-v"], r"kamailio ([0-9.]+)"),
}


_HEAD = """\
# Interoperability

What sipherd's phones were seen to do with SIP programs of another make, and with each other. SIPp
follows scenario files that check the headers, baresip is an ordinary user agent, Kamailio is
registrar and proxy, with digest authentication and Record-Route.

Written by the test run `tox -e interop`, which fills the cells that `tests/peers/interop.toml`
lists; each leads to its tests.
"""


class Cell(NamedTuple):
    """A place in the table."""

    feature: str
    column: str


def read_cells(path: Path = CELLS) -> dict[str, dict[str, str]]:
    """The features in their order, each with its reasons by column."""
    found: dict[str, dict[str, str]] = tomllib.loads(path.read_text())
    return found


def marked_cells(folder: Path = TESTS) -> Iterator[tuple[Cell, Path]]:
    """The cells that tests below `folder` are marked with, and the files of these tests.

    Read from the text, so that it needs neither a run nor the programs.

    Raises:
        ValueError: a mark is made of anything but two plain strings.
    """
    for file in sorted(folder.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.interop":
                arguments = [ast.literal_eval(argument) for argument in node.args]
                yield Cell(*arguments), file


def problems(cells: Mapping[str, Mapping[str, str]], marked: Iterable[Cell]) -> list[str]:
    """What is wrong with the list or the marks, a line each."""
    marked = set(marked)
    found = [
        f"{feature}: {column} is no column"
        for feature, reasons in cells.items()
        for column in reasons
        if column not in COLUMNS
    ]
    found += [
        f"{cell.feature}, {cell.column}: marked, and not in the list"
        for cell in sorted(marked)
        if cell.feature not in cells or cell.column not in COLUMNS
    ]
    for feature, reasons in cells.items():
        tested = {column for column in COLUMNS if Cell(feature, column) in marked}
        for column in COLUMNS:
            if (column in tested) == bool(reasons.get(column)):
                which = "both a test and" if column in tested else "neither a test nor"
                found.append(f"{feature}, {column}: {which} a reason")
        if not tested & set(COLUMNS[:-1]):
            found.append(f"{feature}: nobody but sipherd itself is a witness")
    return found


def render(
    cells: Mapping[str, Mapping[str, str]],
    files: Mapping[Cell, Iterable[str]],
    outcomes: Mapping[Cell, str] | None = None,
    versions: Iterable[str] = (),
) -> str:
    """The page. `files` are links to the tests of a cell; without `outcomes` all have passed."""
    reasons: list[str] = []

    def shown(cell: Cell) -> str:
        if reason := cells[cell.feature].get(cell.column):
            if reason not in reasons:
                reasons.append(reason)
            return f"n/a ({reasons.index(reason) + 1})"
        outcome = "passed" if outcomes is None else outcomes.get(cell, "not run")
        text = "yes" if outcome == "passed" else f"**{outcome}**"
        links = sorted(set(files.get(cell, ())))
        return " ".join(f"[{text}]({link})" for link in links) or text

    rows = [
        f"| {feature} | " + " | ".join(shown(Cell(feature, column)) for column in COLUMNS) + " |"
        for feature in cells
    ]
    return "\n".join(
        [
            _HEAD,
            *(["Run with " + ", ".join(versions) + ".", ""] if versions else []),
            "| | " + " | ".join(COLUMNS) + " |",
            "|---" * (len(COLUMNS) + 1) + "|",
            *rows,
            "",
            "Not applicable, because",
            "",
            *(f"{number}. {reason}" for number, reason in enumerate(reasons, 1)),
            "",
        ]
    )


# Hooks of the tests' conftest.


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--interop", metavar="PAGE", type=Path, help="write the interop table of this run to PAGE"
    )


def pytest_configure(config: pytest.Config) -> None:
    if page := config.getoption("--interop"):
        config.pluginmanager.register(_Marks())
        if not hasattr(config, "workerinput"):  # pytest-xdist: a process that only runs tests
            config.pluginmanager.register(_Run(page))


class _Marks:
    """Writes a test's cells into its reports: tests may run in other processes than the page."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            for mark in item.iter_markers("interop"):
                item.user_properties.append(("interop", mark.args))


class _Run:
    """Collects what becomes of marked tests, and writes the page at the end."""

    def __init__(self, page: Path) -> None:
        self._page = page
        self._outcomes: dict[Cell, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name != "interop" or not isinstance(value, Iterable):
                continue
            cell = Cell(*value)
            if report.outcome != "passed":
                # One test that fails is not made good by another one.
                if self._outcomes.get(cell) != "failed":
                    self._outcomes[cell] = report.outcome
            elif report.when == "call":
                self._outcomes.setdefault(cell, "passed")

    def pytest_sessionfinish(self) -> None:
        files: dict[Cell, list[str]] = {}
        for cell, file in marked_cells():
            files.setdefault(cell, []).append(os.path.relpath(file, self._page.parent))
        self._page.write_text(render(read_cells(), files, self._outcomes, _versions()))


def _versions() -> Iterator[str]:
    for name, (command, pattern) in _VERSIONS.items():
        try:
            said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        except FileNotFoundError:
            continue
        if match := re.search(pattern, said):
            yield f"{name} {match[1]}"
