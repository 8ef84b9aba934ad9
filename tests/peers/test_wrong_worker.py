"""A worker with one thing wrong fails the scenarios that the real one passes.

This is what makes the passes of the other modules mean something: SIPp alone would not notice.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from peers.herd import HerdProcess
from peers.sipp import Sipp
from sipherd import Herd, TimedOut

StartSipp = Callable[..., Sipp]
StartHerd = Callable[..., HerdProcess]

HOSTILE = Path(__file__).parent / "hostile"
ALICE = {"name": "alice", "media": "none"}
BOB = {"name": "bob", "media": "none", "on_incoming": {"answer_after": 0}}


def wrong(fault: str) -> list[str]:
    """Command of a herd whose phones have this fault."""
    return [sys.executable, str(HOSTILE / "up.py"), fault]


@pytest.mark.parametrize(
    ("fault", "scenario"),
    [
        ("ACK:to_tag", "callee_answers"),
        ("ACK:branch", "callee_rejects_486"),
        ("ACK:cseq", "callee_answers"),
        ("BYE:to_tag", "callee_answers"),
        ("CANCEL:branch", "callee_rings_until_cancel"),
    ],
)
@pytest.mark.parametrize("is_wrong", [False, True], ids=["right", "wrong"])
def test_caller(
    start_herd: StartHerd, start_sipp: StartSipp, fault: str, scenario: str, is_wrong: bool
) -> None:
    herd = start_herd([ALICE], command=wrong(fault if is_wrong else "none"))
    sipp = start_sipp(scenario, timeout=4 if is_wrong else 20)
    with Herd.connect(herd.name) as client:
        call = client["alice"].call(sipp.uri)
        if scenario == "callee_answers":
            call.wait_answered(timeout=5)
            call.hang_up()
        elif scenario == "callee_rings_until_cancel":
            herd.wait_event(phone="alice", kind="progress")
            # No 487 comes for a wrong CANCEL, and the call goes on ending for 64*T1.
            with pytest.raises(TimedOut) if is_wrong else contextlib.nullcontext():
                call.hang_up(timeout=1 if is_wrong else 20)
        assert (sipp.wait() != 0) is is_wrong, sipp.report()


@pytest.mark.parametrize(
    ("fault", "scenario"),
    [
        ("response:to_tag", "caller_calls"),
        ("response:branch", "caller_asks_options"),
    ],
)
@pytest.mark.parametrize("is_wrong", [False, True], ids=["right", "wrong"])
def test_callee(
    start_herd: StartHerd, start_sipp: StartSipp, fault: str, scenario: str, is_wrong: bool
) -> None:
    herd = start_herd([BOB], command=wrong(fault if is_wrong else "none"))
    sipp = start_sipp(scenario, target=herd.phone("bob").target, timeout=4 if is_wrong else 20)
    assert (sipp.wait() != 0) is is_wrong, sipp.report()
