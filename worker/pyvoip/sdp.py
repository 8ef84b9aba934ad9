"""pyVoIP's SDP line parser, fed so that it gets things right.

pyVoIP keeps one flat dictionary per message: connection lines and the direction of all media end
up in the same place, and a line it does not know ends the whole message.  So each section of a
description (the session, then each ``m=``) gets a parser of its own, line by line, and a line it
cannot read costs that line alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ._names import SIPMessage

__all__ = ["Section", "parse_sections"]


class _SectionParser(SIPMessage):
    """A ``SIPMessage`` reduced to what ``parse_body`` needs: the body it fills, and its type."""

    def __init__(self) -> None:
        self.headers: dict[str, Any] = {"Content-Type": "application/sdp"}
        self.body: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Section:
    """One section of a session description, the session itself or one media."""

    first: str
    """Value of its first line: of ``v=`` for the session, of ``m=`` for a media."""
    body: dict[str, Any]
    """pyVoIP's reading of its lines, keyed by letter; ``m`` is missing where it could not."""


def parse_sections(content: bytes) -> list[Section]:
    """Split a session description into sections, the session first.  Never raises."""
    sections: list[Section] = []
    parser = _SectionParser()
    for line in content.decode("utf-8", "surrogateescape").splitlines():
        letter, equals, value = line.partition("=")
        if not equals or len(letter) != 1:
            continue
        if letter == "m" or not sections:
            parser = _SectionParser()
            sections.append(Section(value, parser.body))
        try:
            parser.parse_body(letter, value)
        except (ValueError, LookupError, UnboundLocalError, AttributeError):
            # What pyVoIP raises for a short line, an unknown m= protocol, or an rtpmap for a
            # format that no m= names.
            continue
    return sections
