"""A herd of another machine, as people see it: keys, --connect, and what is said when it fails."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from commandline import HerdIsUp, Run, process
from sipherd import CommandRefused, ConnectionLost, Herd, HerdNotRunning, KeyRefused, KeysError
from sipherd.protocol.behaviour import Behaviour
from sipherd.protocol.keys import KeyStore
from sipherd.protocol.spec import HerdSpec, PhoneSpec
from supervisor_process import Supervisor, wait_for

HERD = HerdSpec(
    herd="lab",
    listen="tcp://127.0.0.1:0",
    phones=(
        PhoneSpec(name="alice", number="1001", port=0, media="none"),
        PhoneSpec(name="bob", number="1002", port=0, media="none"),
    ),
)


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeyStore:
    """The directory of keys, and the current one for key files."""
    monkeypatch.setenv("SIPHERD_KEYS_DIR", str(tmp_path / "keys"))
    monkeypatch.chdir(tmp_path)
    return KeyStore(tmp_path / "keys")


@pytest.fixture
def remote(
    run: Run, keys: KeyStore, runtime_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Supervisor]:
    """A herd, `laptop.key` for it, and nothing of it in the runtime directory of the commands."""
    assert run("keys", "new", "laptop").code == 0
    supervisor = Supervisor(HERD, runtime_dir, tmp_path)
    supervisor.wait_ready()
    monkeypatch.setenv("SIPHERD_RUNTIME_DIR", str(tmp_path / "elsewhere"))
    yield supervisor
    supervisor.close()


def where(supervisor: Supervisor) -> tuple[str, ...]:
    return "--connect", supervisor.info().listen, "--key", "laptop.key"


# Keys.


def test_new_list_revoke(run: Run, keys: KeyStore, tmp_path: Path) -> None:
    made = run("keys", "new", "laptop")
    assert made.code == 0
    assert made.out.startswith("laptop: key in laptop.key; ")
    assert (tmp_path / "laptop.key").stat().st_mode & 0o777 == 0o600
    listed = run("keys", "list").out.splitlines()
    assert [line.split()[0] for line in listed] == ["NAME", "laptop"]
    assert run("keys", "revoke", "laptop").out == "laptop: revoked\n"
    assert run("keys", "list").out == "NAME  MADE  PUBLIC KEY\n"


def test_keys_as_json(run: Run, keys: KeyStore) -> None:
    made = json.loads(run("keys", "new", "laptop", "--output", "l.key", "--json").out)
    (listed,) = map(json.loads, run("keys", "list", "--json").out.splitlines())
    assert made == {"name": "laptop", "public": listed["public"], "file": "l.key"}
    assert listed["name"] == "laptop"
    revoked = json.loads(run("keys", "revoke", "laptop", "--json").out)
    assert revoked == {"name": "laptop", "revoked": True}


def test_a_key_on_stdout(run: Run, keys: KeyStore, tmp_path: Path) -> None:
    made = json.loads(run("keys", "new", "laptop", "-o", "-").out)
    assert made["server"] == keys.server().public
    assert not (tmp_path / "laptop.key").exists()


def test_mistakes_with_keys(run: Run, keys: KeyStore, tmp_path: Path) -> None:
    none = run("keys", "revoke", "laptop")
    assert (none.code, none.err) == (1, 'sipherd: no key "laptop"; sipherd keys list lists them\n')
    run("keys", "new", "laptop")
    there = run("keys", "new", "laptop")
    assert there.code == 2
    assert there.err == "sipherd: key file laptop.key: File exists; choose another: --output\n"
    again = run("keys", "new", "laptop", "-o", "other.key")
    assert again.code == 2
    assert 'there is a key "laptop" already' in again.err
    assert not (tmp_path / "other.key").exists()
    bad = run("keys", "new", "../x")
    assert bad.code == 2
    assert bad.err.count("\n") == 1


def test_help_of_keys(run: Run) -> None:
    assert "\n      sipherd keys" not in run("keys", "--help").out  # examples are at the margin
    for words in (("keys",), ("keys", "new"), ("keys", "list"), ("keys", "revoke")):
        ran = run(*words, "--help")
        assert ran.code == 0
        assert f"\n    sipherd {' '.join(words)}" in ran.out
        if len(words) > 1:
            assert "--json" in ran.out
            assert "--keys-dir" in ran.out


# Commands.


def test_commands(run: Run, remote: Supervisor) -> None:
    at = where(remote)
    listed = run("ps", *at)
    assert listed.code == 0
    assert "alice" in listed.out
    # Of a process of another machine this one knows nothing.
    assert "MEMORY" not in listed.out
    assert all(json.loads(line)["memory"] is None for line in run("ps", "--json", *at).out.split())
    wait_for(lambda: remote.info().remote_clients == (), "the clients before it are forgotten")
    shown = run("show", *at).out
    assert "remote clients  laptop\n" in shown
    assert "clock" not in shown
    assert run("ps", "--herd", "lab", *at).code == 0
    refused = run("record", "c1", "x.wav", *at)
    assert refused.code == 2
    assert "only a client on the herd's own machine" in refused.err
    stopped = run("stop", *at)
    assert stopped.code == 0
    assert stopped.out.startswith("herd lab stopped: 2 phones stopped in ")
    assert remote.wait() == 0


def test_up_and_reload_with_listen(
    run: Run, keys: KeyStore, herd_is_up: HerdIsUp, tmp_path: Path
) -> None:
    (tmp_path / "h.yaml").write_text("phones: [{name: alice, port: 0, media: none}]")
    run("keys", "new", "laptop")
    with process("up", "h.yaml", "--listen", "tcp://127.0.0.1:0") as up:
        herd_is_up("default", 1)
        listen = json.loads(run("show", "--json").out)["listen"]
        assert "alice" in run("ps", "--connect", listen, "--key", "laptop.key").out
        # The option stands when the file is read again, here from the other machine.
        assert run("reload", "--connect", listen, "--key", "laptop.key").code == 0
        assert run("stop").code == 0
        assert up.wait(15) == 0


def test_up_without_keys(run: Run, keys: KeyStore, tmp_path: Path) -> None:
    (tmp_path / "h.yaml").write_text("listen: tcp://127.0.0.1:7060\nphones: [{name: alice}]")
    with process("up", "h.yaml") as up:
        _, err = up.communicate(timeout=20)
    assert up.returncode == 2
    assert err.count("\n") == 1
    assert "make the first with: sipherd keys new NAME" in err
    assert "expected tcp://HOST:PORT" in one_line(run, "up", "h.yaml", "--listen", "7060")


def test_the_environment_says_where(
    run: Run, remote: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, endpoint, _, key = where(remote)
    monkeypatch.setenv("SIPHERD_CONNECT", endpoint)
    monkeypatch.setenv("SIPHERD_KEY", key)
    assert "alice" in run("ps").out
    with Herd.connect() as herd:
        assert (herd.name, herd.pid) == ("lab", remote.pid)
        with pytest.raises(HerdNotRunning, match='is "lab", not "other"'):
            Herd.connect("other")


def test_a_call_from_python(remote: Supervisor) -> None:
    _, endpoint, _, key = where(remote)
    with Herd.connect(endpoint=endpoint, key=key) as herd:
        call = herd["alice"].call(herd["bob"])
        herd["bob"].incoming(timeout=10).answer()
        call.wait_answered(timeout=10)
        assert call.hang_up().cause == "hung_up"


# What is said when it fails: one line with the remedy, and soon.


def one_line(run: Run, *arguments: str) -> str:
    ran = run(*arguments)
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    return ran.err


def test_mistakes(run: Run, keys: KeyStore, tmp_path: Path) -> None:
    run("keys", "new", "laptop")
    to = ("ps", "--connect")
    assert "expected tcp://HOST:PORT" in one_line(run, *to, "box:7060", "--key", "laptop.key")
    assert "--key or SIPHERD_KEY" in one_line(run, *to, "tcp://127.0.0.1:1")
    assert "--key is for --connect" in one_line(run, "ps", "--key", "laptop.key")
    assert "No such file" in one_line(run, *to, "tcp://127.0.0.1:1", "--key", "nowhere.key")
    nobody = one_line(run, *to, "tcp://127.0.0.1:1", "--key", "laptop.key")
    assert "nobody listens at tcp://127.0.0.1:1 (Connection refused)" in nobody
    assert "sipherd up FILE --listen" in nobody
    no_host = one_line(run, *to, "tcp://no-such-host.invalid:1", "--key", "laptop.key")
    assert no_host.startswith("sipherd: tcp://no-such-host.invalid:1: ")
    (tmp_path / "laptop.key").chmod(0o644)
    assert "chmod 600" in one_line(run, *to, "tcp://127.0.0.1:1", "--key", "laptop.key")


def test_a_key_that_is_not_let_in(run: Run, remote: Supervisor, keys: KeyStore) -> None:
    keys.revoke("laptop")
    line = one_line(run, "ps", *where(remote))
    assert 'does not let key "laptop" of laptop.key in' in line
    assert "sipherd keys new NAME" in line


def test_a_key_of_another_server(
    run: Run, remote: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = where(remote)
    monkeypatch.setenv("SIPHERD_KEYS_DIR", str(tmp_path / "others"))
    run("keys", "new", "laptop", "-o", "other.key")
    line = one_line(run, "ps", *at[:3], "other.key")
    assert "has not the server key that other.key names" in line


@contextlib.contextmanager
def no_herd(greeting: bytes) -> Iterator[str]:
    """Something else that listens, says this, and hangs up once it was told something."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as peer:
                peer.settimeout(20)
                peer.sendall(greeting)
                with contextlib.suppress(OSError):
                    peer.recv(1000)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(20)


