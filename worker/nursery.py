"""The nursery: a small process that has imported the worker's code and forks phones from it.

    python -P -m sipherd.worker.nursery \\
        --control-fd C --lifeline-fd L --lock-fd K --pulses-fd M --supervisor-fd P

C is a SOCK_SEQPACKET socket to the supervisor (`sipherd.protocol.fork`), L the read end of a pipe
whose only write end is the supervisor's, K the herd's lock, M the memory for signs of life
(`sipherd.protocol.pulse`), P a pidfd of the supervisor.

It is single-threaded and has no ZeroMQ context, so a fork of it is clean.  It knows of a death
from the child's pidfd, tells the cause, and only then reaps.  At the end of the lifeline it gives
its phones 0.7 s to hang up, kills what is left, and leaves; always by `os._exit`, because
multiprocess's exit hooks would wait for the phones.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import gc
import mmap
import os
import resource
import select
import signal
import socket
import stat
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import multiprocess
import multiprocess.process

from ..protocol.errors import ProtocolError
from ..protocol.fork import (
    MAX_PACKET,
    Died,
    Fork,
    Forked,
    ForkFailed,
    NurseryMessage,
    SipSockets,
    decode_fork,
    pack,
)
from ..protocol.pulse import SharedPulse
from . import process

__all__ = ["Nursery", "main"]

GRACE = 0.7
"""Seconds that phones get to leave by themselves when the supervisor is dead."""
LAST = 0.25
"""Seconds after that for the kernel to end them."""

_FORK = multiprocess.get_context("fork")
_ENVIRONMENT = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")
_RIGHTS = socket.CMSG_SPACE(16 * array.array("i").itemsize)
"""Room for more descriptors than a Fork has, so that a wrong one's can be closed."""


class _Start(_FORK.Process):  # type: ignore[misc,name-defined]  # it has no types
    """A process that is a phone and nothing else from its first moment."""

    def _bootstrap(self, parent_sentinel: object = None) -> int:
        # What multiprocess prepares in a child is for programs that go on to use it; in each phone
        # it would copy 0.4 MB of what all share.
        self.run()
        return 1


@dataclass(slots=True)
class _Child:
    phone: str
    incarnation: int
    pid: int
    pidfd: int


class Nursery:
    """Forks phones, reports and reaps them."""

    def __init__(
        self, control: socket.socket, lifeline_fd: int, lock_fd: int, pulses: mmap.mmap
    ) -> None:
        self._control = control
        self._lifeline_fd = lifeline_fd
        self._lock_fd = lock_fd
        self._pulses = pulses
        self._children: dict[int, _Child] = {}
        """By pidfd."""
        self._own = _open_descriptors()
        self._leaving = False
        self._orphaned = False
        self._killed = False
        self._deadline: float | None = None
        """When patience with what is left of the children ends."""
        self._exit_code: int | None = None
        self._poll = select.poll()
        for fd in (control.fileno(), lifeline_fd):
            self._poll.register(fd, select.POLLIN)

    def run(self) -> int:
        """Serve until the supervisor is gone; returns the exit code."""
        while self._exit_code is None:
            timeout = None
            if self._deadline is not None:
                timeout = max(self._deadline - time.monotonic(), 0.0) * 1000
            try:
                self._turn(self._poll.poll(timeout))
            except Exception:  # the phones need somebody who reaps them
                _print(traceback.format_exc())
        return self._exit_code

    def _turn(self, ready: Sequence[tuple[int, int]]) -> None:
        # Deaths first: the supervisor may have closed its end because it knows of the last one.
        for fd, _ in ready:
            if fd in self._children:
                self._bury(self._children[fd])
        for fd, _ in ready:
            if fd == self._lifeline_fd:
                self._poll.unregister(fd)
                self._end(orphaned=True)
            elif fd == self._control.fileno() and not self._leaving:
                self._receive()
        if self._leaving and not self._children:
            self._exit_code = 0
        elif self._deadline is not None and time.monotonic() >= self._deadline:
            self._give_up()

    # Requests

    def _receive(self) -> None:
        fds: list[int] = []
        try:
            data, ancillary, flags, _ = self._control.recvmsg(
                MAX_PACKET, _RIGHTS, socket.MSG_CMSG_CLOEXEC
            )
            for level, kind, payload in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    received = array.array("i")
                    received.frombytes(payload[: len(payload) // 4 * 4])
                    fds += received
            if not data and self._peer_is_gone():
                self._end(orphaned=False)
                return
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ProtocolError("a packet that is too long")
            request = decode_fork(data)
            if len(fds) != 4:
                raise ProtocolError(f"a fork request with {len(fds)} descriptors, expected 4")
            self._fork(request, SipSockets(*fds[:2]), fds[2], fds[3])
        except ProtocolError as error:
            _print(f"nursery: dropped a packet: {error}\n")
        except ConnectionError:
            self._end(orphaned=False)
        finally:
            for fd in fds:
                with contextlib.suppress(OSError):
                    os.close(fd)

    def _peer_is_gone(self) -> bool:
        """Whether an empty packet was the end, for a packet may be empty."""
        poll = select.poll()
        poll.register(self._control.fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))

    def _fork(self, request: Fork, sockets: SipSockets, journal_fd: int, output_fd: int) -> None:
        try:
            child = self._start(request, sockets, journal_fd, output_fd)
        except Exception as error:
            self._close_strays({*sockets, journal_fd, output_fd})
            why = f"{type(error).__name__}: {error}"
            failed = ForkFailed(phone=request.phone, incarnation=request.incarnation, error=why)
            self._send(failed)
            return
        self._children[child.pidfd] = child
        self._poll.register(child.pidfd, select.POLLIN)
        forked = Forked(phone=child.phone, incarnation=child.incarnation, pid=child.pid)
        self._send(forked, child.pidfd)

    def _start(self, request: Fork, sockets: SipSockets, journal_fd: int, output_fd: int) -> _Child:
        """Raises OSError, and then there is no process."""
        started = _Start(
            target=process.run,
            name=request.phone,
            args=(request,),
            kwargs={
                "sockets": sockets,
                "journal_fd": journal_fd,
                "output_fd": output_fd,
                "lifeline_fd": self._lifeline_fd,
                "lock_fd": self._lock_fd,
                "pulse": SharedPulse(self._pulses, request.pulse),
            },
        )
        started.start()
        pid: int = started.pid
        _let_go(started)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        return _Child(request.phone, request.incarnation, pid, pidfd)

    def _close_strays(self, passed: set[int]) -> None:
        """A fork that failed leaves the pipes that multiprocess had made for it."""
        for fd in _open_descriptors() - self._own - passed - self._children.keys():
            with contextlib.suppress(OSError):
                os.close(fd)

    def _send(self, message: NurseryMessage, *fds: int) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        # No supervisor: the end of the lifeline says so, too.
        with contextlib.suppress(BrokenPipeError, ConnectionError):
            self._control.sendmsg([pack(message)], rights)

    # Deaths

    def _bury(self, child: _Child) -> None:
        """Tell how it died, and only then let its pid go."""
        found = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert found is not None
        exited = found.si_code == os.CLD_EXITED
        # What it started must not outlive it; it leads its own group once it has called setsid.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        self._send(
            Died(
                phone=child.phone,
                incarnation=child.incarnation,
                exit_code=found.si_status if exited else None,
                signal=None if exited else found.si_status,
            )
        )
        os.waitpid(child.pid, 0)
        self._poll.unregister(child.pidfd)
        del self._children[child.pidfd]
        os.close(child.pidfd)

    # The end

    def _end(self, *, orphaned: bool) -> None:
        """No supervisor, or one that needs us no more."""
        self._orphaned = self._orphaned or orphaned
        if not self._leaving:
            self._leaving = True
            self._poll.unregister(self._control.fileno())
            self._deadline = time.monotonic() + GRACE

    def _give_up(self) -> None:
        if self._killed:
            self._exit_code = 1  # those that are left hang in the kernel
            return
        self._killed = True
        for child in self._children.values():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)
        # A supervisor that lives may take its time over those that hang in the kernel.
        self._deadline = time.monotonic() + LAST if self._orphaned else None


