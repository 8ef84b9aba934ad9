"""What becomes of a phone that died: its part of a herd file.  All durations are seconds."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import msgspec

__all__ = ["Backoff", "RestartPolicy", "RestartSpec"]

RestartPolicy: TypeAlias = Literal["permanent", "transient", "temporary"]

_DAY = 86400.0


def check_policy(policy: str) -> None:
    if policy not in get_args(RestartPolicy):
        raise ValueError("expected permanent, transient or temporary")


def check_max(restarts: int) -> None:
    if not 1 <= restarts <= 1000:
        raise ValueError("expected 1 to 1000 restarts; policy temporary has none")


def check_span(seconds: float) -> None:
    if not 0 < seconds <= _DAY:
        raise ValueError("expected more than 0 and at most 24h")


def check_reset_after(seconds: float) -> None:
    if not 0 <= seconds <= _DAY:
        raise ValueError("expected 0 to 24h")


class Backoff(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long restarts wait: the first does not, each later one twice as long as the one before.

    Attributes:
        first: seconds before the second restart.
        cap: seconds that no restart waits longer than.
    """

    first: float = 0.1
    cap: float = 30.0

    def __post_init__(self) -> None:
        for field in ("first", "cap"):
            try:
                check_span(getattr(self, field))
            except ValueError as error:
                raise ValueError(f"{field} {getattr(self, field)!r}: {error}") from None
        if self.first > self.cap:
            raise ValueError(f"first {self.first:g}: expected at most cap, {self.cap:g} s")


class RestartSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a phone that died is started again.

    Attributes:
        policy: after every death (permanent), after an abnormal one (transient), or never
            (temporary).
        max: restarts within `within`; the next death exhausts them.
        within: seconds of the sliding window.
        backoff: how long restarts wait.
        reset_after: seconds READY after which the back-off begins anew.
        exhausted: `park` the phone (FAILED) until somebody resets it, or go on `slow`ly: one
            restart every `backoff.cap`, for ever.
    """

    policy: RestartPolicy = "transient"
    max: int = 5
    within: float = 30.0
    backoff: Backoff = Backoff()
    reset_after: float = 10.0
    exhausted: Literal["park", "slow"] = "park"

    def __post_init__(self) -> None:
        for field, check in (
            ("policy", check_policy),
            ("max", check_max),
            ("within", check_span),
            ("reset_after", check_reset_after),
        ):
            try:
                check(getattr(self, field))
            except ValueError as error:
                raise ValueError(f"{field} {getattr(self, field)!r}: {error}") from None
        if self.exhausted not in ("park", "slow"):
            raise ValueError(f"exhausted {self.exhausted!r}: expected park or slow")
