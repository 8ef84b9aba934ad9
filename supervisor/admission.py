"""What phones need before they have a process: a name, a number, ports, sockets; all or none."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from ..protocol.messages import ANY_PORT
from ..protocol.spec import PhoneSpec
from .phones import Phone, PhoneTable, Successor
from .ports import Binding, PortError, PortPool, RtpPool, Skip
from .restarts import Restarts

__all__ = ["Admission", "AdmissionError", "Admissions"]


def _has_any_port(spec: PhoneSpec) -> bool:
    """``port: 0`` takes its RTP ports from the kernel, too: it lives beside any other herd."""
    return spec.port == 0


class AdmissionError(Exception):
    """Phones can't be created; nothing of them is left."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Admission:
    """Phones that have their ports, and the ports that were passed over on the way."""

    phones: list[Phone]
    skips: list[Skip]


class Admissions:
    """Gives phones what they need, and takes it back.

    ``jitter`` gives the numbers from 0 to 1 that their restarts are spread by; ``cpus`` are the
    processors that there are, None for all that anybody names.
    """

    def __init__(
        self,
        *,
        table: PhoneTable,
        ports: PortPool,
        rtp: RtpPool,
        jitter: Callable[[], float] = random.random,
        cpus: Collection[int] | None = None,
    ) -> None:
        self._table = table
        self.ports = ports
        self.rtp = rtp
        self._jitter = jitter
        self._cpus = cpus

    def admit(self, specs: Sequence[PhoneSpec]) -> Admission:
        """Reserve and bind all that these phones need, or raise AdmissionError and keep nothing.

        Nothing is told of them before ``Life.announce``.
        """
        known: dict[str, str] = {}
        asked = specs
        specs = [self.ports.placed(spec, known) for spec in specs]
        wanted = sum(self.pairs(spec) for spec in specs if not _has_any_port(spec))
        if not self.rtp.free_after(wanted):
            raise AdmissionError(
                "no_rtp_port",
                f"{len(specs)} phones need {wanted * 2} RTP ports, too many for the range "
                f"{self.rtp.ports} with {len(self.rtp.ports)}; widen ports.rtp or lower "
                "max_calls",
            )
        fixed = [spec.port for spec in specs if spec.port]
        # Fixed ports first, so that nobody gets one by taking the next of the range.
        order = sorted(range(len(specs)), key=lambda i: (not specs[i].port, i))
        made: dict[int, Phone] = {}
        skips: list[Skip] = []
        try:
            for index in order:
                taken = self._table.taken(specs[index])
                if taken:
                    why = f"phone {specs[index].name}: {taken}"
                    raise AdmissionError("duplicate_name", why)
                phone, skipped = self.make(specs[index], asked[index], fixed)
                made[index] = phone
                skips += skipped
        except (AdmissionError, PortError) as error:
            for phone in made.values():
                self.free(phone, 0.0)  # never used: its number does not rest
            raise AdmissionError(error.reason, str(error)) from None
        phones = [made[index] for index in range(len(specs))]
        for phone in phones:
            self._table.add(phone)
        return Admission(phones, skips)

    def _check_cpus(self, spec: PhoneSpec) -> None:
        """Raises AdmissionError."""
        if self._cpus is None or spec.limits.cpus is None:
            return
        missing = [cpu for cpu in spec.limits.cpus if cpu not in self._cpus]
        if missing:
            word = "cpu" if len(missing) == 1 else "cpus"
            raise AdmissionError(
                "no_such_cpu",
                f"phone {spec.name}: no {word} {', '.join(map(str, missing))} for this herd, which "
                f"may run on {', '.join(map(str, sorted(self._cpus)))}; correct limits.cpus",
            )

    def make(
        self, spec: PhoneSpec, asked: PhoneSpec, fixed: Collection[int], *, port: int | None = None
    ) -> tuple[Phone, list[Skip]]:
        """A phone with all that it needs; no part of the herd yet.

        With ``port`` it is given none, but is to bind this one when it starts.  Raises
        AdmissionError and PortError.
        """
        self._check_cpus(spec)
        first = self.lease_rtp(spec)
        binding: Binding | None = None
        skips: list[Skip] = []
        if port is None:
            try:
                binding, skips = self.ports.allocate(spec, keep_free=fixed)
            except PortError:
                self._release_rtp(first)
                raise
        phone = Phone(
            spec=spec,
            asked=asked,
            host=binding.host if binding else spec.address,
            port=binding.port if binding else port or 0,
            rtp_first=first,
            rtp_pairs=self.pairs(spec),
            sockets=binding.sockets if binding else None,
            policy=self.policy(spec),
        )
        return phone, skips

    def policy(self, spec: PhoneSpec) -> Restarts:
        """What decides whether the phone is started again."""
        return Restarts(spec.restart, self._jitter)

    def lease_rtp(self, spec: PhoneSpec) -> int:
        """First RTP port for this phone.  Raises AdmissionError."""
        pairs = self.pairs(spec)
        first = ANY_PORT if _has_any_port(spec) else self.rtp.lease(pairs)
        if first is None:
            raise AdmissionError(
                "no_rtp_port",
                f"phone {spec.name}: no block of {pairs * 2} RTP ports left in {self.rtp.ports}; "
                "widen ports.rtp or lower max_calls",
            )
        return first

    @staticmethod
    def pairs(spec: PhoneSpec) -> int:
        """One RTP/RTCP pair a call; without media one for all."""
        return 1 if spec.media == "none" else spec.call_limit or 1

    def free(self, phone: Phone, now: float) -> None:
        """Take back all that a phone has."""
        self.close_sockets(phone)
        self.ports.release(phone.spec, phone.port, rest=phone.used, now=now)
        self._release_rtp(phone.rtp_first)

    def _release_rtp(self, first: int) -> None:
        if first != ANY_PORT:
            self.rtp.release(first)

    def bind_again(self, phone: Phone) -> None:
        """Open the sockets of a phone that has none now.  Raises PortError if one was stolen."""
        if phone.sockets is None:
            binding = self.ports.bind_again(phone.spec, phone.port)
            phone.host, phone.sockets = binding.host, binding.sockets

    def close_sockets(self, phone: Phone) -> None:
        """The number stays the phone's own."""
        if phone.sockets is not None:
            self.ports.close(phone.sockets)
            phone.sockets = None

    # -- what a reload makes of a phone ----------------------------------------------------------

    def succeed(self, phone: Phone, now: float) -> None:
        """A phone without process becomes its heir, if it has one."""
        if phone.heir is not None:
            heir, phone.heir = phone.heir, None
            self.let_go(phone, heir, now)
            self.take(phone, heir)

    def let_go(self, phone: Phone, heir: Successor, now: float) -> None:
        """Give back what it will not have any more."""
        if not heir.keeps_port:
            self.close_sockets(phone)
            self.ports.release(phone.spec, phone.port, rest=phone.used, now=now)
            phone.used = False
        if heir.rtp_first != phone.rtp_first:
            self._release_rtp(phone.rtp_first)
            phone.rtp_resting = {}

    def take(self, phone: Phone, heir: Successor) -> None:
        """Be the heir; its number is reserved for it."""
        phone.spec, phone.asked, phone.policy = heir.spec, heir.asked, heir.policy
        phone.behaviour = None  # no herd file has one
        phone.rtp_first, phone.rtp_pairs = heir.rtp_first, heir.rtp_pairs
        if heir.keeps_port:
            return
        phone.host, phone.port, phone.sockets = heir.host, heir.port, heir.sockets
        self.ports.reserve(heir.spec, heir.port)

    def disinherit(self, phone: Phone, heir: Successor) -> None:
        """It will not be: give back what was made ready for it."""
        if heir.sockets is not None:
            self.ports.close(heir.sockets)
            self.ports.release(heir.spec, heir.port, rest=False, now=0.0)
        if heir.rtp_first != phone.rtp_first:
            self._release_rtp(heir.rtp_first)
