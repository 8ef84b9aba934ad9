"""Where audio comes from."""

from array import array

import pytest

from mediasound import frequency
from sipherd.worker.media.codec import FRAME_BYTES, SILENCE
from sipherd.worker.media.sources import Echo, Samples, Silence, Tone


def pcm(source, frames):
    return b"".join(source.frame() for _ in range(frames))


def test_silence():
    assert pcm(Silence(), 3) == 3 * SILENCE


@pytest.mark.parametrize("hertz", [50, 440, 1004, 1234.5, 3333.3, 3900])
def test_a_tone_is_pure_and_has_no_step(hertz):
    samples = pcm(Tone(hertz), 100)
    assert len(samples) == 100 * FRAME_BYTES
    assert frequency(samples) == pytest.approx(hertz, abs=0.3)
    # A step in the phase would be a sample off the recurrence of a sine.
    wave = array("h", samples)
    factor = (wave[2] + wave[0]) / wave[1]
    worst = max(abs(wave[n + 1] + wave[n - 1] - factor * wave[n]) for n in range(1, len(wave) - 1))
    assert worst < 40


def test_a_tone_that_repeats_within_a_frame():
    assert pcm(Tone(1000), 50)[:16] == pcm(Tone(1000), 50)[-16:]


def test_the_level_of_a_tone():
    peak = max(array("h", pcm(Tone(440, -20), 10)))
    assert peak == pytest.approx(3277, abs=5)


@pytest.mark.parametrize("hertz", [0, -1, 4000, 99999, 0.01])
def test_no_tone(hertz):
    with pytest.raises(ValueError, match="Hz: expected above 0 and below 4000 Hz"):
        Tone(hertz)


def test_samples_end_with_silence_up_to_the_frame():
    source = Samples(b"ab" * 200)
    assert source.frame() == b"ab" * 160
    assert source.frame() == b"ab" * 40 + bytes(240)
    assert source.frame() is None
    assert source.frame() is None


@pytest.mark.parametrize("count", [1, 100, 160, 161, 400])
def test_samples_in_a_loop_have_no_seam(count):
    once = bytes(byte for n in range(count) for byte in (n % 256, n // 256))
    frames = 10
    expected = (once * (frames * 160 // count + 1))[: frames * FRAME_BYTES]
    assert pcm(Samples(once, loop=True), frames) == expected


def test_echo():
    echo = Echo()
    assert echo.frame() == SILENCE
    echo.hear(b"a" * 200)
    assert echo.frame() == SILENCE  # not a whole frame yet
    echo.hear(b"a" * 120)
    assert echo.frame() == b"a" * 320
    assert echo.frame() == SILENCE


def test_an_echo_that_nobody_takes_does_not_grow():
    echo = Echo()
    for n in range(100):
        echo.hear(bytes([n]) * 320)
    assert echo.frame() == bytes([90]) * 320
