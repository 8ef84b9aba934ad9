"""What phones need before they have a process: a name, a number, ports, sockets; all or none."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..protocol.messages import ANY_PORT
from ..protocol.spec import PhoneSpec
from .phones import Phone, PhoneTable
from .ports import PortError, PortPool, RtpPool, Skip
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

    ``jitter`` gives the numbers from 0 to 1 that their restarts are spread by.
    """

    def __init__(
        self,
        *,
        table: PhoneTable,
        ports: PortPool,
        rtp: RtpPool,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._table = table
        self._ports = ports
        self._rtp = rtp
        self._jitter = jitter

    def admit(self, specs: Sequence[PhoneSpec]) -> Admission:
        """Reserve and bind all that these phones need, or raise AdmissionError and keep nothing.

        Nothing is told of them before ``Life.announce``.
        """
        known: dict[str, str] = {}
        specs = [self._ports.placed(spec, known) for spec in specs]
        wanted = sum(self._pairs(spec) for spec in specs if not _has_any_port(spec))
        if not self._rtp.free_after(wanted):
            raise AdmissionError(
                "no_rtp_port",
                f"{len(specs)} phones need {wanted * 2} RTP ports, too many for the range "
                f"{self._rtp.ports} with {len(self._rtp.ports)}; widen ports.rtp or lower "
                "max_calls",
            )
        fixed = [spec.port for spec in specs if spec.port]
        # Fixed ports first, so that nobody gets one by taking the next of the range.
        order = sorted(range(len(specs)), key=lambda i: (not specs[i].port, i))
        made: dict[int, Phone] = {}
        skips: list[Skip] = []
        try:
            for index in order:
                phone, skipped = self._admit(specs[index], fixed)
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

    def _admit(self, spec: PhoneSpec, fixed: list[int]) -> tuple[Phone, list[Skip]]:
        taken = self._table.taken(spec)
        if taken:
            raise AdmissionError("duplicate_name", f"phone {spec.name}: {taken}")
        pairs = self._pairs(spec)
        first = ANY_PORT if _has_any_port(spec) else self._rtp.lease(pairs)
        if first is None:
            raise AdmissionError(
                "no_rtp_port",
                f"phone {spec.name}: no block of {pairs * 2} RTP ports left in {self._rtp.ports}; "
                "widen ports.rtp or lower max_calls",
            )
        try:
            binding, skips = self._ports.allocate(spec, keep_free=fixed)
        except PortError:
            self._release_rtp(first)
            raise
        phone = Phone(
            spec=spec,
            host=binding.host,
            port=binding.port,
            rtp_first=first,
            rtp_pairs=pairs,
            sockets=binding.sockets,
            policy=Restarts(spec.restart, self._jitter),
        )
        return phone, skips

    @staticmethod
    def _pairs(spec: PhoneSpec) -> int:
        """One RTP/RTCP pair a call; without media one for all."""
        return 1 if spec.media == "none" else spec.call_limit or 1

    def free(self, phone: Phone, now: float) -> None:
        """Take back all that a phone has."""
        self.close_sockets(phone)
        self._ports.release(phone.spec, phone.port, rest=phone.used, now=now)
        self._release_rtp(phone.rtp_first)

    def _release_rtp(self, first: int) -> None:
        if first != ANY_PORT:
            self._rtp.release(first)

    def bind_again(self, phone: Phone) -> None:
        """Open the sockets of a phone that has none now.  Raises PortError if one was stolen."""
        if phone.sockets is None:
            phone.sockets = self._ports.bind_again(phone.spec, phone.port).sockets

    def close_sockets(self, phone: Phone) -> None:
        """The number stays the phone's own."""
        if phone.sockets is not None:
            self._ports.close(phone.sockets)
            phone.sockets = None
