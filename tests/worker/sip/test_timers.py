from sipherd.worker.sip.timers import Timers


def drain(timers, now):
    ran = 0
    while (callback := timers.pop_due(now)) is not None:
        callback()
        ran += 1
    return ran


def test_in_order_of_time_then_of_start():
    timers, ran = Timers(), []
    for when, name in ((2.0, "c"), (1.0, "a"), (1.0, "b")):
        timers.start(when, lambda name=name: ran.append(name))
    assert timers.next() == 1.0
    drain(timers, 1.0)
    assert ran == ["a", "b"]
    drain(timers, 5.0)
    assert ran == ["a", "b", "c"]
    assert timers.next() is None


def test_a_cancelled_timer_never_runs_and_is_not_the_next():
    timers = Timers()
    first = timers.start(1.0, lambda: None)
    timers.start(2.0, lambda: None)
    first.cancel()
    first.cancel()
    assert not first.active
    assert timers.next() == 2.0
    assert len(timers) == 1
    assert drain(timers, 9.0) == 1


def test_cancelling_a_timer_that_has_run_changes_nothing():
    timers = Timers()
    timer = timers.start(1.0, lambda: None)
    drain(timers, 1.0)
    timer.cancel()
    assert len(timers) == 0


def test_cancelled_timers_give_their_memory_back():
    """Long timers, cancelled at once: the usual fate of Timers B, F and H."""
    timers = Timers()
    for n in range(10_000):
        timers.start(n + 32.0, lambda: None).cancel()
        assert timers.allocated <= 2 * len(timers) + 32


def test_the_heap_keeps_its_order_when_it_is_purged():
    timers, ran = Timers(), []
    kept = []
    for n in range(500):
        timer = timers.start(float(-n), lambda n=n: ran.append(-n))
        if n % 5:
            timer.cancel()
        else:
            kept.append(-n)
    drain(timers, 0.0)
    assert ran == sorted(kept)
