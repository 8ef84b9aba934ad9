"""The least that can supervise: a real nursery with real workers, and the test in control of each.

Nothing is decided here; what nursery and workers say is kept in order for the test to look at.
"""

from __future__ import annotations

import array
import contextlib
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import zmq

import sipherd
from sipherd.protocol.codec import encode, from_worker
from sipherd.protocol.events import Body
from sipherd.protocol.fork import (
    Died,
    Fork,
    Forked,
    ForkFailed,
    NurseryMessage,
    decode_from_nursery,
    pack,
)
from sipherd.protocol.messages import (
    Done,
    Envelope,
    Happened,
    Hello,
    Ready,
    Refused,
    SupervisorToWorker,
    Welcome,
    WorkerMessage,
)
from sipherd.protocol.pulse import PULSE_SIZE
from sipherd.protocol.spec import PhoneSpec
from sipherd.supervisor.sockets import bind

__all__ = ["SmallHerd", "SmallPhone", "descriptors", "is_alive", "nobody_at"]

T = TypeVar("T")
B = TypeVar("B")

NURSERY = (sys.executable, "-P", "-m", "sipherd.worker.nursery")
TIMEOUT = 10.0

RTP_FIRST = 27_800 + 600 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 8)
"""What the first phone's RTP ports begin with: each of several test processes has its own."""


def is_alive(pid: int) -> bool:
    """Zombies count as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def descriptors(pid: int) -> list[str]:
    """What the open descriptors of a process lead to."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(link.readlink()))
    return found


def sip_socket(address: tuple[str, int] = ("127.0.0.1", 0)) -> socket.socket:
    """A socket as the supervisor binds it."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, 40, 1)  # SO_RXQ_OVFL
    sock.bind(address)
    return sock


@contextlib.contextmanager
def nobody_at(address: str) -> Iterator[int]:
    """A port of this address where nobody is, by UDP or TCP, and nobody comes either.

    It is bound, so that no other test gets it, to sockets that refuse whatever comes: one that is
    connected elsewhere (to itself), and one that does not listen.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.ExitStack() as stack:
        udp = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        while True:
            tcp = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            tcp.bind((address, 0))
            try:
                udp.bind(tcp.getsockname())
            except OSError:
                continue  # somebody's, by UDP alone
            break
        udp.connect(udp.getsockname())
        yield udp.getsockname()[1]


