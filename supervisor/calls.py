"""The call desk: every call of the herd, whose it is, and who waits for the next one.

A call belongs to the client that placed it, or that took it from the queue.  An incoming call
that no client awaits stands in its phone's queue, oldest first; each goes to exactly one waiter,
the one that has waited longest.
"""

from __future__ import annotations

import difflib
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from ..protocol.errors import CallNotFound
from ..protocol.events import (
    Answered,
    CallEnded,
    CallEvent,
    CallPlaced,
    CancelResolved,
    DtmfReceived,
    Held,
    IncomingCall,
    Progress,
    Retrieved,
)
from ..protocol.messages import CallInfo
from ..protocol.states import CALL_MOVES, CallState, check_move
from .requests import Request

__all__ = ["REMEMBERED", "CallDesk", "CallRecord", "Waiter"]

REMEMBERED = 1000
"""Ended calls that can still be asked about."""
DIGITS_KEPT = 256
"""DTMF digits of a call that are remembered."""


@dataclass(slots=True, eq=False)
class CallRecord:
    """One leg; ``key`` is its name in the worker, ``info`` what clients see."""

    id: str
    key: str
    phone: str
    info: CallInfo
    owner: bytes | None = None
    """The client whose death ends it; None for detached calls and behaviours."""
    taken: bool = False
    """An incoming call that was handed to a client."""
    shown: bool = False
    """One of a phone that acts by itself, of which a client was told; it stays the phone's."""

    @property
    def state(self) -> CallState:
        return self.info.state

    def apply(self, event: CallEvent, now: float) -> None:
        """Move on by one event of the worker."""
        changes: dict[str, Any] = {}
        match event:
            case CallPlaced():
                changes = {
                    "sip_call_id": event.sip_call_id,
                    "to_uri": event.request_uri,
                }
            case IncomingCall():
                changes = {
                    "sip_call_id": event.sip_call_id,
                    "from_uri": event.from_uri,
                    "from_display": event.from_display,
                    "to_uri": event.to_uri,
                }
            case Progress():
                changes = {"code": event.code, "reason": event.reason}
                if self.state is CallState.CALLING:
                    changes["state"] = CallState.RINGING
            case Answered():
                codec = event.codec or self.info.codec
                changes = {"code": event.code, "reason": "", "codec": codec}
                changes |= {"rtp_port": event.rtp_port} if event.rtp_port else {}
                # A late offer tells its codec with the ACK: Answered comes a second time.
                if self.state is not CallState.ANSWERED:
                    changes |= {"state": CallState.ANSWERED, "answered": now}
            case CancelResolved():
                changes = {"cancel_outcome": event.outcome}
            case Held(by=by):
                changes = {"held": tuple(sorted({*self.info.held, by}))}
            case Retrieved(by=by):
                changes = {"held": tuple(side for side in self.info.held if side != by)}
            case DtmfReceived(digit=digit):
                changes = {"digits": (self.info.digits + digit)[-DIGITS_KEPT:]}
            case CallEnded():
                changes = {
                    "state": CallState.ENDED,
                    "ended": now,
                    "cause": event.cause,
                    "code": event.code if event.code is not None else self.info.code,
                    "reason": event.reason or self.info.reason,
                    "by": event.by,
                    "bye_answered": event.bye_answered,
                    "media": event.media,
                }
        if "state" in changes:
            check_move(CALL_MOVES, self.state, changes["state"])
        if changes:
            self.info = msgspec.structs.replace(self.info, **changes)


@dataclass(slots=True, eq=False)
class Waiter:
    """A client that awaits an incoming call of one of ``phones`` (any if empty)."""

    request: Request
    phones: frozenset[str]


class CallDesk:
    """All calls, queues and waiters."""

    def __init__(self) -> None:
        self._calls: dict[str, CallRecord] = {}
        self._ended: OrderedDict[str, CallRecord] = OrderedDict()
        self._queues: dict[str, deque[CallRecord]] = {}
        self._waiters: dict[Waiter, None] = {}
        """In the order in which they began to wait."""
        self._last = 0

    def __len__(self) -> int:
        return len(self._calls)

    def open(
        self,
        phone: str,
        direction: Literal["out", "in"],
        now: float,
        *,
        key: str = "",
        target: str = "",
        owner: bytes | None = None,
    ) -> CallRecord:
        """A new leg with the next id of the herd; an outgoing one is known by it to the worker."""
        self._last += 1
        id = f"c{self._last}"
        info = CallInfo(
            call=id,
            phone=phone,
            direction=direction,
            state=CallState.CALLING if direction == "out" else CallState.RINGING,
            target=target,
            started=now,
        )
        call = CallRecord(id, key or id, phone, info, owner)
        self._calls[id] = call
        return call

    def close(self, call: CallRecord) -> None:
        """The leg is over: out of the queue, kept a while for questions."""
        self._calls.pop(call.id, None)
        self.unqueue(call)
        self._ended[call.id] = call
        while len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)

    def forget(self, call: CallRecord) -> None:
        """A leg that never came to be."""
        self._calls.pop(call.id, None)

    def find(self, id: str) -> CallRecord:
        """A call that is up or ended lately.  Raises CallNotFound."""
        call = self._calls.get(id) or self._ended.get(id)
        if call is None:
            raise CallNotFound(id, tuple(difflib.get_close_matches(id, self._calls, n=3)))
        return call

    def current(self) -> Iterable[CallRecord]:
        """Calls that are not over, oldest first."""
        return self._calls.values()

    def owned_by(self, client: bytes) -> list[CallRecord]:
        return [call for call in self._calls.values() if call.owner == client]

    # -- queue and waiters -----------------------------------------------------------------------

    def waiting(self, phone: str) -> int:
        """Calls in the phone's queue."""
        return len(self._queues.get(phone, ()))

    def queue(self, call: CallRecord, *, first: bool = False) -> None:
        """Put a call behind the others, or before them when its client died."""
        queue = self._queues.setdefault(call.phone, deque())
        if first:
            queue.appendleft(call)
        else:
            queue.append(call)

    def unqueue(self, call: CallRecord) -> None:
        queue = self._queues.get(call.phone)
        if queue is not None and call in queue:
            queue.remove(call)
            if not queue:
                del self._queues[call.phone]

    def take(self, phones: frozenset[str]) -> CallRecord | None:
        """The oldest waiting call of these phones (any if empty), out of the queue."""
        names = phones or self._queues.keys()
        heads = [self._queues[name][0] for name in names if name in self._queues]
        if not heads:
            return None
        call = min(heads, key=lambda call: call.info.started)
        self.unqueue(call)
        return call

    def await_call(self, waiter: Waiter) -> None:
        """Line up behind the others."""
        self._waiters[waiter] = None

    def withdraw(self, waiter: Waiter) -> None:
        """Leave the line."""
        self._waiters.pop(waiter, None)

    def waiter_for(self, phone: str, *, by_name: bool = False) -> Waiter | None:
        """Who has waited longest for a call of this phone; ``by_name``: of this one expressly."""
        for waiter in self._waiters:
            if phone in waiter.phones or not (waiter.phones or by_name):
                return waiter
        return None

    def waiters_on(self, phone: str) -> list[Waiter]:
        """Those that wait for this phone and no other."""
        return [waiter for waiter in self._waiters if waiter.phones == {phone}]
