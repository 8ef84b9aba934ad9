"""Read values from YAML nodes, and collect every problem with its line and path.

A file is composed to YAML nodes, which know their lines, and the nodes are read here rather than
by a YAML constructor: so all problems are found in one go, a duplicate key is one of them, and
`number: 0123` keeps its zero.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml

from ._template import expand
from .errors import HerdFileError

__all__ = [
    "NodeReader",
    "Place",
    "Read",
    "Scalar",
    "Wrong",
    "child",
    "compose",
    "kind",
    "line_of",
    "quote",
    "read_text",
]

T = TypeVar("T")

#: What the tags of plain values begin with.
TAG = "tag:yaml.org,2002:"
_KINDS = {
    TAG + "str": "text",
    TAG + "int": "a number",
    TAG + "float": "a number",
    TAG + "bool": "true/false",
    TAG + "null": "nothing",
    TAG + "timestamp": "a date",
}
# Plain decimal only: YAML 1.1 would read 0506 as octal and 10:30 as base 60.
INT = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,8})")
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{0,9})?)(ms|s|m|h)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{0,9})?)(kB|MB|GB)?")
_SIZES = {"kB": 10**3, "MB": 10**6, "GB": 10**9, None: 1}
_BOOLS = yaml.SafeLoader.bool_values  # yes, no, on, off, true, false


def read_text(path: str | Path, expected: str) -> str:
    """The text of a file; `expected` says in problems what it should be.

    Raises:
        HerdFileError: the file can't be read, or is no text.
    """
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise HerdFileError([f"{path}: {error.strerror}, expected {expected}"]) from None
    except UnicodeDecodeError as error:
        raise HerdFileError([f"{path}: not UTF-8 at byte {error.start}, expected text"]) from None
    except ValueError:  # a null character in the path
        raise HerdFileError([f"{str(path)!r}: not a path"]) from None


def compose(text: str, source: str) -> yaml.Node | None:
    """The root node of a YAML text, None if it is empty; `source` names it in problems.

    Raises:
        HerdFileError: it is no YAML.
    """
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        problem = " ".join(part for part in (error.context, error.problem) if part)
        if mark and text[mark.index : mark.index + 1] == "{":
            problem += "; a value with ${VAR} or {n} inside [] or {} must be quoted"
        raise HerdFileError([f"{where}: YAML: {' '.join(problem.split())}"]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        char = text[error.position : error.position + 1]
        raise HerdFileError([f"{source}:{line}: YAML: character {char!a} not allowed"]) from None
    except RecursionError:
        raise HerdFileError([f"{source}: YAML: nested too deeply"]) from None
    except (ValueError, OverflowError) as error:
        # PyYAML lets int() and chr() fail on absurd directives and escapes, without a line.
        raise HerdFileError([f"{source}: YAML: {' '.join(str(error).split())}"]) from None
    return node


class Place(NamedTuple):
    """A node and its path, `$.phones[3].port`."""

    node: yaml.Node
    path: str

    def at(self, key: str, node: yaml.Node) -> Place:
        return Place(node, f"{self.path}.{key}")

    def item(self, index: int, node: yaml.Node) -> Place:
        return Place(node, f"{self.path}[{index}]")


class Scalar(NamedTuple):
    """A scalar with its template filled in.

    `shown` is what a problem may quote: as written, if a variable is in it, which may be a secret.
    """

    kind: str
    text: str
    shown: str
    filled: bool


class Wrong(Exception):
    """A value is wrong; the message says what was expected."""


Read = Callable[[Place], T]


class NodeReader:
    """Reads nodes and collects problems.

    A method that reads one value raises `Wrong`; `_attempt` turns that into a problem at the
    value's line, and reading goes on with the next value.
    """

    def __init__(self, source: str, environ: Mapping[str, str]) -> None:
        self._source = source
        self._environ = environ
        self._problems: list[tuple[int, str]] = []  # line (0: none) and text
        # What templates may refer to in what is being read; None: there are none.
        self._values: dict[str, int | str] | None = None

    def _refuse_problems(self) -> None:
        """Raises HerdFileError with all problems, in the order of the lines, if there are any."""
        if self._problems:
            self._problems.sort(key=lambda problem: problem[0])
            raise HerdFileError(text for _, text in self._problems)

    def _attempt(self, place: Place, read: Read[T]) -> T | None:
        """What `read` returns; None after a problem."""
        try:
            return read(place)
        except Wrong as wrong:
            self._problem(place, str(wrong))
            return None

    # Values. Each of these returns the value of a node or raises Wrong.

    def _mapping(
        self, place: Place, fields: Mapping[str, Read[Any]], required: Collection[str] = ()
    ) -> dict[str, Any]:
        """The values of a mapping, read by `fields`, in the order of `fields`."""
        if not isinstance(place.node, yaml.MappingNode):
            raise Wrong(f"expected a mapping with {', '.join(fields)}, got {kind(place.node)}")
        children: dict[str, yaml.Node] = {}
        for key_node, node in place.node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None or key not in fields:
                self._problem(Place(key_node, place.path), unknown_key(key, fields))
            elif key in children:
                self._problem(
                    Place(key_node, f"{place.path}.{key}"),
                    f"given twice, first in line {line_of(children[key])}, expected once",
                )
            else:
                children[key] = node
        for key in required:
            if key not in children:
                self._problem(place, f"{key} is missing, expected it here")
        found: dict[str, Any] = {}
        for key, read in fields.items():
            if key not in children:
                continue
            child = place.at(key, children[key])
            known = len(self._problems)
            value = self._attempt(child, read)
            if len(self._problems) == known:
                found[key] = value
        return found

    def _scalar(self, place: Place, expected: str) -> Scalar:
        node = place.node
        if not isinstance(node, yaml.ScalarNode):
            is_mapping = isinstance(node, yaml.MappingNode)
            hint = "; a template must be quoted" if is_mapping else ""
            raise Wrong(f"expected {expected}, got {kind(node)}{hint}")
        if node.tag not in _KINDS:
            raise Wrong(f"expected {expected}, got the tag {node.tag!r}")
        written = quote(node.value)
        if node.tag != TAG + "str":
            return Scalar(_KINDS[node.tag], node.value, written, False)
        try:
            text, has_template, has_variable = expand(node.value, self._environ, self._values)
        except ValueError as error:
            raise Wrong(f"{written}: {error}") from None
        shown = written if has_variable else quote(text)
        return Scalar("text", text, shown, has_template or has_variable)

    def _text(self, place: Place) -> str:
        scalar = self._scalar(place, "text")
        if scalar.kind == "text" or place.node.tag == TAG + "int":
            return scalar.text  # 0123 as it is written, not the number that YAML reads in it
        raise Wrong(
            f"expected text, got {scalar.kind} ({scalar.shown}): put it in quotes if it is meant so"
        )

    def _int(self, place: Place) -> int:
        scalar = self._scalar(place, "a whole number")
        number = place.node.tag == TAG + "int" or scalar.filled
        if not number or not INT.fullmatch(scalar.text):
            raise Wrong(f"{scalar.shown}: expected a whole number, decimal and without quotes")
        return int(scalar.text)

    def _number(self, place: Place) -> float:
        scalar = self._scalar(place, "a number")
        match = re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", scalar.text)
        if match is None or not (scalar.kind == "a number" or scalar.filled):
            raise Wrong(f"{scalar.shown}: expected a number, decimal and without quotes")
        return float(scalar.text)

    def _bool(self, place: Place) -> bool:
        scalar = self._scalar(place, "true or false")
        if scalar.kind == "true/false" or scalar.filled:
            value = _BOOLS.get(scalar.text.lower())
            if value is not None:
                return value
        raise Wrong(f"{scalar.shown}: expected true or false, without quotes")

    def _seconds(self, place: Place) -> float:
        scalar = self._scalar(place, "a duration")
        match = _DURATION.fullmatch(scalar.text)
        if match is None:
            raise Wrong(
                f"{scalar.shown}: expected a duration, seconds or such as 0.5s, 200ms, 2m, 1h"
            )
        return float(match[1]) * _UNITS[match[2]]

    def _size(self, place: Place) -> int:
        scalar = self._scalar(place, "a size")
        match = _SIZE.fullmatch(scalar.text)
        if match is None:
            raise Wrong(f"{scalar.shown}: expected a size, bytes or such as 500kB, 10MB, 1GB")
        return round(float(match[1]) * _SIZES[match[2]])

    def _one_of(self, *words: str) -> Read[str]:
        expected = " or ".join(words)

        def read(place: Place) -> str:
            scalar = self._scalar(place, expected)
            if scalar.text not in words:
                raise Wrong(f"{scalar.shown}: expected {expected}")
            return scalar.text

        return read

    def _checked(self, read: Read[T], check: Callable[[T], None]) -> Read[T]:
        """`read`, whose value must also pass `check`."""

        def read_and_check(place: Place) -> T:
            value = read(place)
            try:
                check(value)
            except ValueError as error:
                shown = self._scalar(place, "a value").shown
                raise Wrong(f"{shown}: {error}") from None
            return value

        return read_and_check

    def _problem(self, place: Place, what: str) -> None:
        line = line_of(place.node)
        self._problems.append((line, f"{self._source}:{line}: {place.path}: {what}"))


def child(node: yaml.Node, key: str) -> yaml.Node | None:
    """The value of a mapping's first key `key`."""
    if isinstance(node, yaml.MappingNode):
        for key_node, value in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.value == key:
                found: yaml.Node = value
                return found
    return None


def line_of(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return _KINDS.get(node.tag, "an unknown tag")


def quote(text: str) -> str:
    """`text` in one line of bounded length."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")


def unknown_key(key: str | None, fields: Collection[str]) -> str:
    if key is None:
        return f"a key that is no text, expected one of {', '.join(fields)}"
    near = difflib.get_close_matches(key, fields, n=3)
    expected = f"did you mean {' or '.join(near)}?" if near else f"expected {', '.join(fields)}"
    return f"unknown key {quote(key)}, {expected}"
