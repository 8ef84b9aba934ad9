"""What a herd file that was read again changes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sipherd.protocol.spec import HerdPorts, HerdSpec, PhoneSpec, PortRange
from sipherd.supervisor.reload import ON_THE_FLY, ReloadRefused, compare, keeps_port

ALICE = PhoneSpec(name="alice", number="1001")
BOB = PhoneSpec(name="bob", number="1002")
CAROL = PhoneSpec(name="carol", number="1003")


def herd(*phones: PhoneSpec, **more: Any) -> HerdSpec:
    return HerdSpec(phones=phones, **more)


def present(*phones: PhoneSpec) -> dict[str, PhoneSpec]:
    return {phone.name: phone for phone in phones}


def test_the_same_file_changes_nothing() -> None:
    changes = compare(herd(ALICE, BOB), herd(ALICE, BOB), present(ALICE, BOB))
    assert changes.unchanged == ("alice", "bob")
    others = (changes.added, changes.removed, changes.changed, changes.herd)
    assert others == ((), (), (), ())


def test_phones_are_compared_by_name() -> None:
    other = msgspec.structs.replace(ALICE, ring_timeout=5.0)
    changes = compare(herd(ALICE, BOB), herd(CAROL, other), present(ALICE, BOB))
    assert changes.added == (CAROL,)
    assert changes.removed == ("bob",)
    assert changes.changed == (other,)
    assert changes.unchanged == ()


def test_their_order_is_no_change() -> None:
    changes = compare(herd(ALICE, BOB), herd(BOB, ALICE), present(ALICE, BOB))
    assert changes.unchanged == ("bob", "alice")


def test_a_phone_added_by_hand_stays() -> None:
    changes = compare(herd(ALICE), herd(ALICE), present(ALICE, BOB))
    assert (changes.removed, changes.unchanged) == ((), ("alice",))


def test_one_that_the_file_has_now_is_compared() -> None:
    changes = compare(herd(ALICE), herd(ALICE, BOB), present(ALICE, BOB))
    assert changes.unchanged == ("alice", "bob")
    other = msgspec.structs.replace(BOB, trace=True)
    assert compare(herd(ALICE), herd(ALICE, other), present(ALICE, BOB)).changed == (other,)


def test_one_that_was_removed_by_hand_comes_again() -> None:
    assert compare(herd(ALICE, BOB), herd(ALICE, BOB), present(ALICE)).added == (BOB,)


def test_one_that_is_gone_already_is_not_removed() -> None:
    assert compare(herd(ALICE, BOB), herd(ALICE), present(ALICE)).removed == ()


def test_numbers_may_change_hands() -> None:
    a = msgspec.structs.replace(ALICE, number="1002")
    b = msgspec.structs.replace(BOB, number="1001")
    assert compare(herd(ALICE, BOB), herd(a, b), present(ALICE, BOB)).changed == (a, b)


def test_a_number_of_a_phone_added_by_hand_is_taken() -> None:
    with pytest.raises(ReloadRefused, match='already the number of phone "bob"') as error:
        compare(herd(ALICE), herd(ALICE, PhoneSpec(name="x", number="1002")), present(ALICE, BOB))
    assert error.value.reason == "duplicate_name"


@pytest.mark.parametrize(
    "change",
    [
        {"register_rate": 1.0},
        {"port_retries": 3},
        {"strict_ports": True},
        {"ports": HerdPorts(sip=PortRange(6000, 6998))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_fields_of_the_herd_that_take_effect(change: dict[str, Any]) -> None:
    assert change.keys() <= ON_THE_FLY
    assert compare(herd(ALICE), herd(ALICE, **change), present(ALICE)).herd == tuple(change)


def test_a_herd_keeps_its_name() -> None:
    with pytest.raises(ReloadRefused, match="herd can't change while the herd is up") as error:
        compare(herd(ALICE), herd(ALICE, herd="other", register_rate=1.0), present(ALICE))
    assert error.value.reason == "needs_new_herd"


@pytest.mark.parametrize(
    ("asked", "port", "wanted", "keeps"),
    [
        (None, 5060, None, True),
        (5060, 5060, 5060, True),
        (None, 5060, 5060, True),
        (0, 40000, 0, True),
        (0, 40000, 40000, True),
        (5060, 5060, 5062, False),
        (5060, 5060, None, False),
        (None, 5060, 0, False),
        (0, 40000, None, False),
    ],
)
def test_which_ports_are_kept(
    asked: int | None, port: int, wanted: int | None, keeps: bool
) -> None:
    assert keeps_port(asked, port, wanted) is keeps
