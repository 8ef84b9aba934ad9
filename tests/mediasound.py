"""What is in recorded audio."""

from __future__ import annotations

import cmath
import itertools
import math
from array import array

__all__ = ["frequency", "longest_gap", "sounds"]


def frequency(pcm: bytes, rate: int = 8000) -> float:
    """The strongest frequency in 16-bit samples, in Hz, to about 0.1 Hz."""
    samples = array("h", pcm)
    count = len(samples)
    shaped = [s * (0.5 - 0.5 * math.cos(2 * math.pi * n / count)) for n, s in enumerate(samples)]

    def power(hertz: float) -> float:
        # Goertzel: one bin of the spectrum, at any frequency.
        factor = 2 * math.cos(2 * math.pi * hertz / rate)
        last = before = 0.0
        for sample in shaped:
            last, before = sample + factor * last - before, last
        return abs(last - before * cmath.exp(-2j * math.pi * hertz / rate))

    # Coarse first, on zero crossings, then finer around it.
    crossings = sum(a < 0 <= b for a, b in itertools.pairwise(samples))
    best = crossings * rate / count
    for step in (2.0, 0.5, 0.1):
        best = max((best + step * n for n in range(-8, 9)), key=power)
    return best


def longest_gap(pcm: bytes, threshold: int = 500, rate: int = 8000) -> float:
    """Seconds of the longest stretch of samples that are all quieter than ``threshold``."""
    longest = quiet = 0
    for sample in array("h", pcm):
        quiet = quiet + 1 if abs(sample) < threshold else 0
        longest = max(longest, quiet)
    return longest / rate


def sounds(pcm: bytes, threshold: int = 4000, rate: int = 8000) -> list[bytes]:
    """What is between gaps of more than 5 ms, each from a sample above ``threshold`` to the last.

    A phone on a busy box leaves frames out, and what it plays has a gap.
    """
    samples = array("h", pcm)
    loud = [number for number, sample in enumerate(samples) if abs(sample) > threshold]
    found: list[array[int]] = []
    last = -rate
    for number in loud:
        if number - last > 0.005 * rate:
            found.append(array("h"))
            last = number - 1
        found[-1].extend(samples[last + 1 : number + 1])
        last = number
    return [sound.tobytes() for sound in found]
