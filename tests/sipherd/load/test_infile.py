"""CSV files as SIPp writes and reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sipherd.load.infile import load_infile, parse_infile
from sipherd.protocol.errors import HerdFileError


def problems(text: str) -> list[str]:
    with pytest.raises(HerdFileError) as raised:
        parse_infile(text, "users.csv")
    return raised.value.problems


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_lines_with_their_fields(ending: str) -> None:
    written = ["SEQUENTIAL", "# who calls; whom", "alice;1002;[authentication]", "bob; 1001 ;", ""]
    table = parse_infile(ending.join(written), "users.csv")
    assert table.order == "SEQUENTIAL"
    assert table.rows == ((3, ("alice", "1002", "[authentication]")), (4, ("bob", "1001", "")))
    assert table.column(1) == ["1002", "1001"]


@pytest.mark.parametrize("order", ["SEQUENTIAL", "RANDOM", "USER"])
def test_the_first_line_says_the_order(order: str) -> None:
    assert parse_infile(f"{order}\n1002\n", "f").order == order
    assert parse_infile(f"# {order} order\n1002\n", "f").order == order  # as SIPp looks for it


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "users.csv:1: '': expected SEQUENTIAL, RANDOM or USER"),
        ("alice;1002\n", "users.csv:1: 'alice;1002': expected SEQUENTIAL, RANDOM or USER"),
        (
            "SEQUENTIAL,PRINTF=100\nuser%04d\n",
            "users.csv:1: 'SEQUENTIAL,PRINTF=100': PRINTF is not supported, "
            "expected SEQUENTIAL, RANDOM or USER alone and a line for each value",
        ),
        (
            "RANDOM\n# nobody\n",
            "users.csv:2: no lines, expected fields with ; between them below RANDOM",
        ),
        (
            "USER\na\n\nb\n",
            "users.csv:3: an empty line, where SIPp stops, and more below; expected none",
        ),
    ],
)
def test_what_is_wrong_is_said_in_a_line(text: str, problem: str) -> None:
    assert problems(text) == [problem]


def test_a_missing_field_is_said_with_its_line() -> None:
    table = parse_infile("USER\na;b\nc\nd;\n", "users.csv")
    with pytest.raises(HerdFileError) as raised:
        table.column(1)
    assert raised.value.problems == [
        "users.csv:3: 1 field with ; between them, expected a field 1 (the first is 0)",
        "users.csv:4: field 1 is empty, expected a value",
    ]


def test_of_many_problems_the_first_are_shown() -> None:
    table = parse_infile("USER\n" + "a\n" * 1000, "users.csv")
    with pytest.raises(HerdFileError) as raised:
        table.column(5)
    assert len(raised.value.problems) == 11
    assert raised.value.problems[-1] == "... and 990 more lines like these"


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    with pytest.raises(HerdFileError, match=r"users\.csv: No such file or directory, expected a C"):
        load_infile(path)
    path.write_bytes(b"\xef\xbb\xbfRANDOM\n1001\n")
    assert load_infile(path).column(0) == ["1001"]
