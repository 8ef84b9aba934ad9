"""The answers to libzmq's questions who may come in (RFC 27)."""

from __future__ import annotations

import pytest
import zmq
from zmq.utils import z85

from sipherd.supervisor.zap import judge, read_user

PUBLIC = zmq.curve_keypair()[0]
RAW = z85.decode(PUBLIC)
KEYS = {PUBLIC.decode(): "laptop"}

GOOD = [b"1.0", b"7", b"sipherd", b"192.0.2.1", b"", b"CURVE", RAW]


def test_a_key_on_the_list() -> None:
    verdict = judge(GOOD, KEYS, serial=9, full=False)
    assert verdict.reply == [b"1.0", b"7", b"200", b"OK", PUBLIC + b" 9", b""]
    assert read_user(verdict.reply[4].decode()) == (PUBLIC.decode(), 9)
    assert (verdict.address, verdict.key, verdict.why) == ("192.0.2.1", "laptop", "")


def test_no_more_of_them() -> None:
    verdict = judge(GOOD, KEYS, serial=9, full=True)
    assert verdict.reply[2] == b"500"
    assert verdict.why == "too many clients of other machines"


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        ([*GOOD[:6], z85.decode(zmq.curve_keypair()[0])], "not on the list"),
        ([*GOOD[:5], b"NULL"], "mechanism NULL, only CURVE is let in"),
        ([*GOOD[:5], b"PLAIN", b"user", b"password"], "mechanism PLAIN"),
        ([*GOOD[:6], RAW[:31]], "only CURVE"),
        ([*GOOD, b"more"], "only CURVE"),
        (GOOD[:6], "only CURVE"),
        ([*GOOD[:5], b"\xff\xfe"], "only CURVE"),
        ([b"2.0", *GOOD[1:]], "not understood"),
        ([*GOOD[:2], b"other", *GOOD[3:]], "not understood"),
        ([b"1.0"], "not understood"),
        ([], "not understood"),
    ],
)
def test_all_else_is_refused(frames: list[bytes], why: str) -> None:
    verdict = judge(frames, KEYS, serial=9, full=False)
    assert why in verdict.why
    version, request, status, _, user, metadata = verdict.reply
    assert version == b"1.0"
    assert request == (frames[1] if len(frames) > 1 else b"")
    assert status in (b"400", b"500")
    assert user == metadata == b""
