"""The commands about phones and the herd: look, start and stop, add and remove."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
import msgspec

from . import render
from .client import STOP_TIMEOUT, start_timeout
from .options import SECONDS, PhoneName, common
from .protocol.errors import CallNotFound, EventsMissed, SupervisorDied, TimedOut
from .protocol.events import HerdStopping, flatten
from .protocol.messages import (
    AddPhones,
    CallInfo,
    CallList,
    GetHerd,
    HerdInfo,
    ListCalls,
    ListPhones,
    PhoneInfo,
    PhoneList,
    RemovePhones,
    ResetPhones,
    RestartPhones,
    StartPhones,
    StopHerd,
    StopPhones,
    StopReport,
    StopReports,
)
from .protocol.spec import OnIncoming, PhoneSpec, RegisterSpec
from .protocol.text import printable
from .session import Session

__all__ = ["add", "events", "ps", "remove", "reset", "restart", "show", "start", "stop"]


# --- look ----------------------------------------------------------------------------------------


@click.command()
@click.option("--calls", "show_calls", is_flag=True, help="The calls that are up, not the phones.")
@common()
def ps(show_calls: bool, herd: str, runtime_dir: Path | None, as_json: bool) -> None:
    """List the phones.

    \b
    Examples:
      sipherd ps
      sipherd ps --calls
    """
    lines: Iterable[object]
    with Session(herd, runtime_dir) as session:
        if show_calls:
            calls = session.request(ListCalls(), CallList).calls
            lines = calls if as_json else [_call_table(calls)]
        else:
            phones = session.request(ListPhones(), PhoneList).phones
            memory = _no_memory if session.is_remote else render.memory
            if as_json:
                lines = [_with_memory(phone, memory) for phone in phones]
            else:
                lines = [_phone_table(phones, memory)]
        for line in lines:
            render.say(line)


_Memory = Callable[[int], int | None]


def _no_memory(pid: int) -> None:
    """For processes of another machine: the number would be somebody else's here."""


def _with_memory(phone: PhoneInfo, memory: _Memory) -> dict[str, Any]:
    """The phone as plain values, with the resident bytes of its process as `memory`."""
    plain: dict[str, Any] = msgspec.to_builtins(phone)
    return plain | {"memory": memory(phone.pid) if phone.pid else None}


def _phone_table(phones: Iterable[PhoneInfo], memory: _Memory) -> str:
    heads = ["NAME", "NUMBER", "STATE", "ACTIVITY", "PORT", "PID", "INCARNATION", "RESTARTS"]
    rows = [
        [
            *(phone.name, phone.number, phone.state.value, phone.activity, phone.port),
            *(phone.pid or "", phone.incarnation, phone.restarts),
            render.megabytes(memory(phone.pid) if phone.pid else None),
            render.registration(phone),
            render.why(phone),
        ]
        for phone in phones
    ]
    numbers = ["PORT", "PID", "INCARNATION", "RESTARTS", "MEMORY"]
    return render.table([*heads, "MEMORY", "REGISTRATION", "WHY"], rows, right=numbers)


def _call_table(calls: Iterable[CallInfo]) -> str:
    rows = [
        (call.call, call.phone, _WAYS[call.direction], call.state.value, _far_end(call))
        for call in calls
    ]
    return render.table(["CALL", "PHONE", "", "STATE", "FAR END"], rows)


_WAYS = {"out": "to", "in": "from"}


def _far_end(call: CallInfo) -> str:
    return call.from_uri if call.direction == "in" else call.to_uri or call.target


@click.command()
@click.argument("what", metavar="[PHONE|CALL]", type=PhoneName(), required=False)
@common()
def show(what: str | None, herd: str, runtime_dir: Path | None, as_json: bool) -> None:
    """Tell all about a phone, a call, or the herd.

    \b
    Examples:
      sipherd show
      sipherd show alice
      sipherd show c7
    """
    with Session(herd, runtime_dir) as session:
        found: dict[str, Any]
        if what is None:
            found = msgspec.to_builtins(session.request(GetHerd(), HerdInfo))
        else:
            found = _phone_or_call(session, what)
        now = session.now()
        everything = session.request(ListCalls(), CallList).calls if found.get("calls") else ()
    if as_json:
        render.say(found)
        return
    for line in _details(found, now):
        render.say(line)
    if calls := [call for call in everything if what is None or call.phone == found["name"]]:
        render.say("\n" + _call_table(calls))


