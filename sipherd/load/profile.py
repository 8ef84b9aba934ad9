"""What a load run is to do: who calls whom, when, for how long, and how each call is to end.

Every struct checks itself when it is made, as those of ``protocol.spec`` do.  What only the herd
can tell (does a caller exist) is found out by ``load.pairing``, what only the machine can tell by
``load.capacity``.  All durations are seconds, all rates calls per second.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import msgspec

from .gates import GateError, parse
from .records import Outcome

__all__ = [
    "DEFAULT_GATES",
    "Arrival",
    "Entry",
    "HoldTime",
    "Infile",
    "Kind",
    "LoadLimits",
    "LoadProfile",
    "Pairing",
    "Stage",
]

Pairing: TypeAlias = Literal[
    "round_robin",  # callers take turns, and so do callees
    "random",  # both by lot, from the seed
    "fixed",  # callers take turns, each calls one and the same
]

Kind: TypeAlias = Literal[
    "answer",  # the callee answers, the caller hangs up
    "callee_hangs_up",
    "hold_retrieve",  # answered; the caller puts it on hold and retrieves it
    "dtmf",  # answered; the caller sends digits
    "transfer",  # answered; the caller transfers the callee to somebody else
    "busy",  # the callee rejects it with 486
    "no_answer",  # it rings until the caller gives up
    "cancel",  # the caller cancels while it rings
]

_ANSWERED = frozenset({"answer", "callee_hangs_up", "hold_retrieve", "dtmf", "transfer"})
#: What the callee has to do for them, only a phone of the herd does.
_CALLEE_IS_OURS = frozenset({"callee_hangs_up", "busy", "no_answer"})

#: Without other gates a run passes if calls end as its profile wants them to.
DEFAULT_GATES = ("as_intended >= 99",)

_MONTH = 31 * 86400.0
_MAX_RATE = 100_000.0
#: Rates and weights below it are no numbers that anybody means: a call every 11 days.
_LEAST = 1e-6
_DIGITS = re.compile(r"[0-9A-D*#]{1,64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


# Checks of one value each, for the reader of a profile, too: they raise ValueError with what was
# expected and leave out the value.


def check_rate(rate: float) -> None:
    if not _LEAST <= rate <= _MAX_RATE:
        raise ValueError(f"expected more than 0 and at most {_MAX_RATE:.0f} calls per second")


def check_stage_rate(rate: float) -> None:
    if not 0 <= rate <= _MAX_RATE:
        raise ValueError(f"expected 0 to {_MAX_RATE:.0f} calls per second")


def check_span(seconds: float) -> None:
    if not 0.001 <= seconds <= _MONTH:
        raise ValueError("expected 1ms to 744h")


def check_delay(seconds: float) -> None:
    if not 0 <= seconds <= _MONTH:
        raise ValueError("expected 0 to 744h")


def check_count(count: int) -> None:
    if not 1 <= count <= 1_000_000_000:
        raise ValueError("expected 1 to 1000000000 calls")


def check_weight(weight: float) -> None:
    if not _LEAST <= weight <= 1e9:
        raise ValueError("expected more than 0 and at most 1000000000")


def check_column(column: int) -> None:
    if not 0 <= column < 1000:
        raise ValueError("expected the number of a field, the first is 0")


def check_digits(digits: str) -> None:
    if not _DIGITS.fullmatch(digits):
        raise ValueError("expected 1 to 64 of the keys 0-9 A-D * #")


def check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(
            "expected 1 to 64 of the characters A-Z a-z 0-9 . _ - that begin with a letter or digit"
        )


def check_party(party: str) -> None:
    """A glob, a number or a URI, by syntax alone."""
    if not re.fullmatch(r"[!-~]{1,1024}", party):
        raise ValueError("expected a phone, a number or a sip: URI, without spaces")


def check_media(media: str) -> None:
    kind, colon, hertz = media.partition(":")
    if kind == "tone" and colon:
        if not re.fullmatch("[1-9][0-9]{0,4}", hertz):
            raise ValueError("expected tone:HZ, such as tone:440")
    elif not media.isprintable() or not media:
        raise ValueError("expected none, tone, tone:HZ or an audio file")


def check_gate(gate: str) -> None:
    try:
        parse(gate)
    except GateError as error:
        raise ValueError(error.why) from error


def check_seed(seed: int) -> None:
    if not 0 <= seed < 2**63:
        raise ValueError("expected a whole number, 0 or more")


def _check(field: str, check: Callable[[Any], None], value: object) -> None:
    """`check`, with the field and its value named in the error."""
    try:
        check(value)
    except ValueError as error:
        raise ValueError(f"{field} {value!r}: {error}") from None


class Stage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a run.

    Attributes:
        rate: of it, or with `ramp` the one that it ends with.
        seconds: how long it is.
        ramp: the rate changes evenly from that of the stage before; the first one begins with 0.
    """

    rate: float
    seconds: float
    ramp: bool = False

    def __post_init__(self) -> None:
        _check("rate", check_stage_rate, self.rate)
        _check("seconds", check_span, self.seconds)


