"""Reads audio files in short-lived threads: neither a slow disk nor a long file holds the loop up.

The loop learns the end of it through an eventfd, as with host names (`worker.resolve`).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from . import wav

__all__ = ["Loaded", "Loader"]

_THREADS = 2
"""Files that are read at the same time."""

Loaded: TypeAlias = Callable[["bytes | wav.WavError"], None]
"""Told the samples, or why there are none."""


class Loader:
    """`fd` is readable when `collect` has work."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._queue: deque[tuple[str, Loaded]] = deque()
        self._running = 0
        # Appended by the threads, taken by the loop: deque's own operations are atomic.
        self._finished: deque[tuple[Loaded, bytes | wav.WavError]] = deque()
        # Held by a thread while it wakes us, so that `close` cannot hand it somebody else's fd.
        self._lock = threading.Lock()
        self._closed = False

    def start(self, path: str, loaded: Loaded) -> None:
        """Call ``loaded`` from `collect` once the file is read."""
        self._queue.append((path, loaded))
        self._fill()

    def collect(self) -> None:
        """Tell those whose file was read."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        while self._finished:
            loaded, result = self._finished.popleft()
            self._running -= 1
            self._fill()
            loaded(result)

    def close(self) -> None:
        """Nobody is told any more; a thread that still reads ends by itself."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self.fd)

    def _fill(self) -> None:
        while self._queue and self._running < _THREADS:
            path, loaded = self._queue.popleft()
            self._running += 1
            thread = threading.Thread(
                target=self._read, args=(path, loaded), name="read audio", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:  # the kernel gives no thread
                self._finish(loaded, wav.WavError("unreadable", f"{path}: {error}"))

    def _read(self, path: str, loaded: Loaded) -> None:
        result: bytes | wav.WavError
        try:
            result = wav.read(path)
        except wav.WavError as error:
            result = error
        except Exception as error:  # a fault of a decoder is not to leave its call waiting
            result = wav.WavError("not_audio", f"{path}: {type(error).__name__}: {error}")
        self._finish(loaded, result)

    def _finish(self, loaded: Loaded, result: bytes | wav.WavError) -> None:
        self._finished.append((loaded, result))
        with self._lock:
            if not self._closed:
                os.eventfd_write(self.fd, 1)
