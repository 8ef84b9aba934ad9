"""When a phone that makes no progress is given up: its part of a herd file.  All are seconds."""

from __future__ import annotations

import msgspec

__all__ = ["HangSpec"]

_DAY = 86400.0


def check_span(seconds: float) -> None:
    # Below this the scheduler of a busy box is what is measured.
    if not 0.2 <= seconds <= _DAY:
        raise ValueError("expected 0.2s to 24h")


def check_hung(seconds: float) -> None:
    if seconds != 0 and not 0.2 <= seconds <= _DAY:
        raise ValueError("expected 0.2s to 24h, or 0 to observe only")


class HangSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For how long a phone's progress may be overdue.

    An idle phone shows a sign of life every `late` seconds, a busy one all the time.

    Attributes:
        late: it is reported as late after this, and as in time again when it is.
        suspect: it is reported as suspect after this.
        hung: its process is ended after this; 0 never ends it.
    """

    late: float = 3.0
    suspect: float = 10.0
    hung: float = 30.0

    def __post_init__(self) -> None:
        for field, check in (("late", check_span), ("suspect", check_span), ("hung", check_hung)):
            try:
                check(getattr(self, field))
            except ValueError as error:
                raise ValueError(f"{field} {getattr(self, field)!r}: {error}") from None
        if self.suspect <= self.late:
            raise ValueError(f"suspect {self.suspect:g}: expected more than late, {self.late:g} s")
        if self.hung and self.hung <= self.suspect:
            raise ValueError(
                f"hung {self.hung:g}: expected more than suspect, {self.suspect:g} s, "
                "or 0 to observe only"
            )