class Arrival(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When calls are to start: exactly one of `rate` and `stages`.

    Attributes:
        rate: constant.
        stages: one after the other; the rate after the last one is that which it ended with.
        poisson: calls are independent of each other and come at random, with this rate on average;
            otherwise they are evenly spaced.
    """

    rate: float | None = None
    stages: tuple[Stage, ...] = ()
    poisson: bool = False

    def __post_init__(self) -> None:
        if (self.rate is None) == (not self.stages):
            raise ValueError("expected exactly one of rate and stages")
        if self.rate is not None:
            _check("rate", check_rate, self.rate)
        if self.stages and not any(stage.rate for stage in self.stages):
            raise ValueError("stages: expected a rate above 0 in one of them")

    @property
    def seconds(self) -> float | None:
        """Of all stages; None for a constant rate, which has no end of its own."""
        return sum(stage.seconds for stage in self.stages) if self.stages else None


class HoldTime(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For how long answered calls stay up.

    Attributes:
        kind: of distribution.
        mean: of `exponential`, and of `normal` before what is below 0 is left out; the time itself
            if `fixed`, the middle of `uniform`.
        spread: standard deviation of `normal`, half the width of `uniform`.
    """

    kind: Literal["fixed", "uniform", "normal", "exponential"] = "fixed"
    mean: float = 5.0
    spread: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("fixed", "uniform", "normal", "exponential"):
            raise ValueError(f"kind {self.kind!r}: expected fixed, uniform, normal or exponential")
        _check("mean", check_delay, self.mean)
        _check("spread", check_delay, self.spread)
        if self.spread and self.kind in ("fixed", "exponential"):
            raise ValueError(f"spread: {self.kind} has none")
        if self.kind == "uniform" and self.spread > self.mean:
            raise ValueError("uniform: expected no times below 0")
        if self.kind == "normal" and not self.spread:
            raise ValueError("normal: expected a deviation above 0")
        if self.kind == "exponential" and not self.mean:
            raise ValueError("exponential: expected a mean above 0")

    @classmethod
    def between(cls, low: float, high: float) -> HoldTime:
        """Uniform from `low` to `high` seconds.

        Raises:
            ValueError: `low` is above `high`, or below 0.
        """
        if low > high:
            raise ValueError("upside down: the first time is longer than the second")
        return cls(kind="uniform", mean=(low + high) / 2, spread=(high - low) / 2)

    @property
    def average(self) -> float:
        """Seconds, to be expected of many."""
        if self.kind != "normal":
            return self.mean
        # Of a normal distribution that has nothing below 0: mean + spread * phi(a) / (1 - Phi(a)).
        a = -self.mean / self.spread
        density = math.exp(-a * a / 2) / math.sqrt(2 * math.pi)
        return self.mean + self.spread * density / (0.5 * math.erfc(a / math.sqrt(2)))


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of the mix: what becomes of some of the calls.

    Attributes:
        kind: what it is.
        name: what it is called in records; "" becomes the kind.
        weight: its share of all calls is this by the sum of all weights.
        after: how long it rings until it is answered, rejected or given up.  None: not at all; for
            `no_answer` the caller's `ring_timeout`.
        on_hold: with `hold_retrieve`, for how long, in the middle of the call; None: half of it.
        digits: with `dtmf`.
        to: with `transfer`, a phone, a number or a URI.
    """

    kind: Kind = "answer"
    name: str = ""
    weight: float = 1.0
    after: float | None = None
    on_hold: float | None = None
    digits: str = ""
    to: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind {self.kind!r}: expected {', '.join(get_args(Kind))}")
        if not self.name:
            msgspec.structs.force_setattr(self, "name", self.kind)
        _check("name", check_name, self.name)
        _check("weight", check_weight, self.weight)
        if self.after is not None:
            _check("after", check_delay, self.after)
        if self.kind == "cancel" and self.after is None:
            raise ValueError("cancel needs after: how long it rings until the caller cancels")
        for field, kind, check in (
            ("on_hold", "hold_retrieve", check_delay),
            ("digits", "dtmf", check_digits),
            ("to", "transfer", check_party),
        ):
            value = getattr(self, field)
            if value in (None, ""):
                if field != "on_hold" and self.kind == kind:
                    raise ValueError(f"{kind} needs {field}")
            elif self.kind != kind:
                raise ValueError(f"{field} is for {kind} alone, this is {self.kind}")
            else:
                _check(field, check, value)

    @property
    def answered(self) -> bool:
        """Whether it is to be answered, and so has a hold time."""
        return self.kind in _ANSWERED

    @property
    def needs_our_callee(self) -> bool:
        """Whether the callee has to be a phone of the herd: nobody else is told to do so."""
        return self.kind in _CALLEE_IS_OURS

    @property
    def expected(self) -> Outcome:
        """What an attempt is to end in."""
        match self.kind:
            case "busy" | "no_answer" | "cancel":
                return self.kind
            case _:
                return "answer"


class LoadLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a run stops; None has no limit.

    Attributes:
        concurrent: calls at the same time; one more starts late, when another has ended.
        total: calls of the run.
    """

    concurrent: int | None = None
    total: int | None = None

    def __post_init__(self) -> None:
        for field in ("concurrent", "total"):
            if (value := getattr(self, field)) is not None:
                _check(field, check_count, value)


class Infile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A CSV file as SIPp reads it with `-inf`, and which of its fields are used.

    Attributes:
        file: its path.
        callee: field with who is called, the first is 0; None has none.
        caller: field with the phone that calls; None has none.
    """

    file: str
    callee: int | None = 0
    caller: int | None = None

    def __post_init__(self) -> None:
        if not self.file:
            raise ValueError("file: expected the path of a CSV file")
        for field in ("callee", "caller"):
            if (value := getattr(self, field)) is not None:
                _check(field, check_column, value)
        if self.callee is None and self.caller is None:
            raise ValueError("expected callee, caller or both: the numbers of fields")
        if self.callee == self.caller:
            raise ValueError(f"callee and caller are both field {self.callee}, expected two")


class LoadProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A load run.

    Attributes:
        callers: phones of the herd, by name or number, or globs over these.
        callees: the same, and numbers and SIP URIs of others.
        infile: callees, callers or both from a file instead.
        pairing: who calls whom.  None becomes round_robin; for an `infile` its first line says it.
        arrival: when.
        limits: on calls at the same time and in all.
        hold: how long answered calls stay up.
        mix: what becomes of calls.
        media: what both sides play: "none", "tone:HZ" or an audio file.
        duration: seconds in which calls start.  None: until `limits.total`, or as long as the
            stages of `arrival`.
        warm_up: calls that start in the first so many of these seconds are kept and not judged.
        drain: seconds that the calls which are up at the end have to end by themselves.
        seed: of all that is drawn by lot.
        gates: what makes the run PASS.
    """

    callers: tuple[str, ...] = ()
    callees: tuple[str, ...] = ()
    infile: Infile | None = None
    pairing: Pairing | None = None
    arrival: Arrival
    limits: LoadLimits = LoadLimits()
    hold: HoldTime = HoldTime()
    mix: tuple[Entry, ...] = (Entry(),)
    media: str = "none"
    duration: float | None = None
    warm_up: float = 0.0
    drain: float = 60.0
    seed: int = 1
    gates: tuple[str, ...] = DEFAULT_GATES

    def __post_init__(self) -> None:
        self._check_parties()
        if self.media == "tone":
            msgspec.structs.force_setattr(self, "media", "tone:440")
        _check("media", check_media, self.media)
        if not self.mix:
            raise ValueError("mix: expected one entry or more")
        names = [entry.name for entry in self.mix]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"mix: two entries are called {name}, expected a name for each")
        if self.duration is not None:
            _check("duration", check_span, self.duration)
        _check("warm_up", check_delay, self.warm_up)
        _check("drain", check_delay, self.drain)
        _check("seed", check_seed, self.seed)
        for gate in self.gates:
            _check("gate", check_gate, gate)
        if self.seconds is None and self.limits.total is None:
            raise ValueError("it never ends: expected duration, stages or limits.total")
        if self.seconds is not None and self.warm_up >= self.seconds:
            raise ValueError(
                f"warm_up {self.warm_up:g}: expected less than the {self.seconds:g} s "
                "in which calls start"
            )

    def _check_parties(self) -> None:
        infile = self.infile
        for field, column in (
            ("callers", infile.caller if infile else None),
            ("callees", infile.callee if infile else None),
        ):
            parties: tuple[str, ...] = getattr(self, field)
            if parties and column is not None:
                raise ValueError(
                    f"{field}: field {column} of infile has them, expected one of both"
                )
            if not parties and column is None:
                raise ValueError(f"{field} are missing, expected phones or a field of infile")
            for party in parties:
                _check(field, check_party, party)
        if self.pairing is None:
            if infile is None:
                msgspec.structs.force_setattr(self, "pairing", "round_robin")
        elif self.pairing not in get_args(Pairing):
            expected = ", ".join(get_args(Pairing))
            raise ValueError(f"pairing {self.pairing!r}: expected {expected}")
        elif infile is not None:
            raise ValueError(
                "pairing: the first line of infile says it "
                "(SEQUENTIAL is round_robin, RANDOM random, USER fixed), expected none here"
            )

    @property
    def seconds(self) -> float | None:
        """In which calls start; None: until `limits.total` of them have."""
        return self.arrival.seconds if self.duration is None else self.duration
