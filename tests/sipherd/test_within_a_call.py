"""What is done within a call, phone to phone: hold, transfer, keys, audio; by API and commands."""

from __future__ import annotations

import json
import threading
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest

from commandline import Run
from sipherd import Call, CallState, CommandRefused, Herd, IncomingCall, Phone, TimedOut
from sipherd.protocol.events import Confirmed

#: Seconds for what takes some milliseconds, on a box that may be busy.
SOON = 15.0


@pytest.fixture
def herd() -> Iterator[Herd]:
    """Three phones with audio that leave their calls to clients."""
    phones = [{"name": n, "number": f"{1001 + i}"} for i, n in enumerate(("alice", "bob", "carol"))]
    with Herd(phones) as herd:
        yield herd


@pytest.fixture
def answering() -> Iterator[list[threading.Thread]]:
    threads: list[threading.Thread] = []
    yield threads
    for thread in threads:
        thread.join(SOON)


def connect(caller: Phone, callee: Phone) -> tuple[Call, IncomingCall]:
    """A call that is up, seen from both ends."""
    call = caller.call(callee)
    incoming = callee.incoming(timeout=SOON)
    incoming.answer()
    call.wait_answered(timeout=SOON)
    return call, incoming


def answer(phone: Phone, threads: list[threading.Thread]) -> None:
    """Answer the phone's next call meanwhile."""
    threads.append(threading.Thread(target=lambda: phone.incoming(timeout=SOON).answer()))
    threads[-1].start()


# -- hold ----------------------------------------------------------------------------------------


@pytest.mark.interop("Hold and retrieve", "phone to phone")
@pytest.mark.interop("Held and retrieved by the peer", "phone to phone")
def test_hold_and_retrieve(herd: Herd) -> None:
    call, incoming = connect(herd["alice"], herd["bob"])
    call.hold(timeout=SOON)
    assert call.info.held == ("local",)
    assert incoming.wait_held(timeout=SOON).held == ("remote",)
    incoming.hold(timeout=SOON)
    assert incoming.info.held == ("local", "remote")
    call.retrieve(timeout=SOON)
    assert incoming.wait_retrieved(timeout=SOON).held == ("local",)
    incoming.retrieve(timeout=SOON)
    assert call.wait_retrieved(timeout=SOON).held == ()
    call.hang_up()


def test_a_hold_that_does_not_come_is_not_waited_for_for_ever(herd: Herd) -> None:
    call, incoming = connect(herd["alice"], herd["bob"])
    with pytest.raises(TimedOut, match="hold of call"):
        incoming.wait_held(timeout=0.1)
    call.hang_up()


def test_what_rings_can_t_be_held(herd: Herd) -> None:
    call = herd["alice"].call("bob")
    call.wait_ringing(timeout=SOON)
    with pytest.raises(CommandRefused):
        call.hold()
    assert call.state is CallState.RINGING
    call.hang_up()


# -- transfer ------------------------------------------------------------------------------------


@pytest.mark.interop("Blind transfer", "phone to phone")
@pytest.mark.interop("Transferred by the peer", "phone to phone")
def test_a_blind_transfer(herd: Herd, answering: list[threading.Thread]) -> None:
    call, incoming = connect(herd["alice"], herd["bob"])
    answer(herd["carol"], answering)
    call.transfer("carol", timeout=SOON)
    assert call.wait_ended(timeout=SOON).cause == "transferred"
    new = incoming.wait_transferred(timeout=SOON)
    assert new.info.phone == "bob"
    new.wait_answered(timeout=SOON)
    assert incoming.wait_ended(timeout=SOON).cause == "hung_up"
    new.hang_up()


def test_a_blind_transfer_that_fails_leaves_the_call_up(herd: Herd) -> None:
    herd.add("busy", number="1009", on_incoming={"reject": 486})
    call, incoming = connect(herd["alice"], herd["bob"])
    with pytest.raises(CommandRefused, match="486") as refused:
        call.transfer("busy", timeout=SOON)
    assert refused.value.reason == "transfer_failed"
    assert (call.state, incoming.state) == (CallState.ANSWERED, CallState.ANSWERED)
    call.hang_up()


@pytest.mark.interop("Attended transfer", "phone to phone")
@pytest.mark.interop("Replaces", "phone to phone")
def test_an_attended_transfer(herd: Herd) -> None:
    first, at_bob = connect(herd["alice"], herd["bob"])
    first.hold(timeout=SOON)
    second, at_carol = connect(herd["alice"], herd["carol"])
    first.transfer(second, timeout=SOON)
    assert first.wait_ended(timeout=SOON).cause == "transferred"
    assert second.wait_ended(timeout=SOON).state is CallState.ENDED
    to_carol = at_bob.wait_transferred(timeout=SOON)
    from_bob = at_carol.wait_transferred(timeout=SOON)
    to_carol.wait_answered(timeout=SOON)
    from_bob.wait_answered(timeout=SOON)
    assert at_carol.wait_ended(timeout=SOON).cause == "replaced"
    at_bob.wait_ended(timeout=SOON)  # another process says so than for alice
    assert {call.call for call in herd.calls()} == {to_carol.id, from_bob.id}
    to_carol.hang_up()
    assert from_bob.wait_ended(timeout=SOON).cause == "hung_up"


