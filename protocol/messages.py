"""Every message on a ZeroMQ socket of a herd, and the envelope it travels in.

Four directions, each a closed union: a receiver decodes only what may come from there.
Commands end as ``Done``, ``Refused`` or ``Expired`` with ``reply_to`` set to the command's id;
sending a command again with the same id does not run it twice.
"""

from __future__ import annotations

import re
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import msgspec

from .behaviour import Behaviour
from .events import (
    CancelOutcome,
    EndCause,
    Event,
    Fault,
    HangLevel,
    MediaStats,
    WorkerEvent,
)
from .spec import PhoneSpec
from .states import CallState, PhoneState

__all__ = [
    "ANY_PORT",
    "PROTOCOL_VERSION",
    "AddPhones",
    "AnswerCall",
    "AskToRegister",
    "AwaitIncoming",
    "CallCommand",
    "CallInfo",
    "CallList",
    "CancelCall",
    "CancelReport",
    "ClientMessage",
    "ClientRequest",
    "Counters",
    "Done",
    "Drain",
    "Drained",
    "Envelope",
    "Events",
    "Exit",
    "Expired",
    "GetHerd",
    "HangUpCall",
    "Happened",
    "Hello",
    "HerdInfo",
    "HoldCall",
    "InjectFault",
    "Leave",
    "ListCalls",
    "ListPhones",
    "LogLine",
    "LoopLag",
    "Message",
    "Missed",
    "PhoneCommand",
    "PhoneInfo",
    "PhoneList",
    "PlaceCall",
    "PlayAudio",
    "Ready",
    "RecordAudio",
    "RefuseCalls",
    "Refused",
    "RefusesCalls",
    "RegisterNow",
    "RegisterPhone",
    "RegistrationState",
    "RejectCall",
    "Reload",
    "ReloadReport",
    "RemovePhones",
    "ResetPhones",
    "RestartPhones",
    "RetrieveCall",
    "SendDtmf",
    "Snapshot",
    "StartBehaviour",
    "StartPhones",
    "StopAudio",
    "StopHerd",
    "StopHow",
    "StopPhones",
    "StopRecording",
    "StopReport",
    "StopReports",
    "Subscribe",
    "SupervisorToClient",
    "SupervisorToWorker",
    "TransferCall",
    "UnregisterPhone",
    "Unsubscribe",
    "Welcome",
    "Withdraw",
    "WorkerMessage",
]

PROTOCOL_VERSION = 1
ANY_PORT = 0


def _tag(name: str) -> str:
    """``PlaceCall`` → ``place_call``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=_tag):
    """Base of all messages."""


# --- commands about one call, the same words on both hops ---------------------------------------


class PlaceCall(Message, frozen=True, kw_only=True):
    """Place a call from ``phone``; done with CallInfo once the INVITE is under way."""

    phone: str
    target: str
    """Client: a phone's name or number, or a SIP URI.  Worker: always a SIP URI."""
    call: str = ""
    """Set by the supervisor."""
    dialled: str = ""
    """Set by the supervisor: the target as the client gave it."""
    ring_timeout: float | None = None
    """Seconds until the caller gives up; None is the phone's own."""
    detached: bool = False
    """The call outlives the client that placed it."""
    direct: bool = False
    """A number goes straight to the herd's phone, not by way of registrar or proxy."""
    messages: bool = False
    """The end of the call tells its SIP messages (``CallEnded.messages``)."""


class AnswerCall(Message, frozen=True, kw_only=True):
    """Answer a ringing incoming call with 200."""

    call: str
    detached: bool = False


class RejectCall(Message, frozen=True, kw_only=True):
    """Answer a ringing incoming call with a final 3xx-6xx."""

    call: str
    code: int = 486
    reason: str = ""


class CancelCall(Message, frozen=True, kw_only=True):
    """Cancel an outgoing call; done with CancelReport once the outcome is known."""

    call: str


class HangUpCall(Message, frozen=True, kw_only=True):
    """End a call whatever its state: BYE, CANCEL or 480."""

    call: str


class HoldCall(Message, frozen=True, kw_only=True):
    """Put an answered call on hold (re-INVITE); done once the far end has accepted it."""

    call: str


class RetrieveCall(Message, frozen=True, kw_only=True):
    """Take a call off hold (re-INVITE); done once the far end has accepted it."""

    call: str


