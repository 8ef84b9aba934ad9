"""A herd that exists in memory alone, and does as the run's commands say: for tests of attempts.

Its time is what the test says; each command is carried out and each event told at a later moment,
in the order of these moments, so that a run of hours takes as long as its decisions do.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from sipherd.load.attempts import AnsweredCall, Attempts, Command, Finished, Started
from sipherd.load.pairing import pairs_of
from sipherd.load.profile import Arrival, Entry, HoldTime, LoadProfile
from sipherd.load.records import CallAttempt
from sipherd.load.schedule import schedule
from sipherd.protocol.events import (
    Answered,
    AnyBody,
    CallEnded,
    CallPlaced,
    CancelResolved,
    EndCause,
    Event,
    IncomingCall,
    PhoneMoved,
    Progress,
    Referred,
    Transferred,
)
from sipherd.protocol.messages import (
    AnswerCall,
    AwaitIncoming,
    CallInfo,
    CallList,
    CancelCall,
    CancelReport,
    HangUpCall,
    ListCalls,
    PhoneInfo,
    PlaceCall,
    RejectCall,
    Result,
    TransferCall,
)
from sipherd.protocol.spec import OnIncoming, PhoneSpec
from sipherd.protocol.states import CallState, PhoneState

#: When runs begin, on the box's clock.
ORIGIN = 1000.0


def phone_info(name: str, number: str, **spec: object) -> PhoneInfo:
    made = msgspec.convert({"name": name, "number": number, "media": "none"} | spec, PhoneSpec)
    return PhoneInfo(
        name=name,
        number=number,
        state=PhoneState.READY,
        activity="idle",
        address="127.0.0.1",
        port=5060,
        spec=made,
    )


def phones(**bob: object) -> list[PhoneInfo]:
    """Two, and a third for transfers; `bob` is the one that is called."""
    return [
        phone_info("alice", "1001"),
        phone_info("bob", "1002", **bob),
        phone_info("carol", "1003"),
    ]


def profile(*mix: Entry, **changes: object) -> LoadProfile:
    """Alice calls bob, once a second for ten seconds; answered calls last 4 s."""
    usual: dict[str, object] = {
        "callers": ("alice",),
        "callees": ("bob",),
        "arrival": Arrival(rate=1.0),
        "duration": 10.0,
        "hold": HoldTime(mean=4.0),
        "mix": mix or (Entry(),),
        "drain": 30.0,
    }
    return LoadProfile(**(usual | changes))  # type: ignore[arg-type]


@dataclass(eq=False)
class MadeLeg:
    """One leg of a call that this herd has."""

    id: str
    phone: str
    direction: Literal["out", "in"]
    sip_call_id: str
    from_uri: str
    started: float
    other: MadeLeg | None = None
    answered: float | None = None
    ended: float | None = None
    cause: EndCause | None = None
    by: Literal["local", "remote", "timeout"] = "local"
    code: int | None = None
    taken: bool = False
    told: list[str] = field(default_factory=list)

    def info(self) -> CallInfo:
        state = CallState.ANSWERED if self.answered is not None else CallState.RINGING
        if self.ended is not None:
            state = CallState.ENDED
        return CallInfo(
            call=self.id,
            phone=self.phone,
            direction=self.direction,
            state=state,
            sip_call_id=self.sip_call_id,
            from_uri=self.from_uri,
            to_uri="sip:1002@127.0.0.1",
            started=self.started,
            answered=self.answered,
            ended=self.ended,
            cause=self.cause,
            by=self.by,
            code=self.code,
        )


class LoadHerd:
    """The herd, its run, and what the run has told.

    Attributes that a test changes: `delays` of kinds of things, in seconds; `b2bua`: the callee's
    leg has a Call-ID of its own; `deaf`: events that are told to nobody; `refuse`: what commands
    are refused, by a function of the command that gives the reason.
    """

    def __init__(
        self, profile: LoadProfile, infos: Sequence[PhoneInfo] = (), *, media: str = ""
    ) -> None:
        self.infos = list(infos) or phones()
        self.now = ORIGIN
        self.reply_delay = 0.001
        self.event_delay = 0.001
        self.incoming_delay = 0.001
        self.b2bua = False
        self.deaf = False
        self.refuse: Callable[[Command], str] = lambda command: ""
        self.commands: list[Command] = []
        self.counts: Counter[str] = Counter()
        self.started: list[CallAttempt] = []
        self.records: list[CallAttempt] = []
        self.keep = True
        self.answered = 0
        self.legs: dict[str, MadeLeg] = {}
        self.dead: set[str] = set()
        self._waiting: dict[str, list[Command]] = {info.name: [] for info in self.infos}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._ids = itertools.count(1)
        self._n = itertools.count(1)
        self.run = Attempts(
            schedule(profile, pairs_of(profile, self.infos)),
            profile,
            self.infos,
            origin=ORIGIN,
            media=media,
        )
        self._collect()

    # -- for tests ---------------------------------------------------------------------------------

    def until(self, t: float = 10_000.0, *, turns: int = 10_000_000) -> None:
        """Go on until `t` seconds of the run, or its end."""
        self._collect()
        for _ in range(turns):
            due = self.run.due()
            mine = self._agenda[0][0] if self._agenda else None
            times = [time for time in (due, mine) if time is not None]
            # What was under way when the run was over arrives all the same.
            if not times or min(times) > ORIGIN + t:
                break
            self.now = max(self.now, min(times))
            if mine is not None and mine <= self.now:
                heapq.heappop(self._agenda)[2]()
            self.run.tick(self.now)
            self._collect()
        else:
            raise AssertionError("the run does not get on")
        if not self.run.is_over:
            self.now = max(self.now, ORIGIN + t)
            self.run.tick(self.now)
            self._collect()

    def sent(self, kind: type) -> list[Command]:
        """Commands of a kind so far."""
        return [command for command in self.commands if isinstance(command.body, kind)]

    def up(self) -> list[MadeLeg]:
        """Legs that are not over."""
        return [leg for leg in self.legs.values() if leg.ended is None]

    def tell(self, phone: str, body: AnyBody, incarnation: int = 1) -> None:
        """An event."""
        event = Event(
            n=next(self._n), t=self.now, at=0.0, phone=phone, incarnation=incarnation, body=body
        )
        if not self.deaf:
            self._later(self.event_delay, lambda: self.run.happened(event, self.now))

    def crash(self, phone: str, *, next_state: PhoneState = PhoneState.BACKOFF) -> None:
        """The phone's process dies, and with it its calls; nobody tells their far ends."""
        self.dead.add(phone)
        for leg in self.up():
            if leg.phone == phone:
                self.end(leg, "phone_crashed", "local", other=False)
        for command in self._waiting[phone]:
            self._refuse(command, "phone_crashed")
        self._waiting[phone].clear()
        self.tell(phone, PhoneMoved(state=next_state, previous=PhoneState.READY))

    def revive(self, phone: str) -> None:
        """Its next process says BYE for the calls of the one before."""
        self.dead.discard(phone)
        self.tell(phone, PhoneMoved(state=PhoneState.READY, previous=PhoneState.STARTING), 2)
        for leg in list(self.legs.values()):
            other = leg.other
            if leg.phone == phone and leg.cause == "phone_crashed" and other is not None:
                self.end(other, "hung_up", "remote", other=False)

    def end(
        self,
        leg: MadeLeg,
        cause: EndCause,
        by: Literal["local", "remote", "timeout"],
        code: int | None = None,
        *,
        other: bool = True,
    ) -> None:
        """A leg ends, and the one at the other end of it."""
        if leg.ended is not None:
            return
        leg.ended, leg.cause, leg.by, leg.code = self.now, cause, by, code
        self.tell(leg.phone, CallEnded(call=leg.id, cause=cause, by=by, code=code))
        if other and leg.other is not None:
            self.end(leg.other, cause, "remote" if by != "remote" else "local", code, other=False)

    # -- what is asked of it -----------------------------------------------------------------------

    def _later(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self.now + delay, next(self._order), action))

    def _collect(self) -> None:
        for output in self.run.take():
            match output:
                case Command():
                    self.counts[type(output.body).__name__] += 1
                    if self.keep:
                        self.commands.append(output)
                    self._carry_out(output)
                case Started(attempt):
                    self.counts["started"] += 1
                    if self.keep:
                        self.started.append(attempt)
                case AnsweredCall():
                    self.answered += 1
                case Finished(attempt):
                    self.counts[attempt.outcome] += 1
                    if self.keep:
                        self.records.append(attempt)

    def _done(self, command: Command, result: Result = None) -> None:
        self._later(self.reply_delay, lambda: self.run.done(command.id, result, self.now))

    def _refuse(self, command: Command, reason: str) -> None:
        self._later(self.reply_delay, lambda: self.run.refused(command.id, reason, "", self.now))

    def _carry_out(self, command: Command) -> None:
        body = command.body
        if reason := self.refuse(command):
            self._refuse(command, reason)
            return
        match body:
            case PlaceCall():
                self._place(command, body)
            case AwaitIncoming(which=(phone,)):
                ready = [leg for leg in self.up() if leg.phone == phone and leg.direction == "in"]
                waiting = next((leg for leg in ready if not leg.taken), None)
                if waiting is not None:
                    waiting.taken = True
                    self._done(command, waiting.info())
                else:
                    self._waiting[phone].append(command)
            case ListCalls(which=()):
                self._done(command, CallList(calls=tuple(leg.info() for leg in self.up())))
            case ListCalls(which=(id,)):
                leg = self.legs.get(id)
                if leg is None:
                    self._refuse(command, "no_such_call")
                else:
                    self._done(command, CallList(calls=(leg.info(),)))
            case _:
                leg = self.legs.get(getattr(body, "call", ""))
                if leg is None:
                    self._refuse(command, "no_such_call")
                elif leg.ended is not None:
                    self._refuse(command, "already_ended")
                else:
                    self._do(command, leg)

    def _place(self, command: Command, body: PlaceCall) -> None:
        if body.phone in self.dead:
            self._refuse(command, "phone_not_ready")
            return
        leg = self._call(body.phone, body.target)
        self._later(
            self.reply_delay,
            lambda: self.run.done(command.id, leg.info(), self.now),
        )
        if body.ring_timeout is not None:
            self._later(
                body.ring_timeout,
                lambda: leg.answered is None and self.end(leg, "no_answer", "timeout"),  # type: ignore[arg-type]
            )

    def _call(self, caller: str, target: str) -> MadeLeg:
        target = next((i.name for i in self.infos if target in (i.name, i.number)), "")
        number = next(info.number for info in self.infos if info.name == caller)
        n = next(self._ids)
        leg = MadeLeg(f"c{n}", caller, "out", f"id-{n}", "", self.now)
        self.legs[leg.id] = leg
        placed = CallPlaced(
            call=leg.id,
            target=target,
            sip_call_id=leg.sip_call_id,
            request_uri=f"sip:{target}@127.0.0.1",
            next_hop=("127.0.0.1", 5060),
        )
        self.tell(caller, placed)
        if target and target not in self.dead:
            self._later(self.incoming_delay, lambda: self._ring(leg, target, number))
        elif not target:
            self._later(0.01, lambda: self._progress(leg))
        return leg

    def _progress(self, leg: MadeLeg) -> None:
        if leg.ended is None:
            self.tell(
                leg.phone, Progress(call=leg.id, code=180, reason="Ringing", early_media=False)
            )

    def _ring(self, leg: MadeLeg, phone: str, number: str) -> None:
        if leg.ended is not None or phone in self.dead:
            return
        call = MadeLeg(
            f"c{next(self._ids)}",
            phone,
            "in",
            f"b2b-{leg.sip_call_id}" if self.b2bua else leg.sip_call_id,
            f"sip:{number}@127.0.0.1",
            self.now,
            leg,
        )
        leg.other = call
        self.legs[call.id] = call
        incoming = IncomingCall(
            call=call.id,
            sip_call_id=call.sip_call_id,
            from_uri=call.from_uri,
            from_display="",
            to_uri=f"sip:{phone}@127.0.0.1",
            request_uri=f"sip:{phone}@127.0.0.1",
            source=("127.0.0.1", 5060),
        )
        self.tell(phone, incoming)
        self._progress(leg)
        behaviour: OnIncoming | None = next(
            info.spec.on_incoming for info in self.infos if info.name == phone
        )
        if behaviour is not None:
            if behaviour.answer_after is not None:
                self._later(behaviour.answer_after, lambda: self._answer(call))
            elif behaviour.reject is not None:
                self.end(call, "rejected", "local", behaviour.reject)
        elif self._waiting[phone]:
            call.taken = True
            self._done(self._waiting[phone].pop(0), call.info())

    def _answer(self, leg: MadeLeg) -> None:
        if leg.ended is not None or leg.answered is not None:
            return
        for side in (leg, leg.other):
            if side is not None:
                side.answered = self.now
                self.tell(
                    side.phone,
                    Answered(call=side.id, code=200, remote_media=None, codec="PCMU"),
                )

    def answer_out(self, leg: MadeLeg) -> None:
        """Somebody else's phone answers."""
        self._answer(leg)

    def _do(self, command: Command, leg: MadeLeg) -> None:
        match command.body:
            case AnswerCall():
                self._answer(leg)
            case RejectCall(code=code):
                self.end(leg, "rejected", "local", code)
            case HangUpCall():
                self.end(leg, "hung_up" if leg.answered is not None else "cancelled", "local")
            case CancelCall():
                outcome: Literal["cancelled", "already_answered"] = (
                    "cancelled" if leg.answered is None else "already_answered"
                )
                self.tell(leg.phone, CancelResolved(call=leg.id, outcome=outcome))
                if outcome == "cancelled":
                    self.end(leg, "cancelled", "local", 487)
                self._done(command, CancelReport(call=leg.id, outcome=outcome))
                return
            case TransferCall(target=target):
                self._transfer(leg, target)
            case _:
                pass
        self._done(command, leg.info())

    def _transfer(self, leg: MadeLeg, target: str) -> None:
        other = leg.other
        if other is not None:
            new = self._call(other.phone, target)
            self.tell(
                other.phone,
                Referred(call=other.id, new_call=new.id, target=target, by="sip:alice"),
            )
        self.tell(leg.phone, Transferred(call=leg.id, target=target))
        self._later(0.05, lambda: self.end(leg, "transferred", "local"))
