"""The herd of a run: what becomes of its ports, and who has registered."""

from __future__ import annotations

import itertools
import time
from typing import cast

import msgspec
import pytest

from sipherd.load.herds import RunHerd, anywhere, await_registered
from sipherd.protocol.messages import PhoneInfo
from sipherd.protocol.spec import HerdSpec, PhoneSpec, RegisterSpec
from sipherd.protocol.states import PhoneState

REGISTERS = PhoneSpec(name="alice", register=RegisterSpec(server="pbx.example"))


def phone(name: str, registration: str, spec: PhoneSpec = REGISTERS) -> PhoneInfo:
    return PhoneInfo(
        name=name,
        number=name,
        state=PhoneState.READY,
        activity="idle",
        address="127.0.0.1",
        port=5060,
        registration=registration,  # type: ignore[arg-type]
        spec=msgspec.structs.replace(spec, name=name, number=name),
    )


class Herd:
    """Its phones, each time they are asked for; the last ones for ever."""

    def __init__(self, *turns: tuple[PhoneInfo, ...]) -> None:
        self._turns = itertools.chain(turns, itertools.repeat(turns[-1]))

    def phones(self) -> tuple[PhoneInfo, ...]:
        return next(self._turns)


def awaited(herd: Herd, timeout: float = 30.0) -> tuple[list[str], list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    missing = await_registered(
        cast(RunHerd, herd), timeout, lambda done, of: told.append((done, of))
    )
    return [one.name for one in missing], told


@pytest.fixture(autouse=True)
def no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def test_who_does_not_register_is_not_waited_for() -> None:
    assert awaited(Herd((phone("bob", "", PhoneSpec(name="bob")),))) == ([], [])


def test_it_waits_for_all_and_tells_how_far_it_is() -> None:
    none = (phone("alice", "registering"), phone("bob", "registering"))
    one = (phone("alice", "registered"), phone("bob", "registering"))
    both = (phone("alice", "registered"), phone("bob", "registered"))
    assert awaited(Herd(none, none, one, both)) == ([], [(0, 2), (1, 2), (2, 2)])


def test_who_was_refused_is_not_waited_for() -> None:
    herd = Herd((phone("alice", "failed"), phone("bob", "registered")))
    assert awaited(herd) == (["alice"], [(1, 2)])


def test_it_does_not_wait_for_ever() -> None:
    assert awaited(Herd((phone("alice", "registering"),)), timeout=0.0) == (["alice"], [(0, 1)])


def test_ports_of_a_range_become_free_ones_and_fixed_ones_stay() -> None:
    spec = HerdSpec(phones=(PhoneSpec(name="alice"), PhoneSpec(name="bob", port=5070)))
    assert [one.port for one in anywhere(spec).phones] == [0, 5070]
