"""The side of a run that is called: who waits at which phone, and whose the calls are that come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from ..protocol.messages import AwaitIncoming, CallInfo, HangUpCall, PhoneInfo, Result
from ..protocol.states import PhoneState
from .arriving import Arrival, Arrivals, Expected
from .attempt import Attempt
from .desk import Desk

__all__ = ["Callees", "arrival_of"]

_SPARE = 1
"""Waiters at a phone beyond the calls that are on their way to it."""
_WAITERS = 200
"""At most, at one phone."""
_RETRY = 0.2


class Callees:
    """Calls on their way to phones of the herd, and those that have arrived.

    Whoever is handed a call owns it, so the run waits at each phone that leaves its calls to
    clients and is called.  A call is heard of twice, by its event and by the reply to who waited
    for it; the first one counts.

    Args:
        desk: takes commands.
        phones: of the herd.
        is_known: whether a call of this id is a leg of an attempt already.

    """

    def __init__(
        self, desk: Desk, phones: Sequence[PhoneInfo], is_known: Callable[[str], bool]
    ) -> None:
        self._desk = desk
        self._is_known = is_known
        self._attended = {phone.name for phone in phones if phone.spec.on_incoming is None}
        """Phones that leave their calls to clients."""
        self._arrivals: Arrivals[Attempt] = Arrivals()
        self._waiters: Counter[str] = Counter()
        self._away: set[str] = set()
        """Phones that take nobody who waits, until they move."""
        self._taken: set[str] = set()
        """Calls that were handed to us and belong to nothing yet."""
        self.closed = False
        """Nobody waits any more."""

    @property
    def size(self) -> int:
        """Calls that it remembers but for their Call-ID."""
        return len(self._arrivals) + len(self._taken)

    @property
    def waiters(self) -> int:
        """Unanswered AwaitIncoming."""
        return self._waiters.total()

    def expect(self, attempt: Attempt, phone: str, user: str, *, known: bool = True) -> None:
        """See `Desk.expect`."""
        expected = Expected(attempt, phone, user, will_be_known=known)
        attempt.expected.append(expected)
        self._arrivals.expect(expected)
        self._wait_at(phone)

    def know(self, attempt: Attempt, phone: str, sip_call_id: str) -> None:
        """See `Desk.know`."""
        for expected in reversed(attempt.expected):
            if expected.phone == phone:
                self._arrivals.know(expected, sip_call_id)
                self._settle(phone)
                return

    def forget(self, attempt: Attempt) -> None:
        """It is over."""
        for expected in attempt.expected:
            self._arrivals.forget(expected)
            self._settle(expected.phone)

    def arrive(self, arrival: Arrival) -> None:
        """A call came in, whosever it is."""
        if self._is_known(arrival.call):
            self._taken.discard(arrival.call)
            return
        found = self._arrivals.arrive(arrival)
        if found is False:
            self._not_ours(arrival)
        elif isinstance(found, Expected):
            self._belongs(arrival, found)

    def moved(self, phone: str, state: PhoneState) -> None:
        """A phone's life has gone on."""
        if state in (PhoneState.STARTING, PhoneState.READY, PhoneState.BACKOFF):
            self._away.discard(phone)
            if phone in self._waiters:
                self._wait_at(phone)

    def missed(self) -> None:
        """Phones may have moved unheard."""
        self._away.clear()
        for phone in list(self._waiters):
            self._wait_at(phone)

    def _wait_at(self, phone: str) -> None:
        """Wait for as many calls of the phone as are on their way, and one more."""
        if self.closed or phone not in self._attended or phone in self._away:
            return
        wanted = min(self._arrivals.on_the_way(phone) + _SPARE, _WAITERS)
        while self._waiters[phone] < wanted:
            self._waiters[phone] += 1

            def done(result: Result) -> None:
                self._waiters[phone] -= 1
                assert isinstance(result, CallInfo)
                self._taken.add(result.call)
                self.arrive(arrival_of(result))
                self._wait_at(phone)

            def refused(reason: str, message: str) -> None:
                del message
                self._waiters[phone] -= 1
                if reason == "phone_not_ready":
                    self._away.add(phone)
                else:
                    self._desk.at(self._desk.now + _RETRY, lambda: self._wait_at(phone))

            self._desk.ask(AwaitIncoming(which=(phone,)), done, refused, None)

    def _settle(self, phone: str) -> None:
        for arrival, expected in self._arrivals.settle(phone):
            if self._is_known(arrival.call):
                continue
            if expected is None:
                self._not_ours(arrival)
            else:
                self._belongs(arrival, expected)

    def _belongs(self, arrival: Arrival, expected: Expected[Attempt]) -> None:
        if expected.owner.arrived(arrival, expected):
            self._taken.discard(arrival.call)
        else:
            self._not_ours(arrival)

    def _not_ours(self, arrival: Arrival) -> None:
        """It is left alone, unless it was handed to us: then nobody else answers it."""
        if arrival.call in self._taken:
            self._taken.discard(arrival.call)
            self._desk.ask(HangUpCall(call=arrival.call), lambda _: None, lambda *_: None)


def arrival_of(info: CallInfo) -> Arrival:
    """An incoming call, as a reply tells of it."""
    return Arrival(
        info.call, info.phone, 0, info.sip_call_id, info.from_uri, info.to_uri, info.started
    )
