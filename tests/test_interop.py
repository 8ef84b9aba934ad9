"""The interop table: its list and its marks fit together, and the page shows what is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from interop import COLUMNS, Cell, marked_cells, problems, read_cells, render

PAGE = Path(__file__).parents[1] / "docs" / "interop.md"


def test_every_cell_has_a_test_or_a_reason() -> None:
    assert problems(read_cells(), [cell for cell, _ in marked_cells()]) == []


def test_the_page_is_that_of_a_good_run() -> None:
    """CI runs the tests, so a cell that says yes is one that passed there."""
    files: dict[Cell, list[str]] = {}
    for cell, file in marked_cells():
        files.setdefault(cell, []).append(os.path.relpath(file, PAGE.parent))
    written = PAGE.read_text().splitlines()
    # Which versions they were depends on the box.
    kept = [line for line in written if not line.startswith("Run with ")]
    expected = render(read_cells(), files).splitlines()
    assert [line for line in kept if line] == [line for line in expected if line], (
        "write it again: tox -e interop"
    )


def cells(**reasons: str) -> dict[str, dict[str, str]]:
    return {"Hold": dict.fromkeys(COLUMNS, "no") | reasons}


@pytest.mark.parametrize(
    ("listed", "marked", "problem"),
    [
        (cells(SIPp=""), [Cell("Hold", "SIPp")], ""),
        (cells(SIPp="", baresip=""), [Cell("Hold", "SIPp")], "neither a test nor a reason"),
        (cells(SIPp="no"), [Cell("Hold", "SIPp")], "both a test and a reason"),
        (cells(SIPp="", Asterisk="no"), [Cell("Hold", "SIPp")], "Asterisk is no column"),
        (cells(SIPp=""), [Cell("Hold", "SIPp"), Cell("Park", "SIPp")], "not in the list"),
        (cells(SIPp=""), [Cell("Hold", "SIPp"), Cell("Hold", "Asterisk")], "not in the list"),
        (
            cells(**{"phone to phone": ""}),
            [Cell("Hold", "phone to phone")],
            "nobody but sipherd itself",
        ),
    ],
)
def test_problems(listed: dict[str, dict[str, str]], marked: list[Cell], problem: str) -> None:
    found = problems(listed, marked)
    assert len(found) == bool(problem)
    assert all(problem in line for line in found)


def test_a_page() -> None:
    listed = {"Hold": {"SIPp": "too old"}, "Park": {"baresip": "too old", "Kamailio": "no phone"}}
    hold = Cell("Hold", "baresip")
    page = render(listed, {hold: ["a.py", "a.py", "b.py"]}, {hold: "failed"}, ["SIPp 3.6"])
    assert "Run with SIPp 3.6." in page
    assert "| Hold | n/a (1) | [**failed**](a.py) [**failed**](b.py) | **not run** |" in page
    assert "| Park | **not run** | n/a (1) | n/a (2) |" in page
    assert "1. too old\n2. no phone" in page


MARKED = """
import pytest

@pytest.mark.interop("Call out", "SIPp")
@pytest.mark.parametrize("good", [True, False])
def test_two(good):
    assert good

@pytest.mark.interop("Call in", "SIPp")
def test_one():
    pass

@pytest.mark.interop("Call out", "baresip")
def test_none():
    pytest.skip("is not there")
"""


@pytest.mark.parametrize("arguments", [[], ["-n", "2"]], ids=["one process", "two"])
def test_a_run_writes_the_page(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from interop import pytest_addoption, pytest_configure\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = interop\n")
    (tmp_path / "test_them.py").write_text(MARKED)
    page = tmp_path / "page.md"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", f"--interop={page}", "-p", "no:cacheprovider", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    (row,) = (line for line in page.read_text().splitlines() if line.startswith("| Call out |"))
    assert "**failed**" in row.split(" | ")[1]
    assert "**skipped**" in row.split(" | ")[2]
    (row,) = (line for line in page.read_text().splitlines() if line.startswith("| Call in |"))
    assert "[yes]" in row.split(" | ")[1]
