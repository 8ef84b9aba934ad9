"""Causes of death in words."""

from __future__ import annotations

import signal

import pytest

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
