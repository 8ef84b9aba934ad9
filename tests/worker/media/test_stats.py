"""Sequence numbers and jitter, as the RFC's own algorithms have them."""

import pytest

from sipherd.worker.media.stats import Arrival, StreamStats


def heard(*sequences, octets=160):
    stats = StreamStats(5)
    return stats, [stats.count(sequence & 0xFFFF, octets) for sequence in sequences]


def test_in_order():
    stats, arrivals = heard(*range(10))
    assert set(arrivals) == {Arrival.NEW}
    assert (stats.received, stats.expected, stats.lost, stats.octets) == (10, 10, 0, 1600)


def test_a_gap_is_loss_until_it_is_filled():
    stats, _ = heard(1, 2, 5)
    assert stats.lost == 2
    assert stats.count(3, 160) is Arrival.MISORDERED
    assert (stats.lost, stats.received, stats.misordered) == (1, 4, 1)


def test_a_duplicate_does_not_make_up_for_a_loss():
    stats, arrivals = heard(1, 2, 2, 4, 1)
    assert arrivals.count(Arrival.DUPLICATE) == 2
    assert (stats.received, stats.lost, stats.duplicates) == (3, 1, 2)


def test_numbers_wrap():
    stats, arrivals = heard(*range(65530, 65550))
    assert set(arrivals) == {Arrival.NEW}
    assert (stats.expected, stats.lost) == (20, 0)
    assert stats.count(65533, 160) is Arrival.DUPLICATE


def test_a_packet_before_the_first():
    _, arrivals = heard(0, 65535, 1)
    assert arrivals == [Arrival.NEW, Arrival.DUPLICATE, Arrival.NEW]


def test_a_jump_needs_a_second_packet():
    stats, arrivals = heard(1, 2, 30000, 3, 40000, 40001, 40002)
    assert arrivals == [
        Arrival.NEW,
        Arrival.NEW,
        Arrival.JUMP,
        Arrival.NEW,
        Arrival.JUMP,
        Arrival.NEW,
        Arrival.NEW,
    ]
    assert (stats.received, stats.expected, stats.lost) == (5, 5, 0)


def test_jitter_of_a_steady_stream_is_zero():
    stats = StreamStats(5)
    for n in range(50):
        stats.time(2**32 - 2000 + 160 * n, 100 + 0.02 * n)
    assert stats.jitter == pytest.approx(0, abs=1e-9)
    assert stats.too_late == 0


def test_jitter_by_the_formula():
    """§A.8 by hand: J += (|D| - J) / 16."""
    stats = StreamStats(5)
    expected, before = 0.0, None
    for n, delay in enumerate([0.01, 0.03, 0.01, 0.02, 0.05, 0.01]):
        stats.time(160 * n, 0.02 * n + delay)
        if before is not None:
            expected += (abs(delay - before) - expected) / 16
        before = delay
    assert stats.jitter == pytest.approx(expected)


def test_what_the_jitter_buffer_would_miss():
    stats = StreamStats(5)
    for n in range(100):
        stats.time(160 * n, 0.02 * n + (0.1 if n == 50 else 0.0))
    assert stats.too_late == 1


def test_a_slow_clock_is_no_lateness():
    """A sender that is 100 ppm slow is 360 ms behind after an hour."""
    stats = StreamStats(5)
    for n in range(180_000):
        stats.time(160 * n, 0.02 * n * 1.0001)
    assert stats.too_late == 0


def test_a_pause_is_no_lateness():
    stats = StreamStats(5)
    stats.time(0, 0.0)
    stats.restart_time()
    stats.time(160, 9.0)
    assert (stats.jitter, stats.too_late) == (0, 0)


def test_the_report_block():
    stats, _ = heard(*range(100, 110))
    stats.heard_report(0xABCD, 50.0)
    block = stats.report(51.5)
    assert (block.ssrc, block.fraction_lost, block.lost) == (5, 0, 0)
    assert block.highest & 0xFFFF == 109
    assert (block.last_report, block.delay) == (0xABCD, 98304)
    for sequence in range(115, 120):
        stats.count(sequence, 160)
    block = stats.report(52)
    assert (block.fraction_lost, block.lost) == (128, 5)  # five of ten since the last report
    assert stats.report(53).fraction_lost == 0


def test_duplicates_make_the_loss_of_a_report_negative():
    """§6.4.1: received counts duplicates."""
    stats, _ = heard(1, 1, 1)
    assert stats.report(1.0).lost == -2
