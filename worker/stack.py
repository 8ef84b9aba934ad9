"""The contract between a phone and its SIP stack.

The rest of the worker sees only this module: commands go in as method calls, what happened comes
out as the outputs below.  A stack has no socket, clock, thread or logging inside; the poll loop
of the worker sends what it returns and tells it the time.  All times are seconds on the
monotonic clock.  Hosts may be names where a `Hop` says so: the loop resolves them (RFC 3263).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol, TypeAlias

from ..protocol.events import (
    Address,
    Answered,
    CallCleanedUp,
    CallEnded,
    CancelResolved,
    Confirmed,
    DtmfMethod,
    DtmfReceived,
    Held,
    IncomingCall,
    Progress,
    Registered,
    RegistrationFailed,
    Retrieved,
    TransferFailed,
    Transferred,
    TurnedAway,
    Unregistered,
)

__all__ = [
    "DEFAULT_PORT",
    "Address",
    "Aged",
    "Answered",
    "CallCleanedUp",
    "CallEnded",
    "CallEvent",
    "CallWanted",
    "CancelResolved",
    "CommandEnded",
    "Confirmed",
    "Credentials",
    "DtmfReceived",
    "Held",
    "Hop",
    "IncomingCall",
    "Media",
    "MediaPlan",
    "Output",
    "Progress",
    "Registered",
    "Registrar",
    "RegistrationEvent",
    "RegistrationFailed",
    "Remember",
    "Retrieved",
    "Send",
    "SlotWanted",
    "Stack",
    "StackConfig",
    "StackRefusal",
    "Target",
    "TransferFailed",
    "Transferred",
    "Transport",
    "TurnedAway",
    "Unregistered",
    "shared_hop",
]

DEFAULT_PORT = 5060

Transport: TypeAlias = Literal["udp", "tcp"]


class Hop(NamedTuple):
    """Where a message is to go, or where one came from."""

    host: str
    """Numeric, IPv6 without brackets; for a message to be sent it may be a name."""
    port: int | None
    """None, with a name only: RFC 3263 decides, by SRV records and else DEFAULT_PORT."""
    transport: Transport = "udp"
    connection: int = 0
    """TCP: the number of the connection it came on.  A message to be sent goes back on it while it
    lasts, and after that, or with 0, on whichever leads to host and port."""

    @property
    def address(self) -> Address:
        """Host and port, the default port where there is none."""
        return self.host, self.port or DEFAULT_PORT

    @property
    def reliable(self) -> bool:
        """Whether the transport repeats what gets lost (RFC 3261 §17)."""
        return self.transport != "udp"


class Aged(NamedTuple):
    """A datagram that waited in the kernel while nobody read the socket."""

    data: bytes
    source: Hop
    age: float
    """Seconds since it came."""


@lru_cache(maxsize=256)
def shared_hop(
    host: str, port: int | None, transport: Transport = "udp", connection: int = 0
) -> Hop:
    """A Hop that is the same object for the same place: finished transactions keep one for long."""
    return Hop(host, port, transport, connection)


class StackRefusal(Exception):
    """A command that the state of the call does not allow; nothing was sent.

    ``reason`` is one word for programs (``no_such_call``, ``cancelled``, ``already_answered``,
    ``not_ringing``, ``bad_uri``, ``draining`` …); the message is for people.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a phone answers challenges with (RFC 7616, RFC 8760)."""

    username: str
    password: str = dataclass_field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registrar:
    """Where a phone registers (RFC 3261 §10)."""

    server: str
    """``host[:port]``."""
    aor: str
    """Address of record, a SIP URI: ``sip:USERNAME@DOMAIN``."""
    expires: int
    """Seconds asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackConfig:
    """What a stack needs to know of its phone."""

    user: str
    """User part of our own URI (the phone's number)."""
    host: str
    """Host written into Via, Contact and SDP: the bound address, or the advertised one."""
    port: int
    """Port written into Via and Contact."""
    transport: Transport = "udp"
    """What our requests go by where neither target nor Route says ``;transport=``."""
    display_name: str = ""
    user_agent: str = "sipherd"
    match_user: bool = False
    """Answer 404 to a request URI whose user part is not ours (default: accept any)."""
    max_calls: int | None = None
    """Calls at once; above it 486.  None is no limit."""
    ring_timeout: float = 60.0
    """Seconds an incoming call rings before 480; a shorter Expires of the INVITE wins (487)."""
    domain: str = ""
    """Right of the @ in our own URI (From); empty: `host`."""
    registrar: Registrar | None = None
    credentials: Credentials | None = None
    proxy: str = ""
    """``host[:port]``: first hop of every request outside of a dialog."""
    codecs: tuple[str, ...] = ("PCMU", "PCMA")
    """Best first."""
    dtmf: DtmfMethod = "rfc4733"
    session_expires: int | None = None
    """Seconds (RFC 4028); None asks for no session timer and keeps to the peer's wish."""
    t1: float = 0.5
    t2: float = 4.0
    t4: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """Where this phone receives the audio of one call."""

    host: str
    port: int
    """RTP port (even); RTCP is the next one."""