def test_something_else_that_listens(run: Run, keys: KeyStore) -> None:
    run("keys", "new", "laptop")
    for greeting in (b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"\0" * 100):
        with no_herd(greeting) as endpoint:
            line = one_line(run, "ps", "--connect", endpoint, "--key", "laptop.key")
        assert "or is no herd" in line


def test_code_is_not_run_there(remote: Supervisor) -> None:
    """Refused on this side, and by the herd if this side asks all the same."""
    behaviour = Behaviour(name="f", code=b"")
    _, endpoint, _, key = where(remote)
    with Herd.connect(endpoint=endpoint, key=key) as herd:
        for add in (
            lambda: herd.add("carol", number="3", behaviour=lambda phone: None),
            lambda: herd._create((PhoneSpec(name="carol", number="3"),), {"carol": behaviour}),
        ):
            with pytest.raises(CommandRefused) as caught:
                add()
            assert caught.value.reason == "local_only"
            assert "only a client on the herd's own machine may ask for" in str(caught.value)
        assert "carol" not in {info.name for info in herd.phones()}


def test_a_herd_that_is_stopped(remote: Supervisor) -> None:
    """No hang: the kernel accepts the connection, and nobody answers."""
    _, endpoint, _, key = where(remote)
    os.kill(remote.pid, signal.SIGSTOP)
    try:
        with pytest.raises(HerdNotRunning, match="does not answer; is the herd stopped"):
            Herd.connect(endpoint=endpoint, key=key)
    finally:
        os.kill(remote.pid, signal.SIGCONT)


def test_a_herd_that_dies(remote: Supervisor) -> None:
    _, endpoint, _, key = where(remote)
    with Herd.connect(endpoint=endpoint, key=key) as herd, herd.events() as events:
        remote.process.kill()
        assert list(events) == []  # which ends with the herd
        with pytest.raises(ConnectionLost, match="the herd has ended"):
            herd.info()


def test_errors_from_python(remote: Supervisor, keys: KeyStore, tmp_path: Path) -> None:
    _, endpoint, _, key = where(remote)
    with pytest.raises(ValueError, match="expected tcp://"):
        Herd.connect(endpoint="box", key=key)
    with pytest.raises(KeysError, match="SIPHERD_KEY"):
        Herd.connect(endpoint=endpoint)
    keys.revoke("laptop")
    with pytest.raises(KeyRefused):
        Herd.connect(endpoint=endpoint, key=key)
