"""What a herd file that was read again changes: a comparison, without effects.

Phones are compared by name, with what was asked for before (``Phone.asked``), not with what became
of it: an address that was looked up, or a port that was given out, is no change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..protocol.spec import HerdSpec, PhoneSpec, conflicts

__all__ = ["Changes", "ReloadRefused", "compare", "keeps_port"]

ON_THE_FLY = frozenset(
    {
        *("ports", "port_retries", "strict_ports", "register_rate"),
        *("faults", "spawn_rate", "failed_share"),
    }
)
"""Fields of the herd that take effect in a herd that is up; the others need a new one."""


class ReloadRefused(Exception):
    """The file can't be what the herd is; nothing was changed.  ``reason`` is one word."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be done so that the herd is as its file says."""

    added: tuple[PhoneSpec, ...]
    removed: tuple[str, ...]
    changed: tuple[PhoneSpec, ...]
    """As they are to be."""
    unchanged: tuple[str, ...]
    """Phones of the file that stay as they are."""
    herd: tuple[str, ...]
    """Fields of the herd itself that are others now."""


def compare(old: HerdSpec, new: HerdSpec, present: Mapping[str, PhoneSpec]) -> Changes:
    """From what the file said to what it says.

    ``present`` is what was asked of each phone that there is: one that the file never had was
    added by hand and stays, unless the file has it now; one that is gone is added again.

    Raises:
        ReloadRefused: a field of the herd can't change while it is up, or two phones of the herd
            would claim the same.
    """
    differing = [
        field
        for field in HerdSpec.__struct_fields__
        if field != "phones" and getattr(old, field) != getattr(new, field)
    ]
    if fixed := [field for field in differing if field not in ON_THE_FLY]:
        raise ReloadRefused(
            "needs_new_herd",
            f"{', '.join(fixed)} can't change while the herd is up; stop it and start it again",
        )
    wanted = {phone.name: phone for phone in new.phones}
    changes = Changes(
        added=tuple(phone for name, phone in wanted.items() if name not in present),
        removed=tuple(
            phone.name for phone in old.phones if phone.name in present and phone.name not in wanted
        ),
        changed=tuple(phone for name, phone in wanted.items() if present.get(name, phone) != phone),
        unchanged=tuple(name for name, phone in wanted.items() if present.get(name) == phone),
        herd=tuple(differing),
    )
    by_hand = [
        phone
        for name, phone in present.items()
        if name not in wanted and name not in changes.removed
    ]
    _check_claims([*by_hand, *new.phones])
    return changes


def _check_claims(phones: Iterable[PhoneSpec]) -> None:
    for conflict in conflicts(list(phones)):
        raise ReloadRefused("duplicate_name", conflict.reason)


def keeps_port(asked: int | None, port: int, wanted: int | None) -> bool:
    """Whether a phone that asked for one port, and has ``port``, can go on with it."""
    return wanted == asked or (wanted == port and port != 0)
