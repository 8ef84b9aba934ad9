"""What goes into the core and what it wants done: plain records, no behaviour.

The shell (``service.py``) makes the inputs out of sockets, pidfds and signals, and carries out
the effects in order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ..protocol.fork import SipSockets
from ..protocol.limits import Limits
from ..protocol.messages import (
    ClientMessage,
    Done,
    Envelope,
    Expired,
    Refused,
    SupervisorToWorker,
    WorkerMessage,
)
from ..protocol.spec import HerdSpec, PhoneSpec

__all__ = [
    "Begin",
    "ClientGone",
    "DeathCause",
    "DrainRequested",
    "DropStale",
    "Effect",
    "Finish",
    "Forget",
    "ForkRefused",
    "Forked",
    "FromClient",
    "FromWorker",
    "HerdFileBad",
    "HerdFileRead",
    "Input",
    "Log",
    "LookAtPhones",
    "NurseryGone",
    "Phase",
    "ProcessGone",
    "ReadHerdFile",
    "ReloadRequested",
    "Sign",
    "Signal",
    "Signs",
    "StartProcess",
    "StopRequested",
    "ToClient",
    "ToWorker",
]

# --- inputs -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Begin:
    """The control socket is served; start these phones, all or none."""

    phones: tuple[PhoneSpec, ...]


@dataclass(frozen=True, slots=True)
class FromClient:
    client: bytes
    message: Envelope[ClientMessage]
    refusal: Refused | None = None
    """The answer, if the client may not ask for this at all, or not so fast."""


@dataclass(frozen=True, slots=True)
class ClientGone:
    """The client's process is dead, or it said Leave."""

    client: bytes


@dataclass(frozen=True, slots=True)
class FromWorker:
    route: bytes
    message: Envelope[WorkerMessage]


@dataclass(frozen=True, slots=True)
class Forked:
    phone: str
    incarnation: int
    pid: int


@dataclass(frozen=True, slots=True)
class ForkRefused:
    """No process could be made."""

    phone: str
    incarnation: int
    error: str


@dataclass(frozen=True, slots=True)
class ProcessGone:
    """The pidfd is readable: the process is dead, its cause may follow."""

    phone: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class DeathCause:
    phone: str
    incarnation: int
    exit_code: int | None
    signal: int | None


@dataclass(frozen=True, slots=True)
class Sign:
    """What a process says of itself."""

    phone: str
    incarnation: int
    due: float
    """When its next sign of life is due, or was; 0.0 if it never gave any."""
    late: float = 0.0
    """How late its loop came to something at worst since the look before this one."""
    dialogs: int = 0
    """Those of which it has to see the end."""
    run_state: str = ""
    """As in /proc/PID/stat; only if it is overdue."""


@dataclass(frozen=True, slots=True)
class Signs:
    """Of all processes, as LookAtPhones asked."""

    signs: tuple[Sign, ...]


@dataclass(frozen=True, slots=True)
class NurseryGone:
    """The nursery died; fork requests it had not answered are lost with it."""

    pid: int
    cause: str


@dataclass(frozen=True, slots=True)
class StopRequested:
    """SIGTERM, Ctrl-C or the owner's death; a second one means ``now``."""

    why: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class DrainRequested:
    """SIGUSR1: no new calls, and the end when there is none any more."""

    why: str


@dataclass(frozen=True, slots=True)
class ReloadRequested:
    """SIGHUP: be what the herd file says by now."""


@dataclass(frozen=True, slots=True)
class HerdFileRead:
    """What ReadHerdFile asked for."""

    spec: HerdSpec


@dataclass(frozen=True, slots=True)
class HerdFileBad:
    """There is nothing to read, or something in it is wrong: one line for people."""

    why: str


Input: TypeAlias = (
    Begin
    | FromClient
    | ClientGone
    | FromWorker
    | Forked
    | ForkRefused
    | ProcessGone
    | DeathCause
    | Signs
    | NurseryGone
    | StopRequested
    | DrainRequested
    | ReloadRequested
    | HerdFileRead
    | HerdFileBad
)

# --- effects ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartProcess:
    """Ask the nursery for a process that serves these sockets."""

    phone: str
    incarnation: int
    token: str
    sockets: SipSockets
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Forget:
    """The phone is no more: close what its processes have shared."""

    phone: str


@dataclass(frozen=True, slots=True)
class DropStale:
    """Drop what has waited too long in the held socket of a phone without a process."""

    sockets: SipSockets
    age: float


@dataclass(frozen=True, slots=True)
class Signal:
    """Send a signal to a phone's process."""

    phone: str
    incarnation: int
    number: int


@dataclass(frozen=True, slots=True)
class LookAtPhones:
    """Tell their Signs, and at once."""

    overdue: float
    """Look up the run state of those that are late by so many seconds."""


@dataclass(frozen=True, slots=True)
class ToWorker:
    route: bytes
    message: Envelope[SupervisorToWorker]


@dataclass(frozen=True, slots=True)
class ToClient:
    client: bytes
    body: Done | Refused | Expired
    reply_to: int


@dataclass(frozen=True, slots=True)
class ReadHerdFile:
    """Read the herd file again; HerdFileRead or HerdFileBad follows."""


@dataclass(frozen=True, slots=True)
class Log:
    level: str
    event: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finish:
    """Every phone is gone: leave with this exit code, ``message`` for people if it failed."""

    exit_code: int
    message: str = ""


Phase: TypeAlias = Literal["starting", "ready", "reloading", "stopping"]
"""Where a herd is, as a service manager wants to know it."""
Effect: TypeAlias = (
    StartProcess
    | DropStale
    | Forget
    | Signal
    | LookAtPhones
    | ToWorker
    | ToClient
    | ReadHerdFile
    | Log
    | Finish
)
