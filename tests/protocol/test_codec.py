"""Arbitrary bytes give a message of the right direction or ProtocolError, and nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sipherd.protocol import messages
from sipherd.protocol.codec import (
    Codec,
    encode,
    from_client,
    from_supervisor_to_client,
    from_supervisor_to_worker,
    from_worker,
)
from sipherd.protocol.errors import ProtocolError
from sipherd.protocol.events import CallEnded, Event, HerdReady, SipMessage, flatten
from sipherd.protocol.messages import (
    AddPhones,
    CallInfo,
    Done,
    Envelope,
    Events,
    Happened,
    Hello,
    PlaceCall,
    Refused,
    Welcome,
)
from sipherd.protocol.spec import OnIncoming, PhoneSpec
from sipherd.protocol.states import CallState

ALL: dict[str, Codec[Any]] = {
    "client": from_client,
    "worker": from_worker,
    "to client": from_supervisor_to_client,
    "to worker": from_supervisor_to_worker,
}

SPEC = PhoneSpec(name="bob", on_incoming=OnIncoming(answer_after=0.5, hang_up_after=30.0))
CALL = CallInfo(call="c1", phone="bob", direction="in", state=CallState.RINGING, started=1.5)
ENDED = CallEnded(
    call="c1",
    cause="rejected",
    by="remote",
    code=486,
    reason="Busy Here",
    messages=(SipMessage(1.0, True, "INVITE"), SipMessage(1.5, False, "INVITE", 486)),
)

SAMPLES: list[tuple[str, Any]] = [
    ("client", PlaceCall(phone="alice", target="bob", ring_timeout=1.5)),
    ("client", AddPhones(specs=(SPEC,))),
    ("worker", Hello(pid=7, token="t")),
    ("worker", Happened(t=1.0, body=ENDED)),
    ("worker", Refused(reason="cancelled", message="too late")),
    ("to worker", Welcome(spec=SPEC, host="127.0.0.1", port=5060, rtp_first=20000, rtp_pairs=2)),
    ("to client", Done(result=CALL)),
    ("to client", Events(events=(Event(n=1, t=2.0, at=3.0, phone="bob", body=ENDED),))),
]

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def decode_or_protocol_error(codec: Codec[Any], data: bytes) -> None:
    try:
        envelope = codec.decode(data)
    except ProtocolError:
        return
    assert isinstance(envelope, Envelope)
    assert encode(envelope)


@pytest.mark.parametrize(("direction", "body"), SAMPLES, ids=lambda value: type(value).__name__)
def test_a_message_survives_the_wire(direction: str, body: Any) -> None:
    envelope: Envelope[Any] = Envelope(
        id=3, reply_to=2, phone="bob", incarnation=4, seq=5, timeout=6.0, body=body
    )
    assert ALL[direction].decode(encode(envelope)) == envelope


@pytest.mark.parametrize(("direction", "body"), SAMPLES, ids=lambda value: type(value).__name__)
def test_a_message_of_another_direction_is_refused(direction: str, body: Any) -> None:
    data = encode(Envelope(id=1, body=body))
    for name, codec in ALL.items():
        shared = isinstance(body, Done | Refused | PlaceCall)
        if name != direction and not shared:
            with pytest.raises(ProtocolError):
                codec.decode(data)


@pytest.mark.parametrize(("direction", "body"), SAMPLES, ids=lambda value: type(value).__name__)
def test_trailing_and_missing_bytes_are_refused(direction: str, body: Any) -> None:
    data = encode(Envelope(id=1, body=body))
    for wrong in (data + b"\0", data + data, *(data[:n] for n in range(len(data)))):
        with pytest.raises(ProtocolError):
            ALL[direction].decode(wrong)


def test_another_version_is_refused_by_name() -> None:
    data = encode(Envelope(version=99, id=1, body=Hello(pid=1, token="")))
    with pytest.raises(ProtocolError, match="version 99, this side speaks 1"):
        from_worker.decode(data)


@pytest.mark.parametrize("codec", ALL.values(), ids=ALL.keys())
@given(data=st.binary(max_size=300))
@example(data=b"\x91" * 100_000)
@example(data=b"\xc1")
@example(data=b"\xdd\xff\xff\xff\xff")
def test_any_bytes(codec: Codec[Any], data: bytes) -> None:
    decode_or_protocol_error(codec, data)


@pytest.mark.parametrize("codec", ALL.values(), ids=ALL.keys())
@given(plain=PLAIN)
def test_any_well_formed_messagepack(codec: Codec[Any], plain: Any) -> None:
    decode_or_protocol_error(codec, msgspec.msgpack.encode(plain))


@pytest.mark.parametrize(("direction", "body"), SAMPLES, ids=lambda value: type(value).__name__)
@given(data=st.data())
def test_a_message_with_one_field_replaced(direction: str, body: Any, data: Any) -> None:
    """Nearly right is where a decoder goes wrong: every field gets values of any type."""
    wire = msgspec.msgpack.decode(encode(Envelope(id=1, body=body)))
    place = data.draw(st.integers(0, len(wire) - 1), "place in the envelope")
    if isinstance(wire[place], dict) and data.draw(st.booleans(), "inside the body"):
        key = data.draw(st.sampled_from(sorted(wire[place])))
        wire[place][key] = data.draw(PLAIN)
    else:
        wire[place] = data.draw(PLAIN)
    decode_or_protocol_error(ALL[direction], msgspec.msgpack.encode(wire))


@pytest.mark.parametrize(("direction", "body"), SAMPLES, ids=lambda value: type(value).__name__)
@given(data=st.data())
def test_a_message_with_bytes_flipped(direction: str, body: Any, data: Any) -> None:
    wire = bytearray(encode(Envelope(id=1, body=body)))
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    decode_or_protocol_error(ALL[direction], bytes(wire))


def test_a_phone_that_can_t_exist_does_not_come_out_of_the_wire() -> None:
    wire = msgspec.msgpack.decode(encode(Envelope(id=1, body=AddPhones(specs=(SPEC,)))))
    wire[-1]["specs"][0]["port"] = 70000
    with pytest.raises(ProtocolError, match="port 70000"):
        from_client.decode(msgspec.msgpack.encode(wire))


def test_every_message_has_a_tag_of_its_own() -> None:
    kinds = [
        value
        for value in vars(messages).values()
        if isinstance(value, type) and issubclass(value, messages.Message)
    ]
    tags = [kind.__struct_config__.tag for kind in kinds if kind is not messages.Message]
    assert len(tags) > 40
    assert len(set(tags)) == len(tags)


def test_an_event_as_one_flat_object() -> None:
    event = Event(n=1, t=2.0, at=3.0, phone="bob", incarnation=1, pid=9, body=ENDED)
    assert flatten(event) == {
        "n": 1,
        "t": 2.0,
        "at": 3.0,
        "phone": "bob",
        "incarnation": 1,
        "pid": 9,
        "kind": "ended",
        "call": "c1",
        "cause": "rejected",
        "by": "remote",
        "code": 486,
        "reason": "Busy Here",
        "bye_answered": None,
        "media": None,
        "messages": ([1.0, True, "INVITE", 0, False], [1.5, False, "INVITE", 486, False]),
        "bye_sent": None,
    }
    herd = flatten(Event(n=1, t=2.0, at=3.0, body=HerdReady(phones=0, seconds=0.0)))
    assert "phone" not in herd
    assert herd["phones"] == 0
