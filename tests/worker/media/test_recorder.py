"""What is recorded, sample by sample."""

from array import array

import pytest

from sipherd.worker.media.recorder import Recorder


def frame(value):
    return array("h", [value] * 160).tobytes()


def values(pcm, channels=1):
    """The value of each 20 ms, which must be the same throughout."""
    samples = array("h", pcm)
    assert len(samples) % (160 * channels) == 0
    found = []
    for start in range(0, len(samples), 160 * channels):
        piece = samples[start : start + 160 * channels]
        per_channel = [set(piece[n::channels]) for n in range(channels)]
        assert all(len(one) == 1 for one in per_channel)
        value = tuple(one.pop() for one in per_channel)
        found.append(value if channels > 1 else value[0])
    return found


def recorded(packets, until, what="received"):
    """``packets``: (arrival, number, value), the number giving the time stamp."""
    recorder = Recorder(what, 0.0)
    pcm = b""
    for arrival, number, value in packets:
        recorder.heard(2**32 - 320 + 160 * number, frame(value), arrival)
        pcm += recorder.take(arrival)
    pcm += recorder.take(until, all=True)
    assert recorder.seconds == pytest.approx(until)
    return values(pcm)


def test_in_order():
    packets = [(0.02 * n, n, n + 1) for n in range(20)]
    assert recorded(packets, 0.4) == list(range(1, 21))


def test_jitter_leaves_no_mark():
    packets = [(0.02 * n + 0.015 * (n % 3 == 1), n, n + 1) for n in range(20)]
    assert recorded(packets, 0.4) == list(range(1, 21))


def test_a_loss_is_silence_of_its_length():
    packets = [(0.02 * n, n, n + 1) for n in range(20) if n not in (4, 5)]
    assert recorded(packets, 0.4) == [1, 2, 3, 4, 0, 0, *range(7, 21)]


def test_misordered_packets_find_their_place():
    packets = [(0.0, 0, 1), (0.02, 2, 3), (0.04, 1, 2), (0.06, 3, 4), (0.14, 4, 5)]
    assert recorded(packets, 0.1) == [1, 2, 3, 4, 5]


def test_what_is_later_than_the_wait_is_left_out():
    packets = [(0.02 * n, n, n + 1) for n in range(20) if n != 2] + [(0.4, 2, 3)]
    assert recorded(packets, 0.4) == [1, 2, 0, *range(4, 21)]


def test_time_stamps_far_off_the_clock_are_another_time_line():
    recorder = Recorder("received", 0.0)
    recorder.heard(1000, frame(1), 0.0)
    recorder.heard(900_000_000, frame(2), 0.02)
    recorder.heard(900_000_160, frame(3), 0.04)
    assert values(recorder.take(0.06, all=True)) == [1, 2, 3]


def test_hostile_time_stamps_take_no_memory():
    recorder = Recorder("received", 0.0)
    for n in range(1000):
        recorder.heard(n * 123_456_789, frame(1), n * 0.02)
        recorder.take(n * 0.02)
        assert len(recorder._heard._pcm) < 60_000


def test_a_peer_that_began_anew():
    recorder = Recorder("received", 0.0)
    recorder.heard(5000, frame(1), 0.0)
    recorder.restart()
    recorder.heard(5320, frame(2), 0.1)
    assert values(recorder.take(0.12, all=True)) == [1, 0, 0, 0, 0, 2]


def both(what):
    recorder = Recorder(what, 10.0)
    recorder.heard(0, frame(100), 10.0)
    recorder.sent(10.02, frame(30))
    recorder.sent(10.0, frame(7))
    return recorder, recorder.take(10.06, all=True)


def test_sent():
    recorder, pcm = both("sent")
    assert (recorder.channels, values(pcm)) == (1, [7, 30, 0])


def test_received():
    recorder, pcm = both("received")
    assert (recorder.channels, values(pcm)) == (1, [100, 0, 0])


def test_mixed():
    recorder, pcm = both("mixed")
    assert (recorder.channels, values(pcm)) == (1, [107, 30, 0])


def test_both_on_two_channels():
    recorder, pcm = both("both")
    assert (recorder.channels, values(pcm, 2)) == (2, [(100, 7), (0, 30), (0, 0)])


def test_a_mix_that_is_too_loud_is_clipped():
    recorder = Recorder("mixed", 0.0)
    recorder.heard(0, frame(30000), 0.0)
    recorder.sent(0.0, frame(30000))
    assert values(recorder.take(0.02, all=True)) == [32767]


def test_nothing_is_taken_before_its_time():
    recorder = Recorder("received", 0.0)
    recorder.heard(0, frame(1), 0.0)
    assert recorder.take(0.1) == b""
    assert recorder.take(0.21) == frame(1)[:160]
