"""Records of calls: what goes in comes out, and what is no record is told from one."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipherd.worker.sip import journal
from sipherd.worker.sip.dialog import Dialog
from sipherd.worker.sip.journal import CallRecord, DialogRecord, Left
from sipherd.worker.stack import Hop

PEER = Hop("192.0.2.7", 5060, "tcp", 3)


def dialog(**changes: object) -> Dialog:
    values: dict[str, object] = {
        "call_id": "abc@192.0.2.7",
        "local": "<sip:1001@192.0.2.1>;tag=us",
        "local_tag": "us",
        "remote": "<sip:1002@192.0.2.7>;tag=them",
        "remote_tag": "them",
        "local_cseq": 4,
        "remote_cseq": None,
        "target": "sip:1002@192.0.2.7:5070",
        "routes": ("<sip:proxy.example;lr>",),
        "peer": PEER,
    }
    return Dialog(**(values | changes))  # type: ignore[arg-type]


def record(**changes: object) -> CallRecord:
    made = CallRecord(
        call="c17",
        role="caller",
        left=Left.CONFIRMED,
        began=1234.5,
        call_id="abc@192.0.2.7",
        local_tag="us",
        dialog=DialogRecord.of(dialog()),
        early_tags=("them", "others"),
        cseq=4,
        invite=b"INVITE sip:1002@192.0.2.7 SIP/2.0\r\n\r\n\xff\x00",
        hop=Hop("pbx.example", None),
        ack=b"ACK",
        ack_hop=Hop("192.0.2.7", 5070),
    )
    return msgspec.structs.replace(made, **changes)


@pytest.mark.parametrize("left", Left)
def test_a_record_comes_back_as_it_was(left: Left) -> None:
    made = record(left=left)
    assert journal.decode(journal.encode(made)) == made


@given(st.text(), st.binary())
def test_any_text_and_any_bytes_of_a_peer_come_back(text: str, data: bytes) -> None:
    wire = text.encode("utf-8", "surrogatepass") + data
    as_read = wire.decode("utf-8", "surrogateescape")
    made = record(
        call_id=as_read,
        dialog=DialogRecord.of(dialog(remote=as_read, target=as_read, routes=(as_read, "x"))),
        early_tags=(as_read,),
        invite=wire,
    )
    again = journal.decode(journal.encode(made))
    assert msgspec.structs.replace(again, raw=False) == made


@given(st.binary())
def test_bytes_that_are_no_record_are_told_from_one(data: bytes) -> None:
    with pytest.raises(journal.UnreadableRecord):
        journal.decode(data)


def test_a_record_cut_short_is_told_from_a_whole_one() -> None:
    data = journal.encode(record())
    for length in range(len(data)):
        with pytest.raises(journal.UnreadableRecord):
            journal.decode(data[:length])


def test_a_dialog_goes_on_above_the_numbers_it_has_used() -> None:
    made = DialogRecord.of(dialog(local_cseq=7))
    restored = made.restore(gap=100)
    assert restored.next_cseq() == 108
    assert (restored.target, restored.routes) == (
        "sip:1002@192.0.2.7:5070",
        ("<sip:proxy.example;lr>",),
    )


def test_a_connection_of_the_dead_process_is_not_asked_for_again() -> None:
    assert DialogRecord.of(dialog()).peer == Hop("192.0.2.7", 5060, "tcp", 0)


def test_records_of_forks_have_keys_of_their_own() -> None:
    keys = {journal.record_key("us"), journal.record_key("us", "a"), journal.record_key("us", "b")}
    assert len(keys) == 3
