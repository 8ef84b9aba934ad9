"""The calls of one user agent: found by their key, or by what a message says of its dialog."""

from __future__ import annotations

from collections.abc import Iterator

from ...protocol.events import EndCause
from ..stack import StackRefusal
from .callee import CalleeLeg
from .caller import CallerLeg
from .leg import Leg, LegState
from .message import Message
from .replaces import Replaces
from .uri import UriError

__all__ = ["Calls"]

_REMEMBERED = 64
"""Ended calls whose end is remembered, so that a late command is refused with the right reason."""


class Calls:
    """Calls that have not ended, and a memory of some that have."""

    def __init__(self) -> None:
        self._legs: dict[str, Leg] = {}
        self._dialogs: dict[tuple[str, str], Leg] = {}
        """Legs by Call-ID and our own tag."""
        self._ended: dict[str, str] = {}
        self._gone: dict[tuple[str, str], str] = {}
        """The other tag of dialogs that have ended, by Call-ID and our own tag."""

    def __len__(self) -> int:
        return len(self._legs)

    def __iter__(self) -> Iterator[Leg]:
        return iter(list(self._legs.values()))

    def __contains__(self, call: object) -> bool:
        return call in self._legs

    def add(self, leg: Leg) -> None:
        """A new call."""
        self._legs[leg.key] = leg
        self._dialogs[leg.call_id, leg.local_tag] = leg

    def forget(self, leg: Leg, cause: EndCause) -> None:
        """The call has ended."""
        self._legs.pop(leg.key, None)
        self._dialogs.pop((leg.call_id, leg.local_tag), None)
        self._ended[leg.key] = (
            "cancelled" if cause in ("cancelled", "answered_elsewhere") else "already_ended"
        )
        if leg.dialog is not None:
            self._gone[leg.call_id, leg.local_tag] = leg.dialog.remote_tag
        if len(self._ended) > _REMEMBERED:
            del self._ended[next(iter(self._ended))]
        if len(self._gone) > _REMEMBERED:
            del self._gone[next(iter(self._gone))]

    def find(self, call: str) -> Leg | None:
        """The call with this key, if it has not ended."""
        return self._legs.get(call)

    def with_tag(self, call_id: str, local_tag: str) -> Leg | None:
        """The call with this Call-ID and this tag of ours."""
        return self._dialogs.get((call_id, local_tag))

    def leg(self, call: str) -> Leg:
        """Raises StackRefusal where it has ended or never was."""
        leg = self._legs.get(call)
        if leg is not None:
            return leg
        reason = self._ended.get(call, "no_such_call")
        raise StackRefusal(reason, f"call {call}: {reason.replace('_', ' ')}")

    def callee(self, call: str) -> CalleeLeg:
        """The same for a call that came in."""
        leg = self.leg(call)
        if not isinstance(leg, CalleeLeg):
            raise StackRefusal("not_incoming", f"call {call} is an outgoing one")
        return leg

    def caller(self, call: str) -> CallerLeg:
        """The same for a call that we made."""
        leg = self.leg(call)
        if not isinstance(leg, CallerLeg):
            raise StackRefusal("not_outgoing", f"call {call} is an incoming one")
        return leg

    def replaced_by(self, invite: Message) -> tuple[int, Leg | None]:
        """The code of a refusal or 0, and the call whose place ``invite`` takes (RFC 3891 §3)."""
        values = invite.headers.values("Replaces")
        if not values:
            return 0, None
        try:
            wanted = Replaces.parse(values[0])
        except UriError:
            return 400, None
        if len(values) > 1:
            return 400, None
        leg = self.with_tag(wanted.call_id, wanted.local_tag)
        if leg is None:
            gone = self._gone.get((wanted.call_id, wanted.local_tag))
            return (603 if gone == wanted.remote_tag else 481), None
        if leg.dialog_with(wanted.remote_tag) is None:
            return 481, None
        if leg.state is LegState.ENDING:
            return 603, None
        if leg.state is LegState.RINGING:
            return 481, None  # an early dialog that we have not begun ourselves
        if wanted.early_only and leg.state in (LegState.ACCEPTED, LegState.CONFIRMED):
            return 486, None
        return 0, leg
