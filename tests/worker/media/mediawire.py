"""Two media sessions on a wire without sockets and a clock without sleeping."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from sipherd.worker.media.outputs import Digit, MediaOutput, Recorded, SendRtcp, SendRtp
from sipherd.worker.media.sender import Identity
from sipherd.worker.media.session import MediaSession
from sipherd.worker.stack import Address, MediaPlan

T = TypeVar("T")
ALICE: Address = ("192.0.2.1", 4000)
BOB: Address = ("192.0.2.2", 5000)
EVENT = (101, "telephone-event")


def plan(remote: Address | None, **changes: Any) -> MediaPlan:
    settings: dict[str, Any] = {
        "call": "c1",
        "remote": remote,
        "codec": "PCMU",
        "payload": 0,
        "dtmf_payload": 101,
        "accepted": ((0, "PCMU"), (8, "PCMA"), EVENT),
    }
    return MediaPlan(**settings | changes)


def session(now: float = 0.0, ssrc: int = 1, **changes: Any) -> MediaSession:
    settings: dict[str, Any] = {
        "identity": Identity(ssrc=ssrc, sequence=100, timestamp=1000),
        "cname": f"p{ssrc}@lab",
        "wall": 1_700_000_000.0,
        "chance": lambda: 0.5,
        "counts": Counter(),
        "ghosts": frozenset(),
        "now": now,
    }
    return MediaSession(**settings | changes)


class Side:
    """One session and what it put out."""

    def __init__(self, session: MediaSession, address: Address) -> None:
        self.session = session
        self.address = address
        self.log: list[tuple[float, MediaOutput]] = []

    def all(self, kind: type[T]) -> list[T]:
        return [output for _, output in self.log if isinstance(output, kind)]

    def times(self, kind: type) -> list[float]:
        return [at for at, output in self.log if isinstance(output, kind)]

    @property
    def digits(self) -> str:
        return "".join(digit.digit for digit in self.all(Digit))

    @property
    def recorded(self) -> bytes:
        return b"".join(piece.pcm for piece in self.all(Recorded))


class Wire:
    """Joins a caller and a callee.  ``policy`` gives the delays at which a datagram arrives.

    An empty list loses it, two entries duplicate it.
    """

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.alice = Side(session(now, 1), ALICE)
        self.bob = Side(session(now, 2), BOB)
        self.policy: Callable[[bytes], list[float]] = lambda data: [0.001]
        self._flight: list[tuple[float, int, Side, bytes, Address, bool]] = []
        self._order = itertools.count()

    def connect(self, **changes: Any) -> None:
        """Offer and answer are done, and the call is answered."""
        for side, other in ((self.alice, self.bob), (self.bob, self.alice)):
            side.session.follow(plan(other.address, **changes), self.now)
            side.session.answered(self.now)

    def take(self, side: Side, outputs: list[MediaOutput]) -> None:
        other = self.bob if side is self.alice else self.alice
        for output in outputs:
            side.log.append((self.now, output))
            if not isinstance(output, (SendRtp, SendRtcp)):
                continue
            is_rtp = isinstance(output, SendRtp)
            port = other.address[1] + (0 if is_rtp else 1)
            if output.destination != (other.address[0], port):
                continue
            for delay in self.policy(output.data):
                source = side.address[0], side.address[1] + (0 if is_rtp else 1)
                item = (self.now + delay, next(self._order), other, output.data, source, is_rtp)
                heapq.heappush(self._flight, item)

    def advance(self, seconds: float) -> None:
        """Let time pass, from event to event."""
        until = self.now + seconds
        while True:
            sides = [self.alice, self.bob]
            timers = [(at, s) for s in sides if (at := s.session.next_timer()) is not None]
            due = min([at for at, _ in timers] + [item[0] for item in self._flight[:1]], default=-1)
            if due < 0 or due > until:
                break
            self.now = max(self.now, due)
            while self._flight and self._flight[0][0] <= self.now:
                _, _, to, data, source, is_rtp = heapq.heappop(self._flight)
                receive = to.session.receive_rtp if is_rtp else to.session.receive_rtcp
                self.take(to, receive(data, source, self.now))
            for at, side in timers:
                if at <= self.now:
                    self.take(side, side.session.tick(self.now))
        self.now = until
