"""The command that does a phone harm on purpose: fault."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple, get_args

import click

from . import render
from .options import PhoneName, common
from .protocol.events import Fault
from .protocol.messages import InjectFault
from .session import Session

__all__ = ["fault"]


class _Wanted(NamedTuple):
    fault: Fault
    code: int


class _FaultName(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """One of the faults, as a person writes it."""

    name = "fault"
    _words = tuple(word.replace("_", "-") for word in get_args(Fault))

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> _Wanted:
        if isinstance(value, _Wanted):
            return value
        match = re.fullmatch(r"exit(?:=([0-9]{1,3}))?", value)
        if match is not None and int(match[1] or 1) <= 255:
            return _Wanted("exit", int(match[1] or 1))
        if value == "exit" or value not in self._words:
            shown = ", ".join("exit=N" if word == "exit" else word for word in self._words)
            self.fail(f"{value!r}: expected one of {shown} (N from 0 to 255)", param, ctx)
        return _Wanted(value.replace("-", "_"), 1)


@click.command()
@click.argument("phone", type=PhoneName())
@click.argument("what", metavar="FAULT", type=_FaultName())
@common()
def fault(phone: str, what: _Wanted, herd: str, runtime_dir: Path | None, as_json: bool) -> None:
    """Do a phone harm, to see what the PBX and the herd make of it.

    Only in a herd whose file says `faults: allowed`. Returns once the harm is under way; `sipherd
    events` shows what comes of it.

    \b
    FAULT is one of
      kill               SIGKILL; the next process ends what calls this one had
      stop               SIGSTOP: the process is there and does nothing
      hang               its one thread is busy for ever
      exit=N             it exits with code N, without a BYE
      drop-registration  the registrar forgets the phone, which does not know it
      vanish             SIGKILL, and nobody ever ends its calls

    \b
    Examples:
      sipherd fault alice kill
      sipherd fault 1001 exit=3
    """
    with Session(herd, runtime_dir) as session:
        session.request(InjectFault(phone=phone, fault=what.fault, code=what.code), type(None))
    if as_json:
        code = {"code": what.code} if what.fault == "exit" else {}
        render.say({"phone": phone, "fault": what.fault, **code})
