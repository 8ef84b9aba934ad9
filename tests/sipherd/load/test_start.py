"""What is made sure of before a run: its directory, and that the herd can do it."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadrun import facts
from sipherd.load.order import Order
from sipherd.load.profile import Arrival, Entry, LoadProfile
from sipherd.load.rundir import RunLock, runner_of
from sipherd.load.start import RunDirectory, Start
from sipherd.load.store import RunWriter, StoreError
from sipherd.protocol.errors import HerdFileError
from sipherd.protocol.spec import HerdSpec, PhoneSpec

MUTE = HerdSpec(phones=tuple(PhoneSpec(name=name, media="none") for name in ("alice", "bob")))


def start(**fields: object) -> Start:
    profile = LoadProfile(
        callers=("alice",),
        callees=("bob",),
        arrival=Arrival(rate=1.0),
        duration=5.0,
        **fields,  # type: ignore[arg-type]
    )
    return Start(Order(profile, None))


def problem(starting: Start, herd: HerdSpec = MUTE) -> str:
    with pytest.raises(HerdFileError) as caught:
        starting.refused(herd, running=True)
    (line,) = caught.value.problems
    return line


# The directory.


def test_it_holds_the_lock_and_goes_again_without_a_run(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "runs" / "one") as directory:
        assert runner_of(directory.path)
    assert not (tmp_path / "runs").exists()


def test_what_was_there_before_stays(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with RunDirectory(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_it_stays_with_a_run_in_it(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "one") as directory:
        RunWriter(directory.path, facts()).close()
    assert runner_of(tmp_path / "one") is None
    with pytest.raises(StoreError, match="holds a run already"):
        RunDirectory(tmp_path / "one")


def test_what_the_herd_had_to_log_stays_too(tmp_path: Path) -> None:
    with RunDirectory(tmp_path / "one") as directory:
        (directory.path / "herd.log").write_text("why it did not start\n")
    assert (tmp_path / "one" / "herd.log").exists()


def test_a_run_that_goes_on_there(tmp_path: Path) -> None:
    with RunLock(tmp_path), pytest.raises(StoreError, match="still goes on"):
        RunDirectory(tmp_path)


# The herd.


def test_a_herd_that_can_do_it() -> None:
    assert start().refused(MUTE, running=True) == []


def test_media_that_nobody_has() -> None:
    starting = start(media="tone:440")
    assert "all phones that take part have `media: none`" in problem(starting)
    heard = HerdSpec(phones=(PhoneSpec(name="alice", max_calls=20), MUTE.phones[1]))
    assert starting.refused(heard, running=True) == []


def test_keys_that_nobody_can_send() -> None:
    starting = start(mix=(Entry(kind="dtmf", digits="1"),))
    assert "alice has `media: none` and sends keys in it" in problem(starting)
    info = HerdSpec(
        phones=tuple(PhoneSpec(name=name, media="none", dtmf="info") for name in ("alice", "bob"))
    )
    assert starting.refused(info, running=True) == []


def test_an_audio_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HerdFileError, match="no such file, expected an audio file"):
        start(media=str(tmp_path / "none.wav"))
