"""Whatever a stranger sends to a phone's port: counted, answered where a reply is due, survived."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable, Iterator

import pytest

from peers.herd import HerdProcess
from peers.sipp import Sipp, loopback_address, wait_for

StartSipp = Callable[..., Sipp]
StartHerd = Callable[..., HerdProcess]

MALFORMED = {
    "empty": b"",
    "blank lines": b"\r\n\r\n",
    "half a start line": b"INVITE sip:bob",
    "no headers": b"INVITE sip:bob@127.0.0.1 SIP/2.0\r\n\r\n",
    "a header without a colon": b"INVITE sip:bob@127.0.0.1 SIP/2.0\r\nVia\r\n\r\n",
    "not UTF-8": b"INVITE sip:bob@127.0.0.1 SIP/2.0\r\nFrom: \xff\xfe\r\n\r\n",
    "a response to nothing": b"SIP/2.0 200 OK\r\nCall-ID: x\r\n\r\n",
    "a status of no meaning": b"SIP/2.0 999999 OK\r\nCall-ID: x\r\n\r\n",
    "another protocol": b"GET / HTTP/1.1\r\nHost: bob\r\n\r\n",
}


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((loopback_address(), 0))
        sock.settimeout(10)
        yield sock


def malformed(herd: HerdProcess) -> int:
    """What bob counted, as of his last report."""
    shown = herd.command("show", "bob", "--json")
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout.splitlines()[-1])
    count: int = found["counters"].get("sip_malformed", 0)
    return count


def request(sock: socket.socket, *, without: str = "", **replaced: str) -> bytes:
    """An OPTIONS request with headers missing or replaced."""
    host, port = sock.getsockname()
    headers = {
        "Via": f"SIP/2.0/UDP {host}:{port};branch=z9hG4bKbad",
        "Max-Forwards": "70",
        "From": f"<sip:stranger@{host}>;tag=1",
        "To": "<sip:bob@127.0.0.1>",
        "Call-ID": f"bad@{host}",
        "CSeq": "1 OPTIONS",
        "Content-Length": "0",
    } | {name.replace("_", "-"): value for name, value in replaced.items()}
    headers.pop(without, None)
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(["OPTIONS sip:bob@127.0.0.1 SIP/2.0", *lines, "", ""]).encode()


def keeps_serving(herd: HerdProcess, start_sipp: StartSipp) -> None:
    start_sipp("caller_calls", target=herd.phone("bob").target).passes()
    assert not herd.events(kind="phone_died")


BOB = {"name": "bob", "media": "none", "on_incoming": {"answer_after": 0}}


def test_ten_thousand_random_datagrams(
    start_herd: StartHerd, start_sipp: StartSipp, stranger: socket.socket
) -> None:
    """Noise, and SIP with random bytes in it; in portions, so that the kernel drops none."""
    herd = start_herd([BOB])
    bob = herd.phone("bob")
    seed = random.randrange(2**32)
    print("seed", seed)
    noise = random.Random(seed)
    whole = request(stranger)
    for portion in range(100):
        for _ in range(50):
            stranger.sendto(noise.randbytes(noise.randrange(1, 1500)), bob.target)
            spoiled = bytearray(whole)
            for _ in range(noise.randrange(1, 20)):
                spoiled[noise.randrange(len(spoiled))] = noise.randrange(256)
            stranger.sendto(spoiled, bob.target)
        # A probe is answered when all before it is done with.
        branch = f"SIP/2.0/UDP {stranger.getsockname()[0]}:{stranger.getsockname()[1]}"
        branch += f";branch=z9hG4bKprobe{portion}"
        stranger.sendto(request(stranger, Via=branch, Call_ID=f"probe{portion}"), bob.target)
        while f"Call-ID: probe{portion}".encode() not in stranger.recv(65535):
            pass
    wait_for(lambda: malformed(herd) >= 5000, "5,000 malformed datagrams")
    keeps_serving(herd, start_sipp)


def test_malformed(start_herd: StartHerd, start_sipp: StartSipp, stranger: socket.socket) -> None:
    herd = start_herd([BOB])
    for data in MALFORMED.values():
        stranger.sendto(data, herd.phone("bob").target)
    keeps_serving(herd, start_sipp)
    wait_for(lambda: malformed(herd) >= 7, "7 malformed datagrams")


def test_oversized(start_herd: StartHerd, start_sipp: StartSipp, stranger: socket.socket) -> None:
    """65,507 bytes are what a UDP datagram can hold: noise, and a request with a huge header."""
    herd = start_herd([BOB])
    bob = herd.phone("bob")
    stranger.sendto(random.randbytes(65507), bob.target)
    head = request(stranger, Subject="x")
    stranger.sendto(
        head.replace(b"Subject: x", b"Subject: " + b"x" * (65507 - len(head))), bob.target
    )
    keeps_serving(herd, start_sipp)


@pytest.mark.parametrize(
    "bad",
    [
        {"CSeq": "one OPTIONS"},
        {"CSeq": "1 INVITE"},
        {"CSeq": "99999999999 OPTIONS"},
        {"Content_Length": "99999"},
    ],
    ids=str,
)
def test_400_where_a_reply_is_due(
    start_herd: StartHerd, stranger: socket.socket, bad: dict[str, str]
) -> None:
    """A request with a Via to reply to, and something else wrong with it."""
    herd = start_herd([BOB])
    stranger.sendto(request(stranger, **bad), herd.phone("bob").target)
    assert stranger.recv(65535).startswith(b"SIP/2.0 400 ")
    assert wait_for(lambda: malformed(herd), "a malformed datagram") == 1


def test_no_reply_to_what_can_not_be_replied_to(
    start_herd: StartHerd, stranger: socket.socket
) -> None:
    """A reply to a bad ACK or response could go on for ever; one without From has no From."""
    herd = start_herd([BOB])
    bob = herd.phone("bob")
    ack = request(stranger, CSeq="one ACK").replace(b"OPTIONS sip:", b"ACK sip:")
    stranger.sendto(ack, bob.target)
    stranger.sendto(b"SIP/2.0 200 OK\r\n" + request(stranger).partition(b"\r\n")[2], bob.target)
    for header in ("Via", "From", "To", "Call-ID"):
        stranger.sendto(request(stranger, without=header), bob.target)
    # Replies come in order: the first one must be the one to the probe.
    stranger.sendto(request(stranger, Call_ID="probe"), bob.target)
    assert b"Call-ID: probe" in stranger.recv(65535)
