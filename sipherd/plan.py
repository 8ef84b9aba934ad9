"""What a herd file would start, as far as that can be told without starting it."""

from __future__ import annotations

from typing import Any

import msgspec

from . import render
from .protocol.spec import HerdSpec, OnIncoming, PhoneSpec

__all__ = ["as_plain", "as_text", "ports", "shortages"]

_STEP = 2


def ports(spec: HerdSpec) -> list[int | None]:
    """The SIP port of each phone if none is in use; 0 for any free one, None where none is left.

    Fixed ports are reserved first, the others are the lowest of the range in steps of 2.
    """
    fixed = {phone.port for phone in spec.phones if phone.port}
    of_range = spec.ports.sip
    free = (port for port in range(of_range.first, of_range.last + 1, _STEP) if port not in fixed)
    return [next(free, None) if phone.port is None else phone.port for phone in spec.phones]


def shortages(spec: HerdSpec) -> list[str]:
    """What the ranges are too small for, a line each."""
    found = []
    missing = ports(spec).count(None)
    if missing:
        wanted = sum(phone.port is None for phone in spec.phones)
        sip = spec.ports.sip
        found.append(
            f"$.ports.sip: {wanted} phones need a SIP port each, in steps of {_STEP}, "
            f"the range {sip} has {wanted - missing}; expected a wider one"
        )
    rtp = spec.ports.rtp
    leasing = [phone for phone in spec.phones if phone.port != 0]
    needed = 2 * sum(map(_rtp_pairs, leasing))
    if needed > len(rtp):
        found.append(
            f"$.ports.rtp: {len(leasing)} phones need {needed} RTP ports, the range {rtp} has "
            f"{len(rtp)}; expected a wider one, or fewer max_calls"
        )
    return found


def _rtp_pairs(phone: PhoneSpec) -> int:
    """One pair a call; without media one for all."""
    return 1 if phone.media == "none" else phone.call_limit or 1


def as_plain(spec: HerdSpec) -> dict[str, Any]:
    """The herd as plain values, with the planned port of each phone."""
    plain: dict[str, Any] = msgspec.to_builtins(spec)
    plain["ports"] = {"sip": str(spec.ports.sip), "rtp": str(spec.ports.rtp)}
    for phone, port in zip(plain["phones"], ports(spec), strict=True):
        phone["port"] = port
    return plain


def as_text(spec: HerdSpec) -> str:
    """The herd and its phones as a table."""
    rows = [
        (
            phone.name,
            phone.number,
            phone.address or "by route",
            port or "any free",
            _by_itself(phone.on_incoming),
        )
        for phone, port in zip(spec.phones, ports(spec), strict=True)
    ]
    heads = ("NAME", "NUMBER", "ADDRESS", "PORT", "AN INCOMING CALL")
    count = f"{len(rows)} phone{'' if len(rows) == 1 else 's'}"
    return (
        f"herd {spec.herd}: {count}, SIP ports {spec.ports.sip}, RTP ports {spec.ports.rtp}\n"
        + render.table(heads, rows, right=["PORT"])
    )


def _by_itself(on_incoming: OnIncoming | None) -> str:
    if on_incoming is None:
        return "waits for a client"
    if on_incoming.reject is not None:
        return f"is rejected with {on_incoming.reject}"
    if on_incoming.answer_after is None:
        return "rings"
    seconds, up = on_incoming.answer_after, on_incoming.hang_up_after
    when = f"after {render.duration(seconds)}" if seconds else "at once"
    return f"is answered {when}" + ("" if up is None else f", hung up after {render.duration(up)}")
