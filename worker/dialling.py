"""Calls before their INVITE: where they go, and who is told if they can't be placed.

A client's PlaceCall waits here until its host is known, and so does a call that the peer of another
one asked for (REFER).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..protocol.events import Address, CallEnded, EndCause, Referred
from ..protocol.messages import PlaceCall
from .reporter import Reporter
from .resolve import Resolved
from .sip.uri import is_numeric
from .stack import CallWanted, Hop, Output, Stack, StackRefusal, Target

__all__ = ["Dialling", "Wanted"]

_END_OF_REFUSED: dict[str, EndCause] = {
    "unresolved": "unresolved",
    "no_media": "no_media",
    "cancelled": "cancelled",
    "draining": "stopped",
}
"""How a call ends that the peer of another one wanted, and that was refused here."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A call that is to be placed."""

    command: int
    body: PlaceCall
    target: Target
    referred_by: str = ""
    """The call whose peer asked for it; then nobody waits for the command."""


class Dialling:
    """The calls of one phone that have no INVITE yet.

    ``invite(wanted, next_hop)`` sends it, or raises StackRefusal and nothing has happened;
    ``take`` carries out what the stack puts out; ``resolve(hop, resolved)`` calls back later.
    """

    def __init__(
        self,
        *,
        phone: str,
        stack: Stack,
        reporter: Reporter,
        resolve: Callable[[Hop, Resolved], None],
        invite: Callable[[Wanted, Address], None],
        take: Callable[[list[Output]], None],
        clock: Callable[[], float],
    ) -> None:
        self._phone = phone
        self._stack = stack
        self._reporter = reporter
        self._resolve = resolve
        self._invite = invite
        self._take = take
        self._clock = clock
        self._resolving: dict[str, Wanted] = {}
        self._referred = 0
        self._is_closed = False

    def __contains__(self, call: object) -> bool:
        return call in self._resolving

    def place(self, command: int, body: PlaceCall) -> None:
        """A client wants a call.  Raises StackRefusal."""
        self._begin(command, body, "")

    def refer(self, wanted: CallWanted) -> None:
        """The peer of a call wants us to call somebody: it is told what comes of it."""
        self._referred += 1
        key = f"t{self._referred}"
        self._reporter.report(
            Referred(call=wanted.call, new_call=key, target=wanted.target, by=wanted.by)
        )
        body = PlaceCall(phone=self._phone, target=wanted.target, call=key)
        try:
            self._begin(0, body, wanted.call)
        except StackRefusal as refusal:
            self._not_referred(wanted.call, key, refusal)

    def drop(self, call: str) -> bool:
        """Give up a call that waits for the address of its target; False if it does not."""
        wanted = self._resolving.pop(call, None)
        if wanted is None:
            return False
        why = f"call {call} was ended before its target was resolved"
        self._not_placed(wanted, StackRefusal("cancelled", why))
        return True

    def close(self) -> None:
        """The phone is being stopped: no call is placed any more."""
        self._is_closed = True
        for call in list(self._resolving):
            self._not_placed(self._resolving.pop(call), _stopped())

    def _begin(self, command: int, body: PlaceCall, referred_by: str) -> None:
        """Raises StackRefusal."""
        if self._is_closed:
            raise _stopped()
        target = self._stack.read_target(body.target, direct=body.direct)
        wanted = Wanted(command, body, target, referred_by)
        if is_numeric(target.hop.host):
            self._invite(wanted, target.hop.address)
            return
        # Known before the INVITE is sent, so that the command is refused and no call ends.
        self._resolving[body.call] = wanted
        self._resolve(target.hop, lambda found, why: self._resolved(wanted, found, why))

    def _resolved(self, wanted: Wanted, found: Sequence[Address], why: str) -> None:
        call = wanted.body.call
        if self._resolving.get(call) is not wanted:
            return  # hung up meanwhile
        del self._resolving[call]
        try:
            if not found:
                name = wanted.target.hop.host
                why = f'host "{name}" does not resolve: {why or "unknown"}'
                raise StackRefusal("unresolved", why)
            self._invite(wanted, found[0])
        except StackRefusal as refusal:
            self._not_placed(wanted, refusal)

    def _not_placed(self, wanted: Wanted, refusal: StackRefusal) -> None:
        """Tell whoever wanted the call: a client, or the peer of another call."""
        if wanted.referred_by:
            self._not_referred(wanted.referred_by, wanted.body.call, refusal)
        else:
            self._reporter.refuse(wanted.command, refusal.reason, str(refusal))

    def _not_referred(self, call: str, key: str, refusal: StackRefusal) -> None:
        self._reporter.warn("not_transferred", call=call, why=str(refusal))
        cause = _END_OF_REFUSED.get(refusal.reason, "rejected")
        self._reporter.report(CallEnded(call=key, cause=cause, by="local"))
        with contextlib.suppress(StackRefusal):  # the call in which we were asked is over
            self._take(self._stack.refer_failed(call, 503, self._clock()))


def _stopped() -> StackRefusal:
    return StackRefusal("draining", "the phone is being stopped")
