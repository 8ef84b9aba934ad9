"""What outlives a phone's process: a record of each call, enough to end or resume it.

A record is written before the datagram leaves that makes it necessary, so what it says of has
perhaps not been sent.  It is kept until the far end can believe in no call and waits for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Literal, TypeAlias

import msgspec

from ..stack import Hop
from .dialog import Dialog

__all__ = [
    "CSEQ_GAP",
    "CallRecord",
    "DialogRecord",
    "Left",
    "UnreadableRecord",
    "decode",
    "encode",
    "lasting",
    "record_key",
]

CSEQ_GAP = 100
"""Numbers that are left out of a dialog's sequence after a crash.  Gaps are legal (§8.1.1.5); a
record that was written too late would otherwise give a number too low, which is answered 500."""

Role: TypeAlias = Literal["caller", "callee"]


class UnreadableRecord(Exception):
    """The bytes are no record of a call."""


class Left(Enum):
    """How a call was left, by caller (c) or callee (s), and what must be done about it."""

    INVITED = "invited"
    """s: INVITE received, nothing but 1xx sent.  Resume it, or refuse it and await the ACK."""
    REFUSED = "refused"
    """s: `CallRecord.response`, a 3xx-6xx, is sent.  Repeat it until its ACK."""
    ACCEPTED = "accepted"
    """s: `CallRecord.response`, a 2xx, is sent.  Repeat it until its ACK, then BYE."""
    CALLING = "calling"
    """c: INVITE sent, no response yet.  CANCEL after a 1xx; a 2xx: ACK, BYE."""
    PROCEEDING = "proceeding"
    """c: a 1xx came.  CANCEL; a 2xx that crosses: ACK, BYE."""
    CANCELLING = "cancelling"
    """c: CANCEL sent, no final response to the INVITE yet.  As PROCEEDING, the CANCEL again."""
    ANSWERED = "answered"
    """c: a 2xx came, and `CallRecord.ack` is perhaps not sent.  ACK, BYE."""
    CONFIRMED = "confirmed"
    """The call is up.  BYE."""
    ENDING = "ending"
    """Our BYE is sent, its final response not here.  BYE again; c: after `CallRecord.ack`."""


class DialogRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A dialog as `Dialog` has it."""

    call_id: str
    local: str
    local_tag: str
    remote: str
    remote_tag: str
    local_cseq: int
    """The highest number that a request of ours has used, of whatever method."""
    remote_cseq: int | None
    """May be lower than the peer's last: it is not written for its own sake."""
    target: str
    routes: tuple[str, ...]
    peer: Hop

    @classmethod
    def of(cls, dialog: Dialog) -> DialogRecord:
        """What ``dialog`` is now."""
        return cls(
            call_id=dialog.call_id,
            local=dialog.local,
            local_tag=dialog.local_tag,
            remote=dialog.remote,
            remote_tag=dialog.remote_tag,
            local_cseq=dialog.local_cseq,
            remote_cseq=dialog.remote_cseq,
            target=dialog.target,
            routes=dialog.routes,
            peer=lasting(dialog.peer),
        )

    def restore(self, *, gap: int) -> Dialog:
        """The dialog again; its next request has a CSeq ``gap`` + 1 above the last one noted."""
        return Dialog(
            call_id=self.call_id,
            local=self.local,
            local_tag=self.local_tag,
            remote=self.remote,
            remote_tag=self.remote_tag,
            local_cseq=self.local_cseq + gap,
            remote_cseq=self.remote_cseq,
            target=self.target,
            routes=self.routes,
            peer=self.peer,
        )


class CallRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One call: a dialog, or an INVITE that has made none yet.

    Credentials are nowhere in here but in `invite`, as they went over the wire: what challenges
    are answered with comes with the phone's specification.  Not to be logged.
    """

    call: str
    """Its key at the incarnation that had it."""
    role: Role
    left: Left
    began: float
    """When its INVITE was sent or received, on the monotonic clock of the box."""
    call_id: str
    local_tag: str
    dialog: DialogRecord | None
    """None at the caller until a 2xx has come."""
    early_tags: tuple[str, ...] = ()
    """Caller: the To tags of the 1xx so far."""
    cseq: int = 0
    """Caller: the highest number used in this call, PRACKs of early dialogs included."""
    invite: bytes
    """Caller: as it was sent last, its branch and credentials in it.  Callee: as received."""
    hop: Hop
    """Caller: where the INVITE went.  Callee: where its responses go."""
    source: Hop | None = None
    """Callee: where the INVITE came from."""
    response: bytes = b""
    """Callee: the last response to the INVITE; empty if there was none."""
    rseq: int = 0
    """Callee: RSeq of the last reliable 1xx; 0 if there was none (RFC 3262)."""
    ack: bytes = b""
    """Caller: the ACK to the 2xx, as it is sent."""
    ack_hop: Hop | None = None
    reinvite: bytes = b""
    """A re-INVITE of ours without final response, as it was sent."""
    reinvite_hop: Hop | None = None
    contact: str = ""
    """Value of our Contact header in this call."""
    rtp_port: int = 0
    """Of the pair that its audio is received on; 0 if there is none yet."""
    raw: bool = False
    """Text of the peer is no UTF-8: all is written as Latin-1, and turned back by `decode`."""


def record_key(local_tag: str, fork: str = "") -> str:
    """The key of a call's record, or of that of a ``fork`` of it with this To tag.

    Our tag is from the kernel's random numbers: no other incarnation has used it.  A call that
    forked has a record for each fork that was answered beside the first one.
    """
    return f"{local_tag}/{fork}" if fork else local_tag


def lasting(hop: Hop) -> Hop:
    """``hop`` for another process: the connections of this one die with it."""
    return hop._replace(connection=0) if hop.connection else hop


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(CallRecord)


def encode(record: CallRecord) -> bytes:
    """Bytes for the journal."""
    try:
        return _encoder.encode(record)
    except UnicodeEncodeError:  # a header of the peer's is no UTF-8: rare, and slower
        raw = msgspec.structs.replace(record, raw=True)
        builtins = msgspec.to_builtins(raw, builtin_types=(bytes,))
        return _encoder.encode(_with_texts(builtins, _to_latin_1))


def decode(data: bytes) -> CallRecord:
    """Raises UnreadableRecord."""
    try:
        record = _decoder.decode(data)
        if record.raw:
            builtins = msgspec.to_builtins(record, builtin_types=(bytes,))
            record = msgspec.convert(_with_texts(builtins, _from_latin_1), CallRecord)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise UnreadableRecord(str(error)) from None
    return record


def _with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """``value`` with every text in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list | tuple):
        return [_with_texts(item, change) for item in value]
    return value


def _to_latin_1(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def _from_latin_1(text: str) -> str:
    return text.encode("latin-1").decode("utf-8", "surrogateescape")
