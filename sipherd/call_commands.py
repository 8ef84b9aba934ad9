"""The commands about calls: call, answer, reject, cancel, hangup."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from . import render
from .client import END_TIMEOUT
from .options import SECONDS, CallId, PhoneName, common
from .protocol.errors import CallFailed, CallNotFound, CommandRefused
from .protocol.events import Answered, Event, IncomingCall, flatten
from .protocol.messages import (
    AnswerCall,
    AwaitIncoming,
    CallInfo,
    CancelCall,
    CancelReport,
    HangUpCall,
    ListPhones,
    PhoneList,
    PlaceCall,
    RejectCall,
)
from .protocol.states import CallState
from .protocol.text import printable
from .session import Session

__all__ = ["answer", "call", "cancel", "hangup", "reject"]


@click.command()
@click.argument("phone", type=PhoneName())
@click.argument("target", type=PhoneName())
@click.option("--duration", type=SECONDS, help="Hang up so long after the answer.")
@click.option("--ring-timeout", type=SECONDS, help="Give up after so long without an answer.")
@click.option("--detach", is_flag=True, help="Return at once; the call goes on without us.")
@click.option("--direct", is_flag=True, help="Straight to the herd's phone, not by way of a PBX.")
@common()
def call(
    phone: str,
    target: str,
    duration: float | None,
    ring_timeout: float | None,
    detach: bool,
    direct: bool,
    herd: str,
    runtime_dir: Path | None,
    as_json: bool,
) -> int:
    """Have PHONE call TARGET.

    TARGET is a phone of the herd or a SIP URI; a phone that registers, or has a proxy, dials
    numbers by way of it, also those of others. Shows what happens to the call until it is over;
    Ctrl-C ends it. Exits 0 if it was answered and hung up, else 1 with the SIP code and reason.

    \b
    Examples:
      sipherd call alice bob --duration 5
      sipherd call 1001 sip:service@192.0.2.7:5060
    """
    if duration is not None and detach:
        raise click.UsageError("a detached call has nobody to hang it up: --detach or --duration")
    with Session(herd, runtime_dir) as session:
        session.subscribe_own()
        placed = session.request(
            PlaceCall(
                phone=phone,
                target=target,
                ring_timeout=ring_timeout,
                detached=detach,
                direct=direct,
            ),
            CallInfo,
            awaited=f"{phone} to place the call",
        )
        if detach:
            words = (
                f"{placed.call} calls {placed.target}, end it with: sipherd hangup {placed.call}"
            )
            render.say(placed if as_json else words)
            return 0
        return _stay(session, placed.call, as_json, duration)


@click.command()
@click.argument("which", metavar="[PHONE|CALL]", type=PhoneName(), required=False)
@click.option("--timeout", type=SECONDS, help="Wait so long for a call.")
@click.option("--detach", is_flag=True, help="Return once answered; the call goes on without us.")
@common()
def answer(
    which: str | None,
    timeout: float | None,
    detach: bool,
    herd: str,
    runtime_dir: Path | None,
    as_json: bool,
) -> int:
    """Answer the next incoming call, or a named one.

    Waits for a call of PHONE, or of any phone that does not answer by itself, and stays until it
    is over. Ctrl-C ends it. Each call goes to one waiter only, the one that has waited longest.

    \b
    Examples:
      sipherd answer bob
      sipherd answer c7 --detach
    """
    with Session(herd, runtime_dir) as session:
        session.subscribe_own()
        id = _named_call(session, which)
        if id is None:
            if not as_json:
                render.say(f"waiting for a call of {which or 'any phone'}")
            waiting = AwaitIncoming(which=(which,) if which else ())
            awaited = f"a call of {which or 'any phone'}"
            incoming = session.request(waiting, CallInfo, timeout, awaited)
            id = incoming.call
            if not as_json:
                render.say(printable(f"{id} from {incoming.from_uri} at {incoming.phone}"))
        answered = session.request(AnswerCall(call=id, detached=detach), CallInfo)
        if detach:
            render.say(answered if as_json else f"{id} answered, end it with: sipherd hangup {id}")
            return 0
        return _stay(session, id, as_json, None)


def _named_call(session: Session, which: str | None) -> str | None:
    """The call that `which` names, None if it is a phone: that may be called like a call, too.

    Raises:
        CallNotFound, PhoneNotFound: it is neither.
    """
    if which is not None and re.fullmatch("c[0-9]+", which):
        try:
            return session.call(which).call
        except CallNotFound:
            if not session.has_phone(which):
                raise
    elif which is not None:
        session.request(ListPhones(which=(which,)), PhoneList)
    return None


@click.command()
@click.argument("call", type=CallId())
@click.option(
    "--code", type=click.IntRange(300, 699), default=486, show_default=True, help="SIP status."
)
@click.option("--reason", default="", help="Reason phrase, if not the usual one.")
@common()
def reject(
    call: str, code: int, reason: str, herd: str, runtime_dir: Path | None, as_json: bool
) -> None:
    """Refuse a call that rings at a phone of the herd.

    \b
    Example:
      sipherd reject c7 --code 603
    """
    if not reason.isprintable():
        raise click.UsageError("a reason phrase has no line breaks and no control characters")
    with Session(herd, runtime_dir) as session:
        rejected = session.request(RejectCall(call=call, code=code, reason=reason), CallInfo)
        render.say(rejected if as_json else f"{call} rejected: {code} {reason}".rstrip())


@click.command()
@click.argument("call", type=CallId())
@common()
def cancel(call: str, herd: str, runtime_dir: Path | None, as_json: bool) -> int:
    """Give up a call and say what came of it.

    CALL is one that a phone of the herd placed. Exits 1 if it had been answered already: then
    nothing was sent and it stays up.

    \b
    Example:
      sipherd cancel c7
    """
    with Session(herd, runtime_dir) as session:
        awaited = f"the outcome of cancelling call {call}"
        report = session.request(CancelCall(call=call), CancelReport, END_TIMEOUT, awaited)
    render.say(report if as_json else render.cancel_outcome(report))
    return {"already_answered": 1, "phone_crashed": 4}.get(report.outcome, 0)


@click.command()
@click.argument("call", type=CallId())
@common()
def hangup(call: str, herd: str, runtime_dir: Path | None, as_json: bool) -> None:
    """End a call, whatever its state.

    Returns when it is over.

    \b
    Example:
      sipherd hangup c7
    """
    with Session(herd, runtime_dir) as session:
        session.subscribe(phones=(session.call(call).phone,))
        _hang_up(session, call)
        _show(session.await_end(call), as_json)
        if as_json:
            render.say(session.call(call))


def _hang_up(session: Session, call: str) -> None:
    session.request(HangUpCall(call=call), CallInfo, END_TIMEOUT, f"hanging up call {call}")


def _stay(session: Session, call: str, as_json: bool, duration: float | None) -> int:
    """Show an own call until it is over, and end it after `duration` or at Ctrl-C."""
    try:
        _show(_until_end(session, call, duration), as_json)
    except KeyboardInterrupt:
        # A second Ctrl-C leaves; the supervisor ends what is left of the call.
        with contextlib.suppress(CommandRefused):
            _hang_up(session, call)
        _show(session.await_end(call), as_json)
        return 130
    info = session.call(call)
    if as_json:
        render.say(info)
    if info.answered is not None and info.cause == "hung_up":
        return 0
    failed = CallFailed(call, info.cause or "", info.code, info.reason)
    click.echo(f"sipherd: {printable(str(failed))}", err=True)
    return 4 if info.cause == "phone_crashed" else 1


def _until_end(session: Session, call: str, duration: float | None) -> Iterable[Event]:
    for event in session.call_events(call):
        yield event
        if duration is not None and isinstance(event.body, Answered):
            break
    else:
        return
    yield from session.call_events(call, duration)
    if session.call(call).state is CallState.ENDED:
        return
    with contextlib.suppress(CommandRefused):  # the far end was faster
        _hang_up(session, call)
    yield from session.await_end(call)


def _show(events: Iterable[Event], as_json: bool) -> None:
    colour = sys.stdout.isatty()
    for event in events:
        if as_json:
            render.say(flatten(event))
        elif not isinstance(event.body, IncomingCall):  # whoever answers has been told
            render.say(render.event_line(event, colour=colour))
