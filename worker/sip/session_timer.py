"""Session timers (RFC 4028): a call whose far end has vanished does not stay up for ever.

One side, the refresher, sends a re-INVITE or UPDATE at half the interval.  Who sees no refresh by
the time that is left, short of the end (§10), ends the call.  The roles are told as ``uac`` and
``uas`` of the transaction that settles them, so they may change names with each refresh.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .context import Context
from .message import Message
from .timers import Timer
from .uri import UriError, parse_params

__all__ = ["MIN_SE", "SessionTimer", "is_too_short"]

MIN_SE = 90
"""Seconds of the shortest interval that we let a caller ask for (§5)."""
_SHORTEST = 10
"""Seconds of the shortest interval that we keep to if a callee says so, against §5."""
_MOST = 10**6


class _Expires(NamedTuple):
    seconds: int
    refresher: str
    """``uac``, ``uas`` or empty."""


def _seconds(text: str) -> int | None:
    digits = text.partition(";")[0].strip()
    if not digits.isascii() or not digits.isdigit():
        return None
    return min(int(digits[:9]), _MOST)


def _session_expires(message: Message) -> _Expires | None:
    value = message.headers.get("Session-Expires")
    seconds = _seconds(value)
    if seconds is None:
        return None
    _, semicolon, rest = value.partition(";")
    try:
        refresher = parse_params(semicolon + rest).get("refresher") or ""
    except UriError:
        refresher = ""
    return _Expires(seconds, refresher.lower())


def _supports_timer(request: Message) -> bool:
    tags = (*request.headers.values("Supported"), *request.headers.values("Require"))
    return "timer" in (tag.lower() for tag in tags)


def is_too_short(request: Message) -> bool:
    """Whether an INVITE or UPDATE asks for an interval below MIN_SE: 422 (§9)."""
    asked = _session_expires(request)
    return asked is not None and asked.seconds < MIN_SE and _supports_timer(request)


class SessionTimer:
    """The session timer of one call; it runs only if one side has asked for it."""

    def __init__(
        self, ctx: Context, on_refresh: Callable[[], None], on_expired: Callable[[], None]
    ) -> None:
        self._ctx = ctx
        self._on_refresh = on_refresh
        self._on_expired = on_expired
        self._interval: int | None = None
        self._ours = False
        """We are the refresher."""
        self._min_se = MIN_SE
        self._timers: tuple[Timer, ...] = ()

    # Requests of ours

    def asks(self) -> tuple[tuple[str, str], ...]:
        """Headers of an INVITE or UPDATE of ours (§7.1, §7.4)."""
        if self._interval is not None:
            value = f"{self._interval};refresher={'uac' if self._ours else 'uas'}"
        elif self._ctx.config.session_expires is not None:
            value = f"{max(self._ctx.config.session_expires, self._min_se)}"
        else:
            return ()
        headers = (("Session-Expires", value),)
        return (*headers, ("Min-SE", str(self._min_se))) if self._min_se > MIN_SE else headers

    def take_422(self, response: Message) -> bool:
        """Ask for more next time (§7.3); False if there is nothing to gain by it."""
        wanted = _seconds(response.headers.get("Min-SE"))
        if wanted is None or wanted <= self._min_se or not self.asks():
            return False
        self._min_se = wanted
        if self._interval is not None:
            self._interval = max(self._interval, wanted)
        return True

    def take_2xx(self, response: Message) -> None:
        """What the other side has made of it (§7.2)."""
        granted = _session_expires(response)
        if granted is not None and granted.seconds > 0:
            self._start(max(granted.seconds, _SHORTEST), ours=granted.refresher != "uas")
        elif self._ctx.config.session_expires is not None:
            # It knows no session timers: we can still find out whether it is there.
            interval = self._interval or max(self._ctx.config.session_expires, self._min_se)
            self._start(interval, ours=True)
        else:
            self.stop()

    # Requests of the peer

    def accepts(self, request: Message) -> tuple[tuple[str, str], ...]:
        """Headers of our 2xx to its INVITE or UPDATE; the timer runs from now on (§9)."""
        asked = _session_expires(request)
        own = self._ctx.config.session_expires
        if asked is None and own is None:
            self.stop()
            return ()
        least = max(MIN_SE, _seconds(request.headers.get("Min-SE")) or 0)
        interval = min(asked.seconds if asked else _MOST, own or _MOST)
        supports = _supports_timer(request)
        if not supports:
            ours = True  # it would not refresh
        elif asked is not None:
            ours = asked.refresher == "uas"  # who asks and leaves the choice to us does the work
        else:
            ours = True
        self._start(max(interval, least), ours=ours)
        value = f"{self._interval};refresher={'uas' if ours else 'uac'}"
        headers = (("Session-Expires", value),)
        return (("Require", "timer"), *headers) if supports else headers

    # Time

    def stop(self) -> None:
        """No session timer, or none any more."""
        self._interval = None
        for timer in self._timers:
            timer.cancel()
        self._timers = ()

    def _start(self, interval: int, *, ours: bool) -> None:
        self.stop()
        self._interval = interval
        self._ours = ours
        # §10: the last moment to say goodbye is a third of the interval, or 32 s, before its end.
        last = self._ctx.after(interval - min(32.0, interval / 3), self._on_expired)
        self._timers = (last,)
        if ours:
            self._timers = (last, self._ctx.after(interval / 2, self._on_refresh))
