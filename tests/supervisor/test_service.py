"""The supervisor's process from outside: how it starts, what it survives, how it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import zmq

from peers.sipp import loopback_address
from sipherd.client import Connection
from sipherd.protocol.codec import MAX_MESSAGE, encode
from sipherd.protocol.events import Event
from sipherd.protocol.messages import (
    AddPhones,
    Done,
    Envelope,
    Events,
    GetHerd,
    Leave,
    RestartPhones,
    Snapshot,
    StartPhones,
    StopHerd,
    StopPhones,
    Subscribe,
)
from sipherd.protocol.paths import HerdPaths
from sipherd.protocol.spec import HerdPorts, HerdSpec, PhoneSpec, PortRange
from supervisor_process import (
    ENVIRON,
    Raw,
    Start,
    Supervisor,
    a_herd,
    is_alive,
    wait_for,
)

#: Root without what only root may do, where root runs the tests.
UNPRIVILEGED = [] if os.geteuid() else ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]

# --- start and end -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGINT, 130)]
)
def test_a_signal_ends_it_in_order(start: Start, runtime_dir: Path, number: int, code: int) -> None:
    supervisor = start(a_herd("alice", "bob"))
    assert supervisor.ready == {"pid": supervisor.pid}
    phones = supervisor.wait_ready()
    nursery = supervisor.info().nursery_pid
    assert supervisor.end(number) == code
    assert not any(is_alive(pid) for pid in (nursery, *(p.pid for p in phones.values())))
    for phone in phones.values():
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            with socket.socket(socket.AF_INET, kind) as sock:
                sock.bind((phone.address, phone.port))
    assert list(runtime_dir.iterdir()) == []
    assert supervisor.stderr() == ""


def test_stop_herd_is_answered_and_ends_it(start: Start, runtime_dir: Path) -> None:
    supervisor = start(a_herd("alice"))
    supervisor.wait_ready()
    reports = supervisor.ask(StopHerd()).reports
    assert [report.how for report in reports] == ["drained"]
    assert supervisor.wait() == 0
    assert list(runtime_dir.iterdir()) == []


def test_a_signal_before_the_phones_are_there(start: Start) -> None:
    supervisor = start(a_herd(*(f"p{n}" for n in range(10))))
    assert supervisor.end() == 0
    assert supervisor.stderr() == ""


def test_sockets_are_for_their_owner_alone(start: Start, runtime_dir: Path) -> None:
    start(a_herd())
    paths = HerdPaths(runtime_dir, "lab")
    for path in (paths.control, paths.workers, paths.lock):
        assert path.stat().st_mode & 0o777 == 0o600


def test_ends_with_its_owner(start: Start) -> None:
    owner = subprocess.Popen(["sleep", "60"])
    fd = os.pidfd_open(owner.pid)
    supervisor = start(a_herd("alice"), owner_fd=fd)
    os.close(fd)
    supervisor.wait_ready()
    owner.kill()
    owner.wait()
    assert supervisor.wait() == 0


# --- what keeps it from starting -----------------------------------------------------------------


def refusal(supervisor: Supervisor) -> str:
    """The one line with which it refused to start."""
    assert supervisor.wait() == 2
    text = supervisor.stderr()
    assert text.startswith("sipherd: ")
    assert text.count("\n") == 1
    return text


def test_a_herd_that_is_running(start: Start, runtime_dir: Path) -> None:
    first = start(a_herd("alice"))
    second = start(a_herd("alice"))
    assert second.wait() == 2
    assert second.ready["exit"] == 2
    assert f'herd "lab" is already running (pid {first.pid})' in second.ready["error"]
    assert set(first.wait_ready()) == {"alice"}
    assert (runtime_dir / "lab.sock").exists()


def test_a_path_that_is_too_long(start: Start, runtime_dir: Path) -> None:
    supervisor = start(a_herd(), directory=runtime_dir / ("d" * 100), with_ready=False)
    assert "at most 107" in refusal(supervisor)


def test_a_directory_that_is_a_file(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    supervisor = start(a_herd(), directory=tmp_path / "file", with_ready=False)
    assert "not a directory" in refusal(supervisor)


def test_a_directory_that_is_not_writable(start: Start, tmp_path: Path) -> None:
    directory = tmp_path / "readonly"
    directory.mkdir(0o500)
    supervisor = start(a_herd(), directory=directory, with_ready=False, prefix=UNPRIVILEGED)
    assert "not writable" in refusal(supervisor)


def test_a_spec_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "herd.json").write_text("{")
    with (tmp_path / "herd.json").open() as file:
        fd = str(file.fileno())
        done = subprocess.run(
            [sys.executable, "-m", "sipherd.supervisor", "--spec-fd", fd, "--runtime-dir", "/tmp"],
            capture_output=True,
            text=True,
            pass_fds=(file.fileno(),),
            env=os.environ | ENVIRON,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith(f"sipherd: --spec-fd {fd}: ")


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_port_in_use(start: Start, runtime_dir: Path, kind: int) -> None:
    """By UDP or by TCP: a phone has both."""
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            other.listen()
        port = other.getsockname()[1]
        free = PhoneSpec(name="free", port=0)
        taken = PhoneSpec(name="taken", port=port)
        supervisor = start(HerdSpec(herd="lab", phones=(free, taken)))
        assert supervisor.wait() == 2
        assert f"port {port}" in supervisor.ready["error"]
        assert f"pid {os.getpid()}" in supervisor.ready["error"]
    assert list(runtime_dir.iterdir()) == []


def test_a_stopped_phone_has_no_socket(start: Start) -> None:
    """Callers get ICMP and RST, and not silence; started again it is on its number."""
    supervisor = start(a_herd("alice", "bob"))
    alice = supervisor.wait_ready()["alice"]
    address = alice.address, alice.port
    socket.create_connection(address, 5).close()
    supervisor.ask(StopPhones(which=("alice",)))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, 5)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(address)
    supervisor.ask(StartPhones(which=("alice",)))
    assert supervisor.wait_ready()["alice"].port == alice.port
    socket.create_connection(address, 5).close()


def test_a_nursery_that_is_not_there(start: Start, runtime_dir: Path) -> None:
    supervisor = start(a_herd("alice"), options="more = {'nursery': ['/nowhere']}")
    assert supervisor.wait() == 4
    assert list(runtime_dir.iterdir()) == []


def test_a_nursery_that_dies_at_once_every_time(start: Start, runtime_dir: Path) -> None:
    fail = "more = {'nursery': [sys.executable, '-c', 'raise RuntimeError(1234)']}"
    supervisor = start(a_herd("alice"), options=fail)
    assert supervisor.wait() == 4
    *_, last = supervisor.stderr().splitlines()
    assert last == (
        "sipherd: the process that forks phones died 6 times within 60 s, "
        "the last time with exit code 1: RuntimeError: 1234"
    )
    assert list(runtime_dir.iterdir()) == []


# --- bad messages --------------------------------------------------------------------------------


def test_garbage_is_dropped_and_counted(start: Start, raw: Callable[..., Raw]) -> None:
    supervisor = start(a_herd())
    client = raw()
    client.socket.send(b"")
    client.socket.send(os.urandom(100))
    client.socket.send(encode(Envelope(id=1, version=99, body=GetHerd())))
    client.socket.send(encode(Envelope(id=0, body=GetHerd())))
    client.socket.send_multipart([encode(Envelope(id=1, body=GetHerd())), b"more"])
    client.socket.send(encode(Envelope(id=1, body=Leave())))  # of somebody unknown: nothing
    stranger = raw()
    stranger.socket.send(b"garbage")
    wait_for(lambda: supervisor.info().counters["client_garbage"] == 6, "six frames counted")
    reply = client.ask(7, GetHerd())
    assert reply.reply_to == 7
    assert isinstance(reply.body, Done)
    # The garbage made no client: this one and the connection of info() are all.
    wait_for(lambda: supervisor.info().clients == 2, "the others forgotten")


def test_an_over_long_frame_costs_the_connection(start: Start, raw: Callable[..., Raw]) -> None:
    supervisor = start(a_herd())
    raw().socket.send(b"x" * (MAX_MESSAGE + 1))
    good = raw()
    for id in range(1, 100):
        assert good.ask(id, GetHerd()).reply_to == id
    assert supervisor.process.poll() is None


def test_raw_bytes_on_the_socket(start: Start, runtime_dir: Path) -> None:
    supervisor = start(a_herd("alice"))
    for name in ("lab.sock", "lab.workers"):
        for _ in range(20):
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.connect(str(runtime_dir / name))
                # ZeroMQ hangs up on what is no greeting.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    stranger.sendall(os.urandom(10_000))
    assert set(supervisor.wait_ready()) == {"alice"}


def test_garbage_from_a_worker(start: Start, raw: Callable[..., Raw], runtime_dir: Path) -> None:
    supervisor = start(a_herd("alice"))
    worker = raw(runtime_dir / "lab.workers")
    worker.socket.send(b"garbage")
    worker.socket.send_multipart([b"two", b"frames"])
    wait_for(lambda: supervisor.info().counters["worker_garbage"] == 2, "two frames counted")
    supervisor.wait_ready()


# --- clients -------------------------------------------------------------------------------------

HANG = """
import sys
from pathlib import Path
from sipherd.client import Connection
from sipherd.protocol.messages import GetHerd
Connection("lab", Path(sys.argv[1])).request(GetHerd())
print(flush=True)
input()
"""


def test_a_dead_client_is_forgotten(start: Start, runtime_dir: Path) -> None:
    supervisor = start(a_herd())
    client = subprocess.Popen(
        [sys.executable, "-c", HANG, str(runtime_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | ENVIRON,
    )
    with client:
        assert client.stdout is not None
        client.stdout.readline()
        wait_for(lambda: supervisor.info().clients == 2, "the client known")
        client.kill()
        wait_for(lambda: supervisor.info().clients == 1, "the client forgotten")


def test_one_that_left_is_forgotten(start: Start, raw: Callable[..., Raw]) -> None:
    supervisor = start(a_herd())
    client = raw()
    client.ask(1, GetHerd())
    wait_for(lambda: supervisor.info().clients == 2, "the client known")
    client.socket.send(encode(Envelope(id=2, body=Leave())))
    wait_for(lambda: supervisor.info().clients == 1, "the client forgotten")


def test_a_subscriber_that_hung_up_without_a_word(start: Start, raw: Callable[..., Raw]) -> None:
    supervisor = start(a_herd("alice"))
    supervisor.wait_ready()
    client = raw()
    client.ask(1, Subscribe())
    client.close()
    supervisor.ask(RestartPhones(which=("alice",)))
    wait_for(lambda: supervisor.info().clients == 1, "the client forgotten")


def test_events_are_numbered_without_a_gap(start: Start, raw: Callable[..., Raw]) -> None:
    supervisor = start(a_herd())
    client = raw()
    snapshot = client.ask(1, Subscribe()).body.result
    assert isinstance(snapshot, Snapshot)
    supervisor.ask(AddPhones(specs=tuple(PhoneSpec(name=f"p{n}", port=0) for n in range(5))))
    found: list[Event] = []
    # Each: added, starting, ready.
    while len(found) < 15:
        body = client.receive().body
        assert isinstance(body, Events)
        found += body.events
    assert [event.n for event in found] == list(range(snapshot.n + 1, snapshot.n + 16))


def test_a_subscriber_that_never_reads_holds_nobody_up(
    start: Start, raw: Callable[..., Raw]
) -> None:
    supervisor = start(a_herd("alice"))
    idle = raw()
    idle.socket.set(zmq.RCVHWM, 1)
    idle.socket.send(encode(Envelope(id=1, body=Subscribe())))
    for _ in range(5):
        supervisor.ask(RestartPhones(which=("alice",)))
    assert supervisor.end() == 0


# --- output --------------------------------------------------------------------------------------

VIEW = "more = {'view': lambda event: 'x' * 20_000 + '\\n'}"


def test_a_view_is_written_to_stdout(start: Start) -> None:
    read_fd, write_fd = os.pipe()
    view = "more = {'view': lambda e: f'{e.n}\\n' if e.n != 2 else None}"
    supervisor = start(a_herd("alice"), options=view, stdout=write_fd)
    os.close(write_fd)
    supervisor.wait_ready()
    assert supervisor.end() == 0
    with os.fdopen(read_fd) as out:
        lines = out.read().split()
    assert lines == [str(n) for n in range(1, len(lines) + 2) if n != 2]


@pytest.mark.parametrize("is_open", [True, False], ids=["not read", "closed"])
def test_a_reader_of_stdout_that_does_not_read(start: Start, is_open: bool) -> None:
    read_fd, write_fd = os.pipe()
    supervisor = start(a_herd("alice", "bob"), options=VIEW, stdout=write_fd)
    os.close(write_fd)
    if not is_open:
        os.close(read_fd)
    supervisor.wait_ready()
    supervisor.ask(RestartPhones())
    began = time.monotonic()
    assert supervisor.end() == 0
    assert time.monotonic() - began < 5
    if is_open:
        os.close(read_fd)


def test_a_bug_ends_it_with_a_traceback_in_the_log_and_nothing_left(
    start: Start, runtime_dir: Path
) -> None:
    view = "more = {'view': lambda event: 1 // (event.n < 8) * ''}"
    supervisor = start(a_herd("alice", "bob"), options=view)
    assert supervisor.wait() == 4
    (line,) = supervisor.logged("internal_error")
    assert "ZeroDivisionError" in line["exception"]
    assert supervisor.stderr().splitlines()[-1].startswith("sipherd: ZeroDivisionError: ")
    assert list(runtime_dir.iterdir()) == []


# --- processes that are killed -------------------------------------------------------------------


def test_a_killed_supervisor_leaves_nothing_and_its_ports_come_again(start: Start) -> None:
    address = loopback_address()
    spec = HerdSpec(
        herd="lab",
        ports=HerdPorts(sip=PortRange(25060, 25160)),
        phones=tuple(PhoneSpec(name=f"p{n}", address=address) for n in range(5)),
    )
    supervisor = start(spec)
    phones = supervisor.wait_ready()
    processes = [supervisor.info().nursery_pid, *(phone.pid for phone in phones.values())]
    # One that reads no end of its lifeline.
    os.kill(processes[-1], signal.SIGSTOP)
    supervisor.process.kill()
    wait_for(lambda: not any(map(is_alive, processes)), "all processes gone")
    again = start(spec).wait_ready()
    assert [phone.port for phone in again.values()] == [phone.port for phone in phones.values()]


def test_a_new_supervisor_waits_for_the_dying_herd(start: Start) -> None:
    spec = HerdSpec(
        herd="lab", phones=(PhoneSpec(name="p", port=25264, address=loopback_address()),)
    )
    supervisor = start(spec)
    supervisor.wait_ready()
    supervisor.process.kill()
    assert start(spec).wait_ready()["p"].port == 25264


def test_a_killed_phone_is_told_with_its_cause(start: Start, raw: Callable[..., Raw]) -> None:
    supervisor = start(a_herd("alice", "bob"))
    phones = supervisor.wait_ready()
    os.kill(phones["alice"].pid, signal.SIGKILL)
    wait_for(lambda: supervisor.phones()["alice"].incarnation == 2, "alice again")
    after = supervisor.wait_ready()
    assert (after["alice"].port, after["alice"].deaths) == (phones["alice"].port, 1)
    assert after["bob"].pid == phones["bob"].pid
    (died,) = supervisor.wait_logged("phone_died")
    assert died["cause"] == "SIGKILL (perhaps out of memory)"
    assert died["next_action"] == "restart now"
    assert (died["phone"], died["pid"]) == ("alice", phones["alice"].pid)


def test_a_killed_nursery_costs_no_phone(start: Start) -> None:
    supervisor = start(a_herd("alice", "bob"))
    phones = supervisor.wait_ready()
    first = supervisor.info().nursery_pid
    os.kill(first, signal.SIGKILL)
    second = wait_for(
        lambda: (pid := supervisor.info().nursery_pid) != first and pid, "another nursery"
    )
    assert is_alive(second)
    after = supervisor.phones()
    assert {n: p.pid for n, p in after.items()} == {n: p.pid for n, p in phones.items()}
    # The new nursery forks.
    supervisor.ask(AddPhones(specs=(PhoneSpec(name="carol", port=0),)))
    # A phone of the old one is the supervisor's child: reaped, with its cause.
    os.kill(phones["alice"].pid, signal.SIGSEGV)
    wait_for(lambda: supervisor.phones()["alice"].incarnation == 2, "alice again")
    wait_for(lambda: not psutil.pid_exists(phones["alice"].pid), "it is reaped")
    supervisor.ask(RestartPhones())
    supervisor.wait_ready()
    assert supervisor.end() == 0
    assert [line["cause"] for line in supervisor.logged("nursery_died")] == ["SIGKILL"]
    assert [line["cause"] for line in supervisor.logged("phone_died")] == ["SIGSEGV"]


def test_a_nursery_that_dies_before_it_could_tell_of_a_death(start: Start) -> None:
    """The phone is started again by the next nursery, and not by the one that is gone.

    ::

        phone    ──killed──▶ its pidfd is readable: dead, of unknown cause
        nursery  stopped: does not report it ──killed──▶ the phone is the supervisor's to reap
    """
    supervisor = start(a_herd("alice"))
    alice = supervisor.wait_ready()["alice"]
    nursery = supervisor.info().nursery_pid
    os.kill(nursery, signal.SIGSTOP)
    os.kill(alice.pid, signal.SIGKILL)
    wait_for(lambda: psutil.Process(alice.pid).status() == psutil.STATUS_ZOMBIE, "it is dead")
    supervisor.info()  # in whose turn the phone's pidfd came before this question
    os.kill(nursery, signal.SIGKILL)
    wait_for(lambda: supervisor.phones()["alice"].incarnation == 2, "alice again")
    supervisor.wait_ready()
    assert [line["cause"] for line in supervisor.wait_logged("nursery_died")] == ["SIGKILL"]
    assert not supervisor.logged("internal_error")


def test_a_nursery_killed_in_the_middle_of_a_start(start: Start) -> None:
    """Fork requests are lost with it, and forked phones nobody was told of must not stay."""
    supervisor = start(a_herd())
    nursery = supervisor.info().nursery_pid
    specs = tuple(PhoneSpec(name=f"p{n}", port=0) for n in range(40))
    with contextlib.closing(Connection("lab", supervisor.directory)) as connection:
        request = connection.submit(AddPhones(specs=specs), 20.0)
        wait_for(lambda: len(psutil.Process(nursery).children()) > 5, "the first phones")
        os.kill(nursery, signal.SIGKILL)
        connection.wait(request)
    phones = supervisor.wait_ready()
    assert len(phones) == 40
    ours = {phone.pid for phone in phones.values()} | {supervisor.info().nursery_pid}

    def others() -> list[str]:
        descendants = psutil.Process(supervisor.pid).children(recursive=True)
        return [p.name() for p in descendants if p.pid not in ours]

    wait_for(lambda: others() == ["sipherd-guard"], "no stray process")
    assert supervisor.end() == 0


def test_what_a_phone_prints_is_logged_with_its_name(start: Start) -> None:
    """A phone's raw output, here that of an interpreter that dies of a fatal error."""
    nursery = (
        "import sys, runpy; from sipherd.worker import process as p; "
        "p.run = lambda *a, output_fd, **k: __import__('os').write(output_fd, b'last words\\n');"
        "runpy.run_module('sipherd.worker.nursery', run_name='__main__', alter_sys=True)"
    )
    supervisor = start(
        a_herd("alice"), options=f"more = {{'nursery': [sys.executable, '-c', {nursery!r}]}}"
    )
    assert supervisor.wait() == 4
    (line,) = supervisor.logged("output")
    assert (line["line"], line["phone"], line["incarnation"]) == ("last words", "alice", 1)


def test_a_stop_while_the_nursery_is_stopped(start: Start) -> None:
    """A nursery that does not react delays the end, and prevents nothing."""
    supervisor = start(a_herd("alice"))
    pid = supervisor.wait_ready()["alice"].pid
    nursery = supervisor.info().nursery_pid
    os.kill(nursery, signal.SIGSTOP)
    assert supervisor.end() == 0
    assert not is_alive(pid)
    assert not is_alive(nursery)
