"""Fixtures of the tests that talk to other SIP programs, on addresses of their own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from peers.baresip import Baresip
from peers.herd import HerdProcess
from peers.kamailio import Kamailio
from peers.sipp import Sipp

P = TypeVar("P", Sipp, Baresip, Kamailio, HerdProcess)


def starter(make: Callable[..., P], folder: Path, name: str) -> Iterator[Callable[..., P]]:
    """Yields what starts such processes, each in a folder of its own, and closes them all."""
    running: list[P] = []
    serial = itertools.count(1)

    def start(*arguments: Any, **options: Any) -> P:
        own = folder / f"{name}-{next(serial)}"
        own.mkdir()
        running.append(make(own, *arguments, **options))
        return running[-1]

    yield start
    for process in running:
        process.close()


class StartSipp(Protocol):
    def __call__(self, scenario: str, **options: Any) -> Sipp: ...


@pytest.fixture
def start_sipp(sipp: str, tmp_path: Path) -> Iterator[StartSipp]:
    """Start SIPp with a scenario (arguments as for `Sipp`); each is gone after the test."""
    yield from starter(partial(Sipp, sipp), tmp_path, "sipp")


class StartBaresip(Protocol):
    def __call__(self, **options: Any) -> Baresip: ...


@pytest.fixture
def start_baresip(baresip: str, tmp_path: Path) -> Iterator[StartBaresip]:
    """Start baresip (arguments as for `Baresip`); each is gone after the test."""
    yield from starter(partial(Baresip, baresip), tmp_path, "baresip")


@pytest.fixture
def bob(start_baresip: StartBaresip) -> Baresip:
    """baresip, up and waiting for calls."""
    return start_baresip()


class StartKamailio(Protocol):
    def __call__(self, **options: Any) -> Kamailio: ...


@pytest.fixture
def start_kamailio(kamailio: str, tmp_path: Path) -> Iterator[StartKamailio]:
    """Start Kamailio (arguments as for `Kamailio`); each is gone after the test."""
    yield from starter(partial(Kamailio, kamailio), tmp_path, "kamailio")


class StartHerd(Protocol):
    def __call__(self, phones: Sequence[dict[str, Any]], **options: Any) -> HerdProcess: ...


@pytest.fixture
def start_herd(runtime_dir: Path, tmp_path: Path) -> Iterator[StartHerd]:
    """Start a herd with these phones (arguments as for `HerdProcess`); stopped after the test."""
    yield from starter(HerdProcess, tmp_path, "herd")
