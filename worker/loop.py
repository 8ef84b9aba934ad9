"""The poll loop of a phone's process: one thread, one epoll, and nothing in it that blocks.

An idle phone sleeps: it wakes for a datagram, a message of its supervisor, a signal, the end of
the lifeline, a name that was looked up, or a timer of a call, and for nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import struct
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence

from ..protocol.fork import SipSockets
from ..protocol.messages import Exit, Hello, Welcome
from .link import Link
from .phone import Phone, stack_config
from .resolve import Resolver
from .rtp_ports import RtpPorts
from .sip.engine import Engine
from .sip.uri import is_numeric
from .stack import Address, Hop

__all__ = ["SipSocket", "Worker"]

_ROUND = 64
"""Datagrams taken at a time, so that commands and timers get their turn."""
_MAX_DATAGRAM = 65535
_EXIT_LIMIT = 0.5
"""Seconds after SIGTERM or the end of the lifeline when the process is gone at the latest."""
_LINGER = 0.05
"""Seconds for the last messages to reach the supervisor's socket."""

# <linux/in.h>, <asm/socket.h>, <linux/errqueue.h>; Python's socket module has not all of them.
_IP_RECVERR = 11
_SO_RXQ_OVFL = 40
_EXTENDED_ERROR = struct.Struct("=IBBBBII")
_ORIGIN_ICMP = 2
_ICMP_UNREACHABLE, _ICMP_PARAMETER = 3, 12
_FRAGMENTATION_NEEDED = 4


class SipSocket:
    """The phone's UDP socket, adopted from the supervisor.

    ``counts`` gets ``sip_rcvbuf_overflow`` (datagrams the kernel dropped since the socket was
    bound), ``sip_send_blocked``, ``sip_send_failed``, ``sip_icmp``.
    """

    def __init__(self, fd: int, counts: Counter[str]) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        # Without it an ICMP error of one peer would be an error of whatever is sent next.
        self._socket.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
        self._counts = counts
        self._buffer = bytearray(_MAX_DATAGRAM)
        self._view = memoryview(self._buffer)
        self._ancillary = 256
        self.fd = fd

    @property
    def host(self) -> str:
        """The address it is bound to."""
        host: str = self._socket.getsockname()[0]
        return host

    def receive(self) -> tuple[bytes, Address] | None:
        """The next datagram; None when there is none now."""
        for _ in range(_ROUND):
            try:
                size, ancillary, _, source = self._socket.recvmsg_into(
                    [self._buffer], self._ancillary
                )
            except BlockingIOError:
                return None
            except OSError:
                continue  # an ICMP error: the error queue has it, with more about it
            for level, kind, data in ancillary:
                if level == socket.SOL_SOCKET and kind == _SO_RXQ_OVFL:
                    (self._counts["sip_rcvbuf_overflow"],) = struct.unpack("=I", data[:4])
            return bytes(self._view[:size]), (source[0], source[1])
        return None

    def unreachable(self) -> tuple[bytes, Address] | None:
        """The next of our datagrams that reached nobody; None when there is none left."""
        while True:
            try:
                size, ancillary, _, peer = self._socket.recvmsg_into(
                    [self._buffer], self._ancillary, socket.MSG_ERRQUEUE
                )
            except OSError:
                return None
            if peer and any(map(_says_unreachable, ancillary)):
                self._counts["sip_icmp"] += 1
                return bytes(self._view[:size]), (peer[0], peer[1])
            self._counts["sip_icmp_ignored"] += 1

    def send(self, data: bytes, destination: Address) -> bool:
        """Put a datagram on the wire.  False: nobody can be reached there.

        What the kernel has no room for now counts as lost on the way: SIP sends it again.
        """
        # A name would be looked up by sendto, and block; IPv6 has no route from this socket.
        if (
            not is_numeric(destination[0])
            or ":" in destination[0]
            or not 0 < destination[1] < 65536
        ):
            self._counts["sip_send_failed"] += 1
            return False
        for attempt in (1, 2):
            try:
                self._socket.sendto(data, destination)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM):
                    self._counts["sip_send_blocked"] += 1
                    return True
                # The first error may be an ICMP answer to another datagram, reported here.
                if attempt == 2:
                    self._counts["sip_send_failed"] += 1
                    return False
            else:
                return True
        raise AssertionError("unreachable")


def _says_unreachable(ancillary: tuple[int, int, bytes]) -> bool:
    """RFC 3261 §18.4: unreachable and parameter problem count, TTL exceeded does not.

    Nor does "fragmentation needed": the kernel has learnt the path's MTU, the next copy arrives.
    """
    level, kind, data = ancillary
    if level != socket.IPPROTO_IP or kind != _IP_RECVERR or len(data) < _EXTENDED_ERROR.size:
        return False
    _, origin, icmp_type, code, *_ = _EXTENDED_ERROR.unpack_from(data)
    if origin != _ORIGIN_ICMP:
        return False  # our own kernel's: sendto has reported it
    if icmp_type == _ICMP_UNREACHABLE:
        return bool(code != _FRAGMENTATION_NEEDED)
    return bool(icmp_type == _ICMP_PARAMETER)


