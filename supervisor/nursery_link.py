"""The supervisor's end of the nursery: started, asked for forks, and started again when it dies.

Only processes and packets in here; what the answers mean is for ``phone_processes.py``.
"""

from __future__ import annotations

import array
import contextlib
import os
import select
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Sequence

from ..protocol.errors import ProtocolError
from ..protocol.fork import (
    MAX_PACKET,
    Fork,
    NurseryMessage,
    SipSockets,
    decode_from_nursery,
    pack,
)
from .processes import inherited_environment, words_of_exit

__all__ = ["DEFAULT_NURSERY", "NurseryLink", "NurseryUnfit", "open_output_pipe"]

DEFAULT_NURSERY: tuple[str, ...] = (sys.executable, "-P", "-m", "sipherd.worker.nursery")
MAX_DEATHS = 5
DEATHS_WITHIN = 60.0
"""Seconds; a nursery that dies more than MAX_DEATHS times within them is not started again."""


class NurseryUnfit(Exception):
    """The nursery can't be started, or dies too often; the message is for people."""


def open_output_pipe() -> tuple[int, int]:
    """Read end and write end; a full pipe blocks neither its writer nor its reader."""
    return os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)


class NurseryLink:
    """One nursery at a time.

    ``lock_fd`` and ``lifeline_fd`` (the read end) are inherited by the nursery and its phones,
    ``pulses_fd`` by the nursery alone, which maps it.
    Raises NurseryUnfit.
    """

    def __init__(
        self, command: Sequence[str], *, lock_fd: int, lifeline_fd: int, pulses_fd: int
    ) -> None:
        self._command = tuple(command)
        self._lock_fd = lock_fd
        self._lifeline_fd = lifeline_fd
        self._pulses_fd = pulses_fd
        self._deaths: deque[float] = deque()
        self.last_line = ""
        """The last line of its raw output, kept by the owner: perhaps it says why it died."""
        self._supervisor_fd = os.pidfd_open(os.getpid())
        try:
            self._start()
        except BaseException:
            os.close(self._supervisor_fd)
            raise

    def _start(self) -> None:
        with contextlib.ExitStack() as on_error:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            on_error.callback(ours.close)
            ours.setblocking(False)
            output, output_write = os.pipe2(os.O_CLOEXEC)
            on_error.callback(os.close, output)
            os.set_blocking(output, False)
            passed = {
                "--control-fd": theirs.fileno(),
                "--lifeline-fd": self._lifeline_fd,
                "--lock-fd": self._lock_fd,
                "--pulses-fd": self._pulses_fd,
                "--supervisor-fd": self._supervisor_fd,
            }
            try:
                process = subprocess.Popen(
                    [*self._command, *(word for pair in passed.items() for word in map(str, pair))],
                    stdin=subprocess.DEVNULL,
                    stdout=output_write,
                    stderr=output_write,
                    pass_fds=tuple(passed.values()),
                    env=inherited_environment(),
                    start_new_session=True,  # Ctrl-C may come before it could do so itself
                )
            except OSError as error:
                raise NurseryUnfit(
                    f"can't start the process that forks phones ({self._command[0]}): "
                    f"{error.strerror}"
                ) from None
            finally:
                theirs.close()
                os.close(output_write)
            on_error.pop_all()
        self._process = process
        self._socket = ours
        self.socket_fd = ours.fileno()
        self.pid = process.pid
        self.pidfd = os.pidfd_open(process.pid)
        self.output_fd = output
        """Read end of its raw output; the owner's to close."""
        self.has_closed = False
        """It closed its end: it is dead, or might as well be."""
        self._outbox: deque[tuple[bytes, list[int]]] = deque()

    # -- asking ----------------------------------------------------------------------------------

    def fork(self, request: Fork, sockets: SipSockets, journal_fd: int, output_fd: int) -> None:
        """Ask for a process.  A nursery that is dead never answers, see ``restart``."""
        packet = pack(request)
        descriptors = [*sockets, journal_fd, output_fd]
        if self._outbox or not self._send(packet, descriptors):
            # Copies: the owner may close the originals before these could be sent.
            self._outbox.append((packet, [os.dup(fd) for fd in descriptors]))

    def is_congested(self) -> bool:
        """Whether ``send_waiting`` is wanted once the socket is writable."""
        return bool(self._outbox)

    def send_waiting(self) -> None:
        """Send what did not fit before."""
        while self._outbox and self._send(*self._outbox[0]):
            self._forget_first()

    def _forget_first(self) -> None:
        for fd in self._outbox.popleft()[1]:
            os.close(fd)

    def _send(self, packet: bytes, descriptors: list[int]) -> bool:
        rights = array.array("i", descriptors)
        try:
            self._socket.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionError):
            pass  # it is dead, and its pidfd tells
        return True

    # -- answers ---------------------------------------------------------------------------------

    def receive(self) -> tuple[NurseryMessage, int | None] | None:
        """The next message, and the descriptor that came with it; None when there is none.

        Raises:
            ProtocolError: the packet is bad; the next one may be good.
        """
        # socket.recv_fds drops its flags, and so CLOEXEC.
        room = socket.CMSG_SPACE(4 * array.array("i").itemsize)
        while True:
            try:
                packet, ancillary, _, _ = self._socket.recvmsg(
                    MAX_PACKET, room, socket.MSG_CMSG_CLOEXEC
                )
                break
            except BlockingIOError:
                return None
            except ConnectionError:
                continue  # it died with requests unread: told once, before its last words
        descriptors = array.array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        if not packet:
            self.has_closed = True
            return None
        try:
            if len(descriptors) > 1:
                raise ProtocolError(f"the nursery sent {len(descriptors)} descriptors at once")
            return decode_from_nursery(packet), descriptors[0] if descriptors else None
        except ProtocolError:
            for fd in descriptors:
                os.close(fd)
            raise

    # -- the end ---------------------------------------------------------------------------------

    def reap(self) -> str:
        """Wait for the process, which is dead or about to be; its cause of death in words."""
        code = self._process.wait()
        self._close_ends()
        return words_of_exit(code)

    def restart(self, cause: str, now: float) -> None:
        """Another nursery after ``reap``.  Raises NurseryUnfit."""
        self._deaths.append(now)
        while self._deaths[0] <= now - DEATHS_WITHIN:
            self._deaths.popleft()
        if len(self._deaths) > MAX_DEATHS:
            hint = f": {self.last_line}" if self.last_line else ""
            raise NurseryUnfit(
                f"the process that forks phones died {len(self._deaths)} times within "
                f"{DEATHS_WITHIN:.0f} s, the last time with {cause}{hint}"
            )
        self.last_line = ""
        self._start()

    def kill(self) -> None:
        """End a nursery that breaks its promises."""
        self._process.kill()

    def stop(self, timeout: float) -> bool:
        """Tell it that no phone is left, and wait; False if it had to be killed."""
        self._socket.close()
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        ended = bool(poll.poll(timeout * 1000))
        if not ended:
            self._process.kill()
        self.reap()
        return ended

    def close(self) -> None:
        """Forget the link to a nursery that was stopped or is dead."""
        os.close(self._supervisor_fd)

    def _close_ends(self) -> None:
        self._socket.close()
        os.close(self.pidfd)
        while self._outbox:
            self._forget_first()
