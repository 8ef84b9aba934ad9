"""Read a herd file: YAML in, a `HerdSpec` out, or every problem with its line and path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml

from . import hang_spec, limits, log_spec, restart_spec, spec
from .errors import HerdFileError
from .hang_spec import HangSpec
from .limits import Limits
from .log_spec import LogSpec
from .nodes import INT, TAG, NodeReader, Place, Read, Wrong, child, compose, kind, quote, read_text
from .restart_spec import Backoff, RestartSpec
from .spec import HerdPorts, HerdSpec, OnIncoming, PhoneSpec, PortRange, RegisterSpec

__all__ = ["load_herd_file", "parse_herd"]

#: More phones than this have no SIP ports to stand on: the range has 65,535, used in steps of 2.
MAX_COUNT = 32767


def load_herd_file(path: str | Path, environ: Mapping[str, str]) -> HerdSpec:
    """The herd that the file at `path` describes.

    `environ` fills in `${VAR}`, and its SIPHERD_SIP_PORTS and SIPHERD_PORT_RETRIES go before what
    the file says.

    Raises:
        HerdFileError: the file can't be read, or something in it is wrong.
    """
    return parse_herd(read_text(path, "a herd file"), str(path), environ)


def parse_herd(text: str, source: str, environ: Mapping[str, str]) -> HerdSpec:
    """The herd that `text` describes; `source` names it in problems. Otherwise `load_herd_file`."""
    root = compose(text, source)
    if root is None:
        raise HerdFileError([f"{source}: empty, expected a mapping with phones"])
    return _Reader(source, environ).herd(root)


class _Reader(NodeReader):
    """Reads the nodes of a herd file."""

    def herd(self, root: yaml.Node) -> HerdSpec:
        """The whole file.

        Raises:
            HerdFileError: with all problems, in the order of the lines.
        """
        entries: list[tuple[Place, PhoneSpec]] = []
        found = self._attempt(Place(root, "$"), lambda place: self._top_level(place, entries))
        self._find_conflicts(entries)
        found = self._overridden(found or {})
        self._refuse_problems()
        return HerdSpec(phones=tuple(phone for _, phone in entries), **found)

    def _top_level(self, place: Place, entries: list[tuple[Place, PhoneSpec]]) -> dict[str, Any]:
        """All but the phones; these go to `entries`, each with the place it comes from."""

        def read_phones(place: Place) -> None:
            if not isinstance(place.node, yaml.SequenceNode):
                raise Wrong(f"expected a list of phones, got {kind(place.node)}")
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
                "load": lambda place: None,  # whoever runs a load reads it: `sipherd.load`
            },
            required=("phones",),
        )
        found.pop("phones", None)
        found.pop("load", None)
        return found

    def _find_conflicts(self, entries: list[tuple[Place, PhoneSpec]]) -> None:
        # An entry with count gets one problem, not one per phone.
        blamed: set[tuple[str, str]] = set()
        for position, field, reason in spec.conflicts([phone for _, phone in entries]):
            entry, _ = entries[position]
            if (entry.path, field) not in blamed:
                blamed.add((entry.path, field))
                # A number taken from the name has no line of its own.
                value = child(entry.node, field) or entry.node
                self._problem(entry.at(field, value), f"{reason}, expected another one")

    def _overridden(self, found: dict[str, Any]) -> dict[str, Any]:
        """`found`, with what the environment says put before what the file says."""
        variable = "SIPHERD_SIP_PORTS"
        if text := self._environ.get(variable):
            try:
                sip = PortRange.parse(text)
            except ValueError as error:
                self._problems.append((0, f"{variable}: {quote(text)}: {error}"))
            else:
                rtp = found.get("ports", HerdPorts()).rtp
                found = found | {"ports": HerdPorts(sip=sip, rtp=rtp)}
        variable = "SIPHERD_PORT_RETRIES"
        if text := self._environ.get(variable):
            if INT.fullmatch(text) and int(text) >= 0:
                found = found | {"port_retries": int(text)}
            else:
                expected = "expected a whole number, 0 or more"
                self._problems.append((0, f"{variable}: {quote(text)}: {expected}"))
        return found

    def _ports(self, place: Place) -> HerdPorts:
        rtp = self._checked(self._range, spec.check_rtp_range)
        return HerdPorts(**self._mapping(place, {"sip": self._range, "rtp": rtp}))

    def _phones(self, entry: Place) -> list[PhoneSpec]:
        """The phones of one entry: one, or as many as its `count`."""
        known = len(self._problems)
        node = child(entry.node, "count")
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

    def _count(self, place: Place) -> int:
        count = self._int(place)
        if not 1 <= count <= MAX_COUNT:
            raise Wrong(f"{count}: expected 1 to {MAX_COUNT}")
        return count

    def _differ(self, entry: Place, first: PhoneSpec, second: PhoneSpec) -> bool:
        """Whether the phones of an entry with `count` get names and numbers of their own."""
        for field, example in (("name", "agent-{n}"), ("number", "{2000 + n}")):
            if getattr(first, field) == getattr(second, field):
                self._problem(
                    entry.at(field, child(entry.node, field) or entry.node),
                    f"the same for every phone of an entry with count, "
                    f'expected {{n}} in it, such as "{example}"',
                )
                return False
        return True

    def _phone(self, place: Place) -> PhoneSpec | None:
        """One phone with the templates filled in.

        After a problem it is a stand-in with name and number, so that conflicts about these are
        found as well; None if the name is wrong or missing.
        """
        known = len(self._problems)

        def named(*fields: str, check: Callable[[str], None]) -> Read[str]:
            """Reads text that later values can refer to as any of `fields`."""

            def read_and_keep(place: Place) -> str:
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

    def _logs(self, place: Place) -> LogSpec | None:
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

    def _restart(self, place: Place) -> RestartSpec | None:
        """A policy alone, or a mapping."""
        policy = self._one_of(*get_args(restart_spec.RestartPolicy))
        if isinstance(place.node, yaml.ScalarNode):
            return RestartSpec(policy=policy(place))  # type: ignore[arg-type]  # one of them
        span = self._checked(self._seconds, restart_spec.check_span)

        def backoff(place: Place) -> Backoff:
            found = self._mapping(place, {"first": span, "cap": span})
            try:
                return Backoff(**found)
            except ValueError as error:
                raise Wrong(str(error)) from None

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

    def _register(self, place: Place) -> RegisterSpec | None:
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

    def _password(self, place: Place) -> str:
        """Text that no problem quotes."""
        if not isinstance(place.node, yaml.ScalarNode) or place.node.tag != TAG + "str":
            raise Wrong(f"expected text, got {kind(place.node)}: put it in quotes")
        text = self._text(place)
        try:
            spec.check_password(text)
        except ValueError as error:
            raise Wrong(str(error)) from None
        return text

    def _codecs(self, place: Place) -> tuple[str, ...]:
        if not isinstance(place.node, yaml.SequenceNode):
            raise Wrong(f"expected a list of codecs, such as [PCMA, PCMU], got {kind(place.node)}")
        codecs = tuple(
            self._text(place.item(index, node)) for index, node in enumerate(place.node.value)
        )
        try:
            spec.check_codecs(codecs)
        except ValueError as error:
            raise Wrong(f"{quote(', '.join(codecs))}: {error}") from None
        return codecs

    def _on_incoming(self, place: Place) -> OnIncoming | None:
        def reject(place: Place) -> int:
            if place.node.tag == TAG + "null":
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
            raise Wrong(str(error)) from None

    def _hang(self, place: Place) -> HangSpec | None:
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
            raise Wrong(str(error)) from None

    def _limits(self, place: Place) -> Limits | None:
        def cpus(place: Place) -> tuple[int, ...]:
            if not isinstance(place.node, yaml.SequenceNode):
                raise Wrong(f"expected a list such as [0, 1], got {kind(place.node)}")
            found = tuple(
                self._int(place.item(index, node)) for index, node in enumerate(place.node.value)
            )
            try:
                limits.check_cpus(found)
            except ValueError as error:
                raise Wrong(f"{list(found)}: {error}") from None
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

    def _range(self, place: Place) -> PortRange:
        scalar = self._scalar(place, "a range of ports")
        try:
            return PortRange.parse(scalar.text)
        except ValueError as error:
            raise Wrong(f"{scalar.shown}: {error}") from None
