"""The fault matrix: its list and its marks fit together, and the page shows what was measured."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from faultmatrix import Measured, marked_rows, problems, read_rows, render

PAGE = Path(__file__).parents[1] / "docs" / "faults.md"


def test_every_row_has_its_test() -> None:
    assert problems(read_rows(), [row for row, _ in marked_rows()]) == []


def test_the_page_is_that_of_a_good_run() -> None:
    """Figures are those of a box; rows, promises, links and lost calls are the same on each."""

    def kept(text: str) -> list[list[str]]:
        cells = [line.split("|") for line in text.splitlines() if line.startswith("| [")]
        return [[fault, holds, lost.strip()] for _, fault, holds, _, _, lost, _ in cells]

    files = {row: os.path.relpath(file, PAGE.parent) for row, file in marked_rows()}
    rows = read_rows()
    written = kept(PAGE.read_text())
    expected = kept(render(rows, files, dict.fromkeys(rows, Measured(lost=0))))
    assert [row[:2] for row in written] == [row[:2] for row in expected], "tox -e faults"
    assert {lost for _, _, lost in written} <= {"0", "n/a"}
    assert "**" not in PAGE.read_text()


@pytest.mark.parametrize(
    ("marked", "problem"),
    [
        (["Fire"], ""),
        ([], "Fire: no test"),
        (["Fire", "Fire"], "Fire: 2 tests"),
        (["Fire", "Flood"], "Flood: marked, and not in the list"),
    ],
)
def test_problems(marked: list[str], problem: str) -> None:
    assert problems({"Fire": "It is put out"}, marked) == ([problem] if problem else [])


def test_the_page() -> None:
    rows = {"Fire": "It is put out", "Flood": "It ebbs", "Frost": "It thaws", "Fog": "It lifts"}
    measured = {"Fire": Measured(0.0042, 1.25, 0), "Flood": Measured(), "Frost": None}
    lines = render(rows, {"Fire": "fire.py"}, measured).splitlines()[-4:]
    assert lines == [
        "| [Fire](fire.py) | It is put out | 4 ms | 1.2 s | 0 |",
        "| [Flood]() | It ebbs | n/a | n/a | n/a |",
        "| [Frost]() | It thaws | **failed** | | |",
        "| [Fog]() | It lifts | **not run** | | |",
    ]


def test_what_a_run_writes(tmp_path: Path) -> None:
    """One that passes, one that fails, in a process of their own."""
    here = Path(__file__).parent
    (tmp_path / "faults").mkdir()
    (tmp_path / "faults" / "matrix.toml").write_text(
        '[[row]]\nfault = "Fire"\nholds = "out"\n[[row]]\nfault = "Flood"\nholds = "ebb"\n'
    )
    source = (here / "faultmatrix.py").read_text()
    (tmp_path / "faultmatrix.py").write_text(source)
    (tmp_path / "conftest.py").write_text(
        "import json, pytest\n"
        "from faultmatrix import pytest_addoption, pytest_configure\n"
        "@pytest.fixture\n"
        "def note(request):\n"
        "    yield\n"
        "    row = request.node.get_closest_marker('fault').args[0]\n"
        "    figures = json.dumps([row, 0.5, None, 0])\n"
        "    request.node.user_properties.append(('fault', figures))\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\nmarkers = fault(row): of it\n")
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.mark.fault('Fire')\ndef test_fire(note): pass\n"
        "@pytest.mark.fault('Flood')\ndef test_flood(note): assert False\n"
    )
    page = tmp_path / "page.md"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--faults={page}"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    fire, flood = page.read_text().splitlines()[-2:]
    assert fire == "| [Fire](test_it.py) | out | 500 ms | n/a | 0 |"
    assert flood == "| [Flood](test_it.py) | ebb | **failed** | | |"
