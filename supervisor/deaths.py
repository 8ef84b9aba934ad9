"""What is said of a death: one event, and one line of the log."""

from __future__ import annotations

import signal
from collections.abc import Mapping

import msgspec

from ..protocol.events import BehaviourFailed, PhoneDied
from ..protocol.exits import DO_NOT_RETRY, WorkerExit
from ..protocol.limits import Limits, megabytes
from .effects import Log
from .phones import Phone

__all__ = ["death", "describe", "log_line"]

_NOTHING_SENT: Mapping[int, str] = {}
_NO_LIMITS = Limits()


def describe(
    exit_code: int | None,
    number: int | None,
    sent: Mapping[int, str] = _NOTHING_SENT,
    limits: Limits = _NO_LIMITS,
    failure: BehaviourFailed | None = None,
) -> str:
    """The cause of a death in words.

    ``sent`` are the signals from here, and why; ``failure`` is that of its behaviour, if it had
    one.
    """
    if number is not None and number in sent:
        return sent[number]
    if number is not None:
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        return f"{name} (perhaps out of memory)" if number == signal.SIGKILL else name
    if exit_code == WorkerExit.MEMORY:
        return f"memory ceiling {megabytes(limits.memory)}" if limits.memory else "out of memory"
    if failure is not None and exit_code in (WorkerExit.BEHAVIOUR, WorkerExit.CONFIGURATION):
        how = "failed" if failure.is_loaded else "can't be loaded"
        return f"its behaviour {failure.name} {how}: {failure.error}"
    if exit_code is not None:
        meaning = DO_NOT_RETRY.get(exit_code)
        return f"exit code {exit_code}" + (f" ({meaning})" if meaning else "")
    return "unknown"


def death(
    phone: Phone, *, cause: str, calls: tuple[str, ...], next_action: str, now: float
) -> PhoneDied:
    """The death of the phone's process, in the state it is in now."""
    return PhoneDied(
        cause=cause,
        uptime=round(now - phone.forked_at, 3),
        state=phone.state,
        calls=calls,
        next_action=next_action,
    )


def log_line(phone: Phone, died: PhoneDied) -> Log:
    """The same for the log."""
    whose = {"phone": phone.name, "incarnation": phone.incarnation, "pid": phone.pid}
    return Log("error", "phone_died", whose | msgspec.structs.asdict(died))
