"""The audio of one call: packets in, packets and happenings out, no socket and no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Set

from ...protocol.events import MediaStats
from ..stack import Address, MediaPlan
from . import emodel, rtcp, rtp
from .latch import Latch
from .outputs import MediaOutput, OneWay, Recorded, SendRtcp
from .receiver import EVENT, Receiver
from .recorder import Recorder, What
from .reports import Reports
from .sender import Identity, Sender
from .sources import Echo, Silence, Source
from .stats import BUFFER_SECONDS

__all__ = ["MediaSession"]

ONE_WAY_AFTER = 5.0
"""Seconds of nothing after which audio that was expected counts as one-way."""
_RECORD_EVERY = 0.5
"""Seconds between two pieces of a recording."""
_PACKET_SECONDS = 0.02
_ENOUGH_SENT = 50
"""Packets after which an answer could have been heard: a second."""


class MediaSession:
    """The audio of one call, from the first description of the peer to the end.

    ``counts`` gets ``rtp_malformed``, ``rtp_wrong_payload``, ``rtp_stranger``, ``rtp_left_out``,
    ``rtcp_malformed``, ``rtcp_stranger``.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        cname: str,
        wall: float,
        chance: Callable[[], float],
        counts: Counter[str],
        ghosts: Set[int],
        now: float,
    ) -> None:
        """``wall``: what the clock on the wall shows when ours shows 0 (for RTCP);
        ``chance``: evenly distributed from 0 to 1; ``ghosts``: SSRCs of calls that ended lately.
        """
        self._counts = counts
        self._latch = Latch(ghosts, now)
        self._sender = Sender(identity)
        self._sender.on_frame = self._on_frame
        self._receiver = Receiver()
        self._receiver.on_audio = self._on_audio
        self._receiver.on_restart = self._on_restart
        self._reports = Reports(self._sender, cname, wall, chance)
        self._plan: MediaPlan | None = None
        self._rtcp_source: Address | None = None
        self._recorder: Recorder | None = None
        self._record_at: float | None = None
        self._expects_since: float | None = None
        """Since when audio is to come; None while none is."""
        self._answered = False
        self._one_way_told = False
        self._one_way = False
        self._dropped = 0

    # What the signalling says

    def follow(self, plan: MediaPlan, now: float) -> None:
        """Offer and answer were exchanged: this holds from now on."""
        before, self._plan = self._plan, plan
        if before is None or before.remote != plan.remote:
            self._rtcp_source = None
        self._latch.announce(plan.remote)
        self._sender.use(plan.codec, plan.payload, plan.dtmf_payload)
        accepted = dict(plan.accepted) or {plan.payload: plan.codec}
        if not plan.accepted and plan.dtmf_payload is not None:
            accepted[plan.dtmf_payload] = EVENT
        self._receiver.accepted = accepted
        if before is None or before.receiving != plan.receiving or before.remote != plan.remote:
            self._receiver.restart_time()
        self._aim(now)

    def answered(self, now: float) -> None:
        """The call is answered: from now on silence of the peer means something."""
        self._answered = True
        self._aim(now)

    # Commands

    @property
    def takes_events(self) -> bool:
        """Whether the peer takes DTMF as RTP events (RFC 4733)."""
        return self._sender.has_events

    @property
    def is_sending(self) -> bool:
        """Whether packets go out now."""
        return self._sender.is_running

    def play(self, source: Source) -> None:
        """Send this from the next packet on."""
        self._sender.source = source

    def stop(self) -> None:
        """Send silence."""
        self._sender.source = Silence()

    def send_dtmf(self, digits: str) -> None:
        """Send digits after those that are not sent yet; a DigitSent follows for each.

        Raises ValueError for what is no digit.
        """
        self._sender.dtmf.send(digits)

    def clear_dtmf(self) -> None:
        """Forget the digits that are not sent yet."""
        self._sender.dtmf.clear()

    def record(self, what: What, now: float) -> None:
        """Record from now on, as Recorded; instead of a recording that runs."""
        self._recorder = Recorder(what, now)
        self._record_at = now + _RECORD_EVERY

    def stop_recording(self, now: float) -> tuple[bytes, float]:
        """The last samples of the recording, and its length in seconds."""
        if self._recorder is None:
            return b"", 0.0
        pcm = self._recorder.take(now, all=True)
        seconds = self._recorder.seconds
        self._recorder = self._record_at = None
        return pcm, seconds

    # Packets

    def receive_rtp(self, data: bytes, source: Address, now: float) -> list[MediaOutput]:
        """A datagram came to the RTP port.  Never raises, whatever the bytes are."""
        if self._plan is None:
            return self._drop("rtp_stranger")
        try:
            packet = rtp.parse(data)
        except rtp.RtpError:
            return self._drop("rtp_malformed")
        if packet.payload_type not in self._receiver.accepted:
            return self._drop("rtp_wrong_payload")
        before = self._latch.destination
        if not self._latch.accepts(source, packet.ssrc, now):
            return self._drop("rtp_stranger")
        if self._latch.destination != before:
            self._aim(now)
        self._one_way_told = False
        return [*self._receiver.receive(packet, now, listening=self._plan.receiving)]

    def receive_rtcp(self, data: bytes, source: Address, now: float) -> list[MediaOutput]:
        """A datagram came to the RTCP port.  Never raises, whatever the bytes are."""
        if not self._latch.is_peer(source):
            self._counts["rtcp_stranger"] += 1
            return []
        try:
            packets = rtcp.parse(data)
        except rtcp.RtcpError:
            self._counts["rtcp_malformed"] += 1
            return []
        self._rtcp_source = source
        self._reports.take(packets, self._receiver.stream, now)
        return []

    # Time

    def next_timer(self) -> float | None:
        """When `tick` is wanted next, or None."""
        due = (
            self._sender.next_timer(),
            self._receiver.dtmf.next_timer(),
            self._reports.next_at,
            self._record_at,
            self._one_way_at(),
        )
        return min((at for at in due if at is not None), default=None)

    def tick(self, now: float) -> list[MediaOutput]:
        """Send and report what is due."""
        outputs: list[MediaOutput] = []
        destination = self._latch.destination
        if destination is not None:
            left_out = self._sender.left_out
            outputs += self._sender.tick(now, destination)
            if self._sender.left_out != left_out:
                self._counts["rtp_left_out"] += self._sender.left_out - left_out
        outputs += self._receiver.dtmf.tick(now)
        if self._reports.next_at is not None and self._reports.next_at <= now:
            outputs += self._to_rtcp(self._reports.report(self._receiver.stream, now))
        if self._recorder is not None and self._record_at is not None and self._record_at <= now:
            self._record_at = now + _RECORD_EVERY
            outputs.append(Recorded(self._recorder.take(now)))
        one_way_at = self._one_way_at()
        if one_way_at is not None and one_way_at <= now:
            self._one_way_told = self._one_way = True
            outputs.append(OneWay(ONE_WAY_AFTER))
        return outputs

    def end(self, now: float) -> list[MediaOutput]:
        """The call is over: the digit that was under way, and BYE."""
        outputs: list[MediaOutput] = [*self._receiver.dtmf.finish()]
        self._sender.stop()
        if self._sender.packets or self._receiver.stream is not None:
            outputs += self._to_rtcp(self._reports.bye(self._receiver.stream, now))
        self._reports.next_at = self._record_at = self._expects_since = None
        # So that nothing of us waits for the garbage collector.
        self._sender.on_frame = self._receiver.on_audio = self._receiver.on_restart = None
        return outputs

    # Figures

    @property
    def heard(self) -> Set[int]:
        """SSRCs that the next calls are not to take for their own peer's."""
        return self._latch.heard

    def stats(self) -> MediaStats:
        """What became of the audio so far."""
        received, lost, too_late, expected = self._receiver.totals()
        stream = self._receiver.stream
        round_trip = self._reports.round_trip
        mos = None
        if received:
            delay = (round_trip or 0.0) / 2 + BUFFER_SECONDS + _PACKET_SECONDS
            missed = min(lost + too_late, expected) / expected
            mos = round(emodel.mos(emodel.rating(delay, missed)), 2)
        sent = self._sender.packets
        silent = self._expected_audio() and not received and sent >= _ENOUGH_SENT
        return MediaStats(
            sent=sent,
            received=received,
            lost=lost,
            dropped=self._dropped,
            late=self._sender.late,
            jitter_ms=0.0 if stream is None else round(1000 * stream.jitter, 3),
            round_trip_ms=None if round_trip is None else round(1000 * round_trip, 3),
            mos=mos,
            one_way=self._one_way or silent,
        )

    # Inside

    def _aim(self, now: float) -> None:
        """Send, report and expect as the plan and the latch have it now."""
        plan = self._plan
        if plan is None:
            return
        there = self._latch.destination is not None
        if plan.sending and there:
            self._sender.start(now)
        else:
            self._sender.stop()
        if there:
            self._reports.start(now)
        if not self._expected_audio():
            self._expects_since = None
        elif self._expects_since is None:
            self._expects_since = now
            self._one_way_told = False

    def _expected_audio(self) -> bool:
        """One-way is what comes back from a peer that we send to."""
        plan = self._plan
        return self._answered and plan is not None and plan.receiving and plan.sending

    def _one_way_at(self) -> float | None:
        if self._expects_since is None or self._one_way_told or not self._sender.is_running:
            return None
        heard = self._receiver.last_heard
        since = self._expects_since if heard is None else max(heard, self._expects_since)
        return since + ONE_WAY_AFTER

    def _to_rtcp(self, data: bytes) -> list[MediaOutput]:
        plan, rtp_to = self._plan, self._latch.destination
        if plan is None or rtp_to is None:
            return []
        destination = self._rtcp_source
        if destination is None:
            destination = (rtp_to[0], rtp_to[1] + 1)
            if plan.remote_rtcp is not None and rtp_to == plan.remote:
                destination = plan.remote_rtcp
        return [SendRtcp(data, destination)]

    def _drop(self, why: str) -> list[MediaOutput]:
        self._counts[why] += 1
        self._dropped += 1
        return []

    def _on_frame(self, due: float, pcm: bytes) -> None:
        if self._recorder is not None:
            self._recorder.sent(due, pcm)

    def _on_audio(self, timestamp: int, pcm: bytes, now: float) -> None:
        source = self._sender.source
        if isinstance(source, Echo):
            source.hear(pcm)
        if self._recorder is not None:
            self._recorder.heard(timestamp, pcm, now)

    def _on_restart(self) -> None:
        if self._recorder is not None:
            self._recorder.restart()
