"""One run from its beginning to its verdict: runner, samples, signals, and the ending."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import msgspec

from ..client import Connection
from ..protocol.messages import PhoneInfo
from .arrivals import number_of_calls
from .environment import environment
from .herds import RunHerd
from .pairing import Pairs
from .profile import LoadProfile
from .prometheus import RunMetrics
from .recorder import Recorder
from .records import Leftovers, RunFacts
from .run_report import Reading, read
from .runner import Runner, RunResult
from .sampling import Sampler, Sampling
from .store import RunReader, RunWriter, StoreError
from .verdict import Exit
from .watch import Watch

__all__ = ["Ended", "Plan", "conduct"]


class Plan(NamedTuple):
    """All that a run is made of."""

    profile: LoadProfile
    pairs: Pairs
    herd: RunHerd
    phones: Sequence[PhoneInfo]
    directory: Path
    """This process has its lock."""
    watch: Watch
    metrics: RunMetrics | None = None
    """For Prometheus."""
    forced: Sequence[str] = ()
    """What the box lacks for it, a line each; it is done all the same."""


class Ended(NamedTuple):
    """What a run came to."""

    reading: Reading
    exit: int
    """As a command ends with it."""


def conduct(plan: Plan) -> Ended:
    """Do the run, and return when its verdict is written.

    Raises:
        StoreError: its directory can't be written, before or during the run.
        SipherdError: the herd can't be joined.
    """
    profile = plan.profile
    facts = RunFacts(
        name=plan.directory.name,
        started_at=time.time(),
        profile=msgspec.to_builtins(profile),
        environment=environment() | ({"forced": list(plan.forced)} if plan.forced else {}),
        herd=plan.herd.name,
        gates=profile.gates,
        phones=tuple(phone.name for phone in plan.phones),
    )
    signals = _Signals()
    writer = RunWriter(plan.directory, facts)
    try:
        with ExitStack() as stack:
            result, recorder = _run(plan, facts, writer, signals, stack)
        facts = msgspec.structs.replace(
            recorder.facts,
            state=result.state,
            ended=result.ended,
            leftovers=result.leftovers,
            interrupted=_interrupted(result, signals, profile),
        )
        writer.write_facts(facts)
        writer.close()
        with RunReader(plan.directory) as reader:
            reading = read(reader)
        assert reading.verdict is not None
        facts = msgspec.structs.replace(facts, verdict=msgspec.to_builtins(reading.verdict))
        writer.write_facts(facts)
    except BaseException as error:
        with suppress(StoreError):
            writer.close()
        if not isinstance(error, OSError | StoreError):
            raise
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise StoreError(
            f"{plan.directory}: the run was ended, for it can't be kept any more: {why}; "
            "`sipherd report` shows what was written before"
        ) from error
    if signals.ended_by == "Ctrl-C":
        return Ended(reading, Exit.INTERRUPTED)
    if result.state == "interrupted" and not signals.ended_by:
        return Ended(reading, Exit.BROKEN)
    return Ended(reading, reading.verdict.exit)


def _run(
    plan: Plan,
    facts: RunFacts,
    writer: RunWriter,
    signals: _Signals,
    stack: ExitStack,
) -> tuple[RunResult, Recorder]:
    profile = plan.profile
    counting = Connection(plan.herd.name, plan.herd.directory)
    stack.callback(counting.close)
    # Calls of others at other phones of the herd are none that the run has left over.
    called = {*plan.pairs.callers, *(callee.phone for callee in plan.pairs.callees)} - {""}
    sampler = Sampler(counting, called | {entry.to for entry in profile.mix if entry.to})
    sampling: list[Sampling] = []

    def begun() -> None:
        looking = Sampling(
            sampler,
            began=time.monotonic() - runner.now(),
            loop_lag=runner.take_lag,
            on_sample=recorder.on_sample,
            on_phones=recorder.on_phones,
        )
        sampling.append(looking)
        looking.start()

    def stop_sampling() -> None:
        for looking in sampling:
            looking.stop()

    def leftovers() -> Leftovers:
        stop_sampling()  # nobody else may use the sampler
        return sampler.leftovers()

    recorder = Recorder(
        writer,
        facts,
        profile,
        number_of_calls(profile),
        plan.watch,
        plan.metrics,
        phase=lambda: runner.phase,
        begun=begun,
    )
    runner = Runner(
        plan.herd.name,
        plan.herd.directory,
        profile,
        plan.pairs,
        plan.phones,
        recorder,
        media=_media(profile),
        count_leftovers=leftovers,
    )
    stack.callback(_close, plan.watch)
    try:
        with signals.steer(runner):
            result = runner.run()
    finally:
        stop_sampling()
    recorder.finish(result.ended)
    return result, recorder


def _close(watch: Watch) -> None:
    with suppress(OSError):  # nobody may be there to see it
        watch.close()


class _Signals:
    """What signals tell a run, as long as it goes on."""

    def __init__(self) -> None:
        self.ended_by = ""
        """Who ended the run at once: a signal's name, or Ctrl-C."""

    @contextmanager
    def steer(self, runner: Runner) -> Iterator[None]:
        """SIGUSR1, SIGHUP and Ctrl-C drain; Ctrl-C while it drains, and SIGTERM, end it now."""

        interrupted = False

        def drain(number: int, frame: FrameType | None) -> None:
            runner.drain()

        def now(number: int, frame: FrameType | None) -> None:
            self.ended_by = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
            runner.stop_now()

        def interrupt(number: int, frame: FrameType | None) -> None:
            nonlocal interrupted
            # While it drains by itself, there is nothing else that could be meant.
            (now if interrupted or runner.phase == "draining" else drain)(number, frame)
            interrupted = True

        handlers = {signal.SIGUSR1: drain, signal.SIGTERM: now, signal.SIGINT: interrupt}
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
            handlers[signal.SIGHUP] = drain
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _interrupted(result: RunResult, signals: _Signals, profile: LoadProfile) -> str:
    """How the run was cut short; empty if it was not."""
    if result.state != "interrupted":
        return ""
    of = "" if profile.seconds is None else f" of {profile.seconds:g} s"
    if signals.ended_by:
        return f"the run was ended by {signals.ended_by} after {result.ended:.1f} s{of}"
    return f"{result.why or 'the herd was gone'}, after {result.ended:.1f} s{of}"


def _media(profile: LoadProfile) -> str:
    """As PlayAudio takes it."""
    if profile.media == "none":
        return ""
    if profile.media.startswith("tone:"):
        return profile.media
    return str(Path(profile.media).resolve())