class SmallPhone:
    """One phone, as its supervisor sees it."""

    def __init__(
        self,
        herd: SmallHerd,
        spec: PhoneSpec,
        incarnation: int,
        *,
        same: SmallPhone | None = None,
    ) -> None:
        """``same`` is an incarnation before, whose sockets and ports it has."""
        self.herd = herd
        self.spec = spec
        self.incarnation = incarnation
        if same is None:
            self._number = len(herd.phones)
            self.host, self.port, sockets = bind(spec.address, 0)
            self.sip, self.tcp = (socket.socket(fileno=fd) for fd in sockets)
        else:
            self._number = same._number
            self.host, self.port = same.host, same.port
            self.sip, self.tcp = same.sip.dup(), same.tcp.dup()
        self.output, self.output_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.pid = 0
        self.pidfd = -1
        self.route = b""
        self.said: list[Envelope[Any]] = []
        self._seq = 0
        self._id = 0

    @property
    def uri(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"sip:{self.spec.number}@{host}:{self.port}"

    def send(self, body: SupervisorToWorker, id: int = 0) -> None:
        """Send to the worker."""
        self._seq += 1
        envelope = Envelope(
            id=id,
            phone=self.spec.name,
            incarnation=self.incarnation,
            seq=self._seq,
            body=body,
        )
        self.herd.router.send_multipart([self.route, encode(envelope)])

    def welcome(self, **changes: Any) -> None:
        """Answer the hello and wait until the phone is ready."""
        self.wait(Hello)
        settings = {"host": self.host, "port": self.port, "rtp_pairs": 4}
        settings["rtp_first"] = RTP_FIRST + 8 * (self._number % 75)
        self.send(Welcome(spec=self.spec, **settings | changes))  # type: ignore[arg-type]
        self.wait(Ready)

    def run(self, body: SupervisorToWorker) -> Done | Refused:
        """Send a command and wait for its end."""
        self._id += 1
        id = self._id
        self.send(body, id)

        def ended() -> Any:
            for envelope in self.said:
                if envelope.reply_to == id and isinstance(envelope.body, (Done, Refused)):
                    return envelope.body
            return None

        end: Done | Refused = self.herd.until(ended, f"the end of {body}")
        return end

    def heard(self, kind: type[B]) -> list[B]:
        """Messages, or bodies of Happened, of one kind."""
        found = [e.body.body if isinstance(e.body, Happened) else e.body for e in self.said]
        return [body for body in found if isinstance(body, kind)]

    def events(self) -> list[Body]:
        """What happened, in order."""
        return [e.body.body for e in self.said if isinstance(e.body, Happened)]

    def wait(self, kind: type[B], count: int = 1) -> B:
        """Wait until so many of a kind are there; returns the last of them."""
        return self.herd.until(
            lambda: found[count - 1] if len(found := self.heard(kind)) >= count else None,
            f"{count} {kind.__name__} of {self.spec.name}",
        )

    def printed(self) -> str:
        """What its process wrote so far."""
        data = b""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.output, 65536):
                data += chunk
        return data.decode()

    def is_gone(self, timeout: float = TIMEOUT) -> bool:
        """Whether the process ends in time, by its pidfd."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def close_sockets(self) -> None:
        """Those that it is reached by."""
        self.sip.close()
        self.tcp.close()

    def close(self) -> None:
        self.close_sockets()
        os.close(self.output)
        if self.pidfd >= 0:
            os.close(self.pidfd)


class SmallHerd:
    """A nursery, its socket, its lifeline, and the ROUTER of its workers."""

    def __init__(self, runtime_dir: Path, command: Sequence[str] = NURSERY) -> None:
        self._context = zmq.Context()
        self.router = self._context.socket(zmq.ROUTER)
        self.router.set(zmq.LINGER, 0)
        self.router.set(zmq.ROUTER_MANDATORY, 1)
        self.endpoint = f"ipc://{runtime_dir}/workers"
        self.router.bind(self.endpoint)
        self.phones: dict[tuple[str, int], SmallPhone] = {}
        self.journals: dict[str, int] = {}
        """Memory files of the phones, by name: all incarnations have the same one."""
        self.answers: list[NurseryMessage] = []
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control = ours
        lifeline, self._lifeline_write = os.pipe2(os.O_CLOEXEC)
        with (
            theirs,
            tempfile.TemporaryFile() as lock,
            tempfile.TemporaryFile() as self._log,
            contextlib.ExitStack() as stack,
        ):
            stack.callback(os.close, lifeline)
            me = os.pidfd_open(os.getpid())
            stack.callback(os.close, me)
            pulses = os.memfd_create("pulses")
            stack.callback(os.close, pulses)
            os.ftruncate(pulses, PULSE_SIZE)
            self.pulses = mmap.mmap(pulses, 0)
            fds = {"control": theirs.fileno(), "lifeline": lifeline, "lock": lock.fileno()}
            fds |= {"pulses": pulses, "supervisor": me}
            self.log_fd = os.dup(self._log.fileno())
            words = [word for name, fd in fds.items() for word in (f"--{name}-fd", str(fd))]
            self.nursery = subprocess.Popen(
                [*command, *words],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=tuple(fds.values()),
                env=os.environ | {"PYTHONPATH": str(Path(sipherd.__file__).parents[1])},
            )

    def __enter__(self) -> SmallHerd:
        return self

    def __exit__(self, *error: object) -> None:
        self.cut_lifeline()
        self.control.close()
        try:
            self.nursery.wait(TIMEOUT)
        finally:
            self.nursery.kill()
            self.nursery.wait()
            for phone in self.phones.values():
                # The nursery may have been killed by the test: its phones are orphans then.
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(phone.pidfd, signal.SIGKILL)
                phone.close()
            for fd in (self.log_fd, *self.journals.values()):
                os.close(fd)
            self.pulses.close()
            self.router.close()
            self._context.term()
            Path(self.endpoint.removeprefix("ipc://")).unlink(missing_ok=True)

    def cut_lifeline(self) -> None:
        """As the death of the supervisor would."""
        if self._lifeline_write >= 0:
            os.close(self._lifeline_write)
            self._lifeline_write = -1

    def log(self) -> str:
        """What the nursery printed."""
        return os.pread(self.log_fd, 1 << 20, 0).decode()

    def fork(
        self, name: str, incarnation: int = 1, *, welcome: bool = True, **spec: Any
    ) -> SmallPhone:
        """Start a phone's process and, unless told otherwise, make it serve."""
        phone = SmallPhone(self, msgspec.convert({"name": name} | spec, PhoneSpec), incarnation)
        self.phones[name, incarnation] = phone
        self.ask(phone)
        self.until(lambda: phone.pid or None, f"the process of {name}")
        if welcome:
            phone.welcome()
        return phone

    def ask(self, phone: SmallPhone, *, endpoint: str | None = None) -> None:
        """Ask for the process of a phone."""
        request = Fork(
            phone=phone.spec.name,
            incarnation=phone.incarnation,
            token="secret",
            endpoint=endpoint or self.endpoint,
            pulse=list(self.phones.values()).index(phone),
        )
        name = phone.spec.name
        if name not in self.journals:
            self.journals[name] = os.memfd_create("journal", os.MFD_CLOEXEC)
        self.send_packet(
            pack(request),
            *(phone.sip.fileno(), phone.tcp.fileno(), self.journals[name], phone.output_write),
        )
        os.close(phone.output_write)

    def send_packet(self, data: bytes, *fds: int) -> None:
        """Send anything to the nursery."""
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
        self.control.sendmsg([data], [rights] if fds else [])

    def nursery_descriptors(self) -> int:
        """How many descriptors the nursery has, once it is done with all that it was sent.

        It replies to a fork request before it closes what came with it; that it has dropped a
        later packet says that it has.
        """
        dropped = self.log().count("dropped a packet")
        self.send_packet(b"\xc1")
        self.until(
            lambda: self.log().count("dropped a packet") > dropped or None, "the packet dropped"
        )
        return len(descriptors(self.nursery.pid))

    def death(self, phone: SmallPhone) -> Died:
        """Wait for what the nursery has to say about the end of a phone."""
        wanted = (phone.spec.name, phone.incarnation)

        def died() -> Died | None:
            for answer in self.answers:
                if isinstance(answer, Died) and (answer.phone, answer.incarnation) == wanted:
                    return answer
            return None

        return self.until(died, f"the death of {phone.spec.name}")

    def until(self, condition: Callable[[], T | None], what: str, timeout: float = TIMEOUT) -> T:
        """Listen until the condition holds, and return it."""
        deadline = time.monotonic() + timeout
        while (found := condition()) is None:
            self.listen(0.02)  # what is awaited need not be a message
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {timeout} s\n{self._situation()}")
        return found

    def _situation(self) -> str:
        lines = [f"nursery: {self.answers} {self.log()}"]
        for phone in self.phones.values():
            lines.append(f"{phone.spec.name}: {[e.body for e in phone.said]} {phone.printed()}")
        return "\n".join(lines)

    def listen(self, timeout: float) -> None:
        """Take what nursery and workers say, if necessary after a wait."""
        poller = zmq.Poller()
        poller.register(self.router, zmq.POLLIN)
        if self.control.fileno() >= 0:
            poller.register(self.control.fileno(), zmq.POLLIN)
        for source, _ in poller.poll(round(max(timeout, 0) * 1000)):
            if source is self.router:
                self._hear_worker()
            else:
                self._hear_nursery()

    def _hear_worker(self) -> None:
        route, data = self.router.recv_multipart()
        message: Envelope[WorkerMessage] = from_worker.decode(data)
        phone = self.phones[message.phone, message.incarnation]
        phone.route = route
        phone.said.append(message)
        assert message.seq == len(phone.said), "a message was lost"

    def _hear_nursery(self) -> None:
        data, ancillary, _, _ = self.control.recvmsg(
            65536, socket.CMSG_SPACE(16), socket.MSG_CMSG_CLOEXEC
        )
        fds = array.array("i")
        for _, _, payload in ancillary:
            fds.frombytes(payload)
        if not data:
            self.control.close()
            return
        answer = decode_from_nursery(data)
        self.answers.append(answer)
        assert len(fds) == (1 if isinstance(answer, Forked) else 0)
        if isinstance(answer, (Forked, ForkFailed)):
            phone = self.phones[answer.phone, answer.incarnation]
            if isinstance(answer, Forked):
                phone.pid, phone.pidfd = answer.pid, fds[0]
