"""Phones with the real engine, on a wire without sockets and a clock without sleeping."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import msgspec

from sipherd.protocol.events import (
    CallEnded,
)
from sipherd.protocol.messages import (
    Envelope,
    Happened,
    PlaceCall,
    SupervisorToWorker,
    Welcome,
)
from sipherd.protocol.spec import PhoneSpec
from sipherd.worker.config import stack_config
from sipherd.worker.media.loader import Loaded
from sipherd.worker.phone import Phone
from sipherd.worker.resolve import Resolved
from sipherd.worker.rtp_ports import NoRtpPort, RtpLease
from sipherd.worker.rtp_sockets import Datagram
from sipherd.worker.sip.engine import Engine
from sipherd.worker.stack import Address, Hop

B = TypeVar("B")
A: Address = ("192.0.2.1", 5060)
B_: Address = ("192.0.2.2", 5062)
NOBODY = "sip:x@192.0.2.99"


class Wire:
    """Time, and datagrams on their way; to an address where nobody is they get lost."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.desks: dict[Address, Desk] = {}
        self.flying: deque[tuple[bytes, Address, Address]] = deque()
        self.passed: list[bytes] = []
        self.rtp: list[Rtp] = []
        self.audio: deque[tuple[Desk, Datagram]] = deque()
        self.drop: Callable[[bytes], bool] = lambda data: False

    def settle(self) -> None:
        """Deliver until nothing flies any more."""
        while self.flying:
            data, source, destination = self.flying.popleft()
            self.passed.append(data)
            if destination in self.desks and not self.drop(data):
                self.desks[destination].phone.receive(data, Hop(*source), self.now)

    def advance(self, seconds: float) -> None:
        """Let time pass, from timer to timer."""
        self.settle()
        until = self.now + seconds
        while True:
            alive = [d.phone for d in self.desks.values() if not d.phone.exit_now]
            due = [when for phone in alive if (when := phone.next_deadline()) is not None]
            if not due or min(due) > until:
                break
            self.now = max(min(due), self.now)
            for phone in alive:
                phone.tick(self.now)
            self.settle()
            while self.audio:
                desk, datagram = self.audio.popleft()
                desk.phone.audio(datagram, self.now)
        self.now = until

    def lines(self) -> list[str]:
        """Method or status of all that was on the wire."""
        words = [data.split(b"\r\n")[0].split(b" ") for data in self.passed]
        return [(w[1] if w[0] == b"SIP/2.0" else w[0]).decode() for w in words]


class Ports:
    """Leases without sockets."""

    def __init__(self, pairs: int = 10) -> None:
        self.free = [4000 + 2 * number for number in range(pairs)]

    def lease(self) -> RtpLease:
        if not self.free:
            raise NoRtpPort("no RTP pair left")
        return RtpLease(self.free.pop(0), (), lambda lease: self.free.append(lease.port))

    def rested(self, port: int) -> None:
        pass


class Rtp:
    """The RTP sockets of one desk; what is sent is delivered at once."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.ports: dict[str, int] = {}
        self.silent = False
        """What is sent gets lost."""
        desk.wire.rtp.append(self)

    def open(self, call: str, lease: RtpLease) -> None:
        self.ports[call] = lease.port

    def close(self, call: str) -> None:
        del self.ports[call]

    def send_rtp(self, call: str, data: bytes, destination: Address) -> None:
        self._send(call, data, destination, 0)

    def send_rtcp(self, call: str, data: bytes, destination: Address) -> None:
        self._send(call, data, destination, 1)

    def _send(self, call: str, data: bytes, destination: Address, offset: int) -> None:
        wire = self.desk.wire
        source = (self.desk.address[0], self.ports[call] + offset)
        for rtp in () if self.silent else wire.rtp:
            for key, port in rtp.ports.items():
                if (rtp.desk.address[0], port + offset) == destination:
                    wire.audio.append((rtp.desk, Datagram(key, not offset, data, source)))


class Memory:
    """A journal; it can be full."""

    def __init__(self) -> None:
        self.records: dict[str, bytes] = {}
        self.full = False

    def write(self, key: str, data: bytes) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.records[key] = data

    def forget(self, key: str) -> None:
        self.records.pop(key, None)


class Desk:
    """One phone and everything it told its supervisor."""

    def __init__(
        self,
        wire: Wire,
        address: Address,
        pairs: int = 10,
        *,
        purpose: Literal["serve", "clean_up"] = "serve",
        journal: Memory | None = None,
        **spec: Any,
    ) -> None:
        self.wire = wire
        self.address = address
        self.ports = Ports(pairs)
        self.told: list[tuple[Any, int]] = []
        self.lookups: list[tuple[Hop, Resolved]] = []
        self.names: dict[str, str] = {}
        self.loads: list[tuple[str, Loaded]] = []
        self.rtp = Rtp(self)
        self.journal = journal or Memory()
        self.unreachable: set[Address] = set()
        self.counts: Counter[str] = Counter()
        self._id = 0
        welcome = Welcome(
            purpose=purpose,
            spec=msgspec.convert({"name": "p"} | spec, PhoneSpec),
            host=address[0],
            port=address[1],
            rtp_first=4000,
            rtp_pairs=pairs,
        )
        self.stack = Engine(stack_config(welcome))
        self.phone = Phone(
            welcome=welcome,
            stack=self.stack,
            ports=self.ports,
            journal=self.journal,
            transmit=self._transmit,
            tell=lambda body, reply_to: self.told.append((body, reply_to)),
            resolve=lambda hop, resolved: self.lookups.append((hop, resolved)),
            rtp=self.rtp,
            load=lambda path, loaded: self.loads.append((path, loaded)),
            counts=self.counts,
            now=wire.now,
            wall=1_700_000_000.0,
        )
        wire.desks[address] = self
        self.phone.catch_up((), wire.now, dict(self.journal.records))

    def _transmit(self, data: bytes, hop: Hop) -> bool:
        host, port = hop.address
        destination = (self.names.get(host, host), port)
        if destination in self.unreachable:
            return False
        self.wire.flying.append((data, self.address, destination))
        return True

    @property
    def uri(self) -> str:
        return f"sip:p@{self.address[0]}:{self.address[1]}"

    def start(self, body: SupervisorToWorker, id: int | None = None) -> int:
        """Give a command; its number."""
        if id is None:
            self._id += 1
            id = self._id
        self.phone.command(Envelope(id=id, phone="p", incarnation=1, body=body), self.wire.now)
        return id

    def reply(self, id: int) -> Any:
        """The one reply to a command, or None while it is not there."""
        found = [body for body, reply_to in self.told if reply_to == id]
        assert len(found) <= 1
        return found[0] if found else None

    def run(self, body: SupervisorToWorker) -> Any:
        """Give a command and deliver what flies; returns the reply."""
        id = self.start(body)
        self.wire.settle()
        return self.reply(id)

    def call(self, target: str, call: str = "c1", **more: Any) -> Any:
        return self.run(PlaceCall(phone="p", target=target, call=call, dialled="dialled", **more))

    def events(self) -> list[Any]:
        return [body.body for body, _ in self.told if isinstance(body, Happened)]

    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.events()]

    def heard(self, kind: type[B]) -> list[B]:
        found = [body for body, _ in self.told if isinstance(body, kind)]
        return found + [event for event in self.events() if isinstance(event, kind)]

    def ended(self) -> CallEnded:
        """The end of the one call."""
        (ended,) = self.heard(CallEnded)
        return ended
