"""The audio session of one call: what both sides have offered and answered (RFC 3264).

It knows whether an offer of ours is out, keeps what holds until it is answered, counts the
versions of our description, and says what the audio is from now on (MediaPlan) and who has put
the call on hold (Held, Retrieved).

Hold (RFC 3264 §8.4): who holds hears nothing, so its direction is
``sendonly``; if the other side holds too, it was ``recvonly`` and becomes ``inactive``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..pyvoip import TransmitType
from ..stack import Held, Media, MediaPlan, Retrieved
from . import sdp
from .context import Context

__all__ = ["Session"]

_LISTENS = (TransmitType.SENDRECV, TransmitType.RECVONLY)


class Session:
    """The session of one call, from our side."""

    def __init__(self, ctx: Context, call: str, media: Media | None = None) -> None:
        self.media = media
        """Where we receive; None as long as nobody has said so."""
        self.remote: sdp.Description | None = None
        """The peer's latest description."""
        self.holding = False
        """We hold the call, or are about to."""
        self.held = False
        """The peer does."""
        self.established = False
        """The call is answered: before, who sends only or nothing is ringing and not holding."""
        self._ctx = ctx
        self._call = call
        self._number = sdp.session_id(ctx.token())
        self._version = 0
        self._local = b""
        self._direction = TransmitType.SENDRECV
        """That of our latest description."""
        self._before: tuple[int, bytes, TransmitType] | None = None
        """What holds while our offer is out."""
        self._ours = False
        """The offer of the latest exchange was ours."""
        self._plan: MediaPlan | None = None
        """What the audio is by now."""

    @property
    def offered(self) -> bool:
        """An offer of ours waits for its answer."""
        return self._before is not None

    def read(self, content: bytes) -> sdp.Description:
        """The peer's description, without what we don't speak.  Raises SdpError."""
        return sdp.parse(content).limited_to(self._ctx.config.codecs)

    def offer(self) -> bytes:
        """Our offer: the first, or another one of a session that is up."""
        self._before = self._version, self._local, self._direction
        self._ours = True
        if self.holding:
            self._direction = TransmitType.INACTIVE if self.held else TransmitType.SENDONLY
        else:
            self._direction = TransmitType.SENDRECV
        codecs, remote = self._ctx.config.codecs, self.remote
        return self._compose(
            lambda media, version: sdp.offer(
                media,
                self._number,
                version,
                codecs=codecs,
                direction=self._direction,
                remote=remote,
            )
        )

    def withdraw(self) -> None:
        """Our offer was refused: the session is what it was before (RFC 3261 §14.1)."""
        if self._before is not None:
            self._version, self._local, self._direction = self._before
            self._before = None

    def take_answer(self, answer: sdp.Description) -> None:
        """The answer to our offer is here."""
        self._before = None
        self.remote = answer
        # To an offer that lets the peer hear nothing every answer looks as if it held.
        stream = answer.audio
        if stream is not None and self._direction is not TransmitType.INACTIVE:
            self._agreed(held=stream.direction not in _LISTENS)
        else:
            self._agreed(held=self.held)

    def confirm(self) -> None:
        """The call is answered with what was agreed before."""
        assert self.remote is not None
        self.take_answer(self.remote)

    def keep(self) -> None:
        """Our offer was accepted without an answer in words: nothing changes at the peer's end."""
        self._before = None

    def preview(self, answer: sdp.Description) -> None:
        """An answer in a 1xx that is not reliable: early media until the real one comes."""
        self._emit(sdp.plan(self._call, answer, offered=True))

    def answer(self, offered: sdp.Description) -> bytes:
        """Our answer to the peer's offer; once it is sent, `answered`.  Raises NotAcceptable."""
        stream = offered.audio
        if stream is None:
            raise sdp.NotAcceptable("no stream of the offer can be used")
        wish = TransmitType.SENDONLY if self.holding else TransmitType.SENDRECV
        self._direction = sdp.answered_direction(stream.direction, wish)
        self.remote = offered
        self._ours = False
        return self._compose(
            lambda media, version: sdp.answer(offered, media, self._number, version, direction=wish)
        )

    def answered(self) -> None:
        """Our answer is on its way."""
        assert self.remote is not None
        stream = self.remote.audio
        self._agreed(held=stream is not None and stream.direction not in _LISTENS)

    def silence(self) -> None:
        """Our BYE is out: the call is over for us, whenever the peer says so."""
        if self._plan is not None:
            self._ctx.emit(replace(self._plan, sending=False))

    def _compose(self, build: Callable[[Media, int], bytes]) -> bytes:
        """Our description, with the next version if it is not the one before (RFC 3264 §8)."""
        assert self.media is not None
        if not self._local or build(self.media, self._version) != self._local:
            self._version += 1
            self._local = build(self.media, self._version)
        return self._local

    def _agreed(self, *, held: bool) -> None:
        assert self.remote is not None
        self._emit(sdp.plan(self._call, self.remote, local=self._direction, offered=self._ours))
        if self.established and held != self.held:
            self.held = held
            kind = Held if held else Retrieved
            self._ctx.emit(kind(call=self._call, by="remote"))

    def _emit(self, plan: MediaPlan | None) -> None:
        if plan is not None:
            self._plan = plan
            self._ctx.emit(plan)
