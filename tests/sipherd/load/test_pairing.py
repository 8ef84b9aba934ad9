"""Who calls whom: globs over phones, turns, lots, files; nobody calls itself."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipherd.load.infile import parse_infile
from sipherd.load.pairing import Pairs, Party, pairs_of
from sipherd.load.profile import Arrival, Entry, Infile, LoadProfile
from sipherd.protocol.errors import HerdFileError
from sipherd.protocol.spec import PhoneSpec

PHONES = [
    PhoneSpec(name="alice", number="1001"),
    PhoneSpec(name="bob", number="1002"),
    PhoneSpec(name="carol", number="1003"),
    PhoneSpec(name="agent-1", number="2001"),
    PhoneSpec(name="agent-2", number="2002"),
]


def profile(**fields: Any) -> LoadProfile:
    return LoadProfile(**{"arrival": Arrival(rate=1.0), "duration": 9.0} | fields)


def pairs(callers: str, callees: str, **fields: Any) -> Pairs:
    return pairs_of(
        profile(callers=tuple(callers.split()), callees=tuple(callees.split()), **fields), PHONES
    )


def first(number: int, of: Pairs) -> list[str]:
    return [f"{pair.caller}>{pair.callee.target}" for pair in islice(of, number)]


def problems(callers: str, callees: str, **fields: Any) -> list[str]:
    with pytest.raises(HerdFileError) as raised:
        pairs(callers, callees, **fields)
    return raised.value.problems


def test_phones_by_name_number_and_glob() -> None:
    found = pairs("1001 b*", "agent-* 100[13] 20?1 alice")
    assert found.callers == ["alice", "bob"]
    assert [party.phone for party in found.callees] == ["agent-1", "agent-2", "alice", "carol"]


def test_callees_may_be_strangers() -> None:
    found = pairs("alice", "5551234 sip:echo@pbx.lab sip:*97@pbx.lab 1002")
    assert found.callees == [
        Party("5551234", ""),
        Party("sip:echo@pbx.lab", ""),
        Party("sip:*97@pbx.lab", ""),
        Party("bob", "bob"),
    ]


def test_round_robin() -> None:
    assert first(5, pairs("alice bob", "agent-1 agent-2 carol")) == [
        "alice>agent-1",
        "bob>agent-2",
        "alice>carol",
        "bob>agent-1",
        "alice>agent-2",
    ]


def test_round_robin_leaves_nobody_out_who_was_passed_over() -> None:
    everybody = pairs("*", "*")
    assert first(3, everybody) == ["alice>bob", "bob>alice", "carol>agent-1"]
    called = Counter(pair.callee.phone for pair in islice(everybody, 500))
    assert set(called) == {phone.name for phone in PHONES}
    assert all(abs(count - 100) <= 2 for count in called.values())


def test_fixed_pairs_stay_together() -> None:
    assert first(6, pairs("alice bob carol", "agent-1 bob", pairing="fixed")) == 2 * [
        "alice>agent-1",
        "bob>agent-1",  # not itself
        "carol>agent-1",
    ]


def test_by_lot_from_the_seed() -> None:
    lots = [first(50, pairs("*", "*", pairing="random", seed=seed)) for seed in (1, 1, 2)]
    assert lots[0] == lots[1] != lots[2]
    ends = Counter(first(4000, pairs("*", "*", pairing="random")))
    assert len(ends) == 20  # all ordered pairs of five
    assert all(abs(count - 200) < 60 for count in ends.values())  # standard deviation 14


@given(
    callers=st.lists(st.sampled_from([phone.name for phone in PHONES]), min_size=1, unique=True),
    callees=st.lists(st.sampled_from([phone.name for phone in PHONES]), min_size=2, unique=True),
    pairing=st.sampled_from(["round_robin", "random", "fixed"]),
    seed=st.integers(0, 1000),
)
def test_nobody_calls_itself(
    callers: list[str], callees: list[str], pairing: str, seed: int
) -> None:
    found = pairs(" ".join(callers), " ".join(callees), pairing=pairing, seed=seed)
    for caller, callee in islice(found, 40):
        assert caller in callers
        assert callee.phone in callees
        assert caller != callee.phone


@pytest.mark.parametrize(
    ("callers", "callees", "problem"),
    [
        ("alic", "bob", "$.load.callers: 'alic': expected a phone of the herd, near: alice"),
        ("sip:a@b.c", "bob", "$.load.callers: 'sip:a@b.c': expected a phone of the herd"),
        (
            "agnt-*",
            "bob",
            "$.load.callers: 'agnt-*': matches no phone of the herd; "
            "expected one that does, or the sip: URI of somebody else",
        ),
        (
            "alice",
            "bob@lab",
            "$.load.callees: 'bob@lab': expected a phone of the herd, a number or a sip: URI, "
            "near: bob",
        ),
        (
            "alice bob",
            "alice",
            "$.load.callees: alice could only call itself, expected another one",
        ),
    ],
)
def test_what_the_herd_does_not_have(callers: str, callees: str, problem: str) -> None:
    assert problems(callers, callees) == [problem]


def test_a_stranger_can_be_called_but_not_told_what_to_do() -> None:
    mix = (Entry(), Entry(kind="busy"), Entry(kind="no_answer"), Entry(kind="cancel", after=1.0))
    assert problems("alice", "bob 5551234", mix=mix) == [
        "$.load.mix: busy, no_answer: only a phone of the herd can be told to do so, "
        "and '5551234' is none; expected other callees or another mix"
    ]
    assert pairs("alice", "bob", mix=mix).callers == ["alice"]


def test_a_call_is_transferred_to_somebody_who_can_be_dialled() -> None:
    for to in ("carol", "1003", "5551234", "sip:echo@pbx.lab"):
        pairs("alice", "bob", mix=(Entry(kind="transfer", to=to),))
    assert problems("alice", "bob", mix=(Entry(kind="transfer", to="carol@lab"),)) == [
        "$.load.mix: 'carol@lab': expected a phone of the herd, a number or a sip: URI, near: carol"
    ]


def of_file(text: str, infile: Infile, **fields: Any) -> Pairs:
    return pairs_of(profile(infile=infile, **fields), PHONES, parse_infile(text, "users.csv"))


def test_callees_of_a_file() -> None:
    found = of_file("SEQUENTIAL\n1002\n555\n1002\n", Infile(file="f"), callers=("alice",))
    assert first(4, found) == ["alice>bob", "alice>555", "alice>bob", "alice>bob"]
    by_lot = of_file("RANDOM\n1002\n555\n", Infile(file="f"), callers=("alice",))
    assert set(first(50, by_lot)) == {"alice>bob", "alice>555"}
    assert by_lot.pairing == "random"


def test_callers_of_a_file() -> None:
    found = of_file(
        "SEQUENTIAL\nx;alice\ny;bob\n",
        Infile(file="f", caller=1, callee=None),
        callees=("carol",),
    )
    assert first(3, found) == ["alice>carol", "bob>carol", "alice>carol"]


def test_a_file_that_has_both_has_pairs() -> None:
    text = "SEQUENTIAL\nalice;1002\nbob;555\nalice;1003\n"
    both = Infile(file="f", caller=0, callee=1)
    assert first(4, of_file(text, both)) == ["alice>bob", "bob>555", "alice>carol", "alice>bob"]
    by_lot = first(90, of_file(text.replace("SEQUENTIAL", "RANDOM"), both))
    assert set(by_lot) == {"alice>bob", "bob>555", "alice>carol"}


def test_user_gives_each_caller_its_line() -> None:
    users = Infile(file="f")
    found = of_file("USER\n1003\n555\n", users, callers=("alice", "bob"))
    assert first(4, found) == ["alice>carol", "bob>555", "alice>carol", "bob>555"]
    with pytest.raises(HerdFileError) as raised:
        of_file("USER\n1003\n", users, callers=("alice", "bob"))
    assert raised.value.problems == [
        "users.csv:1: USER has a line for each caller, and 2 callers have 1 lines; "
        "expected more lines, or SEQUENTIAL"
    ]


def test_problems_of_a_file_have_their_lines() -> None:
    with pytest.raises(HerdFileError) as raised:
        of_file("SEQUENTIAL\nalise;1002\nbob;b b\n", Infile(file="f", caller=0, callee=1))
    assert raised.value.problems == [
        "users.csv:2: 'alise': expected a phone of the herd, near: alice",
        "users.csv:3: 'b b': expected a phone of the herd, a number or a sip: URI, near: bob",
    ]
    with pytest.raises(HerdFileError) as raised:
        of_file("SEQUENTIAL\nbob;1002\n", Infile(file="f", caller=0, callee=1))
    assert raised.value.problems == ["users.csv:2: bob calls itself, expected another one"]


def test_a_profile_with_a_file_needs_its_table() -> None:
    with pytest.raises(TypeError, match="expected the table that f holds"):
        pairs_of(profile(callers=("*",), infile=Infile(file="f")), PHONES)
