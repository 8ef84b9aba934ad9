"""What a listener would think of a call: the E-model of ITU-T G.107 (06/2015).

R = Ro - Is - Id - Ie,eff + A, all parameters but delay and loss at the defaults of table 2, which
give R = 93.2 where nothing impairs the call.  G.711 has Ie = 0, and Bpl = 25.1 with the packet loss
concealment of its appendix I, 4.3 without (G.113, appendix I).  The estimate hears neither echo nor
noise of the call itself: it judges the network.
"""

from __future__ import annotations

import math

__all__ = ["BPL_G711", "BPL_G711_WITHOUT_PLC", "mos", "rating"]

BPL_G711 = 25.1
"""Robustness of G.711 against packet loss, with concealment as ordinary phones have it."""
BPL_G711_WITHOUT_PLC = 4.3

# Defaults of table 2, in dB: loudness, noise at the 0 dBr point, echo.
_SLR, _RLR, _NO = 8.0, 2.0, -61.18
_TELR, _WEPL = 65.0, 110.0
_IS = 1.41
"""Simultaneous impairment at the defaults (§7.3): quantisation, sidetone, loudness."""
_RO = 15 - 1.5 * (_SLR + _NO)
"""Basic signal-to-noise ratio (§7.2)."""


def rating(delay: float, loss: float, *, bpl: float = BPL_G711, burst: float = 1.0) -> float:
    """The transmission rating R.

    ``delay``: mouth to ear, one way, in seconds; ``loss``: share of packets that a listener misses,
    0 to 1; ``burst``: burst ratio, 1 where losses are independent.
    """
    percent = 100 * loss
    # §7.5, with Ie = 0.
    equipment = 95 * percent / (percent / burst + bpl) if percent else 0.0
    return _RO - _IS - _delay_impairment(1000 * delay) - equipment


def _delay_impairment(t: float) -> float:
    """Id of §7.4 for a mean one-way delay of ``t`` ms, the same both ways (Ta = T, Tr = 2T)."""
    # Talker echo.
    terv = _TELR - 40 * math.log10((1 + t / 10) / (1 + t / 150)) + 6 * math.exp(-0.3 * t * t)
    re = 80 + 2.5 * (terv - 14)
    roe = -1.5 * (_NO - _RLR)
    idte = ((roe - re) / 2 + math.sqrt((roe - re) ** 2 / 4 + 100) - 1) * (1 - math.exp(-t))
    # Listener echo.
    rle = 10.5 * (_WEPL + 7) * (2 * t + 1) ** -0.25
    idle: float = (_RO - rle) / 2 + math.sqrt((_RO - rle) ** 2 / 4 + 169)
    # Too long a delay, echo or not.
    idd = 0.0
    if t > 100:
        x = math.log10(t / 100) / math.log10(2)
        idd = 25 * ((1 + x**6) ** (1 / 6) - 3 * (1 + (x / 3) ** 6) ** (1 / 6) + 2)
    return float(idte + idle + idd)


def mos(r: float) -> float:
    """Mean opinion score, 1 to 4.5, that the rating ``r`` stands for (annex B)."""
    if r <= 6.5:  # below, the formula of the annex falls under 1
        return 1.0
    if r >= 100:
        return 4.5
    return 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6
