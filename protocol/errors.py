"""The errors of sipherd that a user's code can catch; every one is a `SipherdError`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .text import printable

__all__ = [
    "BehaviourError",
    "CallFailed",
    "CallNotFound",
    "CommandRefused",
    "ConnectionLost",
    "EventsMissed",
    "HerdClosed",
    "HerdFileError",
    "HerdNotRunning",
    "HerdNotStarted",
    "KeyNotFound",
    "KeyRefused",
    "KeysError",
    "PhoneNotFound",
    "ProtocolError",
    "RunError",
    "RuntimeDirectoryError",
    "SipherdError",
    "SupervisorDied",
    "TimedOut",
]


class SipherdError(Exception):
    """Base of every error that sipherd raises for a reason that is not a bug of its own."""


class ProtocolError(SipherdError):
    """The peer's message is bad: drop it, count it, keep serving."""


class BehaviourError(SipherdError, ValueError):
    """A function that can't be the behaviour of a phone; the message names the remedy."""


class HerdFileError(SipherdError):
    """A herd file that can't be used; `problems` holds all that is wrong with it, one line each."""

    def __init__(self, problems: Iterable[str]) -> None:
        # They quote the file, and it may hold anything.
        self.problems: list[str] = [printable(problem) for problem in problems]
        super().__init__("\n".join(self.problems))


class _NotFound(SipherdError, LookupError):
    """A look-up that found nothing, and the names that are near to what was wanted."""

    kind: str

    def __init__(self, wanted: str, near: Sequence[str] = ()) -> None:
        self.wanted = wanted
        self.near = tuple(near)
        # args must be what __init__ takes, or the error can't be copied or pickled.
        super().__init__(wanted, self.near)

    def __str__(self) -> str:
        near = f"; near: {', '.join(self.near)}" if self.near else ""
        return f'no {self.kind} "{self.wanted}"{near}'


class PhoneNotFound(_NotFound):
    """No phone of the herd has this name or number."""

    kind = "phone"


class CallNotFound(_NotFound):
    """No call of the herd has this id; it may have ended."""

    kind = "call"


class KeyNotFound(_NotFound):
    """No client's key has this name."""

    kind = "key"


class TimedOut(SipherdError, TimeoutError):
    """What was awaited did not happen in time."""

    def __init__(self, awaited: str, seconds: float) -> None:
        self.awaited = awaited
        self.seconds = seconds
        super().__init__(awaited, seconds)

    def __str__(self) -> str:
        return f"{self.awaited}: not within {self.seconds:g} s"


class CommandRefused(SipherdError):
    """The supervisor refused a command and changed nothing; `reason` is one word for programs."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        self.message = message
        super().__init__(reason, message)

    def __str__(self) -> str:
        return self.message


class CallFailed(SipherdError):
    """A call ended before what was awaited of it.

    Attributes:
        call: its id.
        cause: why it ended, one of `sipherd.protocol.events.EndCause`.
        code: final SIP response, None where there was none.
        reason: the reason phrase of that response.
    """

    def __init__(self, call: str, cause: str, code: int | None = None, reason: str = "") -> None:
        self.call = call
        self.cause = cause
        self.code = code
        self.reason = reason
        super().__init__(call, cause, code, reason)

    def __str__(self) -> str:
        return f"call {self.call} failed: {self.why}"

    @property
    def why(self) -> str:
        """`486 Busy Here`, or the cause in words where no final response tells it."""
        words = self.cause.replace("_", " ")
        if self.code is None or self.code < 300:
            return words
        status = f"{self.code} {self.reason}".rstrip()
        return status if self.cause == "rejected" else f"{status} ({words})"


class EventsMissed(SipherdError):
    """Events `first` to `last` were dropped because this reader was too slow; reading can go on."""

    def __init__(self, first: int, last: int) -> None:
        self.first = first
        self.last = last
        super().__init__(first, last)

    def __str__(self) -> str:
        return f"missed events {self.first} to {self.last}: this reader was too slow"


class HerdClosed(SipherdError):
    """This side left the herd; what is asked of it afterwards can't be done."""


class HerdNotRunning(SipherdError):
    """No supervisor serves the control socket of this herd."""


class HerdNotStarted(SipherdError):
    """The supervisor of a private herd did not come up; the message says why.

    `exit_code` is that of the command line: 2 if it is for the caller to mend, such as a name that
    is taken, else 4.
    """

    def __init__(self, why: str, exit_code: int = 4) -> None:
        self.why = why
        self.exit_code = exit_code
        super().__init__(why, exit_code)

    def __str__(self) -> str:
        return self.why


class SupervisorDied(SipherdError):
    """The supervisor is gone: its phones and calls went with it."""


class RuntimeDirectoryError(SipherdError):
    """The directory for a herd's sockets can't be used; the message names the remedy."""


class ConnectionLost(SupervisorDied):
    """The connection to a herd of another machine is over: nobody here can tell why."""


class KeyRefused(SipherdError):
    """A herd of another machine does not let this client in; the message names the remedy."""


class RunError(SipherdError):
    """The directory of a load run can't be written or read; the message names the remedy."""


class KeysError(SipherdError):
    """A key file, or the directory of keys, can't be used; the message names the remedy."""
