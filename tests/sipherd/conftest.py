"""Fixtures of the tests of the public face: the command line in this process, and a herd for it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from commandline import HerdIsUp, Ran, Run
from sipherd import Herd, HerdNotRunning
from sipherd.cli import main


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """`sipherd ARGUMENTS` in this process."""

    def run(*arguments: str) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exited:
            main(arguments)
        out, err = capsys.readouterr()
        assert isinstance(exited.value.code, int)
        assert "Traceback" not in err
        return Ran(exited.value.code, out, err)

    return run


@pytest.fixture
def killed(runtime_dir: Path) -> Iterator[None]:
    """For a test that kills a supervisor: the next one would sweep up what it leaves."""
    yield
    for left in runtime_dir.iterdir():
        left.unlink()


@pytest.fixture
def herd() -> Iterator[Herd]:
    """Two phones that leave their calls to clients."""
    phones = [
        {"name": "alice", "number": "1001", "media": "none"},
        {"name": "bob", "number": "1002", "media": "none"},
    ]
    with Herd(phones) as herd:
        yield herd


@pytest.fixture
def herd_is_up() -> HerdIsUp:
    """Wait until a herd has so many phones ready."""

    def wait(name: str, phones: int) -> None:
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            with contextlib.suppress(HerdNotRunning), Herd.connect(name) as client:
                if client.info().states == {"ready": phones}:
                    return
            time.sleep(0.05)
        raise TimeoutError(f"herd {name} did not come up")

    return wait
