"""What a herd and its phones are to be: the model of a herd file, and of a phone added later.

Every struct checks itself when it is made, by hand or by decoding a message, so one that is wrong
in itself can't exist. What only the machine can tell (is the address local, is the port free) is
found out by whoever binds. All durations are seconds.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from .events import DtmfMethod
from .hang_spec import HangSpec
from .limits import Limits
from .log_spec import LogSpec
from .restart_spec import RestartSpec

__all__ = [
    "CODECS",
    "DEFAULT_CALL_LIMIT",
    "Conflict",
    "HerdPorts",
    "HerdSpec",
    "OnIncoming",
    "PhoneSpec",
    "PortRange",
    "RegisterSpec",
    "bracketed",
    "conflicts",
    "is_number",
    "is_wildcard",
    "overlap",
    "split_advertise",
    "split_listen",
]

#: Calls that a phone with audio takes at the same time unless `max_calls` says otherwise.
DEFAULT_CALL_LIMIT = 2

#: Audio codecs that a phone can speak, as in `a=rtpmap`.
CODECS = ("PCMU", "PCMA")

_MAX_PORT = 65535
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# The user part of RFC 3261 (25.1), as far as it needs no %-escape in anybody's parser.
_NUMBER = re.compile(r"[A-Za-z0-9+*._-]{1,64}")
_HOST_AND_PORT = re.compile(
    r"(?:\[(?P<six>[^\[\]]*:[^\[\]]*)\]|(?P<host>[^:\[\]]*))(?::(?P<port>.*))?"
)
_HOST_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


# Checks of one value each. They raise ValueError with what was expected and leave out the value:
# it may come from the environment, and the reader of a herd file shows it as the file has it.


def check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(
            "expected 1 to 64 of the characters A-Z a-z 0-9 . _ - that begin with a letter or digit"
        )


def check_number(number: str) -> None:
    if not _NUMBER.fullmatch(number):
        raise ValueError("expected 1 to 64 of the characters A-Z a-z 0-9 + * . _ -")


def is_number(text: str) -> bool:
    """Whether it can be dialled: a user part that needs no escapes."""
    return _NUMBER.fullmatch(text) is not None


def bracketed(host: str) -> str:
    """The host as a URI has it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def check_display_name(text: str) -> None:
    if not text.isprintable():
        raise ValueError("expected text without line breaks and control characters")


def check_address(address: str) -> None:
    """Numeric or a host name, by syntax alone; IPv6 without brackets."""
    if ":" in address or "[" in address:
        _check_ipv6(address)
        return
    labels = address.removesuffix(".").split(".")
    if labels[-1].isdecimal():  # a top-level domain is never all digits, so this is no host name
        try:
            ipaddress.IPv4Address(address)
        except ValueError:
            raise ValueError("not an IPv4 address, expected one such as 192.0.2.10") from None
    elif len(address) > 253 or not all(_HOST_LABEL.fullmatch(label) for label in labels):
        raise ValueError("expected an IP address or a host name")


def _check_ipv6(address: str) -> None:
    if "[" in address:
        raise ValueError("expected an address without brackets and port")
    try:
        found = ipaddress.IPv6Address(address)
    except ValueError:
        raise ValueError("not an IPv6 address, expected one such as 2001:db8::10") from None
    if found.is_link_local or found.scope_id is not None:
        # It means nothing in a Via, Contact or SDP, where no scope can be written.
        raise ValueError(
            "a link-local address is of no use in SIP; take a global or unique local one"
        )
    if found.ipv4_mapped is not None:
        raise ValueError(f"an IPv4 address in disguise, write {found.ipv4_mapped}")


def is_wildcard(address: str) -> bool:
    """Whether it means every address of this machine (of its family)."""
    return address in ("0.0.0.0", "::")


def overlap(one: str, other: str) -> bool:
    """Whether sockets bound to these addresses can't have the same port."""
    if one == other:
        return True
    return (":" in one) == (":" in other) and (is_wildcard(one) or is_wildcard(other))


