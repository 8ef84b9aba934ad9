"""Two media sessions that talk to each other, and one that is talked at."""

from __future__ import annotations

import random
import struct
from array import array
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mediawire import ALICE, BOB, Wire, plan, session

from mediasound import frequency, longest_gap
from sipherd.worker.media import rtcp, rtp
from sipherd.worker.media.outputs import (
    Digit,
    DigitSent,
    OneWay,
    SendRtcp,
    SendRtp,
    SourceEnded,
)
from sipherd.worker.media.session import MediaSession
from sipherd.worker.media.sources import Echo, Samples, Tone
from sipherd.worker.pyvoip import RTPMessage

STRING = "1122334455*#ABCD"


@pytest.fixture
def wire() -> Wire:
    return Wire()


def packet(payload_type: int = 0, sequence: int = 1, ssrc: int = 77, **more: Any) -> bytes:
    timestamp = more.pop("timestamp", 160 * sequence)
    payload = more.pop("payload", b"\xff" * 160)
    return rtp.build(payload_type, sequence, timestamp, ssrc, payload, marker=False)


def listening(**changes: Any) -> tuple[MediaSession, Counter[str]]:
    """A session whose peer is BOB, by SDP."""
    counts: Counter[str] = Counter()
    it = session(counts=counts, **changes)
    it.follow(plan(BOB), 0.0)
    return it, counts


# A call


def test_silence_flows_both_ways_at_50_packets_a_second(wire: Wire) -> None:
    wire.connect()
    wire.advance(10)
    for side in (wire.alice, wire.bob):
        assert len(side.all(SendRtp)) == 501
        stats = side.session.stats()
        assert (stats.sent, stats.received, stats.lost, stats.late) == (501, 500, 0, 0)
        assert stats.jitter_ms == pytest.approx(0, abs=0.01)
        assert stats.mos is not None
        assert stats.mos > 4.3
        assert not stats.one_way


def test_a_tone_is_heard(wire: Wire) -> None:
    wire.connect()
    wire.bob.session.record("received", wire.now)
    wire.alice.session.play(Tone(1004))
    wire.advance(3)
    pcm = wire.bob.recorded + wire.bob.session.stop_recording(wire.now)[0]
    assert len(pcm) == 2 * 24_000
    assert frequency(pcm[1600:-1600]) == pytest.approx(1004, abs=0.2)
    assert longest_gap(pcm[1600:-1600]) < 0.001


def test_the_codec_that_was_agreed_on(wire: Wire) -> None:
    wire.connect(codec="PCMA", payload=8)
    wire.bob.session.record("received", wire.now)
    wire.alice.session.play(Tone(700))
    wire.advance(1)
    assert {rtp.parse(p.data).payload_type for p in wire.alice.all(SendRtp)} == {8}
    pcm = wire.bob.recorded
    assert frequency(pcm[1600:]) == pytest.approx(700, abs=1)


def test_echo(wire: Wire) -> None:
    wire.connect()
    wire.bob.session.play(Echo())
    wire.alice.session.play(Tone(440))
    wire.alice.session.record("both", wire.now)
    wire.advance(2)
    samples = array("h", wire.alice.recorded)
    heard, said = samples[0::2], samples[1::2]
    assert frequency(heard[2000:].tobytes()) == pytest.approx(440, abs=0.5)
    assert frequency(said[2000:].tobytes()) == pytest.approx(440, abs=0.5)


def test_a_source_that_ends_is_followed_by_silence(wire: Wire) -> None:
    wire.connect()
    wire.alice.session.play(Samples(array("h", [9000] * 1000).tobytes()))
    wire.bob.session.record("received", wire.now)
    wire.advance(1)
    assert len(wire.alice.all(SourceEnded)) == 1
    pcm = array("h", wire.bob.recorded + wire.bob.session.stop_recording(wire.now)[0])
    assert sum(abs(sample) > 4000 for sample in pcm) == 1000
    assert len(wire.alice.all(SendRtp)) == 51


def test_stop_is_silence(wire: Wire) -> None:
    wire.connect()
    wire.alice.session.play(Tone(440))
    wire.advance(0.1)
    wire.alice.session.stop()
    wire.advance(0.1)
    payloads = [rtp.parse(p.data).payload for p in wire.alice.all(SendRtp)]
    assert payloads[-1] == b"\xff" * 160 != payloads[0]


