"""The attempts of a run as one state machine: time, events and replies in, commands out.

No socket, no clock, no thread.  Whoever drives it tells it what the herd says and what time it is
(seconds of the box's monotonic clock), takes its commands and what it has to tell with `take`, and
comes back at `due`.

Open loop: a call is placed at its intended time, whatever the others do; only a limit of calls at
once, or of commands nobody has answered, makes it wait, and that is seen as lateness.  What is over
is forgotten: a run of days takes no more memory than its calls at once.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

from ..protocol.events import AnyBody, CallPlaced, Event, IncomingCall, PhoneMoved
from ..protocol.messages import (
    CallInfo,
    CallList,
    ClientRequest,
    ListCalls,
    PhoneInfo,
    PlayAudio,
    Result,
)
from ..protocol.states import CallState
from .arriving import Arrival, user_of
from .attempt import CERTAIN_END, Attempt
from .callees import Callees, arrival_of
from .desk import Done, Refused, Timer
from .legs import Leg, missed_of
from .profile import LoadProfile
from .recording import never_sent, record_of
from .records import CallAttempt
from .schedule import PlannedCall

__all__ = ["AnsweredCall", "Attempts", "Command", "Finished", "Output", "Phase", "Started"]

Phase: TypeAlias = Literal["warm-up", "running", "draining", "finished"]

OVERTIME = 2.0
"""Seconds after the time in which calls start that one may still start that is late."""
UNANSWERED = 500
"""PlaceCalls that nobody has answered, at most: more would only stand in the supervisor's queue."""
STOP_PATIENCE = 4.0
"""Seconds that calls have to end when the run is to stop now."""
_CHUNK = 1000
"""Attempts that are given up in one turn, so that no turn takes long."""
_UNCLAIMED = 200
"""Calls of one phone that may be ours, at most."""


class Command(NamedTuple):
    """To be sent to the herd; `done` or `refused` is to be told its end with this id."""

    id: int
    body: ClientRequest
    timeout: float | None


class Started(NamedTuple):
    """An INVITE was sent: as ``unfinished``."""

    attempt: CallAttempt


class AnsweredCall(NamedTuple):
    """A caller got its 2xx."""


class Finished(NamedTuple):
    """An attempt is over, or was never sent."""

    attempt: CallAttempt


Output: TypeAlias = Command | Started | AnsweredCall | Finished


