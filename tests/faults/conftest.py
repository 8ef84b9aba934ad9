"""A herd to do harm to, with bystanders that must not notice."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from faultmatrix import PROPERTY, Measured
from peers.conftest import StartHerd, start_herd
from peers.herd import HerdProcess
from sipherd import Call, Event, Herd, Phone
from sipherd.protocol.events import AnyBody

__all__ = ["VICTIM", "Trial", "ill", "start_herd"]

B = TypeVar("B", bound=AnyBody)

BYSTANDERS: list[dict[str, Any]] = [
    {"name": "carol", "media": "none"},
    {"name": "dave", "media": "none", "on_incoming": {"answer_after": 0}},
]
VICTIM: dict[str, Any] = {"name": "alice", "media": "none"}


BENT = Path(__file__).parent / "bent"


def ill(illness: str) -> list[str]:
    """The command of a herd whose alice has this illness."""
    return [sys.executable, str(BENT / "up.py"), illness]


class Trial:
    """One herd, one fault, and what was measured."""

    def __init__(self, start: StartHerd) -> None:
        self._start = start
        self._client: Herd | None = None
        self._process: HerdProcess | None = None
        self._calls: list[Call] = []
        self._harmed = self._at = 0.0
        self.measured = Measured()
        self.killed = False
        """The supervisor was killed."""

    def herd(self, *victims: dict[str, Any], **options: Any) -> Herd:
        """Bring a herd up, and the bystanders into a call; `victims` are phones to harm."""
        options["keys"] = {"faults": "allowed"} | options.get("keys", {})
        self._process = self._start([*(victims or [VICTIM]), *BYSTANDERS], **options)
        self._client = Herd.connect(self._process.name)
        self._calls.append(self._client["carol"].call("dave"))
        self._calls[0].wait_answered(timeout=10)
        return self._client

    @property
    def process(self) -> HerdProcess:
        """The supervisor."""
        assert self._process is not None
        return self._process

    def harm(self, do: Callable[[], object]) -> None:
        """Do the harm: times are measured from here."""
        self._harmed = time.monotonic()
        do()

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        """The harm is a signal."""
        self.harm(lambda: os.kill(pid, number))

    def event(
        self, kind: type[B], phone: Phone | str | None = "alice", timeout: float = 20, **having: Any
    ) -> B:
        """The first such event of a phone since the harm."""
        assert self._client is not None
        name = phone.name if isinstance(phone, Phone) else phone
        with self._client.events(timeout, after=0) as events:
            for event in events:
                if self._fits(event, kind, name, having):
                    self._at = event.t
                    return event.body  # type: ignore[return-value]
        raise TimeoutError(f"no {kind.__name__} {having} of {name}\n{self.process.report()}")

    def _fits(
        self, event: Event, kind: type[AnyBody], phone: str | None, having: dict[str, Any]
    ) -> bool:
        return (
            event.t >= self._harmed
            and isinstance(event.body, kind)
            and phone in (None, event.phone)
            and all(getattr(event.body, key) == value for key, value in having.items())
        )

    def detected(self) -> None:
        """The event found last is what tells of the fault."""
        self._note(detected=self._at - self._harmed)

    def detected_now(self) -> None:
        """What tells of the fault was seen at this moment."""
        self._note(detected=time.monotonic() - self._harmed)

    def ready(self) -> None:
        """The event found last is the one that says that the phone is READY again."""
        self._note(ready=self._at - self._harmed)

    def _note(self, **times: float) -> None:
        ((name, value),) = times.items()
        before = getattr(self.measured, name)
        self.measured = self.measured._replace(**{name: max(before or 0.0, value)})

    def bystanders(self) -> None:
        """Count the bystanders' calls that were lost."""
        assert self._client is not None
        lost = 0
        self._calls.append(self._client["carol"].call("dave"))
        for call in self._calls:
            try:
                call.wait_answered(timeout=10)
                assert call.state.value == "answered"
                call.hang_up(timeout=10)
                assert call.info.cause == "hung_up"
            except Exception:
                lost += 1
        self._calls.clear()
        self.measured = self.measured._replace(lost=lost)
        assert lost == 0, self.process.report()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


@pytest.fixture
def trial(
    start_herd: StartHerd, runtime_dir: Path, request: pytest.FixtureRequest
) -> Iterator[Trial]:
    """One herd to harm."""
    (row,) = [mark.args[0] for mark in request.node.iter_markers("fault")]
    trial = Trial(start_herd)
    yield trial
    trial.close()
    if trial.killed:  # the next supervisor would sweep up what it leaves
        for left in runtime_dir.iterdir():
            left.unlink()
    request.node.user_properties.append((PROPERTY, json.dumps([row, *trial.measured])))
