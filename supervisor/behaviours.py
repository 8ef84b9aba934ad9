"""Functions that phones run for a client: who may have one, when it starts, what its end means.

It starts once the phone is READY, so that all it asks for is possible.  When it raises, its process
asks first and leaves then: what was awaited may have ended only because the phone, or the herd, is
being stopped, and that is no failure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..protocol.behaviour import MAX_CODE, Behaviour
from ..protocol.events import BehaviourEnded, BehaviourFailed
from ..protocol.messages import Exit, StartBehaviour
from ..protocol.spec import PhoneSpec
from ..protocol.states import PhoneState
from .admission import AdmissionError
from .effects import Log
from .life import Life
from .phones import Phone

__all__ = ["Behaviours", "check"]


def check(behaviours: Mapping[str, Behaviour], specs: Sequence[PhoneSpec]) -> None:
    """Raises AdmissionError: a phone of these can't have what is meant for it."""
    for name in behaviours.keys() - {spec.name for spec in specs}:
        why = f'a behaviour for phone "{name}", which is not among those to be added'
        raise AdmissionError("bad_behaviour", why)
    for name, behaviour in behaviours.items():
        if len(behaviour.code) > MAX_CODE:
            raise AdmissionError(
                "bad_behaviour",
                f"phone {name}: a behaviour of {len(behaviour.code)} bytes, at most {MAX_CODE}",
            )


class Behaviours:
    """Part of the core.  ``is_draining()`` tells whether the herd lets no more calls begin."""

    def __init__(self, life: Life, is_draining: Callable[[], bool]) -> None:
        self._life = life
        self._is_draining = is_draining

    def settled(self, phone: Phone) -> None:
        """A phone that is READY begins with what it does besides."""
        if phone.behaviour is not None and phone.state is PhoneState.READY:
            self._life.send(phone, StartBehaviour())

    def judge(self, phone: Phone, body: BehaviourFailed) -> BehaviourFailed | BehaviourEnded:
        """What is to be told of it; if it is a failure the process ends."""
        leaving = phone.state is PhoneState.DRAINING
        if leaving or (self._is_draining() and phone.state is PhoneState.READY):
            return BehaviourEnded(name=body.name, why="stopped")
        phone.behaviour_failure = body
        fields = {
            "phone": phone.name,
            "incarnation": phone.incarnation,
            "pid": phone.pid,
            "behaviour": body.name,
            "error": body.error,
            "traceback": body.traceback,
        }
        self._life.effects.append(Log("error", "behaviour_failed", fields))
        self._life.send(phone, Exit(why="its behaviour failed"))
        return body
