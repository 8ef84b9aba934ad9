"""What waited in a phone's socket while it had no process: put in order before any of it is served.

Who sends a request repeats it, and may have given up meanwhile.  So the datagrams are grouped by
transaction first, and what is left is served in this order:

    1. CANCEL, BYE, ACK, PRACK and responses: they belong to calls of the process before, if to any;
    2. an INVITE and its CANCEL: nobody is called any more;
    3. all other requests, in the order in which they first came.

No clock in here: every datagram comes with its age.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from ..stack import Aged
from .message import Malformed, Message, parse
from .transactions import Transactions

__all__ = ["MAX_AGE", "Backlog", "is_live", "put_in_order"]

MAX_AGE = 32.0
"""Seconds after which nobody waits for an answer: 64*T1, and proxies give up after about 30."""
_FRESH = 4.0
"""Seconds: T2, and longer than two of the first gaps between copies of an INVITE."""

_FIRST = ("CANCEL", "BYE", "ACK", "PRACK")
_Key: TypeAlias = tuple[object, ...]


@dataclass(slots=True)
class Backlog:
    """The datagrams of one batch, one of each group of copies."""

    first: list[Aged] = field(default_factory=list)
    """Responses, ACK, PRACK, BYE, and the CANCELs whose INVITE is not in the batch."""
    cancelled: list[tuple[Aged, Aged]] = field(default_factory=list)
    """Each INVITE that was cancelled meanwhile, and its CANCEL."""
    others: list[Aged] = field(default_factory=list)
    """All else that is worth being served; what is no SIP at all is among it."""
    counts: Counter[str] = field(default_factory=Counter)
    """``backlog_copies``, ``stale_invite`` and ``stale_request``: what is left out."""


@dataclass(slots=True)
class _Group:
    """Copies of one message."""

    message: Message | None
    """None if it can't be read."""
    newest: Aged
    oldest: float
    """Age of the copy that came first."""

    @property
    def method(self) -> str:
        """Empty for a response, and for what can't be read."""
        return self.message.method if self.message is not None else ""

    @property
    def is_new_invite(self) -> bool:
        """It would ring.  A re-INVITE does not."""
        message = self.message
        if message is None or message.method != "INVITE":
            return False
        try:
            return not message.to.tag
        except Malformed:
            return False  # it will be refused for that


def put_in_order(waiting: Iterable[Aged], t1: float) -> Backlog:
    """Sort a batch of datagrams, given in the order in which they came."""
    backlog = Backlog()
    groups: dict[_Key, _Group] = {}
    for datagram in waiting:
        key, message = _read(datagram)
        known = groups.get(key)
        if known is None:
            groups[key] = _Group(message, datagram, datagram.age)
        else:
            # The newest copy says best where the sender can be reached now.
            known.newest = datagram
            backlog.counts["backlog_copies"] += 1
    cancels = {
        invite: key
        for key, group in groups.items()
        if (invite := _cancelled_by(group)) is not None and invite in groups
    }
    for invite, cancel in cancels.items():
        backlog.cancelled.append((groups.pop(invite).newest, groups.pop(cancel).newest))
    for group in groups.values():
        _place(group, backlog, t1)
    return backlog


def is_live(oldest: float, newest: float, t1: float) -> bool:
    """Whether somebody still waits for an answer to an INVITE, by the ages of its copies.

    The gaps between copies double (Timer A): once two more of them should have come and did not,
    its sender has given up.
    """
    return oldest < MAX_AGE and newest < max(_FRESH, 2 * (oldest - newest + t1))


def _place(group: _Group, backlog: Backlog, t1: float) -> None:
    if group.method in _FIRST or (group.message is not None and not group.message.is_request):
        backlog.first.append(group.newest)
    elif group.is_new_invite and not is_live(group.oldest, group.newest.age, t1):
        backlog.counts["stale_invite"] += 1
    elif group.newest.age >= MAX_AGE:
        backlog.counts["stale_request"] += 1
    else:
        backlog.others.append(group.newest)


def _read(datagram: Aged) -> tuple[_Key, Message | None]:
    """What makes two datagrams copies of one message; and the message."""
    bytewise = (datagram.data, datagram.source)
    try:
        message = parse(datagram.data)
        if message.is_request:
            return Transactions.server_key(message), message
    except Malformed:
        return bytewise, None
    return bytewise, message


def _cancelled_by(group: _Group) -> _Key | None:
    """The key of the INVITE that a CANCEL is for."""
    if group.message is None or group.method != "CANCEL":
        return None
    return Transactions.server_key(group.message, "INVITE")
