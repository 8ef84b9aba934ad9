"""What a phone does with the audio of its calls, on a wire without sockets."""

from __future__ import annotations

import os
import random
import wave
from array import array
from pathlib import Path
from typing import Any

import pytest
from desks import B_, A, Desk, Wire

from sipherd.protocol.events import (
    AudioOneWay,
    CallEnded,
    DtmfReceived,
    DtmfSent,
    MediaStats,
    PlayEnded,
    RecordEnded,
)
from sipherd.protocol.messages import (
    Done,
    Drain,
    HangUpCall,
    HoldCall,
    PlayAudio,
    RecordAudio,
    RetrieveCall,
    SendDtmf,
    StopAudio,
    StopRecording,
)
from sipherd.worker.media.wav import WavError


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def alice(wire: Wire) -> Desk:
    return Desk(wire, A)


@pytest.fixture
def bob(wire: Wire) -> Desk:
    return Desk(wire, B_, on_incoming={"answer_after": 0})


@pytest.fixture
def call(alice: Desk, bob: Desk) -> str:
    """A call from Alice to Bob that is up; both know it by another name."""
    alice.call(bob.uri)
    return "c1"


def samples(path: Path) -> array[int]:
    with wave.open(str(path), "rb") as file:
        return array("h", file.readframes(file.getnframes()))


def stats(desk: Desk) -> MediaStats:
    media = desk.ended().media
    assert media is not None
    return media


# Statistics


def test_the_end_of_a_call_tells_what_became_of_its_audio(
    wire: Wire, alice: Desk, bob: Desk, call: str
) -> None:
    # Two reports of each side, at random times: the second answers the other's first.
    wire.advance(20)
    alice.run(HangUpCall(call=call))
    for desk in (alice, bob):
        media = stats(desk)
        assert 1000 <= media.sent <= 1002
        assert 999 <= media.received <= 1002
        assert (media.lost, media.dropped, media.late, media.one_way) == (0, 0, 0, False)
        assert media.mos is not None
        assert media.mos > 4.3
        assert media.round_trip_ms is not None
    assert alice.rtp.ports == bob.rtp.ports == {}


def test_nothing_is_sent_while_a_bye_waits_for_its_answer(
    wire: Wire, alice: Desk, bob: Desk, call: str
) -> None:
    wire.advance(1)
    wire.drop = lambda data: data.startswith(b"BYE")
    alice.start(HangUpCall(call=call))
    wire.advance(20)
    del wire.desks[B_]
    wire.advance(20)
    assert stats(alice).sent <= 52


def test_a_call_that_nobody_answered_has_no_audio(wire: Wire, alice: Desk) -> None:
    alice.call("sip:x@192.0.2.99")
    alice.run(HangUpCall(call="c1"))
    wire.advance(40)
    assert alice.ended().media is None


def test_one_way_audio_is_told(wire: Wire, alice: Desk, bob: Desk, call: str) -> None:
    bob.rtp.silent = True
    wire.advance(10)
    assert alice.heard(AudioOneWay) == [AudioOneWay(call=call, seconds=5.0)]
    alice.run(HangUpCall(call=call))
    assert stats(alice).one_way


@pytest.mark.parametrize("media", ["audio", "none"])
def test_an_idle_phone_has_no_timer(wire: Wire, media: str) -> None:
    desk = Desk(wire, A, media=media)
    assert desk.phone.next_deadline() is None


def test_signalling_alone_reads_and_sends_nothing(wire: Wire) -> None:
    alice, bob = Desk(wire, A, media="none"), Desk(wire, B_, on_incoming={"answer_after": 0})
    alice.call(bob.uri)
    wire.advance(2)
    assert alice.rtp.ports == {}
    for command in (PlayAudio(call="c1", source="echo"), SendDtmf(call="c1", digits="1")):
        refused = alice.run(command)
        assert (refused.reason, refused.message) == ("no_media", "phone p has media: none")
    alice.run(HangUpCall(call="c1"))
    assert alice.ended().media is None


