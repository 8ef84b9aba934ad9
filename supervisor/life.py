"""The life of a phone: admitted, started, welcomed, drained, gone.

Every move of the state machine (``protocol.states.PHONE_MOVES``) happens in ``_move``.  A death
is known from the pidfd (``process_gone``); its cause comes from the nursery and is waited for at
most CAUSE_WAIT.  Stopping escalates: message, SIGTERM, SIGKILL, report (DESIGN §8).
"""

from __future__ import annotations

import signal
from collections.abc import Callable

from ..protocol.events import PhoneAdded, PhoneDied, PhoneMoved, PhoneRemoved, PortSkipped
from ..protocol.messages import (
    Drain,
    Envelope,
    Exit,
    Hello,
    StopHow,
    SupervisorToWorker,
    Welcome,
    WorkerMessage,
)
from ..protocol.spec import split_advertise
from ..protocol.states import PHONE_MOVES, PhoneState, check_move
from .admission import Admission, Admissions
from .deaths import death, describe, log_line
from .effects import DeathCause, DropStale, Effect, Forget, Log, Signal, StartProcess, ToWorker
from .events import EventStream
from .hangs import Progress
from .phones import Departure, Phone, PhoneTable
from .ports import PortError
from .registrations import Registration
from .restarts import Decision, Ending, SpawnLimit, ending
from .start_window import StartWindow
from .timers import Timers

__all__ = ["Life"]

CAUSE_WAIT = 1.0
TERM_AFTER = 5.0
KILL_AFTER = 8.0
REPORT_AFTER = 10.0
QUICK_KILL_AFTER = 1.0
QUICK_REPORT_AFTER = 3.0
CLEAN_UP_DEADLINE = 35.0
"""For the process that ends the calls of those before it: 64*T1 and some (SIP.md)."""
STALE_AFTER = 32.0
"""Seconds after which nobody waits for the answer to a request any more (64*T1)."""
DROP_EVERY = 4.0
"""Seconds between two looks into the socket of a parked phone."""

_WITHOUT_PROCESS = frozenset(
    {PhoneState.NEW, PhoneState.BACKOFF, PhoneState.STOPPED, PhoneState.FAILED}
)