def _let_go(started: Any) -> None:
    """Make multiprocess forget the child.

    It would poll every sibling at each start (1,500 phones: 14 s instead of 5), reap behind our
    back, and keep two pipe ends of each.
    """
    multiprocess.process._children.discard(started)
    multiprocess.process._dangling.discard(started)
    started._popen.finalizer()


def _open_descriptors() -> set[int]:
    """Those of this process, without the one that lists them."""
    found: set[int] = set()
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers, not paths
        with contextlib.suppress(OSError):
            os.fstat(int(name))
            found.add(int(name))
    return found


def _print(text: str) -> None:
    """To the supervisor's log; what does not fit is dropped."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode("utf-8", "backslashreplace"))


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Be the nursery."""
    code = 1
    try:
        parser = argparse.ArgumentParser(prog="sipherd.worker.nursery")
        for name in ("control", "lifeline", "lock", "pulses", "supervisor"):
            parser.add_argument(f"--{name}-fd", type=int, required=True)
        options = parser.parse_args(arguments)
        with contextlib.suppress(PermissionError):  # started as a leader already
            os.setsid()
        process.reset_signals()
        process.set_name("sipherd-nursery")
        if stat.S_ISFIFO(os.fstat(2).st_mode):  # a terminal is shared with others
            os.set_blocking(2, False)
        for name in _ENVIRONMENT:
            os.environ.pop(name, None)
        _raise_limit()
        # Phones inherit the mapping, and need no descriptor for it.
        pulses = mmap.mmap(options.pulses_fd, 0)
        os.close(options.pulses_fd)
        nursery = Nursery(
            socket.socket(fileno=options.control_fd),
            options.lifeline_fd,
            options.lock_fd,
            pulses,
        )
        gc.collect()
        gc.freeze()  # a collection in a phone must not touch, and so copy, what all share
        # A full collection waits until a quarter more has come than the last one kept: nothing.
        # Here and not in each phone, where it would copy 0.2 MB.
        gc.collect()
        code = nursery.run()
    except SystemExit as error:  # argparse
        code = error.code if isinstance(error.code, int) else 2
    except BaseException:
        _print(traceback.format_exc())
    finally:
        os._exit(code)


def _raise_limit() -> None:
    """Each phone is a pidfd here: 1,024 are soon used up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()
