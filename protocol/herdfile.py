"""Read a herd file: YAML in, a `HerdSpec` out, or every problem with its line and path.

The file is composed to YAML nodes, which know their lines, and the nodes are read here rather than
by a YAML constructor: so all problems are found in one go, a duplicate key is one of them, and
`number: 0123` keeps its zero.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

import yaml

from . import hang_spec, limits, log_spec, restart_spec, spec
from ._template import expand
from .errors import HerdFileError
from .hang_spec import HangSpec
from .limits import Limits
from .log_spec import LogSpec
from .restart_spec import Backoff, RestartSpec
from .spec import HerdPorts, HerdSpec, OnIncoming, PhoneSpec, PortRange, RegisterSpec

__all__ = ["load_herd_file", "parse_herd"]

T = TypeVar("T")

#: More phones than this have no SIP ports to stand on: the range has 65,535, used in steps of 2.
MAX_COUNT = 32767

_TAG = "tag:yaml.org,2002:"
_KINDS = {
    _TAG + "str": "text",
    _TAG + "int": "a number",
    _TAG + "float": "a number",
    _TAG + "bool": "true/false",
    _TAG + "null": "nothing",
    _TAG + "timestamp": "a date",
}
# Plain decimal only: YAML 1.1 would read 0506 as octal and 10:30 as base 60.
_INT = re.compile(r"[+-]?(?:0|[1-9][0-9]{0,8})")
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{0,9})?)(ms|s|m|h)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{0,9})?)(kB|MB|GB)?")
_SIZES = {"kB": 10**3, "MB": 10**6, "GB": 10**9, None: 1}
_BOOLS = yaml.SafeLoader.bool_values  # yes, no, on, off, true, false


def load_herd_file(path: str | Path, environ: Mapping[str, str]) -> HerdSpec:
    """The herd that the file at `path` describes.

    `environ` fills in `${VAR}`, and its SIPHERD_SIP_PORTS and SIPHERD_PORT_RETRIES go before what
    the file says.

    Raises:
        HerdFileError: the file can't be read, or something in it is wrong.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise HerdFileError([f"{path}: {error.strerror}, expected a herd file"]) from None
    except UnicodeDecodeError as error:
        raise HerdFileError([f"{path}: not UTF-8 at byte {error.start}, expected text"]) from None
    except ValueError:  # a null character in the path
        raise HerdFileError([f"{str(path)!r}: not a path"]) from None
    return parse_herd(text, str(path), environ)


def parse_herd(text: str, source: str, environ: Mapping[str, str]) -> HerdSpec:
    """The herd that `text` describes; `source` names it in problems. Otherwise `load_herd_file`."""
    root = _compose(text, source)
    if root is None:
        raise HerdFileError([f"{source}: empty, expected a mapping with phones"])
    return _Reader(source, environ).herd(root)


def _compose(text: str, source: str) -> yaml.Node | None:
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


class _Place(NamedTuple):
    """A node and its path, `$.phones[3].port`."""

    node: yaml.Node
    path: str

    def at(self, key: str, node: yaml.Node) -> _Place:
        return _Place(node, f"{self.path}.{key}")

    def item(self, index: int, node: yaml.Node) -> _Place:
        return _Place(node, f"{self.path}[{index}]")


class _Scalar(NamedTuple):
    """A scalar with its template filled in.

    `shown` is what a problem may quote: as written, if a variable is in it, which may be a secret.
    """

    kind: str
    text: str
    shown: str
    filled: bool


class _Wrong(Exception):
    """A value is wrong; the message says what was expected."""


_Read = Callable[[_Place], T]


