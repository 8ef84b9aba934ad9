"""How long a phone is away when its process is killed."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Iterator

import pytest

from sipherd import Herd
from sipherd.protocol.events import PhoneMoved
from sipherd.protocol.states import PhoneState


def kill_one_after_the_other(herd: Herd, kills: int, gap: float) -> Iterator[float]:
    """Kill phones in turn, ``gap`` seconds apart; seconds from SIGKILL to READY of each."""
    pids = {phone.name: phone.info().pid for phone in herd}
    names = list(pids)
    with herd.events(timeout=20.0) as events:
        for number in range(kills):
            name = names[number % len(names)]
            begin = time.monotonic()
            os.kill(pids[name], signal.SIGKILL)
            for event in events:
                body = event.body
                if isinstance(body, PhoneMoved) and body.state is PhoneState.READY:
                    assert event.phone == name
                    pids[name] = event.pid
                    yield event.t - begin
                    break
            time.sleep(max(0.0, begin + gap - time.monotonic()))


def phones(count: int) -> list[dict[str, object]]:
    return [{"name": f"p{n}", "media": "none"} for n in range(count)]


def test_a_killed_phone_is_back_within_a_blink() -> None:
    with Herd(phones(5)) as herd:
        took = list(kill_one_after_the_other(herd, 5, 0.0))
        assert {phone.info().restarts for phone in herd} == {1}
    # Generous: this box may have other things to do.  What it takes is for the soak test to tell.
    assert statistics.median(took) < 1.0


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_two_hundred_kills_spread_over_fifty_phones(capsys: pytest.CaptureFixture[str]) -> None:
    """At most one per phone in 30 s: each restart is the first of its window."""
    with Herd(phones(50)) as herd:
        took = sorted(kill_one_after_the_other(herd, 200, 30.5 / 50))
        assert herd.info().counters["phone_restarts"] == 200
        assert herd.info().states == {"ready": 50}
    median, p99 = statistics.median(took), took[round(0.99 * len(took)) - 1]
    with capsys.disabled():
        print(
            f"\nSIGKILL to READY, {len(took)} kills: median {median * 1000:.1f} ms, "
            f"p99 {p99 * 1000:.1f} ms, max {took[-1] * 1000:.1f} ms"
        )
    assert median < 0.5
    assert p99 < 2.0
