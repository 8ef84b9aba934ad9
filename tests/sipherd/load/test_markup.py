"""Text never becomes markup by itself."""

from __future__ import annotations

from sipherd.load.markup import NOTHING, element, joined, safe


def test_text_is_escaped() -> None:
    assert element("p", "<script>\"&'") == "<p>&lt;script&gt;&quot;&amp;&#x27;</p>"


def test_markup_is_not_escaped_again() -> None:
    assert element("p", element("b", "a & b")) == "<p><b>a &amp; b</b></p>"


def test_attributes_are_escaped_too() -> None:
    assert element("i", title='" onload="x') == '<i title="&quot; onload=&quot;x"></i>'


def test_names_of_attributes() -> None:
    found = element("td", class_="n", aria_label="x", hidden=True, title=None, lang=False)
    assert found == '<td class="n" aria-label="x" hidden></td>'


def test_void_elements_have_no_end() -> None:
    assert element("br") == "<br>"


def test_control_characters_and_turned_text_are_shown() -> None:
    assert safe("a\x1b[2J\u202eb\x00") == r"a\x1b[2J\u202eb\x00"


def test_joined() -> None:
    assert joined(["<", NOTHING, element("b")]) == "&lt;<b></b>"
