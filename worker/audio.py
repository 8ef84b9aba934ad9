"""The audio of a phone's calls: media sessions, and what commands do with them.

It knows sockets and files by the objects it is given; time is told to it.
"""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from ..protocol.events import (
    Address,
    AudioOneWay,
    DtmfReceived,
    DtmfSent,
    MediaStats,
    PlayEnded,
    RecordEnded,
)
from ..protocol.messages import PlayAudio, RecordAudio, SendDtmf, StopAudio, StopRecording
from .media.dtmf import DIGITS
from .media.loader import Loaded
from .media.outputs import (
    Digit,
    DigitSent,
    MediaOutput,
    OneWay,
    Recorded,
    SendRtcp,
    SendRtp,
    SourceEnded,
)
from .media.sender import Identity
from .media.session import MediaSession
from .media.sources import Echo, Samples, Silence, Source, Tone
from .media.wav import WavError, WavWriter
from .rtp_ports import RtpLease
from .stack import MediaPlan, StackRefusal

__all__ = ["Audio", "AudioCommand", "AudioEvent", "Wire"]

_GHOSTLY = 32.0
"""Seconds that a peer may send on after its call: as long as its BYE may be on its way (64*T1)."""
_GHOSTS = 256
"""SSRCs remembered at most."""

AudioCommand: TypeAlias = PlayAudio | StopAudio | RecordAudio | StopRecording | SendDtmf
AudioEvent: TypeAlias = DtmfReceived | DtmfSent | PlayEnded | RecordEnded | AudioOneWay
_WhyPlayEnded: TypeAlias = Literal["finished", "stopped", "replaced", "call_ended"]
_WhyRecordEnded: TypeAlias = Literal["stopped", "call_ended", "failed"]


class Wire(Protocol):
    """The RTP sockets (`rtp_sockets.RtpSockets`)."""

    def open(self, call: str, lease: RtpLease) -> None:
        """Read what comes to the pair of this call."""

    def close(self, call: str) -> None:
        """Read it no more."""

    def send_rtp(self, call: str, data: bytes, destination: Address) -> None:
        """Put a packet of audio on the wire."""

    def send_rtcp(self, call: str, data: bytes, destination: Address) -> None:
        """Put a report on the wire."""


@dataclass(slots=True)
class _Keys:
    """A SendDtmf command under way."""

    command: int
    digits: str
    left: int


@dataclass(slots=True)
class _Call:
    """The audio of one call."""

    key: str
    session: MediaSession
    playing: str = ""
    """The source as it was asked for; empty for the silence that nobody asked for."""
    loading: PlayAudio | None = None
    """The file that is being read, to be played next."""
    loading_command: int = 0
    keys: deque[_Keys] = field(default_factory=deque)
    recording: WavWriter | None = None


