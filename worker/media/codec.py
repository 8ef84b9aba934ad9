"""G.711: PCMU and PCMA to and from 16-bit samples (little-endian, 8 kHz, one channel)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

with warnings.catch_warnings():
    # Gone in Python 3.13, where audioop-lts has the same name.
    warnings.filterwarnings("ignore", "'audioop' is deprecated", DeprecationWarning)
    import audioop

__all__ = ["CODECS", "FRAME_BYTES", "FRAME_SAMPLES", "FRAME_SECONDS", "RATE", "SILENCE", "Codec"]

RATE = 8000
"""Samples per second."""
FRAME_SECONDS = 0.02
FRAME_SAMPLES = 160
"""Samples in 20 ms."""
FRAME_BYTES = 2 * FRAME_SAMPLES
SILENCE = bytes(FRAME_BYTES)
"""20 ms of it."""


@dataclass(frozen=True, slots=True)
class Codec:
    """One way to write a sample in a byte."""

    name: str
    """As in ``a=rtpmap``."""
    encode: Callable[[bytes], bytes]
    """Samples to payload."""
    decode: Callable[[bytes], bytes]
    """Payload to samples."""


CODECS = {
    codec.name: codec
    for codec in (
        Codec("PCMU", lambda pcm: audioop.lin2ulaw(pcm, 2), lambda data: audioop.ulaw2lin(data, 2)),
        Codec("PCMA", lambda pcm: audioop.lin2alaw(pcm, 2), lambda data: audioop.alaw2lin(data, 2)),
    )
}
