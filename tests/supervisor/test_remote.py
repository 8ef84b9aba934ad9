"""Clients of other machines: who is let in, what they may do, and how their end is noticed."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from sipherd import CommandRefused, ConnectionLost, HerdNotRunning, KeyRefused
from sipherd.client import Connection
from sipherd.protocol.codec import MAX_REQUEST, encode, from_supervisor_to_client
from sipherd.protocol.keys import ClientKey, KeyStore
from sipherd.protocol.messages import (
    AddPhones,
    CallList,
    Done,
    Envelope,
    GetHerd,
    HerdInfo,
    Leave,
    ListCalls,
    ListPhones,
    PlaceCall,
    PlayAudio,
    RecordAudio,
    Refused,
    StopHerd,
)
from sipherd.protocol.spec import HerdSpec, PhoneSpec
from sipherd.supervisor.clients import NotAdmitted
from sipherd.supervisor.remote import RemoteDoor
from sipherd.ways import Remote
from supervisor_process import ENVIRON, Start, Supervisor, a_herd, wait_for

LISTEN = "tcp://127.0.0.1:0"

Prepare = Callable[[zmq.Socket[bytes]], None]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeyStore:
    """Keys, one of them with the name `laptop` in `laptop.key`."""
    directory = tmp_path / "keys"
    monkeypatch.setenv("SIPHERD_KEYS_DIR", str(directory))
    store = KeyStore(directory)
    write(store.new("laptop", ""), tmp_path)
    return store


def write(key: ClientKey, folder: Path) -> Path:
    path = folder / f"{key.name}.key"
    path.write_bytes(msgspec.json.encode(key))
    path.chmod(0o600)
    return path


def endpoint(supervisor: Supervisor) -> str:
    return supervisor.info().listen


@contextlib.contextmanager
def connected(where: str, key: Path, herd: str | None = None) -> Iterator[Connection]:
    remote = Remote(endpoint=where, key=key, herd=herd)
    with contextlib.closing(Connection("", remote)) as connection:
        yield connection


class RawTcp:
    """A client that proves itself as it likes, or not at all."""

    def __init__(self, endpoint: str, prepare: Prepare) -> None:
        self._context = zmq.Context(1)
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.set(zmq.LINGER, 0)
        self.socket.set(zmq.RECONNECT_IVL, -1)
        prepare(self.socket)
        self._monitor = self.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self.socket.connect(endpoint)

    def ask(self, id: int, body: Any) -> Any:
        self.socket.send(encode(Envelope(id=id, body=body)))
        return self.receive()

    def receive(self) -> Any:
        assert self.socket.poll(10_000), "no answer"
        return from_supervisor_to_client.decode(self.socket.recv())

    def wait_cut(self) -> None:
        assert self._monitor.poll(15_000), "still connected"
        recv_monitor_message(self._monitor)

    def close(self) -> None:
        self.socket.disable_monitor()
        self._monitor.close(0)
        self.socket.close()
        self._context.term()


@contextlib.contextmanager
def raw(where: str, prepare: Prepare) -> Iterator[RawTcp]:
    with contextlib.closing(RawTcp(where, prepare)) as client:
        yield client


def by(key: ClientKey, **changed: str) -> Prepare:
    """Proves itself with a key."""
    shown = msgspec.structs.replace(key, **changed)

    def prepare(sock: zmq.Socket[bytes]) -> None:
        sock.set(zmq.CURVE_SERVERKEY, shown.server.encode())
        sock.set(zmq.CURVE_PUBLICKEY, shown.public.encode())
        sock.set(zmq.CURVE_SECRETKEY, shown.secret.encode())

    return prepare


def by_nothing(sock: zmq.Socket[bytes]) -> None:
    pass


def by_password(sock: zmq.Socket[bytes]) -> None:
    sock.set(zmq.PLAIN_USERNAME, b"root")
    sock.set(zmq.PLAIN_PASSWORD, b"secret")


# --- who is let in -------------------------------------------------------------------------------


def test_a_key_on_the_list(start: Start, store: KeyStore, tmp_path: Path) -> None:
    supervisor = start(a_herd("alice", listen=LISTEN))
    with connected(endpoint(supervisor), tmp_path / "laptop.key") as connection:
        info = connection.request(GetHerd())
        assert isinstance(info, HerdInfo)
        assert info.remote_clients == ("laptop",)
        assert (connection.herd, connection.supervisor_pid) == ("lab", supervisor.pid)
        assert abs(connection.clock_ahead) < 5  # the same machine, after all
    wait_for(lambda: supervisor.info().remote_clients == (), "the client forgotten")


@pytest.mark.parametrize(
    ("who", "logged"),
    [
        # Either side may be the first to find out, and to hang up.
        ("NULL", "speaks no CURVE|gave up"),
        ("PLAIN", "speaks no CURVE|gave up"),
        ("another server key", "expects another server key"),
        ("unknown key", "not on the list"),
        ("known public key, wrong secret", ""),
        ("revoked key", "not on the list"),
    ],
)
def test_nobody_else(start: Start, store: KeyStore, who: str, logged: str) -> None:
    key = store.new("desk", "")
    public, secret = (text.decode() for text in zmq.curve_keypair())
    prepare = {
        "NULL": by_nothing,
        "PLAIN": by_password,
        "another server key": by(key, server=public),
        "unknown key": by(key, public=public, secret=secret),
        "known public key, wrong secret": by(key, secret=secret),
        "revoked key": by(key),
    }[who]
    supervisor = start(a_herd(listen=LISTEN))
    where = endpoint(supervisor)
    if who == "revoked key":
        with raw(where, prepare) as client:
            assert isinstance(client.ask(1, GetHerd()).body, Done)
        store.revoke("desk")
    with raw(where, prepare) as client:
        client.socket.send(encode(Envelope(id=1, body=StopHerd())))
        client.wait_cut()
        assert not client.socket.poll(0)
    assert supervisor.info().remote_clients == ()
    wait_for(
        lambda: [
            line for line in supervisor.logged("remote_refused") if re.search(logged, line["why"])
        ],
        "a line in the log",
    )
    # Those who may come in still can.
    with raw(where, by(store.new("other", ""))) as client:
        assert isinstance(client.ask(1, GetHerd()).body, Done)


def test_bytes_that_are_no_zeromq(start: Start, store: KeyStore) -> None:
    supervisor = start(a_herd(listen=LISTEN))
    host, port = endpoint(supervisor).removeprefix("tcp://").split(":")
    for data in (b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(5000)):
        stranger = socket.create_connection((host, int(port)), 5)
        with stranger, contextlib.suppress(OSError):
            stranger.sendall(data)
    with raw(f"tcp://{host}:{port}", by(store.new("other", ""))) as client:
        assert isinstance(client.ask(1, GetHerd()).body, Done)


def test_a_new_key_needs_no_restart(start: Start, store: KeyStore, tmp_path: Path) -> None:
    supervisor = start(a_herd(listen=LISTEN))
    where = endpoint(supervisor)
    path = write(store.new("tablet", ""), tmp_path)
    with connected(where, path), connected(where, tmp_path / "laptop.key"):
        assert supervisor.info().remote_clients == ("laptop", "tablet")


def test_a_revoked_key_is_cut_and_its_calls_end(
    start: Start, store: KeyStore, tmp_path: Path
) -> None:
    supervisor = start(a_herd("alice", "bob", listen=LISTEN))
    supervisor.wait_ready()
    where = endpoint(supervisor)
    other = write(store.new("desk", ""), tmp_path)
    with connected(where, tmp_path / "laptop.key") as mine, connected(where, other) as others:
        mine.request(PlaceCall(phone="alice", target="bob"))
        with raw(where, by(msgspec.json.decode(other.read_bytes(), type=ClientKey))) as silent:
            del silent  # has proved itself, and says nothing
            store.revoke("laptop")
            assert mine.wait_gone(10)
        with pytest.raises(ConnectionLost, match='key "laptop" was revoked'):
            mine.request(GetHerd())
        assert isinstance(others.request(GetHerd()), HerdInfo)
        wait_for(lambda: supervisor.ask(ListCalls()) == CallList(calls=()), "the call ended")
    assert [line["key"] for line in supervisor.wait_logged("remote_cut")] == ["laptop"]


def test_a_list_that_cannot_be_read_lets_nobody_in(
    start: Start, store: KeyStore, tmp_path: Path
) -> None:
    supervisor = start(a_herd(listen=LISTEN))
    where = endpoint(supervisor)
    with connected(where, tmp_path / "laptop.key") as connection:
        (store.directory / "clients.json").write_text("[")
        assert connection.wait_gone(10)
    with pytest.raises(KeyRefused):
        Connection("", Remote(endpoint=where, key=tmp_path / "laptop.key"))
    assert "not as sipherd writes it" in supervisor.wait_logged("keys_unusable")[0]["why"]


# --- what keeps it from starting -----------------------------------------------------------------


def refusal(supervisor: Supervisor) -> str:
    assert supervisor.wait() == 2
    return str(supervisor.ready["error"])


def test_without_keys(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIPHERD_KEYS_DIR", str(tmp_path / "none"))
    assert "make the first with: sipherd keys new NAME" in refusal(start(a_herd(listen=LISTEN)))


def test_with_all_keys_revoked(start: Start, store: KeyStore) -> None:
    store.revoke("laptop")
    assert "make one with: sipherd keys new NAME" in refusal(start(a_herd(listen=LISTEN)))


def test_keys_that_others_can_read(start: Start, store: KeyStore) -> None:
    (store.directory / "server.json").chmod(0o644)
    assert "chmod 600" in refusal(start(a_herd(listen=LISTEN)))


@pytest.mark.parametrize("address", ["127.0.0.1", "192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_cannot_be_bound(start: Start, store: KeyStore, address: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"tcp://{address}:{taken.getsockname()[1]}"
        why = refusal(start(a_herd("alice", listen=listen)))
    assert why.startswith(f"{listen}: ")
    assert why.endswith("name a free port of an address of this machine")


# --- what they may do ----------------------------------------------------------------------------


def test_files_of_the_machine_are_for_local_clients(
    start: Start, store: KeyStore, tmp_path: Path
) -> None:
    supervisor = start(a_herd(listen=LISTEN))
    target = tmp_path / "x.wav"
    with connected(endpoint(supervisor), tmp_path / "laptop.key") as connection:
        for body in (
            RecordAudio(call="c1", file=str(target)),
            PlayAudio(call="c1", source="/etc/hostname"),
        ):
            with pytest.raises(CommandRefused) as caught:
                connection.request(body)
            assert caught.value.reason == "local_only"
    assert not target.exists()


def test_a_call_and_the_end_of_the_herd(start: Start, store: KeyStore, tmp_path: Path) -> None:
    supervisor = start(a_herd("alice", "bob", listen=LISTEN))
    supervisor.wait_ready()
    with connected(endpoint(supervisor), tmp_path / "laptop.key", "lab") as connection:
        connection.request(PlaceCall(phone="alice", target="bob"))
        connection.request(StopHerd(), 20.0)
        assert connection.wait_gone(15)
    assert supervisor.wait() == 0


def test_another_herd_than_the_one_that_is_meant(
    start: Start, store: KeyStore, tmp_path: Path
) -> None:
    where = endpoint(start(a_herd(listen=LISTEN)))
    with pytest.raises(HerdNotRunning, match='is "lab", not "other"'):
        Connection("", Remote(endpoint=where, key=tmp_path / "laptop.key", herd="other"))


def test_a_route_that_another_client_has(start: Start, store: KeyStore) -> None:
    """A client can give itself a routing id, and must not get into another one's place."""
    supervisor = start(a_herd(listen=LISTEN))
    where = endpoint(supervisor)
    key, other = store.new("a", ""), store.new("b", "")

    def named(key: ClientKey) -> Prepare:
        def prepare(sock: zmq.Socket[bytes]) -> None:
            sock.set(zmq.ROUTING_ID, b"me")
            by(key)(sock)

        return prepare

    with raw(where, named(key)) as first:
        assert isinstance(first.ask(1, GetHerd()).body, Done)
        with raw(where, named(other)) as second:
            second.socket.send(encode(Envelope(id=1, body=Leave())))
            second.socket.send(encode(Envelope(id=2, body=GetHerd())))
            assert first.ask(2, GetHerd()).body.result.remote_clients == ("a",)
            assert not second.socket.poll(0)
    # Free again: and the next who has it is not taken for the first.
    wait_for(lambda: supervisor.info().remote_clients == (), "the client forgotten")
    with raw(where, named(other)) as second:
        assert second.ask(1, GetHerd()).body.result.remote_clients == ("b",)