class Worker:
    """The process of one phone, from hello to exit."""

    def __init__(
        self,
        *,
        endpoint: str,
        phone: str,
        incarnation: int,
        token: str,
        sockets: SipSockets,
        lifeline_fd: int,
    ) -> None:
        self._counts: Counter[str] = Counter()
        self._sockets = sockets
        self._lifeline_fd = lifeline_fd
        self._phone: Phone | None = None
        self._sip: SipSocket | None = None
        self._exit_code: int | None = None
        self._failures = 0
        self._wakeup_fd = _catch_sigterm()
        self._resolver = Resolver()
        self._link = Link(endpoint, phone, incarnation, self._counts)
        self._epoll = select.epoll()
        for fd in (self._wakeup_fd, self._resolver.fd, self._link.fd):
            self._epoll.register(fd, select.EPOLLIN)
        # Nothing is ever written to it: it is readable at its end.
        self._epoll.register(lifeline_fd, select.EPOLLIN)
        self._link.send(Hello(pid=os.getpid(), token=token))

    def run(self) -> int:
        """Serve until told to leave; returns the exit code."""
        while self._exit_code is None:
            try:
                self._turn()
            except Exception:  # one fault must not end the other calls
                if self._phone is None:
                    raise  # there are none: say so to whoever waits for the hello
                self._note_failure(self._phone)
        # An orphan has nobody to tell.
        orphaned = self._lifeline_fd < 0
        self._link.close(0.0 if orphaned else _LINGER)
        return self._exit_code

    # Inside

    def _turn(self) -> None:
        for fd, events in self._epoll.poll(self._timeout()):
            if fd == self._sockets.udp:
                self._guard(self._on_sip, events)
            elif fd == self._lifeline_fd:
                self._guard(self._on_orphaned)
            elif fd == self._wakeup_fd:
                self._guard(self._on_signal)
            elif fd == self._resolver.fd:
                self._guard(self._on_resolved)
        # Asked in every turn, whatever woke us: its descriptor is edge-triggered, and sending
        # uses the edge up.
        if self._exit_code is None and self._link.wants_turn():
            self._guard(self._on_link)
        phone = self._phone
        if phone is not None:
            now = time.monotonic()
            due = phone.next_deadline()
            if due is not None and due <= now:
                self._guard(phone.tick, now)
            if phone.exit_now:
                self._exit_code = 0

    def _timeout(self) -> float | None:
        """Seconds to sleep at most; None for as long as nothing happens."""
        if self._exit_code is not None or self._link.wants_turn():
            return 0.0
        due = None if self._phone is None else self._phone.next_deadline()
        return None if due is None else max(due - time.monotonic(), 0.0)

    def _on_link(self) -> None:
        for message in self._link.receive():
            if self._phone is not None:
                self._guard(self._phone.command, message, time.monotonic())
            elif isinstance(message.body, Welcome):
                self._adopt(message.body)
            elif isinstance(message.body, Exit):
                self._exit_code = 0
                return
            else:
                self._counts["link_unexpected"] += 1

    def _adopt(self, welcome: Welcome) -> None:
        """We are the phone's one process: the socket is ours."""
        sip = SipSocket(self._sockets.udp, self._counts)
        ports = RtpPorts(
            sip.host,
            welcome.rtp_first,
            welcome.rtp_pairs,
            skipped=lambda port, why: phone.pair_skipped(port, why),
            shared=welcome.spec.media == "none",
        )
        phone = Phone(
            welcome=welcome,
            stack=Engine(stack_config(welcome)),
            ports=ports,
            transmit=self._transmit,
            tell=lambda body, reply_to: self._link.send(body, reply_to=reply_to),
            resolve=self._resolver.start,
            counts=self._counts,
            now=time.monotonic(),
        )
        self._sip, self._phone = sip, phone
        self._epoll.register(sip.fd, select.EPOLLIN | select.EPOLLERR)

    def _on_sip(self, events: int) -> None:
        assert self._sip is not None
        assert self._phone is not None
        if events & select.EPOLLERR:
            for _ in range(_ROUND):
                lost = self._sip.unreachable()
                if lost is None:
                    break
                data, peer = lost
                self._guard(self._phone.unreachable, data, Hop(*peer), time.monotonic())
        for _ in range(_ROUND):
            found = self._sip.receive()
            if found is None:
                break
            data, source = found
            self._guard(self._phone.receive, data, Hop(*source), time.monotonic())

    def _transmit(self, data: bytes, hop: Hop) -> bool:
        """Send to where ``hop`` leads.  False: nobody can be reached there."""
        assert self._sip is not None
        if hop.transport != "udp":
            self._counts["sip_send_failed"] += 1
            return False
        if is_numeric(hop.host):
            return self._sip.send(data, hop.address)
        self._resolver.start(hop, lambda found, why: self._send_resolved(data, hop, found))
        return True

    def _send_resolved(self, data: bytes, hop: Hop, found: Sequence[Address]) -> None:
        assert self._sip is not None
        assert self._phone is not None
        if not found or not self._sip.send(data, found[0]):
            self._phone.unreachable(data, hop, time.monotonic())

    def _on_signal(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wakeup_fd, 64)
        self._leave(orphaned=False)

    def _on_orphaned(self) -> None:
        self._epoll.unregister(self._lifeline_fd)
        self._lifeline_fd = -1
        self._leave(orphaned=True)

    def _leave(self, *, orphaned: bool) -> None:
        # Whatever holds the loop up from here on, the kernel ends the process in time.
        signal.setitimer(signal.ITIMER_REAL, _EXIT_LIMIT)
        if self._phone is None:
            self._exit_code = 0
        else:
            self._phone.leave(time.monotonic(), orphaned=orphaned)

    def _on_resolved(self) -> None:
        assert self._phone is not None
        self._phone.resolved(self._resolver.collect, time.monotonic())

    def _guard(self, callback: Callable[..., None], *arguments: object) -> None:
        try:
            callback(*arguments)
        except Exception:
            if self._phone is None:
                raise
            self._note_failure(self._phone)

    @staticmethod
    def _note_failure(phone: Phone) -> None:
        phone.failed("worker_error", traceback.format_exc(), time.monotonic())


def _catch_sigterm() -> int:
    """The descriptor that SIGTERM makes readable."""
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    # The C handler writes to the pipe; the Python handler has nothing left to do.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    return read
