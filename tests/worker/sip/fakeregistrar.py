"""A registrar without sockets, on a clock without sleeping: what a phone registers with in tests.

It is written from the RFCs and not from the engine: its digest is its own.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from sipwire import ALICE, reply, tokens

from sipherd.worker.sip.engine import Engine
from sipherd.worker.sip.message import Message, parse
from sipherd.worker.stack import (
    Credentials,
    Hop,
    Output,
    Registrar,
    Send,
    SlotWanted,
    StackConfig,
)

SERVER = Hop("192.0.2.8", 5060)
KEY = Credentials("alice", "wonderland")
CONTACT = "sip:1001@192.0.2.1:5060"


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def fields(authorization: str) -> dict[str, str]:
    return dict(re.findall(r'(\w+)="?([^",]*)', authorization.removeprefix("Digest ")))


def register_config(**changes: object) -> StackConfig:
    settings = {
        "user": "1001",
        "host": ALICE.host,
        "port": ALICE.port,
        "registrar": Registrar(server="192.0.2.8", aor="sip:1001@lab.test", expires=3600),
        "credentials": KEY,
    } | changes
    return StackConfig(**settings)


@dataclass
class FakeRegistrar:
    """Answers REGISTER as a PBX does: challenge, bindings, 423, shortened expiry."""

    now: Callable[[], float]
    password: str = KEY.password
    longest: int = 10**6
    shortest: int = 0
    nonce_life: float = 300.0
    challenges: bool = True
    bindings: dict[str, float] = field(default_factory=dict)
    """When each contact expires."""
    others: tuple[str, ...] = ()
    """Contacts of others, listed as well."""
    seen: list[Message] = field(default_factory=list)
    """Every request that it took for a new one."""
    codes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._nonces: dict[str, tuple[float, int]] = {}
        self._numbers = itertools.count(1)
        self._answers: dict[str, bytes] = {}
        self._order: dict[str, int] = {}

    def answer(self, data: bytes) -> bytes:
        request = parse(data)
        assert request.method == "REGISTER"
        branch = request.via.branch
        if branch in self._answers:
            return self._answers[branch]
        number = request.cseq.number
        assert number > self._order.get(request.call_id, 0), "CSeq must rise"
        self._order = {request.call_id: number}
        self.seen = [*self.seen[-50:], request]
        response = self._serve(request)
        # Copies may be late: the transactions of the last minutes are remembered.
        self._answers[branch] = response
        self._answers = dict(list(self._answers.items())[-8:])
        self.codes.append(parse(response).code)
        return response

    def is_bound(self, contact: str = CONTACT) -> bool:
        return self.bindings.get(contact, 0.0) > self.now()

    def _serve(self, request: Message) -> bytes:
        if self.challenges:
            header = self._check(request)
            if header:
                return reply(request, 401, extra=(header,))
        contact = request.contact
        assert contact is not None
        wanted = int(contact.params["expires"] or 0)
        if wanted == 0:
            self.bindings.pop(contact.uri, None)
        elif wanted < self.shortest:
            return reply(request, 423, extra=(f"Min-Expires: {self.shortest}",))
        else:
            self.bindings[contact.uri] = self.now() + min(wanted, self.longest)
        listed = [
            f"Contact: <{uri}>;expires={int(until - self.now())}"
            for uri, until in self.bindings.items()
            if until > self.now()
        ]
        return reply(request, 200, extra=(*self.others, *listed))

    def _check(self, request: Message) -> str:
        """The challenge, if the credentials do not do."""
        given = fields(request.headers.get("Authorization"))
        nonce = given.get("nonce", "")
        self._nonces = {n: v for n, v in self._nonces.items() if v[0] > self.now()}
        right = False
        if given:
            secret = md5(f"{KEY.username}:lab.test:{self.password}")
            what = md5(f"REGISTER:{request.uri}")
            nc, cnonce = given["nc"], given["cnonce"]
            right = given["response"] == md5(f"{secret}:{nonce}:{nc}:{cnonce}:auth:{what}")
            until, last = self._nonces.get(nonce, (0.0, 0))
            if right and until and int(nc, 16) > last:
                self._nonces[nonce] = until, int(nc, 16)
                return ""
        fresh = f"nonce{next(self._numbers)}"
        self._nonces[fresh] = self.now() + self.nonce_life, 0
        stale = ", stale=true" if right else ""
        return f'WWW-Authenticate: Digest realm="lab.test", nonce="{fresh}", qop="auth"{stale}'


class Day:
    """One phone, its registrar, a wire that loses, and time.

    ``loses(request_or_response)`` says what gets lost; slots are given after ``slot_delay``.
    """

    def __init__(
        self, pbx: FakeRegistrar | None = None, *, seed: int = 1, **config: object
    ) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.engine = Engine(register_config(**config), tokens("a"), self.random.random)
        self.pbx = pbx or FakeRegistrar(lambda: self.now)
        self.reported: list[tuple[float, Output]] = []
        self.sent: list[tuple[float, Message]] = []
        self.loses: Callable[[bytes], bool] = lambda data: False
        self.delay: Callable[[], float] = lambda: 0.01
        self.slot_delay = 0.0
        self.slots = 0
        self.watch: Callable[[], None] = lambda: None
        """Called at every moment that something happens."""
        self._flight: list[tuple[float, int, bytes, bool]] = []
        self._slots: list[float] = []
        self._numbers = itertools.count()

    def take(self, outputs: list[Output]) -> list[Output]:
        for output in outputs:
            if isinstance(output, Send):
                assert output.destination == SERVER
                self.sent.append((self.now, parse(output.data)))
                self._fly(output.data, True)
            elif isinstance(output, SlotWanted):
                self.slots += 1
                self._slots.append(self.now + self.slot_delay)
            else:
                self.reported.append((self.now, output))
        return outputs

    def events(self, kind: type) -> list[Output]:
        return [output for _, output in self.reported if isinstance(output, kind)]

    def run(self, seconds: float) -> None:
        """Let time pass, in order."""
        end = self.now + seconds
        while True:
            due = [
                *self._slots[:1],
                *(item[0] for item in self._flight[:1]),
                *([timer] if (timer := self.engine.next_timer()) is not None else []),
            ]
            if not due or min(due) > end:
                break
            self.now = max(self.now, min(due))
            if self._slots and self._slots[0] <= self.now:
                self._slots.pop(0)
                self.take(self.engine.take_slot(self.now))
            elif self._flight and self._flight[0][0] <= self.now:
                _, _, data, to_registrar = heapq.heappop(self._flight)
                if to_registrar:
                    self._fly(self.pbx.answer(data), False)
                else:
                    self.take(self.engine.receive(data, SERVER, self.now))
            else:
                self.take(self.engine.tick(self.now))
            self.watch()
        self.now = end

    def _fly(self, data: bytes, to_registrar: bool) -> None:
        if not self.loses(data):
            item = (self.now + self.delay(), next(self._numbers), data, to_registrar)
            heapq.heappush(self._flight, item)
