"""The commands about registrations: register, unregister."""

from __future__ import annotations

from pathlib import Path

import click

from . import render
from .client import END_TIMEOUT
from .options import PhoneName, common
from .protocol.errors import CommandRefused
from .protocol.messages import ListPhones, PhoneInfo, PhoneList, RegisterPhone, UnregisterPhone
from .protocol.text import printable
from .session import Session

__all__ = ["register", "unregister"]


def _registering(session: Session, names: tuple[str, ...]) -> list[PhoneInfo]:
    """Those named, or every phone that has a registrar."""
    phones = session.request(ListPhones(which=names), PhoneList).phones
    return [phone for phone in phones if names or phone.spec.register is not None]


def _each(
    command: type[RegisterPhone | UnregisterPhone],
    names: tuple[str, ...],
    herd: str,
    runtime_dir: Path | None,
    as_json: bool,
) -> int:
    code = 0
    with Session(herd, runtime_dir) as session:
        phones = _registering(session, names)
        if not phones:
            raise CommandRefused("no_registrar", f"no phone of herd {herd} has a registrar")
        for phone in phones:
            try:
                awaited = f"the registrar's answer to {phone.name}"
                session.request(command(phone=phone.name), type(None), END_TIMEOUT, awaited)
            except CommandRefused as refused:
                click.echo(f"sipherd: {phone.name}: {printable(refused.message)}", err=True)
                code = 1
        for phone in session.request(
            ListPhones(which=tuple(phone.name for phone in phones)), PhoneList
        ).phones:
            if as_json:
                render.say(phone)
            elif phone.registration in ("registered", "unregistered"):
                render.say(printable(f"{phone.name} {render.registration(phone)}"))
    return code


@click.command()
@click.argument("phones", nargs=-1, type=PhoneName())
@common()
def register(phones: tuple[str, ...], herd: str, runtime_dir: Path | None, as_json: bool) -> int:
    """Register phones now.

    Whatever their retry timers say; also what ends `unregister`. All that have a registrar if none
    is named. Returns when the registrar has answered; exits 1 if it refused one.

    \b
    Example:
      sipherd register 1001
    """
    return _each(RegisterPhone, phones, herd, runtime_dir, as_json)


@click.command()
@click.argument("phones", nargs=-1, type=PhoneName())
@common()
def unregister(phones: tuple[str, ...], herd: str, runtime_dir: Path | None, as_json: bool) -> int:
    """Have the registrar forget phones, until `register`.

    All that have a registrar if none is named.

    \b
    Example:
      sipherd unregister 1001
    """
    return _each(UnregisterPhone, phones, herd, runtime_dir, as_json)
