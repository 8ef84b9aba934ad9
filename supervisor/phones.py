"""The phone table: every phone of the herd with its state, its process and its calls."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..protocol.behaviour import Behaviour
from ..protocol.errors import PhoneNotFound
from ..protocol.events import BehaviourFailed
from ..protocol.fork import SipSockets
from ..protocol.messages import PhoneInfo, StopHow
from ..protocol.spec import PhoneSpec, bracketed, is_wildcard, split_advertise
from ..protocol.states import CallState, PhoneState
from .calls import CallRecord
from .hangs import Progress
from .registrations import Registration
from .restarts import Restarts
from .timers import Timer

__all__ = ["Departure", "Phone", "PhoneTable", "Successor"]


@dataclass(slots=True)
class Departure:
    """A stop under way: what was tried so far, and since when."""

    began: float
    how: StopHow = "drained"
    said_goodbye: bool = False
    """The worker said that its calls are over."""
    unanswered_byes: tuple[str, ...] = ()
    parked: str = ""
    """Nobody asked for it: its last process ends calls that were left behind, and then the phone
    is FAILED, because of this."""
    timers: list[Timer] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Successor:
    """What a phone is to be once its process is gone (see ``reloading.py``)."""

    spec: PhoneSpec
    asked: PhoneSpec
    host: str
    port: int
    sockets: SipSockets | None
    """New ones that are bound; None: it keeps those it has, or binds them when it starts."""
    keeps_port: bool
    rtp_first: int
    rtp_pairs: int
    policy: Restarts


@dataclass(slots=True, eq=False)
class Phone:
    """One phone; mutable, owned by the core."""

    spec: PhoneSpec
    asked: PhoneSpec
    """The spec as it was given; in ``spec`` an address that it left open is filled in."""
    host: str
    port: int
    rtp_first: int
    rtp_pairs: int
    sockets: SipSockets | None
    """The held SIP sockets; None while STOPPED, or FAILED unless ``on_parked`` is ``hold``."""
    policy: Restarts
    state: PhoneState = PhoneState.NEW
    why: str = ""
    incarnation: int = 0
    pid: int = 0
    token: str = ""
    route: bytes | None = None
    """ZeroMQ routing id of the welcomed worker."""
    seq_in: int = 0
    seq_out: int = 0
    forked_at: float = 0.0
    died_at: float | None = None
    """When the process was seen dead; the cause may still be on its way."""
    ready_at: float | None = None
    """Since when the running process serves."""
    retry_at: float | None = None
    """In BACKOFF: when it is started again."""
    is_asked_for: bool = False
    """Somebody waits for this start: if it fails, it is not tried again."""
    is_given_up: bool = False
    """FAILED because the policy had no more restarts for it."""
    is_cleaning_up: bool = False
    """Its newest process is to end the calls of those before it, and no more."""
    has_left_calls: bool = False
    """Processes before the newest died in calls; the far ends may know of nothing."""
    failed_at: float = 0.0
    signals: dict[int, str] = field(default_factory=dict)
    """Signals that the running process was sent from here, and why."""
    restarts: int = 0
    deaths: int = 0
    used: bool = False
    """It has had calls: its number rests before another phone gets it."""
    counters: dict[str, int] = field(default_factory=dict)
    dialogs: int = 0
    """Of which the running process has to see the end."""
    calls: dict[str, CallRecord] = field(default_factory=dict)
    """Calls that are not over, by the worker's key."""
    rtp_resting: dict[int, float] = field(default_factory=dict)
    """RTP ports of calls that crashed, and until when their peers may send on."""
    registration: Registration = field(default_factory=Registration)
    """That of the running process."""
    progress: Progress = field(default_factory=Progress)
    """Likewise."""
    start_timer: Timer | None = None
    # Until the next start of a phone in BACKOFF, or the next look after one that is parked.
    retry_timer: Timer | None = None
    cause_timer: Timer | None = None
    departure: Departure | None = None
    start_again: bool = False
    heir: Successor | None = None
    """What a reload makes of it as soon as it has no process."""
    refuses_calls: bool = False
    """Its process lets no more calls begin."""
    behaviour: Behaviour | None = None
    """What each of its processes runs besides."""
    behaviour_failure: BehaviourFailed | None = None
    """Why the running process ends, or the last one did."""

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def is_coming(self) -> bool:
        """It will be READY, unless something goes wrong."""
        return self.state in (PhoneState.STARTING, PhoneState.BACKOFF)

    @property
    def uri(self) -> str:
        """Where other phones of the herd reach it."""
        host = self.host
        if is_wildcard(host) and self.spec.advertise is not None:
            host, _ = split_advertise(self.spec.advertise)
        return f"sip:{self.spec.number}@{bracketed(host)}:{self.port}"

    def why_not_ready(self) -> str:
        """A line for whoever wanted something of it that only a READY phone does."""
        why = f" ({self.why})" if self.why else ""
        start = f"start it with: sipherd start {self.name}"
        return f"phone {self.name} is {self.state.value}{why}; {start}"

    def why_no_registrar(self) -> str:
        """Likewise for one that has nowhere to register."""
        return f"phone {self.name} has no registrar: its spec needs `register`"

    def activity(self) -> str:
        """``idle``, ``ringing`` or ``in call: N``; empty while it does not serve."""
        if self.state not in (PhoneState.READY, PhoneState.DRAINING):
            return ""
        up = sum(call.state is CallState.ANSWERED for call in self.calls.values())
        if up:
            return f"in call: {up}"
        return "ringing" if self.calls else "idle"

    def info(self, now: float, waiting: int) -> PhoneInfo:
        """The phone as clients see it."""
        progress = self.progress if self.state is PhoneState.READY else Progress()
        return PhoneInfo(
            name=self.name,
            number=self.spec.number,
            state=self.state,
            activity=self.activity(),
            address=self.host,
            port=self.port,
            pid=self.pid,
            incarnation=self.incarnation,
            restarts=self.restarts,
            deaths=self.deaths,
            retry_in=None if self.retry_at is None else max(self.retry_at - now, 0.0),
            uptime=now - self.forked_at if self.pid else 0.0,
            why=self.why,
            calls=tuple(call.id for call in self.calls.values()),
            waiting=waiting,
            progress=progress.level,
            overdue=progress.overdue,
            stopped=progress.is_stopped,
            registration=self.registration.state,
            registration_expires=self.registration.expires_in(now),
            registration_why=self.registration.why,
            registration_retry=self.registration.retry_in(now),
            rtp_first=self.rtp_first,
            rtp_pairs=self.rtp_pairs,
            dialogs=self.dialogs if self.pid else 0,
            counters=self.counters,
            behaviour=self.behaviour.name if self.behaviour else "",
            spec=self.spec.without_secrets(),
        )