# --- bounds --------------------------------------------------------------------------------------


def with_limits(**limits: float) -> str:
    lines = (f"remote.{name} = {value}" for name, value in limits.items())
    return "; ".join(["from sipherd.supervisor import remote", *lines, "more = {}"])


def test_a_frame_that_is_too_long(start: Start, store: KeyStore) -> None:
    supervisor = start(a_herd(listen=LISTEN))
    with raw(endpoint(supervisor), by(store.new("a", ""))) as client:
        client.ask(1, GetHerd())
        client.socket.send(b"x" * (MAX_REQUEST + 1))
        client.wait_cut()
    wait_for(lambda: supervisor.info().remote_clients == (), "the client forgotten")


def test_a_command_that_is_too_long_is_not_sent(
    start: Start, store: KeyStore, tmp_path: Path
) -> None:
    supervisor = start(a_herd(listen=LISTEN))
    with connected(endpoint(supervisor), tmp_path / "laptop.key") as connection:
        with pytest.raises(CommandRefused, match="split it") as caught:
            connection.request(ListPhones(which=("x" * MAX_REQUEST,)))
        assert caught.value.reason == "too_big"
        assert isinstance(connection.request(GetHerd()), HerdInfo)


def test_so_many_and_no_more(start: Start, store: KeyStore, tmp_path: Path) -> None:
    supervisor = start(a_herd(listen=LISTEN), options=with_limits(MAX_PEERS=2))
    where, path = endpoint(supervisor), tmp_path / "laptop.key"
    with connected(where, path), connected(where, path):
        with pytest.raises(KeyRefused, match="too many clients"):
            Connection("", Remote(endpoint=where, key=path))
        # Those of this machine are not concerned.
        wait_for(lambda: supervisor.info().clients == 3, "no others")
    wait_for(lambda: supervisor.info().clients == 1, "two clients forgotten")
    with connected(where, path):
        pass


