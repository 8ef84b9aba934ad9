"""Fixtures of all tests: a runtime directory each, nothing left behind, SIP programs to talk to."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest

import faultmatrix
import interop
from leaks import LeakGuard

# A box under load is no bug: what takes too long is for pytest-timeout to find.
# In CI the same examples every time, elsewhere new ones: a find is for whoever can look at it.
hypothesis.settings.register_profile("sipherd", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("sipherd")

# A shell starts what runs in its background with SIGINT ignored, and children inherit that: tests
# that send it to a command would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: Programs of Debian packages that tests with the marker `peers` talk to; each is a fixture.
PEERS = {"sipp": "sip-tester", "baresip": "baresip-core", "kamailio": "kamailio"}


def pytest_addoption(parser: pytest.Parser) -> None:
    interop.pytest_addoption(parser)
    faultmatrix.pytest_addoption(parser)


def pytest_configure(config: pytest.Config) -> None:
    interop.pytest_configure(config)
    faultmatrix.pytest_configure(config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not PEERS.keys().isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("peers")


@pytest.fixture
def runtime_dir() -> Iterator[Path]:
    """This test's own SIPHERD_RUNTIME_DIR. Short, because a socket's path has at most 107 bytes."""
    path = Path(tempfile.mkdtemp(dir="/tmp", prefix="sh-"))
    # Not by monkeypatch: that would be undone only after the guard, with all else a test patches.
    before = os.environ.get("SIPHERD_RUNTIME_DIR")
    os.environ["SIPHERD_RUNTIME_DIR"] = str(path)
    yield path
    if before is None:
        os.environ.pop("SIPHERD_RUNTIME_DIR", None)
    else:
        os.environ["SIPHERD_RUNTIME_DIR"] = before
    shutil.rmtree(path, ignore_errors=True)  # the test may have removed it


@pytest.fixture(autouse=True)
def nothing_left_behind(runtime_dir: Path) -> Iterator[None]:
    """Fails a test that leaves a process, thread, descriptor, UDP port or socket file behind."""
    guard = LeakGuard(runtime_dir)
    yield
    if left := guard.wait():
        pytest.fail("left behind:\n" + "\n".join(left), pytrace=False)


@pytest.fixture(scope="session")
def sipp() -> str:
    """Path of SIPp."""
    return _peer("sipp")


@pytest.fixture(scope="session")
def baresip() -> str:
    """Path of baresip."""
    return _peer("baresip")


@pytest.fixture(scope="session")
def kamailio() -> str:
    """Path of Kamailio."""
    return _peer("kamailio")


@pytest.fixture(scope="session")
def ipv6() -> None:
    """This machine has IPv6, at least on its loopback device."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind(("::1", 0))
        return
    _missing("no IPv6 here: the address ::1 can't be bound")


def _peer(program: str) -> str:
    # Servers are in the sbin beside a bin, and PATH need not lead there.
    folders = [Path(folder) for folder in os.environ.get("PATH", os.defpath).split(os.pathsep)]
    folders += [folder.with_name("sbin") for folder in folders if folder.name == "bin"]
    path = shutil.which(program, path=os.pathsep.join(map(str, folders)))
    if path is not None:
        return path
    _missing(f"{program} is missing: apt-get install {PEERS[program]}")


def _missing(reason: str) -> NoReturn:
    """Nothing is left out in CI; elsewhere the test is skipped, and says why."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
