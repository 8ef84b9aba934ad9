"""Files are read beside the loop, and the loop is told."""

import select
import threading
import wave

import pytest

from sipherd.worker.media import wav
from sipherd.worker.media.loader import Loader
from sipherd.worker.media.wav import WavError


@pytest.fixture
def loader():
    loader = Loader()
    yield loader
    loader.close()


def wait(loader, results, count):
    poll = select.poll()
    poll.register(loader.fd, select.POLLIN)
    while len(results) < count:
        assert poll.poll(10_000)
        loader.collect()


def file(path, frames):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(frames)
    return str(path)


def test_a_file_is_read(loader, tmp_path):
    results = []
    loader.start(file(tmp_path / "a.wav", b"abcd"), results.append)
    wait(loader, results, 1)
    assert results == [b"abcd"]
    for thread in threading.enumerate():
        if thread.name == "read audio":
            thread.join(5)
    assert not any(thread.name == "read audio" for thread in threading.enumerate())


def test_why_it_cannot_be_read(loader, tmp_path):
    results = []
    loader.start(str(tmp_path / "none.wav"), results.append)
    wait(loader, results, 1)
    assert isinstance(results[0], WavError)
    assert results[0].reason == "not_found"


def test_a_fault_of_a_decoder_is_told_too(loader, monkeypatch):
    def broken(path):
        raise MemoryError("no room")

    monkeypatch.setattr(wav, "read", broken)
    results = []
    loader.start("/a.wav", results.append)
    wait(loader, results, 1)
    assert "MemoryError: no room" in str(results[0])


def test_many_files_and_few_threads(loader, tmp_path, monkeypatch):
    gate = threading.Event()
    running = []

    def slow(path):
        running.append(path)
        assert gate.wait(10)
        return b"ok"

    monkeypatch.setattr(wav, "read", slow)
    results = []
    for n in range(10):
        loader.start(f"/{n}", results.append)
    assert sum(thread.name == "read audio" for thread in threading.enumerate()) == 2
    gate.set()
    wait(loader, results, 10)
    assert len(running) == 10


def test_closed_while_a_file_is_read(tmp_path, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(wav, "read", lambda path: gate.wait(10) and b"")
    loader = Loader()
    loader.start("/a.wav", lambda result: pytest.fail("nobody is told"))
    loader.close()
    gate.set()
    for thread in threading.enumerate():
        if thread.name == "read audio":
            thread.join(5)
