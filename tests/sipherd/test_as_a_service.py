"""`sipherd up` as systemd runs it: notifications, reload and drain, from outside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from commandline import ENVIRON, HerdIsUp, Run, process
from sipherd import Herd
from sipherd.protocol.events import HerdDraining
from sipherd.protocol.states import CallState

HERD = """
herd: lab
phones:
  - {name: alice, number: "1001", port: 0, media: none}
  - {name: bob, number: "1002", port: 0, media: none, on_incoming: {answer_after: 0}}
  - {name: carol, number: "1003", port: 0, media: none}
  - {name: dora, number: "1004", port: 0, media: none}
"""


@pytest.fixture
def herd_file(tmp_path: Path) -> Path:
    file = tmp_path / "lab.yaml"
    file.write_text(HERD)
    return file


class Manager:
    """The service manager's end of NOTIFY_SOCKET."""

    def __init__(self, name: str) -> None:
        self.environ = {"NOTIFY_SOCKET": name}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(name.replace("@", "\0", 1))
        self._socket.settimeout(15)
        self.messages: list[str] = []

    def wait(self, wanted: str) -> str:
        """Read on until a message begins with this; that message."""
        while True:
            self.messages.append(self._socket.recv(4096).decode())
            if self.messages[-1].startswith(wanted):
                return self.messages[-1]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager() -> Iterator[Manager]:
    with contextlib.closing(Manager(f"@sipherd-test-{os.getpid()}")) as manager:
        yield manager


@contextlib.contextmanager
def up(file: Path, **environ: str) -> Iterator[subprocess.Popen[str]]:
    # A session of its own has no controlling terminal, as under systemd.
    with process("up", file, environ=environ, new_session=True) as running:
        yield running


def test_the_service_manager_is_told(herd_file: Path, manager: Manager, run: Run) -> None:
    environ = manager.environ | {"WATCHDOG_USEC": "1000000"}
    with up(herd_file, **environ) as supervisor:
        manager.wait("READY=1")
        manager.wait("STATUS=4 phones ready")
        manager.wait("WATCHDOG=1")
        manager.wait("WATCHDOG=1")
        began = time.monotonic_ns() // 1000
        supervisor.send_signal(signal.SIGHUP)
        reloading = manager.wait("RELOADING=1\nMONOTONIC_USEC=")
        assert int(reloading.rpartition("=")[2]) >= began
        manager.wait("READY=1")
        assert run("call", "alice", "bob", "--herd", "lab", "--detach").code == 0
        manager.wait("STATUS=4 phones ready, 2 in call")
        supervisor.terminate()
        manager.wait("STOPPING=1")
        out, err = supervisor.communicate(timeout=20)
    assert supervisor.returncode == 0, err
    assert "4 phones ready in" in out
    order = [word for word in map(kind, manager.messages) if word not in ("STATUS", "WATCHDOG")]
    assert order == ["READY", "RELOADING", "READY", "STOPPING"]


def kind(message: str) -> str:
    return message.partition("=")[0]


def test_a_reload_leaves_untouched_phones_and_their_calls_alone(
    herd_file: Path, herd_is_up: HerdIsUp, run: Run
) -> None:
    with up(herd_file):
        herd_is_up("lab", 4)
        with Herd.connect("lab") as herd:
            call = herd.phone("alice").call("bob")
            call.wait_answered(timeout=10)
            in_calls = {"alice": "in call: 1", "bob": "in call: 1"}
            deadline = time.monotonic() + 5  # the two legs tell each for itself
            while not in_calls.items() <= {p.name: p.activity for p in herd.phones()}.items():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            before = {phone.name: phone for phone in herd.phones()}
            herd_file.write_text(
                HERD.replace("name: carol,", "name: carol, display_name: Carol,").replace(
                    "dora", "eve"
                )
            )
            dry = run("reload", "--herd", "lab", "--dry-run")
            assert dry.out.startswith("would be: 1 added, 1 removed, 1 changed, 2 unchanged\n")
            assert {phone.name for phone in herd.phones()} == {*before}
            done = run("reload", "--herd", "lab", "--json")
            assert done.code == 0, done.err
            report = json.loads(done.out)
            assert report["added"] == ["eve"]
            assert report["removed"] == ["dora"]
            assert report["changed"] == ["carol"]
            assert report["unchanged"] == ["alice", "bob"]
            after = {phone.name: phone for phone in herd.phones()}
            assert after.keys() == {"alice", "bob", "carol", "eve"}
            for name in ("alice", "bob"):
                assert after[name].pid == before[name].pid
                assert after[name].calls == before[name].calls
                assert after[name].activity == "in call: 1"
            assert after["carol"].port == before["carol"].port
            assert after["carol"].incarnation == before["carol"].incarnation + 1
            assert after["carol"].spec.display_name == "Carol"
            assert after["eve"].number == "1004"
            assert call.info.state is CallState.ANSWERED
            call.hang_up()


