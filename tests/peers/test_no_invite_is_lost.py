"""INVITEs to phones without a process, or with one that dies just then: each gets its answer.

The caller is a plain socket that does what a caller must: it repeats the INVITE (Timer A), and
acknowledges and ends what is answered.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from peers.herd import HerdProcess, PhoneAt
from peers.sipp import loopback_address, wait_for
from sipherd import Herd

StartHerd = Callable[..., HerdProcess]

pytestmark = pytest.mark.slow

T1 = 0.5
PATIENCE = 10.0
"""Seconds for a final response on a busy box; a second is aimed at, and Timer B is 32."""
MANY = [pytest.mark.soak, pytest.mark.timeout(600)]


@dataclass
class _Sent:
    """One INVITE and what came of it."""

    number: int
    phone: PhoneAt
    at: float
    copies: int = 1
    next_copy: float = 0.0
    provisional: float = 0.0
    """When the first 1xx came."""
    tags: set[str] = field(default_factory=set)
    final: int = 0
    took: float = 0.0
    """Seconds from the INVITE to its final response."""
    over: bool = False
    """Its BYE is answered, or it needs none."""


class Caller:
    """Calls by one socket."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind((loopback_address(), 0))
        self.host, self.port = self._socket.getsockname()
        self.calls: dict[str, _Sent] = {}

    def close(self) -> None:
        self._socket.close()

    def invite(self, phone: PhoneAt) -> _Sent:
        now = time.monotonic()
        call = _Sent(len(self.calls) + 1, phone, now, next_copy=now + T1)
        self.calls[f"{call.number}@{self.host}"] = call
        self._send(call, "INVITE")
        return call

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Take part in the calls for so long, or until that is true."""
        deadline = time.monotonic() + seconds
        while not until() and (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(min(left, 0.02))
            with contextlib.suppress(TimeoutError):
                self._take(*self._socket.recvfrom(65536))
            for call in self.calls.values():
                if not (call.provisional or call.final) and time.monotonic() >= call.next_copy:
                    self._send(call, "INVITE")
                    call.next_copy += T1 * 2**call.copies
                    call.copies += 1

    def _take(self, data: bytes, source: tuple[str, int]) -> None:
        lines = data.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        call = self.calls[headers["Call-ID"]]
        if not lines[0].startswith("SIP/2.0"):  # a BYE: it was killed with the call up
            self._answer(lines, source)
            call.over = True
            return
        code, method = int(lines[0].split()[1]), headers["CSeq"].split()[1]
        tag = headers["To"].partition(";tag=")[2]
        if method == "BYE":
            call.over = True
            return
        call.tags.add(tag)
        if code < 200:
            call.provisional = call.provisional or time.monotonic()
            return
        if not call.final:
            call.final, call.took = code, time.monotonic() - call.at
        self._send(call, "ACK", tag)
        if code < 300:
            self._send(call, "BYE", tag)
        else:
            call.over = True

    def _answer(self, lines: list[str], source: tuple[str, int]) -> None:
        kept = ("Via:", "From:", "To:", "Call-ID:", "CSeq:")
        echoed = [line for line in lines if line.startswith(kept)]
        reply = ["SIP/2.0 200 OK", *echoed, "Content-Length: 0", "", ""]
        self._socket.sendto("\r\n".join(reply).encode(), source)

    def _send(self, call: _Sent, method: str, tag: str = "") -> None:
        branch = f"z9hG4bK{call.number}" + (
            "" if method == "INVITE" or call.final >= 300 else method
        )
        uri = f"sip:phone@{call.phone.host}:{call.phone.port}"
        message = (
            f"{method} {uri} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {self.host}:{self.port};branch={branch}\r\n"
            f"From: <sip:caller@{self.host}>;tag=c{call.number}\r\n"
            f"To: <{uri}>{f';tag={tag}' if tag else ''}\r\n"
            f"Call-ID: {call.number}@{self.host}\r\n"
            f"CSeq: {2 if method == 'BYE' else 1} {method}\r\nMax-Forwards: 70\r\n"
            f"Contact: <sip:caller@{self.host}:{self.port}>\r\nContent-Length: 0\r\n\r\n"
        )
        self._socket.sendto(message.encode(), call.phone.target)


@pytest.fixture
def caller() -> Iterator[Caller]:
    with contextlib.closing(Caller()) as caller:
        yield caller


def phones(count: int) -> list[dict[str, Any]]:
    answers = {"media": "none", "on_incoming": {"answer_after": 0.05}}
    return [{"name": f"phone-{number}"} | answers for number in range(count)]


def pid_of(herd: HerdProcess, phone: PhoneAt, restarts: int = 0) -> int:
    """That of the phone's process after so many restarts."""
    wanted = {"phone": phone.name, "kind": "phone_state", "state": "ready"}
    pid: int = herd.wait_events(restarts + 1, **wanted)[-1]["pid"]
    return pid