def test_connections_that_prove_nothing_are_bounded(
    start: Start, store: KeyStore, tmp_path: Path
) -> None:
    supervisor = start(
        a_herd(listen=LISTEN), options=with_limits(MAX_CONNECTIONS=4, HANDSHAKE=2000)
    )
    where = endpoint(supervisor)
    host, port = where.removeprefix("tcp://").split(":")
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(connected(where, tmp_path / "laptop.key"))
        strangers = [
            stack.enter_context(socket.create_connection((host, int(port)), 5)) for _ in range(20)
        ]
        ends = 0
        for stranger in strangers:
            stranger.settimeout(20)
            with contextlib.suppress(ConnectionResetError):
                while stranger.recv(1000):  # its greeting
                    pass
            ends += 1
        assert ends == 20  # the last of them when they had taken too long
        assert isinstance(client.request(GetHerd()), HerdInfo)


def test_one_that_says_nothing_is_cut(start: Start, store: KeyStore) -> None:
    supervisor = start(a_herd(listen=LISTEN), options=with_limits(SILENCE=0.2))
    key = by(store.new("a", ""))
    with raw(endpoint(supervisor), key) as silent:
        silent.wait_cut()
    with raw(endpoint(supervisor), key) as client:
        client.ask(1, GetHerd())
        with raw(endpoint(supervisor), key) as silent:
            silent.wait_cut()
        client.ask(2, GetHerd())


