"""The commands within a call: hold, retrieve, transfer, dtmf, play, record."""

from __future__ import annotations

from pathlib import Path

import click

from . import render
from .calls import audio_source
from .client import END_TIMEOUT, REPLY_TIMEOUT
from .options import CallId, PhoneName, common
from .protocol.messages import (
    CallInfo,
    ClientRequest,
    HoldCall,
    PlayAudio,
    RecordAudio,
    RetrieveCall,
    SendDtmf,
    StopAudio,
    StopRecording,
    TransferCall,
)
from .protocol.text import printable
from .session import Session

__all__ = ["dtmf", "hold", "play", "record", "retrieve", "transfer"]


def _do(
    herd: str,
    runtime_dir: Path | None,
    body: ClientRequest,
    said: str,
    as_json: bool,
    *,
    timeout: float = REPLY_TIMEOUT,
    awaited: str = "",
) -> None:
    """Carry out one command about a call and say so."""
    with Session(herd, runtime_dir) as session:
        info = session.request(body, CallInfo, timeout, awaited)
    render.say(info if as_json else printable(said))


@click.command()
@click.argument("call", type=CallId())
@common()
def hold(call: str, herd: str, runtime_dir: Path | None, as_json: bool) -> None:
    """Put a call on hold.

    Returns when the far end has accepted it.

    \b
    Example:
      sipherd hold c7
    """
    awaited = f"call {call} to be held"
    body = HoldCall(call=call)
    _do(herd, runtime_dir, body, f"{call} on hold", as_json, timeout=END_TIMEOUT, awaited=awaited)


@click.command()
@click.argument("call", type=CallId())
@common()
def retrieve(call: str, herd: str, runtime_dir: Path | None, as_json: bool) -> None:
    """Take a call off hold.

    Returns when the far end has accepted it.

    \b
    Example:
      sipherd retrieve c7
    """
    awaited = f"call {call} to be retrieved"
    body = RetrieveCall(call=call)
    _do(herd, runtime_dir, body, f"{call} retrieved", as_json, timeout=END_TIMEOUT, awaited=awaited)


@click.command()
@click.argument("call", type=CallId())
@click.argument("target", type=PhoneName(), required=False)
@click.option("--to-call", type=CallId(), help="Join it with this call of the same phone.")
@common()
def transfer(
    call: str,
    target: str | None,
    to_call: str | None,
    herd: str,
    runtime_dir: Path | None,
    as_json: bool,
) -> None:
    """Have the far end of a call talk to somebody else.

    TARGET is a phone, a number or a SIP URI (blind transfer); with --to-call the far ends of two
    calls are joined (attended transfer). Returns when they have reached each other; if they do not,
    exits 1 and the call is still up.

    \b
    Examples:
      sipherd transfer c7 1003
      sipherd transfer c7 --to-call c9
    """
    if (target is None) == (to_call is None):
        raise click.UsageError("expected one of TARGET and --to-call")
    body = TransferCall(call=call, target=target or "", consult=to_call or "")
    said = f"{call} transferred to {target or to_call}"
    awaited = f"the transfer of call {call}"
    _do(herd, runtime_dir, body, said, as_json, timeout=END_TIMEOUT, awaited=awaited)


@click.command()
@click.argument("call", type=CallId())
@click.argument("digits")
@common()
def dtmf(call: str, digits: str, herd: str, runtime_dir: Path | None, as_json: bool) -> None:
    """Press keys in a call.

    DIGITS are of 0-9 * # A-D. Returns when all are sent.

    \b
    Example:
      sipherd dtmf c7 1122#
    """
    awaited = f"the keys of call {call}"
    body = SendDtmf(call=call, digits=digits)
    said = f"{call} keys sent: {digits}"
    _do(herd, runtime_dir, body, said, as_json, timeout=END_TIMEOUT, awaited=awaited)


@click.command()
@click.argument("call", type=CallId())
@click.argument("source", required=False)
@click.option("--loop", is_flag=True, help="Begin again at the end of the file.")
@click.option("--stop", is_flag=True, help="Send silence from now on.")
@common()
def play(
    call: str,
    source: str | None,
    loop: bool,
    stop: bool,
    herd: str,
    runtime_dir: Path | None,
    as_json: bool,
) -> None:
    """Send audio in a call.

    SOURCE is an audio file, tone:HZ, echo or silence. Returns when it has begun.

    \b
    Examples:
      sipherd play c7 announcement.wav
      sipherd play c7 tone:440
      sipherd play c7 --stop
    """
    if stop == (source is not None):
        raise click.UsageError("expected one of SOURCE and --stop")
    if source is None:
        _do(herd, runtime_dir, StopAudio(call=call), f"{call} sends silence", as_json)
        return
    body = PlayAudio(call=call, source=audio_source(source), loop=loop)
    _do(herd, runtime_dir, body, f"{call} plays {source}", as_json)


@click.command()
@click.argument("call", type=CallId())
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@click.option(
    "--what",
    type=click.Choice(["received", "sent", "mixed", "both"]),
    default="received",
    show_default=True,
    help="both: two channels, received on the left.",
)
@click.option("--stop", is_flag=True, help="Complete the file.")
@common()
def record(
    call: str,
    file: Path | None,
    what: str,
    stop: bool,
    herd: str,
    runtime_dir: Path | None,
    as_json: bool,
) -> None:
    """Record a call to a WAV file.

    Until the call ends, or --stop.

    \b
    Examples:
      sipherd record c7 c7.wav --what both
      sipherd record c7 --stop
    """
    if stop == (file is not None):
        raise click.UsageError("expected one of FILE and --stop")
    if file is None:
        _do(herd, runtime_dir, StopRecording(call=call), f"{call} not recorded", as_json)
        return
    body = RecordAudio(call=call, file=str(file.absolute()), what=what)  # type: ignore[arg-type]
    _do(herd, runtime_dir, body, f"{call} recorded to {file}", as_json)
