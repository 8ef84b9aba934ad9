"""Token buckets, by a clock of the test's own."""

from __future__ import annotations

from sipherd.supervisor.pace import Bucket, Sparse


def test_a_burst_and_then_the_rate() -> None:
    bucket = Bucket(rate=10, size=5)
    assert [bucket.take(1, 0.0) for _ in range(6)] == [True] * 5 + [False]
    assert bucket.take(1, 0.1)
    assert not bucket.take(1, 0.1)
    # However long nothing is taken, no more than the size is kept.
    assert [bucket.take(1, 1000.0) for _ in range(6)] == [True] * 5 + [False]


def test_what_is_too_much_takes_nothing() -> None:
    bucket = Bucket(rate=1, size=5)
    assert not bucket.take(6, 0.0)
    assert bucket.take(5, 0.0)


def test_lines_that_were_left_out_are_counted() -> None:
    sparse = Sparse(rate=1, size=2)
    assert [sparse.line(0.0) for _ in range(5)] == [{}, {}, None, None, None]
    assert sparse.line(1.0) == {"left_out": 3}
    assert sparse.line(2.0) == {}