def split_advertise(advertise: str) -> tuple[str, int | None]:
    """Host and port of `host[:port]`; the port is None where there is none.

    An IPv6 address stands in brackets there; it is returned without.

    Raises:
        ValueError: it has another form.
    """
    if advertise.count(":") > 1 and "[" not in advertise:
        raise ValueError("expected an IPv6 address in brackets, such as [2001:db8::1]:5060")
    match = _HOST_AND_PORT.fullmatch(advertise)
    if match is None:
        raise ValueError("expected HOST or HOST:PORT")
    host = match["six"] or match["host"]
    check_address(host)
    if is_wildcard(host):
        raise ValueError(f"expected an address that others can send to, not {host}")
    digits = match["port"]
    if digits is None:
        return host, None
    if not re.fullmatch("[1-9][0-9]{0,4}", digits) or int(digits) > _MAX_PORT:
        raise ValueError(f"expected a port from 1 to {_MAX_PORT} after the colon")
    return host, int(digits)


def split_listen(listen: str) -> tuple[str, int]:
    """Host and port of `tcp://HOST:PORT`; an IPv6 address is returned without its brackets.

    Raises:
        ValueError: it has another form.
    """
    match = _HOST_AND_PORT.fullmatch(listen.removeprefix("tcp://"))
    if match is None or match["port"] is None or not listen.startswith("tcp://"):
        raise ValueError("expected tcp://HOST:PORT, such as tcp://192.0.2.10:7060")
    host = match["six"] or match["host"]
    check_address(host)
    if not re.fullmatch("[0-9]{1,5}", match["port"]) or int(match["port"]) > _MAX_PORT:
        raise ValueError(f"expected a port from 1 to {_MAX_PORT} after the colon")
    return host, int(match["port"])


def check_listen(listen: str) -> None:
    split_listen(listen)


def check_advertise(advertise: str) -> None:
    split_advertise(advertise)


def check_port(port: int) -> None:
    if not 0 <= port <= _MAX_PORT:
        raise ValueError(f"expected a port from 1 to {_MAX_PORT}, or 0 for any free one")


def check_server(server: str) -> None:
    """`host[:port]` of a registrar or proxy."""
    split_advertise(server)


def check_user(user: str) -> None:
    if not re.fullmatch(r"[!-~]{1,128}", user) or any(char in '<>"\\;,' for char in user):
        raise ValueError('expected 1 to 128 printable characters, none of < > " ; , \\ or space')


def check_password(password: str) -> None:
    if not password.isprintable() or len(password) > 256:
        raise ValueError("expected at most 256 characters, no line breaks or control characters")


def check_expires(seconds: float) -> None:
    if not 10 <= seconds <= 7 * 86400 or seconds != int(seconds):
        raise ValueError("expected whole seconds from 10s to 168h")


def check_codecs(codecs: Sequence[str]) -> None:
    if not codecs or len(set(codecs)) != len(codecs) or not set(codecs) <= set(CODECS):
        raise ValueError(f"expected one or more of {', '.join(CODECS)}, each once, best first")


def check_rate(per_second: float) -> None:
    if not 0 < per_second <= 10_000:
        raise ValueError("expected more than 0 and at most 10000 per second")


def check_share(share: float) -> None:
    if not 0 <= share <= 1:
        raise ValueError("expected a share from 0 to 1")


def check_reject(code: int) -> None:
    if not 300 <= code <= 699:
        raise ValueError("expected a SIP status from 300 to 699")


def check_max_calls(calls: int) -> None:
    if calls < 1:
        raise ValueError("expected 1 or more")


def check_not_negative(value: float) -> None:
    if not value >= 0:  # also false for NaN
        raise ValueError("expected 0 or more")


def check_ring_timeout(seconds: float) -> None:
    if not seconds > 0:
        raise ValueError("expected more than 0 seconds")


def check_start_timeout(seconds: float) -> None:
    if not 0.1 <= seconds <= 3600:
        raise ValueError("expected 0.1s to 1h")


def check_session_expires(seconds: float) -> None:
    # RFC 4028 5: no less than 90 seconds.
    if not 90 <= seconds <= 86400 or seconds != int(seconds):
        raise ValueError("expected whole seconds from 90s to 24h")


def check_rtp_range(ports: PortRange) -> None:
    if ports.first % 2:
        raise ValueError("expected an even first port: RTP takes even ports, RTCP the next odd one")
    if ports.last == ports.first:
        raise ValueError("expected at least two ports: RTP and RTCP take one each")


