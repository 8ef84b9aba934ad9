"""Harm to a phone on purpose: what a lab does to see what its PBX, and the herd, make of it."""

from __future__ import annotations

import signal
from collections.abc import Callable

from ..protocol.events import FaultInjected
from ..protocol.messages import InjectFault
from ..protocol.spec import HerdSpec
from ..protocol.states import PhoneState
from .events import EventStream
from .life import Life
from .phones import Phone, PhoneTable
from .requests import Request, Requests

__all__ = ["Faults"]

_WHY = "SIGKILL by sipherd fault"
_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


class Faults:
    """Carries out ``InjectFault``; part of the core, so without process or clock."""

    def __init__(
        self,
        spec: Callable[[], HerdSpec],
        *,
        table: PhoneTable,
        life: Life,
        requests: Requests,
        events: EventStream,
    ) -> None:
        self._spec = spec
        self._table = table
        self._life = life
        self._requests = requests
        self._events = events

    def inject(self, request: Request, body: InjectFault) -> None:
        """Do a phone harm.  Raises PhoneNotFound."""
        phone = self._table.find(body.phone)
        refusal = self._refusal(phone, body)
        if refusal is not None:
            self._requests.refuse(request, *refusal)
            return
        event = FaultInjected(fault=body.fault, code=body.code if body.fault == "exit" else None)
        self._events.emit(
            event, self._life.now, phone=phone.name, incarnation=phone.incarnation, pid=phone.pid
        )
        if body.fault in _SIGNALS:
            self._life.kill(phone, _SIGNALS[body.fault], _WHY)
        else:
            if body.fault == "vanish":
                phone.signals[signal.SIGKILL] = _WHY
            self._life.send(phone, body)
        self._requests.done(request)

    def _refusal(self, phone: Phone, body: InjectFault) -> tuple[str, str] | None:
        """Reason and words, or None."""
        spec = self._spec()
        if spec.faults != "allowed":
            why = f"herd {spec.herd} does not take faults: put `faults: allowed` in its file"
            return "faults_not_allowed", why
        if not 0 <= body.code <= 255:
            return "bad_exit_code", f"exit code {body.code}: expected 0 to 255"
        if phone.state is not PhoneState.READY:
            return "phone_not_ready", phone.why_not_ready()
        if body.fault == "drop_registration" and phone.spec.register is None:
            return "no_registrar", phone.why_no_registrar()
        return None
