"""The phones' processes: asked for, watched, their output logged, their deaths told.

The nursery forks and reaps them; when a nursery dies, its phones become this process's children
and go on, and a new one is started.  What happened goes to ``feed`` as the core's inputs; what is
to be done about it is the core's.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
import time
from collections.abc import Callable, Sequence

from ..protocol.errors import ProtocolError
from ..protocol.fork import Died, Fork, Forked, ForkFailed
from ..protocol.messages import Envelope, Hello, WorkerMessage
from . import effects
from .effects import Input
from .guard_link import GuardLink
from .journals import Journals
from .log import Lines, Log
from .nursery_link import NurseryLink, NurseryUnfit, open_output_pipe
from .poller import Poller, Turn
from .processes import Key, Process, Processes, children
from .pulses import Pulses, run_state

__all__ = ["PhoneProcesses"]

OUTPUT_BATCH = 65536
"""Bytes of one phone's raw output in one pass."""
EARLY_LIMIT = 100
"""Messages of one process that wait for the nursery's word of it."""
NURSERY_PATIENCE = 2.0
NURSERY_DEADLINE = 5.0
"""Seconds for the nursery's next answer while it owes one; a stopped one is as good as dead."""
_EXIT_FAILED = 4


class PhoneProcesses:
    """The nursery, the phones' processes, the lifeline that ends them all, and its guard.

    ``feed(input)`` takes an input at once, ``later(input)`` after the effects being carried out;
    ``hear_out()`` reads what phones have sent, before one is told dead.  Raises NurseryUnfit, and
    leaves nothing open.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        endpoint: str,
        lock_fd: int,
        poller: Poller,
        log: Log,
        feed: Callable[[Input], None],
        later: Callable[[Input], None],
        hear_out: Callable[[], None],
    ) -> None:
        self._endpoint = endpoint
        self._poller = poller
        self._log = log
        self._feed = feed
        self._later = later
        self._hear_out = hear_out
        self._processes = Processes()
        self._early: dict[Key, list[effects.FromWorker]] = {}
        """Messages of processes the nursery has not told of yet."""
        self._strays: dict[int, Process] = {}
        # Whoever started this program may have left children to it: none of ours to end.
        self._foreign = children()
        self._pipes: set[int] = set()
        self._journals = Journals()
        self.fatal = ""
        """Why there is no nursery any more."""
        self.deadline: float | None = None
        """When ``tick`` is wanted: a nursery that closed its socket or owes answers dies then."""
        self._why_killed = ""
        self._read_nursery_output: Callable[[], None] = lambda: None
        self._pulses = Pulses()
        self._lifeline, self._lifeline_write = os.pipe2(os.O_CLOEXEC)
        # First: it is up long before the nursery has imported what it needs for a phone.
        self._guard = GuardLink(self._lifeline, poller=poller, log=log)
        try:
            self._nursery: NurseryLink | None = NurseryLink(
                command,
                lock_fd=lock_fd,
                lifeline_fd=self._lifeline,
                pulses_fd=self._pulses.fd,
            )
        except BaseException:
            self._guard.stop()
            self._pulses.close()
            os.close(self._lifeline)
            os.close(self._lifeline_write)
            raise
        self._watch_nursery(self._nursery)

    @property
    def nursery_pid(self) -> int:
        """0 when there is none."""
        return self._nursery.pid if self._nursery else 0

    def tick(self, now: float) -> None:
        """End a nursery that lives and listens no more: make it a death like any other."""
        if self.deadline is not None and self.deadline <= now:
            self.deadline = None
            assert self._nursery is not None
            if not self._nursery.has_closed:
                self._why_killed = f"killed: no answer for {NURSERY_DEADLINE:.0f} s"
            self._nursery.kill()

    # -- what others ask ---------------------------------------------------------------------------

    def start(self, request: effects.StartProcess) -> None:
        """Ask for a process; what becomes of it is fed later."""
        key = (request.phone, request.incarnation)
        if self._nursery is None:
            self._later(effects.ForkRefused(*key, self.fatal))
            return
        try:
            pulse = self._pulses.lease(key)
            journal = self._journals.open(request.phone)
            output, output_write = open_output_pipe()
        except OSError as error:
            self._pulses.release(key)
            self._later(effects.ForkRefused(*key, f"no descriptor: {error.strerror or error}"))
            return
        self._processes.expect(key)
        fork = Fork(
            phone=request.phone,
            incarnation=request.incarnation,
            token=request.token,
            endpoint=self._endpoint,
            limits=request.limits,
            pulse=pulse,
        )
        try:
            self._nursery.fork(fork, request.sockets, journal, output_write)
        finally:
            os.close(output_write)
        if self._nursery.is_congested():
            self._poller.want_write(self._nursery.socket_fd, True)
        if self.deadline is None:
            self.deadline = time.monotonic() + NURSERY_DEADLINE

        def on_line(line: str) -> None:
            self._log.write("warning", "output", line=line, **self.bound(key))

        self._watch_output(output, Lines(), on_line)

    def forget(self, phone: str) -> None:
        """There is no phone of that name any more: nothing of it is left to clean up."""
        self._journals.close(phone)

    def has_journal(self, phone: str) -> bool:
        """Whether a process of this phone has ever written down a call."""
        return self._journals.is_used(phone)

    def signal(self, key: Key, number: int) -> None:
        """Send a signal, now or once the process is there; nothing if there is none."""
        self._processes.signal(key, number)

    def signs(self, overdue: float) -> effects.Signs:
        """When each process's next sign of life is due.

        Of those that are ``overdue`` by so many seconds also whether they run at all.
        """
        now = time.monotonic()
        found: list[effects.Sign] = []
        for process in self._processes:
            vitals = self._pulses.read(process.key)
            state = run_state(process.pid) if now - vitals.due >= overdue else ""
            found.append(effects.Sign(*process.key, vitals.due, vitals.late, vitals.dialogs, state))
        return effects.Signs(tuple(found))

    def is_early(self, route: bytes, message: Envelope[WorkerMessage]) -> bool:
        """Keep a worker's messages until the nursery has told of its process.

        A phone can say hello before the nursery has said Forked.  It gets its welcome when this
        side has its pidfd: without, its death could not be told from its silence.
        """
        key = (message.phone, message.incarnation)
        held = self._early.get(key)
        if held is None:
            if not isinstance(message.body, Hello) or not self._processes.is_expected(key):
                return False
            held = self._early[key] = []
        if len(held) < EARLY_LIMIT:
            held.append(effects.FromWorker(route, message))
        return True

    def bound(self, key: Key) -> dict[str, object]:
        """What every log line about a phone says."""
        process = self._processes.get(key)
        return {"phone": key[0], "incarnation": key[1], "pid": process.pid if process else 0}

    # -- nursery ---------------------------------------------------------------------------------

    def _watch_nursery(self, nursery: NurseryLink) -> None:
        self._poller.add(nursery.socket_fd, Turn.PROCESSES, self._on_nursery)
        self._poller.add(nursery.pidfd, Turn.PROCESSES, self._on_nursery_dead)
        lines = Lines()
        about: dict[str, object] = {"process": "nursery", "pid": nursery.pid}

        def on_line(line: str) -> None:
            nursery.last_line = line
            self._log.write("warning", "output", line=line, **about)

        self._read_nursery_output = self._watch_output(nursery.output_fd, lines, on_line)

    def _on_nursery(self) -> None:
        """Its answers; also called when its socket can be written to again."""
        nursery = self._nursery
        assert nursery is not None
        if nursery.is_congested():
            nursery.send_waiting()
            self._poller.want_write(nursery.socket_fd, nursery.is_congested())
        answered = False
        while True:
            try:
                received = nursery.receive()
            except ProtocolError as error:
                self._log.write("error", "nursery_garbage", error=str(error))
                continue
            if received is None:
                break
            answered = True
            message, fd = received
            key = (message.phone, message.incarnation)
            if fd is not None and not isinstance(message, Forked):
                os.close(fd)
            match message:
                case Forked(pid=pid):
                    self._forked(key, pid, fd)
                case ForkFailed(error=why):
                    self._processes.failed(key)
                    self._pulses.release(key)
                    self._early.pop(key, None)
                    self._feed(effects.ForkRefused(*key, why))
                case Died(exit_code=code, signal=number):
                    process = self._processes.get(key)
                    if process is not None:
                        self._dead(process)
                        self._buried(process, effects.DeathCause(*key, code, number))
        if nursery.has_closed:
            self._poller.remove(nursery.socket_fd)
            self.deadline = time.monotonic() + NURSERY_PATIENCE
        elif answered:
            owes = self._processes.is_any_expected()
            self.deadline = time.monotonic() + NURSERY_DEADLINE if owes else None

    def _forked(self, key: Key, pid: int, pidfd: int | None) -> None:
        if pidfd is None:
            self._log.write("error", "nursery_garbage", error="Forked without a pidfd")
            return
        self._watch_process(self._processes.add(key, pid, pidfd))
        self._feed(effects.Forked(*key, pid))
        for early in self._early.pop(key, ()):
            self._feed(early)

    def _on_nursery_dead(self) -> None:
        nursery = self._nursery
        assert nursery is not None
        self.deadline = None
        if not nursery.has_closed:
            self._on_nursery()  # its last words
        pid = nursery.pid
        for fd in (nursery.socket_fd, nursery.pidfd):
            self._poller.remove(fd)
        cause = nursery.reap()
        # What it printed may not have had its turn, and says why: all that the pipe holds, then its
        # end, unless that lives on in phones.
        self._read_nursery_output()
        self._read_nursery_output()
        if self._why_killed:
            cause, self._why_killed = self._why_killed, ""
        self._log.write("error", "nursery_died", pid=pid, cause=cause)
        never = self._processes.give_up_expected()
        self._early.clear()
        buried = self._adopt()
        self._pulses.release_all_but({process.key for process in self._processes})
        try:
            nursery.restart(cause, time.monotonic())
        except NurseryUnfit as error:
            self.fatal = str(error)
            nursery.close()
            self._nursery = None
        else:
            self._watch_nursery(nursery)
        for key in never:
            self._feed(effects.ForkRefused(*key, "the nursery died first"))
        self._feed(effects.NurseryGone(pid, cause))
        # Only now: a death may be answered with a start, which is for the new nursery.
        for cause_of_death in buried:
            self._feed(cause_of_death)
        if self._nursery is None:
            self._feed(effects.StopRequested(self.fatal, _EXIT_FAILED))

    def _adopt(self) -> list[effects.DeathCause]:
        """The dead nursery's phones are this process's children now: theirs is the kernel's word.

        It may have died between a fork and its report: that phone was never welcomed, and must not
        live beside the phone's next process.

        Returns:
            What those died of whose causes it did not report any more.

        """
        causes = []
        for process in list(self._processes):
            process.is_ours = True
            if process.is_gone:
                causes.append(process.reap())
                self._forget(process)
        known = {process.pid for process in self._processes} | self._strays.keys() | self._foreign
        for pid in children() - known - {self._guard.pid}:
            self._end_stray(Process(("", 0), pid, os.pidfd_open(pid), is_ours=True))
        return causes

    def _end_stray(self, stray: Process) -> None:
        self._log.write("warning", "stray_killed", pid=stray.pid)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(stray.pidfd, signal.SIGKILL)
        self._strays[stray.pid] = stray

        def on_dead() -> None:
            self._poller.remove(stray.pidfd)
            stray.reap()
            os.close(stray.pidfd)
            del self._strays[stray.pid]

        self._poller.add(stray.pidfd, Turn.PROCESSES, on_dead)

    # -- raw output ------------------------------------------------------------------------------

    def _watch_output(
        self, fd: int, lines: Lines, on_line: Callable[[str], None]
    ) -> Callable[[], None]:
        """Log what a process prints, until the last who could has closed its end.

        What is returned reads what there is now.
        """
        is_open = True

        def on_readable() -> None:
            nonlocal is_open
            if not is_open:
                return
            try:
                data = os.read(fd, OUTPUT_BATCH)
            except BlockingIOError:
                return
            for line in lines.feed(data) if data else lines.end():
                on_line(line)
            if not data:
                is_open = False
                self._close_pipe(fd)

        self._pipes.add(fd)
        self._poller.add(fd, Turn.PROCESSES, on_readable)
        return on_readable

    def _close_pipe(self, fd: int) -> None:
        self._poller.remove(fd)
        self._pipes.discard(fd)
        os.close(fd)

    # -- deaths ----------------------------------------------------------------------------------

    def _watch_process(self, process: Process) -> None:
        def on_dead() -> None:
            # Its last messages may have come while we looked at others.
            self._hear_out()
            self._dead(process)
            if process.is_ours:
                self._buried(process, process.reap())

        self._poller.add(process.pidfd, Turn.PROCESSES, on_dead)

    def _dead(self, process: Process) -> None:
        """Tell of the death once; the nursery's report may come before the pidfd's turn."""
        if not process.is_gone:
            process.is_gone = True
            self._poller.remove(process.pidfd)
            self._feed(effects.ProcessGone(*process.key))

    def _buried(self, process: Process, cause: effects.DeathCause) -> None:
        self._forget(process)
        self._feed(cause)

    def _forget(self, process: Process) -> None:
        self._processes.remove(process)
        self._pulses.release(process.key)

    # -- the end ---------------------------------------------------------------------------------

    def close(self, *, orderly: bool) -> bool:
        """Close everything; whether no process of the herd is left.

        ``orderly``: no phone runs, the nursery is asked to go.  Else the lifeline ends them all.
        """
        self._guard.stop()  # this process is one of those that it would end
        if not orderly:
            os.close(self._lifeline_write)
        is_alone = True
        if self._nursery is not None:
            self._poller.remove(self._nursery.socket_fd)
            self._poller.remove(self._nursery.pidfd)
            is_alone = self._nursery.stop(NURSERY_PATIENCE)
            self._nursery.close()
        for process in itertools.chain(self._processes, list(self._strays.values())):
            self._poller.remove(process.pidfd)
            is_alone = _end(process) and is_alone
            os.close(process.pidfd)
        for fd in list(self._pipes):
            self._close_pipe(fd)
        self._journals.close_all()
        os.close(self._lifeline)
        if orderly:
            os.close(self._lifeline_write)
        self._pulses.close()
        return is_alone


def _end(process: Process) -> bool:
    """Kill what should be gone by now; whether it went."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process.pidfd, signal.SIGKILL)
    poll = select.poll()
    poll.register(process.pidfd, select.POLLIN)
    if not poll.poll(100):
        return False
    process.reap()
    return True