# Hold


def test_hold_stops_the_audio_and_retrieve_brings_it_back(
    wire: Wire, alice: Desk, bob: Desk, call: str, tmp_path: Path
) -> None:
    bob.run(PlayAudio(call="i1", source="tone:1000"))
    wire.advance(1)
    path = tmp_path / "r.wav"
    assert alice.run(HoldCall(call=call)) == Done()
    alice.run(RecordAudio(call=call, file=str(path)))
    wire.advance(2)
    assert alice.run(RetrieveCall(call=call)) == Done()
    wire.advance(2)
    alice.run(StopRecording(call=call))
    heard = samples(path)
    assert not any(heard[:15_000])
    assert max(heard[17_000:]) > 5000
    alice.run(HangUpCall(call=call))
    assert stats(alice).lost == stats(bob).lost == 0
    assert not alice.heard(AudioOneWay)


# Playing


def test_play_and_stop(wire: Wire, alice: Desk, call: str) -> None:
    assert alice.run(PlayAudio(call=call, source="tone:440")) == Done()
    assert alice.run(PlayAudio(call=call, source="echo")) == Done()
    assert alice.run(StopAudio(call=call)) == Done()
    assert alice.run(StopAudio(call=call)) == Done()
    assert alice.heard(PlayEnded) == [
        PlayEnded(call=call, source="tone:440", why="replaced"),
        PlayEnded(call=call, source="echo", why="stopped"),
    ]


def test_a_file_is_played_to_its_end(wire: Wire, alice: Desk, bob: Desk, call: str) -> None:
    id = alice.start(PlayAudio(call=call, source="/a.wav"))
    ((path, loaded),) = alice.loads
    assert (path, alice.reply(id)) == ("/a.wav", None)
    alice.phone.collect(lambda: loaded(array("h", [7000] * 4000).tobytes()), wire.now)
    assert alice.reply(id) == Done()
    wire.advance(0.49)
    assert alice.heard(PlayEnded) == []
    wire.advance(0.1)
    assert alice.heard(PlayEnded) == [PlayEnded(call=call, source="/a.wav", why="finished")]


def test_a_file_in_a_loop_is_played_until_the_call_ends(wire: Wire, alice: Desk, call: str) -> None:
    alice.start(PlayAudio(call=call, source="/a.wav", loop=True))
    loaded = alice.loads[0][1]
    alice.phone.collect(lambda: loaded(bytes(100)), wire.now)
    wire.advance(5)
    assert alice.heard(PlayEnded) == []
    alice.run(HangUpCall(call=call))
    assert alice.heard(PlayEnded) == [PlayEnded(call=call, source="/a.wav", why="call_ended")]
    kinds = alice.kinds()
    assert kinds.index("PlayEnded") < kinds.index("CallEnded")  # nothing follows the end of a call


def test_a_file_that_cannot_be_read_changes_nothing(wire: Wire, alice: Desk, call: str) -> None:
    alice.run(PlayAudio(call=call, source="tone:440"))
    id = alice.start(PlayAudio(call=call, source="/a.wav"))
    loaded = alice.loads[0][1]
    error = WavError("not_found", "/a.wav does not exist")
    alice.phone.collect(lambda: loaded(error), wire.now)
    assert (alice.reply(id).reason, alice.reply(id).message) == ("not_found", str(error))
    assert alice.heard(PlayEnded) == []


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (PlayAudio(call="c1", source="echo"), "replaced"),
        (StopAudio(call="c1"), "stopped"),
        (HangUpCall(call="c1"), "already_ended"),
    ],
)
def test_something_else_is_wanted_while_a_file_is_read(
    wire: Wire, alice: Desk, call: str, command: Any, reason: str
) -> None:
    id = alice.start(PlayAudio(call=call, source="/a.wav"))
    alice.run(command)
    assert alice.reply(id).reason == reason
    loaded = alice.loads[0][1]
    alice.phone.collect(lambda: loaded(bytes(100)), wire.now)  # comes too late
    wire.advance(1)
    assert not [event for event in alice.heard(PlayEnded) if event.source == "/a.wav"]


