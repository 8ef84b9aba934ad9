"""What an attempt needs of the run it is part of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

from ..protocol.messages import ClientRequest, PlayAudio, Result
from .legs import Leg

if TYPE_CHECKING:
    from .attempt import Attempt

__all__ = ["Desk", "Done", "Refused", "Timer"]

Done: TypeAlias = Callable[[Result], None]
Refused: TypeAlias = Callable[[str, str], None]


class Timer:
    """Something to be done later, unless it is cancelled."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """It is not done, and holds on to nothing any more."""
        self.action = None


class Desk(Protocol):
    """What an attempt needs of its run."""

    now: float
    origin: float
    """When the run began, on the clock of `now`."""

    def ask(
        self, body: ClientRequest, done: Done, refused: Refused, timeout: float | None = 60.0
    ) -> None:
        """Send a command."""

    def at(self, time: float, action: Callable[[], None]) -> Timer:
        """Do something at `time`."""

    def placing(self, phone: str, more: int) -> None:
        """One more, or one less, PlaceCall of the phone is unanswered."""

    def follow(self, leg: Leg, attempt: Attempt) -> None:
        """Tell the attempt what happens to the leg from here on, and what has already."""

    def look(self, leg: Leg) -> None:
        """Ask the herd how the leg is, for too little was heard of it."""

    def expect(self, attempt: Attempt, phone: str, user: str, *, known: bool = True) -> None:
        """A call of the attempt is on its way to a phone of the herd; see `Expected`."""

    def know(self, attempt: Attempt, phone: str, sip_call_id: str) -> None:
        """The Call-ID of the one that was expected last at this phone."""

    def plays(self, phone: str) -> PlayAudio | None:
        """What a phone of the herd plays in a call that is up; None: nothing."""

    def user(self, phone_or_target: str) -> str:
        """The user part of whose From a phone has, or of a URI or a number that is called."""

    def phone_of(self, target: str) -> str:
        """Name of the herd's phone that is called by this name, number or URI; or empty."""

    def started(self, attempt: Attempt) -> None:
        """Its INVITE is on its way."""

    def answered(self) -> None:
        """The caller got its 2xx."""

    def settled(self, attempt: Attempt) -> None:
        """Its caller's leg is over: it counts no longer as one of those at the same time."""

    def finished(self, attempt: Attempt) -> None:
        """All of it is over."""
