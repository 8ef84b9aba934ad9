"""One leg of a run's call, as far as the herd has told of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..protocol.events import (
    Answered,
    AnyBody,
    CallEnded,
    CallPlaced,
    Event,
    IncomingCall,
    Progress,
)
from ..protocol.messages import CallInfo
from ..protocol.states import CallState

__all__ = ["Leg", "missed_of"]


@dataclass(slots=True, eq=False)
class Leg:
    """What is known of it; all times are those of the box's monotonic clock."""

    call: str
    """Its id in the herd."""
    phone: str
    incarnation: int = 0
    sip_call_id: str = ""
    from_uri: str = ""
    to_uri: str = ""
    began: float | None = None
    """Its INVITE was sent, or came."""
    rang: float | None = None
    """The first provisional response other than 100 came."""
    answered: float | None = None
    ended: float | None = None
    end: CallEnded | None = None
    """None with `ended`: nobody knows any more how it ended."""
    told_to_end: bool = False
    heard: list[Event] = field(default_factory=list)
    """What its record is made of."""

    @property
    def is_over(self) -> bool:
        """Nothing is heard of it any more."""
        return self.ended is not None

    @property
    def crashed(self) -> bool:
        """Its phone's process died."""
        return self.end is not None and self.end.cause == "phone_crashed"

    def apply(self, body: AnyBody, t: float) -> None:
        """Something happened to it."""
        match body:
            case CallPlaced():
                self.sip_call_id, self.to_uri = body.sip_call_id, body.request_uri
                self.began = t
            case IncomingCall():
                self.sip_call_id, self.to_uri = body.sip_call_id, body.to_uri
                self.from_uri = body.from_uri
                self.began = t
            case Progress():
                if self.rang is None:
                    self.rang = t
            case Answered():
                if self.answered is not None:
                    return  # a late offer: its codec is known now
                self.answered = t
            case CallEnded():
                self.ended, self.end = t, body
            case _:
                return
        self.heard.append(Event(n=0, t=t, at=0.0, body=body))


def missed_of(leg: Leg, info: CallInfo) -> list[tuple[AnyBody, float]]:
    """What must have happened to `leg`, given how it is now, and was not heard of; with times."""
    happened: list[tuple[AnyBody, float]] = []
    if leg.began is None and info.direction == "out" and info.sip_call_id:
        placed = CallPlaced(
            call=leg.call,
            target=info.target,
            sip_call_id=info.sip_call_id,
            request_uri=info.to_uri,
            next_hop=("", 0),
        )
        happened.append((placed, info.started))
    if leg.rang is None and info.state is CallState.RINGING and info.direction == "out":
        code = info.code if info.code is not None and info.code < 200 else 180
        progress = Progress(call=leg.call, code=code, reason=info.reason, early_media=False)
        happened.append((progress, info.started))
    if leg.answered is None and info.answered is not None:
        answered = Answered(
            call=leg.call,
            code=info.code if info.code is not None and 200 <= info.code < 300 else 200,
            remote_media=None,
            codec=info.codec,
            rtp_port=info.rtp_port,
        )
        happened.append((answered, info.answered))
    if not leg.is_over and info.state is CallState.ENDED and info.cause is not None:
        ended = CallEnded(
            call=leg.call,
            cause=info.cause,
            by="remote" if info.by == "remote" else "timeout" if info.by == "timeout" else "local",
            code=info.code,
            reason=info.reason,
            bye_answered=info.bye_answered,
            media=info.media,
        )
        happened.append((ended, info.started if info.ended is None else info.ended))
    return happened