@dataclass(frozen=True, slots=True)
class Send:
    """One message to put on the wire, now."""

    data: bytes
    destination: Hop


@dataclass(frozen=True, slots=True)
class Remember:
    """Keep ``record`` under ``key`` for the next process of this phone, should this one die.

    In place of what was kept there, and before any output that follows: a `Send` after it has
    perhaps not been carried out when the record is read.
    """

    key: str
    record: bytes | None = dataclass_field(repr=False)
    """Only the stack knows what is in it; None: nothing is left that would have to be done."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is dialled, and the way there."""

    request_uri: str
    hop: Hop
    routes: tuple[str, ...] = ()
    """Values of the Route headers, the outbound proxy."""
    headers: str = ""
    """What followed the question mark in its URI, as written (``Replaces=…``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaPlan:
    """What offer and answer have settled about the audio of one call: from now on, send so.

    Comes with every completed exchange (RFC 3264): an answer in a 1xx (early media), the 2xx or
    ACK that makes the call, each re-INVITE or UPDATE.  A new plan replaces the old one whole.
    """

    call: str
    remote: Address | None
    """Where the peer wants RTP; None where it gave no numeric address, or 0.0.0.0."""
    remote_rtcp: Address | None = None
    """Where it wants RTCP (``a=rtcp``, RFC 3605); None is the port after RTP's."""
    codec: str
    """What we send: ``PCMU`` or ``PCMA``."""
    payload: int
    """Its number in the peer's description."""
    dtmf_payload: int | None = None
    """The number of telephone-event in the peer's description; None where it has none."""
    accepted: tuple[tuple[int, str], ...] = ()
    """Payload types that the peer may send: ``(0, "PCMU")``, ``(101, "telephone-event")``.  Empty
    stands for the two above."""
    sending: bool = True
    """Our direction is sendrecv or sendonly."""
    receiving: bool = True
    """Our direction is sendrecv or recvonly."""


@dataclass(frozen=True, slots=True)
class CommandEnded:
    """The end of a command that the stack was given with a number; exactly one for each."""

    command: int
    refusal: StackRefusal | None = None
    """None: it was carried out."""


