"""Fixtures of the supervisor's tests: supervisors as processes, and their clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sipherd.protocol.spec import HerdSpec
from supervisor_process import MakeRaw, Raw, Start, Supervisor


@pytest.fixture
def start(runtime_dir: Path, tmp_path: Path) -> Iterator[Start]:
    started: list[Supervisor] = []

    def start(spec: HerdSpec, **options: Any) -> Supervisor:
        options.setdefault("directory", runtime_dir)
        started.append(Supervisor(spec, folder=tmp_path, **options))
        return started[-1]

    yield start
    for supervisor in reversed(started):
        supervisor.close()


@pytest.fixture
def raw(runtime_dir: Path) -> Iterator[MakeRaw]:
    made: list[Raw] = []

    def make(path: Path | None = None) -> Raw:
        made.append(Raw(path or runtime_dir / "lab.sock"))
        return made[-1]

    yield make
    for client in made:
        client.close()
