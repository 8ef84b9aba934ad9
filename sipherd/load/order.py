"""What a person orders: a file, flags, or flags over a file; and which herd it is for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ..protocol.errors import HerdFileError
from ..protocol.herdfile import parse_herd
from ..protocol.nodes import child, compose, read_text
from ..protocol.spec import HerdSpec
from .profile import Arrival, LoadProfile
from .profilefile import parse_profile
from .sippflags import with_sipp_flags

__all__ = ["Order", "read_order"]


class Order(NamedTuple):
    """A run that is to be done."""

    profile: LoadProfile
    phones: HerdSpec | None
    """A herd for this run alone, as the file describes it; None: one that runs is to be joined."""


def read_order(
    file: Path | None,
    flags: Mapping[str, str],
    fields: Mapping[str, Any],
    environ: Mapping[str, str],
    *,
    join: bool = False,
    poisson: bool = False,
) -> Order:
    """The run that a file and flags describe.

    Args:
        file: has `load`, `phones` or both; None: flags alone, for a herd that runs.
        flags: SIPp's (``sippflags.SIPP_FLAGS``), as written.
        fields: of ``LoadProfile``, in place of the file's.
        environ: fills in `${VAR}` in the file.
        join: a running herd, even if the file has phones.
        poisson: calls come at random, with the same rate on average.

    Raises:
        HerdFileError: the file can't be used; with all that is wrong in it.
        ValueError: a flag is wrong, or flags and file are together.
    """
    profile, herd = (None, None) if file is None else _read(file, environ, alone=not flags)
    given = dict(fields)
    if "callers" in given or "callees" in given:
        given = _without_infile(profile, given)
    if poisson:
        base = Arrival(rate=10.0) if profile is None else profile.arrival
        given["arrival"] = msgspec.structs.replace(base, poisson=True)
    if profile is None or given or flags:
        profile = with_sipp_flags(flags, profile, **given)
    return Order(profile, None if join else herd)


def _read(
    file: Path, environ: Mapping[str, str], *, alone: bool
) -> tuple[LoadProfile | None, HerdSpec | None]:
    """What the file has of both; `alone`: there are no flags that could stand for a profile."""
    text, source = read_text(file, "a load profile"), str(file)
    root = compose(text, source)
    has_phones = root is not None and child(root, "phones") is not None
    has_load = root is not None and child(root, "load") is not None
    if has_phones and not has_load and alone:
        raise HerdFileError(
            [f"{source}: no load; expected one beside the phones, or flags such as -r 10 -m 100"]
        )
    problems: list[str] = []
    profile = herd = None
    if has_load or not has_phones:
        try:
            profile = parse_profile(text, source, environ)
        except HerdFileError as error:
            problems += error.problems
    if has_phones:
        try:
            herd = parse_herd(text, source, environ)
        except HerdFileError as error:
            # What is wrong with the file as a whole both have found.
            problems += [problem for problem in error.problems if problem not in problems]
    if problems:
        raise HerdFileError(problems)
    return profile, herd


def _without_infile(profile: LoadProfile | None, given: dict[str, Any]) -> dict[str, Any]:
    """Who is named by flags takes the place of the field of a file, but not of the whole file."""
    infile = None if profile is None else profile.infile
    if infile is None:
        return given
    columns = {
        "callers": None if "callers" in given else infile.caller,
        "callees": None if "callees" in given else infile.callee,
    }
    if columns["callers"] is None and columns["callees"] is None:
        return {"infile": None} | given
    kept = msgspec.structs.replace(infile, caller=columns["callers"], callee=columns["callees"])
    return {"infile": kept} | given
