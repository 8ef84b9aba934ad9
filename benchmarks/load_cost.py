"""What a load run costs: the figures that `sipherd/load/capacity.py` counts with, measured.

    python benchmarks/load_cost.py [--rate 20] [--seconds 30] [--phones 20] [--json]

A private herd whose phones call each other, signalling only, with the mix of `examples/load.yaml`;
and after that so many calls that are up at the same time. Processor time is what the kernel has
charged to the processes: other work on this box adds to it only as far as it spoils the caches.
Memory is private memory (USS). Also how late the loops were, which is what a verdict looks at.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from sipherd import Herd
from sipherd.client import Connection
from sipherd.load.gates import parse
from sipherd.load.kernel import offspring, usage
from sipherd.load.metrics import tally
from sipherd.load.pairing import pairs_of
from sipherd.load.profile import Arrival, Entry, HoldTime, LoadProfile
from sipherd.load.records import BoxSample, CallAttempt, PhoneSample, RegisterAttempt, RunEvent
from sipherd.load.runner import Runner
from sipherd.load.sampling import Sampler, Sampling
from sipherd.load.verdict import give

_TICKS = os.sysconf("SC_CLK_TCK")

MIX = (
    Entry(after=0.2, weight=60),
    Entry(kind="callee_hangs_up", weight=10),
    Entry(kind="busy", weight=10),
    Entry(kind="no_answer", after=2.0, weight=10),
    Entry(kind="cancel", after=0.5, weight=10),
)


class Attempts:
    """A listener that keeps what became of the calls."""

    def __init__(self, begun: Any) -> None:
        self.attempts: list[CallAttempt] = []
        self.on_begin = begun

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


def processor_seconds(pid: int) -> float:
    """What a process has been charged with so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def charged(herd: Herd) -> dict[str, float]:
    """Processor seconds so far, by who has used them."""
    phones = [phone.info().pid for phone in herd]
    return {
        "phones": sum(map(processor_seconds, phones)),
        "supervisor": processor_seconds(herd.pid),
        "runner": time.process_time(),
    }


def of_phones(herd: Herd) -> dict[str, float]:
    """What phones take, the median of each resource."""
    taken = [found for phone in herd if (found := usage(phone.info().pid)) is not None]
    return {
        "memory": statistics.median(each.memory for each in taken),
        "descriptors": max(each.fds for each in taken),
        "threads": max(each.threads for each in taken),
    }


def run(herd: Herd, directory: Path, profile: LoadProfile) -> dict[str, Any]:
    """A run, what it has cost, and its verdict."""
    connection = Connection(herd.name, directory)
    boxes: list[BoxSample] = []
    phones: list[PhoneSample] = []
    infos = [phone.info() for phone in herd]
    sampler = Sampler(connection)

    def begun(at: float) -> None:
        sampling.start()

    heard = Attempts(begun)
    pairs = pairs_of(profile, infos)
    runner = Runner(
        herd.name, directory, profile, pairs, infos, heard, count_leftovers=sampler.leftovers
    )
    sampling = Sampling(
        sampler,
        began=time.monotonic(),
        loop_lag=runner.take_lag,
        on_sample=boxes.append,
        on_phones=phones.extend,
    )
    before = charged(herd)
    result = runner.run()
    sampling.stop()
    after = charged(herd)
    connection.close()
    calls = len(heard.attempts)
    legs = 2 * calls
    verdict = give(
        tally(heard.attempts),
        [parse("as_intended >= 99")],
        box=boxes,
        phones=phones,
        leftovers=result.leftovers,
    )
    cost = {who: (after[who] - before[who]) / legs * 1000 for who in before}
    return {
        "calls": calls,
        "milliseconds of a leg": cost,
        "milliseconds of a leg in all": sum(cost.values()),
        "worst lag in ms": {
            "runner": 1000 * max(box.loop_lag for box in boxes),
            "supervisor": 1000 * max(box.supervisor_lag for box in boxes),
            "phones": 1000 * max(box.phone_lag for box in boxes),
        },
        "samples": len(boxes),
        "above 100 ms": {
            "runner": sum(box.loop_lag > 0.1 for box in boxes),
            "supervisor": sum(box.supervisor_lag > 0.1 for box in boxes),
            "phones": sum(box.phone_lag > 0.1 for box in boxes),
        },
        "processors busy, median": statistics.median(box.cpu for box in boxes),
        "verdict": verdict.kind,
        "reasons": [finding.text for finding in verdict.reasons],
    }


def of_legs(herd: Herd, legs: int) -> float:
    """Bytes of one leg that is up."""
    before = sum(found.memory for phone in herd if (found := usage(phone.info().pid)))
    phones = list(herd)
    calls = []
    for n in range(legs // 2):
        caller, callee = phones[n % len(phones)], phones[(n + 1) % len(phones)]
        calls.append(caller.call(callee))
        callee.incoming(timeout=10).answer()
        calls[-1].wait_answered(timeout=10)
    after = sum(found.memory for phone in herd if (found := usage(phone.info().pid)))
    for call in calls:
        call.hang_up(timeout=10)
    return (after - before) / legs


def measure(directory: Path, phones: int, rate: float, seconds: float) -> dict[str, Any]:
    """All of it."""
    specs: list[dict[str, Any]] = [
        {"name": f"phone-{n}", "number": str(1000 + n), "media": "none", "max_calls": None}
        for n in range(phones)
    ]
    profile = LoadProfile(
        callers=("phone-*",),
        callees=("phone-*",),
        arrival=Arrival(rate=rate),
        duration=seconds,
        hold=HoldTime(kind="uniform", mean=2.0, spread=1.0),
        mix=MIX,
    )
    with Herd(specs, runtime_dir=directory) as herd:
        time.sleep(1)
        idle = of_phones(herd)
        supervisor = usage(herd.pid)
        assert supervisor is not None
        pids = [herd.pid, *offspring(herd.pid)]
        found: dict[str, Any] = {
            "idle phone": idle,
            "descriptors of the supervisor": supervisor.fds / phones,
            "threads of the herd": sum(taken.threads for pid in pids if (taken := usage(pid))),
            "run": run(herd, directory, profile),
            "phone after the run": of_phones(herd),
        }
        found["bytes of a leg"] = of_legs(herd, 40 * phones)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a load run costs.")
    parser.add_argument("--rate", type=float, default=20, help="calls per second (default: 20)")
    parser.add_argument("--seconds", type=float, default=30, help="of the run (default: 30)")
    parser.add_argument("--phones", type=int, default=20, help="how many (default: 20)")
    parser.add_argument("--json", action="store_true", help="one object in place of lines")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        found = measure(Path(directory), options.phones, options.rate, options.seconds)
    if options.json:
        print(json.dumps(found))
        return
    for what, value in found.items():
        for which, figure in value.items() if isinstance(value, dict) else [("", value)]:
            print(f"{what:32}{which:32}{figure}")


if __name__ == "__main__":
    main()
