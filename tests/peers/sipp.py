"""Run SIPp as one party of a call, and tell what came of it."""

from __future__ import annotations

import csv
import itertools
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

__all__ = ["SCENARIOS", "Message", "Sipp", "free_port", "loopback_address", "wait_for"]

SCENARIOS = Path(__file__).parent / "scenarios"

T = TypeVar("T")

#: SIPp takes a message equal to the last one for a retransmission and hides it from the scenario;
#: with -nr it neither does that nor retransmits anything itself.
_SEE_COPIES = {"callee_ignores_first_bye", "callee_repeats_200", "caller_repeats_invite"}

_addresses = itertools.count(1)
# Every second one: Kamailio and SIPp use the next for more.  Another run begins elsewhere.
_PORTS = range(10000, 20000, 2)
_ports = itertools.islice(itertools.cycle(_PORTS), os.getpid() * 97 % len(_PORTS), None)
_MESSAGE = re.compile(
    r"^-{40,}[^\n]*\n[^\n]*? message (?P<direction>sent|received) .*?:\n\n"
    r"(?P<text>.*?)(?=^-{40,}|\Z)",
    re.MULTILINE | re.DOTALL,
)


def wait_for(condition: Callable[[], T], what: str, timeout: float = 10.0) -> T:
    """What `condition` returns as soon as that is true."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout:g} s")
        time.sleep(0.01)
    return value


def loopback_address() -> str:
    """An address of 127.0.0.0/8 that nothing else in this run, or a run beside it, uses."""
    number = next(_addresses)
    pid = os.getpid()
    return f"127.{16 + pid // 256 % 128}.{pid % 256}.{1 + number % 250}"


def free_port(address: str) -> int:
    """A port of `address` for a peer to bind, each time another one.

    Not one that the kernel gives away, and looked up, not tried: a socket bound to try it may
    live on for a moment in the child that another thread is just starting.
    """
    for _ in range(len(_PORTS)):
        port = next(_ports)
        if not any(port_is_bound(address, port, protocol) for protocol in ("udp", "tcp")):
            return port
    raise RuntimeError(f"{address}: every port of {_PORTS} is bound")


def port_is_bound(address: str, port: int, protocol: str = "udp") -> bool:
    """Whether a socket is bound to this port of exactly this address."""
    if ":" in address:
        packed = socket.inet_pton(socket.AF_INET6, address)
        protocol += "6"
    else:
        packed = socket.inet_aton(address)
    # Groups of four bytes, each in the order of this machine.
    words = (packed[i : i + 4][::-1].hex() for i in range(0, len(packed), 4))
    wanted = f"{''.join(words)}:{port:04x}".upper()
    lines = Path(f"/proc/net/{protocol}").read_text().splitlines()[1:]
    return any(line.split()[1] == wanted for line in lines)


class Message(NamedTuple):
    """One SIP message of SIPp's log."""

    direction: str
    """``sent`` or ``received``."""
    text: str

    @property
    def start(self) -> str:
        """Method of a request, code of a response."""
        words = self.text.split(maxsplit=2)
        return words[1] if words[0].startswith("SIP/") else words[0]


