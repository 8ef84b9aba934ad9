"""The messages of one call of ours, kept while it lasts for whoever asked (PlaceCall.messages)."""

from __future__ import annotations

from collections import deque

from ...protocol.events import SipMessage
from .message import Malformed, Message, readable

__all__ = ["FIRST", "LAST", "Transcript", "Transcripts"]

FIRST = 100
LAST = 20
"""Messages of one call that are kept: the first so many, and of those after them the last."""
_RECENT = 64
"""Messages in which the original of a copy is looked for."""
_LONGEST = 32
"""Characters of a method: the peer may make one up."""


class Transcript:
    """What one leg has sent and received: bounded, whatever the peer sends."""

    __slots__ = ("_first", "_last", "_recent", "call_id", "local_tag")

    def __init__(self, call_id: str, local_tag: str) -> None:
        self.call_id = call_id
        self.local_tag = local_tag
        """Our tag: a leg of another phone, or of this one, may have the same Call-ID."""
        self._first: list[SipMessage] = []
        self._last: deque[SipMessage] | None = None
        self._recent: dict[int, None] = {}
        """Hashes of what identifies a message, oldest first."""

    @property
    def messages(self) -> tuple[SipMessage, ...]:
        """In the order in which they left or were read."""
        return (*self._first, *(self._last or ()))

    def add(self, t: float, sent: bool, method: str, code: int, identity: int) -> None:
        """One more; a copy has the ``identity`` of its original."""
        recent = self._recent
        again = identity in recent
        if not again:
            if len(recent) == _RECENT:
                del recent[next(iter(recent))]
            recent[identity] = None
        message = SipMessage(t, sent, method, code, again)
        if len(self._first) < FIRST:
            self._first.append(message)
            return
        if self._last is None:
            self._last = deque(maxlen=LAST)
        self._last.append(message)


class Transcripts:
    """Those of one user agent, by Call-ID; false while there is none, which costs nothing."""

    def __init__(self) -> None:
        self._kept: dict[str, Transcript] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, call_id: str, local_tag: str) -> Transcript:
        """Keep the messages of this call of ours, until `drop`."""
        made = self._kept[call_id] = Transcript(call_id, local_tag)
        return made

    def drop(self, transcript: Transcript) -> None:
        """The call is over."""
        self._kept.pop(transcript.call_id, None)

    def sent(self, data: bytes, now: float) -> None:
        """A message of ours leaves: as we have written it, so its headers are where we look."""
        transcript = self._kept.get(_header(data, b"\r\nCall-ID: "))
        if transcript is None:
            return
        code = int(data[8:11]) if data.startswith(b"SIP/2.0 ") else 0
        ours = _header(data, b"\r\nTo: " if code else b"\r\nFrom: ")
        if transcript.local_tag not in ours:
            return
        method = _header(data, b"\r\nCSeq: ").rpartition(" ")[2]
        # A copy of ours is the same datagram.
        transcript.add(now, True, method[:_LONGEST], code, hash(data))

    def received(self, message: Message, now: float) -> None:
        """A message came that can be parsed, if not in all that it says."""
        transcript = self._kept.get(message.call_id)
        if transcript is None:
            return
        try:
            tag = message.to.tag
            if (tag if message.is_request else message.from_.tag) != transcript.local_tag:
                return
            cseq, branch = message.cseq, message.via.branch
        except Malformed:
            return  # it is refused, and that is told
        # On its way a copy may have been changed.  One provisional response after another may
        # differ in no more than its description, or its number (RFC 3262 section 3).
        more = message.headers.get("RSeq"), message.content
        identity = hash((message.code, cseq, branch, tag, more))
        method = readable(cseq.method)[:_LONGEST]
        transcript.add(now, False, method, message.code, identity)


def _header(data: bytes, name: bytes) -> str:
    """The value of a header; empty if it is not there."""
    begin = data.find(name)
    if begin < 0:
        return ""
    begin += len(name)
    return data[begin : data.find(b"\r\n", begin)].decode("utf-8", "surrogateescape")
