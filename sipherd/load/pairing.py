"""Who calls whom."""

from __future__ import annotations

import difflib
import random
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple, Protocol, TypeVar

from ..protocol.errors import HerdFileError
from ..protocol.nodes import quote
from ..protocol.spec import is_number
from .infile import Order, Table
from .profile import LoadProfile, Pairing

T = TypeVar("T")

__all__ = ["Pair", "Pairs", "Party", "pairs_of"]

_PAIRING_OF: dict[Order, Pairing] = {
    "SEQUENTIAL": "round_robin",
    "RANDOM": "random",
    "USER": "fixed",
}
_URI = ("sip:", "sips:")


class _Phone(Protocol):
    """What is to be known of the herd's phones: a ``PhoneSpec`` and a ``PhoneInfo`` have it."""

    @property
    def name(self) -> str: ...

    @property
    def number(self) -> str: ...


class Party(NamedTuple):
    """Somebody who is called."""

    target: str
    """What is dialled: the name of a phone, a number or a URI."""
    phone: str
    """The name of the herd's phone; empty if it is somebody else's."""


class Pair(NamedTuple):
    """A call's two ends."""

    caller: str
    """The name of a phone."""
    callee: Party


class Pairs:
    """Who may call whom, and in which order: iterate for the ends of each call, without an end."""

    def __init__(
        self,
        callers: Sequence[str],
        callees: Sequence[Party],
        pairing: Pairing,
        seed: int,
        *,
        given: Sequence[Pair] = (),
    ) -> None:
        self.callers = list(callers)
        """Names of phones; one that stands there twice makes twice as many calls."""
        self.callees = list(callees)
        self.pairing: Pairing = pairing
        self._seed = seed
        self._given = list(given)
        """Pairs as they are in a file, in place of all that callers and callees can form."""

    def __iter__(self) -> Iterator[Pair]:
        rng = random.Random(f"{self._seed}/pairing")
        if self._given:
            return self._from_file(rng)
        match self.pairing:
            case "round_robin":
                return self._round_robin()
            case "fixed":
                return self._fixed()
            case "random":
                return self._random(rng)

    def shares(self) -> tuple[dict[str, float], dict[str, float]]:
        """Which share of all calls each phone of the herd places, and which it gets."""
        if self._given:
            pairs = self._given
        elif self.pairing == "fixed":
            pairs = self._fixed_pairs()
        else:
            return _shares(self.callers), _shares([party.phone for party in self.callees])
        return (
            _shares([pair.caller for pair in pairs]),
            _shares([pair.callee.phone for pair in pairs]),
        )

    def _from_file(self, rng: random.Random) -> Iterator[Pair]:
        while True:
            if self.pairing == "random":
                yield _any_of(self._given, rng)
            else:
                yield from self._given

    def _round_robin(self) -> Iterator[Pair]:
        waiting = deque(self.callees)
        while True:
            for caller in self.callers:
                # Who can't be called because it calls stays first in the queue.
                position = next(i for i, party in enumerate(waiting) if party.phone != caller)
                callee = waiting[position]
                del waiting[position]
                waiting.append(callee)
                yield Pair(caller, callee)

    def _fixed(self) -> Iterator[Pair]:
        fixed = self._fixed_pairs()
        while True:
            yield from fixed

    def _fixed_pairs(self) -> list[Pair]:
        among = len(self.callees)
        fixed = []
        for index, caller in enumerate(self.callers):
            turns = (self.callees[(index + turn) % among] for turn in range(among))
            fixed.append(Pair(caller, next(party for party in turns if party.phone != caller)))
        return fixed

    def _random(self, rng: random.Random) -> Iterator[Pair]:
        while True:
            caller = _any_of(self.callers, rng)
            callee = _any_of(self.callees, rng)
            while callee.phone == caller:
                callee = _any_of(self.callees, rng)
            yield Pair(caller, callee)


def pairs_of(profile: LoadProfile, phones: Sequence[_Phone], table: Table | None = None) -> Pairs:
    """Who calls whom in a run over these phones; `table` is what the profile's infile holds.

    Raises:
        HerdFileError: with all that the herd can't do: a caller that is no phone of it, a glob that
            matches none, a phone that could only call itself, an outcome that only a phone of the
            herd can be told to bring about.
    """
    found = _Search(phones)
    columns = profile.infile
    if columns is None:
        callers = found.callers(_patterns("callers", profile.callers))
        callees = found.callees(_patterns("callees", profile.callees))
        pairing = profile.pairing or "round_robin"
        given: list[Pair] = []
    elif table is None:
        raise TypeError(f"expected the table that {columns.file} holds")
    else:
        pairing = _PAIRING_OF[table.order]
        callers = found.callers(_column(table, columns.caller, "callers", profile.callers))
        callees = found.callees(_column(table, columns.callee, "callees", profile.callees))
        given = []
        if columns.caller is not None and columns.callee is not None and not found.problems:
            given = [Pair(*ends) for ends in zip(callers, callees, strict=True)]
            found.check_given(given, table)
        elif table.order == "USER" and columns.caller is None and len(callers) > len(table.rows):
            found.problems.append(
                f"{table.source}:1: USER has a line for each caller, and {len(callers)} callers "
                f"have {len(table.rows)} lines; expected more lines, or SEQUENTIAL"
            )
    if not found.problems:
        if not given:
            found.check_others(callers, callees)
        found.check_mix(profile, callees)
    if found.problems:
        raise HerdFileError(found.problems)
    return Pairs(callers, callees, pairing, profile.seed, given=given)