class Sipp:
    """One SIPp process.

    `scenario` is a file of `SCENARIOS` without ``.xml``, or ``-sn uac`` for a built-in one.
    With `target` (host, port) it calls, without it waits to be called. By `transport` ``udp`` or
    ``tcp``, the latter by one connection for all calls.
    """

    def __init__(
        self,
        program: str,
        folder: Path,
        scenario: str,
        *,
        target: tuple[str, int] | None = None,
        calls: int = 1,
        rate: float = 10,
        timeout: float = 20,
        address: str | None = None,
        transport: str = "udp",
        options: Sequence[str] = (),
    ) -> None:
        self.scenario = scenario
        self.address = address or loopback_address()
        self.port = free_port(self.address)
        self._host = f"[{self.address}]" if ":" in self.address else self.address
        self._transport = transport
        self.folder = folder
        built_in = scenario.split() if scenario.startswith("-sn ") else None
        command = [
            program,
            *(built_in or ["-sf", str(SCENARIOS / f"{scenario}.xml")]),
            *("-i", self._host, "-p", str(self.port), "-bind_local"),
            *("-mi", self._host, "-ci", self._host),
            *("-t", "t1" if transport == "tcp" else "u1"),
            *("-m", str(calls), "-l", str(max(calls, 1)), "-r", str(rate)),
            *("-timeout", f"{timeout:g}s", "-timeout_error", "-nostdin"),
            *("-trace_err", "-error_file", str(folder / "errors.log")),
            *("-trace_msg", "-message_file", str(folder / "messages.log")),
            *("-trace_stat", "-stf", str(folder / "statistics.csv"), "-fd", "1"),
            *(["-nr"] if scenario in _SEE_COPIES else []),
            *options,
        ]
        if target is not None:
            host, port = target
            command.append(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        with (folder / "screen.log").open("wb") as screen:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=subprocess.STDOUT,
            )
        if target is None:
            try:
                wait_for(self._listens, f"SIPp on {self.address}:{self.port}")
            except BaseException:
                self.close()
                raise

    def _listens(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"SIPp ended by itself:\n{self.report()}")
        return port_is_bound(self.address, self.port, self._transport)

    @property
    def uri(self) -> str:
        tcp = ";transport=tcp" if self._transport == "tcp" else ""
        return f"sip:service@{self._host}:{self.port}{tcp}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self, timeout: float = 20.0) -> int:
        """The exit code: 0 if every call went as the scenario has it."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"SIPp still runs after {timeout:g} s\n{self.report()}") from None

    def passes(self, timeout: float = 20.0) -> None:
        """Assert that every call goes as the scenario has it."""
        code = self.wait(timeout)
        assert code == 0, f"{self.scenario}: SIPp ended with {code}\n{self.report()}"

    def statistics(self) -> dict[str, str]:
        """The last row of SIPp's statistics by column, such as ``FailedCall(C)``."""
        try:
            text = (self.folder / "statistics.csv").read_text()
        except FileNotFoundError:
            return {}
        rows = list(csv.DictReader(text.splitlines(), delimiter=";"))
        return rows[-1] if rows else {}

    def count(self, column: str) -> int:
        """One cumulative number of the statistics: ``SuccessfulCall``, ``Retransmissions`` …"""
        return int(self.statistics()[f"{column}(C)"])

    def failed_checks(self) -> int:
        """Calls that failed because a message was wrong, and not because none came."""
        return sum(
            int(count)
            for column, count in self.statistics().items()
            if column and re.match(r"Failed(Regexp|Test|Strcmp|UnexpectedMessage).*\(C\)", column)
        )

    def messages(self) -> list[Message]:
        """What it sent and received so far, in order."""
        try:
            log = (self.folder / "messages.log").read_text(errors="replace")
        except FileNotFoundError:
            return []
        return [Message(found["direction"], found["text"]) for found in _MESSAGE.finditer(log)]

    def received(self, start: str) -> list[str]:
        """The messages received with this method or code."""
        return [
            message.text
            for message in self.messages()
            if message.direction == "received" and message.start == start
        ]

    def errors(self) -> str:
        """What SIPp itself says went wrong."""
        try:
            return (self.folder / "errors.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def report(self) -> str:
        """What a person needs to understand a failure."""
        flow = "\n".join(
            f"  {'<-' if message.direction == 'received' else '->'} "
            + message.text.partition("\n")[0].strip()
            for message in self.messages()[-40:]
        )
        screen = "" if flow else (self.folder / "screen.log").read_text(errors="replace")[-2000:]
        return f"{self.errors()}\n{flow}{screen}"

    def close(self) -> None:
        """End it if it still runs."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
