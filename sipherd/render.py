"""What people and programs read: a line for an event, a table, a JSON object.

What came from the network (reason phrases, display names, URIs) is shown with its control
characters escaped, so that a peer can't write to the terminal.
"""

from __future__ import annotations

import itertools
import resource
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import click
import msgspec

from .protocol.events import (
    Answered,
    AnyBody,
    AudioOneWay,
    BehaviourEnded,
    BehaviourFailed,
    BehaviourStarted,
    BoxOverloaded,
    BoxRecovered,
    CallCleanedUp,
    CallEnded,
    CallPlaced,
    CancelOutcome,
    CancelResolved,
    CleanUp,
    Confirmed,
    DtmfReceived,
    DtmfSent,
    Event,
    FaultInjected,
    Held,
    HerdDraining,
    HerdReady,
    HerdReloaded,
    HerdStarted,
    HerdStopping,
    IncomingCall,
    LimitReached,
    MediaStats,
    NurseryDied,
    Overflow,
    PhoneAdded,
    PhoneDied,
    PhoneLate,
    PhoneMoved,
    PhoneRemoved,
    PlayEnded,
    PortSkipped,
    Progress,
    RecordEnded,
    Referred,
    Registered,
    RegistrationFailed,
    Retrieved,
    RtpPairSkipped,
    SipTrace,
    TransferFailed,
    Transferred,
    TurnedAway,
    Unregistered,
)
from .protocol.messages import CancelReport, PhoneInfo, StopReport
from .protocol.spec import bracketed
from .protocol.states import PhoneState
from .protocol.text import printable

__all__ = [
    "Severity",
    "as_json",
    "can_show",
    "cancel_outcome",
    "describe",
    "duration",
    "event_line",
    "megabytes",
    "memory",
    "phone_line",
    "registration",
    "say",
    "severity",
    "stop_line",
    "table",
    "why",
]

Severity: TypeAlias = Literal["detail", "normal", "good", "warning", "bad"]

_COLOURS: dict[Severity, str] = {"good": "green", "warning": "yellow", "bad": "red"}

_CLEAN_UP: dict[CleanUp, str] = {
    "bye": "BYE answered",
    "bye_unanswered": "BYE not answered",
    "cancel": "cancelled",
    "cancel_unanswered": "CANCEL without effect",
    "refused": "refused",
    "final": "a final response came",
    "peer": "by the far end",
    "no_response": "nobody answered",
}

_OUTCOMES: dict[CancelOutcome, str] = {
    "already_answered": "already answered: nothing was sent, the call is up",
    "answered_then_ended": "answered while the CANCEL was on its way: acknowledged and hung up",
    "cancelled": "cancelled",
    "already_ended": "ended before the CANCEL had an effect",
    "cancelled_unconfirmed": "cancelled, but the far end never confirmed it",
    "cancelled_no_response": "cancelled, the far end never answered anything",
    "phone_crashed": "the phone crashed meanwhile",
}


def as_json(value: object) -> str:
    """The value as one line of JSON, without the line break."""
    return msgspec.json.encode(value).decode()