class _Wanted(NamedTuple):
    """Who is named in a profile or a file, and where."""

    text: str
    where: str
    may_be_glob: bool


def _patterns(field: str, patterns: Sequence[str]) -> list[_Wanted]:
    return [_Wanted(pattern, f"$.load.{field}", True) for pattern in patterns]


def _column(table: Table, column: int | None, field: str, patterns: Sequence[str]) -> list[_Wanted]:
    if column is None:
        return _patterns(field, patterns)
    return [
        _Wanted(text, f"{table.source}:{row.line}", False)
        for text, row in zip(table.column(column), table.rows, strict=True)
    ]


class _Search:
    """Finds phones of the herd, and collects problems."""

    def __init__(self, phones: Sequence[_Phone]) -> None:
        self._phones = phones
        self._names = {key: phone.name for phone in phones for key in (phone.number, phone.name)}
        self.problems: list[str] = []

    def callers(self, wanted: Sequence[_Wanted]) -> list[str]:
        found = []
        for one in wanted:
            for party in self._parties(one):
                if party.phone:
                    found.append(party.phone)
                else:
                    self._not_found(one, "")
        return _once(found, wanted)

    def callees(self, wanted: Sequence[_Wanted]) -> list[Party]:
        return _once([party for one in wanted for party in self._parties(one)], wanted)

    def _parties(self, wanted: _Wanted) -> list[Party]:
        text = wanted.text
        if text in self._names:
            return [Party(self._names[text], self._names[text])]
        if wanted.may_be_glob and not text.startswith(_URI) and any(c in text for c in "*?["):
            matching = [
                Party(phone.name, phone.name)
                for phone in self._phones
                if fnmatchcase(phone.name, text) or fnmatchcase(phone.number, text)
            ]
            if not matching:
                self.problems.append(
                    f"{wanted.where}: {quote(text)}: matches no phone of the herd; "
                    "expected one that does, or the sip: URI of somebody else"
                )
            return matching
        if text.startswith(_URI) or is_number(text):
            return [Party(text, "")]
        self._not_found(wanted, ", a number or a sip: URI")
        return []

    def _not_found(self, wanted: _Wanted, others: str) -> None:
        near = difflib.get_close_matches(wanted.text, self._names, n=3)
        hint = f", near: {', '.join(near)}" if near else ""
        self.problems.append(
            f"{wanted.where}: {quote(wanted.text)}: expected a phone of the herd{others}{hint}"
        )

    def check_given(self, given: Sequence[Pair], table: Table) -> None:
        for pair, row in zip(given, table.rows, strict=True):
            if pair.caller == pair.callee.phone:
                self.problems.append(
                    f"{table.source}:{row.line}: {pair.caller} calls itself, expected another one"
                )

    def check_others(self, callers: Sequence[str], callees: Sequence[Party]) -> None:
        called = {party.phone for party in callees}
        for caller in dict.fromkeys(callers):
            if called == {caller}:
                self.problems.append(
                    f"$.load.callees: {caller} could only call itself, expected another one"
                )

    def check_mix(self, profile: LoadProfile, callees: Sequence[Party]) -> None:
        for entry in profile.mix:
            if entry.to:
                self._parties(_Wanted(entry.to, "$.load.mix", False))
        strangers = [party.target for party in callees if not party.phone]
        names = [entry.name for entry in profile.mix if entry.needs_our_callee]
        if strangers and names:
            self.problems.append(
                f"$.load.mix: {', '.join(names)}: only a phone of the herd can be told to do so, "
                f"and {quote(strangers[0])} is none; expected other callees or another mix"
            )


def _shares(phones: Sequence[str]) -> dict[str, float]:
    """How often each is there, of all; who has no name is nobody's phone."""
    return {phone: number / len(phones) for phone, number in Counter(phones).items() if phone}


def _once(found: list[T], wanted: Sequence[_Wanted]) -> list[T]:
    """Whom two patterns match is there once; a file may have somebody in several lines."""
    return list(dict.fromkeys(found)) if all(one.may_be_glob for one in wanted) else found


def _any_of(values: Sequence[T], rng: random.Random) -> T:
    return values[int(rng.random() * len(values))]
