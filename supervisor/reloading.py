"""A reload under way: the herd file is read, everything new is made ready, and then all changes.

Nothing is stopped before all that is added has its ports: a reload that can't be made changes
nothing.  What is to have the port of a phone that goes, or moves, waits until that one is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from ..protocol.events import HerdReloaded
from ..protocol.messages import ReloadReport
from ..protocol.spec import HerdSpec, PhoneSpec, overlap
from ..protocol.states import PhoneState
from .admission import Admission, AdmissionError, Admissions
from .effects import Effect, Log, ReadHerdFile
from .life import Life
from .operations import Operations, Starting, Stopping
from .phones import Phone, Successor
from .ports import PortError, Skip
from .reload import Changes, ReloadRefused, compare, keeps_port
from .requests import Request, Requests
from .timers import Timer

__all__ = ["Reloads"]

PATIENCE = 30.0
PATIENCE_EACH = 0.1
"""Seconds for each phone of the herd, and so many more, until a reload is told as it stands."""


@dataclass(slots=True)
class _Staged:
    """All that a reload needs, made ready before anything is touched."""

    added: list[Phone] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    heirs: dict[Phone, Successor] = field(default_factory=dict)
    waiting: set[Phone] = field(default_factory=set)
    """Those of both kinds whose port another phone has to leave first."""


@dataclass(slots=True, eq=False)
class _Reload:
    request: Request | None
    """None: SIGHUP asked for it."""
    dry_run: bool
    report: ReloadReport = field(default_factory=ReloadReport)
    parts: int = 0
    """Operations that are not over."""
    timer: Timer | None = None
    problems: list[str] = field(default_factory=list)


class Reloads:
    """Part of the core.  One at a time.

    ``spec()`` is what the herd is, ``adopt(spec)`` makes it another; ``is_stopping()`` tells
    whether it is on its way to its end.
    """

    def __init__(
        self,
        *,
        life: Life,
        admissions: Admissions,
        operations: Operations,
        requests: Requests,
        effects: list[Effect],
        spec: Callable[[], HerdSpec],
        adopt: Callable[[HerdSpec], None],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._life = life
        self._admissions = admissions
        self._operations = operations
        self._requests = requests
        self._effects = effects
        self._spec = spec
        self._adopt = adopt
        self._is_stopping = is_stopping
        self._current: _Reload | None = None
        self._again = False

    @property
    def is_running(self) -> bool:
        """Whether something is being changed."""
        return self._current is not None and not self._current.dry_run

    def begin(self, request: Request | None = None, *, dry_run: bool = False) -> None:
        """Read the file; what follows depends on it."""
        if self._current is not None:
            if request is not None:
                why = "a reload is under way; try again when it is over"
                self._requests.refuse(request, "reload_running", why)
            else:
                self._again = True  # the file may have changed since it was read
            return
        self._current = _Reload(request, dry_run)
        self._effects.append(ReadHerdFile())

    def unreadable(self, why: str) -> None:
        """There is no herd in the file."""
        self._refuse("bad_herd_file", why)

    def read(self, new: HerdSpec) -> None:
        """This is in the file."""
        reload = self._current
        assert reload is not None
        if self._is_stopping():
            self._refuse("herd_stopping", f"herd {new.herd} is being stopped")
            return
        try:
            present = {phone.name: phone.asked for phone in self._life.table}
            changes = compare(self._spec(), new, present)
            reload.report = ReloadReport(
                added=tuple(phone.name for phone in changes.added),
                removed=changes.removed,
                changed=tuple(phone.name for phone in changes.changed),
                unchanged=changes.unchanged,
                herd=changes.herd,
            )
            if reload.dry_run:
                self._finish(reload)
                return
            staged = self._stage(new, changes)
        except (ReloadRefused, AdmissionError, PortError) as error:
            self._refuse(error.reason, str(error))
            return
        self._carry_out(reload, new, staged)

    # -- making ready ----------------------------------------------------------------------------

    def _stage(self, new: HerdSpec, changes: Changes) -> _Staged:
        """Raises ReloadRefused, AdmissionError and PortError, and then nothing is left of it."""
        old = self._spec()
        self._set_ranges(new)
        staged = _Staged()
        try:
            self._fill(staged, new, changes)
        except (ReloadRefused, AdmissionError, PortError):
            for phone in staged.added:
                self._admissions.free(phone, self._life.now)
            for phone, heir in staged.heirs.items():
                self._admissions.disinherit(phone, heir)
            self._set_ranges(old)
            raise
        return staged

    def _set_ranges(self, spec: HerdSpec) -> None:
        ports = self._admissions.ports
        ports.ports, self._admissions.rtp.ports = spec.ports.sip, spec.ports.rtp
        ports.retries, ports.strict = spec.port_retries, spec.strict_ports

    def _fill(self, staged: _Staged, new: HerdSpec, changes: Changes) -> None:
        table, known = self._life.table, dict[str, str]()
        leaving = [table.find(name) for name in changes.removed]
        moving: list[tuple[Phone | None, PhoneSpec, PhoneSpec]] = []
        for asked in changes.changed:
            phone, spec = table.find(asked.name), self._admissions.ports.placed(asked, known)
            if phone.state is PhoneState.DRAINING:
                raise ReloadRefused(
                    "phone_not_ready",
                    f"being stopped right now: {phone.name}; try again when it is",
                )
            port = keeps_port(phone.asked.port, phone.port, asked.port)
            if port and spec.address == phone.spec.address:
                staged.heirs[phone] = self._heir(phone, spec, asked)
            else:
                leaving.append(phone)
                moving.append((phone, spec, asked))
        moving += [
            (None, self._admissions.ports.placed(asked, known), asked) for asked in changes.added
        ]
        fixed = {phone.port for phone in new.phones if phone.port}
        # Fixed ports first, so that nobody gets one by taking the next of the range.
        for mover, spec, asked in sorted(moving, key=lambda entry: not entry[1].port):
            waits = any(
                gone.port == spec.port and overlap(gone.spec.address, spec.address)
                for gone in leaving
            )
            made, skips = self._admissions.make(
                spec, asked, fixed, port=spec.port if waits else None
            )
            staged.skips += skips
            if waits:
                staged.waiting.add(mover or made)
            if mover is None:
                staged.added.append(made)
            else:
                staged.heirs[mover] = Successor(
                    spec=spec,
                    asked=asked,
                    host=made.host,
                    port=made.port,
                    sockets=made.sockets,
                    keeps_port=False,
                    rtp_first=made.rtp_first,
                    rtp_pairs=made.rtp_pairs,
                    policy=made.policy,
                )
        order = {phone.name: n for n, phone in enumerate(new.phones)}
        staged.added.sort(key=lambda phone: order[phone.name])

    def _heir(self, phone: Phone, spec: PhoneSpec, asked: PhoneSpec) -> Successor:
        """One that goes on with the sockets that there are.  Raises AdmissionError."""
        pairs = self._admissions.pairs(spec)
        same = pairs == phone.rtp_pairs and (spec.port == 0) == (phone.asked.port == 0)
        return Successor(
            spec=spec,
            asked=asked,
            host=phone.host,
            port=phone.port,
            sockets=None,
            keeps_port=True,
            rtp_first=phone.rtp_first if same else self._admissions.lease_rtp(spec),
            rtp_pairs=pairs,
            policy=self._admissions.policy(spec),
        )

    # -- changing --------------------------------------------------------------------------------

    def _carry_out(self, reload: _Reload, new: HerdSpec, staged: _Staged) -> None:
        life, table, report = self._life, self._life.table, reload.report
        self._adopt(new)
        life.events.emit(
            HerdReloaded(added=report.added, removed=report.removed, changed=report.changed),
            life.now,
        )
        leaving = [table.find(name) for name in report.removed]
        # A number may go from one to the other: first all give up theirs.
        for phone in [*leaving, *staged.heirs]:
            table.free_number(phone)
        for phone, heir in staged.heirs.items():
            table.take_number(phone, heir.spec.number)
        for phone in staged.added:
            table.add(phone)
        life.announce(Admission(staged.added, staged.skips))
        stopped = [phone for phone in staged.heirs if phone.state is PhoneState.STOPPED]
        at_once = [phone for phone in staged.heirs if phone not in staged.waiting]
        later = [phone for phone in staged.heirs if phone in staged.waiting]
        for phone in at_once:
            phone.heir = staged.heirs[phone]
        reload.parts = 5
        patience = PATIENCE + PATIENCE_EACH * len(table)
        reload.timer = life.timers.at(life.now + patience, lambda: self._overdue(reload))

        def started(starting: Starting) -> None:
            self._part_over(reload, starting.problems)

        def stopped_once_more(stopping: Stopping) -> None:
            self._part_over(reload)

        def gone(stopping: Stopping) -> None:
            heirs = {phone: staged.heirs[phone] for phone in later}
            problems = self._all_gone(leaving, heirs)
            starts = [phone for phone in staged.added if phone in staged.waiting]
            starts += [phone for phone in later if phone not in stopped]
            if self._is_stopping():
                starts = []
            down = (PhoneState.NEW, PhoneState.STOPPED)
            self._operations.start([phone for phone in starts if phone.state in down], started)
            self._part_over(reload, problems)

        self._operations.stop([*leaving, *later], gone)
        # Those that stay stopped are stopped once more, to become what they are to be.
        self._operations.stop([p for p in at_once if p in stopped], stopped_once_more)
        self._operations.restart([p for p in at_once if p not in stopped], started)
        self._operations.start([p for p in staged.added if p not in staged.waiting], started)

    def _all_gone(self, leaving: list[Phone], heirs: dict[Phone, Successor]) -> list[str]:
        """Forget those that left, and have the others give and take ports; what did not work."""
        life = self._life
        problems = []
        for phone in leaving:
            # Not one that survives SIGKILL, was started again, or was removed by another.
            if phone.state is PhoneState.STOPPED and life.table.get(phone.name) is phone:
                life.dismiss(phone)
            elif life.table.get(phone.name) is phone:
                problems.append(f"phone {phone.name} is still there, {phone.state.value}")
        free = {phone: heir for phone, heir in heirs.items() if phone.state is PhoneState.STOPPED}
        for phone, heir in free.items():
            self._admissions.let_go(phone, heir, life.now)
        for phone, heir in free.items():
            self._admissions.take(phone, heir)
        for phone in heirs.keys() - free.keys():
            self._admissions.disinherit(phone, heirs[phone])
            problems.append(f"phone {phone.name} is as it was, {phone.state.value}")
        return problems

    # -- the end ---------------------------------------------------------------------------------

    def _part_over(self, reload: _Reload, problems: Sequence[str] = ()) -> None:
        reload.problems += problems
        reload.parts -= 1
        if not reload.parts:
            self._finish(reload)

    def _overdue(self, reload: _Reload) -> None:
        """A phone that is restarted for ever must not keep the next reload from its turn."""
        wanted = {*reload.report.added, *reload.report.changed}
        reload.problems += [
            f"phone {phone.name} is not ready yet ({phone.state.value})"
            for phone in self._life.table
            if phone.name in wanted and phone.state is not PhoneState.READY
        ]
        self._finish(reload)

    def _finish(self, reload: _Reload) -> None:
        if reload is not self._current:
            return  # its time was over before
        if reload.timer is not None:
            reload.timer.cancel()
        report = msgspec.structs.replace(reload.report, problems=tuple(reload.problems))
        if not reload.dry_run:
            counts = {
                kind: len(getattr(report, kind))
                for kind in ("added", "removed", "changed", "unchanged")
            }
            self._effects.append(Log("info", "reloaded", counts))
            for problem in report.problems:
                self._effects.append(Log("warning", "not_reloaded", {"why": problem}))
        if reload.request is not None:
            self._requests.done(reload.request, report)
        self._over()

    def _refuse(self, reason: str, why: str) -> None:
        assert self._current is not None
        if self._current.request is not None:
            self._requests.refuse(self._current.request, reason, why)
        else:
            self._effects.append(Log("error", "reload_refused", {"why": why}))
        self._over()

    def _over(self) -> None:
        self._current = None
        if self._again:
            self._again = False
            self.begin()
