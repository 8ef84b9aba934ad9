"""G.711 with all 16 bits of its samples."""

from array import array

import pytest

from sipherd.worker.media.codec import CODECS, SILENCE


@pytest.mark.parametrize("name", ["PCMU", "PCMA"])
def test_every_code_survives(name):
    """What 8-bit samples on the way would not do: decode and encode again is the same code."""
    codec = CODECS[name]
    codes = bytes(range(256))
    again = codec.encode(codec.decode(codes))
    # µ-law alone has two codes for zero.
    assert [c for c in codes if again[c] != c] == ([0x7F] if name == "PCMU" else [])


def test_silence():
    assert CODECS["PCMU"].encode(SILENCE) == b"\xff" * 160
    assert CODECS["PCMA"].encode(SILENCE) == b"\xd5" * 160


@pytest.mark.parametrize("name", ["PCMU", "PCMA"])
def test_noise_of_quantisation_is_small(name):
    codec = CODECS[name]
    samples = array("h", range(-30000, 30000, 500))
    decoded = array("h", codec.decode(codec.encode(samples.tobytes())))
    assert max(abs(a - b) / max(abs(a), 500) for a, b in zip(samples, decoded, strict=True)) < 0.04
