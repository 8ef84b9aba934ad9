"""What clients of other machines may ask for."""

from __future__ import annotations

import typing

import pytest

from sipherd.protocol.access import FROM_ANYWHERE, LOCAL_ONLY, why_local_only
from sipherd.protocol.behaviour import Behaviour
from sipherd.protocol.messages import (
    AddPhones,
    ClientMessage,
    ClientRequest,
    ListPhones,
    Message,
    PlayAudio,
    RecordAudio,
    StopHerd,
)


def test_every_message_of_clients_was_decided_upon() -> None:
    """Who adds one says whether it may come from another machine."""
    assert set(typing.get_args(ClientRequest)) == FROM_ANYWHERE | LOCAL_ONLY
    assert not FROM_ANYWHERE & LOCAL_ONLY


@pytest.mark.parametrize(
    "body",
    [
        RecordAudio(call="c1", file="/tmp/x.wav"),
        PlayAudio(call="c1", source="/etc/hostname"),
        AddPhones(specs=(), behaviours={"alice": Behaviour(name="f", code=b"")}),
    ],
)
def test_what_names_files_or_runs_code_is_for_local_clients(body: ClientMessage) -> None:
    assert "on the herd's own machine" in why_local_only(body)


@pytest.mark.parametrize(
    "body",
    [
        ListPhones(),
        AddPhones(specs=()),
        StopHerd(),
        PlayAudio(call="c1", source="echo"),
        PlayAudio(call="c1", source="tone:440"),
    ],
)
def test_what_anybody_with_a_key_may_ask(body: ClientMessage) -> None:
    assert why_local_only(body) == ""


def test_what_was_not_decided_upon_is_for_local_clients() -> None:
    class RunCode(Message, frozen=True, kw_only=True):
        """Of a later day."""

    assert "RunCode" in why_local_only(RunCode())  # type: ignore[arg-type]
