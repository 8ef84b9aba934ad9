"""The schedule of what is sent."""

import pytest

from sipherd.worker.media import rtp
from sipherd.worker.media.outputs import SendRtp
from sipherd.worker.media.sender import Identity, Sender

PEER = ("192.0.2.2", 5000)


def packets(outputs):
    return [rtp.parse(output.data) for output in outputs if isinstance(output, SendRtp)]


def sender():
    return Sender(Identity(ssrc=9, sequence=65534, timestamp=2**32 - 160))


def test_50_packets_a_second_without_drift():
    it = sender()
    it.start(100.0)
    sent, now = [], 100.0
    while now < 160:
        sent += packets(it.tick(now, PEER))
        due = it.next_timer()
        # A loop is always a little late, and never on time again by itself.
        now = due + 0.0007
    assert len(sent) == 3000
    assert [p.sequence for p in sent[:3]] == [65534, 65535, 0]
    assert [p.timestamp for p in sent[:3]] == [2**32 - 160, 0, 160]
    assert it.next_timer() == pytest.approx(160.0)
    assert it.late == 0


def test_nothing_is_sent_before_its_time():
    it = sender()
    it.start(100.0)
    assert len(packets(it.tick(100.0, PEER))) == 1
    assert packets(it.tick(100.0199, PEER)) == []
    assert len(packets(it.tick(it.next_timer(), PEER))) == 1


def test_a_loop_that_was_late_catches_up():
    it = sender()
    it.start(0.0)
    it.tick(0.0, PEER)
    caught_up = packets(it.tick(0.081, PEER))
    assert [p.timestamp for p in caught_up] == [0, 160, 320, 480]
    assert it.late == 3  # 61, 41 and 21 ms behind


def test_what_is_too_far_behind_is_left_out():
    it = sender()
    it.start(0.0)
    it.tick(0.0, PEER)
    burst = packets(it.tick(2.0, PEER))
    assert len(burst) == 5
    assert it.left_out == 95
    # The time stamps show the gap, the sequence numbers no loss.
    assert [p.sequence for p in burst] == [65535, 0, 1, 2, 3]
    assert burst[-1].timestamp == 100 * 160 - 160
    assert it.next_timer() == pytest.approx(2.02)


def test_a_pause_keeps_the_schedule_and_marks_its_end():
    it = sender()
    it.start(0.0)
    assert [p.marker for p in packets(it.tick(0.02, PEER))] == [True, False]
    it.stop()
    assert it.next_timer() is None
    assert it.tick(1.0, PEER) == []
    it.start(5.013)
    assert it.next_timer() == pytest.approx(5.02)
    (first,) = packets(it.tick(5.02, PEER))
    assert (first.marker, first.sequence) == (True, 0)
    assert first.timestamp == 5.02 * 8000 - 160
    assert it.left_out == 0


def test_started_twice_is_started_once():
    it = sender()
    it.start(0.0)
    it.tick(0.0, PEER)
    it.start(0.01)
    assert it.next_timer() == pytest.approx(0.02)


def test_the_codec_and_its_number():
    it = sender()
    it.use("PCMA", 98, None)
    it.start(0.0)
    (packet,) = packets(it.tick(0.0, PEER))
    assert (packet.payload_type, packet.payload) == (98, b"\xd5" * 160)


def test_digits_take_the_place_of_audio_in_one_sequence():
    it = sender()
    it.use("PCMU", 0, 101)
    it.dtmf.send("1")
    it.start(0.0)
    sent = [packets(it.tick(0.02 * n, PEER))[0] for n in range(12)]
    assert [p.payload_type for p in sent] == [101] * 8 + [0] * 4
    assert len({p.timestamp for p in sent[:8]}) == 1
    assert sent[8].timestamp == (2**32 - 160 + 8 * 160) % 2**32
    assert [p.sequence for p in sent] == [(65534 + n) % 65536 for n in range(12)]
    assert [p.marker for p in sent] == [True] + [False] * 11


def test_each_identity_is_another():
    ids = [Identity.fresh() for _ in range(50)]
    assert len({i.ssrc for i in ids}) == len({i.timestamp for i in ids}) == 50
    assert all(0 <= i.sequence < 32768 for i in ids)
