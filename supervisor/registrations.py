"""Registrations: what is known of each phone's, and whose REGISTER may go out next.

A phone registers by itself; here is only what the herd has to say about it.  Each REGISTER that is
not the answer to a challenge needs a slot, so that five hundred phones that come up together, or
whose registrar comes back, do not storm it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from ..protocol.events import (
    Registered,
    RegistrationEvent,
    RegistrationFailed,
    Unregistered,
)
from ..protocol.messages import RegistrationState
from .timers import Timers

__all__ = ["RegisterSlots", "Registration"]


@dataclass(slots=True)
class Registration:
    """What the phone said last of its registration."""

    state: RegistrationState = ""
    expires_at: float | None = None
    """When the registrar forgets the phone unless it is refreshed."""
    why: str = ""
    retry_at: float | None = None
    """For ``failed``: when the phone tries again; None: when it is told to."""

    def apply(self, event: RegistrationEvent, t: float) -> None:
        """Note an event that happened at ``t``."""
        self.retry_at = None
        match event:
            case Registered(expires=expires):
                self.state, self.expires_at, self.why = "registered", t + expires, ""
            case RegistrationFailed(retry_in=retry_in):
                # A binding that is still alive is kept until it expires.
                self.state, self.why = "failed", failure(event)
                self.retry_at = None if retry_in is None else t + retry_in
            case Unregistered():
                self.state, self.expires_at, self.why = "unregistered", None, ""

    def retry_in(self, now: float) -> float | None:
        """Seconds until it tries again by itself, if it does."""
        return None if self.retry_at is None else max(self.retry_at - now, 0.0)

    def expires_in(self, now: float) -> float | None:
        """Seconds that the registrar still knows the phone; None if it does not."""
        if self.expires_at is None or self.expires_at <= now:
            return None
        return self.expires_at - now


def failure(event: RegistrationFailed) -> str:
    """Why a registration failed, for people: `403 Forbidden`, or the cause in words."""
    if event.code is not None:
        return f"{event.code} {event.reason}".rstrip()
    return event.cause.replace("_", " ")


class RegisterSlots:
    """Gives out turns to send a REGISTER, evenly, at most ``rate`` per second.

    ``grant(phone, incarnation)`` is told whose turn it is.
    """

    def __init__(self, rate: float, timers: Timers, grant: Callable[[str, int], None]) -> None:
        self.set_rate(rate)
        self._timers = timers
        self._grant = grant
        self._waiting: OrderedDict[str, int] = OrderedDict()
        """Incarnation by phone, in the order in which they asked."""
        self._free_at = 0.0

    def __len__(self) -> int:
        """Phones that wait for their turn."""
        return len(self._waiting)

    def set_rate(self, rate: float) -> None:
        """From the next turn on."""
        self._interval = 1.0 / rate

    def ask(self, phone: str, incarnation: int, now: float) -> None:
        """A phone wants to send one; it is told at once if nobody is before it."""
        if not self._waiting and self._free_at <= now:
            self._free_at = now + self._interval
            self._grant(phone, incarnation)
            return
        if not self._waiting:
            self._timers.at(self._free_at, self._on_free)
        # One that asks again has been restarted: it keeps its place.
        self._waiting[phone] = incarnation

    def _on_free(self) -> None:
        phone, incarnation = self._waiting.popitem(last=False)
        self._free_at += self._interval
        if self._waiting:
            self._timers.at(self._free_at, self._on_free)
        self._grant(phone, incarnation)
