"""Which incoming call belongs to which call of the run."""

from __future__ import annotations

import pytest

from sipherd.load.arriving import Arrival, Arrivals, Expected, user_of


def arrival(sip_call_id: str, *, user: str = "1001", call: str = "i1") -> Arrival:
    return Arrival(call, "bob", 1, sip_call_id, f"sip:{user}@127.0.0.1:5060", "sip:bob@h", 1.0)


def expected(
    arrivals: Arrivals[str], owner: str, sip_call_id: str = "", *, user: str = "1001"
) -> Expected[str]:
    one = Expected(owner, "bob", user)
    arrivals.expect(one)
    if sip_call_id:
        arrivals.know(one, sip_call_id)
    return one


@pytest.mark.parametrize(
    ("uri", "user"),
    [
        ("sip:1001@127.0.0.1", "1001"),
        ("sips:a.b@h:5061;transport=tcp", "a.b"),
        ("sip:1001;phone-context=x@h", "1001"),
        ("sip:127.0.0.1", ""),
        ("", ""),
    ],
)
def test_user_of_a_uri(uri: str, user: str) -> None:
    assert user_of(uri) == user


def test_the_call_id_settles_it_whoever_has_waited_longest() -> None:
    arrivals: Arrivals[str] = Arrivals()
    expected(arrivals, "first", "id-1")
    second = expected(arrivals, "second", "id-2")
    assert arrivals.arrive(arrival("id-2", user="9999")) is second
    assert arrivals.on_the_way("bob") == 1


def test_another_call_id_is_that_of_the_oldest_of_this_user() -> None:
    arrivals: Arrivals[str] = Arrivals()
    other = expected(arrivals, "other", "id-1", user="1003")
    oldest = expected(arrivals, "oldest", "id-2")
    younger = expected(arrivals, "younger", "id-3")
    assert arrivals.arrive(arrival("b2b-2")) is oldest
    assert arrivals.arrive(arrival("b2b-3")) is younger
    assert arrivals.arrive(arrival("b2b-4")) is False
    assert arrivals.arrive(arrival("b2b-1", user="1003")) is other


def test_nothing_is_settled_while_a_call_id_is_not_known() -> None:
    arrivals: Arrivals[str] = Arrivals()
    late = expected(arrivals, "late")
    known = expected(arrivals, "known", "id-2")
    early = arrival("id-1")
    assert arrivals.arrive(early) is True
    assert arrivals.settle("bob") == []
    arrivals.know(late, "id-1")
    assert arrivals.settle("bob") == [(early, late)]
    assert arrivals.arrive(arrival("id-2")) is known


def test_what_was_put_aside_is_nothing_of_ours_once_all_are_known() -> None:
    arrivals: Arrivals[str] = Arrivals()
    one = expected(arrivals, "one")
    stranger = arrival("stranger", user="9999")
    assert arrivals.arrive(stranger) is True
    arrivals.know(one, "id-1")
    assert arrivals.settle("bob") == [(stranger, None)]
    assert len(arrivals) == 2  # on its way, and by its Call-ID


def test_a_call_of_one_that_is_over_is_not_taken_for_the_next() -> None:
    arrivals: Arrivals[str] = Arrivals()
    cancelled = expected(arrivals, "cancelled", "id-1")
    arrivals.forget(cancelled)
    expected(arrivals, "next", "id-2")
    assert arrivals.arrive(arrival("id-1")) is False
    assert arrivals.on_the_way("bob") == 1


def test_a_call_may_arrive_again_at_the_next_process_of_its_phone() -> None:
    arrivals: Arrivals[str] = Arrivals()
    one = expected(arrivals, "one", "id-1")
    assert arrivals.arrive(arrival("id-1")) is one
    assert arrivals.arrive(arrival("id-1", call="i2")) is one
    assert arrivals.on_the_way("bob") == 0


def test_of_a_stranger_that_was_transferred_nobody_tells_the_call_id() -> None:
    arrivals: Arrivals[str] = Arrivals()
    target = Expected("transfer", "bob", "", will_be_known=False)
    arrivals.expect(target)
    assert arrivals.arrive(arrival("whatever", user="5555")) is target


def test_what_is_forgotten_is_gone() -> None:
    arrivals: Arrivals[str] = Arrivals()
    for n in range(20_000):
        one = expected(arrivals, str(n), f"id-{n}")
        arrivals.arrive(arrival(f"id-{n}"))
        arrivals.forget(one)
    assert len(arrivals) == 0