def _phone_or_call(session: Session, what: str) -> dict[str, Any]:
    if re.fullmatch("c[0-9]+", what):
        try:
            call: dict[str, Any] = msgspec.to_builtins(session.call(what))
        except CallNotFound:
            # A phone may have such a name, too; a call is meant where neither is found.
            if not session.has_phone(what):
                raise
        else:
            return call
    (phone,) = session.request(ListPhones(which=(what,)), PhoneList).phones
    return _with_memory(phone, _no_memory if session.is_remote else render.memory)


_DURATIONS = (
    *("uptime", "ring_timeout", "answer_after", "hang_up_after", "expires", "session_expires"),
    *("registration_expires", "registration_retry"),
    *("late", "suspect", "hung", "overdue", "start_timeout"),
)
_MOMENTS = ("started", "answered", "ended")


def _details(values: dict[str, Any], now: float, indent: str = "") -> list[str]:
    """A line for each value that says something; what is nested is indented."""
    lines = []
    width = max((len(key) for key in values), default=0)
    for key, value in values.items():
        if key in ("type", "clock") or value is None or value is False or value in ("", (), {}):
            continue
        name = f"{indent}{key.replace('_', ' ').ljust(width)}"
        if isinstance(value, dict):
            # What a phone is beside what it was asked to be is said once.
            news = {k: v for k, v in value.items() if key != "spec" or values.get(k) != v}
            lines += [name.rstrip(), *_details(news, now, indent + "  ")]
        else:
            lines.append(f"{name}  {printable(_words(key, value, now))}")
    return lines


def _words(key: str, value: Any, now: float) -> str:
    if key == "memory":
        return render.megabytes(value)
    if key in _DURATIONS:
        return render.duration(value)
    if key in _MOMENTS:
        return f"{render.duration(now - value)} ago"
    match value:
        case bool():
            return "yes"
        case float():
            return f"{value:g}"
        case tuple():
            return ", ".join(map(str, value))
    return str(value)


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens from now on.")
@click.option("--phone", "phones", type=PhoneName(), multiple=True, help="Of this phone alone.")
@common()
def events(
    follow: bool, phones: tuple[str, ...], herd: str, runtime_dir: Path | None, as_json: bool
) -> None:
    """Show what happened, a line for each event.

    The last 10,000 are remembered. Ctrl-C ends --follow. Watching takes nothing from anybody.

    \b
    Examples:
      sipherd events --follow
      sipherd events --phone alice --json
    """
    colour = sys.stdout.isatty()
    stopping = False
    with Session(herd, runtime_dir) as session:
        snapshot = session.subscribe(after=0, phones=phones if follow else ())
        # Without --follow the filter is ours, so that the newest event is one that comes.
        names = {phone.name for phone in snapshot.phones if {phone.name, phone.number} & {*phones}}
        if phones and not follow:
            session.request(ListPhones(which=phones), PhoneList)  # PhoneNotFound
        while follow or snapshot.n:
            try:
                entry = session.next_event()
            except SupervisorDied:
                if stopping:
                    return
                raise
            if isinstance(entry, EventsMissed):
                click.echo(f"sipherd: {_missed(entry)}", err=True)
                continue
            if entry is None:
                continue
            stopping = stopping or isinstance(entry.body, HerdStopping)
            if follow or not phones or entry.phone in names:
                render.say(flatten(entry) if as_json else render.event_line(entry, colour=colour))
            if not follow and entry.n >= snapshot.n:
                return


def _missed(missed: EventsMissed) -> str:
    if missed.first == 1:
        return f"events 1 to {missed.last} are too old to be remembered"
    return str(missed)


# --- life ----------------------------------------------------------------------------------------


def _start_stopped(
    command: type[StartPhones | RestartPhones | ResetPhones],
    which: tuple[str, ...],
    herd: str,
    runtime_dir: Path | None,
    as_json: bool,
    stop_first: bool = False,
) -> None:
    with Session(herd, runtime_dir) as session:
        count = len(session.request(ListPhones(which=which), PhoneList).phones)
        timeout = start_timeout(count) + (STOP_TIMEOUT if stop_first else 0.0)
        phones = session.request(command(which=which), PhoneList, timeout, "the phones").phones
    for phone in phones:
        render.say(phone if as_json else render.phone_line(phone))


