"""A listener of a load run that keeps all it is told."""

from __future__ import annotations

import threading
from collections import Counter

from sipherd.load.records import CallAttempt, RegisterAttempt, RunEvent


class Heard:
    """A listener that keeps all, and lets a test wait for a condition."""

    def __init__(self) -> None:
        self.at = 0.0
        self.started: list[CallAttempt] = []
        self.answered = 0
        self.attempts: list[CallAttempt] = []
        self.events: list[RunEvent] = []
        self.ticks: list[float] = []
        self.thread: threading.Thread | None = None

    def on_begin(self, at: float) -> None:
        self.at = at
        self.thread = threading.current_thread()

    def on_started(self, attempt: CallAttempt, t: float) -> None:
        self.started.append(attempt)

    def on_answered(self) -> None:
        self.answered += 1

    def on_attempt(self, attempt: CallAttempt, t: float) -> None:
        assert threading.current_thread() is self.thread
        self.attempts.append(attempt)

    def on_event(self, event: RunEvent) -> None:
        self.events.append(event)

    def on_register(self, attempt: RegisterAttempt) -> None:
        raise AssertionError("nobody registers here")

    def on_tick(self, t: float) -> None:
        self.ticks.append(t)

    def numbers_started(self) -> set[int]:
        return {attempt.number for attempt in self.started}

    def outcomes(self) -> Counter[str]:
        return Counter(attempt.outcome for attempt in self.attempts)
