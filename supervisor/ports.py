"""Which port belongs to which phone: bookkeeping, and the order in which ports are tried.

Binding itself is the injected ``bind``; this module decides what to try, what a refusal means and
what to say about it.  SIP ports are bound and held (DESIGN §7); RTP ports are only leased, the
worker binds them.
"""

from __future__ import annotations

import errno
import os
from bisect import insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..protocol.fork import SipSockets
from ..protocol.spec import PhoneSpec, PortRange, overlap

__all__ = ["NUMBER_REST", "Binding", "PortError", "PortPool", "RtpPool", "Skip"]

STEP = 2
NUMBER_REST = 32.0
"""Seconds before a freed number may go to another phone: 64*T1, when the last retransmission
meant for its former owner has died out."""


class PortError(Exception):
    """No sockets for a phone; ``reason`` is ``no_port``, ``bad_address`` or ``not_permitted``."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Binding:
    """Bound SIP sockets."""

    host: str
    """Numeric address they are bound to."""
    port: int
    sockets: SipSockets


@dataclass(frozen=True, slots=True)
class Skip:
    """A port that bind refused."""

    address: str
    port: int
    why: str


class PortPool:
    """SIP ports of one herd.

    ``bind(address, port)`` returns (numeric host, port, sockets) or raises OSError;
    ``holder(address, port)`` names who has it, or returns ""; ``placed(spec, known)`` gives a phone
    that has none an address.
    """

    def __init__(
        self,
        ports: PortRange,
        *,
        retries: int,
        strict: bool,
        bind: Callable[[str, int], tuple[str, int, SipSockets]],
        close: Callable[[SipSockets], None],
        holder: Callable[[str, int], str],
        placed: Callable[[PhoneSpec, dict[str, str]], PhoneSpec],
        clock: Callable[[], float],
    ) -> None:
        self.placed = placed
        self.ports = ports
        self.retries = retries
        self.strict = strict
        self._bind = bind
        self._close = close
        self._holder = holder
        self._clock = clock
        self._owners: dict[int, dict[str, str]] = {}
        """Port to the phones that have it, by their address."""
        self._resting: dict[int, tuple[float, str]] = {}
        self._foreign: set[int] = set()
        """Ports that others had when last tried."""
        self.allocated = 0
        self.failures = 0
        self.seconds = 0.0
        """Time spent in all allocations."""

    def allocate(
        self, spec: PhoneSpec, *, keep_free: Iterable[int] = ()
    ) -> tuple[Binding, list[Skip]]:
        """Bind a new phone's sockets: its fixed port, an ephemeral one, or the next of the range.

        ``keep_free`` are fixed ports of phones still to come.  Raises PortError.
        """
        began = self._clock()
        try:
            if spec.port is None:
                binding, skips = self._next_of_range(spec, frozenset(keep_free))
            elif spec.port == 0:
                binding, skips = self._any(spec), []
            else:
                binding, skips = self._exactly(spec, spec.port), []
        except PortError:
            self.failures += 1
            raise
        self.reserve(spec, binding.port)
        self.allocated += 1
        self.seconds += self._clock() - began
        return binding, skips

    def reserve(self, spec: PhoneSpec, port: int) -> None:
        """This number is the phone's, unless it is another's."""
        self._owners.setdefault(port, {}).setdefault(spec.address, spec.name)
        self._resting.pop(port, None)

    def bind_again(self, spec: PhoneSpec, port: int) -> Binding:
        """Bind the reserved number of a stopped phone.  Raises PortError naming a thief."""
        binding = self._exactly(spec, port)
        self.reserve(spec, port)
        return binding

    def close(self, sockets: SipSockets) -> None:
        """Close the sockets; the number stays reserved."""
        self._close(sockets)

    def release(self, spec: PhoneSpec, port: int, *, rest: bool, now: float) -> None:
        """Give a number back; with ``rest`` it goes to no other phone for NUMBER_REST."""
        owners = self._owners.get(port, {})
        if owners.get(spec.address) == spec.name:
            del owners[spec.address]
            if rest:
                self._resting[port] = (now + NUMBER_REST, spec.name)
        if not owners:
            self._owners.pop(port, None)

    def _owner(self, address: str, port: int) -> str | None:
        """The phone of this herd that has the port on this address, bound or reserved."""
        owners = self._owners.get(port, {})
        return next((name for bound, name in owners.items() if overlap(bound, address)), None)

    def _any(self, spec: PhoneSpec) -> Binding:
        """An ephemeral port; not one that a stopped phone of ours had from the kernel before."""
        refused: list[SipSockets] = []
        try:
            while True:
                binding = Binding(*self._bind(spec.address, 0))
                if self._owner(spec.address, binding.port) is None:
                    return binding
                refused.append(binding.sockets)
        except OSError as error:
            raise self._fatal(spec, 0, error) from None
        finally:
            for sockets in refused:
                self._close(sockets)

    def _exactly(self, spec: PhoneSpec, port: int) -> Binding:
        owner = self._owner(spec.address, port)
        if owner not in (None, spec.name):
            raise PortError("no_port", f"phone {spec.name}: port {port} belongs to phone {owner}")
        try:
            return Binding(*self._bind(spec.address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise self._fatal(spec, port, error) from None
            raise PortError(
                "no_port",
                f"phone {spec.name}: port {port} on {spec.address} is in use"
                f"{self._held_by(spec, port)}; free it or give the phone another port",
            ) from None

    def _next_of_range(
        self, spec: PhoneSpec, keep_free: frozenset[int]
    ) -> tuple[Binding, list[Skip]]:
        skips: list[Skip] = []
        in_a_row: list[int] = []
        foreign: list[int] = []
        now = self._clock()
        ours = resting = 0
        for port in range(self.ports.first, self.ports.last + 1, STEP):
            if port in self._owners or port in keep_free:
                ours += 1
                in_a_row.clear()
                continue
            until, owner = self._resting.get(port, (0.0, ""))
            if now < until and owner != spec.name:
                resting += 1
                in_a_row.clear()
                continue
            try:
                binding = Binding(*self._bind(spec.address, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise self._fatal(spec, port, error) from None
            else:
                self._foreign.difference_update(range(self.ports.first, port + 1))
                self._foreign.update(foreign)
                return binding, skips
            foreign.append(port)
            in_a_row.append(port)
            if self.strict:
                raise PortError(
                    "no_port",
                    f"phone {spec.name}: port {port} on {spec.address} is in use"
                    f"{self._held_by(spec, port)}, and strict_ports is set; free it or move the "
                    "range (ports.sip, SIPHERD_SIP_PORTS)",
                )
            if len(in_a_row) > self.retries:
                raise PortError(
                    "no_port",
                    f"phone {spec.name}: {len(in_a_row)} ports in a row in use on {spec.address}, "
                    f"{in_a_row[0]} to {port} (the last{self._held_by(spec, port)}); free them, "
                    "move the range (ports.sip, SIPHERD_SIP_PORTS) or raise port_retries "
                    "(SIPHERD_PORT_RETRIES)",
                )
            if port not in self._foreign:  # said once, not again for every later phone
                skips.append(Skip(spec.address, port, f"in use{self._held_by(spec, port)}"))
        others = ", ".join(f"{port}{self._held_by(spec, port)}" for port in foreign[:3])
        tried = f", {len(foreign)} in use by others ({others})" if foreign else ""
        rest = f", {resting} resting for {NUMBER_REST:.0f} s after another phone" if resting else ""
        raise PortError(
            "no_port",
            f"phone {spec.name}: no SIP port left in {self.ports}: {ours} taken by this herd"
            f"{tried}{rest}; widen the range (ports.sip, SIPHERD_SIP_PORTS)",
        )

    def _fatal(self, spec: PhoneSpec, port: int, error: OSError) -> PortError:
        if error.errno in (errno.EACCES, errno.EPERM):
            return PortError(
                "not_permitted",
                f"phone {spec.name}: port {port} is privileged and this user may not bind it; "
                "use a port from 1024 or grant CAP_NET_BIND_SERVICE",
            )
        if error.errno == errno.EADDRNOTAVAIL:
            return PortError(
                "bad_address",
                f"phone {spec.name}: address {spec.address} is not on this machine; "
                "use one that `ip address` shows",
            )
        if error.errno is None or error.errno < 0:  # getaddrinfo's own numbers
            return PortError(
                "bad_address",
                f"phone {spec.name}: address {spec.address} does not resolve; "
                "use an address of this machine",
            )
        return PortError(
            "no_port",
            f"phone {spec.name}: can't bind {spec.address}:{port}: {os.strerror(error.errno)}",
        )

    def _held_by(self, spec: PhoneSpec, port: int) -> str:
        holder = self._holder(spec.address, port)
        return f" by {holder}" if holder else ""


class RtpPool:
    """RTP ports of one herd, leased in even-aligned blocks, lowest free block first."""

    def __init__(self, ports: PortRange) -> None:
        self.ports = ports
        self._leases: list[tuple[int, int]] = []

    def free_after(self, pairs: int) -> bool:
        """Whether so many more pairs exist at all, however scattered."""
        # A reload may have moved the range away from leases that there are.
        taken = sum(count for first, count in self._leases if first in self.ports)
        return taken + pairs * 2 <= len(self.ports) // 2 * 2

    def lease(self, pairs: int) -> int | None:
        """First port of a block of ``pairs`` RTP/RTCP pairs, or None when none is left."""
        wanted = pairs * 2
        at = self.ports.first
        for first, count in self._leases:
            if first - at >= wanted:
                break
            at = max(at, first + count)
        if at + wanted - 1 > self.ports.last:
            return None
        insort(self._leases, (at, wanted))
        return at

    def release(self, first: int) -> None:
        """Give a block back."""
        self._leases = [lease for lease in self._leases if lease[0] != first]
