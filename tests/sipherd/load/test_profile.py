"""A profile checks itself when it is made."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from sipherd.load.profile import (
    Arrival,
    Entry,
    HoldTime,
    Infile,
    LoadLimits,
    LoadProfile,
    Stage,
)

BASIC: dict[str, Any] = {
    "callers": ("a",),
    "callees": ("b",),
    "arrival": Arrival(rate=1.0),
    "duration": 60.0,
}


def test_what_is_left_out() -> None:
    profile = LoadProfile(**BASIC)
    assert profile.pairing == "round_robin"
    assert [entry.kind for entry in profile.mix] == ["answer"]
    assert profile.media == "none"
    assert profile.gates == ("as_intended >= 99",)


def test_it_survives_being_sent() -> None:
    profile = LoadProfile(
        **BASIC | {"mix": (Entry(kind="dtmf", digits="1#"), Entry(kind="cancel", after=2.0))}
    )
    encoded = msgspec.json.encode(profile)
    assert msgspec.json.decode(encoded, type=LoadProfile) == profile


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"callers": ()}, "callers are missing, expected phones or a field of infile"),
        ({"callees": ()}, "callees are missing, expected phones or a field of infile"),
        ({"callees": ("b c",)}, "callees 'b c': expected a phone, a number or a sip: URI"),
        ({"infile": Infile(file="f")}, "callees: field 0 of infile has them, expected one of both"),
        (
            {"infile": Infile(file="f"), "callees": (), "pairing": "fixed"},
            "pairing: the first line of infile says it",
        ),
        ({"pairing": "all"}, "pairing 'all': expected round_robin, random, fixed"),
        ({"media": "tone:x"}, "media 'tone:x': expected tone:HZ"),
        ({"media": ""}, "media '': expected none, tone, tone:HZ or an audio file"),
        ({"mix": ()}, "mix: expected one entry or more"),
        ({"mix": (Entry(), Entry())}, "mix: two entries are called answer"),
        ({"duration": None}, "it never ends: expected duration, stages or limits.total"),
        ({"duration": 0.0}, "duration 0.0: expected 1ms to 744h"),
        ({"warm_up": 60.0}, "warm_up 60: expected less than the 60 s in which calls start"),
        ({"drain": -1.0}, "drain -1.0: expected 0 to 744h"),
        ({"seed": -1}, "seed -1: expected a whole number"),
        ({"gates": ("seer",)}, "gate 'seer': expected METRIC"),
    ],
)
def test_a_profile_that_is_wrong(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        LoadProfile(**BASIC | fields)


@pytest.mark.parametrize(
    ("make", "fields", "problem"),
    [
        (Arrival, {}, "expected exactly one of rate and stages"),
        (Arrival, {"rate": 0.0}, "rate 0.0: expected more than 0"),
        (Arrival, {"rate": 1e-9}, "rate 1e-09: expected more than 0"),
        (Arrival, {"rate": float("nan")}, "rate nan: expected more than 0"),
        (Arrival, {"stages": (Stage(rate=0.0, seconds=1.0),)}, "expected a rate above 0"),
        (Stage, {"rate": -1.0, "seconds": 1.0}, "rate -1.0: expected 0 to 100000"),
        (Stage, {"rate": 1.0, "seconds": 0.0}, "seconds 0.0: expected 1ms to 744h"),
        (HoldTime, {"kind": "fix"}, "kind 'fix': expected fixed, uniform"),
        (HoldTime, {"mean": 1.0, "spread": 1.0}, "spread: fixed has none"),
        (HoldTime, {"kind": "uniform", "mean": 1.0, "spread": 2.0}, "expected no times below 0"),
        (HoldTime, {"kind": "normal"}, "normal: expected a deviation above 0"),
        (HoldTime, {"kind": "exponential", "mean": 0.0}, "expected a mean above 0"),
        (Entry, {"kind": "ring"}, "kind 'ring': expected answer, callee_hangs_up"),
        (Entry, {"kind": "cancel"}, "cancel needs after"),
        (Entry, {"kind": "dtmf"}, "dtmf needs digits"),
        (Entry, {"kind": "dtmf", "digits": "12x"}, "digits '12x': expected 1 to 64 of the keys"),
        (Entry, {"kind": "transfer"}, "transfer needs to"),
        (Entry, {"digits": "1"}, "digits is for dtmf alone, this is answer"),
        (Entry, {"on_hold": 1.0}, "on_hold is for hold_retrieve alone, this is answer"),
        (Entry, {"weight": 0.0}, "weight 0.0: expected more than 0"),
        (Entry, {"weight": float("inf")}, "weight inf: expected more than 0"),
        (Entry, {"name": "a b"}, "name 'a b': expected 1 to 64"),
        (LoadLimits, {"total": 0}, "total 0: expected 1 to 1000000000 calls"),
        (Infile, {"file": ""}, "file: expected the path"),
        (Infile, {"file": "f", "callee": None}, "expected callee, caller or both"),
        (Infile, {"file": "f", "caller": 0}, "callee and caller are both field 0"),
        (Infile, {"file": "f", "callee": -1}, "callee -1: expected the number of a field"),
    ],
)
def test_a_part_that_is_wrong(make: Any, fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        make(**fields)


def test_what_an_entry_intends() -> None:
    assert Entry(kind="hold_retrieve").expected == "answer"
    assert Entry(kind="hold_retrieve").answered
    for kind in ("busy", "no_answer"):
        assert Entry(kind=kind).expected == kind  # type: ignore[arg-type]
        assert Entry(kind=kind).needs_our_callee  # type: ignore[arg-type]
        assert not Entry(kind=kind).answered  # type: ignore[arg-type]
    assert not Entry(kind="cancel", after=1.0).needs_our_callee


def test_the_average_of_a_normal_hold_time_leaves_out_what_is_below_0() -> None:
    assert HoldTime(kind="normal", mean=100.0, spread=1.0).average == pytest.approx(100)
    # A half-normal distribution: its mean is sqrt(2 / pi).
    assert HoldTime(kind="normal", mean=0.0, spread=1.0).average == pytest.approx(0.79788456)
