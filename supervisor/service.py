"""The supervisor's process: sockets, processes, signals and clock around the core.

One thread and one epoll set; a second thread writes the log.  Every pass of the loop goes the same
way: workers' messages, the nursery and dead processes, clients' messages, dead clients and signals,
timers, and then the events of all that go out.  What to do is the core's; this module only carries
inputs there and effects out.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import itertools
import json
import os
import resource
import secrets
import select
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from ..protocol.codec import encode, from_client, from_worker
from ..protocol.errors import ProtocolError, RuntimeDirectoryError
from ..protocol.events import Event
from ..protocol.fork import Died, Fork, Forked, ForkFailed
from ..protocol.messages import (
    Envelope,
    Events,
    Hello,
    Leave,
    LogLine,
    Missed,
    Refused,
    WorkerMessage,
)
from ..protocol.paths import HerdPaths, ensure_runtime_dir
from ..protocol.spec import HerdSpec
from . import effects, holders, sockets
from .clients import Client, Clients, NotAdmitted
from .core import Core
from .effects import Effect, Finish, Input
from .events import EventStream
from .lock import HerdIsRunning, HerdLock, sweep_private
from .log import Lines, Log, LogWriter
from .nursery_link import DEFAULT_NURSERY, NurseryLink, NurseryUnfit, open_output_pipe
from .poller import Poller, Turn
from .ports import PortPool, RtpPool
from .processes import Key, Process, Processes, become_subreaper, children
from .routers import Delivery, Router
from .signals import SignalPipe

__all__ = ["Options", "run"]

EXIT_CONFIGURATION = 2
EXIT_FAILED = 4
EXIT_INTERRUPTED = 130

WORKER_BATCH = 500
"""Messages of workers in one pass at the most, so that the others get their turn."""
CLIENT_BATCH = 100
OUTPUT_BATCH = 65536
"""Bytes of one phone's raw output in one pass."""
EARLY_LIMIT = 100
"""Messages of one process that wait for the nursery's word of it."""
RETRY_EVENTS = 0.05
"""Seconds until a client that read too slowly is tried again."""
NURSERY_PATIENCE = 2.0
LOG_PATIENCE = 1.0

_STOPS = {
    signal.SIGINT: ("Ctrl-C", EXIT_INTERRUPTED),
    signal.SIGTERM: ("SIGTERM", 0),
    signal.SIGHUP: ("SIGHUP", 0),
}


@dataclass(frozen=True, slots=True)
class Options:
    """What a supervisor is started with."""

    spec: HerdSpec
    runtime_dir: Path
    view: Callable[[Event], str | None] | None = None
    """Text for stdout about an event, with its line end; None for nothing."""
    owner_fd: int | None = None
    """Pidfd of the process that this herd must not outlive."""
    ready_fd: int | None = None
    """Gets one line of JSON: ``{"pid": N}`` once the control socket is served, or why not."""
    nursery: Sequence[str] = DEFAULT_NURSERY


def run(options: Options) -> int:
    """Run the herd to its end; the process's exit code.  To be called by the main thread."""
    writer = LogWriter()
    log = Log(writer, is_terminal=os.isatty(2))
    ready = _Ready(options.ready_fd)
    try:
        code, message = _run(options, writer, log, ready)
    except (RuntimeDirectoryError, HerdIsRunning) as error:
        code, message = EXIT_CONFIGURATION, str(error)
    except NurseryUnfit as error:
        code, message = EXIT_FAILED, str(error)
    except Exception as error:
        log.write("error", "internal_error", exc_info=True)
        code = EXIT_FAILED
        message = f"{type(error).__name__}: {error}: a bug of the supervisor, see the log"
    # Who waits for the ready line says it in its own words.
    if message and not ready.failed(message, code):
        writer.err(f"sipherd: {message}\n")
    ready.close()
    writer.close(LOG_PATIENCE)
    if options.owner_fd is not None:
        os.close(options.owner_fd)
    return code


def _run(options: Options, writer: LogWriter, log: Log, ready: _Ready) -> tuple[int, str]:
    os.umask(0o077)
    _raise_descriptor_limit()
    ensure_runtime_dir(options.runtime_dir)
    paths = HerdPaths(options.runtime_dir, options.spec.herd)
    sweep_private(options.runtime_dir)
    with SignalPipe() as signals:
        lock = HerdLock(options.spec.herd, paths)
        is_alone = True
        try:
            become_subreaper()
            service = _Service(options, paths, lock.fd, signals, writer, log)
            try:
                finish = service.serve(ready)
            except BaseException:
                is_alone = service.close(orderly=False)
                raise
            is_alone = service.close(orderly=True)
        finally:
            lock.close(unlink=is_alone)
    return finish.exit_code, finish.message


