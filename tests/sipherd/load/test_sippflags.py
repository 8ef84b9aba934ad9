"""SIPp's short flags, in milliseconds where SIPp has milliseconds."""

from __future__ import annotations

import re

import pytest

from sipherd.load.arrivals import number_of_calls
from sipherd.load.profile import Arrival, Entry, HoldTime, Infile, LoadLimits, LoadProfile, Stage
from sipherd.load.sippflags import with_sipp_flags

BASIC = LoadProfile(
    callers=("alice",),
    callees=("bob",),
    arrival=Arrival(rate=1.0, poisson=True),
    limits=LoadLimits(concurrent=3),
    duration=60.0,
    mix=(Entry(kind="busy"),),
)


def test_a_run_of_flags_alone() -> None:
    profile = with_sipp_flags({"-r": "20", "-m": "100", "-d": "3000", "-l": "50"})
    assert profile == LoadProfile(
        callers=("*",),
        callees=("*",),
        arrival=Arrival(rate=20.0),
        limits=LoadLimits(concurrent=50, total=100),
        hold=HoldTime(mean=3.0),
    )


def test_without_r_and_d_calls_are_those_of_sipp() -> None:
    profile = with_sipp_flags({"-m": "5"})
    assert profile.arrival == Arrival(rate=10.0)
    assert profile.hold == HoldTime(mean=0.0)


def test_rp_is_the_period_of_r_in_milliseconds() -> None:
    assert with_sipp_flags({"-r": "7", "-rp": "2000", "-m": "1"}).arrival.rate == 3.5
    assert with_sipp_flags({"-rp": "2s", "-m": "1"}).arrival.rate == 5
    # A hundred a minute are a hundred in a minute, though 100/60 is no binary number.
    minute = with_sipp_flags({"-r": "100", "-rp": "60000"}, duration=60.0)
    assert number_of_calls(minute) == 100


@pytest.mark.parametrize(("written", "seconds"), [("250", 0.25), ("0", 0), ("5s", 5), ("2m", 120)])
def test_d_is_in_milliseconds_unless_it_has_a_unit(written: str, seconds: float) -> None:
    assert with_sipp_flags({"-d": written, "-m": "1"}).hold.mean == seconds


def test_flags_go_before_the_profile_and_leave_the_rest() -> None:
    profile = with_sipp_flags({"-r": "5", "-m": "9"}, BASIC)
    assert profile.arrival == Arrival(rate=5.0, poisson=True)
    assert profile.limits == LoadLimits(concurrent=3, total=9)
    assert profile.mix == BASIC.mix
    assert profile.duration == 60
    assert with_sipp_flags({}, BASIC) == BASIC


def test_fields_go_before_the_profile_too() -> None:
    assert with_sipp_flags({}, BASIC, duration=5.0, seed=3).duration == 5


def test_r_replaces_stages() -> None:
    staged = with_sipp_flags({}, BASIC, arrival=Arrival(stages=(Stage(rate=1.0, seconds=5.0),)))
    assert with_sipp_flags({"-r": "2"}, staged).arrival == Arrival(rate=2.0)


def test_inf_has_the_callees() -> None:
    profile = with_sipp_flags({"-inf": "users.csv"}, BASIC)
    assert profile.infile == Infile(file="users.csv", callee=0)
    assert profile.callers == ("alice",)
    assert profile.callees == ()
    assert profile.pairing is None


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({"-x": "1"}, "-x: expected one of -r, -rp, -l, -m, -d, -inf"),
        ({"-r": "fast"}, "-r 'fast': expected a number"),
        ({"-r": "0", "-m": "1"}, "-r: rate 0.0: expected more than 0"),
        ({"-rp": "0", "-m": "1"}, "-rp '0': expected more than 0"),
        ({"-rp": "1 s", "-m": "1"}, "-rp '1 s': expected milliseconds, or a time such as 500ms"),
        ({"-m": "0"}, "-m '0': expected 1 to 1000000000 calls"),
        ({"-l": "many"}, "-l 'many': expected a whole number of calls"),
        ({"-d": "-1", "-m": "1"}, "-d '-1': expected milliseconds"),
        ({"-d": "999h", "-m": "1"}, "-d '999h': expected 0 to 744h"),
        ({"-inf": "", "-m": "1"}, "-inf '': expected the path of a CSV file"),
        ({"-r": "5"}, "it never ends: expected a duration, or the number of calls (-m)"),
    ],
)
def test_what_is_wrong_is_said_with_the_flag(flags: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(problem)):
        with_sipp_flags(flags)


def test_rp_alone_does_not_change_a_profile() -> None:
    with pytest.raises(ValueError, match="-rp is the period of -r, expected -r beside it"):
        with_sipp_flags({"-rp": "500"}, BASIC)
