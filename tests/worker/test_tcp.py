"""TCP connections of a phone: opened, accepted, used again, and what their end means."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from smallherd import nobody_at

from sipherd.supervisor.sockets import bind
from sipherd.worker import tcp
from sipherd.worker.stack import Address, Hop
from sipherd.worker.tcp import Tcp


def message(method: str = "OPTIONS", body: bytes = b"") -> bytes:
    return b"%b sip:a@h SIP/2.0\r\nl: %d\r\n\r\n%b" % (method.encode(), len(body), body)


OK = b"SIP/2.0 200 OK\r\nl: 0\r\n\r\n"


class Rig:
    """The connections of one phone, and a poll loop that the test turns."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        host, port, sockets = bind(address, 0)
        self.udp = socket.socket(fileno=sockets.udp)
        self.address: Address = (host, port)
        self.epoll = select.epoll()
        self.counts: Counter[str] = Counter()
        self.got: list[tuple[bytes, Hop]] = []
        self.lost: list[tuple[bytes, Hop, Address]] = []
        self.skipped = 0.0
        self.on_message: Callable[[bytes, Hop], None] = lambda data, source: None
        self.tcp = Tcp(
            sockets.tcp,
            epoll=self.epoll,
            counts=self.counts,
            received=self._received,
            lost=lambda *item: self.lost.append(item),
            clock=self.now,
        )

    def now(self) -> float:
        return time.monotonic() + self.skipped

    def _received(self, data: bytes, source: Hop) -> None:
        self.got.append((data, source))
        self.on_message(data, source)

    def turn(self, timeout: float = 0.02) -> None:
        for fd, events in self.epoll.poll(timeout):
            if self.tcp.owns(fd):
                self.tcp.ready(fd, events)
        self.tcp.tick()

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, (self.got, self.lost, self.counts)
            self.turn()

    def skip(self, seconds: float) -> None:
        """Let time pass at once."""
        self.skipped += seconds
        self.turn(0)

    def send(self, data: bytes, address: Address, connection: int = 0) -> bool:
        return self.tcp.send(data, Hop(*address, "tcp", connection), address)

    def connect(self) -> socket.socket:
        """A peer's connection to the phone, accepted."""
        family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        peer = socket.socket(family)
        peer.settimeout(10)
        peer.connect(self.address)
        before = self.counts["tcp_accepted"]
        self.until(lambda: self.counts["tcp_accepted"] > before)
        return peer

    def close(self) -> None:
        self.tcp.close()
        self.udp.close()
        self.epoll.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


class Peer:
    """Somebody who listens."""

    def __init__(self) -> None:
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen()
        self.listener.settimeout(10)
        self.address: Address = self.listener.getsockname()

    def accept(self) -> socket.socket:
        accepted, _ = self.listener.accept()
        accepted.settimeout(10)
        return accepted


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.listener.close()


@pytest.fixture
def dead() -> Iterator[Address]:
    """Where nobody listens."""
    with nobody_at("127.0.0.1") as port:
        yield "127.0.0.1", port


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        assert chunk
        data += chunk
    return data


def test_a_connection_is_opened_and_used_again(rig: Rig, peer: Peer) -> None:
    assert rig.send(message("ONE"), peer.address)
    assert rig.send(message("TWO"), peer.address)
    with peer.accept() as connection:
        assert connection.getpeername()[0] == rig.address[0]
        rig.until(lambda: not any(c.connecting for c in rig.tcp._by_fd.values()))
        both = message("ONE") + message("TWO")
        assert exactly(connection, len(both)) == both
        connection.sendall(OK)
        rig.until(lambda: rig.got)
        ((data, source),) = rig.got
        assert data == OK
        assert source == Hop(*peer.address, "tcp", source.connection)
        assert source.connection
        assert rig.send(message("THREE"), peer.address)
        assert exactly(connection, len(message("THREE"))) == message("THREE")
    assert rig.counts["tcp_opened"] == 1


def test_a_reply_goes_back_on_its_connection(rig: Rig) -> None:
    with rig.connect() as peer:
        peer.sendall(message())
        rig.until(lambda: rig.got)
        _, source = rig.got[0]
        assert source.address == peer.getsockname()
        assert rig.send(OK, ("127.0.0.1", 9), source.connection)
        assert exactly(peer, len(OK)) == OK
    assert rig.counts["tcp_opened"] == 0


