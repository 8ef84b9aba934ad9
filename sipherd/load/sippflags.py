"""SIPp's short flags, as people know them: `-r -rp -l -m -d -inf`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from ..protocol.nodes import quote
from .profile import Arrival, HoldTime, Infile, LoadLimits, LoadProfile, check_count, check_delay

__all__ = ["SIPP_FLAGS", "with_sipp_flags"]

#: Each flag and what it means.
SIPP_FLAGS = {
    "-r": "calls per -rp",
    "-rp": "length of the period of -r, in milliseconds (default 1000)",
    "-l": "most calls at the same time",
    "-m": "calls in all",
    "-d": "how long an answered call stays up, in milliseconds",
    "-inf": "CSV file with callees in field 0",
}

# SIPp takes a unit behind times, too; without one they are milliseconds.
_TIME = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)?")
_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, None: 1}


def with_sipp_flags(
    flags: Mapping[str, str], profile: LoadProfile | None = None, **fields: object
) -> LoadProfile:
    """`profile`, with `fields` and then `flags` in place of what it says.

    `flags` are keys of `SIPP_FLAGS` with their values as written.  Without a profile calls are
    SIPp's: 10 per second, hung up as soon as they are up; and from every phone to every other.

    Raises:
        ValueError: a value is wrong, or it describes no run; the message names the flag or field.
    """
    for flag in flags:
        if flag not in SIPP_FLAGS:
            raise ValueError(f"{flag}: expected one of {', '.join(SIPP_FLAGS)}")
    found: dict[str, Any] = _DEFAULTS if profile is None else msgspec.structs.asdict(profile)
    found = found | fields
    if "-rp" in flags and "-r" not in flags and profile is not None:
        raise ValueError("-rp is the period of -r, expected -r beside it")
    if "-r" in flags or "-rp" in flags:
        arrival: Arrival = found["arrival"]
        rate = _number("-r", flags.get("-r", "10")) / _seconds("-rp", flags.get("-rp", "1000"))
        try:
            found["arrival"] = Arrival(rate=rate, poisson=arrival.poisson)
        except ValueError as error:
            raise ValueError(f"-r: {error}") from None
    limits: LoadLimits = found.get("limits", LoadLimits())
    if "-l" in flags:
        limits = msgspec.structs.replace(limits, concurrent=_count("-l", flags["-l"]))
    if "-m" in flags:
        limits = msgspec.structs.replace(limits, total=_count("-m", flags["-m"]))
    found["limits"] = limits
    if "-d" in flags:
        found["hold"] = HoldTime(mean=_seconds("-d", flags["-d"], least=0))
    if "-inf" in flags:
        if not flags["-inf"]:
            raise ValueError("-inf '': expected the path of a CSV file")
        # Who calls stays as it is; who is called is in the file, and its first line says the order.
        found |= {"infile": Infile(file=flags["-inf"]), "callees": (), "pairing": None}
        found["callers"] = found["callers"] or ("*",)
    if limits.total is None and found.get("duration") is None and not found["arrival"].stages:
        raise ValueError("it never ends: expected a duration, or the number of calls (-m)")
    return LoadProfile(**found)


_DEFAULTS = {
    "callers": ("*",),
    "callees": ("*",),
    "arrival": Arrival(rate=10.0),
    "hold": HoldTime(mean=0.0),
}


def _number(flag: str, text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", text):
        raise ValueError(f"{flag} {quote(text)}: expected a number")
    return float(text)


def _seconds(flag: str, text: str, least: float = 0.001) -> float:
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{flag} {quote(text)}: expected milliseconds, or a time such as 500ms, 30s, 2m"
        )
    seconds = float(match[1]) * _UNITS[match[2]] / 1000
    try:
        check_delay(seconds)
        if seconds < least:
            raise ValueError("expected more than 0")
    except ValueError as error:
        raise ValueError(f"{flag} {quote(text)}: {error}") from None
    return seconds


def _count(flag: str, text: str) -> int:
    try:
        if not re.fullmatch("[0-9]{1,10}", text):
            raise ValueError("expected a whole number of calls")
        check_count(int(text))
    except ValueError as error:
        raise ValueError(f"{flag} {quote(text)}: {error}") from None
    return int(text)
