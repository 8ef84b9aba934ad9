"""Audio between phones that are processes, over real sockets and in real time."""

from __future__ import annotations

import contextlib
import math
import os
import random
import socket
import time
import wave
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy
import psutil
import pytest
import soundfile
from smallherd import RTP_FIRST, SmallHerd, SmallPhone, descriptors

from mediasound import frequency, longest_gap, sounds
from peers.relay import Datagram, Relay
from peers.sipp import loopback_address
from sipherd.protocol.events import Answered, CallEnded, DtmfReceived, PlayEnded, RecordEnded
from sipherd.protocol.messages import (
    Counters,
    Done,
    Drain,
    Drained,
    HangUpCall,
    PlaceCall,
    PlayAudio,
    RecordAudio,
    Refused,
    SendDtmf,
    StopRecording,
)
from sipherd.worker.media import rtcp, rtp

ANSWERS: dict[str, Any] = {"on_incoming": {"answer_after": 0}}
DIGITS = "1122334455*#ABCD"
RTP_PORTS = range(RTP_FIRST, RTP_FIRST + 16)
"""What two phones of a small herd lease."""


def call(alice: SmallPhone, target: str, name: str = "c1", count: int = 1) -> None:
    place = PlaceCall(phone=alice.spec.name, target=target, call=name, dialled="peer")
    assert alice.run(place) == Done()
    alice.wait(Answered, count)


def up(herd: SmallHerd) -> tuple[SmallPhone, SmallPhone]:
    """Alice in a call with bob, who answers by himself."""
    alice, bob = herd.fork("alice"), herd.fork("bob", **ANSWERS)
    call(alice, bob.uri)
    bob.wait(Answered)
    return alice, bob


@contextlib.contextmanager
def bridged(
    herd: SmallHerd, drop: Callable[[Datagram], bool]
) -> Iterator[tuple[SmallPhone, SmallPhone, Relay]]:
    """Alice in a call with bob over a line that loses what ``drop`` says."""
    with Relay(loopback_address(), loopback_address(), RTP_PORTS, drop=drop) as relay:
        alice = herd.fork("alice", welcome=False, address=relay.behind_left)
        alice.welcome(host=relay.left)
        bob = herd.fork("bob", welcome=False, address=relay.behind_right, **ANSWERS)
        bob.welcome(host=relay.right)
        relay.open(alice.port, bob.port)
        call(alice, f"sip:bob@{relay.right}:{bob.port}")
        bob.wait(Answered)
        yield alice, bob, relay


def is_rtp(datagram: Datagram) -> bool:
    return datagram.port in RTP_PORTS and not datagram.port % 2


