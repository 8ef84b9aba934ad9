"""What a phone's process may use of the machine: its part of a herd file."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

__all__ = ["Limits", "megabytes"]

MEGABYTE = 1_000_000


def check_memory(size: int) -> None:
    # An idle phone has 3 MB, but the stacks of the threads that it may start count 16.
    if not 32 * MEGABYTE <= size <= 1_000_000 * MEGABYTE:
        raise ValueError("expected 32MB to 1000GB")


def check_descriptors(count: int) -> None:
    # An idle phone has about 25; a call with audio takes two, a TCP connection one.
    if not 64 <= count <= 1_000_000:
        raise ValueError("expected 64 to 1000000")


def check_cpus(cpus: Sequence[int]) -> None:
    if not cpus or len(set(cpus)) != len(cpus) or not all(0 <= cpu < 8192 for cpu in cpus):
        raise ValueError("expected one or more numbers of processors, from 0, each once")


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ceilings of one phone's process; None has none.

    Attributes:
        memory: bytes that it may allocate beside what it starts with.
        descriptors: open files, sockets and the like.
        cpus: processors that it may run on.
    """

    memory: int | None = None
    descriptors: int | None = None
    cpus: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for field, check in (
            ("memory", check_memory),
            ("descriptors", check_descriptors),
            ("cpus", check_cpus),
        ):
            value = getattr(self, field)
            if value is None:
                continue
            try:
                check(value)
            except ValueError as error:
                raise ValueError(f"{field} {value!r}: {error}") from None


def megabytes(size: int) -> str:
    """`500 MB`, of 1,000,000 bytes each."""
    return f"{size / MEGABYTE:g} MB"
