"""The state tables: what may follow what."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from sipherd.protocol.states import (
    CALL_MOVES,
    PHONE_MOVES,
    CallState,
    IllegalMove,
    PhoneState,
    check_move,
)


@pytest.mark.parametrize(
    ("table", "states"), [(PHONE_MOVES, PhoneState), (CALL_MOVES, CallState)], ids=["phone", "call"]
)
def test_every_state_has_a_row(table: Mapping[str, frozenset[str]], states: type) -> None:
    assert set(table) == set(states)  # type: ignore[call-overload]
    assert set().union(*table.values()) <= set(table)


@pytest.mark.parametrize("state", PhoneState)
def test_every_phone_can_be_stopped(state: PhoneState) -> None:
    reached = {state}
    while True:
        further = reached.union(*(PHONE_MOVES[s] for s in reached))
        if further == reached:
            break
        reached = further
    assert PhoneState.STOPPED in reached


def test_an_ended_call_stays_ended() -> None:
    assert not CALL_MOVES[CallState.ENDED]


def test_an_illegal_move_raises_and_says_which() -> None:
    assert check_move(PHONE_MOVES, PhoneState.NEW, PhoneState.STARTING) is PhoneState.STARTING
    with pytest.raises(IllegalMove, match="from stopped to ready"):
        check_move(PHONE_MOVES, PhoneState.STOPPED, PhoneState.READY)
