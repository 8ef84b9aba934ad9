"""The 2xx to an INVITE: the core of the user agent repeats it until its ACK comes (§13.3.1.4)."""

from __future__ import annotations

from collections.abc import Callable

from ..stack import Hop
from .context import Context

__all__ = ["UnackedAnswer"]


class UnackedAnswer:
    """A 2xx whose ACK has not come: sent again from T1 to T2, given up after 64·T1."""

    def __init__(
        self,
        ctx: Context,
        data: bytes,
        destination: Hop,
        cseq: int,
        on_timeout: Callable[[], None],
    ) -> None:
        self.cseq = cseq
        self._ctx = ctx
        self.data = data
        self._destination = destination
        self._on_timeout = on_timeout
        self._interval = ctx.config.t1
        self._repeat = ctx.after(self._interval, self._on_repeat)
        self._limit = ctx.after(64 * ctx.config.t1, self._on_limit)

    def repeat(self) -> None:
        """Send a copy now."""
        self._ctx.send(self.data, self._destination)

    def stop(self) -> None:
        """No more copies: the ACK came, or the call is over."""
        self._repeat.cancel()
        self._limit.cancel()

    def _on_repeat(self) -> None:
        self._ctx.count("sip_retransmitted")
        self._ctx.send(self.data, self._destination)
        self._interval = min(2 * self._interval, self._ctx.config.t2)
        self._repeat = self._ctx.after(self._interval, self._on_repeat)

    def _on_limit(self) -> None:
        self._repeat.cancel()
        self._on_timeout()