class _Reader:
    """Reads nodes and collects problems.

    A method that reads one value raises `_Wrong`; `_attempt` turns that into a problem at the
    value's line, and reading goes on with the next value.
    """

    def __init__(self, source: str, environ: Mapping[str, str]) -> None:
        self._source = source
        self._environ = environ
        self._problems: list[tuple[int, str]] = []  # line (0: none) and text
        # What templates may refer to in the phone that is being read; None outside of phones.
        self._values: dict[str, int | str] | None = None

    def herd(self, root: yaml.Node) -> HerdSpec:
        """The whole file.

        Raises:
            HerdFileError: with all problems, in the order of the lines.
        """
        entries: list[tuple[_Place, PhoneSpec]] = []
        found = self._attempt(_Place(root, "$"), lambda place: self._top_level(place, entries))
        self._find_conflicts(entries)
        found = self._overridden(found or {})
        if self._problems:
            self._problems.sort(key=lambda problem: problem[0])
            raise HerdFileError(text for _, text in self._problems)
        return HerdSpec(phones=tuple(phone for _, phone in entries), **found)

    def _top_level(self, place: _Place, entries: list[tuple[_Place, PhoneSpec]]) -> dict[str, Any]:
        """All but the phones; these go to `entries`, each with the place it comes from."""

        def read_phones(place: _Place) -> None:
            if not isinstance(place.node, yaml.SequenceNode):
                raise _Wrong(f"expected a list of phones, got {_kind(place.node)}")
            for index, node in enumerate(place.node.value):
                entry = place.item(index, node)
                entries.extend((entry, phone) for phone in self._attempt(entry, self._phones) or [])

        found = self._mapping(
            place,
            {
                "herd": self._checked(self._text, spec.check_name),
                "ports": self._ports,
                "port_retries": self._checked(self._int, spec.check_not_negative),
                "strict_ports": self._bool,
                "register_rate": self._checked(self._number, spec.check_rate),
                "listen": self._checked(self._text, spec.check_listen),
                "faults": self._one_of("refused", "allowed"),
                "spawn_rate": self._checked(self._number, spec.check_rate),
                "failed_share": self._checked(self._number, spec.check_share),
                "logs": self._logs,
                "phones": read_phones,
            },
            required=("phones",),
        )
        found.pop("phones", None)
        return found

    def _find_conflicts(self, entries: list[tuple[_Place, PhoneSpec]]) -> None:
        # An entry with count gets one problem, not one per phone.
        blamed: set[tuple[str, str]] = set()
        for position, field, reason in spec.conflicts([phone for _, phone in entries]):
            entry, _ = entries[position]
            if (entry.path, field) not in blamed:
                blamed.add((entry.path, field))
                # A number taken from the name has no line of its own.
                value = _child(entry.node, field) or entry.node
                self._problem(entry.at(field, value), f"{reason}, expected another one")

    def _overridden(self, found: dict[str, Any]) -> dict[str, Any]:
        """`found`, with what the environment says put before what the file says."""
        variable = "SIPHERD_SIP_PORTS"
        if text := self._environ.get(variable):
            try:
                sip = PortRange.parse(text)
            except ValueError as error:
                self._problems.append((0, f"{variable}: {_quote(text)}: {error}"))
            else:
                rtp = found.get("ports", HerdPorts()).rtp
                found = found | {"ports": HerdPorts(sip=sip, rtp=rtp)}
        variable = "SIPHERD_PORT_RETRIES"
        if text := self._environ.get(variable):
            if _INT.fullmatch(text) and int(text) >= 0:
                found = found | {"port_retries": int(text)}
            else:
                expected = "expected a whole number, 0 or more"
                self._problems.append((0, f"{variable}: {_quote(text)}: {expected}"))
        return found

    def _ports(self, place: _Place) -> HerdPorts:
        rtp = self._checked(self._range, spec.check_rtp_range)
        return HerdPorts(**self._mapping(place, {"sip": self._range, "rtp": rtp}))

    def _phones(self, entry: _Place) -> list[PhoneSpec]:
        """The phones of one entry: one, or as many as its `count`."""
        known = len(self._problems)
        node = _child(entry.node, "count")
        # A wrong count is a problem, and the first phone is still read to find the others.
        count = self._attempt(entry.at("count", node), self._count) or 1 if node else 1
        phones: list[PhoneSpec] = []
        try:
            for n in range(1, count + 1):
                self._values = {"n": n} if node else {}
                if phone := self._phone(entry):
                    phones.append(phone)
                if len(self._problems) > known:
                    break  # the others would have the same problems
                if n == 2 and not self._differ(entry, *phones):
                    return phones[:1]
        finally:
            self._values = None
        return phones

    def _count(self, place: _Place) -> int:
        count = self._int(place)
        if not 1 <= count <= MAX_COUNT:
            raise _Wrong(f"{count}: expected 1 to {MAX_COUNT}")
        return count

    def _differ(self, entry: _Place, first: PhoneSpec, second: PhoneSpec) -> bool:
        """Whether the phones of an entry with `count` get names and numbers of their own."""
        for field, example in (("name", "agent-{n}"), ("number", "{2000 + n}")):
            if getattr(first, field) == getattr(second, field):
                self._problem(
                    entry.at(field, _child(entry.node, field) or entry.node),
                    f"the same for every phone of an entry with count, "
                    f'expected {{n}} in it, such as "{example}"',
                )
                return False
        return True

    def _phone(self, place: _Place) -> PhoneSpec | None:
        """One phone with the templates filled in.

        After a problem it is a stand-in with name and number, so that conflicts about these are
        found as well; None if the name is wrong or missing.
        """
        known = len(self._problems)

        def named(*fields: str, check: Callable[[str], None]) -> _Read[str]:
            """Reads text that later values can refer to as any of `fields`."""

            def read_and_keep(place: _Place) -> str:
                value = self._checked(self._text, check)(place)
                if self._values is not None:
                    self._values.update(dict.fromkeys(fields, value))
                return value

            return read_and_keep

        found = self._mapping(
            place,
            # name and number come first: the others may refer to them. A number that is left out
            # is the name.
            {
                "name": named("name", "number", check=spec.check_name),
                "number": named("number", check=spec.check_number),
                "count": lambda place: None,  # `_count` has read it
                "display_name": self._checked(self._text, spec.check_display_name),
                "address": self._checked(self._text, spec.check_address),
                "advertise": self._checked(self._text, spec.check_advertise),
                "port": self._checked(self._int, spec.check_port),
                "register": self._register,
                "proxy": self._checked(self._text, spec.check_server),
                "on_incoming": self._on_incoming,
                "transport": self._one_of("udp", "tcp"),
                "media": self._one_of("audio", "none"),
                "codecs": self._codecs,
                "dtmf": self._one_of("rfc4733", "info"),
                "session_expires": self._checked(self._seconds, spec.check_session_expires),
                "max_calls": self._checked(self._int, spec.check_max_calls),
                "ring_timeout": self._checked(self._seconds, spec.check_ring_timeout),
                "queue": self._checked(self._int, spec.check_not_negative),
                "match_user": self._bool,
                "trace": self._bool,
                "restart": self._restart,
                "on_parked": self._one_of("close", "hold"),
                "after_crash": self._one_of("clean_up", "leave"),
                "hang": self._hang,
                "limits": self._limits,
                "start_timeout": self._checked(self._seconds, spec.check_start_timeout),
            },
            required=("name",),
        )
        found.pop("count", None)
        if len(self._problems) == known:
            try:
                return PhoneSpec(**found)
            except ValueError as error:  # values that are right in themselves and wrong together
                self._problem(place, str(error))
        if "name" not in found:
            return None
        return PhoneSpec(name=found["name"], number=found.get("number", ""))

    def _logs(self, place: _Place) -> LogSpec | None:
        """A directory alone, or a mapping."""
        directory = self._checked(self._text, log_spec.check_dir)
        if isinstance(place.node, yaml.ScalarNode):
            return LogSpec(dir=directory(place))
        known = len(self._problems)
        found = self._mapping(
            place,
            {
                "dir": directory,
                "max_size": self._checked(self._size, log_spec.check_max_size),
                "keep": self._checked(self._int, log_spec.check_keep),
            },
            required=("dir",),
        )
        return LogSpec(**found) if len(self._problems) == known else None

    def _restart(self, place: _Place) -> RestartSpec | None:
        """A policy alone, or a mapping."""
        policy = self._one_of(*get_args(restart_spec.RestartPolicy))
        if isinstance(place.node, yaml.ScalarNode):
            return RestartSpec(policy=policy(place))  # type: ignore[arg-type]  # one of them
        span = self._checked(self._seconds, restart_spec.check_span)

        def backoff(place: _Place) -> Backoff:
            found = self._mapping(place, {"first": span, "cap": span})
            try:
                return Backoff(**found)
            except ValueError as error:
                raise _Wrong(str(error)) from None

        known = len(self._problems)
        found = self._mapping(
            place,
            {
                "policy": policy,
                "max": self._checked(self._int, restart_spec.check_max),
                "within": span,
                "backoff": backoff,
                "reset_after": self._checked(self._seconds, restart_spec.check_reset_after),
                "exhausted": self._one_of("park", "slow"),
            },
        )
        return RestartSpec(**found) if len(self._problems) == known else None

    def _register(self, place: _Place) -> RegisterSpec | None:
        user = self._checked(self._text, spec.check_user)
        known = len(self._problems)
        found = self._mapping(
            place,
            {
                "server": self._checked(self._text, spec.check_server),
                "domain": self._checked(self._text, spec.check_address),
                "username": user,
                "auth_username": user,
                "password": self._password,
                "expires": self._checked(self._seconds, spec.check_expires),
            },
            required=("server",),
        )
        return RegisterSpec(**found) if len(self._problems) == known else None

    def _password(self, place: _Place) -> str:
        """Text that no problem quotes."""
        if not isinstance(place.node, yaml.ScalarNode) or place.node.tag != _TAG + "str":
            raise _Wrong(f"expected text, got {_kind(place.node)}: put it in quotes")
        text = self._text(place)
        try:
            spec.check_password(text)
        except ValueError as error:
            raise _Wrong(str(error)) from None
        return text

    def _codecs(self, place: _Place) -> tuple[str, ...]:
        if not isinstance(place.node, yaml.SequenceNode):
            raise _Wrong(
                f"expected a list of codecs, such as [PCMA, PCMU], got {_kind(place.node)}"
            )
        codecs = tuple(
            self._text(place.item(index, node)) for index, node in enumerate(place.node.value)
        )
        try:
            spec.check_codecs(codecs)
        except ValueError as error:
            raise _Wrong(f"{_quote(', '.join(codecs))}: {error}") from None
        return codecs

    def _on_incoming(self, place: _Place) -> OnIncoming | None:
        def reject(place: _Place) -> int:
            if place.node.tag == _TAG + "null":
                return 486  # `reject:` without a code is Busy Here
            return self._checked(self._int, spec.check_reject)(place)

        known = len(self._problems)
        found = self._mapping(
            place,
            {
                "answer_after": self._seconds,
                "reject": reject,
                "ring": self._bool,
                "hang_up_after": self._seconds,
            },
        )
        if len(self._problems) > known:
            return None
        try:
            return OnIncoming(**found)
        except ValueError as error:
            raise _Wrong(str(error)) from None

    def _hang(self, place: _Place) -> HangSpec | None:
        span = self._checked(self._seconds, hang_spec.check_span)
        known = len(self._problems)
        found = self._mapping(
            place,
            {
                "late": span,
                "suspect": span,
                "hung": self._checked(self._seconds, hang_spec.check_hung),
            },
        )
        if len(self._problems) > known:
            return None
        try:
            return HangSpec(**found)
        except ValueError as error:
            raise _Wrong(str(error)) from None

    def _limits(self, place: _Place) -> Limits | None:
        def cpus(place: _Place) -> tuple[int, ...]:
            if not isinstance(place.node, yaml.SequenceNode):
                raise _Wrong(f"expected a list such as [0, 1], got {_kind(place.node)}")
            found = tuple(
                self._int(place.item(index, node)) for index, node in enumerate(place.node.value)
            )
            try:
                limits.check_cpus(found)
            except ValueError as error:
                raise _Wrong(f"{list(found)}: {error}") from None
            return found

        known = len(self._problems)
        found = self._mapping(
            place,
            {
                "memory": self._checked(self._size, limits.check_memory),
                "descriptors": self._checked(self._int, limits.check_descriptors),
                "cpus": cpus,
            },
        )
        return Limits(**found) if len(self._problems) == known else None

    def _attempt(self, place: _Place, read: _Read[T]) -> T | None:
        """What `read` returns; None after a problem."""
        try:
            return read(place)
        except _Wrong as wrong:
            self._problem(place, str(wrong))
            return None

    # Values. Each of these returns the value of a node or raises _Wrong.

    def _mapping(
        self, place: _Place, fields: Mapping[str, _Read[Any]], required: Collection[str] = ()
    ) -> dict[str, Any]:
        """The values of a mapping, read by `fields`, in the order of `fields`."""
        if not isinstance(place.node, yaml.MappingNode):
            raise _Wrong(f"expected a mapping with {', '.join(fields)}, got {_kind(place.node)}")
        children: dict[str, yaml.Node] = {}
        for key_node, node in place.node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None or key not in fields:
                self._problem(_Place(key_node, place.path), _unknown_key(key, fields))
            elif key in children:
                self._problem(
                    _Place(key_node, f"{place.path}.{key}"),
                    f"given twice, first in line {_line(children[key])}, expected once",
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

    def _scalar(self, place: _Place, expected: str) -> _Scalar:
        node = place.node
        if not isinstance(node, yaml.ScalarNode):
            is_mapping = isinstance(node, yaml.MappingNode)
            hint = "; a template must be quoted" if is_mapping else ""
            raise _Wrong(f"expected {expected}, got {_kind(node)}{hint}")
        if node.tag not in _KINDS:
            raise _Wrong(f"expected {expected}, got the tag {node.tag!r}")
        written = _quote(node.value)
        if node.tag != _TAG + "str":
            return _Scalar(_KINDS[node.tag], node.value, written, False)
        try:
            text, has_template, has_variable = expand(node.value, self._environ, self._values)
        except ValueError as error:
            raise _Wrong(f"{written}: {error}") from None
        shown = written if has_variable else _quote(text)
        return _Scalar("text", text, shown, has_template or has_variable)

    def _text(self, place: _Place) -> str:
        scalar = self._scalar(place, "text")
        if scalar.kind == "text" or place.node.tag == _TAG + "int":
            return scalar.text  # 0123 as it is written, not the number that YAML reads in it
        raise _Wrong(
            f"expected text, got {scalar.kind} ({scalar.shown}): put it in quotes if it is meant so"
        )

    def _int(self, place: _Place) -> int:
        scalar = self._scalar(place, "a whole number")
        number = place.node.tag == _TAG + "int" or scalar.filled
        if not number or not _INT.fullmatch(scalar.text):
            raise _Wrong(f"{scalar.shown}: expected a whole number, decimal and without quotes")
        return int(scalar.text)

    def _number(self, place: _Place) -> float:
        scalar = self._scalar(place, "a number")
        match = re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", scalar.text)
        if match is None or not (scalar.kind == "a number" or scalar.filled):
            raise _Wrong(f"{scalar.shown}: expected a number, decimal and without quotes")
        return float(scalar.text)

    def _bool(self, place: _Place) -> bool:
        scalar = self._scalar(place, "true or false")
        if scalar.kind == "true/false" or scalar.filled:
            value = _BOOLS.get(scalar.text.lower())
            if value is not None:
                return value
        raise _Wrong(f"{scalar.shown}: expected true or false, without quotes")

    def _seconds(self, place: _Place) -> float:
        scalar = self._scalar(place, "a duration")
        match = _DURATION.fullmatch(scalar.text)
        if match is None:
            raise _Wrong(
                f"{scalar.shown}: expected a duration, seconds or such as 0.5s, 200ms, 2m, 1h"
            )
        return float(match[1]) * _UNITS[match[2]]

    def _size(self, place: _Place) -> int:
        scalar = self._scalar(place, "a size")
        match = _SIZE.fullmatch(scalar.text)
        if match is None:
            raise _Wrong(f"{scalar.shown}: expected a size, bytes or such as 500kB, 10MB, 1GB")
        return round(float(match[1]) * _SIZES[match[2]])

    def _range(self, place: _Place) -> PortRange:
        scalar = self._scalar(place, "a range of ports")
        try:
            return PortRange.parse(scalar.text)
        except ValueError as error:
            raise _Wrong(f"{scalar.shown}: {error}") from None

    def _one_of(self, *words: str) -> _Read[str]:
        expected = " or ".join(words)

        def read(place: _Place) -> str:
            scalar = self._scalar(place, expected)
            if scalar.text not in words:
                raise _Wrong(f"{scalar.shown}: expected {expected}")
            return scalar.text

        return read

    def _checked(self, read: _Read[T], check: Callable[[T], None]) -> _Read[T]:
        """`read`, whose value must also pass `check`."""

        def read_and_check(place: _Place) -> T:
            value = read(place)
            try:
                check(value)
            except ValueError as error:
                shown = self._scalar(place, "a value").shown
                raise _Wrong(f"{shown}: {error}") from None
            return value

        return read_and_check

    def _problem(self, place: _Place, what: str) -> None:
        line = _line(place.node)
        self._problems.append((line, f"{self._source}:{line}: {place.path}: {what}"))


def _child(node: yaml.Node, key: str) -> yaml.Node | None:
    """The value of a mapping's first key `key`."""
    if isinstance(node, yaml.MappingNode):
        for key_node, value in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.value == key:
                found: yaml.Node = value
                return found
    return None


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return _KINDS.get(node.tag, "an unknown tag")


def _quote(text: str) -> str:
    """`text` in one line of bounded length."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")


def _unknown_key(key: str | None, fields: Collection[str]) -> str:
    if key is None:
        return f"a key that is no text, expected one of {', '.join(fields)}"
    near = difflib.get_close_matches(key, fields, n=3)
    expected = f"did you mean {' or '.join(near)}?" if near else f"expected {', '.join(fields)}"
    return f"unknown key {_quote(key)}, {expected}"