@dataclass(frozen=True, slots=True)
class SlotWanted:
    """A REGISTER is due: `Stack.take_slot` when the herd's limit allows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallWanted:
    """The peer of ``call`` asked us to call ``target`` (REFER), and we have said 202.

    The worker places that call by `Stack.call` with ``referred_by=call``, or says
    `Stack.refer_failed`; the stack tells the peer what becomes of it (NOTIFY).
    """

    call: str
    target: str
    """A SIP URI, with a Replaces header in it for an attended transfer."""
    by: str
    """SIP URI of who asks."""


# What a stack reports is what observers of the herd see: one description, protocol.events.
CallEvent: TypeAlias = (
    IncomingCall
    | Progress
    | Answered
    | Confirmed
    | CancelResolved
    | CallEnded
    | Held
    | Retrieved
    | Transferred
    | TransferFailed
    | DtmfReceived
)
RegistrationEvent: TypeAlias = Registered | RegistrationFailed | Unregistered
Output: TypeAlias = (
    Send
    | Remember
    | MediaPlan
    | CallEvent
    | RegistrationEvent
    | TurnedAway
    | CallCleanedUp
    | CommandEnded
    | SlotWanted
    | CallWanted
)


class Stack(Protocol):
    """One SIP user agent.  Every method returns the outputs it caused, in order."""

    @property
    def counters(self) -> Mapping[str, int]:
        """Running totals by name: ``sip_malformed``, ``sip_retransmitted``, ``sip_duplicate`` …"""

    def receive(self, data: bytes, source: Hop, now: float) -> list[Output]:
        """Take one message from the wire.  Never raises, whatever the bytes are."""

    def catch_up(
        self, waiting: Sequence[Aged], now: float, left: Mapping[str, bytes] = ...
    ) -> list[Output]:
        """Take what came while the phone had no process, oldest first.  Never raises.

        One request may be there many times, and its sender may have given up long ago.  ``left``
        are the records of the process before (`Remember`): its calls are resumed or ended.
        """

    def close(self) -> None:
        """Answer every new call 480 and resume none: the phone only ends what was left."""

    def unreachable(
        self, data: bytes, destination: Hop, now: float, *, unresolved: bool = False
    ) -> list[Output]:
        """The message ``data`` (perhaps truncated) could not be delivered to ``destination``.

        An ICMP error, a refused or broken connection, or (``unresolved``) a name that leads to no
        address.
        """

    def tick(self, now: float) -> list[Output]:
        """Run every timer that is due."""

    def next_timer(self) -> float | None:
        """When ``tick`` is wanted next, or None."""

    def read_target(self, text: str, *, direct: bool = False) -> Target:
        """The SIP URI of a call, and the way there; ``direct`` leaves the outbound proxy out.

        Raises StackRefusal (``bad_uri``).
        """

    def call(
        self,
        call: str,
        target: Target,
        media: Media,
        now: float,
        *,
        referred_by: str = "",
        messages: bool = False,
    ) -> list[Output]:
        """Send an INVITE.

        ``referred_by`` is the call whose peer asked for it (CallWanted); with ``messages`` the end
        of the call tells those of its leg.
        Raises StackRefusal (``draining``, ``duplicate_call``).
        """

    def ring(self, call: str, now: float, *, code: int = 180) -> list[Output]:
        """Send another provisional response.  Raises StackRefusal."""

    def answer(self, call: str, media: Media, now: float) -> list[Output]:
        """Send 200 with SDP.  Raises StackRefusal (``cancelled``, ``already_answered`` …)."""

    def reject(self, call: str, now: float, *, code: int = 486, reason: str = "") -> list[Output]:
        """Send a final 3xx-6xx response to a ringing call.  Raises StackRefusal."""

    def cancel(self, call: str, now: float) -> list[Output]:
        """Cancel an outgoing call; exactly one CancelResolved follows.  Raises StackRefusal.

        A 2xx known before gives ``already_answered`` at once and leaves the call up.
        """

    def hang_up(self, call: str, now: float) -> list[Output]:
        """End the call whatever its state is: BYE, CANCEL (then as ``cancel``) or 480."""

    # Commands with a number end with one CommandEnded, at once or later.  All raise StackRefusal
    # when they can't be begun; then there is no CommandEnded.

    def hold(self, call: str, command: int, now: float) -> list[Output]:
        """Put an answered call on hold (re-INVITE, RFC 3264 §8.4)."""

    def retrieve(self, call: str, command: int, now: float) -> list[Output]:
        """Take it off hold."""

    def transfer(self, call: str, command: int, target: str, now: float) -> list[Output]:
        """Blind: send REFER to the SIP URI ``target`` (RFC 3515).

        Ends when the peer has reached it, or not.
        """

    def transfer_to_call(self, call: str, command: int, consult: str, now: float) -> list[Output]:
        """Attended: REFER the peer of ``call`` to that of ``consult`` (Replaces, RFC 3891)."""

    def refer_failed(self, call: str, code: int, now: float) -> list[Output]:
        """A CallWanted of this call's peer can't be placed: tell it so."""

    def send_info(
        self, call: str, command: int, content_type: str, content: bytes, now: float
    ) -> list[Output]:
        """Send INFO within the call (RFC 6086, and DTMF as ``application/dtmf-relay``)."""

    def register(self, command: int, now: float) -> list[Output]:
        """Register, or refresh, now; ``command`` 0: nobody waits for its end.

        Asks for a slot first.  From then on the stack keeps the registration up by itself.
        Raises StackRefusal (``no_registrar``).
        """

    def unregister(self, command: int, now: float) -> list[Output]:
        """Have the registrar forget us, and stay so.  Raises StackRefusal (``no_registrar``)."""

    def drop_registration(self, now: float) -> list[Output]:
        """Have the registrar forget us as if by itself: here nothing changes.

        Raises StackRefusal (``no_registrar``).
        """

    def take_slot(self, now: float) -> list[Output]:
        """The slot that SlotWanted asked for."""

    def refuse_calls(self) -> None:
        """Refuse new calls with 503; those that there are go on."""

    def drain(self, now: float) -> list[Output]:
        """End every call, refuse new ones with 503, unregister."""

    def is_idle(self) -> bool:
        """No call, no registration and no unanswered BYE or CANCEL: a drained process may exit."""
