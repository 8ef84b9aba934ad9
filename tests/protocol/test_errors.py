"""Messages of the errors."""

from __future__ import annotations

import copy
import pickle

import pytest

from sipherd.protocol.errors import (
    CallFailed,
    CallNotFound,
    CommandRefused,
    EventsMissed,
    HerdFileError,
    HerdNotStarted,
    PhoneNotFound,
    SipherdError,
    TimedOut,
)


def test_not_found_lists_near_names() -> None:
    error = PhoneNotFound("bobb", ["bob", "bob2"])
    assert str(error) == 'no phone "bobb"; near: bob, bob2'
    assert str(copy.copy(error)) == str(error)
    assert isinstance(error, SipherdError)
    assert isinstance(error, LookupError)
    assert str(CallNotFound("c17")) == 'no call "c17"'


def test_a_herd_file_error_has_a_line_per_problem() -> None:
    error = HerdFileError(["a", "b"])
    assert error.problems == ["a", "b"]
    assert str(error) == "a\nb"


def test_a_failed_call_says_why() -> None:
    def why(cause: str, code: int | None = None, reason: str = "") -> str:
        return CallFailed("c1", cause, code, reason).why

    assert why("rejected", 486, "Busy Here") == "486 Busy Here"
    assert why("rejected", 499) == "499"
    assert why("no_answer", 487, "Request Terminated") == "487 Request Terminated (no answer)"
    assert why("phone_crashed", 180, "Ringing") == "phone crashed"
    assert why("unreachable") == "unreachable"


def test_what_was_awaited() -> None:
    error = TimedOut("an incoming call at bob", 0.3)
    assert str(error) == "an incoming call at bob: not within 0.3 s"
    assert isinstance(error, TimeoutError)


@pytest.mark.parametrize(
    "error",
    [
        TimedOut("x", 1),
        CommandRefused("no_port", "x"),
        CallFailed("c1", "rejected", 486, "Busy Here"),
        EventsMissed(3, 5),
        HerdNotStarted("why", 2),
    ],
    ids=repr,
)
def test_an_error_can_be_copied(error: SipherdError) -> None:
    """As a process pool does it to bring an error home."""
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert vars(again) == vars(error)
