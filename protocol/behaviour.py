"""A Python function that a phone's process runs beside the phone, as it travels there."""

from __future__ import annotations

import msgspec

__all__ = ["MAX_CODE", "Behaviour"]

MAX_CODE = 256 * 1024
"""Bytes of ``code``.  The supervisor keeps it for each phone that has one, as long as it has it."""


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """What a client of the same user on the same machine hands over; nobody else may."""

    name: str
    """Of the function, for people."""
    code: bytes
    """A pickle.  Loaded, with dill, it gives what is called without arguments in a thread."""

    def __repr__(self) -> str:
        return f"<Behaviour {self.name}, {len(self.code)} bytes>"
