"""Round numbers for the axes of a chart, and times for people."""

from __future__ import annotations

import math

from ..render import duration

__all__ = ["clock", "length", "number", "tick_labels", "time_ticks", "value_ticks"]

#: Seconds between two labels of a time axis: what a clock face has.
_STEPS = (1, 2, 5, 10, 15, 30, *(60 * m for m in (1, 2, 5, 10, 15, 30)))
_STEPS += tuple(3600 * h for h in (1, 2, 3, 6, 12, 24, 48, 96, 168))


def value_ticks(top: float, at_most: int = 5) -> list[float]:
    """From 0 in round steps (1, 2 or 5 times a power of ten) to `top` or just above it."""
    if not math.isfinite(top) or top <= 0:
        return [0.0, 1.0]
    rough = top / at_most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    count = math.ceil(top / step - 1e-9)
    return [round(i * step, 12) for i in range(count + 1)]


def tick_labels(ticks: list[float]) -> list[str]:
    """All with as many decimals as the step between them needs."""
    step = ticks[1] - ticks[0]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{tick:,.{decimals}f}" for tick in ticks]


def time_ticks(seconds: float, at_most: int = 8) -> list[float]:
    """Times from 0 up to `seconds`, in steps that a clock face has."""
    step = next((s for s in _STEPS if seconds / s <= at_most), None)
    if step is None:
        step = _STEPS[-1] * math.ceil(seconds / at_most / _STEPS[-1])
    return [float(i * step) for i in range(int(seconds / step + 1e-9) + 1)]


def clock(seconds: float) -> str:
    """Time since the start: `0:05`, `12:30`, `5:07:00`, `2 d 05:00:00`."""
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02}:{minutes:02}:{rest:02}"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def length(seconds: float) -> str:
    """The length of a window or a run: `1 s`, `72 s`, `15 m`, `2 h 46 m`."""
    if seconds < 100 and seconds == int(seconds):
        return f"{seconds:.0f} s"
    return duration(seconds)


def number(value: float | None, unit: str = "") -> str:
    """A figure for people: `1,234`, `12.3`, `0.0421`, `3.2 %`; `-` for none."""
    if value is None or not math.isfinite(value):
        return "-"
    text = _percents(value) if unit == "%" else _digits(value)
    return f"{text} {unit}" if unit else text


def _percents(value: float) -> str:
    """With two decimals; 0 and 100 only where it is, or somebody looks for calls in vain."""
    if value == int(value):
        return f"{value:.0f}"
    text = f"{value:.2f}"
    return {"0.00": "< 0.01", "100.00": "> 99.99"}.get(text, text)


def _digits(value: float) -> str:
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 1 else f"{value:.3g}"
