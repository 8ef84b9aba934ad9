"""Keys pressed as SIP INFO: one request for each, the next when the one before is answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..protocol.events import DtmfSent
from .stack import CommandEnded, Output, Stack, StackRefusal

__all__ = ["InfoKeys"]

_KEYS = frozenset("0123456789*#ABCD")
_TYPE = "application/dtmf-relay"
_DURATION_MS = 160


@dataclass(slots=True)
class _Pressed:
    """One SendDtmf command."""

    call: str
    digits: str
    sent: int = 0


class InfoKeys:
    """The SendDtmf commands of a phone with ``dtmf: info``."""

    def __init__(self, stack: Stack, report: Callable[[DtmfSent], None]) -> None:
        self._stack = stack
        self._report = report
        self._pressed: dict[int, _Pressed] = {}

    def press(self, command: int, call: str, digits: str, now: float) -> list[Output]:
        """Begin to send ``digits``; their end is told by `ended`.  Raises StackRefusal."""
        digits = digits.upper()
        if not digits or not _KEYS.issuperset(digits):
            raise StackRefusal("bad_digits", f"{digits!r}: expected some of 0-9 * # A-D")
        if any(pressed.call == call for pressed in self._pressed.values()):
            raise StackRefusal("dtmf_pending", f"keys are being sent in call {call} already")
        outputs = self._send(command, call, digits[0], now)
        self._pressed[command] = _Pressed(call, digits)
        return outputs

    def ended(self, end: CommandEnded, now: float) -> tuple[bool, list[Output]]:
        """One INFO has come to its end: whether the command has, and what to send now."""
        pressed = self._pressed.get(end.command)
        if pressed is None:
            return True, []
        if end.refusal is None:
            pressed.sent += 1
            if pressed.sent < len(pressed.digits):
                try:
                    key = pressed.digits[pressed.sent]
                    return False, self._send(end.command, pressed.call, key, now)
                except StackRefusal as refusal:
                    return False, [CommandEnded(end.command, refusal)]
            self._report(DtmfSent(call=pressed.call, digits=pressed.digits, method="info"))
        del self._pressed[end.command]
        return True, []

    def _send(self, command: int, call: str, key: str, now: float) -> list[Output]:
        content = f"Signal={key}\r\nDuration={_DURATION_MS}\r\n".encode()
        return self._stack.send_info(call, command, _TYPE, content, now)
