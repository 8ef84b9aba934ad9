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
import json
import os
import resource
import secrets
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import zmq

from ..protocol.codec import MAX_MESSAGE, MAX_REQUEST, EncodedEvents, encode, from_worker
from ..protocol.errors import KeysError, ProtocolError, RuntimeDirectoryError
from ..protocol.events import Event
from ..protocol.log_spec import LogSpec
from ..protocol.messages import (
    Exit,
    LogLine,
    Missed,
)
from ..protocol.paths import HerdPaths, ensure_runtime_dir
from ..protocol.spec import HerdSpec
from . import addresses, effects, holders, sockets
from .core import Core
from .effects import Effect, Finish, Input
from .events import EventStream
from .lock import HerdIsRunning, HerdLock, sweep_private
from .log import Log, LogWriter
from .notify import Notifier
from .nursery_link import DEFAULT_NURSERY, NurseryUnfit
from .pace import Sparse
from .phone_logs import PhoneLogs
from .phone_processes import PhoneProcesses
from .poller import Poller, Turn
from .ports import PortPool, RtpPool
from .processes import become_subreaper, has_terminal
from .reception import Reception
from .remote import ListenError, open_door
from .rereading import HerdFileReader
from .routers import Delivery, FileRouter, Router
from .signals import SignalPipe

__all__ = ["Options", "run"]

EXIT_CONFIGURATION = 2
EXIT_FAILED = 4
EXIT_INTERRUPTED = 130

WORKER_BATCH = 500
"""Messages of workers in one pass at the most, so that the others get their turn."""
RETRY_EVENTS = 0.05
"""Seconds until a client that read too slowly is tried again."""
LOG_PATIENCE = 1.0