class PhoneTable:
    """Phones by name, number and worker route, in the order of their creation."""

    def __init__(self) -> None:
        self._by_name: dict[str, Phone] = {}
        self._by_number: dict[str, Phone] = {}

    def __iter__(self) -> Iterator[Phone]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def add(self, phone: Phone) -> None:
        self._by_name[phone.name] = phone
        self._by_number[phone.spec.number] = phone

    def remove(self, phone: Phone) -> None:
        del self._by_name[phone.name]
        self.free_number(phone)

    def free_number(self, phone: Phone) -> None:
        """Its number may be another's from now on."""
        # Not by its spec: a reload gives it a new number before it has its new spec.
        for number in [n for n, owner in self._by_number.items() if owner is phone]:
            del self._by_number[number]

    def take_number(self, phone: Phone, number: str) -> None:
        """The phone is found by this number from now on."""
        self._by_number[number] = phone

    def status(self) -> str:
        """The herd in a few words: ``40 phones ready, 3 in call, 1 failed``."""
        states = Counter(phone.state for phone in self)
        in_call = sum(
            any(call.state is CallState.ANSWERED for call in phone.calls.values()) for phone in self
        )
        failed = sum(phone.registration.state == "failed" for phone in self)
        ready = states.pop(PhoneState.READY, 0)
        words = [f"{ready} phone{'' if ready == 1 else 's'} ready"]
        words += [f"{in_call} in call"] if in_call else []
        words += [f"{failed} not registered"] if failed else []
        words += [f"{states[state]} {state.value}" for state in PhoneState if states[state]]
        return ", ".join(words)

    def get(self, name: str) -> Phone | None:
        """By name alone."""
        return self._by_name.get(name)

    def taken(self, spec: PhoneSpec) -> str:
        """What of ``spec`` collides with a phone that exists: "", or a line for people."""
        for word in (spec.name, spec.number):
            other = self._by_name.get(word) or self._by_number.get(word)
            if other is not None:
                return f'"{word}" is already the name or number of phone {other.name}'
        return ""

    def find(self, name_or_number: str) -> Phone:
        """Raises PhoneNotFound with the names that come near."""
        found = self._by_name.get(name_or_number) or self._by_number.get(name_or_number)
        if found is None:
            words = [*self._by_name, *self._by_number]
            near = dict.fromkeys(difflib.get_close_matches(name_or_number, words, n=3))
            raise PhoneNotFound(name_or_number, tuple(near))
        return found

    def select(self, which: Iterable[str]) -> list[Phone]:
        """The phones named, each once; all of them if none is named.  Raises PhoneNotFound."""
        named = list(dict.fromkeys(self.find(word) for word in which))
        return named or list(self)
