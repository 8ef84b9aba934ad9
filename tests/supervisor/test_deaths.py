"""Causes of death in words."""

from __future__ import annotations

import signal

import pytest

from sipherd.protocol.events import BehaviourFailed
from sipherd.supervisor.deaths import describe

SENT = {int(signal.SIGABRT): "hung: no progress for 30 s"}


@pytest.mark.parametrize(
    ("exit_code", "number", "words"),
    [
        (3, None, "exit code 3"),
        (78, None, "exit code 78 (it refused its configuration)"),
        (None, signal.SIGSEGV, "SIGSEGV"),
        (None, signal.SIGKILL, "SIGKILL (perhaps out of memory)"),
        (None, signal.SIGABRT, "hung: no progress for 30 s"),
        (None, 50, "signal 50"),
        (None, None, "unknown"),
    ],
)
def test_cause(exit_code: int | None, number: int | None, words: str) -> None:
    assert describe(exit_code, number, SENT) == words


@pytest.mark.parametrize(
    ("exit_code", "number", "is_loaded", "words"),
    [
        (76, None, True, "its behaviour watch failed: ValueError: boom"),
        (78, None, False, "its behaviour watch can't be loaded: ValueError: boom"),
        (77, None, True, "out of memory"),
        (3, None, True, "exit code 3"),
        (None, signal.SIGSEGV, True, "SIGSEGV"),
    ],
)
def test_cause_where_a_behaviour_failed(
    exit_code: int | None, number: int | None, is_loaded: bool, words: str
) -> None:
    failed = BehaviourFailed(
        name="watch", error="ValueError: boom", traceback="", is_loaded=is_loaded
    )
    assert describe(exit_code, number, failure=failed) == words
