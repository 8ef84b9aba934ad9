"""What happens in a herd, as data.

A worker and the supervisor describe a happening with one of the bodies below; the supervisor
numbers it, stamps it and sends it to observers as an ``Event``.  Bodies are frozen and
keyword-only; the ``kind`` on the wire is the tag of the class.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from .states import PhoneState

__all__ = [
    "Address",
    "Answered",
    "AnyBody",
    "AudioOneWay",
    "BehaviourEnded",
    "BehaviourEvent",
    "BehaviourFailed",
    "BehaviourStarted",
    "Body",
    "BoxOverloaded",
    "BoxRecovered",
    "CallCleanedUp",
    "CallEnded",
    "CallEvent",
    "CallPlaced",
    "CancelOutcome",
    "CancelResolved",
    "CleanUp",
    "Confirmed",
    "DtmfMethod",
    "DtmfReceived",
    "DtmfSent",
    "EndCause",
    "Event",
    "Fault",
    "FaultInjected",
    "HangLevel",
    "Held",
    "HerdDraining",
    "HerdReady",
    "HerdReloaded",
    "HerdStarted",
    "HerdStopping",
    "IncomingCall",
    "LimitReached",
    "MediaStats",
    "NurseryDied",
    "Overflow",
    "OverloadSign",
    "PhoneAdded",
    "PhoneDied",
    "PhoneLate",
    "PhoneMoved",
    "PhoneRemoved",
    "PlayEnded",
    "PortSkipped",
    "Progress",
    "RecordEnded",
    "Referred",
    "Registered",
    "RegistrationEvent",
    "RegistrationFailed",
    "Retrieved",
    "RtpPairSkipped",
    "SipMessage",
    "SipTrace",
    "TransferFailed",
    "Transferred",
    "TurnedAway",
    "Unregistered",
    "WorkerEvent",
    "flatten",
]

Address: TypeAlias = tuple[str, int]

EndCause: TypeAlias = Literal[
    "hung_up",  # BYE after an answer, by either side
    "rejected",  # a final 3xx-6xx, sent or received
    "overflow",  # more calls than may wait for a client
    "cancelled",
    "answered_elsewhere",  # CANCEL with Reason: SIP;cause=200 (RFC 3326)
    "no_answer",  # rang for the whole ring timeout
    "no_response",  # Timer B
    "no_ack",  # our 2xx was never acknowledged
    "unreachable",  # ICMP error
    "unresolved",  # the host name of the target does not resolve
    "no_media",  # no RTP port left, or no codec in common
    "dialog_lost",  # 481 or 408 within the dialog
    "session_expired",  # nobody refreshed the session (RFC 4028)
    "transferred",  # the far end talks to somebody else now
    "replaced",  # another call took its place (RFC 3891)
    "protocol_error",
    "stopped",  # the phone was stopped
    "phone_crashed",
]

CancelOutcome: TypeAlias = Literal[
    "already_answered",
    "answered_then_ended",
    "cancelled",
    "already_ended",
    "cancelled_unconfirmed",
    "cancelled_no_response",
    "phone_crashed",
]


CleanUp: TypeAlias = Literal[
    "bye",  # our BYE was answered
    "bye_unanswered",
    "cancel",  # our CANCEL ended it: 487
    "cancel_unanswered",
    "refused",  # our 480
    "final",  # a final 3xx-6xx of the peer came first
    "peer",  # BYE or CANCEL of the peer came first
    "no_response",  # Timer B: our INVITE reached nobody
]
"""How a call ended that an earlier process of its phone had left behind."""

DtmfMethod: TypeAlias = Literal["rfc4733", "info"]

HangLevel: TypeAlias = Literal["fine", "late", "suspect", "hung"]
"""How long the progress of a phone has been overdue (``hang`` of its spec)."""

OverloadSign: TypeAlias = Literal[
    "supervisor_late",  # it did not get to its own timer in time
    "phones_late",  # many, all at once
]

Fault: TypeAlias = Literal[
    "kill",  # SIGKILL: the next process ends what calls this one had
    "stop",  # SIGSTOP
    "hang",  # a busy loop that lets nothing else of the process run
    "exit",  # with a code, and without a BYE
    "drop_registration",  # the registrar forgets the phone, which does not know it
    "vanish",  # SIGKILL, and nobody ever ends the calls
]
"""What a phone can be made to suffer on purpose."""


class MediaStats(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the audio of one call (RFC 3550; MOS as ITU-T G.107 estimates it)."""

    sent: int
    """RTP packets."""
    received: int
    lost: int
    """Packets of the peer that never came, by their sequence numbers."""
    dropped: int = 0
    """Packets that were not the peer's or not of the negotiated payload types."""
    late: int = 0
    """Packets of ours that went out more than 20 ms behind their schedule."""
    jitter_ms: float = 0.0
    round_trip_ms: float | None = None
    """From RTCP; None without a report."""
    mos: float | None = None
    """None if nothing was received."""
    one_way: bool = False
    """Audio was sent, and expected, and nothing came."""