def test_a_call_can_t_be_joined_with_itself_or_another_phone_s(herd: Herd) -> None:
    call, incoming = connect(herd["alice"], herd["bob"])
    for other in (call, incoming):
        with pytest.raises(CommandRefused, match="not another call of phone alice"):
            call.transfer(other)
    call.hang_up()


# -- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("rfc4733", marks=pytest.mark.interop("Keys as RTP events", "phone to phone")),
        pytest.param("info", marks=pytest.mark.interop("Keys as INFO", "phone to phone")),
    ],
)
def test_keys_arrive_as_they_were_pressed(herd: Herd, how: str) -> None:
    call, incoming = connect(herd.add("dora", number="1004", dtmf=how), herd["bob"])
    call.send_dtmf("1122*#ABD", timeout=SOON)
    assert incoming.wait_dtmf(4, timeout=SOON) == "1122"
    assert incoming.wait_dtmf(5, timeout=SOON) == "*#ABD"
    with pytest.raises(TimedOut):
        incoming.wait_dtmf(timeout=0.05)
    with pytest.raises(CommandRefused, match="x"):
        call.send_dtmf("1x")
    call.hang_up()


# -- audio ---------------------------------------------------------------------------------------


def test_what_one_plays_the_other_records(herd: Herd, tmp_path: Path) -> None:
    call, incoming = connect(herd["alice"], herd["bob"])
    with herd.events(timeout=SOON, after=0) as events:
        assert any(isinstance(event.body, Confirmed) for event in events)  # all is told by now
    recorded = tmp_path / "heard.wav"
    incoming.record(recorded)
    call.play("tone:440")
    with herd.events(timeout=1.0) as quiet:
        assert not list(quiet)  # a second of it
    incoming.stop_recording()
    with wave.open(str(recorded)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 1, 2)
        assert 0.5 < file.getnframes() / 8000 < SOON
        samples = file.readframes(file.getnframes())
    assert max(samples) > 0
    call.hang_up()
    media = incoming.wait_ended(timeout=SOON).media
    assert media is not None
    assert media.received > 30
    assert not media.one_way


@pytest.mark.parametrize(
    ("content", "why"), [(None, "does not exist"), (b"", "wav"), (b"no audio", "wav")]
)
def test_what_can_t_be_played(herd: Herd, tmp_path: Path, content: bytes | None, why: str) -> None:
    call, _ = connect(herd["alice"], herd["bob"])
    file = tmp_path / "a.wav"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CommandRefused, match=why) as refused:
        call.play(file)
    assert str(file) in str(refused.value)
    call.play("echo")
    call.hang_up()


def test_a_phone_without_media_plays_nothing(herd: Herd) -> None:
    call, _ = connect(herd.add("mute", number="1005", media="none"), herd["bob"])
    with pytest.raises(CommandRefused, match="media"):
        call.play("tone:440")
    call.hang_up()


# -- the commands --------------------------------------------------------------------------------


def test_the_commands_within_a_call(run: Run, herd: Herd, tmp_path: Path) -> None:
    call, incoming = connect(herd["alice"], herd["bob"])
    here = ("--herd", herd.name)
    assert run("hold", call.id, *here).out == f"{call.id} on hold\n"
    incoming.wait_held(timeout=SOON)
    ran = run("retrieve", call.id, "--json", *here)
    assert json.loads(ran.out)["held"] == []
    assert run("dtmf", call.id, "12", *here).out == f"{call.id} keys sent: 12\n"
    assert incoming.wait_dtmf(2, timeout=SOON) == "12"
    file = tmp_path / "c.wav"
    assert run("record", call.id, str(file), "--what", "both", *here).code == 0
    assert run("play", call.id, "tone:300", *here).out == f"{call.id} plays tone:300\n"
    assert run("play", call.id, "--stop", *here).code == 0
    assert run("record", call.id, "--stop", *here).code == 0
    with wave.open(str(file)) as recorded:
        assert recorded.getnchannels() == 2
    call.hang_up()


def test_the_transfer_command(run: Run, herd: Herd, answering: list[threading.Thread]) -> None:
    call, _ = connect(herd["alice"], herd["bob"])
    answer(herd["carol"], answering)
    ran = run("transfer", call.id, "carol", "--herd", herd.name)
    assert (ran.code, ran.out) == (0, f"{call.id} transferred to carol\n")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["hold", "c99"], 1, 'no call "c99"'),
        (["dtmf", "c99", "1"], 1, 'no call "c99"'),
        (["transfer", "c99"], 2, "expected one of TARGET and --to-call"),
        (["transfer", "c99", "bob", "--to-call", "c98"], 2, "expected one of TARGET and --to-call"),
        (["play", "c99"], 2, "expected one of SOURCE and --stop"),
        (["record", "c99"], 2, "expected one of FILE and --stop"),
        (["register"], 1, "no phone of herd"),
        (["register", "alice"], 1, "alice: phone alice has no registrar"),
        (["unregister", "zoe"], 1, 'no phone "zoe"'),
    ],
)
def test_what_they_refuse(run: Run, herd: Herd, arguments: list[str], code: int, said: str) -> None:
    ran = run(*arguments, "--herd", herd.name)
    assert ran.code == code
    (line,) = ran.err.splitlines()
    assert line.startswith(f"sipherd: {said}")


def test_a_phone_without_a_registrar_is_not_waited_for(herd: Herd) -> None:
    with pytest.raises(CommandRefused, match="no registrar"):
        herd["alice"].wait_registered(timeout=SOON)
