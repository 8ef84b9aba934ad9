"""The restart policy: which deaths are followed by which restarts, and when."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipherd.protocol.exits import WorkerExit
from sipherd.protocol.restart_spec import Backoff, RestartSpec
from sipherd.supervisor.restarts import (
    BURST,
    JITTER,
    Decision,
    Ending,
    Restarts,
    SpawnLimit,
    ending,
)

CLEAN, REFUSED, ABNORMAL = Ending.CLEAN, Ending.REFUSED, Ending.ABNORMAL


def restarts(jitter: float = 0.0, **keys: object) -> Restarts:
    return Restarts(RestartSpec(**keys), lambda: jitter)  # type: ignore[arg-type]


# -- which deaths --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "end"),
    [
        (0, CLEAN),
        (1, ABNORMAL),
        (int(WorkerExit.CONFIGURATION), REFUSED),
        (3, ABNORMAL),
        (None, ABNORMAL),
    ],
)
def test_what_an_exit_code_says(code: int | None, end: Ending) -> None:
    assert ending(code) is end


@pytest.mark.parametrize("served", [None, 0.5, 60.0])
@pytest.mark.parametrize(
    ("policy", "end", "action"),
    [
        ("permanent", CLEAN, "restart"),
        ("permanent", ABNORMAL, "restart"),
        ("permanent", REFUSED, "park"),
        ("transient", CLEAN, "leave"),
        ("transient", ABNORMAL, "restart"),
        ("transient", REFUSED, "park"),
        ("temporary", CLEAN, "leave"),
        ("temporary", ABNORMAL, "park"),
        ("temporary", REFUSED, "park"),
    ],
)
def test_kind_of_end_and_policy(
    policy: str, end: Ending, action: str, served: float | None
) -> None:
    assert restarts(policy=policy).decide(end, 1.0, served=served).action == action


# -- when ----------------------------------------------------------------------------------------


def test_the_first_restart_is_immediate_and_the_others_ever_later() -> None:
    policy = restarts(max=12, within=1000.0)
    decisions = [policy.decide(ABNORMAL, 1.0, served=0.0) for _ in range(12)]
    assert [decision.delay for decision in decisions] == pytest.approx(
        [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30]
    )


def test_jitter_takes_something_off() -> None:
    policy = restarts(jitter=1.0, max=3)
    delays = [policy.decide(ABNORMAL, 1.0, served=0.0).delay for _ in range(3)]
    assert delays == pytest.approx([0, 0.1 * (1 - JITTER), 0.2 * (1 - JITTER)])


def test_the_back_off_begins_anew_after_some_time_ready() -> None:
    policy = restarts()
    for _ in range(3):
        policy.decide(ABNORMAL, 1.0, served=0.0)
    assert policy.decide(ABNORMAL, 11.0, served=9.9).delay == pytest.approx(0.4)
    assert policy.decide(ABNORMAL, 21.0, served=10.0).delay == 0.0


def test_the_first_of_a_window_is_immediate_though_it_served_for_less() -> None:
    policy = restarts(reset_after=100.0)
    assert policy.decide(ABNORMAL, 0.0, served=1.0).delay == 0.0
    assert policy.decide(ABNORMAL, 29.9, served=29.9).delay > 0.0
    assert policy.decide(ABNORMAL, 59.9, served=29.9).delay == 0.0


# -- exhausted -----------------------------------------------------------------------------------


def test_the_sixth_death_within_30_s_parks() -> None:
    policy = restarts()
    for now in range(5):
        assert policy.decide(ABNORMAL, float(now), served=0.5).action == "restart"
    last = policy.decide(ABNORMAL, 29.9, served=0.5)
    assert last == Decision("park", why="5 restarts within 30 s")


def test_the_window_slides() -> None:
    policy = restarts()
    for now in range(5):
        policy.decide(ABNORMAL, float(now), served=0.5)
    # Only that at 0 s has left the window.
    assert policy.decide(ABNORMAL, 30.0, served=0.5).action == "restart"
    assert policy.decide(ABNORMAL, 30.5, served=0.5).action == "park"


def test_starts_that_hang_are_exhausted_though_no_window_has_that_many() -> None:
    policy = restarts()
    assert policy.decide(ABNORMAL, 0.0, served=60.0).action == "restart"
    actions = [policy.decide(ABNORMAL, 40.0 * n, served=None).action for n in range(1, 6)]
    assert actions == ["restart"] * 4 + ["park"]


def test_slow_goes_on_at_the_cap_until_it_serves_again() -> None:
    policy = restarts(max=2, exhausted="slow", backoff=Backoff(first=0.1, cap=5.0))
    now = 0.0
    decisions = []
    for _ in range(20):
        decisions.append(policy.decide(ABNORMAL, now, served=0.1))
        now += decisions[-1].delay + 0.1
    assert [d.delay for d in decisions] == pytest.approx([0.0, 0.1] + [5.0] * 18)
    assert [d.slow for d in decisions] == [False] * 2 + [True] * 18
    # An empty window alone is no reason to hurry.
    assert policy.decide(ABNORMAL, now + 100.0, served=9.0).delay == 5.0
    assert policy.decide(ABNORMAL, now + 200.0, served=10.0) == Decision("restart")


def test_clear_forgets_all() -> None:
    policy = restarts(max=1)
    policy.decide(ABNORMAL, 1.0, served=0.1)
    assert policy.decide(ABNORMAL, 1.0, served=0.1).action == "park"
    policy.clear()
    assert policy.decide(ABNORMAL, 1.0, served=0.1) == Decision("restart")


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        (Decision("restart"), "restart now"),
        (Decision("restart", 0.075), "restart in 0.07 s"),
        (Decision("restart", 0.4), "restart in 0.4 s"),
        (Decision("restart", 29.6, slow=True), "restart in 30 s"),
        (Decision("park", why="5 restarts within 30 s"), "parked: 5 restarts within 30 s"),
        (Decision("park"), "parked"),
        (Decision("leave"), "stopped"),
    ],
)
def test_the_next_action_in_words(decision: Decision, words: str) -> None:
    assert str(decision) == words


DEATHS = st.lists(
    st.tuples(
        st.floats(0, 40),  # seconds since the last one
        st.booleans(),  # whether it came up
        st.sampled_from([ABNORMAL, CLEAN]),
    ),
    max_size=60,
)


@given(
    deaths=DEATHS,
    limit=st.integers(1, 8),
    within=st.floats(1, 60),
    reset_after=st.floats(0, 30),
    jitter=st.floats(0, 1),
)
def test_no_window_has_more_restarts_than_allowed(
    deaths: list[tuple[float, bool, Ending]],
    limit: int,
    within: float,
    reset_after: float,
    jitter: float,
) -> None:
    policy = restarts(jitter, policy="permanent", max=limit, within=within, reset_after=reset_after)
    now, restarted = 100.0, list[float]()
    for gap, came_up, end in deaths:
        now += gap
        decision = policy.decide(end, now, served=gap if came_up else None)
        recent = [at for at in restarted if at > now - within]
        assert len(recent) <= limit
        if decision.action == "park":
            # Never earlier than allowed, but for starts that did not come up.
            assert len(recent) == limit or "in a row" in decision.why
            continue
        assert 0 <= decision.delay <= 30
        assert len(recent) < limit
        if came_up and not recent:
            assert decision.delay == 0
        restarted.append(now)


@given(deaths=DEATHS, jitter=st.floats(0, 1))
def test_slow_never_gives_up(deaths: list[tuple[float, bool, Ending]], jitter: float) -> None:
    policy = restarts(jitter, policy="permanent", exhausted="slow")
    now = 0.0
    for gap, came_up, end in deaths:
        now += gap
        decision = policy.decide(end, now, served=gap if came_up else None)
        assert decision.action == "restart"
        assert not decision.slow or decision.delay >= 30 * (1 - JITTER) - 1e-9


# -- the spawn limit -----------------------------------------------------------------------------


def test_a_few_at_once_and_then_one_after_the_other() -> None:
    limit = SpawnLimit(50.0)
    turns = [limit.reserve(1.0) for _ in range(BURST + 3)]
    assert turns[:BURST] == pytest.approx([1.0] * BURST)
    assert turns[BURST:] == pytest.approx([1.02, 1.04, 1.06])
    # A pause fills it again, and no fuller.
    turns = [limit.reserve(100.0) for _ in range(BURST + 1)]
    assert turns == pytest.approx([100.0] * BURST + [100.02])


@given(
    gaps=st.lists(st.floats(0, 2), min_size=1, max_size=80),
    rate=st.floats(0.5, 1000),
    burst=st.integers(1, 20),
)
def test_no_second_has_more_than_the_rate_and_a_burst(
    gaps: list[float], rate: float, burst: int
) -> None:
    limit = SpawnLimit(rate, burst)
    asked = list(itertools.accumulate(gaps))
    turns = [limit.reserve(now) for now in asked]
    assert turns == sorted(turns)
    assert all(turn >= now for turn, now in zip(turns, asked, strict=True))
    for first, begin in enumerate(turns):
        for count, end in enumerate(turns[first:], 1):
            assert count <= burst + (end - begin) * rate + 1e-6
