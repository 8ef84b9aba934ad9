"""The poll loop of a phone's process: one thread, one epoll, and nothing in it that blocks.

An idle phone sleeps: it wakes for a datagram, a connection, a message of its supervisor, a signal,
the end of the lifeline, a name that was looked up, a file that was read, or a timer, and else only
to give a sign of life.  Nobody but the loop gives it: it means that the loop goes round.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from ..protocol import behaviour
from ..protocol.events import BehaviourEvent, BehaviourFailed, BehaviourStarted
from ..protocol.exits import WorkerExit
from ..protocol.fork import SipSockets
from ..protocol.messages import Exit, Happened, Hello, InjectFault, StartBehaviour, Welcome
from ..protocol.pulse import Pulse
from . import faults
from .behaviour import Behaviour, failure
from .config import stack_config
from .delivery import Delivery
from .journal import Journal
from .link import Link
from .media.loader import Loader
from .phone import Phone
from .resolve import Resolver
from .rtp_ports import RtpPorts
from .rtp_sockets import RtpSockets
from .sip.engine import Engine
from .stack import Aged, Hop, shared_hop
from .tcp import Tcp
from .udp import Udp

__all__ = ["Worker"]

_ROUND = 64
"""Datagrams taken at a time, so that commands and timers get their turn."""
_BATCH = 256
"""Datagrams of the backlog that are looked at together."""
_EXIT_LIMIT = 0.5
"""Seconds after SIGTERM or the end of the lifeline when the process is gone at the latest."""
_UNWATCHED = 3600.0
"""Seconds without a sign of life before the welcome: nobody looks for one yet."""
_LINGER = 0.05
"""Seconds for the last messages to reach the supervisor's socket."""


