"""Start a supervisor of one's own: exec'd, never forked from the caller's code."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import IO, Any

import msgspec

from .protocol.errors import HerdNotStarted
from .protocol.spec import HerdSpec

__all__ = ["start_supervisor"]

_START_TIMEOUT = 20.0


def start_supervisor(
    spec: HerdSpec, directory: Path, log: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """A supervisor that serves the herd and ends with this process, whatever ends it.

    What it logs goes to `log`, or else to this process's stderr.

    Raises:
        HerdNotStarted: it did not come up within 20 s; the message says why.
    """
    owner = os.pidfd_open(os.getpid())
    ready, ready_write = os.pipe()
    described = _in_memory(msgspec.json.encode(spec))
    try:
        try:
            process = subprocess.Popen(
                [
                    # -P: what lies about in the current directory is none of its modules.
                    *(sys.executable, "-P", "-m", "sipherd.supervisor"),
                    *("--spec-fd", str(described)),
                    *("--runtime-dir", str(directory)),
                    *("--owner-fd", str(owner)),
                    *("--ready-fd", str(ready_write)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=2 if log is None else log,  # this process's stdout is its own
                stderr=log,
                pass_fds=(owner, ready_write, described),
                env=os.environ | _where_we_are(),
                start_new_session=True,  # Ctrl-C in the terminal is for the script alone
            )
        finally:
            os.close(owner)
            os.close(ready_write)
            os.close(described)
        try:
            _await_ready(ready, "stderr" if log is None else log.name)
        except BaseException:
            process.kill()
            process.wait()
            raise
    finally:
        os.close(ready)
    return process


def _in_memory(data: bytes) -> int:
    """A file that has these bytes and no name, at its beginning."""
    fd = os.memfd_create("herd", os.MFD_CLOEXEC)
    try:
        with os.fdopen(fd, "wb", closefd=False) as file:
            file.write(data)
            file.seek(0)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _await_ready(ready: int, log: str) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    poll = select.poll()
    poll.register(ready, select.POLLIN)
    line = b""
    while not line.endswith(b"\n"):
        if not poll.poll(max(deadline - time.monotonic(), 0.0) * 1000):
            raise HerdNotStarted(f"the supervisor was not ready within {_START_TIMEOUT:g} s")
        chunk = os.read(ready, 4096)
        if not chunk:
            raise HerdNotStarted(f"the supervisor died while it started; {log} may say why")
        line += chunk
    report: dict[str, Any] = json.loads(line)
    if "error" in report:
        raise HerdNotStarted(report["error"], report["exit"])


def _where_we_are() -> dict[str, str]:
    """Environment in which a new interpreter finds the package this process has."""
    parent = str(Path(__file__).parents[1])
    if parent in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, [parent, os.environ.get("PYTHONPATH")]))}
