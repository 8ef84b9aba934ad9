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


#: A challenge, a copy each way, and a re-INVITE that crossed the BYE which nobody answered.
MESSAGES = (
    (0.0, True, "INVITE", 0, False),
    (0.01, False, "INVITE", 407, False),
    (0.01, True, "ACK", 0, False),
    (0.01, True, "INVITE", 0, False),
    (0.51, True, "INVITE", 0, True),
    (0.6, False, "INVITE", 200, False),
    (0.6, True, "ACK", 0, False),
    (2.0, False, "INVITE", 0, False),
    (2.0, True, "INVITE", 200, False),
    (2.0, True, "BYE", 0, False),
    (2.5, False, "INVITE", 0, True),
    (2.5, True, "INVITE", 200, True),
)


def test_a_record_with_its_messages() -> None:
    sent = from_record(attempt(messages=MESSAGES))
    assert told(sent) == [
        ("alice", "INVITE", True),
        ("bob", "407 Proxy Authentication Required (INVITE)", True),
        ("alice", "ACK", True),
        ("alice", "INVITE", True),
        ("alice", "INVITE, again", True),
        ("bob", "200 OK (INVITE)", True),
        ("alice", "ACK", True),
        ("bob", "INVITE", True),
        ("alice", "200 OK (INVITE)", True),
        ("alice", "BYE", False),
        ("bob", "INVITE, again", True),
        ("alice", "200 OK (INVITE), again", True),
    ]
    assert [one.t - sent[0].t for one in sent] == pytest.approx([one[0] for one in MESSAGES])


def test_an_invite_and_its_copies_that_nobody_answered() -> None:
    lost = ((0.0, True, "INVITE", 0, False), (0.5, True, "INVITE", 0, True))
    sent = from_record(attempt(messages=lost))
    assert told(sent) == [("alice", "INVITE", False), ("alice", "INVITE, again", False)]


def test_what_answers_the_next_request_does_not_answer_this_one() -> None:
    asked = ((0.0, True, "OPTIONS", 0, False), (5.0, True, "OPTIONS", 0, False))
    sent = from_record(attempt(messages=(*asked, (5.1, False, "OPTIONS", 200, False))))
    assert [one.arrived for one in sent] == [False, True, True]


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