class Life:
    """Moves phones through their states; part of the core, so without socket, clock or process."""

    def __init__(
        self,
        *,
        table: PhoneTable,
        admissions: Admissions,
        spawns: SpawnLimit,
        timers: Timers,
        events: EventStream,
        effects: list[Effect],
        token: Callable[[], str],
        settled: Callable[[Phone], None],
        lost: Callable[[Phone], tuple[str, ...]],
        has_journal: Callable[[str], bool],
    ) -> None:
        self.table = table
        self.timers = timers
        self.events = events
        self.effects = effects
        self._admissions = admissions
        self._spawns = spawns
        self._token = token
        self._settled = settled
        self._lost = lost
        self._has_journal = has_journal
        self._routes: dict[bytes, Phone] = {}
        self._window = StartWindow(timers, self._ask_for_process, self._start_overdue)
        self.now = 0.0
        self.started = 0
        self.restarts = 0
        self.deaths = 0

    # -- admitted, dismissed -----------------------------------------------------------------------

    def announce(self, admission: Admission) -> list[Phone]:
        """Tell of the phones that were admitted, and return them."""
        for skip in admission.skips:
            self.events.emit(
                PortSkipped(address=skip.address, port=skip.port, why=skip.why), self.now
            )
        for phone in admission.phones:
            self._emit(
                phone, PhoneAdded(number=phone.spec.number, address=phone.host, port=phone.port)
            )
        return admission.phones

    def dismiss(self, phone: Phone) -> None:
        """Forget a phone without process; its number is free."""
        self.table.remove(phone)
        self._admissions.free(phone, self.now)
        self.effects.append(Forget(phone.name))
        self._emit(phone, PhoneRemoved())

    # -- start -----------------------------------------------------------------------------------

    def start(self, phone: Phone) -> None:
        """To STARTING, now.  Raises PortError if its port was stolen.

        From NEW, STOPPED or FAILED it begins a new life, in which the first start must succeed;
        in BACKOFF it has its restart sooner.
        """
        if phone.state is not PhoneState.BACKOFF:
            phone.policy.clear()
            phone.is_asked_for = True
        self._admissions.bind_again(phone)
        self._begin_start(phone)

    def _begin_start(self, phone: Phone) -> None:
        self._no_longer_waiting(phone)
        self._move(phone, PhoneState.STARTING)
        phone.why = ""
        phone.is_given_up = False
        self._window.add(phone, self.now)

    def _ask_for_process(self, phone: Phone) -> None:
        assert phone.sockets is not None
        if phone.incarnation and not phone.is_cleaning_up:
            phone.restarts += 1
            self.restarts += 1
        phone.incarnation += 1
        phone.token = self._token()
        phone.route = None
        phone.pid = 0
        phone.died_at = phone.ready_at = None
        phone.signals = {}
        phone.seq_in = phone.seq_out = 0
        phone.counters = {}
        phone.dialogs = 0
        phone.registration = Registration()
        phone.refuses_calls = False
        phone.behaviour_failure = None
        phone.progress = Progress()
        phone.forked_at = self.now
        self.effects.append(
            StartProcess(
                phone.name, phone.incarnation, phone.token, phone.sockets, phone.spec.limits
            )
        )

    def forked(self, phone: Phone, pid: int) -> None:
        """The nursery made the process."""
        phone.pid = pid

    def fork_refused(self, phone: Phone, error: str) -> None:
        """The kernel did not give us a process."""
        self._window.over(phone)
        if phone.state is PhoneState.DRAINING:
            self._conclude_departure(phone)
        elif phone.state is PhoneState.STARTING:
            self._died(phone, f"no process: {error}", Ending.ABNORMAL)

    def nursery_gone(self) -> None:
        """Fork requests not answered went with it: ask again, as a new incarnation."""
        for phone in [phone for phone in self.table if not phone.pid]:
            if phone.state is PhoneState.DRAINING and not phone.is_cleaning_up:
                self._conclude_departure(phone)
            elif self._window.is_under_way(phone):
                self._window.again(phone)
        self._window.fill(self.now)

    def hello(self, route: bytes, message: Envelope[WorkerMessage], hello: Hello) -> None:
        """Welcome the one process that is awaited; tell any other to exit."""
        phone = self._newcomer(message, hello)
        if phone is None or not (phone.state is PhoneState.STARTING or phone.is_cleaning_up):
            # A stop that interrupts a start kills the process, and this may have been on its way.
            if phone is None or phone.state not in (PhoneState.DRAINING, PhoneState.STOPPED):
                who = {"phone": message.phone, "pid": hello.pid}
                self.effects.append(Log("warning", "unexpected_hello", who))
            self.effects.append(
                ToWorker(route, Envelope(id=0, body=Exit(why="nobody awaits this process")))
            )
            return
        phone.route = route
        phone.pid = hello.pid
        phone.seq_in = message.seq
        self._routes[route] = phone
        host, port = phone.host, phone.port
        if phone.spec.advertise is not None:
            host, shown = split_advertise(phone.spec.advertise)
            port = shown or port
        self.send(
            phone,
            Welcome(
                purpose="clean_up" if phone.is_cleaning_up else "serve",
                spec=phone.spec,
                host=host,
                port=port,
                rtp_first=phone.rtp_first,
                rtp_pairs=phone.rtp_pairs,
                rtp_resting=self._resting(phone),
                behaviour=None if phone.is_cleaning_up else phone.behaviour,
            ),
        )

    def _resting(self, phone: Phone) -> dict[int, float]:
        """RTP ports that are to rest, and for how many seconds."""
        resting = {port: t for port, t in phone.rtp_resting.items() if t > self.now}
        phone.rtp_resting = resting
        return {port: t - self.now for port, t in resting.items()}

    def _newcomer(self, message: Envelope[WorkerMessage], hello: Hello) -> Phone | None:
        """The phone whose newest process says this, for the first time."""
        phone = self.table.get(message.phone)
        if (
            phone is None
            or phone.incarnation != message.incarnation
            or phone.token != hello.token
            or phone.route is not None
        ):
            return None
        return phone

    def by_route(self, route: bytes) -> Phone | None:
        """The phone whose welcomed worker has this ZeroMQ routing id."""
        return self._routes.get(route)

    def ready(self, phone: Phone) -> None:
        """The worker serves its socket."""
        if phone.is_cleaning_up:
            self._window.over(phone)
            self._window.fill(self.now)
        if phone.state is not PhoneState.STARTING:
            return  # stopped meanwhile
        self._window.over(phone)
        self.started += 1
        phone.ready_at = self.now
        phone.is_asked_for = False
        if phone.spec.register is not None:
            phone.registration.state = "registering"
        self._move(phone, PhoneState.READY)
        self._settled(phone)
        self._window.fill(self.now)

    def send(self, phone: Phone, body: SupervisorToWorker, *, id: int = 0) -> None:
        """A message for the phone's welcomed worker."""
        assert phone.route is not None
        phone.seq_out += 1
        envelope = Envelope(
            id=id, phone=phone.name, incarnation=phone.incarnation, seq=phone.seq_out, body=body
        )
        self.effects.append(ToWorker(phone.route, envelope))

    def _start_overdue(self, phone: Phone) -> None:
        why = f"not ready within {phone.spec.start_timeout:g} s"
        if phone.pid:
            self.kill(phone, signal.SIGKILL, why)
        elif phone.is_cleaning_up:
            self._conclude_departure(phone)
        else:
            self._died(phone, f"no process: {why}", Ending.ABNORMAL)

    def kill(self, phone: Phone, number: signal.Signals, why: str) -> None:
        """Signal the running process, and remember why: its death record says so."""
        phone.signals[number] = why
        self.effects.append(Signal(phone.name, phone.incarnation, number))

    # -- death -----------------------------------------------------------------------------------

    def process_gone(self, phone: Phone) -> None:
        """The process is dead; give the nursery a moment to say why."""
        if phone.died_at is None:
            phone.died_at = self.now
            phone.cause_timer = self.timers.at(
                self.now + CAUSE_WAIT, lambda: self.death_cause(phone, None)
            )

    def death_cause(self, phone: Phone, cause: DeathCause | None) -> None:
        """Conclude a death; None is the nursery's silence."""
        if phone.cause_timer is not None:
            phone.cause_timer.cancel()
            phone.cause_timer = None
        code, number = (cause.exit_code, cause.signal) if cause else (None, None)
        words = describe(code, number, phone.signals, phone.spec.limits, phone.behaviour_failure)
        if phone.state is not PhoneState.DRAINING:
            self._died(phone, words, ending(code))
            return
        departure = phone.departure
        assert departure is not None
        ended = self._let_go(phone)
        if code == 0 or departure.said_goodbye:
            phone.has_left_calls = False
        elif departure.how == "drained":
            departure.how = "died"
            self._record(phone, words, ended, "parked" if departure.parked else "none")
        self._conclude_departure(phone)

    def _died(self, phone: Phone, words: str, end: Ending) -> None:
        """A phone that should have lived has no process any more: what becomes of it?"""
        self._window.over(phone)
        ended = self._let_go(phone)
        served = None if phone.ready_at is None else self.now - phone.ready_at
        if served is not None and served >= CLEAN_UP_DEADLINE:
            phone.has_left_calls = False  # it has ended those of its predecessors
        phone.has_left_calls = phone.has_left_calls or bool(ended)
        if phone.is_asked_for:
            # Whoever asked is told, and knows better than the policy whether to try again.
            decision = Decision("park")
        else:
            decision = phone.policy.decide(end, self.now, served=served)
        if decision.action == "restart":
            self._record(phone, words, ended, str(decision))
            self._back_off(phone, words, decision.delay)
            return
        phone.is_given_up = (
            decision.action == "park"
            and not phone.is_asked_for
            and phone.spec.restart.policy != "temporary"
        )
        why = ""
        if decision.action == "park":
            why = f"{words}; {decision.why}" if decision.why else words
        if self._needs_clean_up(phone):
            self._record(phone, words, ended, f"clean up its calls, then {decision}")
            self._clean_up(phone, why)
            return
        self._record(phone, words, ended, str(decision))
        if decision.action == "park":
            self._fail(phone, why)
        else:
            self._leave(phone)

    def _needs_clean_up(self, phone: Phone) -> bool:
        """Whether far ends may believe in calls that nobody here knows of any more.

        The journal has what was never told: a process may die with the news of a call in its hands.
        """
        if phone.spec.after_crash != "clean_up" or phone.sockets is None:
            return False
        return phone.has_left_calls or self._has_journal(phone.name)

    def _record(self, phone: Phone, cause: str, calls: tuple[str, ...], next_action: str) -> None:
        """One event and one line of the log for each death."""
        phone.deaths += 1
        self.deaths += 1
        died = death(phone, cause=cause, calls=calls, next_action=next_action, now=self.now)
        self._emit(phone, died)
        self.effects.append(log_line(phone, died))

    def _let_go(self, phone: Phone) -> tuple[str, ...]:
        """Forget what was the dead process's own; its calls, which are over now."""
        if phone.route is not None:
            self._routes.pop(phone.route, None)
            phone.route = None
        phone.registration = Registration()
        return self._lost(phone)

    # -- what follows a death --------------------------------------------------------------------

    def _back_off(self, phone: Phone, why: str, delay: float) -> None:
        """The held sockets keep what arrives meanwhile."""
        phone.why = why
        self._move(phone, PhoneState.BACKOFF, why)
        phone.pid = 0
        if delay:
            self._retry_at(phone, self.now + delay, self._restart)
        else:
            self._restart(phone)
        self._window.fill(self.now)

    def _restart(self, phone: Phone) -> None:
        """Its back-off is over: start it when its turn comes."""
        turn = self._spawns.reserve(self.now)
        if turn <= self.now:
            self._begin_start(phone)
        else:
            self._retry_at(phone, turn, self._begin_start)

    def _retry_at(self, phone: Phone, when: float, action: Callable[[Phone], None]) -> None:
        phone.retry_at = when
        phone.retry_timer = self.timers.at(when, lambda: action(phone))

    def _no_longer_waiting(self, phone: Phone) -> None:
        phone.retry_at = None
        if phone.retry_timer is not None:
            phone.retry_timer.cancel()
            phone.retry_timer = None

    def _clean_up(self, phone: Phone, parked: str) -> None:
        """One last process, that ends the calls which were left behind."""
        phone.why = parked
        self._move(phone, PhoneState.DRAINING, "ends the calls that were left behind")
        phone.pid = 0
        phone.is_cleaning_up = True
        phone.departure = Departure(self.now, parked=parked)
        overdue = lambda: self._clean_up_overdue(phone)  # noqa: E731
        phone.departure.timers.append(self.timers.at(self.now + CLEAN_UP_DEADLINE, overdue))
        self._window.add(phone, self.now)

    def _clean_up_overdue(self, phone: Phone) -> None:
        why = f"its calls are not ended within {CLEAN_UP_DEADLINE:.0f} s"
        if phone.pid:
            self.kill(phone, signal.SIGKILL, why)
        else:
            self._conclude_departure(phone)

    def _leave(self, phone: Phone) -> None:
        """It had nothing left to do: as if it had been stopped."""
        self._admissions.close_sockets(phone)
        self._move(phone, PhoneState.STOPPED)
        phone.pid = 0
        self._settled(phone)
        self._window.fill(self.now)

    def _fail(self, phone: Phone, why: str) -> None:
        """Parked, until somebody resets or starts it."""
        if phone.spec.on_parked == "close" or phone.is_asked_for:
            self._admissions.close_sockets(phone)
        else:
            self._hold(phone)
        phone.why = why
        phone.failed_at = self.now
        self._move(phone, PhoneState.FAILED, why)
        phone.pid = 0
        self._settled(phone)
        self._window.fill(self.now)

    def _hold(self, phone: Phone) -> None:
        """Keep the sockets of a parked phone open, and what waits there from growing old."""
        if phone.sockets is not None:
            self.effects.append(DropStale(phone.sockets, STALE_AFTER))
            phone.retry_timer = self.timers.at(self.now + DROP_EVERY, lambda: self._hold(phone))

    # -- stop ------------------------------------------------------------------------------------

    def stop(self, phone: Phone, *, quick: bool = False, then_start: bool = False) -> None:
        """Towards STOPPED from any state; ``quick`` does not wait for the peers' answers."""
        phone.start_again = then_start
        if phone.state in _WITHOUT_PROCESS or self._window.is_queued(phone):
            self._no_longer_waiting(phone)
            self._window.over(phone)
            if phone.departure is not None and phone.departure.parked:
                self._cancel_timers(phone.departure)
                phone.departure = None
            phone.departure = phone.departure or Departure(self.now, how="not_running")
            self._conclude_departure(phone)
        elif phone.state is PhoneState.STARTING:
            # It has no calls and perhaps not even a process: no reason to be gentle.
            self._move(phone, PhoneState.DRAINING)
            self._window.over(phone)
            self._depart(phone, how="killed")
            self.effects.append(Signal(phone.name, phone.incarnation, signal.SIGKILL))
            self._window.fill(self.now)
        elif phone.state is PhoneState.READY:
            self._move(phone, PhoneState.DRAINING)
            self._depart(phone, how="drained")
            if quick:
                self._hurry(phone)
            else:
                self.send(phone, Drain())
                self._escalate(phone, TERM_AFTER, KILL_AFTER, REPORT_AFTER)
        elif phone.departure is not None and phone.is_cleaning_up:
            # What was nobody's wish is somebody's now, and has less time.
            self._cancel_timers(phone.departure)
            phone.departure = Departure(self.now)
            if quick:
                self._hurry(phone)
            else:
                self._escalate(phone, TERM_AFTER, KILL_AFTER, REPORT_AFTER)
        elif quick:
            self._hurry(phone)

    def reset(self, phone: Phone) -> None:
        """Forget its failure: FAILED becomes STOPPED, and BACKOFF is over."""
        if phone.state is PhoneState.FAILED:
            self.stop(phone)
        elif phone.state is PhoneState.BACKOFF:
            phone.policy.clear()
            self.start(phone)

    def drained(self, phone: Phone, unanswered_byes: tuple[str, ...]) -> None:
        """The worker said its calls are over; told that this was heard, it exits."""
        if phone.departure is not None:
            phone.departure.said_goodbye = True
            phone.departure.unanswered_byes = unanswered_byes
        self.send(phone, Exit(why="drained"))

    def _depart(self, phone: Phone, how: StopHow) -> None:
        phone.departure = Departure(self.now, how=how)

    def _hurry(self, phone: Phone) -> None:
        assert phone.departure is not None
        self._cancel_timers(phone.departure)
        self._signal(phone, signal.SIGTERM, "terminated")
        self._escalate(phone, None, QUICK_KILL_AFTER, QUICK_REPORT_AFTER)

    def _escalate(self, phone: Phone, term: float | None, kill: float, report: float) -> None:
        assert phone.departure is not None
        at, timers = self.timers.at, phone.departure.timers
        if term is not None:
            action = lambda: self._signal(phone, signal.SIGTERM, "terminated")  # noqa: E731
            timers.append(at(self.now + term, action))
        timers.append(at(self.now + kill, lambda: self._signal(phone, signal.SIGKILL, "killed")))
        timers.append(at(self.now + report, lambda: self._stuck(phone)))

    @staticmethod
    def _cancel_timers(departure: Departure) -> None:
        for timer in departure.timers:
            timer.cancel()
        departure.timers.clear()

    def _signal(self, phone: Phone, number: signal.Signals, how: StopHow) -> None:
        assert phone.departure is not None
        phone.departure.how = how
        self.effects.append(Signal(phone.name, phone.incarnation, number))

    def _stuck(self, phone: Phone) -> None:
        """SIGKILL did not help: the process hangs in the kernel.  Say so and go on."""
        assert phone.departure is not None
        phone.departure.how = "stuck"
        self._settled(phone)

    def _conclude_departure(self, phone: Phone) -> None:
        phone.is_cleaning_up = False
        self._window.over(phone)
        if phone.departure is not None:
            self._cancel_timers(phone.departure)
            if parked := phone.departure.parked:
                phone.departure = None
                self._fail(phone, parked)
                return
        phone.pid = 0
        phone.why = ""
        phone.policy.clear()
        phone.is_given_up = False
        self._admissions.succeed(phone, self.now)
        if phone.start_again:
            phone.start_again = False
            phone.departure = None
            try:
                self.start(phone)
            except PortError as error:
                if phone.state is not PhoneState.STOPPED:
                    self._move(phone, PhoneState.STOPPED)
                self._admissions.close_sockets(phone)
                phone.why = str(error)
                self._settled(phone)
            return
        self._admissions.close_sockets(phone)
        if phone.state is not PhoneState.STOPPED:
            self._move(phone, PhoneState.STOPPED)
        self._settled(phone)
        phone.departure = None
        self._window.fill(self.now)

    # -- helpers ---------------------------------------------------------------------------------

    def _move(self, phone: Phone, wanted: PhoneState, why: str = "") -> None:
        previous, phone.state = phone.state, check_move(PHONE_MOVES, phone.state, wanted)
        self._emit(phone, PhoneMoved(state=wanted, previous=previous, why=why))

    def _emit(self, phone: Phone, body: PhoneAdded | PhoneRemoved | PhoneMoved | PhoneDied) -> None:
        self.events.emit(
            body, self.now, phone=phone.name, incarnation=phone.incarnation, pid=phone.pid
        )
