"""Files that are played and recorded."""

import math
import os
import subprocess
import sys
import wave
from array import array

import numpy
import pytest
import soundfile

from mediasound import frequency
from sipherd.worker.media import wav
from sipherd.worker.media.wav import WavError, WavWriter


def sine(rate, seconds=1.0, hertz=440.0):
    return numpy.sin(2 * math.pi * hertz * numpy.arange(int(rate * seconds)) / rate) * 0.5


def written(path, rate=8000, channels=1, **options):
    """A file with a tone in all its channels."""
    tone = numpy.tile(sine(rate)[:, None], (1, channels))
    soundfile.write(path, tone, rate, **options)
    return str(path)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_rate_and_channel_count(tmp_path, rate, channels):
    pcm = wav.read(written(tmp_path / "a.wav", rate, channels))
    assert len(pcm) / 2 == pytest.approx(8000, abs=2)
    assert frequency(pcm[800:-800]) == pytest.approx(440, abs=0.5)
    assert max(array("h", pcm)) == pytest.approx(16384, rel=0.05)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.wav", {"subtype": "PCM_U8"}),
        ("a.wav", {"subtype": "PCM_24"}),
        ("a.wav", {"subtype": "FLOAT"}),
        ("a.wav", {"subtype": "ULAW"}),
        ("a.flac", {}),
        ("a.ogg", {}),
        ("a.aiff", {}),
    ],
)
def test_what_else_soundfile_reads(tmp_path, name, options):
    assert frequency(wav.read(written(tmp_path / name, **options))[800:-800]) == pytest.approx(
        440, abs=0.5
    )


def test_a_file_longer_than_a_block(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, sine(44100, 5.0), 44100)
    pcm = wav.read(str(path))
    assert len(pcm) / 2 == pytest.approx(40_000, abs=2)
    wave_ = array("h", pcm)
    factor = 2 * math.cos(2 * math.pi * 440 / 8000)
    # No step where two blocks meet.
    assert max(abs(wave_[n + 1] + wave_[n - 1] - factor * wave_[n]) for n in range(50, 39_900)) < 60


def test_a_plain_file_needs_no_conversion_and_no_numpy(tmp_path):
    samples = array("h", range(-500, 500)).tobytes()
    path = tmp_path / "plain.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(samples)
    code = (
        "import sys; from sipherd.worker.media import wav;"
        f"sys.stdout.buffer.write(wav.read({str(path)!r}));"
        "assert not {'numpy', 'soundfile', 'soxr'} & set(sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert ran.stdout == samples


def refused(path):
    with pytest.raises(WavError) as caught:
        wav.read(str(path))
    assert str(path).split("\0")[0] in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def test_a_file_that_is_not_there(tmp_path):
    assert refused(tmp_path / "none.wav") == "not_found"
    assert refused("/dev/null/x") == "unreadable"
    assert refused("a\0b") == "unreadable"


def test_what_is_no_audio(tmp_path):
    path = tmp_path / "text.wav"
    path.write_text("RIFF, they said")
    assert refused(path) == "not_audio"
    path.write_bytes(b"")
    assert refused(path) == "not_audio"
    assert refused(tmp_path) == "not_audio"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert refused(fifo) == "not_audio"


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = written(tmp_path / "a.wav")

    def forbidden(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(wave, "open", forbidden)
    assert refused(path) == "unreadable"


@pytest.mark.parametrize("rate", [8000, 44100])
def test_zero_length(tmp_path, rate):
    path = tmp_path / "a.wav"
    soundfile.write(path, numpy.zeros((0, 1)), rate)
    assert refused(path) == "empty"


@pytest.mark.parametrize("rate", [8000, 16000])
def test_too_long(tmp_path, rate, monkeypatch):
    monkeypatch.setattr(wav, "MAX_SECONDS", 0.5)
    assert refused(written(tmp_path / "a.wav", rate)) == "too_long"


def test_a_file_cut_off_in_the_middle(tmp_path):
    path = tmp_path / "a.wav"
    data = (tmp_path / written(path)).read_bytes()
    path.write_bytes(data[: len(data) // 2 + 1])
    assert 3900 < len(wav.read(str(path))) / 2 <= 4000


# Recordings


def read_back(path):
    with wave.open(str(path), "rb") as file:
        assert (file.getsampwidth(), file.getframerate()) == (2, 8000)
        return file.getnchannels(), file.readframes(file.getnframes())


@pytest.mark.parametrize("channels", [1, 2])
def test_a_recording(tmp_path, channels):
    path = tmp_path / "r.wav"
    writer = WavWriter(str(path), channels)
    pieces = [os.urandom(4000 * channels) for _ in range(10)]
    for piece in pieces:
        writer.write(piece)
    writer.close()
    writer.close()
    assert read_back(path) == (channels, b"".join(pieces))
    assert soundfile.info(path).channels == channels


def test_a_recording_is_sound_while_it_grows(tmp_path):
    """As if the process were killed: the file is read without having been closed."""
    path = tmp_path / "r.wav"
    writer = WavWriter(str(path), 1)
    assert read_back(path) == (1, b"")
    piece = os.urandom(8000)
    for count in range(1, 8):
        writer.write(piece)
        _, pcm = read_back(path)
        assert count * 8000 - 16000 < len(pcm) <= count * 8000
        assert pcm == (piece * count)[: len(pcm)]
    writer.close()


def test_an_older_file_is_overwritten(tmp_path):
    path = tmp_path / "r.wav"
    path.write_bytes(b"x" * 100_000)
    WavWriter(str(path), 1).close()
    assert read_back(path) == (1, b"")


@pytest.mark.parametrize("name", ["no/such/folder.wav", ".", "fifo", "a\0b"])
def test_where_nothing_can_be_recorded(tmp_path, name):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(WavError) as caught:
        WavWriter(f"{tmp_path}/{name}", 1)
    assert caught.value.reason == "unwritable"


def test_a_full_disk():
    writer = WavWriter.__new__(WavWriter)
    writer.path, writer._channels, writer._size, writer._updated = "/dev/full", 1, 0, 0
    writer._fd = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(WavError, match="No space left") as caught:
        writer.write(b"ab")
    assert caught.value.reason == "unwritable"
    with pytest.raises(WavError):
        writer.close()
    writer.close()