def is_dead(pid: int) -> bool:
    """It runs no more; while the nursery is stopped, nobody reaps it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def judge(caller: Caller, what: str) -> None:
    """Every call is answered, by one tag, and long before anybody would have given up."""
    calls = list(caller.calls.values())
    caller.run(PATIENCE, lambda: all(call.final for call in calls))
    assert not [call for call in calls if not call.final], "INVITEs without a final response"
    caller.run(PATIENCE, lambda: all(call.over for call in calls))
    assert {call.final for call in calls} == {200}
    assert all(len(call.tags) == 1 for call in calls), "two calls of one INVITE"
    took = sorted(call.took for call in calls)
    late = sum(seconds > 1 for seconds in took)
    print(
        f"{what}: {len(took)} INVITEs answered after {1000 * median(took):.0f} ms (median), "
        f"{1000 * took[-1]:.0f} ms (slowest), {late} later than 1 s"
    )


# 25, for restarts are limited to 50 a second: the last of 50 phones would be back after a second.
@pytest.mark.parametrize(
    ("count", "calls"),
    [pytest.param(10, 20, id="20"), pytest.param(25, 100, id="100", marks=MANY)],
)
def test_while_there_is_no_process(
    start_herd: StartHerd, caller: Caller, count: int, calls: int
) -> None:
    herd = start_herd(phones(count))
    everybody = [herd.phone(f"phone-{number}") for number in range(count)]
    pids = [pid_of(herd, phone) for phone in everybody]
    with Herd.connect(herd.name) as client:
        nursery = client.info().nursery_pid
    os.kill(nursery, signal.SIGSTOP)
    try:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: all(map(is_dead, pids)), "the end of all processes")
        for number in range(calls):
            caller.invite(everybody[number % count])
        assert all(map(is_dead, pids))
    finally:
        os.kill(nursery, signal.SIGCONT)
    judge(caller, f"no process of {count} phones")


@pytest.mark.parametrize(
    ("count", "calls"),
    [pytest.param(20, 20, id="20"), pytest.param(50, 100, id="100", marks=MANY)],
)
def test_just_before_a_kill(start_herd: StartHerd, caller: Caller, count: int, calls: int) -> None:
    """The kill comes 0-5 ms after the INVITE: before, while, or after it is read."""
    herd = start_herd(phones(count))
    chance = random.Random(count)
    heard = 0
    for number in range(calls):
        if number and number % count == 0:  # all once more
            caller.run(PATIENCE, lambda: all(call.over for call in caller.calls.values()))
        phone = herd.phone(f"phone-{number % count}")
        pid = pid_of(herd, phone, number // count)
        call = caller.invite(phone)
        caller.run(chance.uniform(0, 0.005))
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        caller.run(0.02)
        heard += bool(call.provisional and call.provisional <= killed)
    judge(caller, f"killed within 5 ms: {heard} after the 180, {calls - heard} before it was there")