@pytest.mark.parametrize("by_tcp", [True, False], ids=["remote", "local"])
def test_one_that_floods_holds_nobody_up(
    start: Start, store: KeyStore, tmp_path: Path, runtime_dir: Path, by_tcp: bool
) -> None:
    supervisor = start(HerdSpec(herd="lab", listen=LISTEN))
    where = endpoint(supervisor) if by_tcp else f"ipc://{runtime_dir / 'lab.sock'}"
    over = threading.Event()
    reasons: set[str] = set()

    def flood() -> None:
        with raw(where, by(key) if by_tcp else by_nothing) as client:
            client.socket.set(zmq.LINGER, 0)
            id = 0
            while not over.is_set():
                for _ in range(200):
                    id += 1
                    with contextlib.suppress(zmq.Again):
                        client.socket.send(encode(Envelope(id=id, body=GetHerd())), zmq.NOBLOCK)
                while client.socket.poll(0):
                    body = from_supervisor_to_client.decode(client.socket.recv()).body
                    if isinstance(body, Refused):
                        reasons.add(body.reason)

    key = store.new("a", "")
    thread = threading.Thread(target=flood)
    thread.start()
    try:
        wait_for(lambda: "too_fast" in reasons, "the flood held up", 20)
        for _ in range(20):
            began = time.monotonic()
            supervisor.ask(ListPhones())
            with connected(endpoint(supervisor), tmp_path / "laptop.key") as connection:
                connection.request(ListPhones())
            assert time.monotonic() - began < 5
        # The hello of a new phone's process gets through as well.
        supervisor.ask(AddPhones(specs=(PhoneSpec(name="alice", port=0),)))
    finally:
        over.set()
        thread.join(20)
    assert reasons == {"too_fast"}
    assert supervisor.info().counters["clients_held_up"] > 0
    # It is told of, and does not fill the log.
    assert 1 <= len(supervisor.wait_logged("client_too_fast")) < 100


