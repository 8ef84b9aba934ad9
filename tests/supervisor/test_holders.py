"""Holders of ports and files, found in /proc."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sipherd.supervisor.holders import port_holder, processes_holding

HOLD_A_PORT = """
import socket
holder = socket.socket({family}, {kind})
holder.bind(("{address}", 0))
if {kind} == socket.SOCK_STREAM:
    holder.listen()
print(holder.getsockname()[1], flush=True)
input()
"""


def start(code: str) -> tuple[subprocess.Popen[str], str]:
    """A process that ran ``code`` up to its first line of output, and that line."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.mark.parametrize(
    ("family", "address", "asked"),
    [
        ("socket.AF_INET", "127.0.0.1", "127.0.0.1"),
        ("socket.AF_INET", "0.0.0.0", "127.0.0.1"),
        ("socket.AF_INET", "127.0.0.2", "0.0.0.0"),
        ("socket.AF_INET6", "::1", "::1"),
        ("socket.AF_INET6", "::ffff:127.0.0.1", "127.0.0.1"),
        ("socket.AF_INET6", "::", "127.0.0.1"),
        ("socket.AF_INET", "127.0.0.1", "localhost"),
    ],
)
@pytest.mark.parametrize("kind", ["socket.SOCK_DGRAM", "socket.SOCK_STREAM"])
def test_a_process_that_holds_a_port(family: str, address: str, asked: str, kind: str) -> None:
    process, port = start(HOLD_A_PORT.format(family=family, address=address, kind=kind))
    with process:
        assert f"pid {process.pid} (python" in port_holder(asked, int(port))


def test_many_holders_are_counted() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        fd = udp.fileno()
        processes = [subprocess.Popen(["sleep", "60"], pass_fds=[fd]) for _ in range(4)]
        try:
            found = port_holder(*udp.getsockname())
        finally:
            for process in processes:
                process.kill()
                process.wait()
    assert found.startswith("pid ")
    assert found.endswith(", 2 more")


def test_a_free_port_has_no_holder() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        address, port = udp.getsockname()
    assert port_holder(address, port) == ""


def test_another_address_is_another_port() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        port = udp.getsockname()[1]
        assert port_holder("127.0.0.1", port)
        assert port_holder("127.99.0.1", port) == port_holder("::1", port) == ""


def test_processes_that_hold_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    assert processes_holding(path) == []
    process, _ = start(f"f = open({str(path)!r}); print(flush=True); input()")
    with process, path.open():
        assert processes_holding(path) == sorted([os.getpid(), process.pid])
    assert processes_holding(path) == []