class TransferCall(Message, frozen=True, kw_only=True):
    """Have the far end call somebody else (REFER); done once it has reached them.

    Exactly one of ``target`` and ``consult`` is set.
    """

    call: str
    target: str = ""
    """Blind.  Client: a phone's name or number, or a SIP URI.  Worker: always a SIP URI."""
    consult: str = ""
    """Attended: the far end of this call of the same phone takes over (Replaces, RFC 3891)."""


class SendDtmf(Message, frozen=True, kw_only=True):
    """Press keys; done once all are sent, the way the phone's ``dtmf`` says."""

    call: str
    digits: str
    """Of ``0-9 * # A-D``."""


class PlayAudio(Message, frozen=True, kw_only=True):
    """Send this instead of what was sent before; done once it has begun."""

    call: str
    source: str
    """``silence``, ``echo``, ``tone:HZ``, or the absolute path of an audio file."""
    loop: bool = False
    """Begin again at the end of a file, until it is stopped."""


class StopAudio(Message, frozen=True, kw_only=True):
    """Send silence from now on."""

    call: str


class RecordAudio(Message, frozen=True, kw_only=True):
    """Write the call's audio to a WAV file; done once the file is there."""

    call: str
    file: str
    """An absolute path; what was there is overwritten."""
    what: Literal["received", "sent", "mixed", "both"] = "received"
    """``both``: two channels, received on the left and sent on the right."""


class StopRecording(Message, frozen=True, kw_only=True):
    """Complete the file."""

    call: str


class RegisterPhone(Message, frozen=True, kw_only=True):
    """Register a phone now, whatever its retry timer says; done once the registrar accepted."""

    phone: str


class UnregisterPhone(Message, frozen=True, kw_only=True):
    """Unregister a phone, until RegisterPhone; done once the registrar accepted."""

    phone: str


class InjectFault(Message, frozen=True, kw_only=True):
    """Do a phone's process harm, in a herd that allows it; done once the harm is under way."""

    phone: str
    fault: Fault
    code: int = 1
    """Of ``exit``: 0 to 255."""


CallCommand: TypeAlias = (
    AnswerCall
    | RejectCall
    | CancelCall
    | HangUpCall
    | HoldCall
    | RetrieveCall
    | TransferCall
    | SendDtmf
    | PlayAudio
    | StopAudio
    | RecordAudio
    | StopRecording
)
"""Commands about a call that there is."""
PhoneCommand: TypeAlias = RegisterPhone | UnregisterPhone
"""Commands about a phone as a whole that its process carries out."""

# --- supervisor to worker ------------------------------------------------------------------------


class Welcome(Message, frozen=True, kw_only=True):
    """The worker is the phone's one process: it may adopt the socket and serve."""

    purpose: Literal["serve", "clean_up"] = "serve"
    """``clean_up``: end the calls that the processes before it have left behind, take no new one,
    and after Ready say Drained as soon as that is done."""
    spec: PhoneSpec
    host: str
    """Host for Via, Contact and SDP."""
    port: int
    """Port for Via and Contact."""
    rtp_first: int
    """First port of the phone's RTP lease (even), or ANY_PORT: pairs come from the kernel."""
    rtp_pairs: int
    rtp_resting: dict[int, float] = {}
    """RTP ports of calls that crashed, and for how many seconds their peers may send on."""
    behaviour: Behaviour | None = None
    """To be loaded before Ready, and to run from StartBehaviour on."""


class StartBehaviour(Message, frozen=True, kw_only=True):
    """The phone is READY for everybody: run its behaviour."""


class Drain(Message, frozen=True, kw_only=True):
    """End every call, refuse new ones with 503, then say Drained and exit 0."""


class RefuseCalls(Message, frozen=True, kw_only=True):
    """Answer new calls with 503 and place none; those that are up go on.  RefusesCalls follows."""


class RegisterNow(Message, frozen=True, kw_only=True):
    """The worker's turn to send a REGISTER has come (AskToRegister)."""


class Exit(Message, frozen=True, kw_only=True):
    """Exit now: nobody awaits this process, or its behaviour failed and nothing is in the way."""

    why: str


SupervisorToWorker: TypeAlias = (
    Welcome
    | PlaceCall
    | CallCommand
    | PhoneCommand
    | InjectFault
    | RegisterNow
    | RefuseCalls
    | StartBehaviour
    | Drain
    | Exit
)

