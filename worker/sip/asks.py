"""Requests of ours within a dialog, but INVITE: who waits for their final response."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from ..stack import Hop
from .message import Message

if TYPE_CHECKING:
    from .authentication import Attempt

__all__ = ["Ask", "Bye", "OnFinal"]

OnFinal: TypeAlias = Callable[[int, Message | None], None]
"""Gets the code of a final response, and the response if there was one."""


class Bye:
    """The user of a BYE's transaction: reports whether a final response came."""

    def __init__(self, on_end: Callable[[bool], None]) -> None:
        self._on_end = on_end

    def on_response(self, response: Message, source: Hop) -> None:
        # Whatever the code, the dialog is over: 481 and 408 say so themselves (§12.2.1.2), and
        # no other answer to a BYE brings it back (§15.1.1).
        if response.code >= 200:
            self._on_end(True)

    def on_timeout(self) -> None:
        self._on_end(False)

    def on_unreachable(self) -> None:
        self._on_end(False)


class Ask:
    """The user of any other request: tells the final response, or what stands for it.

    That is 408 where nobody answered and 503 where nobody can (§8.1.3.1).
    """

    def __init__(self, on_final: Callable[[Ask, int, Message | None], None]) -> None:
        self.sent: Attempt | None = None
        self._on_final = on_final

    def abandon(self) -> None:
        """Nobody waits any more."""
        if self.sent is not None:
            self.sent.abandon()

    def on_response(self, response: Message, source: Hop) -> None:
        if response.code >= 200:
            self._end(response.code, response)

    def on_timeout(self) -> None:
        self._end(408, None)

    def on_unreachable(self) -> None:
        self._end(503, None)

    def _end(self, code: int, response: Message | None) -> None:
        self.sent = None  # it refers back to us
        self._on_final(self, code, response)