def test_a_reply_to_a_connection_that_is_gone_opens_another(rig: Rig, peer: Peer) -> None:
    """RFC 3261 18.2.2: to the port of sent-by."""
    with rig.connect() as gone:
        gone.sendall(message())
        rig.until(lambda: rig.got)
    rig.until(lambda: not len(rig.tcp))
    assert rig.send(OK, peer.address, rig.got[0][1].connection)
    with peer.accept() as connection:
        rig.turn()
        assert exactly(connection, len(OK)) == OK


def test_nobody_listens(rig: Rig, dead: Address) -> None:
    assert rig.send(message("ONE"), dead)
    assert rig.send(message("TWO"), dead)
    rig.until(lambda: rig.lost)
    hop = Hop(*dead, "tcp")
    assert rig.lost == [(message("ONE"), hop, dead), (message("TWO"), hop, dead)]
    assert rig.counts["tcp_refused"] == 1
    assert not len(rig.tcp)


@pytest.mark.parametrize(
    "address", [("127.0.0.1", 0), ("127.0.0.1", 70000), ("::1", 5060), ("255.255.255.255", 5060)]
)
def test_where_nothing_can_be_sent_to(rig: Rig, address: Address) -> None:
    """A stranger's Contact may say any of these."""
    if rig.send(message(), address):  # some are seen at once, some later
        rig.until(lambda: rig.lost)
    else:
        assert rig.counts["sip_send_failed"] == 1
    assert not len(rig.tcp)


def test_a_connection_that_does_not_come_about(rig: Rig) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with contextlib.ExitStack() as stack:
            for _ in range(2):  # its queue is full: more SYNs are dropped
                sock = stack.enter_context(socket.socket())
                sock.setblocking(False)
                sock.connect_ex(full.getsockname())
            assert rig.send(message(), full.getsockname())
            rig.turn()
            assert len(rig.tcp) == 1
            rig.skip(tcp.CONNECT_LIMIT + 1)
            assert len(rig.lost) == 1
            assert not len(rig.tcp)


def test_a_connection_that_dies_harms_no_other(rig: Rig) -> None:
    with rig.connect() as good:
        for end in (socket.socket.close, reset):
            bad = rig.connect()
            bad.sendall(message("INVITE", b"x" * 100)[:-50])
            rig.turn()
            end(bad)
            rig.until(lambda: len(rig.tcp) == 1)
        good.sendall(message())
        rig.until(lambda: rig.got)
    assert [data for data, _ in rig.got] == [message()]
    assert rig.counts["tcp_cut_short"] >= 1
    assert rig.lost == []


def test_a_stream_that_is_none(rig: Rig) -> None:
    """What came before is served; a body that is too long can still be answered."""
    rig.on_message = lambda data, source: rig.send(OK, source.address, source.connection) and None
    with rig.connect() as peer:
        peer.sendall(message() + b"INVITE sip:a@h SIP/2.0\r\nl: 99999999\r\n\r\n")
        assert_until_closed(rig, peer, OK + OK)
    with rig.connect() as peer:
        peer.sendall(message() + b"GET / HTTP/1.1\r\n\r\n")
        assert_until_closed(rig, peer, OK)
    assert rig.counts["tcp_bad_stream"] == 2
    assert not len(rig.tcp)


def assert_until_closed(rig: Rig, peer: socket.socket, expected: bytes) -> None:
    before = rig.counts["tcp_bad_stream"]
    rig.until(lambda: rig.counts["tcp_bad_stream"] > before)
    assert exactly(peer, len(expected)) == expected
    with contextlib.suppress(ConnectionResetError):
        assert peer.recv(1) == b""


def test_keep_alive_is_answered(rig: Rig) -> None:
    with rig.connect() as peer:
        peer.sendall(b"\r\n\r\n")
        rig.turn()
        rig.until(lambda: select.select([peer], [], [], 0)[0])
        assert peer.recv(10) == b"\r\n"
    assert rig.got == []


def test_a_connection_that_was_dead_already_is_replaced(rig: Rig, peer: Peer) -> None:
    """A proxy closes idle connections; the next request must not be lost with one."""
    rig.send(message("ONE"), peer.address)
    with peer.accept() as first:
        rig.turn()
        first.sendall(OK)
        rig.until(lambda: rig.got)
    # Closed, and we have not seen it yet.
    assert rig.send(message("TWO"), peer.address)
    assert rig.send(message("ACK"), peer.address)
    rig.until(lambda: rig.counts["tcp_opened"] == 2)
    with peer.accept() as second:
        rig.turn()
        assert exactly(second, len(message("TWO"))) == message("TWO")
        reset(second)
    # But not for ever.
    rig.until(lambda: rig.lost)
    assert message("TWO") in [data for data, _, _ in rig.lost]
    assert rig.counts["tcp_opened"] == 2


