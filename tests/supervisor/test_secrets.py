"""No password is shown: in no log, event or reply, and not in the arguments of a process."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from sipherd import Herd
from sipherd.client import Connection
from sipherd.protocol.events import flatten
from sipherd.protocol.log_spec import LogSpec
from sipherd.protocol.messages import GetHerd, ListPhones
from sipherd.protocol.restart_spec import RestartSpec
from sipherd.protocol.spec import HerdSpec, PhoneSpec, RegisterSpec
from supervisor_process import Start

PASSWORD = "correct-horse-Battery"


@pytest.fixture
def registrar() -> Iterator[str]:
    """Challenges every REGISTER, and then refuses the answer with a phrase of the phone's own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(0.05)
        stopped = threading.Event()

        def serve() -> None:
            while not stopped.is_set():
                with contextlib.suppress(TimeoutError):
                    data, source = server.recvfrom(65536)
                    server.sendto(_answer(data.decode()), source)

        thread = threading.Thread(target=serve)
        thread.start()
        yield "{}:{}".format(*server.getsockname())
        stopped.set()
        thread.join()


def _answer(request: str) -> bytes:
    kept = re.findall(r"^(?:Via|From|Call-ID|CSeq): .*$", request, re.MULTILINE)
    (to,) = re.findall(r"^To: .*$", request, re.MULTILINE)
    lines = ["SIP/2.0 403 Forbidden"]
    if "\nAuthorization:" not in request:
        lines = ["SIP/2.0 401 Unauthorized"]
        lines += ['WWW-Authenticate: Digest realm="lab", nonce="n1", algorithm=MD5, qop="auth"']
    lines += [line.strip() for line in kept] + [f"{to.strip()};tag=t", "Content-Length: 0"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def test_the_password_is_nowhere(start: Start, registrar: str, tmp_path: Path) -> None:
    register = RegisterSpec(server=registrar, password=PASSWORD)
    phones = [
        PhoneSpec(name="alice", port=0, register=register, trace=True),
        PhoneSpec(name="bob", port=0, register=register, restart=RestartSpec(policy="temporary")),
    ]
    spec = HerdSpec(herd="lab", phones=tuple(phones), logs=LogSpec(dir=str(tmp_path / "logs")))
    assert PASSWORD not in repr(spec)
    supervisor = start(spec)
    supervisor.wait_ready()
    found: list[str] = []
    with Herd.connect("lab", runtime_dir=supervisor.directory) as herd:
        with herd.events(timeout=20.0, after=0) as events:
            wanted = {"registration_failed": 2, "phone_died": 2}
            for event in events:
                kind = flatten(event)["kind"]
                found.append(msgspec.json.encode(flatten(event)).decode())
                if kind in wanted:
                    wanted[kind] -= 1
                if kind == "registration_failed" and wanted[kind] == 0:
                    for phone in herd:  # both have used their password
                        os.kill(phone.info().pid, signal.SIGSEGV)
                if not any(wanted.values()):
                    break
        herd["alice"].restart()
        found += [repr(phone.info()) for phone in herd] + [repr(herd.info())]
    with contextlib.closing(Connection("lab", supervisor.directory)) as connection:
        for body in (ListPhones(), GetHerd()):
            found.append(msgspec.json.encode(connection.request(body, 10.0)).decode())
    me = psutil.Process(supervisor.pid)
    for process in (me, *me.children(recursive=True)):
        found += process.cmdline()
    assert supervisor.end() == 0
    logs = {path.name: path.read_text() for path in (tmp_path / "logs").iterdir()}
    assert "phone_died" in logs["alice.log"]
    assert "phone_died" in logs["bob.log"]
    found += [supervisor.stderr(), *logs.values()]
    assert not [text for text in found if PASSWORD in text]


def test_a_private_herd_s_password_is_in_no_argument(registrar: str) -> None:
    register = {"server": registrar, "password": PASSWORD}
    with Herd([{"name": "alice", "register": register}]) as herd:
        me = psutil.Process(herd.pid)
        arguments = [w for p in (me, *me.children(recursive=True)) for w in p.cmdline()]
        assert not [word for word in arguments if PASSWORD in word]
