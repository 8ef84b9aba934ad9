"""Looks after the phones' progress: asks for their signs of life, tells of verdicts, ends the hung.

A phone is judged from READY to DRAINING: before that its start has a deadline of its own, after
that its stop.  Nothing here concludes a death: a signal makes it, and the pidfd tells it.
"""

from __future__ import annotations

import signal

from ..protocol.events import BoxOverloaded, BoxRecovered, HangLevel, PhoneLate
from ..protocol.states import PhoneState
from .effects import Effect, LookAtPhones, Signs
from .events import EventStream
from .hangs import Hangs, Level, Overload, Recovery, Sign
from .lags import Lags
from .life import Life
from .phones import Phone, PhoneTable
from .timers import Timer, Timers

__all__ = ["HangWatch"]

CHECKS = 4
"""Checks within the shortest ``late``, so that no level is told much too late."""
CHECK_EVERY = 1.0
"""Seconds at the most."""
KILL_AFTER = 2.0
"""Seconds that a process has to write down its stack."""


class HangWatch:
    """Part of the core, so without process or clock."""

    def __init__(
        self,
        *,
        table: PhoneTable,
        life: Life,
        timers: Timers,
        events: EventStream,
        effects: list[Effect],
        lags: Lags,
    ) -> None:
        self._table = table
        self._life = life
        self._timers = timers
        self._events = events
        self._effects = effects
        self._lags = lags
        self._hangs = Hangs()
        self._timer: Timer | None = None
        self._look_at = 0.0
        """When the next check is due."""
        self._delay = 0.0
        """Seconds that the last one came late."""

    @property
    def is_box_overloaded(self) -> bool:
        """Whether verdicts are frozen."""
        return self._hangs.is_frozen

    def settled(self, phone: Phone) -> None:
        """A phone may be READY."""
        if phone.state is PhoneState.READY:
            self._look_within(phone.spec.hang.late)

    def _look_within(self, late: float) -> None:
        when = self._life.now + min(late / CHECKS, CHECK_EVERY)
        if self._timer is not None:
            if self._look_at <= when:
                return
            self._timer.cancel()
        self._look_at = when
        self._timer = self._timers.at(when, self._look)

    def _look(self) -> None:
        self._timer = None
        self._delay = self._life.now - self._look_at
        late = [phone.spec.hang.late for phone in self._table if phone.state is PhoneState.READY]
        if late:
            self._effects.append(LookAtPhones(min(late)))
            self._look_within(min(late))

    def check(self, signs: Signs) -> None:
        """What a look has shown."""
        worst = max((sign.late for sign in signs.signs), default=0.0)
        self._lags.looked(self._life.now, self._delay, worst)
        seen: list[Sign] = []
        for sign in signs.signs:
            phone = self._table.get(sign.phone)
            if phone is None or phone.incarnation != sign.incarnation:
                continue
            phone.dialogs = sign.dialogs
            if phone.state is PhoneState.READY:
                state = sign.run_state
                seen.append(Sign(phone.name, phone.progress, phone.spec.hang, sign.due, state))
        for verdict in self._hangs.check(seen, self._life.now, self._delay):
            match verdict:
                case Level(name, previous=previous):
                    self._tell(self._table.find(name), previous)
                case Overload(sign=why, late=late, delay=delay):
                    overloaded = BoxOverloaded(
                        sign=why, phones_late=late, supervisor_late=round(delay, 3)
                    )
                    self._events.emit(overloaded, self._life.now)
                case Recovery(seconds):
                    self._events.emit(BoxRecovered(seconds=round(seconds, 3)), self._life.now)

    def _tell(self, phone: Phone, previous: HangLevel) -> None:
        progress = phone.progress
        late = PhoneLate(
            level=progress.level,
            previous=previous,
            seconds=round(progress.overdue, 3),
            stopped=progress.is_stopped,
        )
        self._events.emit(
            late,
            self._life.now,
            phone=phone.name,
            incarnation=phone.incarnation,
            pid=phone.pid,
        )
        if progress.level == "hung":
            self._end(phone)

    def _end(self, phone: Phone) -> None:
        words = phone.progress.in_words()
        if phone.progress.is_stopped:
            # It can't write down anything, and where it stands is nobody's fault.
            self._life.kill(phone, signal.SIGKILL, words)
            return
        why = f"hung: {words} (stack in the log)"
        incarnation = phone.incarnation
        self._life.kill(phone, signal.SIGABRT, why)

        def kill() -> None:
            if phone.incarnation == incarnation and phone.state is PhoneState.READY:
                self._life.kill(phone, signal.SIGKILL, why)

        self._timers.at(self._life.now + KILL_AFTER, kill)
