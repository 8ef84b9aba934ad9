"""Read the CSV files that SIPp injects with `-inf`.

The first line says how lines are taken, each further one holds fields with `;` between them.  A
line that begins with `#` is a comment.  SIPp (its infile.cpp) stops at an empty line
without a word about what is below; here that is a problem.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from ..protocol.errors import HerdFileError
from ..protocol.nodes import quote, read_text

__all__ = ["Order", "Row", "Table", "load_infile", "parse_infile"]

Order: TypeAlias = Literal["SEQUENTIAL", "RANDOM", "USER"]


class Row(NamedTuple):
    """A line with its fields."""

    line: int
    """In the file, from 1."""
    fields: tuple[str, ...]


class Table(NamedTuple):
    """The contents of a file."""

    source: str
    order: Order
    """Lines one after the other and then from the first again, by lot, or one for each caller."""
    rows: tuple[Row, ...]

    def column(self, index: int) -> list[str]:
        """A field of all lines, the first is 0.

        Raises:
            HerdFileError: lines have no such field, or it is empty.
        """
        problems = []
        for row in self.rows:
            if len(row.fields) <= index:
                fields = f"{len(row.fields)} field{'' if len(row.fields) == 1 else 's'}"
                problems.append(
                    f"{self.source}:{row.line}: {fields} with ; between them, "
                    f"expected a field {index} (the first is 0)"
                )
            elif not row.fields[index]:
                problems.append(
                    f"{self.source}:{row.line}: field {index} is empty, expected a value"
                )
        if problems:
            raise HerdFileError(_few(problems))
        return [row.fields[index] for row in self.rows]


def load_infile(path: str | Path) -> Table:
    """What the file at `path` holds.

    Raises:
        HerdFileError: it can't be read, or is no such file.
    """
    return parse_infile(read_text(path, "a CSV file as for SIPp's -inf"), str(path))


def parse_infile(text: str, source: str) -> Table:
    """What `text` holds; `source` names it in problems.  Otherwise `load_infile`."""
    head, *lines = text.split("\n")
    order = _order(head.removesuffix("\r"), source)
    rows: list[Row] = []
    empty = 0
    for number, written in enumerate(lines, start=2):
        line = written.removesuffix("\r")
        if not line.strip():
            empty = empty or number
        elif empty:
            raise HerdFileError(
                [
                    f"{source}:{empty}: an empty line, where SIPp stops, and more below; "
                    "expected none"
                ]
            )
        elif not line.startswith("#"):
            rows.append(Row(number, tuple(field.strip() for field in line.split(";"))))
    if not rows:
        raise HerdFileError(
            [f"{source}:2: no lines, expected fields with ; between them below {order}"]
        )
    return Table(source, order, tuple(rows))


def _order(head: str, source: str) -> Order:
    # SIPp looks for the words anywhere in the line, in this sequence.
    if "PRINTF" in head:
        raise HerdFileError(
            [
                f"{source}:1: {quote(head)}: PRINTF is not supported, "
                "expected SEQUENTIAL, RANDOM or USER alone and a line for each value"
            ]
        )
    words: tuple[Order, ...] = ("RANDOM", "SEQUENTIAL", "USER")
    for word in words:
        if word in head:
            return word
    raise HerdFileError([f"{source}:1: {quote(head)}: expected SEQUENTIAL, RANDOM or USER"])


def _few(problems: list[str], most: int = 10) -> list[str]:
    """The first of them, and how many more there are: a file may have a million lines."""
    more = len(problems) - most
    return problems if more <= 0 else [*problems[:most], f"... and {more} more lines like these"]