class Worker:
    """The process of one phone, from hello to exit."""

    def __init__(
        self,
        *,
        endpoint: str,
        phone: str,
        incarnation: int,
        token: str,
        sockets: SipSockets,
        journal_fd: int,
        lifeline_fd: int,
        pulse: Pulse,
    ) -> None:
        self._counts: Counter[str] = Counter()
        self._sockets = sockets
        self._journal_fd = journal_fd
        self._journal: Journal | None = None
        self._lifeline_fd = lifeline_fd
        self._pulse = pulse
        self._phone: Phone | None = None
        self._udp: Udp | None = None
        self._behind = True
        """The socket was not empty yet: what is in it came before us."""
        self._tcp: Tcp | None = None
        self._delivery: Delivery | None = None
        self._behaviour: Behaviour | None = None
        self._exit_code: int | None = None
        self._exit_as: int = WorkerExit.CLEAN
        """What Exit means: the behaviour has failed, or nothing has."""
        self._rest = _UNWATCHED
        """Seconds without a sign of life while nothing happens."""
        self._wakeup_fd = _catch_sigterm()
        self._resolver = Resolver()
        self._loader = Loader()
        self._link = Link(endpoint, phone, incarnation, self._counts)
        self._epoll = select.epoll()
        self._rtp = RtpSockets(self._epoll, self._counts)
        for fd in (self._wakeup_fd, self._resolver.fd, self._loader.fd, self._link.fd):
            self._epoll.register(fd, select.EPOLLIN)
        # Nothing is ever written to it: it is readable at its end.
        self._epoll.register(lifeline_fd, select.EPOLLIN)
        self._link.send(Hello(pid=os.getpid(), token=token))

    def run(self) -> int:
        """Serve until told to leave; returns the exit code."""
        while self._exit_code is None:
            try:
                self._turn()
            except Exception as error:  # one fault must not end the other calls
                if self._phone is None or isinstance(error, MemoryError):
                    raise  # there are none: say so to whoever waits for the hello
                self._note_failure(self._phone)
        # An orphan has nobody to tell.
        orphaned = self._lifeline_fd < 0
        self._link.close(0.0 if orphaned else _LINGER)
        return self._exit_code

    # Inside

    def _turn(self) -> None:
        for fd, events in self._sleep():
            if fd == self._sockets.udp:
                self._guard(self._on_udp, events)
            elif self._tcp is not None and self._tcp.owns(fd):
                self._guard(self._tcp.ready, fd, events)
            elif fd == self._lifeline_fd:
                self._guard(self._on_orphaned)
            elif fd == self._wakeup_fd:
                self._guard(self._on_signal)
            elif fd == self._resolver.fd:
                self._guard(self._on_collected, self._resolver.collect)
            elif fd in self._rtp:
                self._guard(self._on_rtp, fd)
            elif fd == self._loader.fd:
                self._guard(self._on_collected, self._loader.collect)
            elif self._behaviour is not None and fd == self._behaviour.fd:
                self._guard(self._on_behaviour_over, self._behaviour)
        # Asked in every turn, whatever woke us: its descriptor is edge-triggered, and sending
        # uses the edge up.
        if self._exit_code is None and self._link.wants_turn():
            self._guard(self._on_link)
        phone = self._phone
        if phone is not None:
            assert self._tcp is not None
            now = time.monotonic()
            due = self._tcp.next_deadline()
            if due is not None and due <= now:
                self._guard(self._tcp.tick)
            due = phone.next_deadline()
            if due is not None and due <= now:
                self._guard(phone.tick, now)
            if phone.exit_now:
                self._exit_code = 0
                assert self._journal is not None
                self._journal.wipe()  # it has hung up by itself: nothing is left behind

    def _sleep(self) -> list[tuple[int, int]]:
        """Sleep until there is something to do, with a sign of life now and then.

        That is all an idle phone does, so nothing else is looked at for it: 500 phones that went
        through a whole turn each time took twice the processor time.
        """
        if self._journal is not None:
            self._pulse.dialogs(len(self._journal))
        due = self._next_deadline()
        now = time.monotonic()
        while True:
            wake = min(due, now + self._rest)
            self._pulse.due(max(wake, now))
            ready = self._epoll.poll(max(wake - now, 0.0))
            now = time.monotonic()
            self._pulse.due(now)  # there is work, and the next sign is due until it is done
            if 0.0 < wake < now:
                self._pulse.late(now - wake)
            if ready or now >= due:
                return ready

    def _next_deadline(self) -> float:
        """When the loop is to turn at the latest."""
        if self._exit_code is not None or self._link.wants_turn():
            return 0.0
        if self._phone is None or self._tcp is None:
            return math.inf
        deadlines = (self._phone.next_deadline(), self._tcp.next_deadline())
        return min((when for when in deadlines if when is not None), default=math.inf)

    def _on_link(self) -> None:
        for message in self._link.receive():
            if isinstance(message.body, InjectFault) and self._suffer(message.body):
                return
            if isinstance(message.body, Exit) and self._exit_as and not self._is_leaving():
                self._exit_code = self._exit_as  # a crash: the journal is for the next process
                return
            if isinstance(message.body, StartBehaviour) and self._behaviour is not None:
                self._guard(self._start_behaviour, self._behaviour)
            elif self._phone is not None:
                self._guard(self._phone.command, message, time.monotonic())
            elif isinstance(message.body, Welcome):
                self._adopt(message.body)
            elif isinstance(message.body, Exit):
                self._exit_code = 0
                return
            else:
                self._counts["link_unexpected"] += 1

    def _suffer(self, body: InjectFault) -> bool:
        """Do the process the harm that was asked for; whether it is over with it."""
        match body.fault:
            case "hang":
                faults.hang()
            case "vanish":
                if self._journal is not None:
                    self._journal.wipe()
                faults.vanish()
            case "exit":
                self._exit_code = body.code
                return True
        return False

    def _adopt(self, welcome: Welcome) -> None:
        """We are the phone's one process: the sockets are ours."""
        # First of all: a phone whose behaviour can't be loaded never comes up.
        if welcome.behaviour is not None and not self._load(welcome.behaviour):
            return
        self._rest = welcome.spec.hang.late
        udp = Udp(self._sockets.udp, self._counts)
        tcp = Tcp(
            self._sockets.tcp,
            epoll=self._epoll,
            counts=self._counts,
            received=self._received,
            lost=lambda data, hop, address: delivery.undeliverable(data, address, hop),
            exhausted=lambda: phone.exhausted("a TCP connection", time.monotonic()),
            clock=time.monotonic,
        )
        self._resolver.family = udp.family
        delivery = Delivery(
            udp=udp.send,
            tcp=tcp.send,
            names=self._resolver,
            lost=self._lost,
            unresolved=self._unresolved,
        )
        ports = RtpPorts(
            udp.host,
            welcome.rtp_first,
            welcome.rtp_pairs,
            skipped=lambda port, why: phone.pair_skipped(port, why),
            exhausted=lambda: phone.exhausted("the RTP ports of a call", time.monotonic()),
            shared=welcome.spec.media == "none",
            resting=welcome.rtp_resting,
            clock=time.monotonic,
        )
        journal = self._journal = Journal(self._journal_fd)
        if journal.damaged:
            self._counts["journal_damaged"] += journal.damaged
        if welcome.spec.after_crash == "leave":
            journal.wipe()
        phone = Phone(
            welcome=welcome,
            stack=Engine(stack_config(welcome)),
            ports=ports,
            journal=journal,
            transmit=delivery.send,
            tell=lambda body, reply_to: self._link.send(body, reply_to=reply_to),
            resolve=self._resolver.start,
            rtp=self._rtp,
            load=self._loader.start,
            counts=self._counts,
            now=time.monotonic(),
            wall=time.time() - time.monotonic(),
        )
        self._udp, self._tcp, self._delivery, self._phone = udp, tcp, delivery, phone
        self._epoll.register(udp.fd, select.EPOLLIN | select.EPOLLERR)
        # The phone has said that it is ready: reading 256 messages takes longer than to get here,
        # and nothing is done before they are read, whatever the supervisor sends meanwhile.
        self._guard(self._catch_up, journal.records())

    def _load(self, given: behaviour.Behaviour) -> bool:
        try:
            self._behaviour = Behaviour(given)
        except MemoryError:
            raise
        except BaseException as error:  # its imports may do anything
            self._exit_as = WorkerExit.CONFIGURATION
            self._tell(failure(given.name, error, is_loaded=False))
            return False
        return True

    def _start_behaviour(self, started: Behaviour) -> None:
        self._epoll.register(started.fd, select.EPOLLIN)
        self._tell(BehaviourStarted(name=started.name, pid=os.getpid()))
        started.start()

    def _on_behaviour_over(self, over: Behaviour) -> None:
        """Whether a failure ends the process is the supervisor's to say: it answers with Exit."""
        end = over.collect()
        if end is None:
            return
        self._epoll.unregister(over.fd)
        over.close()
        self._behaviour = None
        if isinstance(end, BehaviourFailed):
            out_of_memory = over.is_out_of_memory
            self._exit_as = WorkerExit.MEMORY if out_of_memory else WorkerExit.BEHAVIOUR
        self._tell(end)

    def _is_leaving(self) -> bool:
        return self._phone is not None and self._phone.exit_at is not None

    def _tell(self, body: BehaviourEvent) -> None:
        self._link.send(Happened(t=time.monotonic(), body=body))

    def _catch_up(self, left: Mapping[str, bytes] = MappingProxyType({})) -> None:
        """Serve what came while there was no process; the rest of a long backlog in later turns."""
        assert self._udp is not None
        assert self._delivery is not None
        assert self._phone is not None
        waiting: list[Aged] = []
        wall = time.time()
        while self._behind and len(waiting) < _BATCH:
            found = self._udp.receive(wall)
            if found is None:
                self._behind = False
                break
            data, source, age = found
            self._delivery.received(data)
            waiting.append(Aged(data, shared_hop(*source), age))
        self._guard(self._phone.catch_up, waiting, time.monotonic(), left)

    def _on_udp(self, events: int) -> None:
        assert self._udp is not None
        assert self._delivery is not None
        if events & select.EPOLLERR:
            for _ in range(_ROUND):
                lost = self._udp.unreachable()
                if lost is None:
                    break
                self._guard(self._delivery.undeliverable, *lost)
        if self._behind:
            self._catch_up()
            return
        for _ in range(_ROUND):
            found = self._udp.receive(time.time())
            if found is None:
                break
            data, source, age = found
            self._pulse.late(age)
            self._received(data, shared_hop(*source))

    def _received(self, data: bytes, source: Hop) -> None:
        assert self._delivery is not None
        assert self._phone is not None
        self._delivery.received(data)
        self._guard(self._phone.receive, data, source, time.monotonic())

    def _lost(self, data: bytes, hop: Hop) -> None:
        assert self._phone is not None
        self._guard(self._phone.unreachable, data, hop, time.monotonic())

    def _unresolved(self, data: bytes, hop: Hop) -> None:
        assert self._phone is not None
        unreachable = partial(self._phone.unreachable, unresolved=True)
        self._guard(unreachable, data, hop, time.monotonic())

    def _on_signal(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wakeup_fd, 64)
        self._leave(orphaned=False)

    def _on_orphaned(self) -> None:
        self._epoll.unregister(self._lifeline_fd)
        self._lifeline_fd = -1
        self._leave(orphaned=True)

    def _leave(self, *, orphaned: bool) -> None:
        # Whatever holds the loop up from here on, the kernel ends the process in time.
        signal.setitimer(signal.ITIMER_REAL, _EXIT_LIMIT)
        if self._phone is None:
            self._exit_code = 0
        else:
            self._phone.leave(time.monotonic(), orphaned=orphaned)

    def _on_rtp(self, fd: int) -> None:
        assert self._phone is not None
        for datagram in self._rtp.receive(fd):
            self._guard(self._phone.audio, datagram, time.monotonic())

    def _on_collected(self, collect: Callable[[], None]) -> None:
        assert self._phone is not None
        self._phone.collect(collect, time.monotonic())

    def _guard(self, callback: Callable[..., None], *arguments: object) -> None:
        try:
            callback(*arguments)
        except Exception as error:
            if self._phone is None or isinstance(error, MemoryError):
                raise  # at the ceiling of its memory the process is of no use to any call
            if getattr(error, "errno", None) == errno.ENOMEM:  # as ZeroMQ says it
                raise MemoryError from error
            self._note_failure(self._phone)

    @staticmethod
    def _note_failure(phone: Phone) -> None:
        phone.failed("worker_error", traceback.format_exc(), time.monotonic())


def _catch_sigterm() -> int:
    """The descriptor that SIGTERM makes readable."""
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    # The C handler writes to the pipe; the Python handler has nothing left to do.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    return read
