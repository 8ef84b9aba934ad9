"""A socket that its supervisor holds: what comes without a process is served by the next one."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from smallherd import SmallHerd, SmallPhone

from sipherd.protocol.events import IncomingCall
from sipherd.protocol.messages import Counters, Drain, Drained
from sipherd.protocol.spec import PhoneSpec

CALLS = 100


@pytest.fixture
def caller() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


def not_yet_forked(herd: SmallHerd, name: str = "bob", **spec: Any) -> SmallPhone:
    """A phone with sockets and without a process."""
    # The nursery of a busy box takes seconds to be there: what waits would be too old meanwhile.
    herd.fork("another")
    phone = SmallPhone(herd, msgspec.convert({"name": name} | spec, PhoneSpec), 1)
    herd.phones[name, 1] = phone
    return phone


def start(herd: SmallHerd, phone: SmallPhone) -> None:
    herd.ask(phone)
    herd.until(lambda: phone.pid or None, "the process")
    phone.welcome()


def message(
    method: str, number: int, peer: tuple[str, int], *, transport: str = "UDP", to_tag: str = ""
) -> bytes:
    host, port = peer
    to = f"<sip:bob@phone>;tag={to_tag}" if to_tag else "<sip:bob@phone>"
    return (
        f"{method} sip:bob@127.0.0.1 SIP/2.0\r\n"
        f"Via: SIP/2.0/{transport} {host}:{port};branch=z9hG4bK{number};rport\r\n"
        f"From: <sip:carol@{host}>;tag=c{number}\r\nTo: {to}\r\n"
        f"Call-ID: {number}@peer\r\nCSeq: 1 {method}\r\nMax-Forwards: 70\r\n"
        f"Contact: <sip:carol@{host}:{port}>\r\nContent-Length: 0\r\n\r\n"
    ).encode()


def until_final(caller: socket.socket, count: int) -> dict[str, int]:
    """The final responses to so many INVITEs, by Call-ID; each is acknowledged as it comes."""
    finals: dict[str, int] = {}
    deadline = time.monotonic() + 20
    while len(finals) < count and time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError):
            data, source = caller.recvfrom(65536)
            head = data.decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in head[1:] if ": " in line)
            code = int(head[0].split()[1])
            if code >= 200 and headers["CSeq"].endswith("INVITE"):
                finals[headers["Call-ID"]] = code
                number = int(headers["Call-ID"].partition("@")[0])
                tag = headers["To"].rpartition("tag=")[2]
                ack = message("ACK", number, caller.getsockname(), to_tag=tag)
                caller.sendto(ack, source)
    return finals


def wait_counted(phone: SmallPhone, name: str, count: int) -> None:
    """Wait until it has counted so much, or more."""

    def told() -> bool | None:
        totals = phone.heard(Counters)
        return (totals and totals[-1].values.get(name, 0) >= count) or None

    phone.herd.until(told, f"{name}: {count}")


def test_invites_that_came_before_the_process_are_answered(
    herd: SmallHerd, caller: socket.socket
) -> None:
    phone = not_yet_forked(herd, media="none", on_incoming={"answer_after": 0.05})
    for copy in range(2):
        for number in range(CALLS):
            data = message("INVITE", number, caller.getsockname())
            caller.sendto(data, (phone.host, phone.port))
        assert not phone.said, f"copy {copy} was sent to a process"
    start(herd, phone)
    finals = until_final(caller, CALLS)
    assert finals == {f"{number}@peer": 200 for number in range(CALLS)}
    phone.wait(IncomingCall, CALLS)
    wait_counted(phone, "backlog_read", 2 * CALLS)
    wait_counted(phone, "backlog_copies", CALLS)


def test_more_than_is_read_at_once(herd: SmallHerd, caller: socket.socket) -> None:
    """Each batch is judged by the age of what is in it, down to an empty socket."""
    phone = not_yet_forked(herd, media="none", on_incoming={"reject": 486})
    for number in range(400):
        data = message("INVITE", number, caller.getsockname())
        caller.sendto(data, (phone.host, phone.port))
    start(herd, phone)
    assert until_final(caller, 400) == {f"{number}@peer": 486 for number in range(400)}
    wait_counted(phone, "backlog_read", 400)


def test_an_invite_and_its_cancel(herd: SmallHerd, caller: socket.socket) -> None:
    phone = not_yet_forked(herd, media="none")
    for method in ("INVITE", "CANCEL"):
        caller.sendto(message(method, 1, caller.getsockname()), (phone.host, phone.port))
    start(herd, phone)
    assert until_final(caller, 1) == {"1@peer": 487}
    phone.send(Drain())
    phone.wait(Drained)
    assert not phone.heard(IncomingCall)


def test_a_connection_that_came_before_the_process(herd: SmallHerd) -> None:
    """It waits in the listener's queue, with all that its peer has written."""
    phone = not_yet_forked(herd, media="none", on_incoming={"reject": 486})
    with socket.create_connection((phone.host, phone.port), timeout=5) as peer:
        peer.sendall(message("INVITE", 1, peer.getsockname(), transport="TCP"))
        start(herd, phone)
        seen = b""
        while b"SIP/2.0 486" not in seen:
            data = peer.recv(65536)
            assert data, seen
            seen += data
        tag = seen.rpartition(b"SIP/2.0 486")[2].partition(b"To: ")[2].split(b"\r\n")[0]
        ack = tag.rpartition(b"tag=")[2].decode()
        peer.sendall(message("ACK", 1, peer.getsockname(), transport="TCP", to_tag=ack))
        phone.send(Drain())
        phone.wait(Drained)