# --- worker to supervisor ------------------------------------------------------------------------


class Hello(Message, frozen=True, kw_only=True):
    """First message of a worker."""

    pid: int
    token: str
    """The secret the supervisor gave this incarnation when it asked for the fork."""


class Ready(Message, frozen=True, kw_only=True):
    """The socket is adopted and served."""


class AskToRegister(Message, frozen=True, kw_only=True):
    """Answered with RegisterNow when this phone's turn comes: the herd's REGISTER rate is limited.

    Not asked for the answer to a challenge, nor to unregister.
    """


class Happened(Message, frozen=True, kw_only=True):
    """Something for the event stream; ``t`` is the worker's monotonic clock."""

    t: float
    body: WorkerEvent


class Counters(Message, frozen=True, kw_only=True):
    """Running totals of this incarnation, sent when they changed, at most once a second."""

    values: dict[str, int]


class LogLine(Message, frozen=True, kw_only=True):
    """One structured log line of a worker."""

    level: Literal["debug", "info", "warning", "error"]
    event: str
    fields: dict[str, str | int | float | bool | None]


class RefusesCalls(Message, frozen=True, kw_only=True):
    """From here on no call begins: every one that there is has been reported."""


class Drained(Message, frozen=True, kw_only=True):
    """Every call is over; the process exits now."""

    unanswered_byes: tuple[str, ...] = ()


# --- client to supervisor ------------------------------------------------------------------------


class GetHerd(Message, frozen=True, kw_only=True):
    """Done with HerdInfo."""


class ListPhones(Message, frozen=True, kw_only=True):
    """Done with PhoneList; no names means all."""

    which: tuple[str, ...] = ()


class ListCalls(Message, frozen=True, kw_only=True):
    """Done with CallList: calls that are not over, or those named (also recently ended ones)."""

    which: tuple[str, ...] = ()


class AddPhones(Message, frozen=True, kw_only=True):
    """Create and start phones, all or none; done with PhoneList when all are READY."""

    specs: tuple[PhoneSpec, ...]
    behaviours: dict[str, Behaviour] = {}
    """By the name of the phone; for local clients alone."""


class RemovePhones(Message, frozen=True, kw_only=True):
    """Stop phones and forget them; done with StopReports."""

    which: tuple[str, ...]


class StartPhones(Message, frozen=True, kw_only=True):
    """Start stopped or failed phones on their old ports; done with PhoneList."""

    which: tuple[str, ...] = ()


class StopPhones(Message, frozen=True, kw_only=True):
    """Stop phones; done with StopReports when processes are gone and ports can be bound."""

    which: tuple[str, ...] = ()
    now: bool = False
    """Do not wait for answers: one BYE or CANCEL, then exit."""


class RestartPhones(Message, frozen=True, kw_only=True):
    """Stop and start; done with PhoneList when READY again."""

    which: tuple[str, ...] = ()


class ResetPhones(Message, frozen=True, kw_only=True):
    """FAILED phones become STOPPED, those in BACKOFF are started now; both forget their failures.

    Done with PhoneList.
    """

    which: tuple[str, ...] = ()


class StopHerd(Message, frozen=True, kw_only=True):
    """Stop every phone and the supervisor; done with StopReports, then the process exits."""

    now: bool = False
    drain: bool = False
    """Let the calls end by themselves first; no new ones begin."""


class Reload(Message, frozen=True, kw_only=True):
    """Read the herd file again and be what it says; done with ReloadReport."""

    dry_run: bool = False
    """Say what would change, and change nothing."""


class AwaitIncoming(Message, frozen=True, kw_only=True):
    """Take the next incoming call of these phones (all if none); done with CallInfo.

    Each call goes to exactly one waiter, the one that has waited longest.
    """

    which: tuple[str, ...] = ()


class Withdraw(Message, frozen=True, kw_only=True):
    """Give up an AwaitIncoming; the waiter is answered Expired unless it was served."""

    request: int


class Subscribe(Message, frozen=True, kw_only=True):
    """Done with Snapshot, then Events.  A new Subscribe replaces the old one."""

    after: int | None = None
    """Resume behind this number; None is from now on."""
    phones: tuple[str, ...] = ()
    """Only events of these phones; none means all."""
    own: bool = False
    """Only events of calls that belong to this client."""


class Unsubscribe(Message, frozen=True, kw_only=True):
    """No more Events."""


