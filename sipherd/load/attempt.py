"""One attempt of a run: its legs, what is to be done to them and when, and its record.

Without socket, clock or thread: a `Desk` takes its commands and wakes it up.  Its legs are the
caller's, the callee's, and after a transfer the callee's new one and that of the target.

In a call the steps follow each other: each at its time, and not before the one before it has been
carried out.  So a hold that takes its time makes the call longer, and never overtakes itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ..protocol.events import (
    Answered,
    AnyBody,
    CallEnded,
    CallPlaced,
    CancelResolved,
    Progress,
    Referred,
    TransferFailed,
)
from ..protocol.messages import (
    AnswerCall,
    CallInfo,
    CancelCall,
    ClientRequest,
    HangUpCall,
    HoldCall,
    PlaceCall,
    PlayAudio,
    RejectCall,
    Result,
    RetrieveCall,
    SendDtmf,
    TransferCall,
)
from .arriving import Arrival, Expected
from .desk import Desk, Done, Refused, Timer
from .legs import Leg
from .records import Outcome
from .schedule import PlannedCall

__all__ = ["CERTAIN_END", "LINGER", "Attempt"]

LINGER = 2.0
"""Seconds that the other legs get to end by themselves once the caller's has."""
RETRY = 0.2
"""Seconds until a command is sent again that came too fast."""
CERTAIN_END = 40.0
"""Seconds within which a call ends that was told to: 64·T1, and some for the way."""
CODE_BUSY = 486
_REPEATABLE = AnswerCall | RejectCall | CancelCall | HangUpCall
"""Commands that do no harm if the first one was carried out, too."""