def listen(herd: SmallHerd, seconds: float) -> None:
    """Let the phones talk so long."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        herd.listen(left)


def samples(path: Path) -> bytes:
    with wave.open(str(path), "rb") as file:
        return file.readframes(file.getnframes())


# What is heard


@pytest.mark.parametrize(
    "seconds", [4, pytest.param(30, marks=[pytest.mark.soak, pytest.mark.timeout(180)])]
)
def test_a_tone_played_by_one_is_recorded_by_the_other(
    herd: SmallHerd, tmp_path: Path, seconds: int
) -> None:
    path = tmp_path / "heard.wav"
    alice, bob = up(herd)
    assert alice.run(PlayAudio(call="c1", source="tone:1004")) == Done()
    assert bob.run(RecordAudio(call="i1", file=str(path))) == Done()
    listen(herd, seconds + 0.5)
    assert bob.run(StopRecording(call="i1")) == Done()
    ended = bob.wait(RecordEnded)
    assert (ended.why, ended.error) == ("stopped", "")
    pcm = samples(path)
    assert len(pcm) / 16_000 == pytest.approx(ended.seconds)
    assert ended.seconds >= seconds
    heard = pcm[3200:-3200]  # what was on its way at the beginning and the end
    assert frequency(heard) == pytest.approx(1004, abs=1)
    assert longest_gap(heard) <= 0.02
    alice.run(HangUpCall(call="c1"))
    for phone in (alice, bob):
        media = phone.wait(CallEnded).media
        assert media is not None
        assert media.lost == 0
        assert media.mos is not None
        assert media.mos > 4
        assert phone.printed() == ""


@pytest.mark.parametrize(
    "seconds", [4, pytest.param(60, marks=[pytest.mark.soak, pytest.mark.timeout(180)])]
)
def test_50_packets_a_second_without_drift(herd: SmallHerd, seconds: int) -> None:
    """Seen from the line: no packet is left out, and none has the time of another."""
    seen: list[tuple[float, rtp.RtpPacket]] = []

    def look(datagram: Datagram) -> bool:
        if datagram.to == "right" and is_rtp(datagram):
            seen.append((time.monotonic(), rtp.parse(datagram.data)))
        return False

    with bridged(herd, look) as (alice, _, _):
        listen(herd, seconds)
        alice.run(HangUpCall(call="c1"))
        media = alice.wait(CallEnded).media
        assert media is not None
        herd.until(lambda: len(seen) >= media.sent or None, "the last packet on the line")
    assert media.sent == len(seen) >= 50 * (seconds - 1)
    first, last = seen[0][1], seen[-1][1]
    assert [packet.sequence for _, packet in seen] == [
        (first.sequence + n) % 65_536 for n in range(len(seen))
    ]
    assert {(b.timestamp - a.timestamp) % 2**32 for (_, a), (_, b) in pairwise(seen)} == {160}
    # A busy box is late with many a packet, here or there, and never early.
    late = [when - n * 0.02 for n, (when, _) in enumerate(seen)]
    assert min(late[:50]) == pytest.approx(min(late[-50:]), abs=0.1)
    assert (last.timestamp - first.timestamp) % 2**32 == 160 * (len(seen) - 1)


def test_a_file_of_another_rate_is_played(herd: SmallHerd, tmp_path: Path) -> None:
    played, heard = tmp_path / "played.wav", tmp_path / "heard.wav"
    tone = numpy.sin(2 * math.pi * 440 * numpy.arange(2 * 44_100) / 44_100) * 0.5
    soundfile.write(played, numpy.tile(tone[:, None], (1, 2)), 44_100)
    alice, bob = up(herd)
    assert bob.run(RecordAudio(call="i1", file=str(heard))) == Done()
    assert alice.run(PlayAudio(call="c1", source=str(played))) == Done()
    assert alice.wait(PlayEnded).why == "finished"
    alice.run(HangUpCall(call="c1"))
    assert bob.wait(RecordEnded).why == "call_ended"
    found = sounds(samples(heard))
    assert sum(map(len, found)) / 16_000 == pytest.approx(2, abs=0.05)
    assert frequency(max(found, key=len)) == pytest.approx(440, abs=1)


def test_files_that_cannot_be_played_cost_nothing(herd: SmallHerd, tmp_path: Path) -> None:
    text, empty = tmp_path / "text.wav", tmp_path / "empty.wav"
    text.write_text("RIFF, they said")
    soundfile.write(empty, numpy.zeros((0, 1)), 16_000)
    alice, _ = up(herd)
    for path, reason in ((text, "not_audio"), (empty, "empty"), (tmp_path / "no", "not_found")):
        refused = alice.run(PlayAudio(call="c1", source=str(path)))
        assert isinstance(refused, Refused)
        assert refused.reason == reason
        assert str(path) in refused.message
    alice.run(HangUpCall(call="c1"))
    assert alice.wait(CallEnded).cause == "hung_up"
    assert alice.printed() == ""


def test_a_recording_outlives_a_killed_phone(herd: SmallHerd, tmp_path: Path) -> None:
    path = tmp_path / "heard.wav"
    alice, bob = up(herd)
    alice.run(PlayAudio(call="c1", source="tone:440"))
    bob.run(RecordAudio(call="i1", file=str(path)))
    listen(herd, 3)
    os.kill(bob.pid, 9)
    assert bob.is_gone()
    pcm = samples(path)
    assert len(pcm) / 16_000 > 1
    assert frequency(pcm[3200:]) == pytest.approx(440, abs=1)


# Keys


def digits(phone: SmallPhone, call: str) -> str:
    return "".join(event.digit for event in phone.heard(DtmfReceived) if event.call == call)


def test_keys_arrive_both_ways(herd: SmallHerd) -> None:
    alice, bob = up(herd)
    for phone, key in ((alice, "c1"), (bob, "i1")):
        assert phone.run(SendDtmf(call=key, digits=DIGITS)) == Done()
    for phone, key in ((alice, "c1"), (bob, "i1")):
        herd.until(lambda: len(digits(phone, key)) >= 16 or None, "keys")  # noqa: B023
        assert digits(phone, key) == DIGITS


def is_end(datagram: Datagram) -> bool:
    data = datagram.data
    return is_rtp(datagram) and data[1] & 0x7F == 101 and bool(data[13] & 0x80)


@pytest.mark.parametrize("line", ["loses 5 %", "loses all ends"])
def test_keys_over_a_bad_line(herd: SmallHerd, line: str) -> None:
    chance = random.Random(4733)

    def drop(datagram: Datagram) -> bool:
        if line == "loses all ends":
            return is_end(datagram)
        return is_rtp(datagram) and chance.random() < 0.05

    with bridged(herd, drop) as (alice, bob, relay):
        assert alice.run(SendDtmf(call="c1", digits=DIGITS)) == Done()
        herd.until(lambda: len(digits(bob, "i1")) >= 16 or None, "keys")
        assert digits(bob, "i1") == DIGITS
        assert relay.lost["right"] > 3
        alice.run(HangUpCall(call="c1"))
        media = bob.wait(CallEnded).media
        assert media is not None
        assert media.lost > 3


# A stranger


def test_10_000_hostile_packets_leave_the_phone_serving(herd: SmallHerd) -> None:
    alice, bob = up(herd)
    media = alice.heard(Answered)[0].remote_media
    assert media is not None
    sound = [
        rtp.build(kind, n, 160 * n, 7, bytes(160), marker=False)
        for n, kind in enumerate((0, 8, 101))
    ]
    report = rtcp.build([rtcp.ReceiverReport(7), rtcp.SourceDescription(((7, "x"),))])
    chance = random.Random(3550)
    before = memory(bob)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for n in range(10_000):
            data = bytearray(chance.choice([*sound, report]))
            for _ in range(chance.randrange(6)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            data = data[: chance.randrange(len(data) + 1)] if chance.random() < 0.3 else data
            stranger.sendto(data, (media[0], media[1] + n % 2))
            if n % 50 == 0:
                herd.listen(0.005)
    assert memory(bob) - before < 1 << 20
    assert alice.run(SendDtmf(call="c1", digits="42")) == Done()
    herd.until(lambda: digits(bob, "i1").endswith("42") or None, "keys after the flood")
    alice.run(HangUpCall(call="c1"))
    stats = bob.wait(CallEnded).media
    assert stats is not None
    assert stats.dropped > 100
    bob.send(Drain())
    bob.wait(Drained)
    assert bob.heard(Counters)[-1].values.get("worker_error", 0) == 0
    assert bob.printed() == ""


# One call after the other


def memory(phone: SmallPhone) -> int:
    """Private bytes of its process."""
    return int(psutil.Process(phone.pid).memory_full_info().uss)


def one_call(alice: SmallPhone, bob: SmallPhone, number: int, tmp_path: Path) -> None:
    """With a tone, a recording, a key from one, and now and then from the other."""
    name = f"c{number}"
    call(alice, bob.uri, name, number)
    alice.run(PlayAudio(call=name, source="tone:440"))
    bob.run(RecordAudio(call=f"i{number}", file=str(tmp_path / "r.wav")))
    if number % 10 == 0:
        alice.run(SendDtmf(call=name, digits="1"))
    bob.run(SendDtmf(call=f"i{number}", digits="2"))
    alice.herd.until(lambda: digits(alice, name) == "2" or None, "the key")
    alice.run(HangUpCall(call=name))
    assert bob.wait(CallEnded, number).media is not None
    media = alice.wait(CallEnded, number).media
    assert media is not None
    assert media.received > 0


def test_calls_with_audio_leave_no_descriptor_and_no_thread(
    herd: SmallHerd, tmp_path: Path
) -> None:
    alice, bob = herd.fork("alice"), herd.fork("bob", **ANSWERS)
    one_call(alice, bob, 1, tmp_path)
    before = [resources(phone) for phone in (alice, bob)]
    for number in range(2, 40):
        one_call(alice, bob, number, tmp_path)
    assert [resources(phone) for phone in (alice, bob)] == before
    assert alice.printed() == bob.printed() == ""


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_1_000_calls_with_audio_leave_no_memory(herd: SmallHerd, tmp_path: Path) -> None:
    """The first calls fill what remembers the last ones: transactions for 32 s, 256 replies."""
    alice, bob = herd.fork("alice"), herd.fork("bob", **ANSWERS)
    for number in range(1, 501):
        one_call(alice, bob, number, tmp_path)
    before = [(resources(phone), memory(phone)) for phone in (alice, bob)]
    for number in range(501, 1501):
        one_call(alice, bob, number, tmp_path)
    for phone, (kept, size) in zip((alice, bob), before, strict=True):
        assert resources(phone) == kept
        assert memory(phone) - size < 1 << 20
        assert phone.printed() == ""


def resources(phone: SmallPhone) -> tuple[int, int]:
    """Descriptors and threads of its process."""
    return len(descriptors(phone.pid)), psutil.Process(phone.pid).num_threads()
