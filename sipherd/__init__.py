"""A herd of SIP phones on one headless Linux box.

from sipherd import Herd

with Herd(phones=2) as herd:
    alice, bob = herd
    call = alice.call(bob)
    bob.incoming(timeout=2).answer()
    call.wait_answered(timeout=2)
    call.hang_up()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .calls import Call, EventStream, IncomingCall
    from .herd import Herd, Phone
    from .protocol.errors import (
        BehaviourError,
        CallFailed,
        CallNotFound,
        CommandRefused,
        ConnectionLost,
        EventsMissed,
        HerdClosed,
        HerdFileError,
        HerdNotRunning,
        HerdNotStarted,
        KeyRefused,
        KeysError,
        PhoneNotFound,
        ProtocolError,
        RuntimeDirectoryError,
        SipherdError,
        SupervisorDied,
        TimedOut,
    )
    from .protocol.events import Event
    from .protocol.messages import (
        CallInfo,
        CancelReport,
        HerdInfo,
        PhoneInfo,
        StopReport,
    )
    from .protocol.spec import HerdPorts, OnIncoming, PhoneSpec, PortRange
    from .protocol.states import CallState, PhoneState

__all__ = [
    "BehaviourError",
    "Call",
    "CallFailed",
    "CallInfo",
    "CallNotFound",
    "CallState",
    "CancelReport",
    "CommandRefused",
    "ConnectionLost",
    "Event",
    "EventStream",
    "EventsMissed",
    "Herd",
    "HerdClosed",
    "HerdFileError",
    "HerdInfo",
    "HerdNotRunning",
    "HerdNotStarted",
    "HerdPorts",
    "IncomingCall",
    "KeyRefused",
    "KeysError",
    "OnIncoming",
    "Phone",
    "PhoneInfo",
    "PhoneNotFound",
    "PhoneSpec",
    "PhoneState",
    "PortRange",
    "ProtocolError",
    "RuntimeDirectoryError",
    "SipherdError",
    "StopReport",
    "SupervisorDied",
    "TimedOut",
]

#: Where the public names live.  They are imported when they are first used: the phones' processes
#: and `sipherd --version` need none of them.
_HOMES = {
    ".calls": ("Call", "EventStream", "IncomingCall"),
    ".herd": ("Herd", "Phone"),
    ".protocol.events": ("Event",),
    ".protocol.messages": ("CallInfo", "CancelReport", "HerdInfo", "PhoneInfo", "StopReport"),
    ".protocol.spec": ("HerdPorts", "OnIncoming", "PhoneSpec", "PortRange"),
    ".protocol.states": ("CallState", "PhoneState"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # All that is not listed is an error.
    value = getattr(import_module(_HOME_OF.get(name, ".protocol.errors"), __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