@click.command()
@click.argument("phones", nargs=-1, type=PhoneName())
@common()
def start(phones: tuple[str, ...], herd: str, runtime_dir: Path | None, as_json: bool) -> None:
    """Start stopped or failed phones.

    Each gets its old port. All are started if none is named.

    \b
    Example:
      sipherd start 1001
    """
    _start_stopped(StartPhones, phones, herd, runtime_dir, as_json)


@click.command()
@click.argument("phones", nargs=-1, type=PhoneName())
@common()
def restart(phones: tuple[str, ...], herd: str, runtime_dir: Path | None, as_json: bool) -> None:
    """Stop phones and start them again.

    On their old ports; also brings back a phone that failed. All if none is named.

    \b
    Example:
      sipherd restart alice bob
    """
    _start_stopped(RestartPhones, phones, herd, runtime_dir, as_json, stop_first=True)


@click.command()
@click.argument("phones", nargs=-1, type=PhoneName())
@common()
def reset(phones: tuple[str, ...], herd: str, runtime_dir: Path | None, as_json: bool) -> None:
    """Make failed phones stopped ones, start waiting ones.

    Those that wait to be restarted do so now. Why they failed, and how often, is forgotten. All if
    none is named.

    \b
    Example:
      sipherd reset alice
    """
    _start_stopped(ResetPhones, phones, herd, runtime_dir, as_json)


@click.command()
@click.argument("phones", nargs=-1, type=PhoneName())
@click.option("--now", is_flag=True, help="Say goodbye once and don't wait for the answers.")
@click.option("--drain", is_flag=True, help="Let the herd's calls end by themselves first.")
@common()
def stop(
    phones: tuple[str, ...],
    now: bool,
    drain: bool,
    herd: str,
    runtime_dir: Path | None,
    as_json: bool,
) -> int:
    """Stop phones, or the whole herd if none is named.

    They hang up and exit, and their ports are free: then it returns, after some 10 s at most. A
    stopped phone keeps its port number. With --drain nobody hangs up: new calls are refused with
    503, and the herd stops when the last one is over, however long that takes.

    \b
    Examples:
      sipherd stop
      sipherd stop --drain
      sipherd stop alice --now
    """
    if drain and (phones or now):
        raise click.UsageError("--drain is for the whole herd, and waits: no PHONE, no --now")
    with Session(herd, runtime_dir) as session:
        if phones:
            body = StopPhones(which=phones, now=now)
            stopped = session.request(body, StopReports, STOP_TIMEOUT, "the end of the phones")
        else:
            everything = StopHerd(now=now, drain=drain)
            timeout = None if drain else STOP_TIMEOUT
            stopped = session.request(everything, StopReports, timeout, "the herd's end")
            if not session.wait_gone(STOP_TIMEOUT):
                pid = session.supervisor_pid
                raise TimedOut(f"the end of the supervisor (pid {pid})", STOP_TIMEOUT)
    return _tell_stopped(
        stopped.reports, as_json, "" if phones else f"herd {session.herd} stopped: "
    )


def _tell_stopped(reports: tuple[StopReport, ...], as_json: bool, intro: str = "") -> int:
    if as_json:
        for report in reports:
            render.say(report)
    else:
        for report in reports:
            if report.how not in ("drained", "not_running") or report.unanswered_byes:
                click.echo(render.stop_line(report), err=True)
        if len(reports) == 1 and not intro:
            if reports[0].how in ("drained", "not_running") and not reports[0].unanswered_byes:
                render.say(render.stop_line(reports[0]))
        else:
            slowest = max((report.seconds for report in reports), default=0.0)
            s = "" if len(reports) == 1 else "s"
            render.say(f"{intro}{len(reports)} phone{s} stopped in {render.duration(slowest)}")
    return 4 if any(report.how == "stuck" for report in reports) else 0


# --- come and go ---------------------------------------------------------------------------------


