"""What a phone does in a call, with SIPp at the far end: it checks the headers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import unquote

import pytest

from peers.herd import HerdProcess
from peers.sipp import Sipp, wait_for
from sipherd import CommandRefused, Herd

StartSipp = Callable[..., Sipp]
StartHerd = Callable[..., HerdProcess]

ANSWERS = {"name": "bob", "media": "none", "on_incoming": {"answer_after": 0.2}}
ALICE = {"name": "alice", "media": "none", "dtmf": "info"}


def answering(start_herd: StartHerd) -> tuple[HerdProcess, tuple[str, int]]:
    herd = start_herd([ANSWERS])
    return herd, herd.phone("bob").target


@pytest.fixture
def client(start_herd: StartHerd) -> Iterator[Herd]:
    with Herd.connect(start_herd([ALICE]).name) as client:
        yield client


# SIPp calls.


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param("caller_requires_100rel", marks=pytest.mark.interop("PRACK", "SIPp")),
        pytest.param("caller_updates", marks=pytest.mark.interop("UPDATE", "SIPp")),
        pytest.param("caller_presses_keys", marks=pytest.mark.interop("Keys as INFO", "SIPp")),
        pytest.param("caller_replaces", marks=pytest.mark.interop("Replaces", "SIPp")),
    ],
)
def test_sipp_calls(start_herd: StartHerd, start_sipp: StartSipp, scenario: str) -> None:
    herd, target = answering(start_herd)
    start_sipp(scenario, target=target).passes()
    if scenario == "caller_updates":
        herd.wait_event(phone="bob", kind="held", by="remote")
    elif scenario == "caller_presses_keys":
        keys = herd.wait_events(2, phone="bob", kind="dtmf")
        assert [(key["digit"], key["method"]) for key in keys] == [("5", "info"), ("#", "info")]
    elif scenario == "caller_replaces":
        first, second = herd.wait_events(2, phone="bob", kind="ended")
        assert (first["cause"], second["cause"]) == ("replaced", "hung_up")
        assert herd.events(phone="bob", kind="incoming")[1]["replaces"] == first["call"]


@pytest.mark.interop("Transferred by the peer", "SIPp")
def test_sipp_transfers_a_phone(start_herd: StartHerd, start_sipp: StartSipp) -> None:
    herd, target = answering(start_herd)
    carol = start_sipp("callee_hangs_up")
    options = ("-key", "target_uri", carol.uri)
    start_sipp("caller_refers", target=target, options=options).passes()
    carol.passes()
    referred = herd.wait_event(phone="bob", kind="referred")
    assert (referred["target"], referred["by"].partition("@")[0]) == (carol.uri, "sip:boss")
    (invite,) = carol.received("INVITE")
    assert "Referred-By: <sip:boss@" in invite


# A phone calls.


@pytest.mark.interop("PRACK", "SIPp")
@pytest.mark.interop("Session timer", "SIPp")
@pytest.mark.parametrize("scenario", ["callee_rings_reliably", "callee_wants_refresh"])
def test_a_phone_calls(client: Herd, start_sipp: StartSipp, scenario: str) -> None:
    sipp = start_sipp(scenario)
    call = client["alice"].call(sipp.uri)
    call.wait_answered(timeout=5)
    if scenario == "callee_wants_refresh":
        wait_for(lambda: sipp.received("UPDATE"), "the refresh", timeout=9)
    call.hang_up()
    sipp.passes()


@pytest.mark.interop("Hold and retrieve", "SIPp")
def test_hold_and_retrieve(client: Herd, start_sipp: StartSipp) -> None:
    sipp = start_sipp("callee_is_held")
    call = client["alice"].call(sipp.uri)
    call.wait_answered(timeout=5)
    call.hold()
    with pytest.raises(CommandRefused) as refused:
        call.hold()
    assert refused.value.reason == "already_held"
    call.retrieve()
    call.hang_up()
    sipp.passes()


@pytest.mark.interop("Glare (491)", "SIPp")
def test_reinvites_that_cross(client: Herd, start_sipp: StartSipp) -> None:
    sipp = start_sipp("callee_glares")
    call = client["alice"].call(sipp.uri)
    call.wait_answered(timeout=5)
    call.hold()
    call.hang_up()
    sipp.passes()


@pytest.mark.interop("Blind transfer", "SIPp")
def test_blind_transfer(client: Herd, start_sipp: StartSipp) -> None:
    sipp = start_sipp("callee_is_referred")
    call = client["alice"].call(sipp.uri)
    call.wait_answered(timeout=5)
    call.transfer("sip:carol@127.0.0.1:5999")
    sipp.passes()


@pytest.mark.interop("Attended transfer", "SIPp")
def test_attended_transfer(client: Herd, start_sipp: StartSipp) -> None:
    sipp, carol = start_sipp("callee_is_referred_to_a_call"), start_sipp("callee_answers")
    call = client["alice"].call(sipp.uri)
    call.wait_answered(timeout=5)
    consult = client["alice"].call(carol.uri)
    consult.wait_answered(timeout=5)
    call.transfer(consult)
    consult.hang_up()
    sipp.passes()
    carol.passes()
    # RFC 3891: the tags are as Carol sees them, to-tag her own.
    (refer,) = sipp.received("REFER")
    (bye,) = carol.received("BYE")
    target, _, escaped = refer.partition("Refer-To: <")[2].partition(">")[0].partition("?")
    headers = dict(line.split(": ", 1) for line in bye.splitlines()[1:] if ": " in line)
    to_tag, from_tag = (headers[name].rpartition("tag=")[2] for name in ("To", "From"))
    expected = f"Replaces={headers['Call-ID']};to-tag={to_tag};from-tag={from_tag}"
    assert unquote(escaped) == expected
    assert target == bye.split()[1]


@pytest.mark.interop("Keys as INFO", "SIPp")
def test_keys_as_info(client: Herd, start_sipp: StartSipp) -> None:
    sipp = start_sipp("callee_gets_keys")
    call = client["alice"].call(sipp.uri)
    call.wait_answered(timeout=5)
    call.send_dtmf("1#")
    call.hang_up()
    sipp.passes()
