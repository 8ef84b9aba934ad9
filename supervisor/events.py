"""The herd's one event stream: numbered, remembered for a while, sent to subscribers.

No socket in here: ``flush`` hands encoded batches to the given ``send``, which says whether the
client's queue took it.  A client that reads too slowly is passed over; when it takes messages
again it is first told which numbers it missed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from ..protocol.codec import EncodedEvents, encode_event
from ..protocol.events import AnyBody, Event
from ..protocol.messages import Missed

__all__ = ["KEPT", "EventStream", "Subscription"]

KEPT = 10_000
"""Events kept for a subscriber that resumes behind a number."""
BATCH = 20
"""Events in one message at the most: with the queue of the socket it bounds what a client that
does not read costs."""


class Kept(msgspec.Struct, frozen=True, gc=False):
    """An event as readers get it: encoded once, a fourth of the object's size."""

    n: int
    phone: str
    data: bytes


@dataclass(slots=True)
class Subscription:
    """What one client wants to see."""

    client: bytes
    phones: frozenset[str]
    own: bool
    pending: deque[Kept] = field(default_factory=deque)
    missed_first: int = 0
    missed_last: int = 0

    def wants(self, event: Kept, owner: bytes | None) -> bool:
        if self.own:
            return owner == self.client
        return not self.phones or event.phone in self.phones


class EventStream:
    """Numbers events and keeps what subscribers have yet to get."""

    def __init__(self, wall: Callable[[float], float]) -> None:
        self._wall = wall
        self.n = 0
        """Number of the newest event."""
        self._kept: deque[Kept] = deque(maxlen=KEPT)
        self._subscriptions: dict[bytes, Subscription] = {}
        self.new: deque[Event] = deque(maxlen=KEPT)
        """Events the shell has not yet shown (the lines of ``up``)."""

    def emit(
        self,
        body: AnyBody,
        t: float,
        *,
        phone: str = "",
        incarnation: int = 0,
        pid: int = 0,
        owner: bytes | None = None,
    ) -> None:
        """Number and remember one happening."""
        self.n += 1
        event = Event(
            n=self.n,
            t=t,
            at=self._wall(t),
            phone=phone,
            incarnation=incarnation,
            pid=pid,
            body=body,
        )
        self.new.append(event)
        kept = Kept(event.n, phone, encode_event(event))
        self._kept.append(kept)
        for subscription in self._subscriptions.values():
            if subscription.wants(kept, owner):
                self._add(subscription, kept)

    @staticmethod
    def _add(subscription: Subscription, event: Kept) -> None:
        if len(subscription.pending) >= KEPT:
            dropped = subscription.pending.popleft()
            subscription.missed_first = subscription.missed_first or dropped.n
            subscription.missed_last = dropped.n
        subscription.pending.append(event)

    def subscribe(
        self, client: bytes, phones: frozenset[str], own: bool, after: int | None
    ) -> None:
        """Replace the client's subscription; ``after`` replays what is still kept."""
        subscription = Subscription(client, phones, own)
        if after is not None and not own:
            oldest = self._kept[0].n if self._kept else self.n + 1
            if after + 1 < oldest:
                subscription.missed_first, subscription.missed_last = after + 1, oldest - 1
            for event in self._kept:
                if event.n > after and subscription.wants(event, None):
                    subscription.pending.append(event)
        self._subscriptions[client] = subscription

    def unsubscribe(self, client: bytes) -> None:
        self._subscriptions.pop(client, None)

    def flush(self, send: Callable[[bytes, EncodedEvents | Missed], bool]) -> bool:
        """Send what is pending; returns whether something had to stay behind."""
        behind = False
        for subscription in self._subscriptions.values():
            while subscription.pending:
                if subscription.missed_last:
                    missed = Missed(first=subscription.missed_first, last=subscription.missed_last)
                    if not send(subscription.client, missed):
                        behind = True
                        break
                    subscription.missed_first = subscription.missed_last = 0
                count = min(BATCH, len(subscription.pending))
                batch = tuple(msgspec.Raw(subscription.pending[i].data) for i in range(count))
                if not send(subscription.client, EncodedEvents(events=batch)):
                    behind = True
                    break
                for _ in range(count):
                    subscription.pending.popleft()
        return behind
