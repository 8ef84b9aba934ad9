"""Which incoming call of the herd belongs to which call of the run.

A proxy or relay between the two ends leaves the SIP Call-ID as it is, and that settles it.  A
back-to-back user agent (most PBXs) makes a call of its own: then it is the phone that was called
and the user part of From, the call that has waited longest first.

Caller and callee are two processes, so the incoming call may be heard of before the Call-ID of
the outgoing one: it is put aside until every call that is on its way to this phone has one.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Arrival", "Arrivals", "Expected", "user_of"]

T = TypeVar("T")

_PAST = 10_000
"""Call-IDs of calls that are over and may still arrive."""
_PARKED = 1_000
"""Calls put aside for one phone."""


def user_of(uri: str) -> str:
    """The user part of a SIP URI; empty if it has none."""
    user, at, _ = uri.partition(":")[2].partition("@")
    return user.partition(";")[0] if at else ""


class Arrival(NamedTuple):
    """A call that came in at a phone."""

    call: str
    phone: str
    incarnation: int
    sip_call_id: str
    from_uri: str
    to_uri: str
    t: float


@dataclass(slots=True, eq=False)
class Expected(Generic[T]):
    """A call that is on its way to a phone of the herd."""

    owner: T
    phone: str
    user: str
    """In its From; empty if that is not known, and then any will do."""
    sip_call_id: str = ""
    """As its caller has it; empty while that is not known."""
    will_be_known: bool = True
    """Whether it will be: somebody else's phone tells nobody."""
    arrived: bool = False


class Arrivals(Generic[T]):
    """Calls on their way, and calls put aside."""

    def __init__(self) -> None:
        self._by_id: dict[str, Expected[T]] = {}
        self._on_the_way: dict[str, dict[Expected[T], None]] = {}
        """By phone, oldest first: those that have not arrived."""
        self._parked: dict[str, list[Arrival]] = {}
        self._past: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        """Calls that are expected, put aside or remembered by their Call-ID."""
        parked = sum(len(parked) for parked in self._parked.values())
        return len(self._by_id) + sum(map(len, self._on_the_way.values())) + parked

    def on_the_way(self, phone: str) -> int:
        """How many calls to this phone have yet to arrive."""
        return len(self._on_the_way.get(phone, ()))

    def expect(self, expected: Expected[T]) -> None:
        """A call is about to be sent."""
        self._on_the_way.setdefault(expected.phone, {})[expected] = None
        if expected.sip_call_id:
            self._by_id[expected.sip_call_id] = expected

    def know(self, expected: Expected[T], sip_call_id: str) -> None:
        """Its Call-ID is known now; see `settle`."""
        expected.sip_call_id = sip_call_id
        self._by_id[sip_call_id] = expected

    def forget(self, expected: Expected[T]) -> None:
        """It is over, or will not come; see `settle`."""
        self._leave(expected)
        if expected.sip_call_id and self._by_id.pop(expected.sip_call_id, None) is not None:
            self._past[expected.sip_call_id] = None
            if len(self._past) > _PAST:
                self._past.popitem(last=False)

    def arrive(self, arrival: Arrival) -> Expected[T] | bool:
        """What it belongs to; True: that will turn out (`settle`), False: to nothing of ours."""
        found = self._by_id.get(arrival.sip_call_id)
        if found is None:
            if arrival.sip_call_id in self._past:
                return False
            coming = self._on_the_way.get(arrival.phone, {})
            if any(not one.sip_call_id and one.will_be_known for one in coming):
                parked = self._parked.setdefault(arrival.phone, [])
                if len(parked) >= _PARKED:
                    return False
                parked.append(arrival)
                return True
            user = user_of(arrival.from_uri)
            found = next((one for one in coming if one.user in ("", user)), None)
            if found is None:
                return False
        found.arrived = True
        self._leave(found)
        return found

    def settle(self, phone: str) -> list[tuple[Arrival, Expected[T] | None]]:
        """What those that were put aside belong to, as far as it is known; None: to nothing."""
        settled: list[tuple[Arrival, Expected[T] | None]] = []
        for arrival in self._parked.pop(phone, ()):
            found = self.arrive(arrival)
            if not isinstance(found, bool):
                settled.append((arrival, found))
            elif not found:
                settled.append((arrival, None))
        return settled

    def _leave(self, expected: Expected[T]) -> None:
        coming = self._on_the_way.get(expected.phone)
        if coming is not None:
            coming.pop(expected, None)
            if not coming:
                del self._on_the_way[expected.phone]