@click.command()
@click.argument("name")
@click.option("--number", help="User part of its SIP address; the name if not given.")
@click.option("--display-name", help="The text beside its address in From.")
@click.option("--address", help="Local address of its sockets.")
@click.option("--advertise", metavar="HOST[:PORT]", help="What others are shown instead, for NAT.")
@click.option("--port", type=int, help="SIP port, 0 for any free one; else the herd's next.")
@click.option("--answer-after", type=SECONDS, help="Answer by itself, so long after the INVITE.")
@click.option("--hang-up-after", type=SECONDS, help="Hang up so long after that answer.")
@click.option("--reject", type=int, metavar="CODE", help="Refuse every call with this SIP status.")
@click.option("--ring", is_flag=True, help="Ring and do nothing else.")
@click.option("--media", type=click.Choice(["audio", "none"]), help="none: signalling only.")
@click.option("--max-calls", type=int, help="Calls at once; above it 486.")
@click.option("--ring-timeout", type=SECONDS, help="End a call that nobody answers.")
@click.option("--queue", type=int, help="Incoming calls that may wait for a client.")
@click.option("--match-user", is_flag=True, help="404 to calls for another user part.")
@click.option("--trace", is_flag=True, help="An event for every SIP message.")
@click.option("--codecs", help="What it speaks, best first, such as PCMA,PCMU.")
@click.option("--dtmf", type=click.Choice(["rfc4733", "info"]), help="How it sends keys.")
@click.option("--transport", type=click.Choice(["udp", "tcp"]), help="What its requests go by.")
@click.option("--proxy", metavar="HOST[:PORT]", help="Where its calls go first.")
@click.option("--register", metavar="HOST[:PORT]", help="Register there.")
@click.option("--domain", help="Right of the @ in its address; the registrar's host if not given.")
@click.option("--username", help="To register as; the number if not given.")
@click.option(
    "--password",
    envvar="SIPHERD_PASSWORD",
    help="For the digest. Better set SIPHERD_PASSWORD: everybody can see arguments.",
)
@click.option("--expires", type=SECONDS, help="How long a registration is to last.")
@common()
def add(
    name: str,
    answer_after: float | None,
    hang_up_after: float | None,
    reject: int | None,
    ring: bool,
    codecs: str | None,
    register: str | None,
    domain: str | None,
    username: str | None,
    password: str | None,
    expires: float | None,
    herd: str,
    runtime_dir: Path | None,
    as_json: bool,
    **keys: Any,
) -> None:
    """Create the phone NAME and start it. The options are the keys of a herd file.

    \b
    Examples:
      sipherd add carol --number 1003
      sipherd add busy --reject 486 --media none
      SIPHERD_PASSWORD=secret sipherd add dora --number 1004 --register pbx.lab
    """
    registration = {
        "domain": domain,
        "username": username,
        "password": password if register is not None else None,
        "expires": expires,
    }
    registration = {key: value for key, value in registration.items() if value is not None}
    if register is None and registration:
        raise click.UsageError(f"--{next(iter(registration))} is about a registration: --register")
    try:
        on_incoming = None
        if ring or not all(key is None for key in (answer_after, reject, hang_up_after)):
            on_incoming = OnIncoming(
                answer_after=answer_after, reject=reject, ring=ring, hang_up_after=hang_up_after
            )
        given = {key: value for key, value in keys.items() if value not in (None, False)}
        if register is not None:
            given["register"] = msgspec.convert({"server": register} | registration, RegisterSpec)
        if codecs is not None:
            given["codecs"] = tuple(codecs.upper().replace(",", " ").split())
        spec = PhoneSpec(name=name, on_incoming=on_incoming, **given)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    with Session(herd, runtime_dir) as session:
        awaited = f"phone {name} to start"
        added = session.request(AddPhones(specs=(spec,)), PhoneList, start_timeout(1), awaited)
    for phone in added.phones:
        render.say(phone if as_json else render.phone_line(phone))


@click.command()
@click.argument("phones", nargs=-1, required=True, type=PhoneName())
@common()
def remove(phones: tuple[str, ...], herd: str, runtime_dir: Path | None, as_json: bool) -> int:
    """Stop phones, forget them and free their ports.

    \b
    Example:
      sipherd remove carol
    """
    with Session(herd, runtime_dir) as session:
        body = RemovePhones(which=phones)
        removed = session.request(body, StopReports, STOP_TIMEOUT, "the end of the phones")
    return _tell_stopped(removed.reports, as_json)