_STOPS = {
    signal.SIGINT: ("Ctrl-C", EXIT_INTERRUPTED),
    signal.SIGTERM: ("SIGTERM", 0),
    signal.SIGHUP: ("SIGHUP", 0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a supervisor is started with."""

    spec: HerdSpec
    runtime_dir: Path
    view: Callable[[Event], str | None] | None = None
    """Text for stdout about an event, with its line end; None for nothing."""
    wait_registered: bool = True
    """The herd is ready when its phones are registered, or were refused; else when they serve."""
    keys_dir: Path | None = None
    """Where the keys of clients of other machines are, if anybody listens for them."""
    reread: Callable[[], HerdSpec] | None = None
    """Read the herd file again, or raise HerdFileError; None: the herd is of no file."""
    owner_fd: int | None = None
    """Pidfd of the process that this herd must not outlive."""
    ready_fd: int | None = None
    """Gets one line of JSON: ``{"pid": N}`` once the control socket is served, or why not."""
    nursery: Sequence[str] = DEFAULT_NURSERY


_SHOWN = ("phone_died", "reloaded")
"""Log lines that are events, too: where both go to one terminal, the event is enough."""


def run(options: Options) -> int:
    """Run the herd to its end; the process's exit code.  To be called by the main thread."""
    writer = LogWriter()
    is_terminal = os.isatty(2)
    shown = _SHOWN if is_terminal and os.isatty(1) and options.view is not None else ()
    log = Log(writer, is_terminal=is_terminal, without=shown)
    ready = _Ready(options.ready_fd)
    phone_logs: PhoneLogs | None = None
    try:
        phone_logs = _open_phone_logs(options.spec.logs, log)
        code, message = _run(options, writer, log, ready)
    except (RuntimeDirectoryError, KeysError, ListenError, HerdIsRunning) as error:
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
    if phone_logs is not None:
        phone_logs.close(LOG_PATIENCE)
    writer.close(LOG_PATIENCE)
    if options.owner_fd is not None:
        os.close(options.owner_fd)
    return code


def _open_phone_logs(spec: LogSpec | None, log: Log) -> PhoneLogs | None:
    """Raises RuntimeDirectoryError."""
    if spec is None:
        return None
    try:
        phone_logs = PhoneLogs(spec)
    except OSError as error:
        raise RuntimeDirectoryError(
            f"log files in {spec.dir}: {error.strerror}; name another directory with --log-dir"
        ) from None
    log.also_to(phone_logs)
    return phone_logs


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
        spec = options.spec
        self._core = Core(
            spec,
            ports=PortPool(
                spec.ports.sip,
                retries=spec.port_retries,
                strict=spec.strict_ports,
                bind=sockets.bind,
                close=sockets.close,
                holder=holders.port_holder,
                placed=addresses.placed,
                clock=time.monotonic,
            ),
            rtp=RtpPool(spec.ports.rtp),
            events=EventStream(lambda t: t - time.monotonic() + time.time()),
            token=functools.partial(secrets.token_hex, 16),
            pid=os.getpid(),
            wait_registered=options.wait_registered,
            version=_version(),
            has_journal=lambda phone: self._phones.has_journal(phone),
            cpus=os.sched_getaffinity(0),
        )
        self._notifier = Notifier(os.environ, os.getpid())
        self._reloads_on_hangup = options.reread is not None and not has_terminal()
        self._inbox: deque[Input] = deque()
        self._is_working = False
        self._garbage = Sparse()
        """Log lines about what workers should not have sent."""
        self._retry_at: float | None = None
        """When a client that read too slowly is tried again."""
        self._finish: Finish | None = None
        with contextlib.ExitStack() as on_error:
            remote = open_door(spec.listen, options.keys_dir, log)
            if remote is not None:
                on_error.callback(remote.close)
            self._context = zmq.Context(1)
            on_error.callback(self._context.term)
            control_socket = _serve(self._context, paths.control, MAX_REQUEST)
            on_error.callback(control_socket.close)
            self._worker_socket = _serve(self._context, paths.workers)
            on_error.callback(self._worker_socket.close)
            self._poller = Poller()
            on_error.callback(self._poller.close)
            self._herd_file = HerdFileReader(options.reread)
            on_error.callback(self._herd_file.close)
            self._phones = PhoneProcesses(
                options.nursery,
                endpoint=f"ipc://{paths.workers}",
                lock_fd=lock_fd,
                poller=self._poller,
                log=log,
                feed=self._feed,
                later=self._inbox.append,
                hear_out=self._receive_from_workers,
            )
            on_error.pop_all()
        self._reception = Reception(
            control_socket,
            remote,
            poller=self._poller,
            log=log,
            counts=self._core.counts,
            feed=self._feed,
        )
        self._core.clients = self._reception.keys
        self._core.listen = remote.endpoint if remote else ""
        self._core.lines_dropped = lambda: log.dropped
        self._poller.add_wake(self._worker_socket.fd)
        self._poller.add(signals.fd, Turn.OTHERS, self._on_signals)
        self._poller.add(self._herd_file.fd, Turn.OTHERS, self._on_herd_file)
        if options.owner_fd is not None:
            self._poller.add(options.owner_fd, Turn.OTHERS, self._on_owner_gone)

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
            EXIT_FAILED if self._phones.fatal else self._finish.exit_code,
            self._phones.fatal or self._finish.message,
        )

    def _pass(self) -> None:
        self._poller.wait(self._patience())
        self._receive_from_workers()
        self._poller.run(Turn.PROCESSES)
        self._core.nursery_pid = self._phones.nursery_pid
        self._reception.receive()
        self._poller.run(Turn.OTHERS)
        deadline = self._core.next_deadline()
        now = time.monotonic()
        if deadline is not None and deadline <= now:
            self._carry_out(self._core.tick(now))
            self._work_off()
        self._phones.tick(now)
        self._flush_events()
        core = self._core
        self._notifier.tell(core.phase, core.events.n, core.status, time.monotonic())

    def _patience(self) -> float | None:
        """Seconds to sleep; None for as long as nothing happens."""
        # Last thing before the sleep: sends and receives swallow the descriptors' edges.
        if self._worker_socket.has_input() or self._reception.has_input():
            return 0.0
        wanted = (
            *(self._core.next_deadline(), self._retry_at),
            *(self._phones.deadline, self._reception.deadline(), self._notifier.deadline),
        )
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
                    self._reception.send(client, body, reply_to)
                case effects.ToWorker(route, message):
                    delivery = self._worker_socket.send(route, encode(message))
                    # One that is to exit and has gone already did what was wanted.
                    left = delivery is Delivery.GONE and isinstance(message.body, Exit)
                    if delivery is not Delivery.SENT and not left:
                        self._undeliverable(delivery, message.body, phone=message.phone)
                case effects.StartProcess():
                    self._phones.start(effect)
                case effects.Forget(phone):
                    self._phones.forget(phone)
                case effects.DropStale(held, age):
                    self._core.counts["stale_dropped"] += sockets.drop_stale(held.udp, age)
                case effects.Signal(phone, incarnation, number):
                    self._phones.signal((phone, incarnation), number)
                case effects.ReadHerdFile():
                    self._herd_file.start()
                case effects.LookAtPhones(overdue):
                    self._inbox.append(self._phones.signs(overdue))
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
                more = self._garbage.line(time.monotonic())
                if more is not None:
                    self._log.write("warning", "worker_garbage", error=str(error), **more)
                continue
            body = message.body
            if isinstance(body, LogLine):
                key = (message.phone, message.incarnation)
                self._log.write(body.level, body.event, body.fields, **self._phones.bound(key))
            if self._phones.is_early(route, message):
                continue
            # Log lines, too: the core counts the messages of each link.
            self._feed(effects.FromWorker(route, message))

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

        def send(route: bytes, body: EncodedEvents | Missed) -> bool:
            delivery = self._reception.send(route, body)
            if delivery is Delivery.GONE:
                gone.append(route)
            return delivery is not Delivery.FULL

        behind = stream.flush(send)
        self._retry_at = time.monotonic() + RETRY_EVENTS if behind else None
        if gone:
            self._retry_at = 0.0  # their calls end now, and others want to know
        for route in gone:
            if not self._reception.dismiss(route):
                stream.unsubscribe(route)

    # -- reasons to stop -------------------------------------------------------------------------

    def _on_signals(self) -> None:
        for number in self._signals.read():
            if number == signal.SIGUSR1:
                self._feed(effects.DrainRequested("SIGUSR1"))
            elif number == signal.SIGHUP and self._reloads_on_hangup:
                self._feed(effects.ReloadRequested())
            elif number in _STOPS:
                self._feed(effects.StopRequested(*_STOPS[signal.Signals(number)]))

    def _on_herd_file(self) -> None:
        if (result := self._herd_file.result()) is not None:
            self._feed(result)

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
        is_alone = self._phones.close(orderly=orderly)
        self._reception.close()
        self._worker_socket.close()
        # Waits for the last replies, and until the socket files are surely unlinked: only then
        # may another herd of this name bind them.
        self._context.term()
        self._poller.close()
        self._herd_file.close()
        self._notifier.close()
        return is_alone


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


def _serve(
    context: zmq.Context[zmq.Socket[bytes]], path: Path, max_message: int = MAX_MESSAGE
) -> Router:
    try:
        return FileRouter(context, path, max_message=max_message)
    except OSError as error:
        raise RuntimeDirectoryError(
            f"socket {path}: {error.strerror}; name another directory with --runtime-dir or "
            "SIPHERD_RUNTIME_DIR"
        ) from None


def _raise_descriptor_limit() -> None:
    """A phone costs four descriptors here; the usual soft limit of 1,024 is for select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _version() -> str:
    try:
        return importlib.metadata.version("sipherd")
    except importlib.metadata.PackageNotFoundError:  # a source tree that is not installed
        return "unknown"
