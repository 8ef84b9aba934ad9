"""A long run over real phones: they must not grow, and nothing may be left of their calls."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import pytest

from sipherd.load.gates import parse
from sipherd.load.herds import RunHerd
from sipherd.load.metrics import tally
from sipherd.load.pairing import pairs_of
from sipherd.load.profilefile import load_profile
from sipherd.load.records import (
    BoxSample,
    CallAttempt,
    Leftovers,
    PhoneSample,
    RegisterAttempt,
    RunEvent,
)
from sipherd.load.runner import Runner
from sipherd.load.sampling import Sampler, Sampling
from sipherd.load.soak import slopes
from sipherd.load.verdict import give
from sipherd.protocol.herdfile import load_herd_file

SOAK = Path(__file__).parents[3] / "examples" / "soak.yaml"
WARM_UP = 120.0


class Heard:
    """A listener that keeps what became of the calls."""

    def __init__(self) -> None:
        self.attempts: list[CallAttempt] = []
        self.sampling: Sampling | None = None

    def on_begin(self, at: float) -> None:
        assert self.sampling is not None
        self.sampling.start()

    def on_started(self, attempt: CallAttempt, t: float) -> None:
        pass

    def on_answered(self) -> None:
        pass

    def on_attempt(self, attempt: CallAttempt, t: float) -> None:
        self.attempts.append(attempt)

    def on_event(self, event: RunEvent) -> None:
        pass

    def on_register(self, attempt: RegisterAttempt) -> None:
        pass

    def on_tick(self, t: float) -> None:
        pass


# Growth is judged from ten minutes on.  The whole hour is `sipherd load examples/soak.yaml`.
@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_phones_do_not_grow_and_nothing_is_left(runtime_dir: Path) -> None:
    profile = msgspec.structs.replace(
        load_profile(SOAK, os.environ), duration=WARM_UP + 660, warm_up=WARM_UP
    )
    heard = Heard()
    boxes: list[BoxSample] = []
    phones: list[PhoneSample] = []
    herd = RunHerd.private(load_herd_file(SOAK, os.environ), runtime_dir)
    try:
        infos = herd.phones()
        pairs = pairs_of(profile, infos)
        sampler = Sampler(herd.connection)
        runner = Runner(
            herd.name,
            runtime_dir,
            profile,
            pairs,
            infos,
            heard,
            media=profile.media,
        )
        heard.sampling = Sampling(
            sampler,
            began=time.monotonic(),
            loop_lag=runner.take_lag,
            on_sample=boxes.append,
            on_phones=phones.extend,
        )
        result = runner.run()
        heard.sampling.stop()
        left = sampler.leftovers()
    finally:
        herd.close()
    assert result.state == "finished"
    assert left == Leftovers()
    found = list(slopes(phones, since=WARM_UP))
    assert len(found) == 3 * len(infos), "each phone is one process from beginning to end"
    assert all(slope.seconds >= 600 for slope in found)
    gates = map(parse, profile.gates)
    verdict = give(
        tally(heard.attempts),
        gates,
        box=boxes,
        phones=phones,
        leftovers=left,
        since=WARM_UP,
    )
    assert not verdict.failed
