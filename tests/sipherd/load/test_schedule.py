"""A whole run, call by call; and whether what is expected of it is what it would do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from sipherd.load.capacity import expected_calls
from sipherd.load.mix import quotas_of
from sipherd.load.pairing import Pairs, pairs_of
from sipherd.load.profile import Arrival, Entry, HoldTime, LoadProfile, Stage
from sipherd.load.schedule import schedule
from sipherd.protocol.spec import PhoneSpec

PHONES = [PhoneSpec(name=f"p{n}") for n in range(1, 21)]
MIX = (
    Entry(after=0.5, weight=6),
    Entry(kind="busy", weight=2),
    Entry(kind="no_answer", after=3.0),
    Entry(kind="cancel", after=1.0),
)


def profile(**fields: Any) -> LoadProfile:
    basic = {
        "callers": ("*",),
        "callees": ("*",),
        "arrival": Arrival(rate=20.0),
        "hold": HoldTime(mean=3.0),
        "mix": MIX,
        "duration": 60.0,
    }
    return LoadProfile(**basic | fields)


def pairs(run: LoadProfile) -> Pairs:
    return pairs_of(run, PHONES)


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """Of spans from a start to an end."""
    changes = sorted(change for start, end in spans for change in ((end, -1), (start, 1)))
    up = most = 0
    for _, change in changes:
        up += change
        most = max(most, up)
    return most


def spans(run: LoadProfile) -> list[tuple[float, float]]:
    """From when to when each call would be up."""
    found = []
    for call in schedule(run, pairs(run)):
        ringing = call.entry.after or 0.0
        up = ringing + (call.hold if call.entry.answered else 0.0)
        found.append((call.intended, call.intended + up))
    return found


def test_a_run_call_by_call() -> None:
    run = profile(warm_up=10.0)
    calls = list(schedule(run, pairs(run)))
    assert [call.number for call in calls] == list(range(1, 1201))
    assert [call.intended for call in calls] == [number / 20 for number in range(1200)]
    assert Counter(call.entry.name for call in calls) == quotas_of(run)
    assert quotas_of(run) == {"answer": 720, "busy": 240, "no_answer": 120, "cancel": 120}
    assert Counter(call.caller for call in calls) == dict.fromkeys(
        (phone.name for phone in PHONES), 60
    )
    assert sum(call.warm_up for call in calls) == 200
    assert all(call.caller != call.callee.phone for call in calls)
    assert calls == list(schedule(run, pairs(run)))


def test_another_seed_is_another_run_with_the_same_mix() -> None:
    one, other = (list(schedule(run, pairs(run))) for run in (profile(seed=1), profile(seed=2)))
    assert one != other
    assert Counter(call.entry for call in one) == Counter(call.entry for call in other)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"mix": (Entry(),)},
        {"arrival": Arrival(rate=20.0, poisson=True)},
        {"hold": HoldTime(kind="exponential", mean=3.0)},
        {"hold": HoldTime(kind="normal", mean=3.0, spread=2.0), "pairing": "random"},
        {
            "arrival": Arrival(
                stages=(
                    Stage(rate=40.0, seconds=30.0, ramp=True),
                    Stage(rate=0.0, seconds=30.0, ramp=True),
                )
            )
        },
    ],
    ids=["even", "answered", "poisson", "exponential", "random", "ramps"],
)
def test_a_run_has_as_many_calls_at_once_as_expected(fields: dict[str, Any], seed: int) -> None:
    run = profile(seed=seed, **fields)
    expected = expected_calls(run)
    most = most_at_once(spans(run))
    # "Hardly ever exceeded" is a bound for one moment; a run has some hundred independent ones.
    assert expected.average - 1 <= most <= expected.most + 5
