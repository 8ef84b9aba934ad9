"""A supervisor as a process of a test, and clients that send it what they like."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import psutil
import zmq

import sipherd
from peers.sipp import loopback_address
from sipherd.client import Connection
from sipherd.protocol.codec import encode, from_supervisor_to_client
from sipherd.protocol.messages import Envelope, GetHerd, HerdInfo, ListPhones, PhoneInfo, PhoneList
from sipherd.protocol.spec import HerdSpec, PhoneSpec
from sipherd.protocol.states import PhoneState

__all__ = ["ENVIRON", "MakeRaw", "Raw", "Start", "Supervisor", "a_herd", "is_alive", "wait_for"]

T = TypeVar("T")

ENVIRON = {"PYTHONPATH": str(Path(sipherd.__file__).parents[1])}

RUN = """
import sys
from pathlib import Path
import msgspec
from sipherd.protocol.spec import HerdSpec
from sipherd.supervisor.service import Options, run

spec = msgspec.json.decode(sys.argv[1], type=HerdSpec)
{options}
sys.exit(run(Options(spec=spec, runtime_dir=Path(sys.argv[2]), ready_fd=int(sys.argv[3]), **more)))
"""


def wait_for(condition: Callable[[], T], what: str, timeout: float = 10.0) -> T:
    """The condition's first true value."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.01)
    return found


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def a_herd(*phones: str, herd: str = "lab", **more: Any) -> HerdSpec:
    """Phones on an address of their own: nobody else gets a port that one of them gives back."""
    address = loopback_address()
    specs = tuple(PhoneSpec(name=name, port=0, address=address) for name in phones)
    return HerdSpec(herd=herd, phones=specs, **more)


class Supervisor:
    """A supervisor as a child of the test."""

    def __init__(
        self,
        spec: HerdSpec,
        directory: Path,
        folder: Path,
        *,
        options: str | None = None,
        stdout: int = subprocess.DEVNULL,
        with_ready: bool = True,
        owner_fd: int | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.herd = spec.herd
        self._errors = folder / "stderr"
        ready, ready_write = os.pipe()
        text = msgspec.json.encode(spec).decode()
        described = folder / "herd.json"
        described.write_text(text)
        spec_fd = os.open(described, os.O_RDONLY)
        command = [sys.executable, "-m", "sipherd.supervisor", "--spec-fd", str(spec_fd)]
        command += ["--runtime-dir", str(directory)]
        passed = [spec_fd]
        if with_ready:
            command += ["--ready-fd", str(ready_write)]
            passed.append(ready_write)
        if owner_fd is not None:
            command += ["--owner-fd", str(owner_fd)]
            passed.append(owner_fd)
        if options is not None:
            code = RUN.format(options=options)
            command = [sys.executable, "-c", code, text, str(directory), str(ready_write)]
        command = [*prefix, *command]
        with self._errors.open("ab") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=errors,
                pass_fds=passed,
                env=os.environ | ENVIRON,
            )
        os.close(ready_write)
        os.close(spec_fd)
        line = b""
        while chunk := os.read(ready, 4096):
            line += chunk
        os.close(ready)
        self.ready: dict[str, Any] = json.loads(line) if line else {}

    @property
    def pid(self) -> int:
        return self.process.pid

    def stderr(self) -> str:
        return self._errors.read_text()

    def logged(self, event: str) -> list[dict[str, Any]]:
        # The last line may be half written.
        whole = [line for line in self.stderr().splitlines(keepends=True) if line.endswith("\n")]
        lines = (json.loads(line) for line in whole if line.startswith("{"))
        return [line for line in lines if line["event"] == event]

    def wait_logged(self, event: str) -> list[dict[str, Any]]:
        """The same, once there is one: a thread of its own writes the log."""
        return wait_for(lambda: self.logged(event), f"{event} in the log")

    def ask(self, body: Any) -> Any:
        """The result of one command."""
        with contextlib.closing(Connection(self.herd, self.directory)) as connection:
            return connection.request(body, 20.0)

    def info(self) -> HerdInfo:
        info = self.ask(GetHerd())
        assert isinstance(info, HerdInfo)
        return info

    def phones(self) -> dict[str, PhoneInfo]:
        found = self.ask(ListPhones())
        assert isinstance(found, PhoneList)
        return {phone.name: phone for phone in found.phones}

    def wait_ready(self) -> dict[str, PhoneInfo]:
        """The phones, once all of them are READY."""

        def all_ready() -> dict[str, PhoneInfo]:
            phones = self.phones()
            ready = all(phone.state is PhoneState.READY for phone in phones.values())
            return phones if ready else {}

        try:
            return wait_for(all_ready, "all phones ready")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.phones()} {self.stderr()}") from None

    def wait(self, timeout: float = 15.0) -> int:
        return self.process.wait(timeout)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.wait(12)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for name in ("sock", "workers"):  # of one that a test killed
            with contextlib.suppress(OSError):
                (self.directory / f"{self.herd}.{name}").unlink(missing_ok=True)


class Raw:
    """A client that sends what it likes."""

    def __init__(self, path: Path) -> None:
        self._context = zmq.Context(1)
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.set(zmq.LINGER, 500)
        self.socket.connect(f"ipc://{path}")

    def ask(self, id: int, body: Any) -> Any:
        self.socket.send(encode(Envelope(id=id, body=body)))
        return self.receive()

    def receive(self) -> Any:
        assert self.socket.poll(5000), "no answer"
        return from_supervisor_to_client.decode(self.socket.recv())

    def close(self) -> None:
        """Can be called twice."""
        self.socket.close()
        self._context.term()


Start = Callable[..., Supervisor]
"""Type of the fixture `start`."""

MakeRaw = Callable[..., Raw]
"""Type of the fixture `raw`."""
