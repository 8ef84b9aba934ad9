"""What a record says of a call's signalling, from messages and events."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sipherd.load.facts import Facts, gather
from sipherd.load.records import CallAttempt, SipMessage
from sipherd.protocol.events import (
    Answered,
    CallEnded,
    CallPlaced,
    Confirmed,
    EndCause,
    Event,
    Progress,
    WorkerEvent,
)

#: The INVITE leaves.
START = 1000.0


def message(t: float, text: str) -> SipMessage:
    """``>INVITE`` is sent, ``<180 INVITE`` received, ``*`` at the end is a copy."""
    code, _, method = text[1:].rstrip("*").rpartition(" ")
    return SipMessage(START + t, text[0] == ">", method, int(code or 0), text.endswith("*"))


def event(t: float, body: WorkerEvent) -> Event:
    return Event(n=1, t=START + t, at=0.0, body=body)


def ended(
    t: float,
    told: Sequence[tuple[float, str]] = (),
    *,
    cause: EndCause = "hung_up",
    code: int | None = None,
    bye_sent: float | None = None,
    bye_answered: bool | None = None,
) -> Event:
    """The end of a leg, with these messages."""
    return event(
        t,
        CallEnded(
            call="c1",
            cause=cause,
            by="local",
            code=code,
            bye_answered=bye_answered,
            bye_sent=None if bye_sent is None else START + bye_sent,
            messages=tuple(message(*one) for one in told),
        ),
    )


PLACED = event(
    0.001,
    CallPlaced(
        call="c1", target="bob", sip_call_id="x", request_uri="sip:b", next_hop=("192.0.2.2", 5060)
    ),
)
UP = [(0.0, ">INVITE"), (0.25, "<100 INVITE"), (0.5, "<180 INVITE"), (2.0, "<200 INVITE")]
UP += [(2.0, ">ACK")]


def test_a_call_that_the_caller_ended() -> None:
    told = [*UP, (5.0, ">BYE"), (5.125, "<200 BYE")]
    facts = gather([PLACED, ended(5.125, told, bye_sent=5.0, bye_answered=True)])
    assert facts == Facts(
        started=START,
        responses=((100, 0.25), (180, 0.5), (200, 2.0)),
        answered=2.0,
        ended=5.125,
        bye_sent=5.0,
        bye_answered=5.125,
        bye_code=200,
        final_code=200,
        messages=facts.messages,
    )
    assert facts.messages[0] == SipMessage(0.0, True, "INVITE")
    assert facts.messages[-1] == SipMessage(5.125, False, "BYE", 200)


def test_what_it_says_are_fields_of_a_record() -> None:
    facts = gather([PLACED, ended(5.125, UP)])
    record = CallAttempt(
        number=1,
        intended=0.5,
        started=0.5,
        caller="alice",
        drawn="answer",
        outcome="answer",
        **facts.fields(),
    )
    assert (record.responses, record.answered) == (facts.responses, 2.0)


def test_a_challenge_is_part_of_the_attempt_and_a_reinvite_is_not() -> None:
    told = [
        (0.0, ">INVITE"),
        (0.25, "<407 INVITE"),
        (0.25, ">ACK"),
        (0.25, ">INVITE"),
        (0.5, "<180 INVITE"),
        (1.0, "<200 INVITE"),
        (1.0, ">ACK"),
        (2.0, ">INVITE"),
        (2.25, "<488 INVITE"),
        (2.25, ">ACK"),
        (3.0, ">BYE"),
        (3.25, "<407 BYE"),
        (3.25, ">BYE"),
        (3.5, "<200 BYE"),
    ]
    facts = gather([PLACED, ended(3.5, told)])
    assert facts.responses == ((407, 0.25), (180, 0.5), (200, 1.0))
    assert (facts.answered, facts.final_code) == (1.0, 200)
    assert (facts.bye_sent, facts.bye_answered, facts.bye_code) == (3.0, 3.5, 200)


def test_a_cancelled_call() -> None:
    told = [(0.0, ">INVITE"), (0.5, "<180 INVITE"), (2.0, ">CANCEL"), (2.25, "<200 CANCEL")]
    told += [(2.5, "<487 INVITE"), (2.5, ">ACK")]
    facts = gather([PLACED, ended(2.5, told, cause="cancelled", code=487)])
    assert (facts.final_code, facts.answered, facts.bye_sent) == (487, None, None)
    assert facts.responses == ((180, 0.5), (487, 2.5))


def test_copies_of_requests_are_retransmissions_and_copies_of_responses_are_nothing() -> None:
    told = [(0.0, ">INVITE"), (0.5, ">INVITE*"), (1.5, ">INVITE*"), (1.75, "<180 INVITE")]
    told += [(1.75, "<180 INVITE*"), (2.0, "<200 INVITE"), (2.0, ">ACK"), (2.5, "<200 INVITE*")]
    told += [(2.5, ">ACK*"), (3.0, "<BYE"), (3.0, ">200 BYE"), (3.5, "<BYE*"), (3.5, ">200 BYE*")]
    facts = gather([PLACED, ended(3.0, told)])
    assert facts.retransmissions == 2  # an ACK goes out again for a response that came again
    assert facts.responses == ((180, 1.75), (200, 2.0))
    assert facts.bye_answered == 3.0


def test_a_bye_of_the_callee_is_timed_by_the_callee() -> None:
    told = [*UP, (5.0, "<BYE"), (5.0, ">200 BYE")]
    facts = gather(
        [PLACED, ended(5.0, told)],
        [event(2.5, Confirmed(call="c2")), ended(5.125, bye_sent=4.75, bye_answered=True)],
    )
    assert (facts.bye_sent, facts.bye_answered, facts.bye_code) == (4.75, 5.125, 200)
    assert facts.ended == 5.0


def test_a_bye_of_the_callee_that_never_came() -> None:
    facts = gather([PLACED], [ended(36.0, bye_sent=4.0, bye_answered=False)])
    assert facts.bye_sent == pytest.approx(3.999)
    assert (facts.bye_answered, facts.bye_code) == (None, None)


def test_a_bye_of_a_stranger_is_known_as_it_came() -> None:
    told = [*UP, (5.0, "<BYE"), (5.0, ">200 BYE")]
    facts = gather([PLACED, ended(5.0, told)])
    assert (facts.bye_sent, facts.bye_answered, facts.bye_code) == (5.0, 5.0, 200)


@pytest.mark.parametrize(("callees", "sent", "answered"), [(4.9, 4.9, 5.2), (5.1, 5.0, 5.125)])
def test_of_two_byes_that_cross_the_first_counts(
    callees: float, sent: float, answered: float
) -> None:
    told = [*UP, (5.0, ">BYE"), (5.1, "<BYE"), (5.1, ">200 BYE"), (5.125, "<200 BYE")]
    facts = gather(
        [PLACED, ended(5.125, told, bye_sent=5.0, bye_answered=True)],
        [ended(5.2, bye_sent=callees, bye_answered=True)],
    )
    assert (facts.bye_sent, facts.bye_answered) == (pytest.approx(sent), pytest.approx(answered))


def test_nobody_answers_the_bye() -> None:
    told = [*UP, (5.0, ">BYE"), (5.5, ">BYE*"), (6.5, ">BYE*")]
    facts = gather([PLACED, ended(37.0, told, bye_sent=5.0, bye_answered=False)])
    assert (facts.bye_sent, facts.bye_answered, facts.ended) == (5.0, None, 37.0)
    assert facts.retransmissions == 2


def test_nobody_answers_the_invite() -> None:
    told = [(0.0, ">INVITE"), (0.5, ">INVITE*")]
    facts = gather([PLACED, ended(32.0, told, cause="no_response")])
    assert (facts.responses, facts.final_code, facts.ended) == ((), None, 32.0)


def test_the_callers_phone_died_and_its_events_are_all_there_is() -> None:
    facts = gather(
        [
            ended(4.0, cause="phone_crashed"),
            event(2.0, Answered(call="c1", code=200, remote_media=None, codec="")),
            event(0.5, Progress(call="c1", code=180, reason="", early_media=False)),
            PLACED,
        ]
    )
    assert facts.started == PLACED.t
    assert [code for code, _ in facts.responses] == [180, 200]
    assert facts.answered == pytest.approx(1.999)
    assert (facts.final_code, facts.bye_sent, facts.messages) == (200, None, ())


def test_a_rejection_without_messages() -> None:
    facts = gather([PLACED, ended(0.751, cause="rejected", code=486)])
    assert facts.responses == ((486, pytest.approx(0.75)),)
    assert facts.final_code == 486


@pytest.mark.parametrize("cause", ["unreachable", "phone_crashed"])
def test_a_code_that_nobody_sent_is_no_response(cause: EndCause) -> None:
    assert gather([PLACED, ended(0.5, cause=cause, code=503)]).final_code is None


def test_an_invite_that_never_left() -> None:
    assert gather([]) == Facts()
    assert gather([ended(1.0, cause="unresolved")]) == Facts()