@pytest.mark.parametrize(
    "source", ["", "noise", "a.wav", "tone", "tone:", "tone:x", "tone:nan", "tone:inf", "tone:5000"]
)
def test_what_cannot_be_played(alice: Desk, call: str, source: str) -> None:
    refused = alice.run(PlayAudio(call=call, source=source))
    assert refused.reason == "bad_source"
    assert refused.message.startswith(f"{source}: ")
    assert alice.loads == []


@pytest.mark.parametrize(
    "command",
    [
        PlayAudio(call="c9", source="echo"),
        StopAudio(call="c9"),
        RecordAudio(call="c9", file="/x.wav"),
        StopRecording(call="c9"),
        SendDtmf(call="c9", digits="1"),
    ],
)
def test_commands_about_no_call(alice: Desk, command: Any) -> None:
    assert alice.run(command).reason == "no_such_call"


def test_a_call_that_only_rings_has_no_audio_yet(wire: Wire, alice: Desk) -> None:
    ringing = Desk(wire, B_)
    alice.call(ringing.uri)
    assert alice.run(PlayAudio(call="c1", source="echo")).reason == "no_media"


# Recording


@pytest.mark.parametrize("end", ["stop", "call", "sigterm"])
def test_a_recording(
    wire: Wire, alice: Desk, bob: Desk, call: str, tmp_path: Path, end: str
) -> None:
    path = tmp_path / "r.wav"
    bob.run(PlayAudio(call="i1", source="tone:1000"))
    assert alice.run(RecordAudio(call=call, file=str(path))) == Done()
    assert path.exists()
    wire.advance(3)
    if end == "stop":
        assert alice.run(StopRecording(call=call)) == Done()
    elif end == "call":
        alice.run(HangUpCall(call=call))
    else:
        alice.phone.leave(wire.now)
    why = "stopped" if end == "stop" else "call_ended"
    (ended,) = alice.heard(RecordEnded)
    assert (ended.call, ended.file, ended.why, ended.error) == (call, str(path), why, "")
    assert ended.seconds == pytest.approx(3)
    heard = samples(path)
    assert len(heard) == 24_000
    assert max(heard[20_000:]) > 5000


