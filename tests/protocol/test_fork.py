"""What supervisor and nursery say to each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipherd.protocol.errors import ProtocolError
from sipherd.protocol.fork import (
    Died,
    Fork,
    Forked,
    ForkFailed,
    decode_fork,
    decode_from_nursery,
    pack,
)

FORK = Fork(phone="bob", incarnation=2, token="t", endpoint="ipc:///x")


@pytest.mark.parametrize(
    "message",
    [
        Forked(phone="bob", incarnation=2, pid=7),
        ForkFailed(phone="bob", incarnation=2, error="EAGAIN"),
        Died(phone="bob", incarnation=2, exit_code=None, signal=9),
    ],
)
def test_the_nursery_s_words(message: Forked | ForkFailed | Died) -> None:
    assert decode_from_nursery(pack(message)) == message
    with pytest.raises(ProtocolError):
        decode_fork(pack(message))


def test_the_supervisor_s_words() -> None:
    assert decode_fork(pack(FORK)) == FORK
    with pytest.raises(ProtocolError):
        decode_from_nursery(pack(FORK))


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    for decode in (decode_fork, decode_from_nursery):
        with pytest.raises(ProtocolError):
            decode(data)
