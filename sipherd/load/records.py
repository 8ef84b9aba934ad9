"""What is kept of a load run: its facts, one record per call attempt, and the events worth keeping.

All of it is data without a socket, a clock or a database: the runner makes the records,
``load.store`` writes and reads them, metrics, gates and reports are computed from them.

Times of a run are seconds since its start on the box's monotonic clock; a time *within* an
attempt is counted from its INVITE, so that it is the delay a person would name.  Wall time stands
once, in RunFacts: adding a run's time to it gives the moment for people.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from ..protocol.events import Body, MediaStats, SipMessage

__all__ = [
    "BoxSample",
    "CallAttempt",
    "EndedBy",
    "Leftovers",
    "MediaStats",
    "Outcome",
    "PhoneSample",
    "RegisterAttempt",
    "Responses",
    "RunEvent",
    "RunFacts",
    "RunState",
    "SipMessage",
    "as_intended",
]

Responses: TypeAlias = tuple[tuple[int, float], ...]
"""Each response to the INVITE in the order it came: status code, and seconds since the INVITE."""

EndedBy: TypeAlias = Literal["caller", "callee", "timeout", ""]
"""Who ended the attempt; empty where neither did, or the run does not know."""

Outcome: TypeAlias = Literal[
    "answer",  # 2xx; ended as the profile says who hangs up
    "disrupted",  # 2xx, and then otherwise: the wrong side or nobody hung up, a hold was refused …
    "busy",  # 486 or 600
    "no_answer",  # rang until the caller gave up or the callee said 480
    "cancel",  # the caller gave up while it rang, as the profile told it to
    "reject",  # any other 3xx-6xx
    "redirect",  # 3xx
    "no_response",  # Timer B, ICMP, or a name that does not resolve
    "crashed",  # a phone of ours died
    "refused",  # it was never sent: no phone, no port, a command that was refused
    "unfinished",  # the run ended before it did
]
"""What became of an attempt: a closed list, so that failures can be counted."""

RunState: TypeAlias = Literal["running", "draining", "finished", "interrupted"]


class CallAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to place a call, from the moment the profile wanted it.

    A challenge (401, 407) and its retry are one attempt: it is in ``responses``, and
    ``final_code`` is that of the last INVITE.
    """

    number: int
    """From 1, in the order of ``intended``."""
    intended: float
    """When the profile wanted the INVITE to be sent: seconds since the run's start."""
    started: float | None = None
    """When it was sent; None: it never was (``outcome`` is ``refused`` or ``unfinished``)."""
    caller: str
    """Name of the phone that calls."""
    callee: str = ""
    """Name of the herd's phone that was called; empty if it is somebody else's."""
    from_uri: str = ""
    to_uri: str = ""
    drawn: str
    """Name of the entry of the profile's mix that was drawn for it."""
    expected: Outcome = "answer"
    """The outcome that entry intends."""
    outcome: Outcome
    sip_call_id: str = ""
    responses: Responses = ()
    answered: float | None = None
    """When the first 2xx came: seconds since the INVITE."""
    ended: float | None = None
    """When the attempt was over, its BYE or final response done with: seconds since the INVITE."""
    bye_sent: float | None = None
    """When the first BYE of either side was sent: seconds since the INVITE."""
    bye_answered: float | None = None
    """When the final response to that BYE came: seconds since the INVITE; None: it never did."""
    bye_code: int | None = None
    """Of that response."""
    hold: float = 0.0
    """For how long the profile wants an answered call to stay up, in seconds."""
    ended_by: EndedBy = ""
    cause: str = ""
    """``protocol.events.EndCause`` of the caller's leg, or why the attempt was refused."""
    final_code: int | None = None
    """Of the final response to the INVITE; None: none came."""
    retransmissions: int = 0
    """Of requests of this call, sent again for want of a response."""
    messages: tuple[SipMessage, ...] = ()
    """What the caller's phone sent and received, ``t`` in seconds since the INVITE; empty: unknown.

    A call of very many has its first ones and its last ones here.
    """
    caller_media: MediaStats | None = None
    callee_media: MediaStats | None = None
    caller_incarnation: int = 0
    callee_incarnation: int = 0
    warm_up: bool = False
    """It belongs to the warm-up: kept, but in no metric and no gate."""

    @property
    def late(self) -> float | None:
        """By how much it started after its intended time, in seconds; None: it never started."""
        return None if self.started is None else max(0.0, self.started - self.intended)


class RegisterAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of a phone to register; a challenge and its retry are one."""

    at: float
    """When the REGISTER was sent: seconds since the run's start; negative before it."""
    phone: str
    delay: float | None = None
    """REGISTER to final response, in seconds; None: none came."""
    code: int | None = None
    """Of the final response."""
    refresh: bool = False


class BoxSample(msgspec.Struct, frozen=True, kw_only=True):
    """How this box was doing in one interval, a second as a rule: evidence for the verdict."""

    t: float
    """End of the interval: seconds since the run's start."""
    loop_lag: float = 0.0
    """The longest that the runner's loop woke up after its time, in seconds."""
    phone_lag: float = 0.0
    """The same of the phones' loops."""
    supervisor_lag: float = 0.0
    """The same of the supervisor's loop."""
    cpu: float = 0.0
    """Share of all cores that was busy, 0 to 1, whoever was using them."""
    socket_drops: int = 0
    """Datagrams the kernel threw away in the interval for want of room in one of our sockets."""
    rtp_exhausted: int = 0
    """Calls refused in the interval because their phone had no RTP port left."""
    calls: int = 0
    """Calls up or being set up at its end."""
    processes: int = 0


class PhoneSample(msgspec.Struct, frozen=True, kw_only=True):
    """What one phone's process took at one moment: what a soak's slopes are computed from."""

    t: float
    """Seconds since the run's start."""
    phone: str
    incarnation: int
    memory: int
    """Private bytes (USS)."""
    fds: int
    threads: int


class Leftovers(msgspec.Struct, frozen=True, kw_only=True):
    """What was still there after the drain; all of it should be 0."""

    calls: int = 0
    dialogs: int = 0
    rtp_ports: int = 0
    """Leased to a call; those that merely rest are not counted."""
    processes: int = 0
    """Of phones that should have gone, and of nobody's."""


class RunEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the herd that belongs on the run's time line: deaths, restarts, faults, …"""

    t: float
    """Seconds since the run's start."""
    phone: str = ""
    incarnation: int = 0
    kind: str
    """The ``kind`` of the herd's event (``phone_died``, ``fault``, ``box_overloaded`` …)."""
    facts: dict[str, Any] = {}
    """The rest of the event, as plain values."""

    @classmethod
    def of(cls, t: float, body: Body, phone: str = "", incarnation: int = 0) -> RunEvent:
        """The event of the herd with this body, at `t` seconds of the run."""
        facts: dict[str, Any] = msgspec.to_builtins(body)
        kind: str = facts.pop("kind")
        return cls(t=t, phone=phone, incarnation=incarnation, kind=kind, facts=facts)


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is: everything but what happened in it.  ``run.json`` holds it."""

    name: str
    started_at: float
    """Wall time of the run's start, seconds since the epoch."""
    profile: dict[str, Any]
    """The profile as plain data, seed included: enough to run it again."""
    environment: dict[str, Any] = {}
    """Versions, host, cores, kernel, limits: what a reader wants to know of the box."""
    herd: str = ""
    gates: tuple[str, ...] = ()
    """As they were written (``seer >= 99``)."""
    phones: tuple[str, ...] = ()
    state: RunState = "running"
    """A run that still says ``running`` after its runner is gone was interrupted."""
    ended: float | None = None
    """Seconds since the start; None while it runs, and for ever if it was killed."""
    interrupted: str = ""
    """How it was cut short, in a line; empty: it was not, or its runner could not say so."""
    leftovers: Leftovers | None = None
    """None: the run was not drained, or nobody looked."""
    verdict: dict[str, Any] | None = None
    """``load.verdict.Verdict`` as plain data, once it was given."""


def as_intended(attempt: CallAttempt) -> bool:
    """Whether the attempt ended in the outcome that the profile drew for it."""
    return attempt.outcome == attempt.expected
