"""What the supervisor decides.  No socket, clock, process or logging in here.

``step(input, now)`` takes one thing that happened (``effects.Input``) and returns what is to be
done about it, in order; ``tick(now)`` runs the deadlines that have passed.  ``Life`` moves single
phones, ``Operations`` several at once, ``Switchboard`` has the calls, ``Requests`` the commands
of clients; this module says who gets what, and how the herd begins and ends.
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from ..protocol.behaviour import Behaviour
from ..protocol.errors import CallNotFound, PhoneNotFound
from ..protocol.events import (
    BehaviourFailed,
    HerdReady,
    HerdStarted,
    HerdStopping,
    NurseryDied,
    RegistrationEvent,
)
from ..protocol.messages import (
    AddPhones,
    AskToRegister,
    AwaitIncoming,
    CallCommand,
    CallList,
    CancelCall,
    ClientMessage,
    Counters,
    Done,
    Drained,
    Envelope,
    GetHerd,
    HangUpCall,
    Happened,
    Hello,
    HerdInfo,
    InjectFault,
    Leave,
    ListCalls,
    ListPhones,
    PhoneCommand,
    PhoneInfo,
    PhoneList,
    PlaceCall,
    Ready,
    Refused,
    RefusesCalls,
    RegisterNow,
    Reload,
    RemovePhones,
    ResetPhones,
    RestartPhones,
    Snapshot,
    StartPhones,
    StopHerd,
    StopPhones,
    StopReports,
    Subscribe,
    Unsubscribe,
    Withdraw,
    WorkerMessage,
)
from ..protocol.spec import HerdSpec, PhoneSpec
from ..protocol.states import PhoneState
from . import behaviours
from .admission import AdmissionError, Admissions
from .draining import Draining
from .effects import (
    Begin,
    ClientGone,
    DeathCause,
    DrainRequested,
    Effect,
    Finish,
    Forked,
    ForkRefused,
    FromClient,
    FromWorker,
    HerdFileBad,
    HerdFileRead,
    Input,
    Log,
    NurseryGone,
    Phase,
    ProcessGone,
    ReloadRequested,
    Signal,
    Signs,
    StopRequested,
)
from .events import EventStream
from .faults import Faults
from .hang_watch import HangWatch
from .lags import Lags
from .life import Life
from .operations import Creation, Operations, Starting, Stopping
from .phones import Phone, PhoneTable
from .ports import PortPool, RtpPool
from .registrations import RegisterSlots
from .reloading import Reloads
from .requests import Request, Requests
from .restarts import SpawnLimit
from .switchboard import Switchboard
from .timers import Timers

__all__ = ["EXIT_CONFIGURATION", "EXIT_FAILED", "Core"]

EXIT_CONFIGURATION = 2
EXIT_FAILED = 4

# What a herd that is being stopped still answers.
_WHILE_STOPPING = (
    GetHerd
    | ListPhones
    | ListCalls
    | StopHerd
    | Subscribe
    | Unsubscribe
    | Leave
    | Withdraw
    | HangUpCall
    | CancelCall
)

# Counters that are there from the start: a reader need not guess their names.
_COUNTED = (
    "client_garbage",
    "clients_held_up",
    "clients_refused",
    "stale_dropped",
    "undeliverable",
    "worker_gaps",
    "worker_garbage",
    "worker_strays",
)

# Counters of phones that are those of the herd, too, whatever becomes of the phones.
_SUMMED = ("rtp_datagrams_lost", "rtp_exhausted")

_HAS_PROCESS = (PhoneState.STARTING, PhoneState.READY, PhoneState.DRAINING)


@dataclass(slots=True)
class _End:
    """The herd is being stopped."""

    exit_code: int
    requests: list[Request]
    message: str = ""
    """Why, for people, if it failed."""


class Core:
    """The decisions of one supervisor.

    ``token`` makes the secret a worker proves itself with, ``jitter`` numbers from 0 to 1;
    ``has_journal(phone)`` tells whether its processes have ever written down a call.
    ``cpus`` are the processors that phones may be bound to, None for any.
    """

    def __init__(
        self,
        spec: HerdSpec,
        *,
        ports: PortPool,
        rtp: RtpPool,
        events: EventStream,
        token: Callable[[], str],
        pid: int,
        version: str,
        wait_registered: bool = True,
        jitter: Callable[[], float] = random.random,
        has_journal: Callable[[str], bool] = lambda phone: False,
        cpus: Collection[int] | None = None,
    ) -> None:
        self.spec = spec
        self.events = events
        self.table = PhoneTable()
        self.counts: Counter[str] = Counter(dict.fromkeys(_COUNTED + _SUMMED, 0))
        self.nursery_pid = 0
        self.clients: Callable[[], Sequence[str]] = tuple
        """Set by the shell: the clients by the name of their key, empty for a local one."""
        self.listen = ""
        """Set by the shell: where clients of other machines connect."""
        self.lines_dropped: Callable[[], int] = lambda: 0
        """Set by the shell: lines that neither stdout nor any log had room for."""
        self._ports = ports
        self._pid = pid
        self._version = version
        self._effects: list[Effect] = []
        self._timers = Timers()
        self._now = 0.0
        self._began = 0.0
        self._end: _End | None = None
        self._wait_registered = wait_registered
        self._coming_up: Creation | None = None
        """The phones of the herd file, until HerdReady."""
        self._is_ready = False
        self._slots = RegisterSlots(spec.register_rate, self._timers, self._grant_slot)
        self._admissions = Admissions(
            table=self.table, ports=ports, rtp=rtp, jitter=jitter, cpus=cpus
        )
        self._spawns = SpawnLimit(spec.spawn_rate)
        self._life = Life(
            table=self.table,
            admissions=self._admissions,
            spawns=self._spawns,
            timers=self._timers,
            events=events,
            effects=self._effects,
            token=token,
            settled=self._settled,
            lost=self._lost,
            has_journal=has_journal,
        )
        self._lags = Lags()
        self._hang_watch = HangWatch(
            table=self.table,
            life=self._life,
            timers=self._timers,
            events=events,
            effects=self._effects,
            lags=self._lags,
        )
        self._operations = Operations(self._life)
        self._requests = Requests(self._timers, self._effects)
        self._board = Switchboard(
            table=self.table, life=self._life, requests=self._requests, events=events
        )
        self._faults = Faults(
            lambda: self.spec,
            table=self.table,
            life=self._life,
            requests=self._requests,
            events=events,
        )
        self._has_begun = False
        """The phones of the herd file have all been started."""
        self._draining = Draining(table=self.table, life=self._life, board=self._board)
        self._behaviours = behaviours.Behaviours(self._life, lambda: bool(self._draining))
        self._reloads = Reloads(
            life=self._life,
            admissions=self._admissions,
            operations=self._operations,
            requests=self._requests,
            effects=self._effects,
            spec=lambda: self.spec,
            adopt=self._adopt,
            is_stopping=lambda: self._end is not None,
        )

    # -- the shell's side ------------------------------------------------------------------------

    def step(self, input: Input, now: float) -> list[Effect]:
        """What to do about one input, in order."""
        self._set_time(now)
        match input:
            case FromWorker(route, message):
                self._from_worker(route, message)
            case FromClient(client, message, refusal):
                self._from_client(client, message, refusal)
            case ClientGone(client):
                self._client_gone(client)
            case Forked() | ForkRefused() | ProcessGone() | DeathCause():
                self._about_process(input)
            case Signs():
                self._hang_watch.check(input)
            case NurseryGone(pid, cause):
                self.events.emit(NurseryDied(pid=pid, cause=cause), now)
                self._life.nursery_gone()
            case Begin(phones):
                self._begin(phones)
            case StopRequested(why, exit_code):
                self._stop_herd(why, exit_code, None, quick=self._end is not None)
            case DrainRequested(why):
                if self._end is None:
                    self._draining.begin(why)
            case ReloadRequested():
                self._reload_by_signal()
            case HerdFileRead(spec):
                self._reloads.read(spec)
            case HerdFileBad(why):
                self._reloads.unreadable(why)
        if self._end is None and self._draining.is_over():
            self._stop_herd("drained", 0, None, quick=False)
        return self._take_effects()

    def tick(self, now: float) -> list[Effect]:
        """Run every deadline that has passed."""
        self._set_time(now)
        self._timers.run(now)
        return self._take_effects()

    def next_deadline(self) -> float | None:
        """When ``tick`` is wanted next."""
        return self._timers.next()

    def _set_time(self, now: float) -> None:
        self._now = self._life.now = self._board.now = now

    def _take_effects(self) -> list[Effect]:
        # The list itself is shared with the parts.
        effects = list(self._effects)
        self._effects.clear()
        return effects

    @property
    def phase(self) -> Phase:
        """Where the herd is, for the service manager."""
        if self._end is not None:
            return "stopping"
        if self._reloads.is_running:
            return "reloading"
        return "ready" if self._is_ready else "starting"

    def status(self) -> str:
        """The herd in a few words."""
        calls = f"draining, calls left: {len(self._board.desk)}; " if self._draining else ""
        return calls + self.table.status()

    def _settled(self, phone: Phone) -> None:
        self._draining.settled(phone)
        self._behaviours.settled(phone)
        self._hang_watch.settled(phone)
        self._operations.settled(phone)
        self._check_ready()
        if phone.is_given_up:
            self._check_share()

    def _lost(self, phone: Phone) -> tuple[str, ...]:
        return self._board.lost(phone)

    # -- beginning and end -----------------------------------------------------------------------

    def _begin(self, specs: tuple[PhoneSpec, ...]) -> None:
        self._began = self._now
        try:
            admission = self._admissions.admit(specs)
        except AdmissionError as error:
            self._effects.append(Finish(EXIT_CONFIGURATION, str(error)))
            return
        self.events.emit(HerdStarted(herd=self.spec.herd, pid=self._pid), self._now)
        self._operations.create(self._life.announce(admission), self._begun)

    def _begun(self, creation: Creation) -> None:
        if self._end is not None:
            return
        if creation.problem:
            self._effects.append(Finish(EXIT_FAILED, creation.problem))
            return
        self._coming_up = creation
        self._has_begun = True
        self._check_ready()

    def _check_ready(self) -> None:
        """Say HerdReady once every phone that registers has done so, or was refused."""
        creation = self._coming_up
        if creation is None or self._end is not None:
            return
        states = Counter(phone.registration.state for phone in creation.phones)
        if self._wait_registered and (
            states["registering"] or any(phone.is_coming for phone in creation.phones)
        ):
            return
        self._coming_up = None
        self._is_ready = True
        ready = HerdReady(
            phones=len(creation.phones),
            seconds=round(self._now - self._began, 3),
            registered=states["registered"],
            not_registered=states["failed"],
        )
        self.events.emit(ready, self._now)

    def _check_share(self) -> None:
        """Stop the herd once restarts have helped too few of its phones."""
        failed = [phone for phone in self.table if phone.is_given_up]
        if self._end is not None or len(failed) <= self.spec.failed_share * len(self.table):
            return
        first = min(failed, key=lambda phone: phone.failed_at)
        why = (
            f"{len(failed)} of {len(self.table)} phones have failed, more than failed_share "
            f"{self.spec.failed_share:g} allows; the first was {first.name}: {first.why}"
        )
        self._stop_herd(why, EXIT_FAILED, None, quick=False)
        assert self._end is not None
        self._end.message = why

    def _grant_slot(self, name: str, incarnation: int) -> None:
        phone = self.table.get(name)
        if phone and phone.incarnation == incarnation and phone.route is not None:
            self._life.send(phone, RegisterNow())

    def _stop_herd(self, why: str, exit_code: int, request: Request | None, *, quick: bool) -> None:
        first = self._end is None
        if self._end is None:
            self._end = _End(exit_code, self._draining.requests)
            self.events.emit(HerdStopping(why=why), self._now)
        if request is not None:
            self._end.requests.append(request)
        if first or quick:
            self._operations.stop(list(self.table), self._stopped, quick=quick)

    def _adopt(self, spec: HerdSpec) -> None:
        """The herd file says this now."""
        self.spec = spec
        self._slots.set_rate(spec.register_rate)
        self._spawns.set_rate(spec.spawn_rate)

    def _reload_by_signal(self) -> None:
        if self._end is None and self._has_begun and not self._draining:
            self._reloads.begin()
        else:
            why = f"the herd is {'draining' if self._draining else self.phase}"
            self._effects.append(Log("warning", "reload_refused", {"why": why}))

    def _stopped(self, stopping: Stopping) -> None:
        assert self._end is not None
        if self._end.exit_code < 0:
            return  # the gentle stop and the quick one are over at the same time
        reports = stopping.in_order()
        for request in self._end.requests:
            self._requests.done(request, StopReports(reports=reports))
        stuck = [report.phone for report in reports if report.how == "stuck"]
        if stuck:
            message = f"the processes of these phones survive SIGKILL: {', '.join(stuck)}"
            self._effects.append(Finish(EXIT_FAILED, message))
        else:
            self._effects.append(Finish(self._end.exit_code, self._end.message))
        self._end.exit_code = -1

    # -- processes -------------------------------------------------------------------------------

    def _about_process(self, input: Forked | ForkRefused | ProcessGone | DeathCause) -> None:
        phone = self.table.get(input.phone)
        current = phone is not None and phone.incarnation == input.incarnation
        match input:
            case Forked(name, incarnation, pid):
                if phone and current and phone.state in _HAS_PROCESS:
                    self._life.forked(phone, pid)
                else:
                    # It came too late: nobody awaits it, and it has not touched the socket.
                    self._effects.append(Signal(name, incarnation, signal.SIGKILL))
            case ForkRefused(error=error):
                if phone and current:
                    self._life.fork_refused(phone, error)
            case ProcessGone():
                # Without a pid its death was concluded from the cause already.
                if phone and current and phone.pid:
                    self._life.process_gone(phone)
            case DeathCause():
                if phone and current and phone.pid:
                    self._life.death_cause(phone, input)

    def _from_worker(self, route: bytes, message: Envelope[WorkerMessage]) -> None:
        if isinstance(message.body, Hello):
            self._life.hello(route, message, message.body)
            return
        phone = self._life.by_route(route)
        if phone is None or phone.incarnation != message.incarnation:
            self.counts["worker_strays"] += 1
            return
        if message.seq != phone.seq_in + 1:
            self.counts["worker_gaps"] += 1
            gap = {"phone": phone.name, "expected": phone.seq_in + 1, "got": message.seq}
            self._effects.append(Log("warning", "worker_gap", gap))
        phone.seq_in = message.seq
        match message.body:
            case Happened(t=t, body=BehaviourFailed() as failed):
                self._board.happened(phone, t, self._behaviours.judge(phone, failed))
            case Happened(t=t, body=body):
                self._lags.heard(self._now - t)
                self._board.happened(phone, t, body)
                if isinstance(body, RegistrationEvent):
                    self._check_ready()
            case AskToRegister():
                self._slots.ask(phone.name, phone.incarnation, self._now)
            case Done() | Refused():
                self._board.replied(message.reply_to, message.body)
            case Counters(values=values):
                for name in _SUMMED:
                    self.counts[name] += values.get(name, 0) - phone.counters.get(name, 0)
                phone.counters = values
            case Ready():
                self._life.ready(phone)
            case RefusesCalls():
                phone.refuses_calls = True
            case Drained(unanswered_byes=byes):
                known = [phone.calls.get(key) for key in byes]
                names = (call.id if call else key for call, key in zip(known, byes, strict=True))
                self._life.drained(phone, tuple(names))
            case _:  # a log line is the shell's
                pass

    # -- clients ---------------------------------------------------------------------------------

    def _client_gone(self, client: bytes) -> None:
        self.events.unsubscribe(client)
        self._requests.drop_client(client)
        self._board.client_gone(client)

    def _from_client(
        self, client: bytes, message: Envelope[ClientMessage], refusal: Refused | None
    ) -> None:
        if isinstance(message.body, Leave):
            self._client_gone(client)
            return
        request = self._requests.open(client, message, self._now)
        if request is None:
            return
        if refusal is not None:
            self._requests.refuse(request, refusal.reason, refusal.message)
            return
        if self._end is not None and not isinstance(message.body, _WHILE_STOPPING):
            why = f"herd {self.spec.herd} is being stopped"
            self._requests.refuse(request, "herd_stopping", why)
            return
        if why := self._draining.forbids(request.body):
            self._requests.refuse(request, "herd_draining", why)
            return
        try:
            self._carry_out(request)
        except (PhoneNotFound, CallNotFound) as error:
            self._requests.not_found(request, error)

    def _carry_out(self, request: Request) -> None:
        """Raises PhoneNotFound and CallNotFound before anything was changed."""
        if isinstance(request.body, PlaceCall | AwaitIncoming | CallCommand | PhoneCommand):
            self._board.carry_out(request, request.body)
            return
        match request.body:
            case InjectFault() as body:
                self._faults.inject(request, body)
            case Withdraw(request=id):
                waiting = self._requests.running(request.client, id)
                if waiting is not None and isinstance(waiting.body, AwaitIncoming):
                    self._requests.expire(waiting)
                self._requests.done(request)
            case ListPhones(which=which):
                self._requests.done(request, self._list(self.table.select(which)))
            case ListCalls(which=which):
                desk = self._board.desk
                calls = [desk.find(id) for id in which] if which else list(desk.current())
                infos = tuple(call.info for call in calls)
                self._requests.done(request, CallList(calls=infos))
            case GetHerd():
                self._requests.done(request, self._herd_info())
            case Subscribe() as body:
                self._subscribe(request, body)
            case Unsubscribe():
                self.events.unsubscribe(request.client)
                self._requests.done(request)
            case _:
                self._carry_out_on_phones(request)

    def _carry_out_on_phones(self, request: Request) -> None:
        match request.body:
            case AddPhones(specs=specs, behaviours=given):
                self._add(request, specs, given)
            case StartPhones(which=which):
                self._start(request, self.table.select(which))
            case RestartPhones(which=which):
                phones = self.table.select(which)
                if not self._refused_draining(request, phones):
                    over = self._started(request, phones)
                    self._operations.restart(phones, over)
            case StopPhones(which=which, now=now):
                phones = self.table.select(which)
                self._operations.stop(phones, self._reported(request), quick=now)
            case RemovePhones(which=which):
                self._operations.stop(self.table.select(which), self._removed(request))
            case ResetPhones(which=which):
                self._reset(request, self.table.select(which))
            case StopHerd(drain=True) if self._end is None:
                self._draining.begin("sipherd stop --drain", request)
            case Reload(dry_run=dry_run):
                if self._has_begun:
                    self._reloads.begin(request, dry_run=dry_run)
                else:
                    why = f"herd {self.spec.herd} is still starting; try again when it is up"
                    self._requests.refuse(request, "herd_starting", why)
            case StopHerd(now=now):
                self._stop_herd("sipherd stop", 0, request, quick=now)
            case _:
                raise AssertionError(f"no handler for {type(request.body).__name__}")

    def _add(
        self,
        request: Request,
        specs: tuple[PhoneSpec, ...],
        given: Mapping[str, Behaviour],
    ) -> None:
        try:
            behaviours.check(given, specs)
            admission = self._admissions.admit(specs)
        except AdmissionError as error:
            self._requests.refuse(request, error.reason, str(error))
            return
        for phone in admission.phones:
            phone.behaviour = given.get(phone.name)
        phones = self._life.announce(admission)

        def over(creation: Creation) -> None:
            if creation.problem:
                self._requests.refuse(request, "start_failed", creation.problem)
            else:
                self._requests.done(request, self._list(phones))

        self._operations.create(phones, over)

    def _start(self, request: Request, phones: list[Phone]) -> None:
        if not self._refused_draining(request, phones):
            self._operations.start(phones, self._started(request, phones))

    def _refused_draining(self, request: Request, phones: list[Phone]) -> bool:
        draining = [phone.name for phone in phones if phone.state is PhoneState.DRAINING]
        if draining:
            why = f"being stopped right now: {', '.join(draining)}; try again when they are"
            self._requests.refuse(request, "phone_not_ready", why)
        return bool(draining)

    def _started(self, request: Request, phones: list[Phone]) -> Callable[[Starting], None]:
        def over(starting: Starting) -> None:
            if starting.problems:
                self._requests.refuse(request, "start_failed", "; ".join(starting.problems))
            else:
                self._requests.done(request, self._list(phones))

        return over

    def _reported(self, request: Request) -> Callable[[Stopping], None]:
        def over(stopping: Stopping) -> None:
            self._requests.done(request, StopReports(reports=stopping.in_order()))

        return over

    def _removed(self, request: Request) -> Callable[[Stopping], None]:
        def over(stopping: Stopping) -> None:
            for phone in stopping.phones:
                # Not one that survives SIGKILL, was started again, or was removed by another.
                if phone.state is PhoneState.STOPPED and self.table.get(phone.name) is phone:
                    self._life.dismiss(phone)
            self._requests.done(request, StopReports(reports=stopping.in_order()))

        return over

    def _reset(self, request: Request, phones: list[Phone]) -> None:
        for phone in phones:
            self._life.reset(phone)
        self._requests.done(request, self._list(phones))

    def _subscribe(self, request: Request, body: Subscribe) -> None:
        phones = frozenset(self.table.find(word).name for word in body.phones)
        self.events.subscribe(request.client, phones, body.own, body.after)
        snapshot = Snapshot(
            n=self.events.n,
            phones=self._list(list(self.table)).phones,
            calls=tuple(call.info for call in self._board.desk.current()),
        )
        self._requests.done(request, snapshot)

    # -- what there is ---------------------------------------------------------------------------

    def _info(self, phone: Phone) -> PhoneInfo:
        return phone.info(self._now, self._board.desk.waiting(phone.name))

    def _list(self, phones: list[Phone]) -> PhoneList:
        return PhoneList(phones=tuple(self._info(phone) for phone in phones))

    def _herd_info(self) -> HerdInfo:
        ports = self._ports
        counters: dict[str, float] = {
            "ports_allocated": ports.allocated,
            "port_allocation_failures": ports.failures,
            "port_allocation_mean_ms": round(
                1000 * ports.seconds / ports.allocated if ports.allocated else 0.0, 3
            ),
            "phones_started": self._life.started,
            "phone_restarts": self._life.restarts,
            "phone_deaths": self._life.deaths,
            "client_gaps": self._requests.gaps,
            "log_lines_dropped": self.lines_dropped(),
            **self.counts,
        }
        clients = self.clients()
        return HerdInfo(
            herd=self.spec.herd,
            pid=self._pid,
            nursery_pid=self.nursery_pid,
            version=self._version,
            uptime=self._now - self._began,
            states=dict(Counter(phone.state.value for phone in self.table)),
            calls=len(self._board.desk),
            clients=len(clients),
            remote_clients=tuple(sorted(key for key in clients if key)),
            listen=self.listen,
            clock=self._now,
            box_overloaded=self._hang_watch.is_box_overloaded,
            lags=tuple(self._lags),
            counters=counters,
        )