# --- how their end is noticed --------------------------------------------------------------------

CALL_AND_HANG = """
import sys
from pathlib import Path
from sipherd.client import Connection
from sipherd.protocol.messages import PlaceCall
from sipherd.supervisor.clients import NotAdmitted
from sipherd.supervisor.remote import RemoteDoor
from sipherd.ways import Remote
remote = Remote(endpoint=sys.argv[1], key=Path(sys.argv[2]))
Connection("", remote).request(PlaceCall(phone="alice", target="bob"))
print(flush=True)
input()
"""


def test_calls_end_with_a_client_that_is_killed(
    start: Start, store: KeyStore, tmp_path: Path
) -> None:
    supervisor = start(a_herd("alice", "bob", listen=LISTEN))
    supervisor.wait_ready()
    client = subprocess.Popen(
        [sys.executable, "-c", CALL_AND_HANG, endpoint(supervisor), tmp_path / "laptop.key"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | ENVIRON,
    )
    with client:
        assert client.stdout is not None
        client.stdout.readline()
        assert supervisor.ask(ListCalls()).calls
        client.kill()
        wait_for(lambda: supervisor.info().remote_clients == (), "the client forgotten", 5)
        wait_for(lambda: not supervisor.ask(ListCalls()).calls, "its calls ended", 5)


class Network:
    """A TCP relay that can be told to swallow all, as a network that is out."""

    def __init__(self, target: str) -> None:
        host, port = target.removeprefix("tcp://").split(":")
        self._target = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.is_out = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        near, _ = self._listener.accept()
        far = socket.create_connection(self._target)
        with near, far:
            for sock in (near, far):
                sock.settimeout(0.02)
            while not self._over.is_set():
                for source, sink in ((near, far), (far, near)):
                    with contextlib.suppress(TimeoutError, OSError):
                        data = source.recv(65536)
                        if not self.is_out:
                            sink.sendall(data)

    def close(self) -> None:
        self._over.set()
        self._thread.join(10)
        self._listener.close()


def test_a_network_that_is_out(start: Start, store: KeyStore, tmp_path: Path) -> None:
    """Both sides notice: nobody closes a connection here."""
    supervisor = start(a_herd("alice", "bob", listen=LISTEN))
    supervisor.wait_ready()
    with (
        contextlib.closing(Network(endpoint(supervisor))) as network,
        connected(network.endpoint, tmp_path / "laptop.key") as connection,
    ):
        connection.request(PlaceCall(phone="alice", target="bob"))
        network.is_out = True
        assert connection.wait_gone(15)
        wait_for(lambda: not supervisor.ask(ListCalls()).calls, "its calls ended", 15)
        with pytest.raises(ConnectionLost, match="network"):
            connection.request(GetHerd())


def test_leave_is_the_end_at_once(start: Start, store: KeyStore) -> None:
    supervisor = start(a_herd("alice", "bob", listen=LISTEN))
    supervisor.wait_ready()
    with raw(endpoint(supervisor), by(store.new("a", ""))) as client:
        client.ask(1, PlaceCall(phone="alice", target="bob"))
        client.socket.send(encode(Envelope(id=2, body=Leave())))
        wait_for(lambda: not supervisor.ask(ListCalls()).calls, "its calls ended")
        # The connection is there still, and is a new client if it goes on.
        assert client.ask(3, GetHerd()).body.result.remote_clients == ("a",)


def test_nothing_secret_is_logged(start: Start, store: KeyStore, tmp_path: Path) -> None:
    supervisor = start(a_herd(listen=LISTEN))
    key = store.new("a", "")
    with raw(endpoint(supervisor), by(key)) as client:
        client.ask(1, GetHerd())
        store.revoke("a")
        client.wait_cut()
    assert supervisor.end() == 0
    text = supervisor.stderr()
    assert "remote_cut" in text
    assert key.secret not in text
    assert store.server().secret not in text


# --- connections that take over a descriptor -----------------------------------------------------


class NoLog:
    """For a door that is served by the test itself."""

    def write(self, *words: object, **fields: object) -> None:
        pass


def frames(door: RemoteDoor, count: int) -> list[tuple[bytes, zmq.Frame]]:
    """The next messages, with all that must be done meanwhile."""
    found: list[tuple[bytes, zmq.Frame]] = []
    deadline = time.monotonic() + 20
    while len(found) < count:
        assert time.monotonic() < deadline, "nothing came"
        door.look(time.monotonic())
        found += [(route, frame) for route, frame in door.receive(1) if frame is not None]
        time.sleep(0.001)
    return found


def test_what_a_dead_client_said_is_not_its_successors(store: KeyStore) -> None:
    """Messages outlive their connection, and the next one may have its descriptor.

    A says two things, of which the first is read, and dies; B comes, has A's descriptor, and says
    something.  Then the other one of A is read: it must neither count nor push B out.
    """
    key, other = by(store.new("a", "")), by(store.new("b", ""))
    with contextlib.ExitStack() as stack:
        door = stack.enter_context(
            contextlib.closing(RemoteDoor(LISTEN, store, NoLog()))  # type: ignore[arg-type]
        )
        with raw(door.endpoint, key) as first:
            for text in (b"1", b"2"):
                first.socket.send(text)
            [(route, frame)] = frames(door, 1)
            a = door.peer(route, frame)
            wait_for(door.has_input, "the second message")
        while a not in door.take_gone():
            door.look(time.monotonic())
        late: list[tuple[bytes, zmq.Frame]] = []
        b = None
        while b is None or b.fd != a.fd:
            client = stack.enter_context(raw(door.endpoint, other))
            client.socket.send(b"x")
            came = frames(door, 1 if late else 2)
            if not late:
                late = [(route, frame) for route, frame in came if frame.bytes == b"2"]
            [new] = [(route, frame) for route, frame in came if frame.bytes == b"x"]
            b = door.peer(*new)
        assert b.key == "b"
        [(route, frame)] = late
        with pytest.raises(NotAdmitted, match="gone already"):
            door.peer(route, frame)
        assert door.take_gone() == []
        store.revoke("b")
        while b not in door.take_gone():
            door.look(time.monotonic())
        client.wait_cut()
