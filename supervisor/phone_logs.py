"""A log file for each phone, written by a thread of its own.

Whatever a disk does — full, slow, gone — only this thread waits for it: its queue is bounded, and
what does not fit, in the queue or on the disk, is dropped and counted.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import OrderedDict
from pathlib import Path

from ..protocol.log_spec import LogSpec
from ..protocol.spec import check_name

__all__ = ["LIMIT", "PhoneLogs"]

LIMIT = 10_000
"""Lines that may wait for the disk."""
_OPEN_FILES = 64
"""Files that are kept open, those written last."""
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class _File:
    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.size = os.fstat(fd).st_size


class PhoneLogs:
    """The log files of phones; never blocks its callers.

    Raises OSError: the directory can't be made, or not be written to.
    """

    def __init__(self, spec: LogSpec, *, limit: int = LIMIT) -> None:
        directory = Path(spec.dir)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._spec = spec
        # By descriptor: it stays the same directory, whatever becomes of the path.
        self._dir = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._probe()
        except BaseException:
            os.close(self._dir)
            raise
        self._files: OrderedDict[str, _File] = OrderedDict()
        self._queue: queue.Queue[tuple[str, str] | None] = queue.Queue(limit)
        # One of each thread: += is not atomic.
        self._not_queued = 0
        self._not_written = 0
        self.error = ""
        """What the disk said last when it did not take a line."""
        # A daemon: a write that never ends must not keep the process from leaving.
        self._thread = threading.Thread(target=self._run, name="phone logs", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that are in no file."""
        return self._not_queued + self._not_written

    def write(self, phone: str, line: str) -> None:
        """One line for a phone's file, with its line end."""
        try:
            check_name(phone)  # a process that nobody awaits may claim to be any phone
        except ValueError:
            return
        try:
            self._queue.put_nowait((phone, line))
        except queue.Full:
            self._not_queued += 1

    def close(self, timeout: float) -> bool:
        """Write what waits, for at most ``timeout`` seconds; whether all of it could be written."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=timeout)
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _probe(self) -> None:
        name = f".probe-{os.getpid()}"
        os.close(os.open(name, _FLAGS, 0o600, dir_fd=self._dir))
        os.unlink(name, dir_fd=self._dir)

    # In the thread

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            phone, line = item
            try:
                self._append(phone, line.encode(errors="backslashreplace"))
            except OSError as error:
                self._not_written += 1
                self.error = error.strerror or str(error)
        for file in self._files.values():
            os.close(file.fd)
        os.close(self._dir)

    def _append(self, phone: str, data: bytes) -> None:
        name = f"{phone}.log"
        file = self._open(name)
        if file.size and file.size + len(data) > self._spec.max_size:
            self._rotate(name)
            file = self._open(name)
        written = os.write(file.fd, data)
        if written < len(data):
            # The disk is full: no half lines.
            os.ftruncate(file.fd, file.size)
            raise OSError(0, "no space left for a whole line")
        file.size += written

    def _open(self, name: str) -> _File:
        file = self._files.get(name)
        if file is not None and os.fstat(file.fd).st_nlink:
            self._files.move_to_end(name)
            return file
        if file is not None:  # somebody removed it
            os.close(self._files.pop(name).fd)
        if len(self._files) >= _OPEN_FILES:
            os.close(self._files.popitem(last=False)[1].fd)
        file = _File(os.open(name, _FLAGS, 0o600, dir_fd=self._dir))
        self._files[name] = file
        return file

    def _rotate(self, name: str) -> None:
        os.close(self._files.pop(name).fd)
        names = [name, *(f"{name}.{n}" for n in range(1, self._spec.keep + 1))]
        if len(names) == 1:
            os.unlink(name, dir_fd=self._dir)
        for n in range(len(names) - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(names[n - 1], names[n], src_dir_fd=self._dir, dst_dir_fd=self._dir)
