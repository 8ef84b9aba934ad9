"""The runtime directory and the files of a herd in it."""

from __future__ import annotations

import os
import re
import socket
import tempfile
from pathlib import Path

import pytest

from sipherd.protocol.errors import RuntimeDirectoryError
from sipherd.protocol.paths import HerdPaths, ensure_runtime_dir, list_herds, runtime_dir

ALL = {
    "SIPHERD_RUNTIME_DIR": "/a",
    "RUNTIME_DIRECTORY": "/b:/c",
    "XDG_RUNTIME_DIR": "/d",
}


def test_the_first_that_applies(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = dict(ALL)
    assert runtime_dir(Path("/x"), environ) == Path("/x")
    assert runtime_dir(None, environ) == Path("/a")
    del environ["SIPHERD_RUNTIME_DIR"]
    assert runtime_dir(None, environ) == Path("/b")
    del environ["RUNTIME_DIRECTORY"]
    assert runtime_dir(None, environ) == Path("/d/sipherd")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert runtime_dir(None, {}) == Path("/run/sipherd")
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    assert runtime_dir(None, {}) == Path(tempfile.gettempdir(), "sipherd-1234")


def test_a_relative_directory_is_made_absolute() -> None:
    assert runtime_dir(Path("here"), {}) == Path.cwd() / "here"


def test_the_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er"
    ensure_runtime_dir(path)
    assert path.stat().st_mode & 0o777 == 0o700
    ensure_runtime_dir(path)


def test_a_directory_that_can_not_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(RuntimeDirectoryError, match=r"not a directory.*--runtime-dir"):
        ensure_runtime_dir(file)
    with pytest.raises(RuntimeDirectoryError, match="Not a directory"):
        ensure_runtime_dir(file / "below")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(RuntimeDirectoryError, match="chmod 700"):
        ensure_runtime_dir(shared)
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(RuntimeDirectoryError, match="not by you"):
        ensure_runtime_dir(tmp_path)


def test_the_files_of_a_herd() -> None:
    paths = HerdPaths(Path("/r"), "lab.1")
    assert paths.control == Path("/r/lab.1.sock")
    assert paths.workers == Path("/r/lab.1.workers")
    assert paths.lock == Path("/r/lab.1.lock")


def test_a_path_that_no_socket_can_have(tmp_path: Path) -> None:
    """The check is exact: what it lets through can be bound."""
    name = "x" * (107 - len("/.workers") - len(os.fsencode(tmp_path)))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fsencode(HerdPaths(tmp_path, name).workers))
    with pytest.raises(RuntimeDirectoryError, match=re.escape("has 108 bytes, at most 107")):
        HerdPaths(tmp_path, name + "x")


def test_herds_by_their_sockets(tmp_path: Path) -> None:
    (tmp_path / "file.sock").touch()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fsencode(tmp_path / "lab.1.sock"))
    assert list_herds(tmp_path) == ["lab.1"]
    assert list_herds(tmp_path / "none") == []
