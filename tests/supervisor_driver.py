"""Drives the supervisor's core through histories, in the place of its shell.

Time is a number, the kernel's ports are a set, and processes and workers are what the test says
of them.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable
from typing import Any, TypeVar

from sipherd.protocol.events import CallPlaced, Event, IncomingCall
from sipherd.protocol.fork import SipSockets
from sipherd.protocol.messages import (
    Done,
    Drain,
    Drained,
    Envelope,
    Exit,
    Happened,
    Hello,
    PlaceCall,
    Ready,
    Refused,
    Welcome,
)
from sipherd.protocol.spec import HerdPorts, HerdSpec, PhoneSpec, PortRange
from sipherd.protocol.states import PhoneState
from sipherd.supervisor.core import Core
from sipherd.supervisor.effects import (
    Begin,
    DeathCause,
    Effect,
    Finish,
    Forked,
    FromClient,
    FromWorker,
    LookAtPhones,
    ProcessGone,
    Sign,
    Signal,
    Signs,
    StartProcess,
    ToClient,
    ToWorker,
)
from sipherd.supervisor.events import EventStream
from sipherd.supervisor.phones import Phone
from sipherd.supervisor.ports import PortPool, RtpPool

__all__ = ["Driver", "Kernel", "phone"]

T = TypeVar("T")


def phone(name: str, number: str = "", **keys: Any) -> PhoneSpec:
    """A phone without media, which needs no thought about its number of calls."""
    return PhoneSpec(name=name, number=number, media=keys.pop("media", "none"), **keys)


class Kernel:
    """SIP ports: which are bound, and by whom."""

    def __init__(self) -> None:
        self.foreign: dict[int, str] = {}
        self.bound: dict[SipSockets, int] = {}
        self._fds = itertools.count(100)

    def bind(self, address: str, port: int) -> tuple[str, int, SipSockets]:
        if port == 0:
            port = next(p for p in itertools.count(40000) if p not in self.bound.values())
        if port < 1024:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        if port in self.foreign or port in self.bound.values():
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        if address == "192.0.2.1":
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        sockets = SipSockets(next(self._fds), next(self._fds))
        self.bound[sockets] = port
        return address, port, sockets

    def close(self, sockets: SipSockets) -> None:
        del self.bound[sockets]

    def placed(self, spec: PhoneSpec, known: dict[str, str]) -> PhoneSpec:
        return spec if spec.address else spec.at("10.0.0.1")

    def holder(self, address: str, port: int) -> str:
        return self.foreign.get(port, "")


class Driver:
    """One core, and everything around it."""

    def __init__(
        self,
        *specs: PhoneSpec,
        sip: str = "5060-5099",
        wait_registered: bool = True,
        cpus: tuple[int, ...] | None = None,
        **keys: Any,
    ) -> None:
        self.now = 1000.0
        self.kernel = Kernel()
        self.spec = HerdSpec(
            herd="test", ports=HerdPorts(sip=PortRange.parse(sip)), phones=specs, **keys
        )
        pool = PortPool(
            self.spec.ports.sip,
            retries=self.spec.port_retries,
            strict=self.spec.strict_ports,
            bind=self.kernel.bind,
            close=self.kernel.close,
            holder=self.kernel.holder,
            placed=self.kernel.placed,
            clock=lambda: self.now,
        )
        self.events: list[Event] = []
        self.journals: set[str] = set()
        """Phones whose processes have written down a call."""
        serial = itertools.count(1)
        self.core = Core(
            self.spec,
            ports=pool,
            rtp=RtpPool(self.spec.ports.rtp),
            events=EventStream(lambda t: t),
            token=lambda: f"token-{next(serial)}",
            pid=1,
            version="0",
            wait_registered=wait_registered,
            cpus=cpus,
            jitter=lambda: 0.0,
            has_journal=lambda phone: phone in self.journals,
        )
        self.effects: list[Effect] = []
        self.pids = itertools.count(5000)
        self.silent: dict[str, tuple[float, str]] = {}
        """Phones that give no sign of life: since when it is due, and their run state."""
        self.late: dict[str, tuple[float, int]] = {}
        """Phones that came late, by how much, and how many dialogs they have."""
        self._ids = itertools.count(1)
        self._seq: dict[bytes, int] = {}

    # -- the shell's part ------------------------------------------------------------------------

    def step(self, input: Any) -> list[Effect]:
        return self._note(self.core.step(input, self.now))

    def after(self, seconds: float) -> list[Effect]:
        """Let time pass, stopping at every deadline on the way."""
        until = self.now + seconds
        effects: list[Effect] = []
        while (deadline := self.core.next_deadline()) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            effects += self._tick()
        self.now = until
        return effects

    def oversleep(self, seconds: float) -> None:
        """Let time pass and miss every deadline on the way."""
        self.now += seconds
        self._tick()

    def _tick(self) -> list[Effect]:
        effects = self._note(self.core.tick(self.now))
        for look in self.wanted(LookAtPhones):
            effects += self.step(self._signs(look))
        return effects

    def _signs(self, look: LookAtPhones) -> Signs:
        """Everybody is in time but those in `silent`."""
        signs = []
        for phone in self.core.table:
            since, state = self.silent.get(phone.name, (self.now + 1, ""))
            state = state if self.now - since >= look.overdue else ""
            late, dialogs = self.late.get(phone.name, (0.0, 0))
            signs.append(Sign(phone.name, phone.incarnation, since, late, dialogs, state))
        return Signs(tuple(signs))

    def _note(self, effects: list[Effect]) -> list[Effect]:
        self.events += self.core.events.new
        self.core.events.new.clear()
        self.effects += effects
        return effects

    def wanted(self, kind: type[T]) -> list[T]:
        """The effects of this kind that nobody has taken yet; they are taken."""
        found = [effect for effect in self.effects if isinstance(effect, kind)]
        self.effects = [effect for effect in self.effects if not isinstance(effect, kind)]
        return found

    # -- phones ----------------------------------------------------------------------------------

    def begin(self) -> list[Effect]:
        """Start the herd's phones and let all of them come up."""
        self.step(Begin(self.spec.phones))
        self.bring_up()
        return self.effects

    def bring_up(self) -> None:
        """Let every process that is asked for start and serve."""
        while starts := self.wanted(StartProcess):
            for start in starts:
                self.serve(start)

    def fork(self, start: StartProcess) -> int:
        pid = next(self.pids)
        self.step(Forked(start.phone, start.incarnation, pid))
        return pid

    def serve(self, start: StartProcess) -> None:
        pid = self.fork(start)
        self.from_worker(
            start.phone, Hello(pid=pid, token=start.token), incarnation=start.incarnation
        )
        assert any(isinstance(m, Welcome) for m in self.to_worker(start.phone))
        self.from_worker(start.phone, Ready())

    def phone(self, name: str) -> Phone:
        return self.core.table.find(name)

    def state(self, name: str) -> PhoneState:
        return self.phone(name).state

    def route(self, name: str, incarnation: int | None = None) -> bytes:
        return f"{name}/{incarnation or self.phone(name).incarnation}".encode()

    def from_worker(
        self, name: str, body: Any, *, reply_to: int = 0, incarnation: int | None = None
    ) -> list[Effect]:
        incarnation = incarnation or self.phone(name).incarnation
        route = self.route(name, incarnation)
        self._seq[route] = self._seq.get(route, 0) + 1
        message: Envelope[Any] = Envelope(
            id=0,
            reply_to=reply_to,
            phone=name,
            incarnation=incarnation,
            seq=self._seq[route],
            body=body,
        )
        return self.step(FromWorker(route, message))

    def commands(self, name: str) -> list[Envelope[Any]]:
        """Messages to the phone's worker, taken."""
        ours = [
            effect
            for effect in self.effects
            if isinstance(effect, ToWorker) and effect.route == self.route(name)
        ]
        self.effects = [effect for effect in self.effects if effect not in ours]
        return [effect.message for effect in ours]

    def to_worker(self, name: str) -> list[Any]:
        """Their bodies."""
        return [message.body for message in self.commands(name)]

    def die(self, name: str, *, exit_code: int | None = None, signal: int | None = None) -> None:
        """The phone's process ends; the pidfd is first, then the nursery's word."""
        incarnation = self.phone(name).incarnation
        self.step(ProcessGone(name, incarnation))
        self.step(DeathCause(name, incarnation, exit_code, signal))

    def drain(self, name: str) -> None:
        """The worker does what it is told: end its calls and exit."""
        assert any(isinstance(m, Drain) for m in self.to_worker(name))
        self.from_worker(name, Drained())
        assert any(isinstance(m, Exit) for m in self.to_worker(name))
        self.die(name, exit_code=0)

    def signals(self) -> list[tuple[str, int]]:
        return [(signal.phone, signal.number) for signal in self.wanted(Signal)]

    # -- clients ---------------------------------------------------------------------------------

    def ask(
        self, body: Any, *, client: bytes = b"A", timeout: float | None = None, id: int = 0
    ) -> int:
        """Send a command; its number."""
        id = id or next(self._ids)
        self.step(FromClient(client, Envelope(id=id, timeout=timeout, body=body)))
        return id

    def reply(self, id: int, client: bytes = b"A") -> Done | Refused | Any:
        """The answer to a command, taken; None if there is none yet."""
        for effect in self.effects:
            if isinstance(effect, ToClient) and (effect.client, effect.reply_to) == (client, id):
                self.effects.remove(effect)
                return effect.body
        return None

    def answer(self, body: Any, **keys: Any) -> Any:
        """Send a command and return what it was done with, or its refusal."""
        client = keys.get("client", b"A")
        reply = self.reply(self.ask(body, **keys), client)
        return reply.result if isinstance(reply, Done) else reply

    # -- calls -----------------------------------------------------------------------------------

    def place(self, name: str, target: str, **keys: Any) -> str:
        """A call that the worker placed; its id."""
        client = keys.pop("client", b"A")
        id = self.ask(PlaceCall(phone=name, target=target, **keys), client=client)
        (command,) = [m for m in self.commands(name) if isinstance(m.body, PlaceCall)]
        key = command.body.call
        self.happens(
            name,
            CallPlaced(
                call=key,
                target=target,
                sip_call_id=f"{key}@test",
                request_uri=command.body.target,
                next_hop=("127.0.0.1", 5060),
            ),
        )
        self.from_worker(name, Done(), reply_to=command.id)
        reply = self.reply(id, client)
        assert isinstance(reply, Done)
        return str(reply.result.call)  # type: ignore[union-attr]

    def ring(self, name: str, key: str) -> str:
        """An incoming call; its id."""
        self.happens(
            name,
            IncomingCall(
                call=key,
                sip_call_id=f"{key}@peer",
                from_uri="sip:peer@127.0.0.1",
                from_display="",
                to_uri="sip:x@127.0.0.1",
                request_uri="sip:x@127.0.0.1",
                source=("127.0.0.1", 5099),
            ),
        )
        return next(e.body.call for e in reversed(self.events) if isinstance(e.body, IncomingCall))

    def happens(self, name: str, body: Any) -> list[Effect]:
        return self.from_worker(name, Happened(t=self.now, body=body))

    def told(self, kind: type[T], where: Callable[[Event], bool] = lambda e: True) -> list[T]:
        """Bodies of the events of this kind so far."""
        return [e.body for e in self.events if isinstance(e.body, kind) and where(e)]

    def finished(self) -> Finish | None:
        found = self.wanted(Finish)
        assert len(found) <= 1
        return found[0] if found else None
