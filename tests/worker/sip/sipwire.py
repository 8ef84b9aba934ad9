"""A wire without sockets and a clock without sleeping, for tests of the SIP engine.

`Net` joins engines by a programmable wire; `Hand` plays one peer by hand-written messages.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from journaled import JournaledEngine

from sipherd.worker.sip import sdp
from sipherd.worker.sip.message import Message, parse
from sipherd.worker.stack import Hop, Media, MediaPlan, Output, Send, StackConfig

ALICE = Hop("192.0.2.1", 5060)
BOB = Hop("192.0.2.2", 5062)
MEDIA = Media(host="192.0.2.9", port=4000)
OFFER = sdp.offer(MEDIA, 1)
REPEATS = [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
"""When something is sent again with T1 doubling up to T2, within 64*T1."""


def tokens(prefix: str) -> Callable[[], str]:
    """A deterministic source of unique tokens."""
    numbers = itertools.count(1)
    return lambda: f"{prefix}{next(numbers)}"


def engine(name: str = "a", address: Hop = ALICE, **config: object) -> JournaledEngine:
    """An engine with predictable tokens, whose journal is checked."""
    settings = {"user": name, "host": address[0], "port": address[1]} | config
    return JournaledEngine(StackConfig(**settings), tokens(name), lambda: 0.5)


def sends(outputs: list[Output]) -> list[Message]:
    """The datagrams among ``outputs``, parsed."""
    return [parse(output.data) for output in outputs if isinstance(output, Send)]


def lines(outputs: list[Output]) -> list[str]:
    """Method or status code of each datagram among ``outputs``."""
    return [message.method or str(message.code) for message in sends(outputs)]


def events(outputs: list[Output], kind: type | None = None) -> list[Output]:
    """What ``outputs`` report, optionally of one kind; media plans only if asked for."""
    if kind is not None:
        return [o for o in outputs if isinstance(o, kind)]
    return [o for o in outputs if not isinstance(o, (Send, MediaPlan))]


def request(
    method: str,
    *,
    uri: str = "sip:a@192.0.2.1:5060",
    via: str = "SIP/2.0/UDP 192.0.2.2:5062;branch=z9hG4bKone;rport",
    call_id: str = "call@b",
    from_tag: str = "fromb",
    to_tag: str = "",
    cseq: int = 1,
    extra: tuple[str, ...] = ("Contact: <sip:b@192.0.2.2:5062>",),
    body: bytes = b"",
    content_type: str = "application/sdp",
) -> bytes:
    """A hand-written request to ALICE from BOB."""
    head = [
        f"{method} {uri} SIP/2.0",
        f"Via: {via}",
        "Max-Forwards: 70",
        f"From: <sip:b@192.0.2.2>;tag={from_tag}",
        f"To: <sip:a@192.0.2.1>{';tag=' + to_tag if to_tag else ''}",
        f"Call-ID: {call_id}",
        f"CSeq: {cseq} {method}",
        *extra,
    ]
    if body:
        head.append(f"Content-Type: {content_type}")
    head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode() + body


def branch(name: str) -> str:
    """A Via of BOB with the branch ``name``."""
    return f"SIP/2.0/UDP 192.0.2.2:5062;branch=z9hG4bK{name};rport"


def reply(
    to: Message,
    code: int,
    *,
    tag: str = "tob",
    extra: tuple[str, ...] = ("Contact: <sip:b@192.0.2.2:5062>",),
    body: bytes = b"",
) -> bytes:
    """A hand-written response to ``to``, a request of the engine."""
    head = [
        f"SIP/2.0 {code} Whatever",
        *(f"Via: {via}" for via in to.headers.fields("Via")),
        f"From: {to.headers['From']}",
        f"To: {to.headers['To']}" + (f";tag={tag}" if tag and not to.to.tag else ""),
        f"Call-ID: {to.call_id}",
        f"CSeq: {to.headers['CSeq']}",
        *extra,
    ]
    if body:
        head.append("Content-Type: application/sdp")
    head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode() + body


class Hand:
    """One engine, fed by hand; it remembers everything that came out, and when."""

    def __init__(self, **config: object) -> None:
        self.engine = engine("a", ALICE, **config)
        self.now = 0.0
        self.log: list[tuple[float, Output]] = []

    def take(self, outputs: list[Output]) -> list[Output]:
        """Remember ``outputs``."""
        self.log += [(self.now, output) for output in outputs]
        return outputs

    def receive(self, data: bytes, source: Hop | tuple[str, int] = BOB) -> list[Output]:
        """A message arrives."""
        return self.take(self.engine.receive(data, Hop(*source), self.now))

    def advance(self, seconds: float) -> list[Output]:
        """Let time pass, every timer run at its own time."""
        end = self.now + seconds
        outputs: list[Output] = []
        while (due := self.engine.next_timer()) is not None and due <= end:
            self.now = max(self.now, due)
            outputs += self.take(self.engine.tick(self.now))
        self.now = end
        return outputs

    def times(self, what: str) -> list[float]:
        """When datagrams with this method or status code were sent."""
        return [
            round(at, 6)
            for at, output in self.log
            if isinstance(output, Send)
            and (message := parse(output.data))
            and what == (message.method or str(message.code))
        ]

    def reported(self, kind: type) -> list[Output]:
        """Every event of ``kind``."""
        return [output for _, output in self.log if isinstance(output, kind)]

    # Shorthands

    def place(self, call: str = "c1", *, messages: bool = False) -> Message:
        """Place a call to BOB; returns the INVITE."""
        target = self.engine.read_target("sip:b@192.0.2.2:5062")
        placed = self.engine.call(call, target, MEDIA, self.now, messages=messages)
        return sends(self.take(placed))[0]

    def placed_and_answered(self, *, messages: bool = False) -> tuple[Message, Message]:
        """A call to BOB that is up; returns INVITE and ACK."""
        invite = self.place(messages=messages)
        return invite, sends(self.receive(reply(invite, 200, body=OFFER)))[0]

    def ringing(self, *, body: bytes = OFFER, extra: tuple[str, ...] = ()) -> str:
        """A call from BOB that rings; returns our tag."""
        contact = "Contact: <sip:b@192.0.2.2:5062>"
        outputs = self.receive(request("INVITE", body=body, extra=(contact, *extra)))
        return sends(outputs)[0].to.tag

    def up(self, *, body: bytes = OFFER, extra: tuple[str, ...] = ()) -> str:
        """A call from BOB that is answered and acknowledged; returns our tag."""
        tag = self.ringing(body=body, extra=extra)
        self.take(self.engine.answer("i1", MEDIA, self.now))
        self.receive(request("ACK", via=branch("ack"), to_tag=tag))
        return tag

    def is_empty(self) -> bool:
        """Nothing is left of any call."""
        user_agent = self.engine
        return (
            user_agent.is_idle()
            and not len(user_agent.transactions)
            and not user_agent.calls._dialogs
            and not user_agent.transactions._origins
            and user_agent.ctx.timers.allocated == 0
            and not user_agent.journal
            and not user_agent.ctx.transcripts
        )


class Net:
    """Engines joined by a wire.  ``policy`` gives the delays at which a datagram arrives.

    An empty list loses it, two entries duplicate it.  Default: at once, and once.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.engines = {"a": engine("a", ALICE), "b": engine("b", BOB)}
        self.addresses = {"a": ALICE, "b": BOB}
        self.policy: Callable[[Message], list[float]] = lambda message: [0.0]
        self.log: list[tuple[float, str, Output]] = []
        self._flight: list[tuple[float, int, str, bytes, Hop]] = []
        self._numbers = itertools.count()

    def do(self, name: str, outputs: list[Output]) -> None:
        """Carry out what engine ``name`` returned."""
        for output in outputs:
            self.log.append((self.now, name, output))
            if not isinstance(output, Send):
                continue
            to = next((n for n, at in self.addresses.items() if at == output.destination), None)
            if to is None:
                continue
            for delay in self.policy(parse(output.data)):
                item = (self.now + delay, next(self._numbers), to, output.data)
                heapq.heappush(self._flight, (*item, self.addresses[name]))

    def run(self, until: float) -> None:
        """Deliver and tick in order of time."""
        while True:
            timers = [(due, n) for n, e in self.engines.items() if (due := e.next_timer())]
            due = min([*(t for t, _ in timers), *(f[0] for f in self._flight[:1])], default=None)
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            if self._flight and self._flight[0][0] <= self.now:
                _, _, to, data, source = heapq.heappop(self._flight)
                self.do(to, self.engines[to].receive(data, source, self.now))
            else:
                name = min(timers)[1]
                self.do(name, self.engines[name].tick(self.now))
        self.now = until

    def events(self, name: str, kind: type | None = None) -> list[Output]:
        """What engine ``name`` reported."""
        return events([o for _, n, o in self.log if n == name], kind)

    def place(self, call: str = "c1") -> None:
        """Alice calls Bob."""
        target = self.engines["a"].read_target("sip:b@192.0.2.2:5062")
        self.do("a", self.engines["a"].call(call, target, MEDIA, self.now))
