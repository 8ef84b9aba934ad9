"""Log files of phones: their part of a herd file."""

from __future__ import annotations

import msgspec

__all__ = ["LogSpec"]


def check_dir(path: str) -> None:
    if not path or "\0" in path:
        raise ValueError("expected the path of a directory")


def check_max_size(size: int) -> None:
    if not 4096 <= size <= 10**12:
        raise ValueError("expected at least 4096 bytes and at most 1000GB")


def check_keep(files: int) -> None:
    if not 0 <= files <= 100:
        raise ValueError("expected 0 to 100 files")


class LogSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A log file for each phone, `NAME.log`.

    Attributes:
        dir: where they are; made if it is not there.
        max_size: bytes after which a file becomes `NAME.log.1`, and that `NAME.log.2` ….
        keep: how many of those there are at the most.
    """

    dir: str
    max_size: int = 10_000_000
    keep: int = 3

    def __post_init__(self) -> None:
        checks = (("dir", check_dir), ("max_size", check_max_size), ("keep", check_keep))
        for field, check in checks:
            value = getattr(self, field)
            try:
                check(value)
            except ValueError as error:
                raise ValueError(f"{field} {value!r}: {error}") from None