class Audio:
    """The audio of all calls of one phone.

    ``report(event)`` tells observers, ``done(command)`` and ``refuse(command, reason, message)``
    whoever gave the command; ``load(path, loaded)`` reads a file and calls back later.
    """

    def __init__(
        self,
        *,
        wire: Wire,
        load: Callable[[str, Loaded], None],
        report: Callable[[AudioEvent], None],
        done: Callable[[int], None],
        refuse: Callable[[int, str, str], None],
        cname: str,
        wall: float,
        counts: Counter[str],
    ) -> None:
        """``cname``: our name in RTCP; ``wall``: what the clock on the wall shows when ours shows
        0."""
        self._wire = wire
        self._load = load
        self._report = report
        self._done = done
        self._refuse = refuse
        self._cname = cname
        self._wall = wall
        self._counts = counts
        # Forks of one nursery share the state of the default generator.
        self._chance = random.SystemRandom().random
        self._calls: dict[str, _Call] = {}
        self._ghosts: OrderedDict[int, float] = OrderedDict()
        """SSRCs of calls that ended, and until when they are remembered."""
        self._now = 0.0

    # What the signalling says

    def follow(self, plan: MediaPlan, lease: RtpLease, now: float, *, answered: bool) -> None:
        """Offer and answer were exchanged."""
        self._now = now
        call = self._calls.get(plan.call)
        if call is None:
            session = MediaSession(
                identity=Identity.fresh(),
                cname=self._cname,
                wall=self._wall,
                chance=self._chance,
                counts=self._counts,
                ghosts=self._current_ghosts(),
                now=now,
            )
            call = self._calls[plan.call] = _Call(plan.call, session)
            self._wire.open(plan.call, lease)
        call.session.follow(plan, now)
        if answered:
            call.session.answered(now)
        if call.keys and not call.session.takes_events:
            call.session.clear_dtmf()
            self._refuse_keys(call, "no_events", "takes no keys as RTP events any more")
        self._tick(call)

    def answered(self, key: str, now: float) -> None:
        """The call was answered."""
        call = self._calls.get(key)
        if call is not None:
            call.session.answered(now)

    def end(self, key: str, now: float) -> MediaStats | None:
        """The call is over: end what goes on in it; None if it had no audio."""
        self._now = now
        call = self._calls.get(key)
        if call is None:
            return None
        self._end_recording(call, "call_ended")
        self._take(call, call.session.end(now))
        self._stop_loading(call, "already_ended", "is over")
        self._stop_playing(call, "call_ended")
        self._refuse_keys(call, "already_ended", "is over")
        for ssrc in call.session.heard:
            self._ghosts[ssrc] = now + _GHOSTLY
            self._ghosts.move_to_end(ssrc)
        while len(self._ghosts) > _GHOSTS:
            self._ghosts.popitem(last=False)
        self._wire.close(key)
        del self._calls[key]
        return call.session.stats()

    # Packets and time

    def receive(self, key: str, is_rtp: bool, data: bytes, source: Address, now: float) -> None:
        """A datagram came to the pair of this call."""
        self._now = now
        call = self._calls.get(key)
        if call is not None:
            receive = call.session.receive_rtp if is_rtp else call.session.receive_rtcp
            self._take(call, receive(data, source, now))

    def next_timer(self) -> float | None:
        """When `tick` is wanted next, or None."""
        due = [call.session.next_timer() for call in self._calls.values()]
        return min((at for at in due if at is not None), default=None)

    def tick(self, now: float) -> None:
        """Send what is due."""
        self._now = now
        for call in list(self._calls.values()):
            at = call.session.next_timer()
            if at is not None and at <= now:
                self._tick(call)

    # Commands

    def run(self, command: int, body: AudioCommand, now: float) -> None:
        """Carry out a command.  Raises StackRefusal, and then nothing has changed."""
        self._now = now
        call = self._calls.get(body.call)
        if call is None:
            raise StackRefusal("no_media", f"call {body.call} has no audio yet")
        match body:
            case PlayAudio():
                self._play(call, command, body)
            case StopAudio():
                self._stop_loading(call, "stopped", "was told to be silent")
                self._stop_playing(call, "stopped")
                call.session.stop()
                self._done(command)
            case RecordAudio():
                self._record(call, body)
                self._done(command)
            case StopRecording():
                if call.recording is None:
                    raise StackRefusal("not_recording", f"call {body.call} is not recorded")
                self._end_recording(call, "stopped")
                self._done(command)
            case SendDtmf():
                self._send_keys(call, command, body.digits)

    def _play(self, call: _Call, command: int, body: PlayAudio) -> None:
        source = _source(body.source)
        self._stop_loading(call, "replaced", "was told to play something else")
        if source is not None:
            self._start_playing(call, body.source, source)
            self._done(command)
            return
        call.loading, call.loading_command = body, command
        self._load(body.source, lambda result: self._loaded(call, body, result))

    def _loaded(self, call: _Call, body: PlayAudio, result: bytes | WavError) -> None:
        if call.loading is not body:
            return  # something else is to be played by now, or the call is over
        call.loading = None
        if isinstance(result, WavError):
            self._refuse(call.loading_command, result.reason, str(result))
        else:
            self._start_playing(call, body.source, Samples(result, loop=body.loop))
            self._done(call.loading_command)

    def _start_playing(self, call: _Call, name: str, source: Source) -> None:
        self._stop_playing(call, "replaced")
        call.playing = name
        call.session.play(source)

    def _stop_playing(self, call: _Call, why: _WhyPlayEnded) -> None:
        if call.playing:
            name, call.playing = call.playing, ""
            self._report(PlayEnded(call=call.key, source=name, why=why))

    def _stop_loading(self, call: _Call, reason: str, why: str) -> None:
        if call.loading is not None:
            source, call.loading = call.loading.source, None
            message = f"{source} was not played: call {call.key} {why}"
            self._refuse(call.loading_command, reason, message)

    def _record(self, call: _Call, body: RecordAudio) -> None:
        try:
            writer = WavWriter(body.file, 2 if body.what == "both" else 1)
        except WavError as error:
            raise StackRefusal(error.reason, str(error)) from None
        self._end_recording(call, "stopped")
        call.recording = writer
        call.session.record(body.what, self._now)

    def _end_recording(self, call: _Call, why: _WhyRecordEnded, error: str = "") -> None:
        writer, call.recording = call.recording, None
        if writer is None:
            return
        rest, seconds = call.session.stop_recording(self._now)
        try:
            if not error:
                writer.write(rest)
            writer.close()
        except WavError as failure:
            why, error = "failed", error or str(failure)
        self._report(
            RecordEnded(call=call.key, file=writer.path, seconds=seconds, why=why, error=error)
        )

    def _send_keys(self, call: _Call, command: int, digits: str) -> None:
        if not call.session.takes_events:
            raise StackRefusal(
                "no_events",
                f"the far end of call {call.key} takes no keys as RTP events (RFC 4733); "
                "dtmf: info sends them as SIP INFO",
            )
        if not call.session.is_sending:
            raise StackRefusal("on_hold", f"call {call.key} is on hold: nothing is sent")
        digits = digits.upper()
        if not digits or not set(digits) <= set(DIGITS):
            raise StackRefusal("bad_digits", f"{digits!r}: expected some of 0-9 * # A-D")
        call.session.send_dtmf(digits)
        call.keys.append(_Keys(command, digits, len(digits)))

    def _refuse_keys(self, call: _Call, reason: str, why: str) -> None:
        while call.keys:
            keys = call.keys.popleft()
            sent = len(keys.digits) - keys.left
            message = f"{sent} of {len(keys.digits)} keys were sent: call {call.key} {why}"
            self._refuse(keys.command, reason, message)

    # What sessions put out

    def _tick(self, call: _Call) -> None:
        self._take(call, call.session.tick(self._now))

    def _take(self, call: _Call, outputs: list[MediaOutput]) -> None:
        for output in outputs:
            match output:
                case SendRtp(data, destination):
                    self._wire.send_rtp(call.key, data, destination)
                case SendRtcp(data, destination):
                    self._wire.send_rtcp(call.key, data, destination)
                case Recorded(pcm):
                    self._write(call, pcm)
                case Digit(digit, duration):
                    milliseconds = round(1000 * duration)
                    self._report(
                        DtmfReceived(
                            call=call.key, digit=digit, duration_ms=milliseconds, method="rfc4733"
                        )
                    )
                case DigitSent():
                    self._key_sent(call)
                case SourceEnded():
                    self._stop_playing(call, "finished")
                case OneWay(seconds):
                    self._report(AudioOneWay(call=call.key, seconds=seconds))

    def _write(self, call: _Call, pcm: bytes) -> None:
        if call.recording is None:
            return
        try:
            call.recording.write(pcm)
        except WavError as error:
            self._end_recording(call, "failed", str(error))

    def _key_sent(self, call: _Call) -> None:
        keys = call.keys[0]
        keys.left -= 1
        if not keys.left:
            call.keys.popleft()
            self._report(DtmfSent(call=call.key, digits=keys.digits, method="rfc4733"))
            self._done(keys.command)

    def _current_ghosts(self) -> frozenset[int]:
        while self._ghosts and next(iter(self._ghosts.values())) <= self._now:
            self._ghosts.popitem(last=False)
        return frozenset(self._ghosts)


def _source(name: str) -> Source | None:
    """What a PlayAudio names; None for a file.  Raises StackRefusal."""
    if name == "silence":
        return Silence()
    if name == "echo":
        return Echo()
    if name.startswith("/"):
        return None
    kind, colon, hertz = name.partition(":")
    if kind == "tone" and colon:
        try:
            return Tone(float(hertz))
        except (ValueError, OverflowError) as error:
            raise StackRefusal("bad_source", f"{name}: {error}") from None
    raise StackRefusal(
        "bad_source",
        f"{name}: expected silence, echo, tone:HZ or the absolute path of an audio file",
    )