def test_every_packet_is_read_by_pyvoips_parser(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []
    parse = RTPMessage.parse

    def seen(message: RTPMessage, data: bytes) -> None:
        read.append(data)
        parse(message, data)

    monkeypatch.setattr(RTPMessage, "parse", seen)
    wire.connect()
    wire.advance(0.1)
    sent = [output.data for output in wire.alice.all(SendRtp)][:5]
    assert [data for data in read if data[8:12] == b"\0\0\0\1"] == sent


# Direction


def test_nothing_is_sent_before_there_is_a_description() -> None:
    it = session()
    assert it.next_timer() is None
    assert it.tick(5.0) == []
    assert it.receive_rtp(packet(), BOB, 5.0) == []


def test_on_hold_nothing_is_sent_and_nothing_heard(wire: Wire) -> None:
    wire.connect()
    wire.advance(1)
    wire.alice.session.follow(plan(BOB, sending=False, receiving=False), wire.now)
    wire.alice.session.record("received", wire.now)
    sent = len(wire.alice.all(SendRtp))
    wire.bob.session.play(Tone(440))
    wire.advance(20)
    assert len(wire.alice.all(SendRtp)) == sent
    assert not any(wire.alice.recorded)
    assert not wire.alice.all(OneWay)
    assert wire.alice.all(SendRtcp)  # RTCP goes on

    wire.alice.session.follow(plan(BOB), wire.now)
    wire.advance(1)
    assert sent + 50 <= len(wire.alice.all(SendRtp)) <= sent + 51
    assert longest_gap(wire.alice.recorded[-4000:]) < 0.001
    stats = wire.bob.session.stats()
    assert stats.lost == 0


@pytest.mark.parametrize(
    ("sending", "receiving", "packets", "heard"), [(True, False, 50, 0), (False, True, 0, 1)]
)
def test_one_direction_alone(
    wire: Wire, sending: bool, receiving: bool, packets: int, heard: int
) -> None:
    wire.connect()
    wire.alice.session.follow(plan(BOB, sending=sending, receiving=receiving), wire.now)
    wire.alice.session.record("received", wire.now)
    wire.bob.session.play(Tone(440))
    wire.advance(0.99)
    assert len(wire.alice.all(SendRtp)) == packets
    assert any(wire.alice.recorded) == bool(heard)


def test_no_address_to_send_to() -> None:
    it = session()
    it.follow(plan(None), 0.0)
    assert it.tick(5.0) == []
    it.receive_rtp(packet(), BOB, 6.0)  # behind NAT: now we know
    assert [p.destination for p in it.tick(6.0) if isinstance(p, SendRtp)] == [BOB]


# Whose packets


def test_packets_of_strangers_are_counted_and_not_heard() -> None:
    it, counts = listening(ghosts=frozenset({13}))
    it.receive_rtp(packet(), BOB, 1.0)
    it.receive_rtp(packet(ssrc=13), ("192.0.2.66", 9), 1.0)
    it.receive_rtp(packet(ssrc=5), ("192.0.2.66", 9), 1.0)
    it.receive_rtp(packet(18), BOB, 1.0)
    it.receive_rtp(b"hello", BOB, 1.0)
    assert counts == {"rtp_stranger": 2, "rtp_wrong_payload": 1, "rtp_malformed": 1}
    stats = it.stats()
    assert (stats.received, stats.dropped) == (1, 4)


def test_a_ghost_of_the_last_call_is_not_heard_in_the_next(wire: Wire) -> None:
    """Bob's first call ends unheard, and his phone sends on to Alice's port."""
    wire.connect()
    wire.advance(1)
    ghosts = wire.alice.session.heard
    assert ghosts == {2}
    it, counts = listening(now=wire.now, ghosts=ghosts)
    it.follow(plan(("192.0.2.3", 6000)), wire.now)
    for n in range(50):
        it.receive_rtp(packet(sequence=200 + n, ssrc=2), BOB, wire.now + 0.02 * n)
    assert it.stats().received == 0
    assert counts["rtp_stranger"] == 50
    assert {p.destination for p in it.tick(wire.now + 1) if isinstance(p, SendRtp)} == {
        ("192.0.2.3", 6000)
    }


def test_answers_go_where_the_peer_sends_from() -> None:
    it, _ = listening()
    nat = ("198.51.100.7", 40000)
    it.tick(0.0)
    it.receive_rtp(packet(), nat, 0.01)
    outputs = it.tick(0.02)
    assert [p.destination for p in outputs if isinstance(p, SendRtp)] == [nat]


def test_each_stream_of_the_peer_adds_to_the_figures() -> None:
    it, _ = listening()
    for sequence in (1, 2, 4):
        it.receive_rtp(packet(sequence=sequence, ssrc=5), BOB, 1.0)
    for sequence in (500, 501):
        it.receive_rtp(packet(sequence=sequence, ssrc=6), BOB, 2.0)
    stats = it.stats()
    assert (stats.received, stats.lost) == (5, 1)


# DTMF


def test_digits_arrive(wire: Wire) -> None:
    wire.connect()
    wire.alice.session.send_dtmf(STRING)
    wire.advance(5)
    assert wire.bob.digits == STRING
    assert len(wire.alice.all(DigitSent)) == 16
    assert {digit.duration for digit in wire.bob.all(Digit)} == {0.1}
    assert wire.bob.session.stats().lost == 0


def is_event(data: bytes, end: bool | None = None) -> bool:
    return data[1] & 0x7F == 101 and (end is None or bool(data[13] & 0x80) == end)


@pytest.mark.parametrize("seed", range(10))
def test_digits_over_a_lossy_line(seed: int) -> None:
    """Ten sessions of ten strings each: 100 of 100."""
    wire = Wire()
    wire.connect()
    chance = random.Random(seed)
    wire.policy = lambda data: [] if chance.random() < 0.05 else [0.005 + chance.random() * 0.01]
    for _ in range(10):
        wire.alice.session.send_dtmf(STRING)
        wire.advance(4)
    assert wire.bob.digits == STRING * 10
    assert wire.bob.session.stats().lost > 0


def test_digits_whose_ends_are_all_lost() -> None:
    wire = Wire()
    wire.connect()
    wire.policy = lambda data: [] if is_event(data, end=True) else [0.001]
    for _ in range(100):
        wire.alice.session.send_dtmf(STRING)
        wire.advance(4)
    assert wire.bob.digits == STRING * 100


def test_a_digit_under_way_at_the_end_of_the_call() -> None:
    it, _ = listening()
    it.receive_rtp(packet(101, payload=struct.pack("!BBH", 5, 10, 160)), BOB, 1.0)
    assert [o for o in it.end(1.05) if isinstance(o, Digit)] == [Digit("5", 0.02)]


def test_a_peer_without_events() -> None:
    it, _ = listening()
    assert it.takes_events
    it.follow(plan(BOB, dtmf_payload=None), 1.0)
    assert not it.takes_events


# One-way audio


def test_one_way_audio_is_told_once(wire: Wire) -> None:
    wire.connect()
    wire.advance(1)
    wire.policy = lambda data: []
    wire.advance(20)
    assert wire.alice.all(OneWay) == [OneWay(5.0)]
    assert wire.alice.session.stats().one_way
    wire.policy = lambda data: [0.001]
    wire.advance(1)
    wire.policy = lambda data: []
    wire.advance(20)
    assert len(wire.alice.all(OneWay)) == 2


def test_nothing_is_expected_before_the_answer() -> None:
    """Early media need not come."""
    it, _ = listening()
    now = 0.0
    while now < 20:
        assert not any(isinstance(o, OneWay) for o in it.tick(now))
        now += 0.02
    assert not it.stats().one_way
    it.answered(now)
    assert it.stats().one_way  # two seconds are enough at the end of a call


def test_silence_of_a_peer_on_hold_is_no_one_way_audio(wire: Wire) -> None:
    wire.connect()
    wire.alice.session.follow(plan(BOB, receiving=False), wire.now)
    wire.policy = lambda data: []
    wire.advance(20)
    assert not wire.alice.all(OneWay)


# RTCP


def test_reports_tell_the_round_trip_and_the_loss(wire: Wire) -> None:
    wire.connect()
    wire.policy = lambda data: [0.04]
    wire.advance(30)
    reports = [rtcp.parse(o.data)[0] for o in wire.alice.all(SendRtcp)]
    assert 5 <= len(reports) <= 9
    report = reports[-1]
    assert isinstance(report, rtcp.SenderReport)
    at = wire.alice.times(SendRtcp)[-1]
    assert report.info.packets == sum(time <= at for time in wire.alice.times(SendRtp))
    assert report.info.octets == 160 * report.info.packets
    assert report.info.ntp == rtcp.ntp(1_700_000_000.0 + at)
    (block,) = report.blocks
    assert (block.ssrc, block.lost, block.fraction_lost) == (2, 0, 0)
    assert wire.alice.session.stats().round_trip_ms == pytest.approx(80, abs=1)
    assert {o.destination for o in wire.alice.all(SendRtcp)} == {(BOB[0], BOB[1] + 1)}


def test_who_only_listens_sends_receiver_reports(wire: Wire) -> None:
    wire.connect(sending=False)
    wire.bob.session.follow(plan(ALICE), wire.now)
    wire.advance(10)
    (report, names) = rtcp.parse(wire.alice.all(SendRtcp)[-1].data)
    assert isinstance(report, rtcp.ReceiverReport)
    assert names == rtcp.SourceDescription(((1, "p1@lab"),))


def test_the_end_is_told(wire: Wire) -> None:
    wire.connect()
    wire.advance(1)
    (output,) = wire.alice.session.end(wire.now)
    assert isinstance(output, SendRtcp)
    assert rtcp.parse(output.data)[-1] == rtcp.Bye((1,))
    assert wire.alice.session.next_timer() is None
    assert wire.alice.session.tick(wire.now + 1) == []


def test_where_sdp_wants_rtcp() -> None:
    it, _ = listening()
    it.follow(plan(BOB, remote_rtcp=(BOB[0], 9001)), 0.0)
    it.tick(0.0)
    assert [o.destination for o in it.end(0.1)] == [(BOB[0], 9001)]  # type: ignore[union-attr]


def test_rtcp_of_strangers_is_not_read() -> None:
    it, counts = listening()
    it.receive_rtcp(rtcp.build([rtcp.ReceiverReport(5)]), ("192.0.2.99", 5001), 1.0)
    it.receive_rtcp(b"hello", (BOB[0], 5001), 1.0)
    assert counts == {"rtcp_stranger": 1, "rtcp_malformed": 1}


# Recording


def test_a_recording_is_as_long_as_the_clock_says(wire: Wire) -> None:
    wire.connect()
    wire.advance(1)
    wire.alice.session.record("mixed", wire.now)
    wire.advance(2.5)
    rest, seconds = wire.alice.session.stop_recording(wire.now)
    assert seconds == pytest.approx(2.5)
    assert len(wire.alice.recorded + rest) == 2 * 20_000
    assert wire.alice.session.stop_recording(wire.now) == (b"", 0.0)


def test_a_lossy_line_is_recorded_with_its_gaps(wire: Wire) -> None:
    wire.connect()
    lost = {120, 121, 122}
    wire.policy = lambda data: (
        [] if data[8:12] == b"\0\0\0\1" and int.from_bytes(data[2:4]) in lost else [0.001]
    )
    wire.alice.session.play(Tone(1000))
    wire.bob.session.record("received", wire.now)
    wire.advance(2)
    pcm = wire.bob.recorded[800:]
    assert longest_gap(pcm) == pytest.approx(0.06, abs=0.002)
    assert wire.bob.session.stats().lost == 3


# A hostile peer

SOUND = [
    packet(sequence=n, ssrc=77) for n in range(1, 6)
] + [packet(101, 9, payload=struct.pack("!BBH", 3, 10, 160))]  # fmt: skip
REPORT = rtcp.build(
    [
        rtcp.SenderReport(
            77, rtcp.SenderInfo(1 << 60, 5, 6, 7), (rtcp.ReportBlock(1, 2, 3, 4, 5),)
        ),
        rtcp.SourceDescription(((77, "bob"),)),
        rtcp.Bye((77,)),
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A sound packet with bytes changed, cut off, or put in; or mere noise."""
    data = bytearray(draw(st.sampled_from([*SOUND, REPORT])))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, min(len(data), 40)))
        match draw(st.sampled_from(("change", "cut", "put"))):
            case "change" if at < len(data):
                data[at] = draw(st.integers(0, 255))
            case "cut":
                del data[at:]
            case _:
                data[at:at] = draw(st.binary(max_size=8))
    return bytes(data) if draw(st.booleans()) else draw(st.binary(max_size=200))


@settings(max_examples=200)
@given(st.lists(st.tuples(mutated(), st.booleans(), st.booleans()), min_size=50, max_size=50))
def test_10_000_mutated_packets_leave_the_session_serving(
    packets: list[tuple[bytes, bool, bool]],
) -> None:
    it, _ = listening()
    it.answered(0.0)
    it.record("both", 0.0)
    it.play(Echo())
    now = 0.0
    for data, is_rtp, known in packets:
        now += 0.01
        source = BOB if known else ("192.0.2.66", 6)
        (it.receive_rtp if is_rtp else it.receive_rtcp)(data, source, now)
        it.tick(now)
    # It still hears its peer, sends on its schedule, and reports sense.
    before, sent = it.stats().received, it.stats().sent
    for n in range(10):
        it.receive_rtp(packet(sequence=40_000 + n, ssrc=4242), BOB, now)
        now += 0.02
        it.tick(now)
    stats = it.stats()
    assert stats.received == before + 10
    assert stats.sent == sent + 10
    assert stats.mos is not None
    assert 1 <= stats.mos <= 4.5
    pcm, seconds = it.stop_recording(now)
    assert len(pcm) < 100_000
    assert seconds == pytest.approx(now)
    it.end(now)
