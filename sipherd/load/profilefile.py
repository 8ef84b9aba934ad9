"""Read a load profile: the `load:` of a herd file, or of a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml

from ..protocol.errors import HerdFileError
from ..protocol.nodes import NodeReader, Place, Read, Wrong, child, compose, kind, read_text
from . import profile as model
from .profile import Arrival, Entry, HoldTime, Infile, LoadLimits, LoadProfile, Stage

__all__ = ["load_profile", "parse_profile"]

T = TypeVar("T")


def load_profile(path: str | Path, environ: Mapping[str, str]) -> LoadProfile:
    """The profile that the file at `path` describes; `environ` fills in `${VAR}`.

    Files that it names are looked for from its own directory.

    Raises:
        HerdFileError: the file can't be read, has no `load`, or something in it is wrong; what is
            wrong with the phones beside it is not looked at.
    """
    return parse_profile(read_text(path, "a load profile"), str(path), environ)


def parse_profile(text: str, source: str, environ: Mapping[str, str]) -> LoadProfile:
    """The profile in `text`; `source` names it in problems.  Otherwise `load_profile`."""
    root = compose(text, source)
    if root is None:
        raise HerdFileError([f"{source}: empty, expected a mapping with load"])
    return _Reader(source, environ).profile(root)


class _Reader(NodeReader):
    """Reads the nodes of a profile."""

    def profile(self, root: yaml.Node) -> LoadProfile:
        """The whole file.

        Raises:
            HerdFileError: with all problems, in the order of the lines.
        """
        found: list[LoadProfile] = []

        def read(place: Place) -> None:
            if (profile := self._load(place)) is not None:
                found.append(profile)

        top = Place(root, "$")
        load = child(root, "load")
        if load is not None and child(root, "phones") is not None:
            self._attempt(top.at("load", load), read)  # the rest of a herd file has its own reader
        else:
            self._attempt(top, lambda top: self._mapping(top, {"load": read}, required=("load",)))
        self._refuse_problems()
        return found[0]

    def _load(self, place: Place) -> LoadProfile | None:
        party = self._checked(self._text, model.check_party)
        return self._struct(
            place,
            LoadProfile,
            {
                "callers": self._one_or_more(party),
                "callees": self._one_or_more(party),
                "infile": self._infile,
                "pairing": self._one_of(*get_args(model.Pairing)),
                "arrival": self._arrival,
                "limits": self._load_limits,
                "hold": self._hold,
                "mix": self._list_of(self._entry, "entries such as {kind: busy, weight: 10}"),
                "media": self._media,
                "duration": self._checked(self._seconds, model.check_span),
                "warm_up": self._checked(self._seconds, model.check_delay),
                "drain": self._checked(self._seconds, model.check_delay),
                "seed": self._checked(self._int, model.check_seed),
                "gates": self._one_or_more(self._checked(self._text, model.check_gate)),
            },
            required=("arrival",),
        )

    def _arrival(self, place: Place) -> Arrival | None:
        """A rate alone, or a mapping."""
        rate = self._checked(self._number, model.check_rate)
        if isinstance(place.node, yaml.ScalarNode):
            return Arrival(rate=rate(place))
        stages = self._list_of(self._stage, "stages such as {rate: 20, for: 60s}")
        return self._struct(place, Arrival, {"rate": rate, "stages": stages, "poisson": self._bool})

    def _stage(self, place: Place) -> Stage | None:
        rate = self._checked(self._number, model.check_stage_rate)
        known = len(self._problems)
        found = self._mapping(
            place,
            {
                "rate": rate,
                "ramp_to": rate,
                "for": self._checked(self._seconds, model.check_span),
            },
            required=("for",),
        )
        if len(self._problems) > known:
            return None
        if ("rate" in found) == ("ramp_to" in found):
            raise Wrong("expected exactly one of rate and ramp_to")
        ramp = "ramp_to" in found
        return Stage(rate=found["ramp_to" if ramp else "rate"], seconds=found["for"], ramp=ramp)

    def _load_limits(self, place: Place) -> LoadLimits | None:
        count = self._checked(self._int, model.check_count)
        return self._struct(place, LoadLimits, {"concurrent": count, "total": count})

    def _hold(self, place: Place) -> HoldTime | None:
        """A time alone, or a mapping with the name of a distribution."""
        seconds = self._checked(self._seconds, model.check_delay)
        if isinstance(place.node, yaml.ScalarNode):
            return HoldTime(mean=seconds(place))

        def uniform(place: Place) -> HoldTime:
            bounds = self._list_of(seconds, "two times such as [1s, 5s]")(place)
            if bounds is None or len(bounds) != 2:
                raise Wrong("expected two times such as [1s, 5s]")
            return _made(lambda: HoldTime.between(*bounds))

        def normal(place: Place) -> HoldTime | None:
            known = len(self._problems)
            fields = {"mean": seconds, "deviation": seconds}
            found = self._mapping(place, fields, required=fields)
            if len(self._problems) > known:
                return None
            return _made(
                lambda: HoldTime(kind="normal", mean=found["mean"], spread=found["deviation"])
            )

        known = len(self._problems)
        found = self._mapping(
            place,
            {
                "fixed": lambda place: HoldTime(mean=seconds(place)),
                "uniform": uniform,
                "normal": normal,
                "exponential": lambda place: _made(
                    lambda: HoldTime(kind="exponential", mean=seconds(place))
                ),
            },
        )
        if len(self._problems) > known:
            return None
        if len(found) != 1:
            raise Wrong("expected exactly one of fixed, uniform, normal and exponential")
        hold: HoldTime | None
        (hold,) = found.values()
        return hold

    def _entry(self, place: Place) -> Entry | None:
        """The name of a kind alone, or a mapping."""
        kinds = self._one_of(*get_args(model.Kind))
        if isinstance(place.node, yaml.ScalarNode):
            return _made(lambda: Entry(kind=kinds(place)))  # type: ignore[arg-type]  # one of them
        delay = self._checked(self._seconds, model.check_delay)
        return self._struct(
            place,
            Entry,
            {
                "kind": kinds,
                "name": self._checked(self._text, model.check_name),
                "weight": self._checked(self._number, model.check_weight),
                "after": delay,
                "on_hold": delay,
                "digits": self._checked(self._text, model.check_digits),
                "to": self._checked(self._text, model.check_party),
            },
            required=("kind",),
        )

    def _infile(self, place: Place) -> Infile | None:
        """A path alone, or a mapping."""
        if isinstance(place.node, yaml.ScalarNode):
            return _made(lambda: Infile(file=self._path(place)))
        column = self._checked(self._int, model.check_column)
        known = len(self._problems)
        found = self._mapping(
            place, {"file": self._path, "callee": column, "caller": column}, required=("file",)
        )
        if len(self._problems) > known:
            return None
        # Who says what callers are and not what callees are means that the file has none.
        return _made(lambda: Infile(**({"callee": None} if "caller" in found else {}) | found))

    def _path(self, place: Place) -> str:
        written = self._text(place)
        if not written:
            raise Wrong("'': expected the path of a file")
        return str(Path(self._source).parent / written)

    def _media(self, place: Place) -> str:
        media = self._checked(self._text, model.check_media)(place)
        if media in ("none", "tone") or media.startswith("tone:"):
            return media
        return self._path(place)

    # Values that consist of others.

    def _struct(
        self,
        place: Place,
        make: Callable[..., T],
        fields: Mapping[str, Read[Any]],
        required: tuple[str, ...] = (),
    ) -> T | None:
        """What `make` makes of the values of a mapping; None after a problem in one of them."""
        known = len(self._problems)
        found = self._mapping(place, fields, required)
        if len(self._problems) > known:
            return None
        return _made(lambda: make(**found))

    def _list_of(self, read: Read[T], expected: str) -> Read[tuple[T, ...]]:
        def read_list(place: Place) -> tuple[T, ...]:
            if not isinstance(place.node, yaml.SequenceNode):
                raise Wrong(f"expected a list of {expected}, got {kind(place.node)}")
            if not place.node.value:
                raise Wrong(f"an empty list, expected {expected}")
            values = []
            for index, node in enumerate(place.node.value):
                value = self._attempt(place.item(index, node), read)
                if value is not None:
                    values.append(value)
            return tuple(values)

        return read_list

    def _one_or_more(self, read: Read[str]) -> Read[tuple[str, ...]]:
        """One text alone, or a list of them."""
        read_list = self._list_of(read, "one or more")

        def read_any(place: Place) -> tuple[str, ...]:
            if isinstance(place.node, yaml.ScalarNode):
                return (read(place),)
            return read_list(place)

        return read_any


def _made(make: Callable[[], T]) -> T:
    """What `make` returns; values that are right in themselves may be wrong together."""
    try:
        return make()
    except ValueError as error:
        raise Wrong(str(error)) from None