def test_a_bad_file_changes_nothing(herd_file: Path, herd_is_up: HerdIsUp, run: Run) -> None:
    with up(herd_file) as supervisor:
        herd_is_up("lab", 4)
        herd_file.write_text(HERD.replace("port: 0", "port: none"))
        refused = run("reload", "--herd", "lab")
        assert refused.code == 2
        assert refused.err.startswith(f"sipherd: {herd_file}:4: $.phones[0].port: ")
        assert refused.err.count("\n") == 1
        supervisor.send_signal(signal.SIGHUP)
        herd_is_up("lab", 4)
        supervisor.terminate()
        _, err = supervisor.communicate(timeout=20)
    assert supervisor.returncode == 0
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    (line,) = (line for line in lines if line["event"] == "reload_refused")
    assert line["why"].startswith(f"{herd_file}:4: ")


def test_a_herd_of_no_file_has_nothing_to_reload(herd: Herd, run: Run) -> None:
    refused = run("reload", "--herd", herd.name)
    assert refused.code == 2
    assert refused.err == (
        "sipherd: this herd was not started from a file: there is nothing to reload\n"
    )


@pytest.mark.parametrize("how", ["signal", "command"])
def test_a_drain_waits_for_the_last_call(
    herd_file: Path, herd_is_up: HerdIsUp, run: Run, how: str
) -> None:
    with up(herd_file) as supervisor, contextlib.ExitStack() as stack:
        herd_is_up("lab", 4)
        herd = stack.enter_context(Herd.connect("lab"))
        call = herd.phone("alice").call("bob")
        call.wait_answered(timeout=10)
        stream = stack.enter_context(herd.events(timeout=15))
        if how == "signal":
            supervisor.send_signal(signal.SIGUSR1)
        else:
            stop = stack.enter_context(process("stop", "--drain", "--herd", "lab"))
        next(event for event in stream if isinstance(event.body, HerdDraining))
        refused = run("call", "carol", "dora", "--herd", "lab")
        assert refused.code == 1
        assert refused.err == ("sipherd: the herd is being drained: it ends with its last call\n")
        with Stranger(herd.phone("dora").uri) as stranger:
            deadline = time.monotonic() + 10
            while stranger.ask("OPTIONS") != UNAVAILABLE:
                assert time.monotonic() < deadline, "the phone has not heard of it"
            assert stranger.ask("INVITE") == UNAVAILABLE
        assert call.info.state is CallState.ANSWERED
        call.hang_up()
        out, err = supervisor.communicate(timeout=20)
        assert supervisor.returncode == 0, err
        assert "stopping: drained" in out
        if how == "command":
            out, err = stop.communicate(timeout=20)
            assert stop.returncode == 0, err
            assert out.startswith("herd lab stopped: 4 phones stopped in")


UNAVAILABLE = "SIP/2.0 503 Service Unavailable"
REQUEST = """{method} {uri} SIP/2.0
Via: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK-{n};rport
Max-Forwards: 70
From: <sip:late@127.0.0.1>;tag=1
To: <{uri}>
Call-ID: {n}@127.0.0.1
CSeq: 1 {method}
Contact: <sip:late@127.0.0.1:{port}>
Content-Length: 0

"""


class Stranger:
    """Somebody who sends requests to a phone."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._n = 0

    def __enter__(self) -> Stranger:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(10)
        host, _, port = self._uri.rpartition("@")[2].partition(":")
        self._socket.connect((host, int(port)))
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def ask(self, method: str) -> str:
        """The status line of the final response."""
        self._n += 1
        port = self._socket.getsockname()[1]
        text = REQUEST.format(method=method, uri=self._uri, port=port, n=self._n)
        self._socket.send(text.replace("\n", "\r\n").encode())
        while (line := self._status()).startswith("SIP/2.0 1"):
            pass
        return line

    def _status(self) -> str:
        return self._socket.recv(65535).partition(b"\r\n")[0].decode()


def test_the_hang_up_of_its_terminal_stops_it(herd_file: Path, herd_is_up: HerdIsUp) -> None:
    master, slave = os.openpty()
    command = [sys.executable, "-c", ON_TERMINAL, str(herd_file)]
    with subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env=os.environ | ENVIRON,
    ) as supervisor:
        try:
            os.close(slave)
            herd_is_up("lab", 4)
            os.close(master)
            assert supervisor.wait(20) == 0
        finally:
            if supervisor.poll() is None:
                supervisor.kill()


ON_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from sipherd.cli import main
main(["up", sys.argv[1]])
"""