def _check(field: str, check: Callable[[Any], None], value: object) -> None:
    """`check`, with the field and its value named in the error."""
    try:
        check(value)
    except ValueError as error:
        raise ValueError(f"{field} {value!r}: {error}") from None


class OnIncoming(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a phone does by itself with an incoming call: exactly one of answer, reject, ring.

    Attributes:
        answer_after: answer so many seconds after the INVITE.
        reject: answer with this SIP status, 300 to 699.
        ring: ring and do nothing else, until the caller or `ring_timeout` ends it.
        hang_up_after: with `answer_after`: hang up so many seconds after the answer.
    """

    answer_after: float | None = None
    reject: int | None = None
    ring: bool = False
    hang_up_after: float | None = None

    def __post_init__(self) -> None:
        chosen = [self.answer_after is not None, self.reject is not None, self.ring]
        if chosen.count(True) != 1:
            raise ValueError("expected exactly one of answer_after, reject and ring: true")
        if self.hang_up_after is not None:
            if self.answer_after is None:
                raise ValueError("hang_up_after counts from the answer: it needs answer_after")
            _check("hang_up_after", check_not_negative, self.hang_up_after)
        if self.answer_after is not None:
            _check("answer_after", check_not_negative, self.answer_after)
        if self.reject is not None:
            _check("reject", check_reject, self.reject)


class RegisterSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where and as whom a phone registers (RFC 3261 10).

    Attributes:
        server: `host[:port]` of the registrar.
        domain: right of the @ in the address of record; "" is the host of `server`.
        username: left of it, and of the digest; "" is the phone's number.
        auth_username: user name for the digest where it is another one.
        password: for the digest; "" has none, and a challenge is a failure.
        expires: seconds asked for; the registrar may grant others.
    """

    server: str
    domain: str = ""
    username: str = ""
    auth_username: str = ""
    password: str = ""
    expires: float = 3600.0

    def __post_init__(self) -> None:
        _check("server", check_server, self.server)
        if self.domain:
            _check("domain", check_address, self.domain)
        for field in ("username", "auth_username"):
            if value := getattr(self, field):
                _check(field, check_user, value)
        # Not by _check: the error would quote it.
        check_password(self.password)
        _check("expires", check_expires, self.expires)

    def __repr__(self) -> str:
        # What is logged or raised may show any part of a herd, and must not show this one.
        shown = (
            f"{field}={getattr(self, field)!r}"
            for field in self.__struct_fields__
            if field != "password"
        )
        return f"RegisterSpec({', '.join(shown)})"


class PhoneSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One phone.

    Attributes:
        name: what people call it; unique in the herd, among names and numbers.
        number: user part of its SIP address, likewise unique. "" becomes the name.
        display_name: the text beside its address in From.
        address: local address of its sockets, numeric or a host name. "" becomes 127.0.0.1; for a
            phone with `register` or `proxy` it stays, and means the address of the route there.
        advertise: `host[:port]` that Via, Contact and SDP show instead, for NAT, 0.0.0.0 and `::`.
        transport: what its requests go by unless a URI says otherwise.
        port: SIP port; None takes the next of the herd's range, 0 any free one.
        register: where it registers; None does not.
        proxy: `host[:port]` that every request of its goes to first, but those within a dialog.
        on_incoming: what it does by itself with a call; None leaves calls to clients.
        media: "none" makes offer and answer but neither sends nor handles media.
        codecs: what it speaks, best first.
        dtmf: how it sends keys: as RTP events (RFC 4733) or as SIP INFO.
        session_expires: seconds without a refresh after which a call of its ends (RFC 4028);
            None asks for no such timer and keeps to what the far end asks for.
        max_calls: see `call_limit`.
        ring_timeout: seconds after which a call that nobody answers ends.
        queue: incoming calls that may wait for a client; the next one gets 486.
        match_user: answer 404 to an INVITE whose user part is not `number`.
        trace: an event for every SIP message.
        restart: what becomes of it when its process dies.
        on_parked: when it is not restarted, `close` its SIP sockets, or `hold` them open.
        after_crash: what its next process does about the calls of one that crashed: `clean_up`
            ends them at the far end, too, and `leave` leaves them there.
        hang: for how long its progress may be overdue.
        limits: what its process may use of the machine.
        start_timeout: seconds for its process to serve, from the moment it is asked for.
    """

    name: str
    number: str = ""
    display_name: str = ""
    address: str = ""
    advertise: str | None = None
    transport: Literal["udp", "tcp"] = "udp"
    port: int | None = None
    register: RegisterSpec | None = None
    proxy: str | None = None
    on_incoming: OnIncoming | None = None
    media: Literal["audio", "none"] = "audio"
    codecs: tuple[str, ...] = CODECS
    dtmf: DtmfMethod = "rfc4733"
    session_expires: float | None = None
    max_calls: int | None = None
    ring_timeout: float = 60.0
    queue: int = 4
    match_user: bool = False
    trace: bool = False
    restart: RestartSpec = RestartSpec()
    on_parked: Literal["close", "hold"] = "close"
    after_crash: Literal["clean_up", "leave"] = "clean_up"
    hang: HangSpec = HangSpec()
    limits: Limits = Limits()
    start_timeout: float = 10.0

    def __post_init__(self) -> None:
        _check("name", check_name, self.name)
        if not self.number:
            msgspec.structs.force_setattr(self, "number", self.name)
        _check("number", check_number, self.number)
        _check("display_name", check_display_name, self.display_name)
        if not self.address and self.register is None and self.proxy is None:
            msgspec.structs.force_setattr(self, "address", "127.0.0.1")
        if self.address:
            _check("address", check_address, self.address)
        if ":" in self.address:  # one spelling, for it is compared
            canonical = str(ipaddress.IPv6Address(self.address))
            msgspec.structs.force_setattr(self, "address", canonical)
        if self.advertise is not None:
            _check("advertise", check_advertise, self.advertise)
        elif is_wildcard(self.address):
            raise ValueError(f"address {self.address} can't be shown to others: it needs advertise")
        if self.port is not None:
            _check("port", check_port, self.port)
        if self.proxy is not None:
            _check("proxy", check_server, self.proxy)
        if self.transport not in ("udp", "tcp"):
            raise ValueError(f"transport {self.transport!r}: expected udp or tcp")
        if self.media not in ("audio", "none"):
            raise ValueError(f"media {self.media!r}: expected audio or none")
        _check("codecs", check_codecs, self.codecs)
        if self.dtmf not in ("rfc4733", "info"):
            raise ValueError(f"dtmf {self.dtmf!r}: expected rfc4733 or info")
        if self.session_expires is not None:
            _check("session_expires", check_session_expires, self.session_expires)
        if self.max_calls is not None:
            _check("max_calls", check_max_calls, self.max_calls)
        _check("ring_timeout", check_ring_timeout, self.ring_timeout)
        _check("queue", check_not_negative, self.queue)
        if self.on_parked not in ("close", "hold"):
            raise ValueError(f"on_parked {self.on_parked!r}: expected close or hold")
        if self.after_crash not in ("clean_up", "leave"):
            raise ValueError(f"after_crash {self.after_crash!r}: expected clean_up or leave")
        _check("start_timeout", check_start_timeout, self.start_timeout)

    def at(self, address: str) -> PhoneSpec:
        """The same phone on this address."""
        return msgspec.structs.replace(self, address=address)

    @property
    def call_limit(self) -> int | None:
        """Calls at the same time; above it 486. None: any number, the default without media."""
        if self.max_calls is None and self.media == "audio":
            return DEFAULT_CALL_LIMIT
        return self.max_calls

    @property
    def domain(self) -> str:
        """Right of the @ in the numbers that it dials: the registrar's or proxy's; "" has none."""
        if self.register is not None:
            return self.register.domain or split_advertise(self.register.server)[0]
        return split_advertise(self.proxy)[0] if self.proxy is not None else ""

    def without_secrets(self) -> PhoneSpec:
        """The same without its password, to be shown."""
        if self.register is None or not self.register.password:
            return self
        register = msgspec.structs.replace(self.register, password="")
        return msgspec.structs.replace(self, register=register)


class PortRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ports from `first` to `last`, both included."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 1 <= self.first <= _MAX_PORT or not 1 <= self.last <= _MAX_PORT:
            raise ValueError(f"expected ports from 1 to {_MAX_PORT}")
        if self.first > self.last:
            raise ValueError("upside down: the first port is above the last")

    @classmethod
    def parse(cls, text: str) -> PortRange:
        """The range written as `5060-7058`.

        Raises:
            ValueError: it is not written so, out of range, or upside down.
        """
        match = re.fullmatch(r"([0-9]{1,6})\s*-\s*([0-9]{1,6})", text.strip())
        if match is None:
            raise ValueError("expected FIRST-LAST, such as 5060-7058")
        return cls(int(match[1]), int(match[2]))

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __contains__(self, port: object) -> bool:
        return isinstance(port, int) and self.first <= port <= self.last

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


class HerdPorts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ranges that phones get their ports from."""

    sip: PortRange = PortRange(5060, 7058)
    rtp: PortRange = PortRange(20000, 29999)

    def __post_init__(self) -> None:
        _check("rtp", check_rtp_range, self.rtp)


class HerdSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A herd: what a herd file says, with templates and the environment filled in.

    Attributes:
        herd: its name; a second herd on the same box needs another one.
        ports: ranges for SIP and RTP.
        port_retries: how many ports in a row may be in use, and be skipped, for one phone.
        strict_ports: refuse to start instead of skipping a port that is in use.
        register_rate: REGISTER requests per second, of all phones together.
        listen: `tcp://HOST:PORT` for clients of other machines; port 0 is any free one.
        faults: whether clients may do phones harm on purpose.
        spawn_rate: restarts of phones that died, per second.
        failed_share: the herd is stopped once more than this share of its phones is parked
            because restarts did not help; 1 never stops it.
        logs: files that the log lines about phones go to as well; None has none.
        phones: in the order of the file.
    """

    herd: str = "default"
    ports: HerdPorts = HerdPorts()
    port_retries: int = 10
    strict_ports: bool = False
    register_rate: float = 50.0
    listen: str = ""
    faults: Literal["refused", "allowed"] = "refused"
    spawn_rate: float = 50.0
    failed_share: float = 0.5
    logs: LogSpec | None = None
    phones: tuple[PhoneSpec, ...] = ()

    def __post_init__(self) -> None:
        _check("herd", check_name, self.herd)
        _check("port_retries", check_not_negative, self.port_retries)
        _check("register_rate", check_rate, self.register_rate)
        _check("spawn_rate", check_rate, self.spawn_rate)
        _check("failed_share", check_share, self.failed_share)
        if self.listen:
            _check("listen", check_listen, self.listen)
        for conflict in conflicts(self.phones):
            raise ValueError(f"phones[{conflict.position}].{conflict.field}: {conflict.reason}")


class Conflict(NamedTuple):
    """One phone claims what an earlier one has."""

    position: int
    field: str
    reason: str


def conflicts(phones: Sequence[PhoneSpec]) -> Iterator[Conflict]:
    """All claims of `phones` to a name, number or fixed port that an earlier one has.

    Names and numbers share one space, because a phone is looked up by either.
    """
    owners: dict[str, tuple[str, str]] = {}
    bound: dict[int, dict[str, str]] = {}
    for index, phone in enumerate(phones):
        # A number taken from the name, or equal to it, is one claim.
        claims = {phone.number: "number"} | {phone.name: "name"}
        for wanted, field in claims.items():
            if wanted in owners:
                owner, owned_as = owners[wanted]
                yield Conflict(
                    index,
                    field,
                    f'{field} "{wanted}" of phone "{phone.name}" is already '
                    f'the {owned_as} of phone "{owner}"',
                )
            else:
                owners[wanted] = (phone.name, field)
        if not phone.port:  # None and 0 are no claim
            continue
        holders = bound.setdefault(phone.port, {})
        for address, holder in holders.items():
            if overlap(phone.address, address):
                yield Conflict(
                    index,
                    "port",
                    f'port {phone.port} of phone "{phone.name}" is already '
                    f'the port of phone "{holder}" on {address}',
                )
                break
        holders.setdefault(phone.address, phone.name)
