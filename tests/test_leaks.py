"""The guard of conftest.py: each kind of leak fails the test that has it, and no other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from leaks import LeakGuard

HERE = Path(__file__).parent

LEAKY_TESTS = '''
import os, socket, subprocess, sys, threading

kept = []


def test_process():
    kept.append(subprocess.Popen(["sleep", "60"]))


def test_daemon(runtime_dir):
    # Its parent is gone, so that only its environment tells whose it is.
    subprocess.run(["sh", "-c", "sleep 61 & echo $! > daemon.pid"], check=True)


def test_process_with_udp_port():
    code = """
import socket, time
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", 0))
print("bound", flush=True)
time.sleep(60)
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    child.stdout.readline()
    child.stdout.close()
    kept.append(child)


def test_thread():
    thread = threading.Thread(target=threading.Event().wait, args=(60,), name="left", daemon=True)
    thread.start()


def test_descriptor():
    kept.append(open("/dev/zero"))


def test_udp_port():
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    kept.append(udp)


def test_socket_file(runtime_dir):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(runtime_dir / "control"))


def test_removed_runtime_dir(runtime_dir):
    runtime_dir.rmdir()


def test_clean(runtime_dir, tmp_path):
    (runtime_dir / "file").touch()
    subprocess.run(["true"], check=True)
    slow = subprocess.Popen(["sleep", "0.1"])
    thread = threading.Thread(target=slow.wait)
    thread.start()  # is gone by itself before the deadline
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))


def test_zombie():
    kept.append(os.posix_spawn("/bin/true", ["true"], {}))
'''

EXPECTED = {
    "test_process": r"process \d+ \(sleep 60\)",
    "test_daemon": r"process \d+ \(sleep 61\)",
    "test_process_with_udp_port": r"process \d+ \(.*\), UDP port \d+",
    "test_thread": r"thread left",
    "test_descriptor": r"file descriptor \d+: /dev/zero",
    "test_udp_port": r"file descriptor \d+: UDP port \d+",
    "test_socket_file": r"socket file /tmp/sh-\w+/control",
}


@pytest.mark.slow
def test_every_kind_of_leak_is_found(tmp_path: Path) -> None:
    for name in ("conftest.py", "faultmatrix.py", "interop.py", "leaks.py"):
        shutil.copy(HERE / name, tmp_path)
    with (tmp_path / "conftest.py").open("a") as conftest:
        conftest.write("\nimport leaks\n\nleaks.DEADLINE = 0.4\n")
    (tmp_path / "test_leaky.py").write_text(LEAKY_TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\nmarkers = peers\n")
    arguments = ["-p", "no:randomly", "-p", "no:cacheprovider", "--tb=short", "-rA"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "SIPHERD_RUNTIME_DIR"},
        capture_output=True,
        text=True,
        check=False,
    )
    reports = dict(re.findall(r"at teardown of (\w+) _+\nleft behind:\n(.+)\n[_=-]{3}", run.stdout))
    assert reports.keys() == EXPECTED.keys(), run.stdout + run.stderr
    for test, line in EXPECTED.items():
        assert re.fullmatch(line, reports[test])
    assert not psutil.pid_exists(int((tmp_path / "daemon.pid").read_text()))


def test_the_guard_is_cheap(runtime_dir: Path) -> None:
    durations = []
    for _ in range(20):
        start = time.perf_counter()
        assert LeakGuard(runtime_dir).wait() == []
        durations.append(time.perf_counter() - start)
    assert min(durations) < 0.002