class Attempt:
    """One planned call, from the moment it is placed."""

    def __init__(self, planned: PlannedCall, desk: Desk) -> None:
        self.planned = planned
        self.entry = planned.entry
        self.caller: Leg | None = None
        self.callee: Leg | None = None
        self.referred: Leg | None = None
        """The callee's new leg after a transfer."""
        self.target: Leg | None = None
        """That of the phone it was transferred to."""
        self.expected: list[Expected[Attempt]] = []
        self.callee_crashed = False
        self.is_over = False
        self._desk = desk
        self.refused: tuple[Outcome, str] | None = None
        """Its PlaceCall was not carried out: what that makes of it, and why."""
        self.trouble = ""
        """What went wrong within the call."""
        self.cut_short = False
        """The run ended it before its time."""
        self._stopping = False
        self._steps: deque[tuple[float, ClientRequest]] = deque()
        """What the caller is to do in the call, and when."""
        self._timers: list[Timer] = []
        self._cancelling = False

    # -- what the run wants ------------------------------------------------------------------------

    def place(self) -> None:
        """Begin."""
        callee = self.planned.callee.phone
        if callee:
            self._desk.expect(self, callee, self._desk.user(self.planned.caller))
        self._ask_to_place()

    def _ask_to_place(self) -> None:
        planned, entry = self.planned, self.entry
        ring = entry.after if entry.kind == "no_answer" else None
        body = PlaceCall(
            phone=planned.caller,
            target=planned.callee.target,
            ring_timeout=None if ring is None else max(ring, 0.001),
            messages=True,
        )
        self._desk.placing(planned.caller, 1)
        self._desk.ask(body, self._placed, self._not_placed, 10.0)

    def stop(self) -> None:
        """End what is up, for the run ends."""
        self._stopping = True
        caller = self.caller
        if caller is None or (not caller.is_over and not caller.told_to_end):
            self.cut_short = True
        for leg in self.legs:
            self.hang_up(leg)

    def give_up(self) -> None:
        """Be over, whatever becomes of its legs."""
        if not self.is_over:
            self.cut_short = self.cut_short or self.caller is None or not self.caller.is_over
            self._finish()

    @property
    def legs(self) -> list[Leg]:
        """All that there are."""
        return [
            leg for leg in (self.caller, self.callee, self.referred, self.target) if leg is not None
        ]

    # -- placing -----------------------------------------------------------------------------------

    def _placed(self, result: Result) -> None:
        assert isinstance(result, CallInfo)
        if self.is_over:  # given up meanwhile
            self._desk.placing(self.planned.caller, -1)
            self._desk.ask(HangUpCall(call=result.call), _ignore, _ignore_refusal)
            return
        self.caller = Leg(result.call, self.planned.caller)
        self._desk.follow(self.caller, self)
        self._desk.placing(self.planned.caller, -1)
        if self.caller.began is None and result.sip_call_id:
            placed = CallPlaced(
                call=result.call,
                target=result.target,
                sip_call_id=result.sip_call_id,
                request_uri=result.to_uri,
                next_hop=("", 0),
            )
            self.happened(self.caller, placed, result.started, 0)
        if self._stopping:
            self.hang_up(self.caller)

    def _not_placed(self, reason: str, message: str) -> None:
        del message
        self._desk.placing(self.planned.caller, -1)
        if self.is_over:
            return
        if reason == "too_fast" and not self._stopping:
            # Its intended time stays as it is: this makes it late, and is seen.
            self._at(self._desk.now + RETRY, self._place_again)
            return
        crashed = reason in ("phone_crashed", "phone_stopped")
        self.refused = ("crashed" if crashed else "refused", reason)
        self._desk.settled(self)
        self._finish()

    def _place_again(self) -> None:
        if self._stopping:
            self.give_up()
        else:
            self._ask_to_place()

    # -- what happens to its legs ------------------------------------------------------------------

    def happened(self, leg: Leg, body: AnyBody, t: float, incarnation: int) -> None:
        """An event of one of its legs."""
        if leg.is_over:
            return
        first = leg.answered is None
        known = leg.began is not None
        leg.apply(body, t)
        leg.incarnation = leg.incarnation or incarnation
        if isinstance(body, Answered) and first:
            self._play(leg)
        if leg is self.caller:
            match body:
                case CallPlaced() if not known:
                    self._desk.started(self)
                    callee = self.planned.callee.phone
                    if not callee:  # by whatever way, it may reach a phone of ours
                        self._desk.expect(self, "", "")
                    self._desk.know(self, callee, body.sip_call_id)
                case Progress():
                    self._caller_rings(t)
                case Answered() if first:
                    self._desk.answered()
                    self._caller_answered(t)
                case CancelResolved(outcome="already_answered"):
                    leg.told_to_end = False
                    self.hang_up(leg)
                case TransferFailed():
                    self._in_trouble("transfer_failed")
                case CallEnded():
                    self._caller_over(t)
        elif leg is self.callee:
            match body:
                case Answered() if first and self.entry.kind == "callee_hangs_up":
                    self._at(t + self.planned.hold, lambda: self.hang_up(leg))
                case Referred():
                    self._follow_referred(leg, body)
                case CallEnded():
                    self.callee_crashed = self.callee_crashed or leg.crashed
        elif leg is self.referred:
            match body:
                case CallPlaced() if not known:
                    phone = self._desk.phone_of(self.entry.to)
                    if phone:
                        self._desk.know(self, phone, body.sip_call_id)
                case Answered() if first:
                    self._at(max(self._hold_end(), t), lambda: self.hang_up(leg))
        elif leg is self.target and isinstance(body, Answered) and first and not self.referred:
            # Somebody else's phone was transferred, and nobody else tells it to hang up.
            self._at(max(self._hold_end(), t), lambda: self.hang_up(leg))
        self._look_if_over()

    def arrived(self, arrival: Arrival, expected: Expected[Attempt]) -> bool:
        """A call at a phone of the herd is one of its legs; False: it has a better one already."""
        leg = Leg(arrival.call, arrival.phone, arrival.incarnation)
        leg.sip_call_id = arrival.sip_call_id
        leg.from_uri, leg.to_uri, leg.began = arrival.from_uri, arrival.to_uri, arrival.t
        as_target = expected is not self.expected[0]
        old = self.target if as_target else self.callee
        exact = arrival.sip_call_id == expected.sip_call_id
        if old is not None and not old.is_over and not exact:
            return False
        if as_target:
            self.target = leg
        else:
            self.callee = leg
            # The next process of its phone has found it again: nothing is lost yet.
            self.callee_crashed = False
        self._desk.follow(leg, self)
        if leg.is_over or self.is_over:
            return True
        if self._stopping or (self.caller is not None and self.caller.is_over and not as_target):
            self.hang_up(leg)
        elif as_target:
            self._command(leg, AnswerCall(call=leg.call))
        else:
            self._callee_rings(leg)
        return True

    # -- ringing -----------------------------------------------------------------------------------

    def _callee_rings(self, leg: Leg) -> None:
        entry = self.entry
        began = self._desk.now if leg.began is None else leg.began
        at = began + (entry.after or 0.0)
        match entry.kind:
            case "busy":
                self._at(at, lambda: self._command(leg, RejectCall(call=leg.call, code=CODE_BUSY)))
            case "no_answer" | "cancel":
                pass  # it is the caller's to end it
            case _:
                self._at(at, lambda: self._answer(leg))

    def _answer(self, leg: Leg) -> None:
        if leg.answered is None:  # it may have done so by itself
            self._command(leg, AnswerCall(call=leg.call))

    def _caller_rings(self, t: float) -> None:
        if self.entry.kind == "cancel" and not self._cancelling and not self._stopping:
            self._cancelling = True
            self._at(t + (self.entry.after or 0.0), self._cancel)

    def _cancel(self) -> None:
        caller = self.caller
        if caller is not None and not caller.is_over and caller.answered is None:
            caller.told_to_end = True
            self._command(caller, CancelCall(call=caller.call))
            self._watch(caller)

    # -- up ----------------------------------------------------------------------------------------

    def _hold_end(self) -> float:
        answered = self.caller.answered if self.caller is not None else None
        return (self._desk.now if answered is None else answered) + self.planned.hold

    def _caller_answered(self, t: float) -> None:
        caller, hold, entry = self.caller, self.planned.hold, self.entry
        assert caller is not None
        call = caller.call
        match entry.kind:
            case "answer":
                pass
            case "callee_hangs_up":
                return
            case "hold_retrieve":
                on_hold = hold / 2 if entry.on_hold is None else entry.on_hold
                begin = t + max(0.0, (hold - on_hold) / 2)
                self._steps.append((begin, HoldCall(call=call)))
                self._steps.append((begin + on_hold, RetrieveCall(call=call)))
            case "dtmf":
                self._steps.append((t + hold / 4, SendDtmf(call=call, digits=entry.digits)))
            case "transfer":
                self._at(t + hold / 2, self._transfer)
                return
            case _:  # it was not to be answered; where our CANCEL was late this is none the worse
                self.hang_up(caller)
                return
        self._steps.append((t + hold, HangUpCall(call=call)))
        self._next_step()

    def _next_step(self) -> None:
        if self._steps:
            self._at(max(self._steps[0][0], self._desk.now), self._take_step)

    def _take_step(self) -> None:
        caller = self.caller
        if caller is None or caller.is_over or not self._steps:
            return
        _, body = self._steps.popleft()
        if isinstance(body, HangUpCall):
            self.hang_up(caller)
            return
        name = "hold" if isinstance(body, HoldCall | RetrieveCall) else "dtmf"

        def refused(reason: str, message: str) -> None:
            del reason, message
            self._in_trouble(f"{name}_failed")
            self._next_step()

        self._command(caller, body, lambda _: self._next_step(), refused)

    def _transfer(self) -> None:
        caller = self.caller
        if caller is None or caller.is_over or caller.told_to_end:
            return
        phone = self._desk.phone_of(self.entry.to)
        if phone:
            ours = self.planned.callee.phone
            user = self._desk.user(ours or self.planned.callee.target)
            self._desk.expect(self, phone, user if ours else "", known=bool(ours))
        # What it came to is told by Transferred and CallEnded, or by TransferFailed.
        self._command(
            caller,
            TransferCall(call=caller.call, target=self.entry.to),
            _ignore,
            lambda reason, message: self._in_trouble("transfer_failed"),
        )
        # Where neither comes it is no transfer.
        self._at(max(self._hold_end(), self._desk.now + CERTAIN_END), lambda: self.hang_up(caller))

    def _follow_referred(self, leg: Leg, body: Referred) -> None:
        self.referred = Leg(body.new_call, leg.phone, leg.incarnation)
        self._desk.follow(self.referred, self)

    def _in_trouble(self, what: str) -> None:
        self.trouble = self.trouble or what
        caller = self.caller
        if what == "transfer_failed" and caller is not None and not caller.is_over:
            self._at(max(self._hold_end(), self._desk.now), lambda: self.hang_up(caller))

    def _play(self, leg: Leg) -> None:
        play = self._desk.plays(leg.phone)
        if play is not None:
            body = PlayAudio(call=leg.call, source=play.source, loop=play.loop)
            self._command(leg, body, _ignore, _ignore_refusal)

    # -- its end -----------------------------------------------------------------------------------

    def hang_up(self, leg: Leg) -> None:
        """End a leg, whatever it is doing."""
        if leg.is_over or leg.told_to_end:
            return
        leg.told_to_end = True
        self._command(leg, HangUpCall(call=leg.call))
        self._watch(leg)

    def _watch(self, leg: Leg) -> None:
        """It is to end; ask about it where that is not heard of."""
        self._at(self._desk.now + CERTAIN_END, lambda: self._ask_about(leg))

    def _ask_about(self, leg: Leg) -> None:
        if not leg.is_over:
            self._desk.look(leg)
            # It may have been up after all, if the outcome of a CANCEL was not heard of.
            leg.told_to_end = False
            self.hang_up(leg)

    def lose(self, leg: Leg) -> None:
        """The herd has forgotten the leg, and with it how it ended."""
        if leg.is_over:
            return
        leg.ended = self._desk.now
        if leg is self.caller:
            self._caller_over(self._desk.now)
        self._look_if_over()

    def _caller_over(self, t: float) -> None:
        self._steps.clear()
        self._desk.settled(self)
        # After a transfer the others have something to talk about.
        ending = self.caller.end.cause if self.caller and self.caller.end else ""
        last = max(t, self._hold_end()) if ending == "transferred" else t
        self._at(max(last, self._desk.now) + LINGER, self._end_the_others)

    def _end_the_others(self) -> None:
        for leg in self.legs:
            self.hang_up(leg)

    def _look_if_over(self) -> None:
        if self.is_over or self.caller is None or not self.caller.is_over:
            return
        if all(leg.is_over for leg in self.legs):
            self._finish()

    def _finish(self) -> None:
        self.is_over = True
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._steps.clear()
        self._desk.finished(self)

    def _at(self, time: float, action: Callable[[], None]) -> None:
        if self.is_over:
            return
        if len(self._timers) > 16:
            self._timers = [timer for timer in self._timers if timer.action is not None]
        self._timers.append(self._desk.at(time, action))

    def _command(
        self,
        leg: Leg,
        body: ClientRequest,
        done: Done | None = None,
        refused: Refused | None = None,
    ) -> None:
        """Do something to a leg; without `refused` it is found out what is the matter with it."""
        if leg.is_over:
            return

        def on_refused(reason: str, message: str) -> None:
            if self.is_over or leg.is_over:
                return
            if reason == "too_fast" or (reason == "expired" and isinstance(body, _REPEATABLE)):
                again = self._desk.now + RETRY
                self._at(again, lambda: self._command(leg, body, done, refused))
            elif refused is not None:
                refused(reason, message)
            elif reason == "no_such_call":
                self.lose(leg)
            elif reason != "phone_crashed":  # that is told by an event
                self._at(self._desk.now + 1.0, lambda: self._desk.look(leg))

        self._desk.ask(body, done or _ignore, on_refused)


def _ignore(result: Result) -> None:
    del result


def _ignore_refusal(reason: str, message: str) -> None:
    del reason, message
