"""What `sipherd up` writes for each event: a line, a progress line that is rewritten, or nothing.

A view is called by a thread of the supervisor and must not take long or raise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, TypeAlias

from .protocol.events import (
    BoxOverloaded,
    BoxRecovered,
    Event,
    HerdReady,
    HerdStopping,
    LimitReached,
    NurseryDied,
    PhoneAdded,
    PhoneDied,
    PhoneLate,
    PhoneMoved,
    PhoneRemoved,
    PortSkipped,
    Registered,
    RegistrationFailed,
    RtpPairSkipped,
    flatten,
)
from .protocol.states import PhoneState
from .render import as_json, event_line

__all__ = ["AsProgress", "View", "as_lines", "as_records", "only_trouble"]

View: TypeAlias = Callable[[Event], str | None]

#: States that a phone comes through or ends in without having a process.
_DOWN = (PhoneState.STOPPED, PhoneState.FAILED)
#: States of which a line before has told, or one behind will.
_PASSING = (PhoneState.STARTING, PhoneState.DRAINING, PhoneState.BACKOFF)


def as_records(event: Event) -> str:
    """Every event as one JSON object on a line of its own."""
    return as_json(flatten(event)) + "\n"


def as_lines(event: Event) -> str | None:
    """A line for every event that says something new to a reader of a log."""
    match event.body:
        case PhoneAdded():
            return None
        case PhoneMoved(state=state) if state in _PASSING:
            return None
        case Registered(refresh=True):
            return None
    return event_line(event) + "\n"


def only_trouble(event: Event) -> str | None:
    """Skipped ports, and what died or failed."""
    match event.body:
        case PortSkipped() | RtpPairSkipped() | PhoneDied() | NurseryDied() | RegistrationFailed():
            return event_line(event) + "\n"
        case PhoneMoved(state=PhoneState.FAILED) | PhoneLate() | LimitReached():
            return event_line(event) + "\n"
        case BoxOverloaded() | BoxRecovered():
            return event_line(event) + "\n"
    return None


class AsProgress:
    """For a terminal: while many phones come or go one line counts them, then a line per event.

    The progress line ends with a carriage return: what somebody else writes goes over it.
    """

    _ERASE = "\x1b[K"
    _HINTS: ClassVar[dict[type, str]] = {
        HerdReady: "; Ctrl-C stops them",
        HerdStopping: "; Ctrl-C again does not wait",
    }

    def __init__(self) -> None:
        self._states: dict[str, PhoneState] = {}
        self._registered: set[str] = set()
        self._counted = "ready"
        """What the progress line counts; "" while there is none."""
        self._total = 0

    def __call__(self, event: Event) -> str | None:
        if self._note(event):
            return self._progress() or None
        hint = self._HINTS.get(type(event.body), "")
        line = self._ERASE + event_line(event, colour=True) + hint + "\n"
        return line + self._progress()

    def _note(self, event: Event) -> bool:
        """Take the event in; whether the progress line says it all."""
        match event.body:
            case PhoneAdded():
                self._states[event.phone] = PhoneState.NEW
                return True
            case PhoneMoved(state=state):
                self._states[event.phone] = state
                return state in _PASSING or self._counted == state.value
            case Registered(refresh=refresh):
                self._registered.add(event.phone)
                return refresh or self._counted == "ready"
            case PhoneRemoved():
                self._states.pop(event.phone, None)
                return self._counted == "ready"  # a creation is being taken back
            case HerdReady():
                self._counted = ""
            case HerdStopping():
                self._counted = "stopped"
                self._total = self._up()
        return False

    def _up(self) -> int:
        """Phones that have a process, or wait for one."""
        return sum(state not in _DOWN for state in self._states.values())

    def _progress(self) -> str:
        if not self._counted:
            return ""
        if self._counted == "ready":
            total = len(self._states)
            count = sum(state is PhoneState.READY for state in self._states.values())
        else:
            total, count = self._total, self._total - self._up()
        text = f"{self._ERASE}{count}/{total} phones {self._counted}"
        if self._counted == "ready" and self._registered:
            text += f", {len(self._registered)} registered"
        if self._counted == "stopped" and count == total:
            self._counted = ""
            return text + "\n"
        return text + "\r"