def test_a_request_on_a_new_connection_that_is_closed_at_once_is_lost(rig: Rig, peer: Peer) -> None:
    rig.send(message("INVITE"), peer.address)
    reset(peer.accept())
    rig.until(lambda: rig.lost)
    assert rig.counts["tcp_opened"] == 1


def test_a_peer_that_does_not_read(rig: Rig, peer: Peer) -> None:
    """Its own connection is closed at the limit, and its messages are lost."""
    rig.send(message(), peer.address)
    with peer.accept() as stuck, rig.connect() as other:
        rig.turn()
        filler = message("FILL", b"x" * 60000)
        for _ in range(1000):
            rig.send(filler, peer.address)
            rig.turn(0)
            if rig.counts["tcp_overflow"]:
                break
        assert rig.counts["tcp_overflow"] == 1
        assert len(rig.tcp) == 1
        assert len(rig.lost) >= tcp.MAX_WAITING // len(filler)
        other.sendall(message())
        rig.until(lambda: rig.got)
        stuck.close()


def test_output_that_finds_no_room_at_once_is_sent_later(rig: Rig, peer: Peer) -> None:
    with contextlib.ExitStack() as stack:
        big = message("BIG", b"x" * 60000)
        rig.send(big, peer.address)
        connection = stack.enter_context(peer.accept())
        rig.until(lambda: not any(c.connecting for c in rig.tcp._by_fd.values()))
        count = 1
        while not any(c.waiting for c in rig.tcp._by_fd.values()):
            rig.send(big, peer.address)
            count += 1
        received = 0
        deadline = time.monotonic() + 10
        while received < count * len(big):
            assert time.monotonic() < deadline
            rig.turn(0)
            if select.select([connection], [], [], 0)[0]:
                received += len(connection.recv(1 << 20))
        assert not any(c.waiting for c in rig.tcp._by_fd.values())
        assert rig.lost == []


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        (b"", tcp.STUCK_LIMIT),
        (message() + b"INVITE sip", tcp.STUCK_LIMIT),
        (message(), tcp.IDLE_LIMIT),
    ],
)
def test_a_silent_connection_is_closed(rig: Rig, said: bytes, limit: float) -> None:
    with rig.connect() as peer:
        peer.sendall(said)
        if said:
            rig.until(lambda: rig.got)
        rig.skip(limit - 2)
        assert len(rig.tcp) == 1
        rig.skip(3)
        assert not len(rig.tcp)
        assert rig.tcp.next_deadline() is None  # the loop may sleep
    assert rig.counts["tcp_idle"] == 1


def test_too_many_connections_close_the_one_that_said_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "MAX_ACCEPTED", 3)
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(rig.connect())
        first.sendall(message())
        rig.until(lambda: rig.got)
        silent = [stack.enter_context(rig.connect()) for _ in range(3)]
        assert rig.counts["tcp_evicted"] == 1
        assert silent[0].recv(1) == b""
        first.sendall(message())
        rig.until(lambda: len(rig.got) == 2)


def test_no_descriptor_left(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that can't be accepted must not keep the loop awake."""
    real = rig.tcp._listener

    class Full:
        def accept(self) -> None:
            raise OSError(24, "Too many open files")

        def fileno(self) -> int:
            return real.fileno()

    monkeypatch.setattr(rig.tcp, "_listener", Full())
    with socket.create_connection(rig.address, 10) as peer:
        rig.turn()
        assert rig.epoll.poll(0) == []
        monkeypatch.setattr(rig.tcp, "_listener", real)
        rig.skip(2)
        rig.until(lambda: len(rig.tcp))
        peer.sendall(message())
        rig.until(lambda: rig.got)


def test_ipv6(ipv6: None) -> None:
    one, two = Rig("::1"), Rig("::1")
    try:
        two.on_message = lambda data, source: (
            two.send(OK, source.address, source.connection) and None
        )
        assert one.send(message(), two.address)
        deadline = time.monotonic() + 10
        while not one.got:
            assert time.monotonic() < deadline
            one.turn(0.01)
            two.turn(0.01)
        assert one.got[0][1].address == two.address
        assert two.got[0][1].host == "::1"
    finally:
        one.close()
        two.close()
