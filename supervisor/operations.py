"""What is asked of several phones at once: begin, add, start, restart, stop, remove.

``Life`` moves single phones and says when one has settled (READY, STOPPED, FAILED or stuck); an
operation is over when all of its phones have.  Creating phones is all or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..protocol.messages import StopReport
from ..protocol.states import PhoneState
from .life import Life
from .phones import Phone
from .ports import PortError

__all__ = ["Creation", "Operations", "Starting", "Stopping"]


@dataclass(slots=True, eq=False)
class Starting:
    """Phones on their way to READY; ``problems`` are those that did not get there."""

    waiting: set[Phone]
    over: Callable[[Starting], None]
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Creation:
    """New phones, all or nothing: the first that fails takes the others with it."""

    phones: Sequence[Phone]
    waiting: set[Phone]
    over: Callable[[Creation], None]
    problem: str = ""
    """Why there are none of them, once they are gone again."""


@dataclass(slots=True, eq=False)
class Stopping:
    """Phones on their way to STOPPED."""

    phones: Sequence[Phone]
    waiting: set[Phone]
    over: Callable[[Stopping], None]
    reports: dict[str, StopReport] = field(default_factory=dict)

    def in_order(self) -> tuple[StopReport, ...]:
        """The reports in the order of the phones."""
        return tuple(self.reports[phone.name] for phone in self.phones)


_Operation = Starting | Creation | Stopping


class Operations:
    """The operations that are not over."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._current: list[_Operation] = []

    def create(self, phones: Sequence[Phone], over: Callable[[Creation], None]) -> None:
        """Start admitted phones; if one can't be, stop and forget all of them."""
        creation = Creation(phones, set(phones), over)
        self._current.append(creation)
        for phone in phones:
            self._life.start(phone)
        self._look_at(creation)

    def start(self, phones: Sequence[Phone], over: Callable[[Starting], None]) -> None:
        """Start those that are stopped or failed, and wait for all."""
        starting = Starting(set(phones), over)
        self._current.append(starting)
        for phone in phones:
            if phone.state is PhoneState.READY:
                starting.waiting.discard(phone)
            elif phone.state is not PhoneState.STARTING:
                try:
                    self._life.start(phone)
                except PortError as error:
                    starting.waiting.discard(phone)
                    starting.problems.append(str(error))
        self._look_at(starting)

    def restart(self, phones: Sequence[Phone], over: Callable[[Starting], None]) -> None:
        """Stop and start again, and wait for all."""
        starting = Starting(set(phones), over)
        self._current.append(starting)
        for phone in phones:
            self._life.stop(phone, then_start=True)
        self._look_at(starting)

    def stop(
        self, phones: Sequence[Phone], over: Callable[[Stopping], None], *, quick: bool = False
    ) -> None:
        """Stop, and wait for all."""
        stopping = Stopping(phones, set(phones), over)
        self._current.append(stopping)
        for phone in phones:
            self._life.stop(phone, quick=quick)
        self._look_at(stopping)

    def settled(self, phone: Phone) -> None:
        """The phone is READY, STOPPED, FAILED, or it could not be stopped."""
        for operation in list(self._current):
            if phone not in operation.waiting:
                continue
            match operation:
                case Starting():
                    self._settle_start(operation, phone)
                case Creation():
                    self._settle_creation(operation, phone)
                case Stopping():
                    operation.waiting.discard(phone)
                    operation.reports[phone.name] = self._report(phone)
            self._look_at(operation)

    @staticmethod
    def _settle_start(starting: Starting, phone: Phone) -> None:
        starting.waiting.discard(phone)
        if phone.state is not PhoneState.READY:
            starting.problems.append(_problem(phone))

    def _settle_creation(self, creation: Creation, phone: Phone) -> None:
        creation.waiting.discard(phone)
        if creation.problem or phone.state is PhoneState.READY:
            return
        creation.problem = _problem(phone)
        others = [other for other in creation.phones if other is not phone]
        creation.waiting = {phone, *others}
        for other in creation.phones:
            self._life.stop(other, quick=True)

    def _look_at(self, operation: _Operation) -> None:
        if operation.waiting or operation not in self._current:
            return
        self._current.remove(operation)
        if isinstance(operation, Creation) and operation.problem:
            for phone in operation.phones:
                # One whose process hangs in the kernel keeps its port.
                if phone.state is PhoneState.STOPPED:
                    self._life.dismiss(phone)
        operation.over(operation)  # type: ignore[arg-type]  # its own type

    def _report(self, phone: Phone) -> StopReport:
        departure = phone.departure
        if departure is None:  # it was started again meanwhile
            return StopReport(phone=phone.name, how="drained", seconds=0.0)
        return StopReport(
            phone=phone.name,
            how=departure.how,
            seconds=round(self._life.now - departure.began, 3),
            unanswered_byes=departure.unanswered_byes,
        )


def _problem(phone: Phone) -> str:
    why = phone.why or f"it was stopped (state {phone.state.value})"
    return f"phone {phone.name} did not start: {why}"
