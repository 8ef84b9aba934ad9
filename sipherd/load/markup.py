"""HTML by construction: text is escaped unless it is markup already.

Names, reason phrases and URIs come from peers; none of them can become an element, an attribute
or a character that turns the line around.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

from ..protocol.text import printable

__all__ = ["NOTHING", "Markup", "element", "joined", "safe"]

#: Elements without content, which have no end tag.
_VOID = frozenset({"br", "col", "hr", "meta"})


class Markup(str):
    """Text that may stand in a page as it is."""

    __slots__ = ()


NOTHING = Markup("")


def safe(content: object) -> Markup:
    """Markup as it is, anything else as text: escaped, control characters made visible."""
    if isinstance(content, Markup):
        return content
    # html.escape leaves nothing that is special in an element or a quoted attribute.
    return Markup(html.escape(printable(str(content))))


def joined(parts: Iterable[object]) -> Markup:
    """One after the other."""
    return Markup("".join(map(safe, parts)))


def element(name: str, /, *content: object, **attributes: object) -> Markup:
    """An element, with `class_` for ``class`` and `aria_label` for ``aria-label``.

    An attribute that is None or False is left out; one that is True has no value.
    """
    tag = name
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        tag += f" {key.rstrip('_').replace('_', '-')}"
        if value is not True:
            tag += f'="{safe(value)}"'
    if name in _VOID:
        return Markup(f"<{tag}>")
    return Markup(f"<{tag}>{joined(content)}</{name}>")
