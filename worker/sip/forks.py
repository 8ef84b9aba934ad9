"""Forks of an INVITE of ours: early dialogs, and answers that are not the call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from . import sdp
from .asks import Bye
from .dialog import Dialog
from .journal import CallRecord, DialogRecord, record_key
from .reliable import Pracks

if TYPE_CHECKING:
    from .leg import Registry

__all__ = ["Early", "LateAnswer"]


class Early:
    """One early dialog: a fork of the INVITE that has sent a 1xx."""

    def __init__(self, dialog: Dialog, prack: Callable[[Dialog, str], None]) -> None:
        self.dialog = dialog
        self.answer: sdp.Description | None = None
        """What it has described in a 1xx."""
        self.agreed = False
        """In a reliable one: that is the answer to our offer (RFC 3262 §5)."""
        self.pracks = Pracks(lambda rack: prack(dialog, rack))


class LateAnswer:
    """A 2xx of another fork, or one that came after we had given up: ended with BYE (§13.2.2.4).

    Until that is answered it has a record of its own.
    """

    __slots__ = ("_dialog", "_record", "_registry", "record_key")

    def __init__(self, registry: Registry, dialog: Dialog, record: CallRecord) -> None:
        """``record``, but for its dialog, is what is to be known of it."""
        self.record_key = record_key(dialog.local_tag, dialog.remote_tag)
        self._registry = registry
        self._dialog = dialog
        self._record: CallRecord | None = record
        dialog.changed = self._touch
        bye = dialog.request(registry.ctx, "BYE")
        registry.requests.send_within(dialog, bye, Bye(self._on_end))

    def record(self, *, answered_now: bool) -> CallRecord | None:
        """See `memory.Remembered`."""
        if self._record is None:
            return None
        return replace(self._record, dialog=DialogRecord.of(self._dialog))

    def _touch(self) -> None:
        self._registry.ctx.touch(self)

    def _on_end(self, answered: bool) -> None:
        self._record = None
        self._touch()
