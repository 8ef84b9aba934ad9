"""What waited while a phone had no process: each rule, and the grouping of any mixture."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sipwire import BOB, MEDIA, OFFER, Hand, branch, events, lines, reply, request, sends

from sipherd.worker.sip.backlog import MAX_AGE, is_live, put_in_order
from sipherd.worker.sip.message import Message, parse
from sipherd.worker.sip.transactions import Transactions
from sipherd.worker.stack import Aged, CallEnded, Hop, IncomingCall

CONTACT = ("Contact: <sip:b@192.0.2.2:5062>",)
T1 = 0.5


def invite(name: str = "one", **more: object) -> bytes:
    settings = {"via": branch(name), "call_id": f"{name}@b", "extra": CONTACT, "body": OFFER}
    return request("INVITE", **(settings | more))  # type: ignore[arg-type]


def other(method: str, name: str = "one", **more: object) -> bytes:
    settings = {"via": branch(name), "call_id": f"{name}@b"}
    return request(method, **(settings | more))  # type: ignore[arg-type]


def waiting(*pairs: tuple[bytes, float], source: Hop = BOB) -> list[Aged]:
    return [Aged(data, source, age) for data, age in pairs]


def caught_up(hand: Hand, *pairs: tuple[bytes, float]) -> list[object]:
    return hand.take(hand.engine.catch_up(waiting(*pairs), hand.now))


def counted(hand: Hand, name: str) -> int:
    return hand.engine.counters.get(name, 0)


# Copies


def test_copies_of_an_invite_are_one_call() -> None:
    hand = Hand()
    outputs = caught_up(hand, (invite(), 3.5), (invite(), 3.0), (invite(), 2.0))
    assert lines(outputs) == ["180"]
    assert len(events(outputs, IncomingCall)) == 1
    assert counted(hand, "backlog_copies") == 2


def test_the_reply_goes_to_where_the_newest_copy_came_from() -> None:
    moved = Hop("192.0.2.2", 7000)
    batch = [Aged(invite(), BOB, 1.5), Aged(invite(), moved, 1.0)]
    (first, *_) = Hand().engine.catch_up(batch, 0.0)
    assert first.destination == moved  # type: ignore[union-attr]


def test_copies_of_other_requests_and_of_responses_are_one() -> None:
    hand = Hand()
    asked = hand.place()
    ok = reply(asked, 200, body=OFFER)
    options = other("OPTIONS", "two")
    outputs = caught_up(hand, (ok, 2), (options, 1.5), (ok, 1), (options, 1))
    assert lines(outputs) == ["ACK", "200"]


def test_two_invites_are_two_calls_in_their_order() -> None:
    outputs = caught_up(Hand(), (invite("one"), 1.0), (invite("two"), 0.9), (invite("one"), 0.5))
    assert [event.sip_call_id for event in events(outputs, IncomingCall)] == ["one@b", "two@b"]


# Age


@pytest.mark.parametrize(
    ("oldest", "newest", "live"),
    [
        (0.0, 0.0, True),
        (3.9, 3.9, True),
        (4.1, 4.1, False),  # one copy, and no other followed
        (4.4, 3.9, True),
        (7.0, 3.5, True),
        (11.0, 7.5, True),  # copies at 0, 0.5, 1.5, 3.5; the next comes at 7.5
        (11.6, 8.1, False),  # and did not
        (31.9, 16.0, True),
        (32.0, 0.5, False),  # its sender has given up: Timer B
    ],
)
def test_an_invite_is_live_while_its_sender_may_wait(
    oldest: float, newest: float, live: bool
) -> None:
    assert is_live(oldest, newest, T1) is live
    hand = Hand()
    outputs = caught_up(hand, (invite(), oldest), (invite(), newest))
    assert bool(events(outputs, IncomingCall)) is live
    assert bool(lines(outputs)) is live
    assert counted(hand, "stale_invite") == (not live)


@given(st.integers(0, 5), st.floats(0, 1))
def test_an_invite_is_live_as_long_as_its_next_copy_is_not_overdue(
    copies: int, share: float
) -> None:
    last = T1 * (2**copies - 1)  # copies at 0, T1, 3*T1, 7*T1 … (Timer A)
    silent = share * T1 * 2**copies
    assert is_live(last + silent, silent, T1) is (last + silent < MAX_AGE)


@pytest.mark.parametrize("method", ["OPTIONS", "MESSAGE"])
def test_other_requests_are_served_for_32_seconds(method: str) -> None:
    hand = Hand()
    assert lines(caught_up(hand, (other(method), 31.9))) == ["200"]
    assert lines(caught_up(hand, (other(method, "two"), 32.0))) == []
    assert counted(hand, "stale_request") == 1


def test_a_reinvite_does_not_ring_and_is_refused_as_long_as_anybody_waits() -> None:
    hand = Hand()
    outputs = caught_up(hand, (invite(to_tag="ours"), 20.0))
    assert lines(outputs) == ["481"]
    assert counted(hand, "stale_invite") == 0


# CANCEL


def test_an_invite_and_its_cancel_are_answered_without_an_event() -> None:
    hand = Hand()
    outputs = caught_up(hand, (invite(), 3.0), (other("CANCEL"), 1.0))
    ok, terminated = sends(outputs)
    assert (ok.code, ok.headers["CSeq"]) == (200, "1 CANCEL")
    assert (terminated.code, terminated.headers["CSeq"]) == (487, "1 INVITE")
    assert ok.to.tag == terminated.to.tag != ""
    assert not events(outputs)
    assert counted(hand, "backlog_cancelled") == 1
    # It is repeated until its ACK, and forgotten.
    hand.advance(1.0)
    assert len(hand.times("487")) == 2
    hand.receive(other("ACK", to_tag=terminated.to.tag))
    assert hand.advance(60) == []
    assert hand.is_empty()


def test_the_cancel_may_have_come_first_or_late() -> None:
    for pairs in [
        ((other("CANCEL"), 1.0), (invite(), 1.0)),
        ((invite(), 30.0), (other("CANCEL"), 29.0)),
    ]:
        outputs = caught_up(Hand(), *pairs)
        assert lines(outputs) == ["200", "487"]


def test_a_cancel_of_another_invite_is_481_and_harms_nothing() -> None:
    outputs = caught_up(Hand(), (invite("one"), 1.0), (other("CANCEL", "two"), 0.5))
    assert lines(outputs) == ["481", "180"]


def test_a_cancelled_invite_that_is_malformed_is_refused_for_that() -> None:
    hand = Hand()
    outputs = caught_up(hand, (invite(extra=()), 1.0), (other("CANCEL"), 0.5))
    assert "487" not in lines(outputs)
    assert not events(outputs)
    assert counted(hand, "engine_error") == 0


def test_a_call_that_rang_before_is_ended_by_its_cancel() -> None:
    hand = Hand()
    hand.receive(invite())
    outputs = caught_up(hand, (invite(), 2.0), (other("CANCEL"), 1.0))
    assert lines(outputs) == ["200", "487"]
    assert len(hand.reported(CallEnded)) == 1


# What belongs to calls


def test_what_belongs_to_no_call_is_481_or_dropped() -> None:
    hand = Hand()
    strange = reply(parse(invite("mine")), 200)
    outputs = caught_up(
        hand,
        (other("BYE", "bye", to_tag="gone"), 40.0),
        (other("CANCEL", "cancel"), 40.0),
        (other("ACK", "ack", to_tag="gone"), 40.0),
        (strange, 40.0),
    )
    assert [(m.code, m.cseq.method) for m in sends(outputs)] == [(481, "BYE"), (481, "CANCEL")]
    assert not events(outputs)
    assert counted(hand, "sip_unmatched") == 2


def test_what_ends_calls_comes_before_what_begins_them() -> None:
    hand = Hand(max_calls=1)
    tag = hand.up()
    bye = request("BYE", via=branch("bye"), to_tag=tag, cseq=2)
    assert lines(caught_up(hand, (invite("two"), 2.0), (bye, 1.0))) == ["200", "180"]


def test_responses_find_their_requests() -> None:
    hand = Hand()
    asked = hand.place()
    outputs = caught_up(hand, (reply(asked, 180), 3.0), (reply(asked, 486), 2.0))
    assert lines(outputs) == ["ACK"]


def test_a_call_that_was_answered_meanwhile_has_its_ack_repeated_once() -> None:
    hand = Hand()
    asked, ack = hand.placed_and_answered()
    outputs = caught_up(hand, *[(reply(asked, 200, body=OFFER), age) for age in (3.5, 2.5, 1.5)])
    assert [message.headers["Via"] for message in sends(outputs)] == [ack.headers["Via"]]


# Anything else


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n", b"\x00", b"nonsense\r\n\r\n"])
def test_what_is_no_sip_is_as_harmless_as_ever(data: bytes) -> None:
    hand = Hand()
    assert caught_up(hand, (data, 1.0), (data, 0.5), (invite(), 0.1))
    assert counted(hand, "engine_error") == 0
    assert len(hand.reported(IncomingCall)) == 1


def test_a_request_that_cannot_be_read_is_refused() -> None:
    data = other("OPTIONS").replace(b"CSeq: 1 OPTIONS", b"CSeq: nonsense")
    assert lines(caught_up(Hand(), (data, 1.0))) == ["400"]


def test_one_fault_of_ours_does_not_stop_the_others() -> None:
    hand = Hand()
    serve = hand.engine._serve
    broken = iter([True])

    def fail_once(*arguments: object) -> None:
        if next(broken, False):
            raise ZeroDivisionError
        serve(*arguments)  # type: ignore[arg-type]

    hand.engine._serve = fail_once  # type: ignore[method-assign]
    outputs = caught_up(hand, (invite("one"), 1.0), (invite("two"), 1.0))
    assert lines(outputs) == ["500", "180"]
    assert counted(hand, "engine_error") == 1


_METHODS = ["INVITE", "CANCEL", "BYE", "ACK", "OPTIONS", "MESSAGE", "INFO"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*_METHODS, "response", "garbage"]),
            st.integers(0, 3),
            st.floats(0, 40),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_any_mixture_is_grouped_so_that_nothing_is_served_twice_or_forgotten(
    mixture: list[tuple[str, int, float, bool]],
) -> None:
    mixture.sort(key=lambda item: -item[2])  # as they came
    batch = []
    for kind, number, age, within in mixture:
        tag = "ours" if within else ""
        name = f"b{number}{tag}"
        if kind == "response":
            data = reply(parse(invite(name)), 180)
        elif kind == "garbage":
            data = f"garbage {name}".encode()
        else:
            data = other(kind, name, to_tag=tag)
        batch.append(Aged(data, BOB, age))
    backlog = put_in_order(batch, T1)

    served = [
        *backlog.first,
        *(aged for pair in backlog.cancelled for aged in pair),
        *backlog.others,
    ]
    assert set(served) <= set(batch)
    # One of each group of copies is served, or dropped for its age.
    groups = {aged.data: aged for aged in batch}  # the newest
    assert len({aged.data for aged in served}) == len(served)
    assert all(groups[aged.data] == aged for aged in served)
    stale = backlog.counts["stale_invite"] + backlog.counts["stale_request"]
    assert len(served) + stale == len(groups)
    assert backlog.counts["backlog_copies"] == len(batch) - len(groups)
    # The right place for each.
    assert all(method(aged) in ("", "CANCEL", "BYE", "ACK") for aged in backlog.first)
    assert all(method(aged) not in ("CANCEL", "BYE", "ACK") for aged in backlog.others)
    assert all(aged.age < MAX_AGE for aged in backlog.others)
    for asked, cancel in backlog.cancelled:
        key = Transactions.server_key(parse(cancel.data), "INVITE")
        assert key == Transactions.server_key(parse(asked.data))
    # No CANCEL is left alone whose INVITE is there, and no such INVITE rings.
    invites = {Transactions.server_key(parse(aged.data)) for aged in batch if is_invite(aged)}
    for aged in backlog.first:
        if method(aged) == "CANCEL":
            assert Transactions.server_key(parse(aged.data), "INVITE") not in invites
    # In the order in which they first came.
    order = list(dict.fromkeys(aged.data for aged in batch))
    for part in (backlog.first, backlog.others):
        assert part == sorted(part, key=lambda aged: order.index(aged.data))
    Hand().engine.catch_up(batch, 0.0)


def method(aged: Aged) -> str:
    message = readable(aged)
    return message.method if message is not None else ""


def is_invite(aged: Aged) -> bool:
    return method(aged) == "INVITE"


def readable(aged: Aged) -> Message | None:
    return None if aged.data.startswith(b"garbage") else parse(aged.data)


def test_the_call_that_was_answered_is_still_the_same_call() -> None:
    """An answer by this engine while copies are still being read changes nothing."""
    hand = Hand()
    caught_up(hand, (invite(), 1.0))
    hand.take(hand.engine.answer("i1", MEDIA, hand.now))
    assert lines(caught_up(hand, (invite(), 0.5))) == []
