"""What a restart policy can be, in a herd file and in itself."""

from __future__ import annotations

from typing import Any

import pytest

from sipherd.protocol.errors import HerdFileError
from sipherd.protocol.herdfile import parse_herd
from sipherd.protocol.log_spec import LogSpec
from sipherd.protocol.restart_spec import Backoff, RestartSpec
from sipherd.protocol.spec import HerdSpec, PhoneSpec


def herd(text: str) -> HerdSpec:
    return parse_herd(text, "herd.yaml", {})


def phone(text: str) -> PhoneSpec:
    return herd(f"phones: [{{name: a, {text}}}]").phones[0]


def test_defaults() -> None:
    assert RestartSpec() == RestartSpec(
        policy="transient",
        max=5,
        within=30.0,
        backoff=Backoff(first=0.1, cap=30.0),
        reset_after=10.0,
        exhausted="park",
    )
    assert herd("phones: [{name: a}]").phones[0].restart == RestartSpec()


@pytest.mark.parametrize("policy", ["permanent", "transient", "temporary"])
def test_one_word_is_the_policy(policy: Any) -> None:
    assert phone(f"restart: {policy}").restart == RestartSpec(policy=policy)


def test_everything() -> None:
    found = phone(
        "restart: {policy: permanent, max: 3, within: 1m, backoff: {first: 1s, cap: 10s}, "
        "reset_after: 0, exhausted: slow}, on_parked: hold"
    )
    assert found.on_parked == "hold"
    assert found.restart == RestartSpec(
        policy="permanent",
        max=3,
        within=60.0,
        backoff=Backoff(first=1.0, cap=10.0),
        reset_after=0.0,
        exhausted="slow",
    )


def test_the_herd_s_part() -> None:
    found = herd("spawn_rate: 5\nfailed_share: 0.25\nlogs: /var/log/herd\nphones: []")
    assert (found.spawn_rate, found.failed_share) == (5.0, 0.25)
    assert found.logs == LogSpec(dir="/var/log/herd", max_size=10_000_000, keep=3)
    found = herd("logs: {dir: logs, max_size: 1.5MB, keep: 0}\nphones: []")
    assert found.logs == LogSpec(dir="logs", max_size=1_500_000, keep=0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("restart: always", "restart: 'always': expected permanent or transient or temporary"),
        ("restart: [1]", "restart: expected a mapping with policy, max,"),
        ("restart: {polcy: permanent}", "restart: unknown key 'polcy', did you mean policy"),
        ("restart: {max: 0}", "restart.max: '0': expected 1 to 1000 restarts"),
        ("restart: {within: 0}", "restart.within: '0': expected more than 0"),
        ("restart: {backoff: 1s}", "restart.backoff: expected a mapping with first, cap"),
        (
            "restart: {backoff: {first: 2s, cap: 1s}}",
            "restart.backoff: first 2: expected at most cap, 1 s",
        ),
        ("restart: {reset_after: 48h}", "restart.reset_after: '48h': expected 0 to 24h"),
        ("restart: {exhausted: stop}", "restart.exhausted: 'stop': expected park or slow"),
        ("on_parked: open", "on_parked: 'open': expected close or hold"),
    ],
)
def test_problems_of_a_phone(text: str, expected: str) -> None:
    with pytest.raises(HerdFileError) as caught:
        phone(text)
    (problem,) = caught.value.problems
    assert f"$.phones[0].{expected}" in problem.replace("phones[0]: ", "phones[0].")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("spawn_rate: 0", "$.spawn_rate: '0': expected more than 0"),
        ("failed_share: 50", "$.failed_share: '50': expected a share from 0 to 1"),
        ("logs: ''", "$.logs: '': expected the path of a directory"),
        ("logs: {keep: 3}", "$.logs: dir is missing"),
        ("logs: {dir: x, max_size: 10}", "$.logs.max_size: '10': expected at least 4096 bytes"),
        ("logs: {dir: x, max_size: 10XB}", "$.logs.max_size: '10XB': expected a size, bytes or"),
        ("logs: {dir: x, keep: -1}", "$.logs.keep: '-1': expected 0 to 100"),
    ],
)
def test_problems_of_the_herd(text: str, expected: str) -> None:
    with pytest.raises(HerdFileError) as caught:
        herd(f"{text}\nphones: []")
    (problem,) = caught.value.problems
    assert expected in problem


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: RestartSpec(policy="always"), "policy 'always': expected permanent"),  # type: ignore[arg-type]
        (lambda: RestartSpec(max=0), "max 0: expected 1"),
        (lambda: RestartSpec(within=float("nan")), "within nan: expected more"),
        (lambda: RestartSpec(exhausted="x"), "exhausted 'x': expected park"),  # type: ignore[arg-type]
        (lambda: Backoff(first=-1.0), "first -1.0: expected more"),
        (lambda: LogSpec(dir="", max_size=4096), "dir '': expected the path"),
        (lambda: PhoneSpec(name="a", on_parked="x"), "on_parked 'x': expected close"),  # type: ignore[arg-type]
        (lambda: HerdSpec(failed_share=-0.1), "failed_share -0.1: expected a share"),
    ],
)
def test_none_that_is_wrong_can_be_made(make: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        make()