def can_show(text: str) -> bool:
    """Whether stdout has all of its characters; a terminal in the C locale has no arrows."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def say(what: object) -> None:
    """One line on stdout at once: text as it is, anything else as JSON."""
    click.echo(what if isinstance(what, str) else as_json(what))


def event_line(event: Event, *, colour: bool = False) -> str:
    """The event in one line: time of day, phone, what happened."""
    at = time.strftime("%H:%M:%S", time.localtime(event.at)) + f".{int(event.at * 1000) % 1000:03}"
    who, what = f"{event.phone or 'herd':10}", printable(describe(event))
    if not colour:
        return f"{at}  {who}  {what}"
    how = severity(event.body)
    what = click.style(what, fg=_COLOURS.get(how), dim=how == "detail")
    return f"{click.style(at, dim=True)}  {click.style(who, bold=True)}  {what}"


def severity(body: AnyBody) -> Severity:
    """How much a happening deserves to be seen."""
    match body:
        case SipTrace() | Confirmed() | PhoneAdded() | PhoneRemoved() | Registered(refresh=True):
            return "detail"
        case HerdReady(not_registered=missing) if missing:
            return "warning"
        case HerdReady() | Answered() | Registered() | Transferred():
            return "good"
        case PhoneMoved(state=state):
            loud: dict[PhoneState, Severity] = {PhoneState.READY: "good", PhoneState.FAILED: "bad"}
            return loud.get(state, "detail")
        case CallCleanedUp(how="bye_unanswered" | "cancel_unanswered"):
            return "warning"
        case (
            PortSkipped()
            | RtpPairSkipped()
            | LimitReached()
            | Overflow()
            | TurnedAway()
            | FaultInjected()
        ):
            return "warning"
        case RegistrationFailed() | TransferFailed() | AudioOneWay() | RecordEnded(why="failed"):
            return "warning"
        case PhoneLate(level="fine") | BoxRecovered():
            return "good"
        case PhoneLate(level="late" | "suspect") | BoxOverloaded():
            return "warning"
        case (
            PhoneLate()
            | PhoneDied()
            | NurseryDied()
            | BehaviourFailed()
            | CallEnded(cause="phone_crashed" | "protocol_error")
        ):
            return "bad"
    return "normal"


def describe(event: Event) -> str:
    """What happened, without time and phone."""
    match event.body:
        case HerdStarted(herd=herd, pid=pid):
            return f"{herd} started, supervisor pid {pid}"
        case HerdReady(phones=phones, seconds=seconds) as ready:
            words = f"{_count(phones, 'phone')} ready in {duration(seconds)}"
            if ready.registered or ready.not_registered:
                words += f", {ready.registered} registered"
            if ready.not_registered:
                words += f", {ready.not_registered} not: see sipherd ps"
            return words
        case HerdReloaded(added=added, removed=removed, changed=changed):
            changes = f"{len(added)} added, {len(removed)} removed, {len(changed)} changed"
            return f"herd file read again: {changes}"
        case HerdDraining(why=why, calls=left):
            return f"draining: {why}; no new calls, {_count(left, 'call')} left"
        case HerdStopping(why=why):
            return f"stopping: {why}"
        case NurseryDied(pid=pid, cause=cause):
            return f"nursery (pid {pid}) died: {cause}; phones go on, a new one is started"
        case PortSkipped(address=address, port=port, why=why):
            return f"port {port} on {address} skipped: {why}"
        case PhoneAdded(number=number, address=address, port=port):
            return f"added: {number} at {bracketed(address)}:{port}"
        case PhoneRemoved():
            return "removed"
        case PhoneMoved(state=PhoneState.READY):
            again = f", incarnation {event.incarnation}" if event.incarnation > 1 else ""
            return f"ready (pid {event.pid}{again})"
        case PhoneMoved(state=state, why=why):
            return f"{state.value}: {why}" if why else state.value
        case PhoneDied() as died:
            calls = f", ended {', '.join(died.calls)}" if died.calls else ""
            next_action = "" if died.next_action in ("", "none") else f"; {died.next_action}"
            after = duration(died.uptime)
            return f"died: {died.cause}, {died.state.value} after {after}{calls}{next_action}"
        case FaultInjected(fault=fault, code=code):
            return f"fault: {fault.replace('_', ' ')}{'' if code is None else f' {code}'}"
        case PhoneLate() as late:
            return _late(late)
        case BoxOverloaded(sign=sign, phones_late=count, supervisor_late=seconds):
            why = (
                f"the supervisor was {duration(seconds)} late"
                if sign == "supervisor_late"
                else f"{_count(count, 'phone')} late at the same time"
            )
            return f"this machine is overloaded: {why}; no phone is taken for hung"
        case BoxRecovered(seconds=seconds):
            return f"this machine is no longer overloaded, after {duration(seconds)}"
        case Registered(registrar=registrar, expires=expires, refresh=refresh):
            again = " again" if refresh else ""
            return f"registered{again} at {registrar} for {duration(expires)}"
        case RegistrationFailed() as failed:
            return _registration_failed(failed)
        case Unregistered(registrar=registrar, confirmed=confirmed):
            unsure = "" if confirmed else ", which did not answer"
            return f"unregistered at {registrar}{unsure}"
        case BehaviourStarted(name=name, pid=pid):
            return f"behaviour {name} runs (pid {pid})"
        case BehaviourEnded(name=name, why=why):
            return f"behaviour {name} {'returned' if why == 'returned' else 'ended with the phone'}"
        case BehaviourFailed(name=name, error=error, is_loaded=is_loaded):
            how = "failed" if is_loaded else "can't be loaded"
            return f"behaviour {name} {how}: {error}"
    return _describe_call(event.body)


def _late(late: PhoneLate) -> str:
    if late.level == "fine":
        return "makes progress again"
    return f"{late.level}: {_overdue(late.stopped, late.seconds)}"


def _overdue(stopped: bool, seconds: float) -> str:
    return f"{'stopped' if stopped else 'no progress'} for {duration(seconds)}"


def _registration_failed(failed: RegistrationFailed) -> str:
    words = f"not registered at {failed.registrar}: "
    if failed.cause == "credentials":
        words += "wrong user name or password"
        words += f" ({failed.code} {failed.reason})" if failed.code is not None else ""
    elif failed.code is not None:
        words += f"{failed.code} {failed.reason}".rstrip()
    else:
        words += failed.cause.replace("_", " ")
    if failed.retry_in is None:
        return words + "; not tried again until told to"
    return words + f"; again in {duration(failed.retry_in)}"


def _describe_call(body: AnyBody) -> str:
    match body:
        case CallPlaced(call=call, target=target, request_uri=uri, next_hop=(host, port)):
            dialled = "" if target == uri else f", {uri}"
            where = f"{bracketed(host)}:{port}"
            hop = "" if uri.partition(";")[0].endswith(f"@{where}") else f", by way of {where}"
            return f"{call} calls {target}{dialled}{hop}"
        case IncomingCall(call=call, from_uri=uri, from_display=display):
            return f"{call} incoming from " + (f'"{display}" {uri}' if display else uri)
        case Progress(call=call, code=code, reason=reason, early_media=early):
            return f"{call} {code} {reason}".rstrip() + (", early media" if early else "")
        case Answered(call=call, codec=codec):
            return f"{call} answered" + (f", {codec}" if codec else "")
        case Confirmed(call=call):
            return f"{call} answer acknowledged"
        case CancelResolved(call=call, outcome=outcome, code=code):
            return f"{call} cancel: {_outcome(outcome, code)}"
        case CallEnded() as ended:
            return f"{ended.call} ended: {_end(ended)}"
        case Held(call=call, by=by):
            return f"{call} on hold, {_side(by)}"
        case Retrieved(call=call, by=by):
            return f"{call} retrieved, {_side(by)}"
        case Referred(call=call, new_call=new_call, target=target, by=uri):
            return f"{call} referred to {target} by {uri}: {new_call}"
        case Transferred(call=call, target=target):
            return f"{call} transferred to {target}"
        case TransferFailed(call=call, target=target, code=code, reason=reason):
            why = f"{code or ''} {reason}".strip() or "no answer"
            return f"{call} not transferred to {target}: {why}"
        case DtmfReceived(call=call, digit=digit, duration_ms=milliseconds, method=method):
            how = "SIP INFO" if method == "info" else f"{milliseconds} ms"
            return f"{call} key {digit} ({how})"
        case DtmfSent(call=call, digits=digits):
            return f"{call} keys sent: {digits}"
        case PlayEnded(call=call, source=source, why=why):
            return f"{call} played {source}: {why.replace('_', ' ')}"
        case RecordEnded(call=call, file=file, seconds=seconds, error=error):
            problem = f": {error}" if error else ""
            return f"{call} recorded {duration(seconds)} to {file}{problem}"
        case AudioOneWay(call=call, seconds=seconds):
            return f"{call} one-way audio: nothing was heard for {duration(seconds)}"
        case Overflow(call=call, waiting=waiting):
            return f"{call} refused, {_count(waiting, 'call')} wait for a client already"
        case CallCleanedUp(sip_call_id=sip_call_id, how=how):
            return f"ended at its far end, too, after the crash ({_CLEAN_UP[how]}): {sip_call_id}"
        case TurnedAway(from_uri=uri, code=code, cause=cause):
            return f"turned away {uri}: {code} ({cause})"
        case LimitReached(limit=limit, ceiling=ceiling, wanted=wanted):
            return f"no {limit} left for {wanted}: the ceiling is {ceiling}"
        case RtpPairSkipped(port=port, why=why):
            return f"RTP port {port} skipped: {why}"
        case SipTrace(first_line=first, peer=(host, port)) as trace:
            way = "from" if trace.direction == "in" else "to"
            tcp = " by TCP" if trace.transport == "tcp" else ""
            about = f" ({trace.cseq})" if first.startswith("SIP/") else ""
            return f"sip {way} {bracketed(host)}:{port}{tcp}: {first}{about}"
    return type(body).__name__  # one that a newer supervisor knows


def _end(ended: CallEnded) -> str:
    words = ended.cause.replace("_", " ")
    # Nobody there is nobody's doing.
    if ended.by == "remote" and ended.cause != "unreachable":
        words += " by the far end"
    if ended.code is not None and ended.code >= 300:
        words += f": {ended.code} {ended.reason}".rstrip()
    if ended.bye_answered is False:
        words += ", its BYE was not answered"
    if ended.media is not None:
        words += f"; {_media(ended.media)}"
    return words


def _media(stats: MediaStats) -> str:
    """`heard 500 of 502 packets, jitter 0.3 ms, MOS 4.4`."""
    words = f"heard {stats.received} of {stats.received + stats.lost} packets"
    if stats.received:
        words += f", jitter {stats.jitter_ms:.1f} ms"
    if stats.mos is not None:
        words += f", MOS {stats.mos:.1f}"
    return words + (", one-way audio" if stats.one_way else "")


def _side(by: str) -> str:
    return "by us" if by == "local" else "by the far end"


def cancel_outcome(report: CancelReport) -> str:
    """The outcome of a cancellation in words."""
    return f"{report.call} {_outcome(report.outcome, report.code)}"


def _outcome(outcome: CancelOutcome, code: int | None) -> str:
    return _OUTCOMES[outcome] + (f" ({code})" if code is not None else "")


def phone_line(phone: PhoneInfo) -> str:
    """A phone after a command that changed it."""
    where = f"{phone.number} at {bracketed(phone.address)}:{phone.port}"
    process = f", pid {phone.pid}" if phone.pid else ""
    reason = f" ({words})" if (words := why(phone)) else ""
    return printable(f"{phone.name} {phone.state.value}{reason}: {where}{process}")


def why(phone: PhoneInfo) -> str:
    """Why a phone does not serve, and when it is started again: `SIGSEGV, again in 400 ms`.

    For one that should, and makes no progress: `late: no progress for 3.2 s`.
    """
    if phone.progress != "fine":
        return f"{phone.progress}: {_overdue(phone.stopped, phone.overdue)}"
    if phone.retry_in is None:
        return phone.why
    return f"{phone.why}, again in {duration(phone.retry_in)}"


def registration(phone: PhoneInfo) -> str:
    """`registered, 48 s left`; `failed: 403 Forbidden`; empty where nothing registers."""
    words: str = phone.registration
    if phone.registration_why:
        words += f": {phone.registration_why}"
    if phone.registration_retry is not None:
        words += f", again in {duration(phone.registration_retry)}"
    elif phone.registration_expires is not None:
        words += f", {duration(phone.registration_expires)} left"
    return words


def stop_line(report: StopReport) -> str:
    """How a phone went."""
    words = {
        "not_running": "was not running",
        "drained": "stopped",
        "terminated": "stopped by SIGTERM, it did not end its calls in time",
        "killed": "killed, it did not heed SIGTERM",
        "died": "died while it stopped",
        "stuck": "still there after SIGKILL: its process hangs in the kernel",
    }[report.how]
    line = f"{report.phone} {words}"
    if report.how != "not_running":
        line += f" ({duration(report.seconds)})"
    if report.unanswered_byes:
        line += f", BYE not answered: {', '.join(report.unanswered_byes)}"
    return line


def duration(seconds: float) -> str:
    """Seconds for people: `35 ms`, `1.2 s`, `3 m 20 s`, `5 h 7 m`, `2 d`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    units = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
    whole = int(seconds)
    for (unit, size), (smaller, small) in itertools.pairwise(units):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    raise AssertionError(seconds)


def memory(pid: int) -> int | None:
    """Resident memory of a process of this machine in bytes; None if it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * resource.getpagesize()


def megabytes(size: int | None) -> str:
    """`7.3 MB` of 1,000,000 bytes each."""
    return "" if size is None else f"{size / 1e6:.1f} MB"


def table(
    heads: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Collection[str] = ()
) -> str:
    """Columns as wide as they need to be, without those that are empty; `right` aligns so."""
    cells = [list(heads), *([printable(str(cell)) for cell in row] for row in rows)]
    columns = [column for column in zip(*cells, strict=True) if any(column[1:]) or not cells[1:]]
    aligned = []
    for head, *rest in columns:
        width = max(len(head), *map(len, rest), 0)
        justify = str.rjust if head in right else str.ljust
        aligned.append([justify(cell, width) for cell in (head, *rest)])
    return "\n".join("  ".join(line).rstrip() for line in zip(*aligned, strict=True))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
