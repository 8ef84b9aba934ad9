"""A call as an SVG, and from its record alone."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from loadrun import attempt
from sipherd import ladder
from sipherd.ladder import Message, Party
from sipherd.load.ladder_svg import from_record, parties, svg

NAMESPACE = "{http://www.w3.org/2000/svg}"


def texts(document: str) -> list[str]:
    root = ET.fromstring(document)
    assert root.tag == f"{NAMESPACE}svg"
    return [text.text or "" for text in root.iter(f"{NAMESPACE}text")]


def told(sent: list[Message]) -> list[tuple[str, str, bool]]:
    return [(one.sender, one.label, one.arrived) for one in sent]


def test_a_record_as_messages() -> None:
    assert told(from_record(attempt())) == [
        ("alice", "INVITE", True),
        ("bob", "100 Trying", True),
        ("bob", "180 Ringing", True),
        ("bob", "200 OK (INVITE)", True),
        ("alice", "BYE", True),
        ("bob", "200 OK (BYE)", True),
    ]


def test_the_callee_hung_up_and_nobody_answered_its_bye() -> None:
    sent = from_record(attempt(ended_by="callee", bye_answered=None))
    assert told(sent)[-1] == ("bob", "BYE", False)


def test_an_invite_that_nobody_answered() -> None:
    lonely = attempt(responses=(), bye_sent=None, callee="", to_uri="sip:1@192.0.2.1")
    assert told(from_record(lonely)) == [("alice", "INVITE", False)]
    assert parties(lonely)[1].name == "sip:1@192.0.2.1"


def test_what_was_never_sent_has_no_message() -> None:
    assert from_record(attempt(started=None)) == []


def test_a_phone_that_calls_itself_has_two_sides() -> None:
    left, right = parties(attempt(callee="alice"))
    assert left.name != right.name


def test_the_svg_says_what_the_terminal_says() -> None:
    call = attempt()
    left, right = parties(call)
    document = svg(left, right, from_record(call))
    lines = ladder.draw(left, right, from_record(call), 80)
    terminal = "\n".join(line.plain for line in lines)
    for text in texts(document):
        assert text.replace(",", "") in terminal
    assert "5,498.0 ms" in texts(document)


def test_parties_are_described() -> None:
    left = Party("alice", "1001", 5060, 4711)
    found = texts(svg(left, Party("bob"), []))
    assert found == ["alice", "1001, port 5060, pid 4711", "bob"]


def test_the_terminal_leaves_out_what_is_not_known() -> None:
    plain = [line.plain.split() for line in ladder.draw(Party("alice"), Party("bob"), [], 60)]
    assert plain[0] == ["alice", "bob"]
    assert len(plain) == 3


@pytest.mark.parametrize("width", [48, 84])
def test_long_names_are_cut(width: int) -> None:
    far = Party("sip:" + "x" * 200)
    assert all(len(line.plain) <= width for line in ladder.draw(far, far, [], width))
    assert all(len(text) <= 34 for text in texts(svg(far, far, [])))


def test_a_message_that_never_arrived_has_no_tip() -> None:
    message = from_record(attempt())[0]
    arrived, lost = (
        svg(*parties(attempt()), [replace(message, arrived=arrived)]) for arrived in (True, False)
    )
    assert 'class="tip"' in arrived
    assert 'class="tip"' not in lost
    assert "which did not arrive" in lost


def test_text_of_peers_is_text() -> None:
    evil = "</text><script>alert(1)</script>\x1b\x00"
    message = replace(from_record(attempt())[1], first_line=f"SIP/2.0 486 {evil}")
    document = svg(Party(evil), Party(evil), [message], title=evil)
    assert ET.fromstring(document).findall(f".//{NAMESPACE}script") == []
    assert "\x1b" not in document