class Leave(Message, frozen=True, kw_only=True):
    """The client goes: as if its process had died."""


ClientRequest: TypeAlias = (
    GetHerd
    | ListPhones
    | ListCalls
    | AddPhones
    | RemovePhones
    | StartPhones
    | StopPhones
    | RestartPhones
    | ResetPhones
    | StopHerd
    | Reload
    | PlaceCall
    | CallCommand
    | PhoneCommand
    | InjectFault
    | AwaitIncoming
    | Withdraw
    | Subscribe
    | Unsubscribe
    | Leave
)

# --- what a command may be done with -------------------------------------------------------------


class CallInfo(Message, frozen=True, kw_only=True):
    """One call leg as the supervisor knows it."""

    call: str
    phone: str
    direction: Literal["out", "in"]
    state: CallState
    sip_call_id: str = ""
    from_uri: str = ""
    from_display: str = ""
    to_uri: str = ""
    target: str = ""
    codec: str = ""
    rtp_port: int | None = None
    """Ours, for a call with audio that was answered."""
    started: float
    """Monotonic time the leg began."""
    answered: float | None = None
    ended: float | None = None
    cause: EndCause | None = None
    code: int | None = None
    """The last response code to the INVITE, provisional or final."""
    reason: str = ""
    by: str = ""
    bye_answered: bool | None = None
    cancel_outcome: CancelOutcome | None = None
    held: tuple[Literal["local", "remote"], ...] = ()
    """Who has put it on hold."""
    digits: str = ""
    """DTMF received so far."""
    media: MediaStats | None = None


class CallList(Message, frozen=True, kw_only=True):
    """Calls, oldest first."""

    calls: tuple[CallInfo, ...]


RegistrationState: TypeAlias = Literal["", "registering", "registered", "failed", "unregistered"]


class PhoneInfo(Message, frozen=True, kw_only=True):
    """One phone as ``ps`` and ``show`` present it."""

    name: str
    number: str
    state: PhoneState
    activity: str
    """``idle``, ``ringing`` or ``in call: N``; empty unless READY or DRAINING."""
    address: str
    port: int
    pid: int = 0
    incarnation: int = 0
    restarts: int = 0
    uptime: float = 0.0
    """Seconds since the running process was started."""
    why: str = ""
    """For BACKOFF and FAILED: the cause."""
    deaths: int = 0
    """Of its processes, those that nobody had asked for."""
    retry_in: float | None = None
    """For BACKOFF: seconds until it is started again."""
    calls: tuple[str, ...] = ()
    waiting: int = 0
    """Calls that wait for a client."""
    progress: HangLevel = "fine"
    overdue: float = 0.0
    """Seconds since its progress was due."""
    stopped: bool = False
    """It makes no progress because of SIGSTOP or a debugger."""
    registration: RegistrationState = ""
    """Empty for a phone that does not register, or does not run."""
    registration_expires: float | None = None
    """Seconds until the registrar forgets the phone unless it is refreshed."""
    registration_why: str = ""
    """For ``failed``: the last response, or what stood in for it."""
    registration_retry: float | None = None
    """For ``failed``: seconds until it tries again; None: when it is told to."""
    rtp_first: int = 0
    rtp_pairs: int = 0
    dialogs: int = 0
    """Dialogs, early ones too, of which its process has to see the end."""
    counters: dict[str, int] = {}
    behaviour: str = ""
    """The name of the function that its process runs; empty for most."""
    spec: PhoneSpec
    """Without its password."""


class PhoneList(Message, frozen=True, kw_only=True):
    """Phones in the order of their creation."""

    phones: tuple[PhoneInfo, ...]


class LoopLag(msgspec.Struct, frozen=True, array_like=True):
    """How late loops came to their work, at worst within a second or so."""

    t: float
    """Its end, on the supervisor's monotonic clock."""
    supervisor: float
    """Seconds."""
    phones: float
    """Seconds; the worst of them."""


