"""Fixtures of the tests that talk to other SIP programs, on addresses of their own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from peers.baresip import Baresip
from peers.herd import HerdProcess
from peers.sipp import Sipp


class StartSipp(Protocol):
    def __call__(self, scenario: str, **options: Any) -> Sipp: ...


@pytest.fixture
def start_sipp(sipp: str, tmp_path: Path) -> Iterator[StartSipp]:
    """Start SIPp with a scenario (arguments as for `Sipp`); each is gone after the test."""
    running: list[Sipp] = []
    serial = itertools.count(1)

    def start(scenario: str, **options: Any) -> Sipp:
        folder = tmp_path / f"sipp-{next(serial)}"
        folder.mkdir()
        running.append(Sipp(sipp, folder, scenario, **options))
        return running[-1]

    yield start
    for process in running:
        process.close()


@pytest.fixture
def bob(baresip: str, tmp_path: Path) -> Iterator[Baresip]:
    """baresip, up and waiting for calls."""
    folder = tmp_path / "baresip"
    folder.mkdir()
    process = Baresip(baresip, folder)
    yield process
    process.close()


class StartHerd(Protocol):
    def __call__(self, phones: Sequence[dict[str, Any]], **options: Any) -> HerdProcess: ...


@pytest.fixture
def start_herd(runtime_dir: Path, tmp_path: Path) -> Iterator[StartHerd]:
    """Start a herd with these phones (arguments as for `HerdProcess`); stopped after the test."""
    running: list[HerdProcess] = []
    serial = itertools.count(1)

    def start(phones: Sequence[dict[str, Any]], **options: Any) -> HerdProcess:
        folder = tmp_path / f"herd-{next(serial)}"
        folder.mkdir()
        running.append(HerdProcess(folder, phones, **options))
        return running[-1]

    yield start
    for process in running:
        process.close()
