"""One lock per name, whoever comes and goes."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sipherd.protocol.errors import RuntimeDirectoryError
from sipherd.protocol.paths import HerdPaths
from sipherd.supervisor.lock import HerdIsRunning, HerdLock, sweep_private

TAKE = """
import os, sys
from pathlib import Path
from sipherd.protocol.paths import HerdPaths
from sipherd.supervisor.lock import HerdLock
lock = HerdLock("lab", HerdPaths(Path(sys.argv[1]), "lab"))
if len(sys.argv) > 2:  # leave a heir, and die
    import subprocess
    heir = subprocess.Popen(["sleep", sys.argv[2]], pass_fds=[lock.fd], stdout=subprocess.DEVNULL)
    print(heir.pid, flush=True)
    os._exit(1)
print(os.getpid(), flush=True)
input()
"""


@pytest.fixture
def paths(runtime_dir: Path) -> HerdPaths:
    return HerdPaths(runtime_dir, "lab")


def taker(directory: Path, *more: str) -> tuple[subprocess.Popen[str], int]:
    """A process that has the lock, or whose heir has it; and the pid of who has it."""
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE, str(directory), *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_free_again_after_close(paths: HerdPaths) -> None:
    for unlink in (True, False, True):
        HerdLock("lab", paths).close(unlink=unlink)
        assert paths.lock.exists() is not unlink


def test_is_for_its_owner_alone(paths: HerdPaths) -> None:
    lock = HerdLock("lab", paths)
    assert paths.lock.stat().st_mode & 0o777 == 0o600
    lock.close(unlink=True)


def test_a_running_herd_is_named(paths: HerdPaths, runtime_dir: Path) -> None:
    process, pid = taker(runtime_dir)
    with process, pytest.raises(HerdIsRunning) as caught:
        HerdLock("lab", paths, patience=0.1)
    assert str(caught.value) == (
        f'herd "lab" is already running (pid {pid}); stop it with: '
        "sipherd stop --herd lab, or give this one another name"
    )


def test_processes_that_survived_their_supervisor_are_named(
    paths: HerdPaths, runtime_dir: Path
) -> None:
    process, heir = taker(runtime_dir, "60")
    with process:
        process.wait()
        try:
            with pytest.raises(HerdIsRunning, match=rf"earlier herd \"lab\" \(pid {heir}\)"):
                HerdLock("lab", paths, patience=0.1)
        finally:
            os.kill(heir, 9)


def test_waits_for_a_dying_herd(paths: HerdPaths, runtime_dir: Path) -> None:
    process, _ = taker(runtime_dir, "0.3")
    with process:
        began = time.monotonic()
        HerdLock("lab", paths, patience=30).close(unlink=True)
        assert time.monotonic() - began < 15  # it does not wait for its patience to end


def test_two_never_hold_it_though_the_file_is_unlinked(paths: HerdPaths) -> None:
    """The race of a waiter that has opened the file of a holder that then unlinks it.

    holder    has the lock ......... unlinks, closes
    waiter        opens ......................  flock ok: an orphaned file!  opens again
    newcomer                                       opens a new file, has its lock
    """
    inside: list[int] = []
    most = 0
    guard = threading.Lock()

    def take() -> None:
        nonlocal most
        for _ in range(50):
            lock = HerdLock("lab", paths, patience=30)
            with guard:
                inside.append(lock.fd)
                most = max(most, len(inside))
            with guard:
                inside.remove(lock.fd)
            lock.close(unlink=True)

    # Each thread's descriptor is an open file of its own: to flock they are strangers.
    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_lock_file_that_cannot_be_opened(paths: HerdPaths) -> None:
    paths.lock.mkdir()
    with pytest.raises(RuntimeDirectoryError, match="Is a directory"):
        HerdLock("lab", paths)


def private(directory: Path, name: str) -> HerdPaths:
    paths = HerdPaths(directory, name)
    paths.lock.touch()
    for path in (paths.control, paths.workers):
        with socket.socket(socket.AF_UNIX) as served:
            served.bind(str(path))
    return paths


def test_sweep_takes_what_nobody_holds_and_only_private_herds(runtime_dir: Path) -> None:
    stale = private(runtime_dir, "private-1-aa")
    alive = private(runtime_dir, "private-2-bb")
    other = HerdPaths(runtime_dir, "lab")
    other.lock.touch()
    with alive.lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        sweep_private(runtime_dir)
        assert sorted(runtime_dir.iterdir()) == sorted(
            [alive.control, alive.workers, alive.lock, other.lock]
        )
    assert not stale.lock.exists()
    sweep_private(runtime_dir)
    assert list(runtime_dir.iterdir()) == [other.lock]
