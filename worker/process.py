"""What a phone's process does first and last: it makes itself clean, runs its loop, and leaves.

A fork of the nursery has descriptors and a session that are not its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import io
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn

from ..protocol.exits import WorkerExit
from ..protocol.fork import Fork, SipSockets
from ..protocol.pulse import Pulse
from .limits import limit_memory, limit_others
from .loop import Worker

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "LossyWriter",
    "close_all_but",
    "limit_of_descriptors",
    "reset_signals",
    "run",
    "set_name",
]

_PR_SET_NAME = 15
_libc = ctypes.CDLL(None)


class LossyWriter(io.RawIOBase):
    """Writes to a descriptor that must not block: what does not fit is dropped."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def write(self, data: ReadableBuffer, /) -> int:
        view = memoryview(data).cast("B")
        with contextlib.suppress(OSError):  # a full pipe, or nobody reads it any more
            os.write(self._fd, view)
        return len(view)


def run(
    fork: Fork,
    *,
    sockets: SipSockets,
    journal_fd: int,
    output_fd: int,
    lifeline_fd: int,
    lock_fd: int,
    pulse: Pulse,
) -> NoReturn:
    """Be the process of a phone, from the fork to the exit.

    Signals are as `reset_signals` has left them in the nursery: to do it again in each phone would
    copy 0.3 MB of what all share.
    """
    code: int = WorkerExit.CRASHED
    try:
        os.setsid()
        set_name(fork.phone)
        _take_output(output_fd)
        close_all_but((*sockets, journal_fd, lifeline_fd, lock_fd))
        # Where the supervisor ends a phone that hangs (SIGABRT), its log gets every thread's stack,
        # and the disk no core.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.enable(2, all_threads=True)
        code = WorkerExit.CONFIGURATION
        limit_others(fork.limits)
        code = WorkerExit.CRASHED
        worker = Worker(
            endpoint=fork.endpoint,
            phone=fork.phone,
            incarnation=fork.incarnation,
            token=fork.token,
            sockets=sockets,
            journal_fd=journal_fd,
            lifeline_fd=lifeline_fd,
            pulse=pulse,
        )
        limit_memory(fork.limits)
        code = worker.run()
    except MemoryError:
        code = WorkerExit.MEMORY
        with contextlib.suppress(Exception):
            sys.stderr.write(traceback.format_exc())
    except BaseException:  # also SystemExit: nothing of the nursery's exit is ours to run
        with contextlib.suppress(Exception):
            sys.stderr.write(traceback.format_exc())
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)


def set_name(name: str) -> None:
    """Name of this process in ``ps`` and ``top``; the kernel keeps 15 bytes."""
    _libc.prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def reset_signals() -> None:
    """No handler and no mask of whoever started us; Ctrl-C is for the supervisor alone."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):  # those that libc keeps for itself
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # As Python has them: a write to nobody is an OSError.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def limit_of_descriptors() -> int:
    """One more than the highest descriptor there can be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return hard if 0 < hard < 2**31 else 2**31 - 1


def close_all_but(keep: Iterable[int]) -> None:
    """Close every descriptor above 2 that is not in ``keep``."""
    first = 3
    limit = limit_of_descriptors()
    for fd in sorted(keep):
        os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, limit)


def _take_output(output_fd: int) -> None:
    """Make the pipe stdout and stderr, /dev/null stdin."""
    os.set_blocking(output_fd, False)
    os.dup2(output_fd, 1)
    os.dup2(output_fd, 2)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    # What the nursery left in the buffers of its own is not ours to print.
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(LossyWriter(1)), "utf-8", "backslashreplace", line_buffering=True
    )
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(LossyWriter(2)), "utf-8", "backslashreplace", line_buffering=True
    )