class _Service:
    """Everything that is open while the herd is up.

    Raises RuntimeDirectoryError and NurseryUnfit, and leaves nothing open.
    """

    def __init__(
        self,
        options: Options,
        paths: HerdPaths,
        lock_fd: int,
        signals: SignalPipe,
        writer: LogWriter,
        log: Log,
    ) -> None:
        self._options = options
        self._signals = signals
        self._writer = writer
        self._log = log
        self._endpoint = f"ipc://{paths.workers}"
        spec = options.spec
        self._core = Core(
            spec,
            ports=PortPool(
                spec.ports.sip,
                retries=spec.port_retries,
                strict=spec.strict_ports,
                bind=sockets.bind,
                close=os.close,
                holder=holders.udp_holder,
                clock=time.monotonic,
            ),
            rtp=RtpPool(spec.ports.rtp),
            events=EventStream(lambda t: t - time.monotonic() + time.time()),
            token=functools.partial(secrets.token_hex, 16),
            pid=os.getpid(),
            version=_version(),
        )
        self._inbox: deque[Input] = deque()
        self._is_working = False
        self._clients = Clients()
        self._processes = Processes()
        self._early: dict[Key, list[effects.FromWorker]] = {}
        """Messages of processes the nursery has not told of yet."""
        self._strays: dict[int, Process] = {}
        # Whoever started this program may have left children to it: none of ours to end.
        self._foreign = children()
        self._ids = itertools.count(1)
        self._retry_at: float | None = None
        self._nursery_ends_at: float | None = None
        """When a nursery that closed its socket is killed."""
        self._finish: Finish | None = None
        self._fatal = ""
        self._pipes: set[int] = set()
        with contextlib.ExitStack() as on_error:
            self._lifeline, self._lifeline_write = os.pipe2(os.O_CLOEXEC)
            on_error.callback(os.close, self._lifeline)
            on_error.callback(os.close, self._lifeline_write)
            self._context = zmq.Context(1)
            on_error.callback(self._context.term)
            self._control_socket = _serve(self._context, paths.control)
            on_error.callback(self._control_socket.close)
            self._worker_socket = _serve(self._context, paths.workers)
            on_error.callback(self._worker_socket.close)
            self._poller = Poller()
            on_error.callback(self._poller.close)
            self._nursery: NurseryLink | None = NurseryLink(
                options.nursery, lock_fd=lock_fd, lifeline_fd=self._lifeline
            )
            on_error.pop_all()
        self._poller.add_wake(self._control_socket.fd)
        self._poller.add_wake(self._worker_socket.fd)
        self._poller.add(signals.fd, Turn.OTHERS, self._on_signals)
        if options.owner_fd is not None:
            self._poller.add(options.owner_fd, Turn.OTHERS, self._on_owner_gone)
        self._watch_nursery(self._nursery)

    # -- the loop --------------------------------------------------------------------------------

    def serve(self, ready: _Ready) -> Finish:
        """Serve until the core says that it is over."""
        self._feed(effects.Begin(self._options.spec.phones))
        self._flush_events()
        if self._finish is None:
            ready.succeeded()
        while self._finish is None:
            self._pass()
        return Finish(
            EXIT_FAILED if self._fatal else self._finish.exit_code,
            self._fatal or self._finish.message,
        )

    def _pass(self) -> None:
        self._poller.wait(self._patience())
        self._receive_from_workers()
        self._poller.run(Turn.PROCESSES)
        self._receive_from_clients()
        self._poller.run(Turn.OTHERS)
        deadline = self._core.next_deadline()
        now = time.monotonic()
        if deadline is not None and deadline <= now:
            self._carry_out(self._core.tick(now))
            self._work_off()
        if self._nursery_ends_at is not None and self._nursery_ends_at <= now:
            # It lives and listens no more: make it the death that everybody understands.
            self._nursery_ends_at = None
            assert self._nursery is not None
            self._nursery.kill()
        self._flush_events()

    def _patience(self) -> float | None:
        """Seconds to sleep; None for as long as nothing happens."""
        # Last thing before the sleep: sends and receives swallow the descriptors' edges.
        if self._worker_socket.has_input() or self._control_socket.has_input():
            return 0.0
        wanted = (self._core.next_deadline(), self._retry_at, self._nursery_ends_at)
        deadlines = [deadline for deadline in wanted if deadline is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _feed(self, input: Input) -> None:
        """One input to the core, its effects, and what these made come back."""
        self._inbox.append(input)
        self._work_off()

    def _work_off(self) -> None:
        if self._is_working:
            return  # an effect made an input: it is next when this one is carried out
        self._is_working = True
        while self._inbox:
            self._carry_out(self._core.step(self._inbox.popleft(), time.monotonic()))
        self._is_working = False

    def _carry_out(self, wanted: Sequence[Effect]) -> None:
        for effect in wanted:
            match effect:
                case effects.ToClient(client, body, reply_to):
                    self._to_client(client, body, reply_to)
                case effects.ToWorker(route, message):
                    delivery = self._worker_socket.send(route, encode(message))
                    if delivery is not Delivery.SENT:
                        self._undeliverable(delivery, message.body, phone=message.phone)
                case effects.StartProcess():
                    self._start_process(effect)
                case effects.Signal(phone, incarnation, number):
                    self._processes.signal((phone, incarnation), number)
                case effects.Log(level, event, fields):
                    self._log.write(level, event, fields)
                case Finish():
                    self._finish = self._finish or effect

    def _undeliverable(self, delivery: Delivery, body: object, **whose: object) -> None:
        self._core.counts["undeliverable"] += 1
        name = type(body).__name__
        self._log.write("warning", "undeliverable", message=name, why=delivery.value, **whose)

    # -- workers ---------------------------------------------------------------------------------

    def _receive_from_workers(self) -> None:
        for route, frame in self._worker_socket.receive(WORKER_BATCH):
            try:
                if frame is None:
                    raise ProtocolError("a message has one frame")
                message = from_worker.decode(frame.bytes)
            except ProtocolError as error:
                self._core.counts["worker_garbage"] += 1
                self._log.write("warning", "worker_garbage", error=str(error))
                continue
            body = message.body
            if isinstance(body, LogLine):
                key = (message.phone, message.incarnation)
                self._log.write(body.level, body.event, body.fields, **self._bound(key))
            if self._is_early(route, message):
                continue
            # Log lines, too: the core counts the messages of each link.
            self._feed(effects.FromWorker(route, message))

    def _is_early(self, route: bytes, message: Envelope[WorkerMessage]) -> bool:
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

    def _bound(self, key: Key) -> dict[str, object]:
        """What every log line about a phone says."""
        process = self._processes.get(key)
        return {"phone": key[0], "incarnation": key[1], "pid": process.pid if process else 0}

    # -- nursery ---------------------------------------------------------------------------------

    def _watch_nursery(self, nursery: NurseryLink) -> None:
        self._core.nursery_pid = nursery.pid
        self._poller.add(nursery.socket_fd, Turn.PROCESSES, self._on_nursery)
        self._poller.add(nursery.pidfd, Turn.PROCESSES, self._on_nursery_dead)
        lines = Lines()
        about: dict[str, object] = {"process": "nursery", "pid": nursery.pid}

        def on_line(line: str) -> None:
            nursery.last_line = line
            self._log.write("warning", "output", line=line, **about)

        self._watch_output(nursery.output_fd, lines, on_line)

    def _start_process(self, request: effects.StartProcess) -> None:
        key = (request.phone, request.incarnation)
        if self._nursery is None:
            self._inbox.append(effects.ForkRefused(*key, self._fatal))
            return
        try:
            output, output_write = open_output_pipe()
        except OSError as error:
            self._inbox.append(effects.ForkRefused(*key, f"no pipe: {error.strerror}"))
            return
        self._processes.expect(key)
        fork = Fork(
            phone=request.phone,
            incarnation=request.incarnation,
            token=request.token,
            endpoint=self._endpoint,
        )
        try:
            self._nursery.fork(fork, request.fd, output_write)
        finally:
            os.close(output_write)
        if self._nursery.is_congested():
            self._poller.want_write(self._nursery.socket_fd, True)

        def on_line(line: str) -> None:
            self._log.write("warning", "output", line=line, **self._bound(key))

        self._watch_output(output, Lines(), on_line)

    def _watch_output(self, fd: int, lines: Lines, on_line: Callable[[str], None]) -> None:
        """Log what a process prints, until the last who could has closed its end."""

        def on_readable() -> None:
            try:
                data = os.read(fd, OUTPUT_BATCH)
            except BlockingIOError:
                return
            for line in lines.feed(data) if data else lines.end():
                on_line(line)
            if not data:
                self._close_pipe(fd)

        self._pipes.add(fd)
        self._poller.add(fd, Turn.PROCESSES, on_readable)

    def _close_pipe(self, fd: int) -> None:
        self._poller.remove(fd)
        self._pipes.discard(fd)
        os.close(fd)

    def _on_nursery(self) -> None:
        """Its answers; also called when its socket can be written to again."""
        nursery = self._nursery
        assert nursery is not None
        if nursery.is_congested():
            nursery.send_waiting()
            self._poller.want_write(nursery.socket_fd, nursery.is_congested())
        while True:
            try:
                received = nursery.receive()
            except ProtocolError as error:
                self._log.write("error", "nursery_garbage", error=str(error))
                continue
            if received is None:
                break
            message, fd = received
            key = (message.phone, message.incarnation)
            if fd is not None and not isinstance(message, Forked):
                os.close(fd)
            match message:
                case Forked(pid=pid):
                    self._forked(key, pid, fd)
                case ForkFailed(error=why):
                    self._processes.failed(key)
                    self._early.pop(key, None)
                    self._feed(effects.ForkRefused(*key, why))
                case Died(exit_code=code, signal=number):
                    process = self._processes.get(key)
                    if process is not None:
                        self._dead(process)
                        self._buried(process, effects.DeathCause(*key, code, number))
        if nursery.has_closed:
            self._poller.remove(nursery.socket_fd)
            self._nursery_ends_at = time.monotonic() + NURSERY_PATIENCE

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
        self._nursery_ends_at = None
        if not nursery.has_closed:
            self._on_nursery()  # its last words
        pid = nursery.pid
        for fd in (nursery.socket_fd, nursery.pidfd):
            self._poller.remove(fd)
        # Its output pipe may live on in its phones: it ends with the last of them.
        cause = nursery.reap()
        self._log.write("error", "nursery_died", pid=pid, cause=cause)
        never = self._processes.give_up_expected()
        self._early.clear()
        self._adopt()
        try:
            nursery.restart(cause, time.monotonic())
        except NurseryUnfit as error:
            self._fatal = str(error)
            nursery.close()
            self._nursery = None
            self._core.nursery_pid = 0
        else:
            self._watch_nursery(nursery)
        for key in never:
            self._feed(effects.ForkRefused(*key, "the nursery died first"))
        self._feed(effects.NurseryGone(pid, cause))
        if self._nursery is None:
            self._feed(effects.StopRequested(self._fatal, EXIT_FAILED))

    def _adopt(self) -> None:
        """The dead nursery's phones are this process's children now: theirs is the kernel's word.

        It may have died between a fork and its report: that phone was never welcomed, and must not
        live beside the phone's next process.
        """
        for process in self._processes:
            process.is_ours = True
            if process.is_gone:
                self._buried(process, process.reap())
        known = {process.pid for process in self._processes} | self._strays.keys() | self._foreign
        for pid in children() - known:
            self._end_stray(Process(("", 0), pid, os.pidfd_open(pid), is_ours=True))

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

    # -- processes of phones ---------------------------------------------------------------------

    def _watch_process(self, process: Process) -> None:
        def on_dead() -> None:
            # Its last messages may have come while we looked at others.
            self._receive_from_workers()
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
        self._processes.remove(process)
        self._feed(cause)

    # -- clients ---------------------------------------------------------------------------------

    def _receive_from_clients(self) -> None:
        for route, frame in self._control_socket.receive(CLIENT_BATCH):
            try:
                if frame is None:
                    raise ProtocolError("a message has one frame")
                message = from_client.decode(frame.bytes)
                if message.id <= 0:
                    raise ProtocolError("a request has an id above 0")
            except ProtocolError as error:
                self._core.counts["client_garbage"] += 1
                self._log.write("warning", "client_garbage", error=str(error))
                continue
            client = self._clients.get(route)
            if isinstance(message.body, Leave):
                if client is not None:
                    self._client_gone(client)
                continue
            if client is None:
                try:
                    client = self._clients.admit(route, frame)
                except NotAdmitted as error:
                    self._turn_away(route, message.id, error)
                    continue
                self._core.clients = len(self._clients)
                on_dead = functools.partial(self._client_gone, client)
                self._poller.add(client.pidfd, Turn.OTHERS, on_dead)
            self._feed(effects.FromClient(route, message))

    def _turn_away(self, route: bytes, request: int, error: NotAdmitted) -> None:
        self._core.counts["clients_refused"] += 1
        self._log.write("warning", "client_refused", why=str(error))
        if error.may_know:
            body = Refused(reason="too_many_clients", message=str(error))
            self._control_socket.send(
                route, encode(Envelope(id=next(self._ids), reply_to=request, seq=1, body=body))
            )

    def _client_gone(self, client: Client) -> None:
        self._poller.remove(client.pidfd)
        self._clients.remove(client)
        self._core.clients = len(self._clients)
        self._feed(effects.ClientGone(client.route))

    def _to_client(self, route: bytes, body: Any, reply_to: int = 0) -> Delivery:
        client = self._clients.get(route)
        if client is None:
            return Delivery.GONE
        data = encode(
            Envelope(id=next(self._ids), reply_to=reply_to, seq=client.seq + 1, body=body)
        )
        delivery = self._control_socket.send(route, data)
        if delivery is Delivery.SENT:
            client.seq += 1
        elif reply_to:
            self._undeliverable(delivery, body, client=client.pid)
        return delivery

    # -- events ----------------------------------------------------------------------------------

    def _flush_events(self) -> None:
        stream = self._core.events
        view = self._options.view
        if view is None:
            stream.new.clear()
        while stream.new:
            text = view(stream.new.popleft()) if view is not None else None
            if text is not None:
                self._writer.out(text)
        gone: list[bytes] = []

        def send(route: bytes, body: Events | Missed) -> bool:
            delivery = self._to_client(route, body)
            if delivery is Delivery.GONE:
                gone.append(route)
            return delivery is not Delivery.FULL

        behind = stream.flush(send)
        self._retry_at = time.monotonic() + RETRY_EVENTS if behind else None
        if gone:
            self._retry_at = 0.0  # their calls end now, and others want to know
        for route in gone:
            client = self._clients.get(route)
            if client is not None:
                self._client_gone(client)
            else:
                stream.unsubscribe(route)

    # -- reasons to stop -------------------------------------------------------------------------

    def _on_signals(self) -> None:
        for number in self._signals.read():
            if number in _STOPS:
                self._feed(effects.StopRequested(*_STOPS[signal.Signals(number)]))

    def _on_owner_gone(self) -> None:
        assert self._options.owner_fd is not None
        self._poller.remove(self._options.owner_fd)
        # Nobody is left who would wait for answers: the second request means "now".
        for _ in range(2):
            self._feed(effects.StopRequested("its owner is gone", 0))

    # -- the end ---------------------------------------------------------------------------------

    def close(self, *, orderly: bool) -> bool:
        """Close everything; whether no process of the herd is left.

        ``orderly``: no phone runs, the nursery is asked to go.  Else the lifeline ends them all.
        """
        if not orderly:
            os.close(self._lifeline_write)
        if self._nursery is not None:
            self._poller.remove(self._nursery.socket_fd)
            self._poller.remove(self._nursery.pidfd)
            is_alone = self._nursery.stop(NURSERY_PATIENCE)
            self._nursery.close()
        else:
            is_alone = True
        for process in itertools.chain(self._processes, list(self._strays.values())):
            is_alone = _end(process) and is_alone
            os.close(process.pidfd)
        for client in self._clients:
            self._clients.remove(client)
        for fd in list(self._pipes):
            self._close_pipe(fd)
        self._control_socket.close()
        self._worker_socket.close()
        # Waits for the last replies, and until the socket files are surely unlinked: only then
        # may another herd of this name bind them.
        self._context.term()
        self._poller.close()
        os.close(self._lifeline)
        if orderly:
            os.close(self._lifeline_write)
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


class _Ready:
    """The one line for whoever started this process and waits."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    def succeeded(self) -> None:
        self._tell({"pid": os.getpid()})

    def failed(self, message: str, exit_code: int) -> bool:
        """Whether somebody was there to be told."""
        return self._tell({"error": message, "exit": exit_code})

    def _tell(self, report: dict[str, object]) -> bool:
        if self._fd is None:
            return False
        try:
            os.write(self._fd, json.dumps(report).encode() + b"\n")
        except OSError:
            return False
        finally:
            self.close()
        return True

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _serve(context: zmq.Context[zmq.Socket[bytes]], path: Path) -> Router:
    try:
        return Router(context, path)
    except OSError as error:
        raise RuntimeDirectoryError(
            f"socket {path}: {error.strerror}; name another directory with --runtime-dir or "
            "SIPHERD_RUNTIME_DIR"
        ) from None


def _raise_descriptor_limit() -> None:
    """A phone costs three descriptors here; the usual soft limit of 1,024 is for select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _version() -> str:
    try:
        return importlib.metadata.version("sipherd")
    except importlib.metadata.PackageNotFoundError:  # a source tree that is not installed
        return "unknown"
