"""Find what a test leaves behind: processes, threads, file descriptors, UDP ports, socket files."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
import time
from pathlib import Path

import psutil

#: Seconds that whatever is on its way out gets to be gone.
DEADLINE = 10.0

_ENVIRON = "SIPHERD_RUNTIME_DIR"


class LeakGuard:
    """Remembers what is there before a test, and names what is more after it.

    A process belongs to the test if it descends from this one, or if its environment has the
    test's runtime directory: that finds a daemon, too. Looking at all processes is slow, so it is
    done only if the test had a child or touched its runtime directory; otherwise the guard costs
    well under a millisecond.
    """

    def __init__(self, runtime_dir: Path) -> None:
        self._runtime_dir = runtime_dir
        self._touched = self._last_touched()
        self._reaped = _reaped()
        self._threads = set(threading.enumerate())
        self._descriptors = _descriptors()

    def wait(self) -> list[str]:
        """What is left after at most `DEADLINE` seconds, a line each. Leaked processes are killed,
        so that one test's leak is not blamed on the next."""
        deadline = time.monotonic() + DEADLINE
        # Children can be gone and reaped, and still have left a daemon.
        thorough = (
            _has_children() or self._reaped != _reaped() or self._touched != self._last_touched()
        )
        while True:
            processes = self._processes() if thorough else []
            others = self._others()
            if not (processes or others) or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        found = [_describe(process) for process in processes] + others
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return found

    def _last_touched(self) -> int | None:
        try:
            return self._runtime_dir.stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def _others(self) -> list[str]:
        """What is left besides processes, a line each."""
        found = [
            f"thread {thread.name}"
            for thread in threading.enumerate()
            if thread not in self._threads and thread.is_alive()
        ]
        found += [
            f"file descriptor {number}: {_udp_ports().get(target, target)}"
            for number, target in _descriptors().items()
            if self._descriptors.get(number) != target
        ]
        found += [
            f"socket file {path}" for path in self._runtime_dir.rglob("*") if path.is_socket()
        ]
        return found

    def _processes(self) -> list[psutil.Process]:
        """Processes of the test that are alive; zombies count as gone."""
        me = psutil.Process()
        ours = {process.pid: process for process in me.children(recursive=True)}
        wanted = f"{_ENVIRON}={self._runtime_dir}".encode()
        for process in psutil.process_iter():
            # ESRCH, or not ours to read.
            with contextlib.suppress(OSError):
                if wanted in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                    ours[process.pid] = process
        # This process has the variable only since it runs, /proc shows what it was started with:
        # a run inside another run's test would find itself.
        ours.pop(me.pid, None)
        return [process for process in ours.values() if _is_alive(process)]


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _describe(process: psutil.Process) -> str:
    """A process in one line, with its command and the UDP ports that it holds."""
    description = f"process {process.pid}"
    # It may go while we look: it was late all the same.
    with contextlib.suppress(psutil.Error, OSError):
        command = " ".join(" ".join(process.cmdline()).split()) or process.name()
        description += f" ({command[:120]})"
        udp = _udp_ports()
        held = set(_descriptors(process.pid).values())
        description += "".join(f", {udp[target]}" for target in sorted(held & udp.keys()))
    return description


def _descriptors(pid: int | str = "self") -> dict[int, str]:
    """The open file descriptors of a process and what they lead to."""
    folder = f"/proc/{pid}/fd"
    found: dict[int, str] = {}
    for name in os.listdir(folder):  # noqa: PTH208 - Path objects would double the guard's price
        # The one that listed the folder is closed by now.
        with contextlib.suppress(FileNotFoundError):
            found[int(name)] = os.readlink(f"{folder}/{name}")  # noqa: PTH115 - likewise
    return found


def _udp_ports() -> dict[str, str]:
    """Bound UDP sockets, as a descriptor's target shows them: `socket:[INODE]` to `UDP port N`."""
    found: dict[str, str] = {}
    for table in (Path("/proc/net/udp"), Path("/proc/net/udp6")):
        with contextlib.suppress(FileNotFoundError):  # no IPv6 here
            for line in table.read_text().splitlines()[1:]:
                fields = line.split()
                port = int(fields[1].rpartition(":")[2], 16)
                found[f"socket:[{fields[9]}]"] = f"UDP port {port}"
    return found


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _reaped() -> tuple[int, int]:
    """Changes whenever a child is reaped: each had page faults."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_minflt, usage.ru_majflt