class HerdInfo(Message, frozen=True, kw_only=True):
    """The herd at one moment."""

    herd: str
    pid: int
    nursery_pid: int
    version: str
    uptime: float
    states: dict[str, int]
    """Number of phones by state."""
    calls: int
    clients: int
    remote_clients: tuple[str, ...] = ()
    """Names of the keys by which clients of other machines are connected now."""
    listen: str = ""
    """``tcp://HOST:PORT`` where they connect; empty if nobody listens."""
    clock: float = 0.0
    """The monotonic clock there, by which all moments in messages are told."""
    box_overloaded: bool = False
    """No phone is taken for hung: this machine has no time for them."""
    lags: tuple[LoopLag, ...] = ()
    """Of the last ten seconds or more, oldest first; while any phone is READY."""
    counters: dict[str, float]
    """``ports_allocated``, ``port_allocation_failures``, ``port_allocation_mean_ms``,
    ``phones_started``, ``phone_restarts``, ``phone_deaths``, ``client_garbage``,
    ``worker_garbage`` …

    Of all processes of its phones: ``rtp_exhausted``, calls that got no RTP ports;
    ``rtp_datagrams_lost``, those that the kernel had no room for."""


StopHow: TypeAlias = Literal[
    "not_running",
    "drained",  # calls ended, answers received, exit 0
    "terminated",  # SIGTERM: one BYE or CANCEL for each call
    "killed",  # SIGKILL
    "died",  # by itself, on the way
    "stuck",  # survives SIGKILL: hangs in the kernel
]


class StopReport(Message, frozen=True, kw_only=True):
    """How one phone went."""

    phone: str
    how: StopHow
    seconds: float
    unanswered_byes: tuple[str, ...] = ()


class StopReports(Message, frozen=True, kw_only=True):
    """How each phone went."""

    reports: tuple[StopReport, ...]


class ReloadReport(Message, frozen=True, kw_only=True):
    """What a reload changed, by the names of phones; or would change."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    """Started again with a new spec."""
    unchanged: tuple[str, ...] = ()
    herd: tuple[str, ...] = ()
    """Fields of the herd itself that are others now."""
    problems: tuple[str, ...] = ()
    """Phones that are not as the file says all the same, a line for each."""


class CancelReport(Message, frozen=True, kw_only=True):
    """The outcome of CancelCall."""

    call: str
    outcome: CancelOutcome
    code: int | None = None


class Snapshot(Message, frozen=True, kw_only=True):
    """The state behind event ``n``; every later event follows as Events."""

    n: int
    phones: tuple[PhoneInfo, ...]
    calls: tuple[CallInfo, ...]


Result: TypeAlias = (
    CallInfo
    | CallList
    | PhoneList
    | HerdInfo
    | StopReports
    | ReloadReport
    | CancelReport
    | Snapshot
    | None
)

# --- replies, both hops --------------------------------------------------------------------------


class Done(Message, frozen=True, kw_only=True):
    """The command was carried out."""

    result: Result = None


class Refused(Message, frozen=True, kw_only=True):
    """The command was not carried out and changed nothing."""

    reason: str
    """One word for programs: ``no_such_phone``, ``no_such_call``, ``cancelled`` …"""
    message: str
    """One line for people: what, where, the remedy."""
    wanted: str = ""
    """The phone or call that was not found."""
    near: tuple[str, ...] = ()
    """Names that resemble the one that was not found."""


class Expired(Message, frozen=True, kw_only=True):
    """The command's deadline passed first."""

    message: str = ""


class Events(Message, frozen=True, kw_only=True):
    """Consecutive events of the subscription."""

    events: tuple[Event, ...]


class Missed(Message, frozen=True, kw_only=True):
    """This client read too slowly: events ``first`` to ``last`` were dropped for it."""

    first: int
    last: int


WorkerMessage: TypeAlias = (
    Hello
    | Ready
    | AskToRegister
    | Happened
    | Counters
    | LogLine
    | RefusesCalls
    | Drained
    | Done
    | Refused
)
ClientMessage: TypeAlias = ClientRequest
SupervisorToClient: TypeAlias = Done | Refused | Expired | Events | Missed

B = TypeVar("B")


class Envelope(msgspec.Struct, Generic[B], frozen=True, kw_only=True, array_like=True):
    """What every message travels in."""

    version: int = PROTOCOL_VERSION
    id: int
    """Number of this message at its sender; a command sent again keeps it."""
    reply_to: int = 0
    phone: str = ""
    incarnation: int = 0
    seq: int = 0
    """Counts the messages of one link and direction from 1; a gap means loss."""
    timeout: float | None = None
    """Seconds the sender waits for the command's end; None for ever."""
    body: B


AnyEnvelope: TypeAlias = Envelope[Any]