class SipMessage(msgspec.Struct, frozen=True, array_like=True):
    """One SIP message of a call, as the caller's phone sent or read it."""

    t: float
    """When it left or was read: seconds on the box's monotonic clock."""
    sent: bool
    """By the caller's phone; else it was received."""
    method: str
    """Of the CSeq header: that of a request, or of the request that a response is to."""
    code: int = 0
    """Of a response; 0: it is a request."""
    again: bool = False
    """A copy of one before: a retransmission (RFC 3261 section 17)."""


class Body(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """Base of everything that can happen."""


class HerdStarted(Body, frozen=True, kw_only=True, tag="herd_started"):
    """The supervisor serves its control socket."""

    herd: str
    pid: int


class HerdReady(Body, frozen=True, kw_only=True, tag="herd_ready"):
    """Every phone of the herd file is READY, and those that register have, or were refused."""

    phones: int
    seconds: float
    """Since the supervisor began to start them."""
    registered: int = 0
    not_registered: int = 0
    """Phones that should be, and were refused or not answered."""


class HerdReloaded(Body, frozen=True, kw_only=True, tag="herd_reloaded"):
    """The herd file was read again; these phones come, go, or start again with a new spec."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


class HerdDraining(Body, frozen=True, kw_only=True, tag="herd_draining"):
    """No call begins any more; when the last one is over the herd stops."""

    why: str
    calls: int
    """Those that are up."""


class HerdStopping(Body, frozen=True, kw_only=True, tag="herd_stopping"):
    """The herd was told to stop; every phone drains."""

    why: str


class NurseryDied(Body, frozen=True, kw_only=True, tag="nursery_died"):
    """The process that forks phones died; running phones go on, a new nursery is started."""

    pid: int
    cause: str


class PortSkipped(Body, frozen=True, kw_only=True, tag="port_skipped"):
    """A SIP port of the range was refused by bind and passed over."""

    address: str
    port: int
    why: str


class PhoneAdded(Body, frozen=True, kw_only=True, tag="phone_added"):
    """The phone is in the table and owns its port."""

    number: str
    address: str
    port: int


class PhoneRemoved(Body, frozen=True, kw_only=True, tag="phone_removed"):
    """The phone is gone from the table and its port is free."""


class PhoneMoved(Body, frozen=True, kw_only=True, tag="phone_state"):
    """The phone's life cycle moved (``protocol.states.PHONE_MOVES``)."""

    state: PhoneState
    previous: PhoneState
    why: str = ""


class PhoneDied(Body, frozen=True, kw_only=True, tag="phone_died"):
    """A phone's process ended without having been told to: the death record."""

    cause: str
    """``exit code 3``, ``SIGSEGV``, ``SIGKILL (perhaps out of memory)`` or ``unknown``."""
    uptime: float
    """Seconds since the process was started."""
    state: PhoneState
    """The state it died in."""
    calls: tuple[str, ...]
    """The calls that were up or being set up, now ended with cause ``phone_crashed``."""
    next_action: str


class PhoneLate(Body, frozen=True, kw_only=True, tag="phone_late"):
    """A phone makes no progress, or does so again: its level is another one.

    A phone that is ``hung`` is ended: its death is told by PhoneDied.
    """

    level: HangLevel
    previous: HangLevel
    seconds: float
    """For how long its progress has been overdue."""
    stopped: bool = False
    """By SIGSTOP or a debugger: it does not hang, it is kept from running."""


class BoxOverloaded(Body, frozen=True, kw_only=True, tag="box_overloaded"):
    """This machine has no time for its phones: none is taken for hung until BoxRecovered."""

    sign: OverloadSign
    phones_late: int
    supervisor_late: float
    """Seconds."""


class BoxRecovered(Body, frozen=True, kw_only=True, tag="box_recovered"):
    """Supervisor and phones are in time again; a phone has all of its ``hang`` times from now."""

    seconds: float
    """Since BoxOverloaded."""


class FaultInjected(Body, frozen=True, kw_only=True, tag="fault"):
    """Somebody asked for harm to the phone (``sipherd fault``)."""

    fault: Fault
    code: int | None = None
    """Of ``exit``."""


class Registered(Body, frozen=True, kw_only=True, tag="registered"):
    """The registrar has the phone's contact."""

    registrar: str
    expires: float
    """Seconds that the registrar granted."""
    refresh: bool
    """It was registered before; else this is the first time, or again after a failure."""
    delay: float | None = None
    """Seconds from the REGISTER to this answer; a challenge in between is part of it."""


class RegistrationFailed(Body, frozen=True, kw_only=True, tag="registration_failed"):
    """A REGISTER, or the refresh of one, failed; calls go on."""

    registrar: str
    cause: Literal["rejected", "credentials", "no_response", "unreachable", "unresolved"]
    """``credentials``: the registrar refused the user name or the password."""
    code: int | None = None
    reason: str = ""
    retry_in: float | None = None
    """Seconds until the next attempt; None: there is none, until somebody asks for it."""
    refresh: bool = False
    """It was registered before."""
    delay: float | None = None
    """Seconds from the REGISTER to its final response; None: none came."""


class Unregistered(Body, frozen=True, kw_only=True, tag="unregistered"):
    """The registrar was told to forget the phone's contact."""

    registrar: str
    confirmed: bool
    """Whether it answered with 2xx."""


class BehaviourStarted(Body, frozen=True, kw_only=True, tag="behaviour_started"):
    """A function of a client runs in the phone's process, in a thread of its own."""

    name: str
    pid: int
    """Of the process, as the function finds it."""


class BehaviourEnded(Body, frozen=True, kw_only=True, tag="behaviour_ended"):
    """It is over, and the phone goes on without it."""

    name: str
    why: Literal["returned", "stopped"]
    """``stopped``: what it waited for, or wanted, ended with the phone or with the herd."""


class BehaviourFailed(Body, frozen=True, kw_only=True, tag="behaviour_failed"):
    """It raised, or could not be loaded: the phone's process ends, and PhoneDied follows."""

    name: str
    error: str
    """Type and first line of the exception."""
    traceback: str
    """Its end, if it is long."""
    is_loaded: bool = True
    """It ran."""


class CallPlaced(Body, frozen=True, kw_only=True, tag="placed"):
    """The INVITE of an outgoing call is on its way."""

    call: str
    target: str
    """What the client asked for: a phone's name or number, or a SIP URI."""
    sip_call_id: str
    request_uri: str
    next_hop: Address


class IncomingCall(Body, frozen=True, kw_only=True, tag="incoming"):
    """A new INVITE that this phone may answer; it has been answered 180."""

    call: str
    """From the worker the key of the leg in its process (``i1`` …), to clients the call id."""
    sip_call_id: str
    from_uri: str
    from_display: str
    to_uri: str
    request_uri: str
    source: Address
    replaces: str = ""
    """The call whose place it takes (RFC 3891): it is answered by itself, and that one ends."""


class CallCleanedUp(Body, frozen=True, kw_only=True, tag="cleaned_up"):
    """A call of an earlier process, which crashed, has been ended at the far end, too.

    The herd has been told of its end before, with cause ``phone_crashed``.
    """

    sip_call_id: str
    how: CleanUp
    code: int | None = None
    """Of the final response that was sent or received."""
    rtp_port: int = 0
    """Where it received audio; 0 if nowhere."""


class TurnedAway(Body, frozen=True, kw_only=True, tag="turned_away"):
    """An INVITE that never became a call: the phone has as many as it takes at once."""

    cause: Literal["busy"]
    code: int
    sip_call_id: str
    from_uri: str
    source: Address


class Progress(Body, frozen=True, kw_only=True, tag="progress"):
    """Caller: a provisional response other than 100.  Repeats of one code are not reported."""

    call: str
    code: int
    reason: str
    early_media: bool
    """The response carried SDP."""


class Answered(Body, frozen=True, kw_only=True, tag="answered"):
    """Caller: the first 2xx arrived and its ACK is out.  Callee: our 2xx is out."""

    call: str
    code: int
    remote_media: Address | None
    """Where the peer wants its audio; None while its SDP is not known (late offer)."""
    codec: str
    """First codec of the answer, e.g. ``PCMU``; empty while not known."""
    rtp_port: int | None = None
    """Where we want its audio: our RTP port; None without media."""


class Confirmed(Body, frozen=True, kw_only=True, tag="confirmed"):
    """Callee: the ACK to our 2xx arrived."""

    call: str


class CancelResolved(Body, frozen=True, kw_only=True, tag="cancel_resolved"):
    """The one outcome of a cancellation, ``code`` with ``already_ended``."""

    call: str
    outcome: CancelOutcome
    code: int | None = None


class CallEnded(Body, frozen=True, kw_only=True, tag="ended"):
    """The leg is over; nothing is reported for this call after it."""

    call: str
    cause: EndCause
    by: Literal["local", "remote", "timeout"]
    code: int | None = None
    """The final response to the INVITE, where one was sent or received."""
    reason: str = ""
    bye_answered: bool | None = None
    """For a BYE of ours: whether a final response came.  None where we sent no BYE."""
    bye_sent: float | None = None
    """When our first BYE left: seconds on the box's monotonic clock."""
    media: MediaStats | None = None
    """For a call with audio."""
    messages: tuple[SipMessage, ...] = ()
    """For a call placed with ``PlaceCall.messages``: those of the caller's leg up to its end.

    A leg of very many has its first ones and its last ones here, and those between are left out.
    """


class Held(Body, frozen=True, kw_only=True, tag="held"):
    """One side put the call on hold: it hears nothing until it retrieves the call."""

    call: str
    by: Literal["local", "remote"]


class Retrieved(Body, frozen=True, kw_only=True, tag="retrieved"):
    """The side that had put the call on hold took it back."""

    call: str
    by: Literal["local", "remote"]


class Referred(Body, frozen=True, kw_only=True, tag="referred"):
    """Transferee: the far end asked us to call somebody else (REFER); that call is being placed."""

    call: str
    new_call: str
    """The call to ``target``; a Placed of it follows."""
    target: str
    by: str
    """SIP URI of who asked: Referred-By, or the far end."""


class Transferred(Body, frozen=True, kw_only=True, tag="transferred"):
    """Transferor: the far end has reached ``target``; our call ends now."""

    call: str
    target: str


class TransferFailed(Body, frozen=True, kw_only=True, tag="transfer_failed"):
    """Transferor: the far end did not reach ``target``; our call is still up."""

    call: str
    target: str
    code: int | None = None
    """What it got from ``target``, or what its phone said to our REFER."""
    reason: str = ""


class DtmfReceived(Body, frozen=True, kw_only=True, tag="dtmf"):
    """The far end pressed a key."""

    call: str
    digit: str
    duration_ms: int
    method: DtmfMethod


class DtmfSent(Body, frozen=True, kw_only=True, tag="dtmf_sent"):
    """All of these keys were sent."""

    call: str
    digits: str
    method: DtmfMethod


class PlayEnded(Body, frozen=True, kw_only=True, tag="played"):
    """A source of audio came to its end, or was stopped."""

    call: str
    source: str
    why: Literal["finished", "stopped", "replaced", "call_ended"]


class RecordEnded(Body, frozen=True, kw_only=True, tag="recorded"):
    """A recording is complete."""

    call: str
    file: str
    seconds: float
    why: Literal["stopped", "call_ended", "failed"]
    error: str = ""


class AudioOneWay(Body, frozen=True, kw_only=True, tag="one_way"):
    """Audio is sent and expected, and nothing has come for ``seconds``."""

    call: str
    seconds: float


class Overflow(Body, frozen=True, kw_only=True, tag="overflow"):
    """More calls than may wait for a client: this one is answered 486."""

    call: str
    waiting: int


class RtpPairSkipped(Body, frozen=True, kw_only=True, tag="rtp_pair_skipped"):
    """A stranger holds this RTP pair of the phone's lease."""

    port: int
    why: str


class LimitReached(Body, frozen=True, kw_only=True, tag="limit_reached"):
    """A phone's process has as many descriptors as it may: what it wanted one for fails.

    Told once in ten seconds; the counter ``descriptors_exhausted`` has each time.
    """

    limit: Literal["descriptors"] = "descriptors"
    ceiling: int
    wanted: str


class SipTrace(Body, frozen=True, kw_only=True, tag="sip"):
    """One SIP message on the wire, for a phone with ``trace: true``."""

    direction: Literal["in", "out"]
    first_line: str
    cseq: str
    sip_call_id: str
    peer: Address
    transport: Literal["udp", "tcp"] = "udp"
    size: int
    """Bytes of the message."""


CallEvent: TypeAlias = (
    IncomingCall
    | CallPlaced
    | Progress
    | Answered
    | Confirmed
    | CancelResolved
    | CallEnded
    | Held
    | Retrieved
    | Referred
    | Transferred
    | TransferFailed
    | DtmfReceived
    | DtmfSent
    | PlayEnded
    | RecordEnded
    | AudioOneWay
)
RegistrationEvent: TypeAlias = Registered | RegistrationFailed | Unregistered
BehaviourEvent: TypeAlias = BehaviourStarted | BehaviourEnded | BehaviourFailed
WorkerEvent: TypeAlias = (
    CallEvent
    | RegistrationEvent
    | BehaviourEvent
    | TurnedAway
    | CallCleanedUp
    | RtpPairSkipped
    | LimitReached
    | SipTrace
)
"""What a phone's process reports; the rest is the supervisor's own."""
AnyBody: TypeAlias = (
    HerdStarted
    | HerdReady
    | HerdReloaded
    | HerdDraining
    | HerdStopping
    | NurseryDied
    | PortSkipped
    | PhoneAdded
    | PhoneRemoved
    | PhoneMoved
    | PhoneDied
    | PhoneLate
    | BoxOverloaded
    | BoxRecovered
    | FaultInjected
    | Overflow
    | WorkerEvent
)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One numbered entry of the herd's event stream."""

    n: int
    """Number in the herd's one sequence, from 1 without a gap."""
    t: float
    """When it happened: seconds on the box's monotonic clock, the same for all phones."""
    at: float
    """Wall time of the same moment, seconds since the epoch, for people."""
    phone: str = ""
    incarnation: int = 0
    pid: int = 0
    body: AnyBody


def flatten(event: Event) -> dict[str, Any]:
    """The event as one flat dictionary of plain values, as ``--json`` prints it."""
    plain: dict[str, Any] = msgspec.to_builtins(event)
    body: dict[str, Any] = plain.pop("body")
    return {k: v for k, v in plain.items() if v not in ("", 0)} | body
