"""A herd that is being drained: no call begins any more, and when the last one is over it stops.

A phone answers 503 from the moment it was told, and says so; before all have, a call may still be
on its way to be reported.
"""

from __future__ import annotations

from ..protocol.events import HerdDraining
from ..protocol.messages import (
    AddPhones,
    ClientMessage,
    PlaceCall,
    RefuseCalls,
    Reload,
    RestartPhones,
    StartPhones,
)
from ..protocol.states import PhoneState
from .life import Life
from .phones import Phone, PhoneTable
from .requests import Request
from .switchboard import Switchboard

__all__ = ["Draining"]

_FORBIDDEN = PlaceCall | AddPhones | StartPhones | RestartPhones | Reload


class Draining:
    """Part of the core.  False until it has begun; it can't be taken back."""

    def __init__(self, *, table: PhoneTable, life: Life, board: Switchboard) -> None:
        self._table = table
        self._life = life
        self._board = board
        self._has_begun = False
        self.requests: list[Request] = []
        """Who wants to be told of the herd's end."""

    def __bool__(self) -> bool:
        return self._has_begun

    def begin(self, why: str, request: Request | None = None) -> None:
        """Let no more calls begin."""
        if request is not None:
            self.requests.append(request)
        if self._has_begun:
            return
        self._has_begun = True
        self._life.events.emit(HerdDraining(why=why, calls=len(self._board.desk)), self._life.now)
        for phone in self._table:
            self.settled(phone)

    def settled(self, phone: Phone) -> None:
        """A phone has come up meanwhile: tell it, too."""
        if self._has_begun and phone.state is PhoneState.READY:
            self._life.send(phone, RefuseCalls())

    def forbids(self, body: ClientMessage) -> str:
        """Why a herd that is being drained does not do this; "" if it does."""
        if self._has_begun and isinstance(body, _FORBIDDEN):
            return "the herd is being drained: it ends with its last call"
        return ""

    def is_over(self) -> bool:
        """Whether the herd may stop."""
        return (
            self._has_begun
            and not len(self._board.desk)
            and all(
                # One that crashed and starts again may have calls to end.
                phone.state is not PhoneState.STARTING
                and (phone.refuses_calls or phone.state is not PhoneState.READY)
                for phone in self._table
            )
        )
