"""What the service manager is told: sd_notify(3), as far as a herd has something to say.

Never blocks.  A datagram that systemd's queue does not take is tried again if it tells of a change
of state; a status or a sign of life that is late is worth nothing.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Callable, Mapping

from .effects import Phase

__all__ = ["Notifier"]

STATUS_EVERY = 1.0
"""Seconds between two STATUS lines at the least."""
RETRY_AFTER = 0.1
"""Seconds until a message that was not taken is tried again."""


class Notifier:
    """Tells the service manager named by ``environ``; does nothing where there is none.

    ``pid`` is this process's: a WATCHDOG_PID that is another's means that nobody watches us.
    """

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        self._socket: socket.socket | None = None
        self._unsent: deque[str] = deque()
        self._phase: Phase = "starting"
        self._told = -1
        """Number of the change after which a status was sent."""
        self._status = ""
        self._status_at = 0.0
        self._alive_every = 0.0
        """Seconds between two signs of life; 0 without a watchdog."""
        self._alive_at = 0.0
        self.deadline: float | None = None
        """When ``tell`` is wanted next, if nothing happens before."""
        address = environ.get("NOTIFY_SOCKET", "")
        if address[:1] not in ("/", "@"):  # vsock is for virtual machines
            return
        with contextlib.suppress(OSError, ValueError):
            self._socket = socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            )
            name = "\0" + address[1:] if address[0] == "@" else address
            self._address = name.encode("utf-8", "surrogateescape")
        if environ.get("WATCHDOG_PID", str(pid)) == str(pid):
            with contextlib.suppress(ValueError):
                self._alive_every = max(int(environ.get("WATCHDOG_USEC", "0")), 0) / 2e6
        if self._alive_every:
            self.deadline = 0.0

    def tell(self, phase: Phase, change: int, status: Callable[[], str], now: float) -> None:
        """Where the herd is.  To be called in every pass of the loop: so a loop that is stuck
        gives no sign of life, and the watchdog restarts the service.

        ``status()`` is asked for at most once a second, and only when the number ``change`` is
        another.  ``now`` is CLOCK_MONOTONIC.
        """
        if self._socket is None:
            return
        if phase != self._phase:
            self._phase = phase
            if state := _STATES[phase]:
                at = f"\nMONOTONIC_USEC={int(now * 1e6)}" if phase == "reloading" else ""
                self._unsent.append(state + at)
        while self._unsent and self._send(self._unsent[0]):
            self._unsent.popleft()
        deadlines = [now + RETRY_AFTER] if self._unsent else []
        if change != self._told:
            if now >= self._status_at + STATUS_EVERY:
                self._told, self._status_at = change, now
                if (text := status()) != self._status:
                    self._status = text
                    self._send(f"STATUS={text}")
            else:
                deadlines.append(self._status_at + STATUS_EVERY)
        if self._alive_every:
            if now >= self._alive_at:
                self._send("WATCHDOG=1")
                self._alive_at = now + self._alive_every
            deadlines.append(self._alive_at)
        self.deadline = min(deadlines, default=None)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, text: str) -> bool:
        """Whether it was taken, or nobody is there any more to take it."""
        assert self._socket is not None
        try:
            self._socket.sendto(text.encode(), self._address)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True


_STATES: dict[Phase, str] = {
    "starting": "",
    "ready": "READY=1",
    "reloading": "RELOADING=1",
    "stopping": "STOPPING=1",
}
