"""A hostile peer costs at most its own call: each kind of bad input, at a phone that runs.

What random bytes do is in `test_bad_datagrams`; here they are almost right.
"""

from __future__ import annotations

import random
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peers.herd import HerdProcess, PhoneAt
from peers.proc import private_kilobytes
from peers.sipp import loopback_address, wait_for
from sipherd import Herd
from sipherd.worker.media import rtcp, rtp
from sipherd.worker.sip.message import MAX_BODY

StartHerd = Callable[..., HerdProcess]

BOB = {"name": "bob", "on_incoming": {"answer_after": 0}}
SOON = 20.0
FATES = 64.0
"""Seconds after which the last call that nobody ACKed or ended is over: 64*T1 for each."""


class Stranger:
    """Writes SIP by hand, from a socket of its own; with one for its RTP and one for its RTCP."""

    def __init__(self) -> None:
        self.host = loopback_address()
        self.sip, self.rtp, self.rtcp = (self._socket(port) for port in (5060, 4000, 4001))
        self._serial = 0

    def _socket(self, port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind((self.host, port))
        sock.settimeout(SOON)
        return sock

    def close(self) -> None:
        for sock in (self.sip, self.rtp, self.rtcp):
            sock.close()

    def offer(self, formats: str = "0 101") -> bytes:
        return (
            f"v=0\r\no=- 1 1 IN IP4 {self.host}\r\ns=-\r\nc=IN IP4 {self.host}\r\nt=0 0\r\n"
            f"m=audio 4000 RTP/AVP {formats}\r\na=rtpmap:101 telephone-event/8000\r\n"
        ).encode()

    def fresh(self) -> str:
        """A token that was never used."""
        self._serial += 1
        return f"t{self._serial}"

    def request(
        self,
        method: str,
        *,
        call_id: str = "",
        branch: str = "",
        to_tag: str = "",
        contact: str = "",
        cseq: int = 1,
        extra: tuple[str, ...] = (),
        body: bytes = b"",
    ) -> bytes:
        lines = [
            f"{method} sip:bob@127.0.0.1 SIP/2.0",
            f"Via: SIP/2.0/UDP {self.host}:5060;branch=z9hG4bK{branch or self.fresh()}",
            "Max-Forwards: 70",
            f"From: <sip:stranger@{self.host}>;tag=stranger",
            "To: <sip:bob@127.0.0.1>" + (f";tag={to_tag}" if to_tag else ""),
            f"Call-ID: {call_id or self.fresh()}",
            f"CSeq: {cseq} {method}",
            f"Contact: {contact or f'<sip:stranger@{self.host}>'}",
            *extra,
            *(("Content-Type: application/sdp",) if body else ()),
            f"Content-Length: {len(body)}",
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body

    def final(self, call_id: str) -> str:
        """The next final response of that call, as text."""
        while True:
            text = self.sip.recv(65535).decode("utf-8", "replace")
            if f"Call-ID: {call_id}\r\n" in text and re.match(r"SIP/2\.0 [2-6]", text):
                return text

    def ask(self, bob: PhoneAt, method: str, call_id: str = "", **more: object) -> str:
        """Send a request; its final response, ACKed if it was an INVITE."""
        call_id, branch = call_id or self.fresh(), self.fresh()
        data = self.request(method, call_id=call_id, branch=branch, **more)  # type: ignore[arg-type]
        self.sip.sendto(data, bob.target)
        response = self.final(call_id)
        if method == "INVITE":
            # For a 2xx a transaction of its own (RFC 3261 §13.2.2.4).
            own = "" if response.startswith("SIP/2.0 2") else branch
            ack = self.request("ACK", call_id=call_id, branch=own, to_tag=tag(response))
            self.sip.sendto(ack, bob.target)
        return response

    def is_served(self, bob: PhoneAt) -> None:
        """A whole call, from the INVITE to the answer to the BYE."""
        call_id = self.fresh()
        response = self.ask(bob, "INVITE", call_id, body=self.offer())
        assert response.startswith("SIP/2.0 200"), response
        response = self.ask(bob, "BYE", call_id, to_tag=tag(response), cseq=2)
        assert response.startswith("SIP/2.0 200"), response


def tag(response: str) -> str:
    found = re.search(r"^To:.*;tag=([^\s;]+)", response, re.MULTILINE)
    assert found, response
    return found[1]


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    stranger = Stranger()
    yield stranger
    stranger.close()


def counters(herd: HerdProcess) -> dict[str, int]:
    with Herd.connect(herd.name) as client:
        return client["bob"].info().counters


# One message.


@pytest.mark.parametrize(
    ("code", "bad"),
    [
        (400, {"contact": "<sip:stranger@192.0.2.1"}),
        (400, {"contact": "<http://192.0.2.1>"}),
        (400, {"contact": "*"}),
        (413, {"body": b"v=0\r\n" + b"a=x\r\n" * (MAX_BODY // 5)}),
        (420, {"extra": ("Require: 100rel, odd",)}),
        (488, {"formats": "3 9"}),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_an_invite_that_is_refused(
    start_herd: StartHerd, stranger: Stranger, code: int, bad: dict[str, object]
) -> None:
    herd = start_herd([BOB])
    bob = herd.phone("bob")
    bad = dict(bad)
    body = stranger.offer(*(str(formats) for formats in [bad.pop("formats", None)] if formats))
    response = stranger.ask(bob, "INVITE", **({"body": body} | bad))
    assert response.startswith(f"SIP/2.0 {code} "), response
    if code == 420:
        assert "\r\nUnsupported: odd\r\n" in response
    stranger.is_served(bob)
    # The one that was served, and no other.
    herd.wait_event(phone="bob", kind="ended")
    assert len(herd.events(phone="bob", kind="incoming")) == 1


def test_a_merged_request(start_herd: StartHerd, stranger: Stranger) -> None:
    """The same INVITE by two ways (RFC 3261 §8.2.2.2): one call, and 482 for the other."""
    herd = start_herd([BOB])
    bob = herd.phone("bob")
    assert stranger.ask(bob, "INVITE", "merged", body=stranger.offer()).startswith("SIP/2.0 200")
    assert stranger.ask(bob, "INVITE", "merged", body=stranger.offer()).startswith("SIP/2.0 482")
    stranger.is_served(bob)
    herd.wait_event(phone="bob", kind="ended")
    assert len(herd.events(phone="bob", kind="incoming")) == 2


def test_a_stranger_has_the_ports_of_a_call(start_herd: StartHerd, stranger: Stranger) -> None:
    """The next pair is taken, and told; whether it is RTP or RTCP that is not free."""
    herd = start_herd([BOB])
    bob = herd.phone("bob")
    with Herd.connect(herd.name) as client:
        first = client["bob"].info().rtp_first
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thief:
        thief.bind((bob.host, first + 1))
        response = stranger.ask(bob, "INVITE", "robbed", body=stranger.offer())
    assert f"\r\nm=audio {first + 2} RTP/AVP" in response
    skipped = herd.wait_event(phone="bob", kind="rtp_pair_skipped")
    assert (skipped["port"], skipped["why"]) == (first, "in use")
    wait_for(lambda: counters(herd).get("rtp_pairs_skipped") == 1, "the pair to be counted")


# Ten thousand.

PIECES = [
    b"", b"\r\n", b"\n ", b"\0", b"\xff\xfe", b";", b",", b'"', b"<", b">", b":", b"@", b"=", b" ",
    b";tag=", b";branch=", b";rport", b"99999999999999999999", b"[::1", b"sip:", b"SIP/2.0",
    b"Via: ,,\r\n", b"Contact: *\r\n", b"Route: <>\r\n", b"m=audio", b"a=rtpmap:", b"CSeq: \r\n",
    b"Record-Route: <sip:[>\r\n", b"Require: 100rel\r\n", b"Replaces: x\r\n", b"Session-Expires: 1",
]  # fmt: skip


def seeds(stranger: Stranger) -> list[bytes]:
    """One message of each kind, of a call that is new each time."""
    offer, call = stranger.offer(), stranger.fresh()
    known = {"call_id": call, "to_tag": "x", "cseq": 2}
    requests = [
        stranger.request("INVITE", call_id=call, body=offer),
        stranger.request("INVITE", extra=("Supported: 100rel, timer, replaces",)),
        stranger.request("OPTIONS"),
        stranger.request("MESSAGE", body=b"hello"),
        *(
            stranger.request(method, **known)  # type: ignore[arg-type]
            for method in ("ACK", "BYE", "CANCEL", "PRACK", "UPDATE", "NOTIFY")
        ),
        stranger.request("INFO", extra=("Content-Type: application/dtmf-relay",), **known),  # type: ignore[arg-type]
        stranger.request("REFER", extra=("Refer-To: <sip:x@192.0.2.9?Replaces=a>",), **known),  # type: ignore[arg-type]
    ]
    status = b"SIP/2.0 200 OK\r\n"
    return [*requests, status + requests[0].partition(b"\r\n")[2]]


def flood(stranger: Stranger, bob: PhoneAt, chance: random.Random) -> None:
    """Ten thousand messages, in portions, so that the kernel drops none."""
    for _ in range(200):
        kinds = seeds(stranger)
        for _ in range(50):
            data = chance.choice(kinds)
            for _ in range(chance.randrange(1, 4)):
                at = chance.randrange(len(data))
                data = data[:at] + chance.choice(PIECES) + data[at + chance.randrange(8) :]
            stranger.sip.sendto(data, bob.target)
        # Answered (486 if all its calls are taken) when all before it is done with.
        assert stranger.ask(bob, "OPTIONS")


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [1, pytest.param(4, marks=pytest.mark.soak)])
@pytest.mark.timeout(900)
def test_ten_thousand_mutated_messages(
    start_herd: StartHerd, stranger: Stranger, rounds: int
) -> None:
    """And, many times over: when the last call is over that a flood began, nothing is left of it.

    The first flood shows how much memory that takes, the others take no more.
    """
    # Without a limit to its calls, so that what a flood began keeps no other call out.
    herd = start_herd([BOB | {"media": "none"}])
    bob = herd.phone("bob")
    (pid,) = herd.processes()
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    kilobytes = []
    for _ in range(rounds):
        flood(stranger, bob, chance)
        stranger.is_served(bob)
        if rounds > 1:
            time.sleep(2 * FATES)
            stranger.is_served(bob)
            kilobytes.append(private_kilobytes(pid))
    print("kB", kilobytes)
    assert not kilobytes or kilobytes[-1] - kilobytes[0] < 1024
    assert not herd.events(kind="phone_died")
    wait_for(lambda: counters(herd).get("sip_malformed", 0) > 1000, "what is malformed")
    found = counters(herd)
    assert found.get("engine_error", 0) == found.get("worker_error", 0) == 0


@pytest.mark.slow
def test_ten_thousand_mutated_packets_of_the_peer(
    start_herd: StartHerd, stranger: Stranger, tmp_path: Path
) -> None:
    """RTP and RTCP from where the offer says they come from, while the call is recorded."""
    herd = start_herd([BOB])
    bob = herd.phone("bob")
    (pid,) = herd.processes()
    response = stranger.ask(bob, "INVITE", "audio", body=stranger.offer())
    found = re.search(r"^m=audio (\d+) ", response, re.MULTILINE)
    assert found
    port = int(found[1])
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    with Herd.connect(herd.name) as client:
        (call,) = wait_for(client.calls, "the call")
        recorded = herd.command("record", call.call, str(tmp_path / "r.wav"))
        assert recorded.returncode == 0, recorded.stderr
    report = rtcp.build([rtcp.ReceiverReport(7), rtcp.SourceDescription(((7, "x"),))])
    before = 0
    for number in range(10_000):
        kind = 101 if number % 4 == 0 else 0
        sound = bytes([number % 16, 10, 0, 160]) if kind else bytes(160)
        packet = rtp.build(kind, number, 160 * number, 7, sound, marker=False)
        is_rtp = number % 5 > 0
        data = bytearray(packet if is_rtp else report)
        for _ in range(chance.randrange(4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        if chance.random() < 0.2:
            del data[chance.randrange(len(data) + 1) :]
        (stranger.rtp if is_rtp else stranger.rtcp).sendto(data, (bob.host, port + (not is_rtp)))
        if number % 20 == 0:
            time.sleep(0.005)  # its buffer holds a second of audio
        if number == 1000:
            before = private_kilobytes(pid)
    assert private_kilobytes(pid) - before < 1024
    response = stranger.ask(bob, "BYE", "audio", to_tag=tag(response), cseq=2)
    assert response.startswith("SIP/2.0 200")
    media = herd.wait_event(phone="bob", kind="ended")["media"]
    assert media["received"] > 2000
    assert media["dropped"] > 100
    stranger.is_served(bob)
    for name in ("rtp_malformed", "rtcp_malformed"):
        wait_for(lambda name=name: counters(herd).get(name), name)
    assert counters(herd).get("worker_error", 0) == 0
