"""What is played at one end of a call is heard at the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from peers.baresip import Baresip
from peers.herd import HerdProcess
from peers.sipp import wait_for
from sipherd import Herd

StartHerd = Callable[..., HerdProcess]

RATE = 8000


def seconds(path: Path) -> float:
    """What is in a file that is still written: 16 bits a sample behind a header."""
    return (path.stat().st_size - 44) / (2 * RATE) if path.exists() else 0.0


def frequency(path: Path) -> float:
    """The strongest one in the last second of a recording, in Hz; its bins are 1 Hz wide."""
    samples, rate = soundfile.read(path, dtype="float64")
    assert rate == RATE
    assert len(samples) >= 2 * RATE
    last = samples[-RATE - RATE // 2 : -RATE // 2]
    assert np.sqrt(np.mean(last**2)) > 0.05, "silence"
    return float(np.argmax(np.abs(np.fft.rfft(last * np.hanning(RATE)))))


@pytest.fixture
def played(tmp_path: Path) -> Path:
    """700 Hz, at another rate than a call's and in two channels."""
    times = np.arange(10 * 44100) / 44100
    wave = 0.5 * np.sin(2 * np.pi * 700 * times)
    path = tmp_path / "played.wav"
    soundfile.write(path, np.stack([wave, wave], axis=1), 44100)
    return path


@pytest.mark.interop("WAV played and recorded", "baresip")
@pytest.mark.parametrize(
    "codec",
    [
        pytest.param("PCMU", marks=pytest.mark.interop("PCMU", "baresip")),
        pytest.param("PCMA", marks=pytest.mark.interop("PCMA", "baresip")),
    ],
)
def test_baresip_and_a_phone_hear_each_other(
    start_herd: StartHerd, bob: Baresip, tmp_path: Path, played: Path, codec: str
) -> None:
    """baresip plays 400 Hz."""
    herd = start_herd([{"name": "alice", "codecs": [codec]}])
    recorded = tmp_path / "recorded.wav"
    with Herd.connect(herd.name) as client:
        call = client["alice"].call(bob.uri)
        assert call.wait_answered(timeout=10).codec == codec
        call.record(recorded)
        call.play(played)
        wait_for(lambda: seconds(recorded) > 3, "audio", timeout=30)
        call.hang_up(timeout=10)
        bob.wait_event("CALL_CLOSED")
    media = herd.wait_event(kind="ended", phone="alice")["media"]
    assert media["received"] > 100
    assert media["lost"] == 0
    (heard,) = bob.heard()
    assert frequency(recorded) == pytest.approx(400, abs=1)
    assert frequency(heard) == pytest.approx(700, abs=1)


@pytest.mark.interop("WAV played and recorded", "phone to phone")
@pytest.mark.parametrize(
    "codec",
    [
        pytest.param("PCMU", marks=pytest.mark.interop("PCMU", "phone to phone")),
        pytest.param("PCMA", marks=pytest.mark.interop("PCMA", "phone to phone")),
    ],
)
def test_phones_hear_each_other(
    start_herd: StartHerd, tmp_path: Path, played: Path, codec: str
) -> None:
    """The caller's wish decides: the callee takes both, and the other one first."""
    other = "PCMA" if codec == "PCMU" else "PCMU"
    herd = start_herd(
        [{"name": "alice", "codecs": [codec]}, {"name": "bob", "codecs": [other, codec]}]
    )
    at_alice, at_bob = tmp_path / "alice.wav", tmp_path / "bob.wav"
    with Herd.connect(herd.name) as client:
        call = client["alice"].call("bob")
        incoming = client["bob"].incoming(timeout=10)
        incoming.answer()
        assert call.wait_answered(timeout=10).codec == codec
        call.record(at_alice)
        incoming.record(at_bob)
        call.play(played)
        incoming.play("tone:400")
        wait_for(lambda: seconds(at_alice) > 3 and seconds(at_bob) > 3, "audio", timeout=30)
        call.hang_up(timeout=10)
    herd.wait_events(2, kind="ended")
    assert frequency(at_alice) == pytest.approx(400, abs=1)
    assert frequency(at_bob) == pytest.approx(700, abs=1)
