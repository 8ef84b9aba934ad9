"""An engine whose journal is kept, and held against every message that it sends.

What the journal says before a message leaves must be enough, should the process die right after.
Tests of anything else do not see it: what is to be remembered is taken out of the outputs.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any

from sipherd.worker.sip.engine import Engine
from sipherd.worker.sip.journal import CallRecord, Left, decode, record_key
from sipherd.worker.sip.message import Malformed, Message, parse
from sipherd.worker.stack import Output, Remember, Send

OUT_OF_DIALOG = ("REGISTER", "OPTIONS")


class JournaledEngine(Engine):
    """See above.  ``journal`` has the records as they are now, by key."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.journal: dict[str, CallRecord] = {}
        self.writes: list[tuple[str, Left | None]] = []
        """Every change of the journal."""
        self._seen: set[int] = set()
        self._invites: set[str] = set()

    def _take_outputs(self) -> list[Output]:
        seen: list[Output] = []
        for output in super()._take_outputs():
            if isinstance(output, Remember):
                record = keep(self.journal, output)
                self.writes.append((output.key, record.left if record is not None else None))
                continue
            if isinstance(output, Send) and hash(output.data) not in self._seen:
                self._seen.add(hash(output.data))
                with contextlib.suppress(Malformed):  # a reply to what can't be read
                    self._check(output.data, parse(output.data))
            seen.append(output)
        return seen

    def _check(self, data: bytes, message: Message) -> None:
        if message.is_request:
            self._check_request(data, message)
        elif message.cseq.method == "INVITE":
            self._check_response(data, message)

    def _check_request(self, data: bytes, message: Message) -> None:
        ours, theirs = message.from_.tag, message.to.tag
        record = self.journal.get(record_key(ours, theirs)) or self.journal.get(ours)
        if message.method == "INVITE":
            self._invites.add(message.via.branch)
        if self.calls.with_tag(message.call_id, ours) is None and record is None:
            assert message.method not in ("BYE", "CANCEL")
            return  # no call's
        if message.method == "INVITE" and not theirs:
            assert record is not None, "an INVITE that nobody knows of"
            assert record.invite == data
            assert record.left is Left.CALLING
        elif message.method == "CANCEL":
            assert record is not None
            assert record.left is Left.CANCELLING
            assert _parsed(record.invite).via.branch == message.via.branch
        elif message.method == "ACK":
            self._check_ack(data, message, record)
        elif theirs and message.method not in OUT_OF_DIALOG:
            assert record is not None, f"{message.method} in a dialog that nobody knows of"
            used = record.cseq
            if record.dialog is not None:
                used = max(used, record.dialog.local_cseq)
            assert message.cseq.number <= used
            if message.method == "BYE":
                assert record.left is Left.ENDING
                assert record.dialog is not None
                assert record.dialog.remote_tag == theirs
                assert record.dialog.local_cseq == message.cseq.number
            if message.method == "INVITE":
                assert record.reinvite == data

    def _check_ack(self, data: bytes, ack: Message, record: CallRecord | None) -> None:
        if ack.via.branch in self._invites:
            return  # to a 3xx-6xx
        assert record is not None, "an ACK in a dialog that nobody knows of"
        assert record.dialog is not None
        assert record.dialog.remote_tag == ack.to.tag
        if record.role == "caller" and _parsed(record.invite).cseq.number == ack.cseq.number:
            assert record.left in (Left.ANSWERED, Left.ENDING)
            assert record.ack == data

    def _check_response(self, data: bytes, response: Message) -> None:
        record = self.journal.get(response.to.tag)
        if record is None:
            assert response.code >= 300, "somebody is told of a call that nobody knows of"
            assert self.calls.with_tag(response.call_id, response.to.tag) is None
            return
        invite = _parsed(record.invite)
        if record.role == "caller" or invite.cseq.number != response.cseq.number:
            return  # to a re-INVITE
        wanted = Left.INVITED if response.code < 200 else Left.ACCEPTED
        assert record.left is (Left.REFUSED if response.code >= 300 else wanted)
        assert record.response == data
        assert invite.from_.tag == response.from_.tag


def keep(journal: dict[str, CallRecord], output: Remember) -> CallRecord | None:
    """Do what ``output`` asks for; returns the record."""
    if output.record is None:
        journal.pop(output.key, None)
        return None
    record = journal[output.key] = decode(output.record)
    return record


_parsed = functools.lru_cache(maxsize=64)(parse)