def test_a_recording_instead_of_another(wire: Wire, alice: Desk, call: str, tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        alice.run(RecordAudio(call=call, file=str(tmp_path / name), what="both"))
        wire.advance(1)
    assert [event.why for event in alice.heard(RecordEnded)] == ["stopped"]
    alice.run(HangUpCall(call=call))
    assert [event.why for event in alice.heard(RecordEnded)] == ["stopped", "call_ended"]
    for name in ("a.wav", "b.wav"):
        assert len(samples(tmp_path / name)) == 16_000


def test_a_file_that_cannot_be_written(alice: Desk, call: str, tmp_path: Path) -> None:
    refused = alice.run(RecordAudio(call=call, file=f"{tmp_path}/no/r.wav"))
    assert refused.reason == "unwritable"
    assert "No such file or directory" in refused.message
    assert alice.run(StopRecording(call=call)).reason == "not_recording"


def test_a_disk_that_fills_up_ends_the_recording_and_not_the_call(
    wire: Wire, alice: Desk, bob: Desk, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.wav"
    alice.run(RecordAudio(call=call, file=str(path)))
    wire.advance(1)

    def full(*arguments: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    wire.advance(2)
    (ended,) = alice.heard(RecordEnded)
    assert ended.why == "failed"
    assert "No space left on device" in ended.error
    assert not alice.heard(CallEnded)
    alice.run(HangUpCall(call=call))
    assert stats(alice).sent > 140


# Keys


def test_keys_are_done_when_all_are_sent(wire: Wire, alice: Desk, bob: Desk, call: str) -> None:
    ids = [alice.start(SendDtmf(call=call, digits=digits)) for digits in ("1122", "a#")]
    wire.advance(0.6)
    assert [alice.reply(id) for id in ids] == [None, None]
    wire.advance(0.3)
    assert [alice.reply(id) for id in ids] == [Done(), None]
    wire.advance(0.5)
    assert alice.reply(ids[1]) == Done()
    assert [event.digits for event in alice.heard(DtmfSent)] == ["1122", "A#"]
    heard = bob.heard(DtmfReceived)
    assert "".join(event.digit for event in heard) == "1122A#"
    assert {(event.call, event.duration_ms, event.method) for event in heard} == {
        ("i1", 100, "rfc4733")
    }


@pytest.mark.parametrize("digits", ["", "12x", "1 2"])
def test_what_are_no_keys(alice: Desk, call: str, digits: str) -> None:
    assert alice.run(SendDtmf(call=call, digits=digits)).reason == "bad_digits"


def test_keys_on_hold(wire: Wire, alice: Desk, bob: Desk, call: str) -> None:
    """Who holds may send, who is held may not."""
    alice.run(HoldCall(call=call))
    assert bob.run(SendDtmf(call="i1", digits="1")).reason == "on_hold"
    id = alice.start(SendDtmf(call=call, digits="1"))
    wire.advance(1)
    assert alice.reply(id) == Done()
    assert [event.digit for event in bob.heard(DtmfReceived)] == ["1"]


def test_the_call_ends_before_all_keys_are_sent(wire: Wire, alice: Desk, call: str) -> None:
    id = alice.start(SendDtmf(call=call, digits="123456"))
    wire.advance(0.5)
    alice.run(HangUpCall(call=call))
    refused = alice.reply(id)
    assert refused.reason == "already_ended"
    assert refused.message == "2 of 6 keys were sent: call c1 is over"
    assert not alice.heard(DtmfSent)


# One call after the other


def test_a_ghost_of_the_last_call_is_not_heard(wire: Wire, alice: Desk, bob: Desk) -> None:
    """Bob never learns of the end, and the port of his call is Alice's next one's."""
    alice.ports.free = [4000]
    alice.call(bob.uri)
    wire.advance(1)
    wire.drop = lambda data: data.startswith(b"BYE")
    alice.start(HangUpCall(call="c1"))
    del wire.desks[B_]
    wire.advance(33)
    assert alice.ended().bye_answered is False
    carol = Desk(wire, ("192.0.2.3", 5064), on_incoming={"answer_after": 0})
    wire.drop = lambda data: False
    alice.call(carol.uri, "c2")
    wire.desks[B_] = bob  # he is back, and still sends
    wire.advance(2)
    alice.run(HangUpCall(call="c2"))
    media = alice.heard(CallEnded)[-1].media
    assert media is not None
    assert 99 <= media.received <= 102
    assert media.dropped >= 99


def test_a_thousand_calls_leave_nothing(wire: Wire, alice: Desk, bob: Desk) -> None:
    chance = random.Random(1)
    for n in range(1000):
        alice.call(bob.uri, f"c{n}")
        if n % 3 == 0:
            alice.start(SendDtmf(call=f"c{n}", digits="12"))
        wire.advance(chance.random() * 0.3)
        alice.run(HangUpCall(call=f"c{n}"))
    wire.advance(40)
    for desk in (alice, bob):
        assert len(desk.heard(CallEnded)) == 1000
        assert desk.phone._audio._calls == {}
        assert len(desk.phone._audio._ghosts) <= 256
        assert desk.rtp.ports == {}
        assert len(desk.ports.free) == 10
        assert desk.phone.next_deadline() is None


def test_drain_says_no_more(wire: Wire, alice: Desk, bob: Desk, call: str) -> None:
    alice.start(Drain())
    wire.advance(0.5)
    assert stats(alice).sent <= 2