class Attempts:
    """All attempts of one run.

    Args:
        calls: what is to be done, in the order of its times.
        profile: for its limits, times and media.
        phones: of the herd.
        origin: when the run begins.
        media: what phones play; empty: nothing.

    """

    def __init__(
        self,
        calls: Iterator[PlannedCall],
        profile: LoadProfile,
        phones: Sequence[PhoneInfo],
        *,
        origin: float,
        media: str = "",
    ) -> None:
        self.now = self.origin = origin
        self.is_over = False
        self._calls = calls
        self._next = next(calls, None)
        self._profile = profile
        self._limit = profile.limits.concurrent
        self._phones = {phone.name: phone for phone in phones}
        self._names = {key: phone.name for phone in phones for key in (phone.number, phone.name)}
        self._media = PlayAudio(call="", source=media, loop=media[:1] == "/") if media else None
        self._outputs: list[Output] = []
        self._ids = itertools.count(1)
        self._asked: dict[int, tuple[Done, Refused]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._timer_ids = itertools.count()
        self._live: dict[Attempt, None] = {}
        self._under_way: set[Attempt] = set()
        """Those whose caller's leg is not over."""
        self._legs: dict[str, tuple[Leg, Attempt]] = {}
        self._callees = Callees(self, phones, self._legs.__contains__)
        self._placing: Counter[str] = Counter()
        """By phone, how many PlaceCalls nobody has answered."""
        self._unclaimed: dict[str, dict[str, list[Event]]] = {}
        """By phone and call: what happened to calls before the reply told whose they are."""
        self._draining_since: float | None = None
        self._deadline: float | None = None
        """When what is left is ended; then when it is given up."""
        self._ending = False
        self._lag = 0.0
        self._was_held_back = False
        self._free_since = origin
        """When a call could start again that had been held back."""
        self._skips = False
        """What is still planned and due is not placed any more."""

    # -- for whoever drives it ---------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        """Where the run is."""
        if self.is_over:
            return "finished"
        if self._draining_since is not None:
            return "draining"
        return "warm-up" if self.now - self.origin < self._profile.warm_up else "running"

    @property
    def under_way(self) -> int:
        """Calls whose caller is not done with them."""
        return len(self._under_way)

    @property
    def size(self) -> int:
        """Objects kept for what is not over, without who waits at phones; for tests."""
        return (
            len(self._live)
            + len(self._legs)
            + self._callees.size
            + len(self._asked)
            - self._callees.waiters
            + sum(map(len, self._unclaimed.values()))
        )

    def take_lag(self) -> float:
        """By how much something was done too late, at most, since this was called last; seconds.

        A call that was held back by a limit is late only from when it could have started.
        """
        lag, self._lag = self._lag, 0.0
        return lag

    def take(self) -> list[Output]:
        """What has come of it, in order; it is forgotten here."""
        outputs, self._outputs = self._outputs, []
        return outputs

    def due(self) -> float | None:
        """When `tick` has something to do; None: nothing but waits for the herd."""
        if self.is_over:
            return None
        times = [self._timers[0][0]] if self._timers else []
        if self._next is not None:
            if self._skips or not self._is_held_back():
                times.append(self.origin + self._next.intended)
            cut_off = self._cut_off()
            if cut_off is not None:
                times.append(cut_off)
        if self._deadline is not None:
            times.append(self._deadline)
        return min(times, default=None)

    def tick(self, now: float) -> None:
        """Do what is due."""
        self.now = max(self.now, now)
        while self._timers and self._timers[0][0] <= self.now:
            time, _, timer = heapq.heappop(self._timers)
            if timer.action is not None:
                self._lag = max(self._lag, self.now - time)
                timer.action()
        self._start_calls()
        self._look_at_phase()

    def happened(self, event: Event, now: float) -> None:
        """An event of the herd, whoever it is about."""
        self.now = max(self.now, now)
        body = event.body
        if isinstance(body, IncomingCall):
            arrival = Arrival(
                body.call,
                event.phone,
                event.incarnation,
                body.sip_call_id,
                body.from_uri,
                body.to_uri,
                event.t,
            )
            self._callees.arrive(arrival)
        elif isinstance(body, PhoneMoved):
            self._callees.moved(event.phone, body.state)
        else:
            call: str = getattr(body, "call", "")
            if call:
                self._happened_to(call, event)
        self._look_at_phase()

    def done(self, id: int, result: Result, now: float) -> None:
        """A command was carried out."""
        self.now = max(self.now, now)
        asked = self._asked.pop(id, None)
        if asked is not None:
            asked[0](result)
        self._look_at_phase()

    def refused(self, id: int, reason: str, message: str, now: float) -> None:
        """A command was not; `reason` ``expired``: nobody answered it in time."""
        self.now = max(self.now, now)
        asked = self._asked.pop(id, None)
        if asked is not None:
            asked[1](reason, message)
        self._look_at_phase()

    def missed(self, now: float) -> None:
        """Events were lost: find out how things are."""
        self.now = max(self.now, now)
        self._callees.missed()
        self.ask(ListCalls(), self._compare, lambda *_: self._again_missed(), 10.0)

    def drain(self, now: float) -> None:
        """Start no more calls, but those whose time has come."""
        self.now = max(self.now, now)
        self._start_calls()
        self._stop_starting()
        self._start_calls()
        self._look_at_phase()

    def stop(self, now: float) -> None:
        """End everything, and soon."""
        self.now = max(self.now, now)
        self._stop_starting()
        self._start_calls()
        if not self._ending or self._deadline is None:
            self._end_all(STOP_PATIENCE)
        else:
            self._deadline = min(self._deadline, self.now + STOP_PATIENCE)
        self._look_at_phase()

    def lost(self, now: float) -> None:
        """The herd is gone: nothing more is heard of any call."""
        self.now = max(self.now, now)
        self._stop_starting()
        self._give_up_all()
        self.is_over = True

    # -- the plan ----------------------------------------------------------------------------------

    def _cut_off(self) -> float | None:
        seconds = self._profile.seconds
        return None if seconds is None else self.origin + seconds + OVERTIME

    def _is_held_back(self) -> bool:
        limited = self._limit is not None and len(self._under_way) >= self._limit
        return limited or self._placing.total() >= UNANSWERED

    def _start_calls(self) -> None:
        cut_off = self._cut_off()
        if cut_off is not None and self.now >= cut_off and self._next is not None:
            self._skips = True
        given_up = 0
        while (planned := self._next) is not None:
            if planned.intended + self.origin > self.now:
                if self._draining_since is not None:
                    self._next = None  # it was never wanted
                return
            if self._skips:
                if given_up == _CHUNK:
                    return
                given_up += 1
                self._skip(planned)
            elif self._is_held_back():
                self._was_held_back = True
                return
            else:
                wanted = max(self.origin + planned.intended, self._free_since)
                self._lag = max(self._lag, self.now - wanted)
                attempt = Attempt(planned, self)
                self._live[attempt] = None
                self._under_way.add(attempt)
                attempt.place()
            self._next = next(self._calls, None)

    def _let_go(self) -> None:
        if self._was_held_back and not self._is_held_back():
            self._was_held_back = False
            self._free_since = self.now

    def _skip(self, planned: PlannedCall) -> None:
        self._outputs.append(Finished(never_sent(planned, "unfinished", "too_late")))

    def _stop_starting(self) -> None:
        self._skips = True
        if self._draining_since is None:
            self._begin_drain()

    def _begin_drain(self) -> None:
        self._draining_since = self.now
        self._deadline = self.now + self._profile.drain

    def _look_at_phase(self) -> None:
        if self.is_over:
            return
        if self._next is None and self._draining_since is None:
            self._begin_drain()
        if self._draining_since is None:
            return
        if self._next is None and not self._live:
            self.is_over = True
        elif self._deadline is not None and self.now >= self._deadline:
            if self._ending:
                self._give_up_all()
                self.is_over = self._next is None
            else:
                self._end_all(CERTAIN_END)

    def _end_all(self, patience: float) -> None:
        self._ending = self._callees.closed = True
        self._deadline = self.now + patience
        for attempt in list(self._live):
            attempt.stop()

    def _give_up_all(self) -> None:
        for attempt in list(self._live):
            attempt.give_up()
        while (planned := self._next) is not None and planned.intended + self.origin <= self.now:
            self._skip(planned)
            self._next = next(self._calls, None)
        self._next = None

    # -- what an attempt needs (attempt.Desk) ------------------------------------------------------

    def ask(
        self, body: ClientRequest, done: Done, refused: Refused, timeout: float | None = 60.0
    ) -> None:
        id = next(self._ids)
        self._asked[id] = (done, refused)
        self._outputs.append(Command(id, body, timeout))

    def at(self, time: float, action: Callable[[], None]) -> Timer:
        timer = Timer(action)
        heapq.heappush(self._timers, (time, next(self._timer_ids), timer))
        return timer

    def placing(self, phone: str, more: int) -> None:
        self._placing[phone] += more
        if self._placing[phone] <= 0:
            del self._placing[phone]
            self._unclaimed.pop(phone, None)
        self._let_go()

    def follow(self, leg: Leg, attempt: Attempt) -> None:
        self._legs[leg.call] = (leg, attempt)
        for event in self._unclaimed.get(leg.phone, {}).pop(leg.call, ()):
            attempt.happened(leg, event.body, event.t, event.incarnation)

    def look(self, leg: Leg) -> None:
        if leg.is_over or leg.call not in self._legs:
            return

        def done(result: Result) -> None:
            assert isinstance(result, CallList)
            for info in result.calls:
                self._catch_up(leg, info)

        def refused(reason: str, message: str) -> None:
            del message
            if reason == "no_such_call":
                self._lose(leg)
            else:
                self.at(self.now + 1.0, lambda: self.look(leg))

        self.ask(ListCalls(which=(leg.call,)), done, refused, 10.0)

    def expect(self, attempt: Attempt, phone: str, user: str, *, known: bool = True) -> None:
        self._callees.expect(attempt, phone, user, known=known)

    def know(self, attempt: Attempt, phone: str, sip_call_id: str) -> None:
        self._callees.know(attempt, phone, sip_call_id)

    def plays(self, phone: str) -> PlayAudio | None:
        known = self._phones.get(phone)
        return self._media if known is not None and known.spec.media == "audio" else None

    def user(self, phone_or_target: str) -> str:
        phone = self._phones.get(phone_or_target)
        if phone is None:
            return user_of(phone_or_target) or phone_or_target
        register = phone.spec.register
        return (register.username if register is not None else "") or phone.number

    def phone_of(self, target: str) -> str:
        return self._names.get(target, "")

    def started(self, attempt: Attempt) -> None:
        self._outputs.append(Started(record_of(attempt, self.origin)))

    def answered(self) -> None:
        self._outputs.append(AnsweredCall())

    def settled(self, attempt: Attempt) -> None:
        self._under_way.discard(attempt)
        self._let_go()

    def finished(self, attempt: Attempt) -> None:
        self._under_way.discard(attempt)
        del self._live[attempt]
        for leg in attempt.legs:
            self._legs.pop(leg.call, None)
        self._callees.forget(attempt)
        self._outputs.append(Finished(record_of(attempt, self.origin)))

    # -- events ------------------------------------------------------------------------------------

    def _happened_to(self, call: str, event: Event) -> None:
        known = self._legs.get(call)
        if known is not None:
            leg, attempt = known
            attempt.happened(leg, event.body, event.t, event.incarnation)
            return
        waiting = self._unclaimed.get(event.phone)
        if waiting is not None and call in waiting:
            waiting[call].append(event)
        elif isinstance(event.body, CallPlaced) and self._placing[event.phone] > 0:
            waiting = self._unclaimed.setdefault(event.phone, {})
            waiting[call] = [event]
            if len(waiting) > _UNCLAIMED:  # the oldest is another client's
                del waiting[next(iter(waiting))]

    def _again_missed(self) -> None:
        self.at(self.now + 1.0, lambda: self.missed(self.now))

    def _compare(self, result: Result) -> None:
        """Every call that is up, to be held against those we know."""
        assert isinstance(result, CallList)
        up = {info.call: info for info in result.calls}
        for call, (leg, _) in list(self._legs.items()):
            if leg.is_over:
                continue
            info = up.get(call)
            if info is None:
                self.look(leg)  # it is over: how?
            else:
                self._catch_up(leg, info)
        for info in result.calls:
            if info.direction == "in" and info.state is CallState.RINGING:
                self._callees.arrive(arrival_of(info))

    def _catch_up(self, leg: Leg, info: CallInfo) -> None:
        known = self._legs.get(info.call)
        if known is None or known[0] is not leg:
            return
        happened: list[tuple[AnyBody, float]] = missed_of(leg, info)
        for body, t in happened:
            known[1].happened(leg, body, t, 0)

    def _lose(self, leg: Leg) -> None:
        known = self._legs.get(leg.call)
        if known is not None and known[0] is leg:
            known[1].lose(leg)
