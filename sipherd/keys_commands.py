"""`sipherd keys`: who may connect from other machines."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from click.shell_completion import CompletionItem

from . import render
from .options import KEYS_DIR, Name
from .protocol.errors import KeysError
from .protocol.keys import ClientKey, KeyStore, keys_dir

__all__ = ["keys"]

F = TypeVar("F", bound=Callable[..., Any])


def _common(command: F) -> F:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Objects, one on each line."),
        KEYS_DIR,
    ):
        command = option(command)
    return command


class _KeyName(Name):
    """The name of a client's key; completes those that are let in."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        try:
            allowed = _store(ctx.params.get("keys_dir")).allowed()
        except KeysError:
            return []
        return [CompletionItem(key.name) for key in allowed if key.name.startswith(incomplete)]


_NAME = _KeyName()


def _store(directory: Path | None) -> KeyStore:
    return KeyStore(keys_dir(directory, os.environ))


class _InOrder(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_InOrder)
def keys() -> None:
    """Let clients of other machines in, or no longer.

    They are for `sipherd up --listen`. A herd that runs heeds every change at once.

    \b
    Examples:
      sipherd keys new laptop
      sipherd keys list
      sipherd keys revoke laptop
    """


@keys.command()
@click.argument("name", type=_NAME)
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="The key file to make instead of NAME.key; - is stdout.",
)
@_common
def new(name: str, output: str | None, keys_dir: Path | None, as_json: bool) -> None:
    """Let a client in: make the key file that it needs.

    Nothing else has the secret: carry the file to the client's machine and remove it here.

    \b
    Examples:
      sipherd keys new laptop
      (umask 077; ssh box sipherd keys new laptop -o - >laptop.key)
      sipherd ps --connect tcp://box:7060 --key laptop.key
    """
    store = _store(keys_dir)
    if output == "-":
        click.echo(_text(_make(store, name)), nl=False)
        return
    file = Path(output or f"{name}.key")
    # First: a key on the list whose secret nobody has would stay there.
    with _created(file) as fd:
        made = _make(store, name)
        os.write(fd, _text(made).encode())
    if as_json:
        render.say({"name": name, "public": made.public, "file": str(file)})
    else:
        render.say(f"{name}: key in {file}; there: sipherd ps --connect tcp://HOST:PORT --key FILE")


def _make(store: KeyStore, name: str) -> ClientKey:
    return store.new(name, datetime.now(UTC).strftime("%Y-%m-%d"))


def _text(made: ClientKey) -> str:
    return msgspec.json.format(msgspec.json.encode(made)).decode() + "\n"


@contextlib.contextmanager
def _created(file: Path) -> Iterator[int]:
    """A new file for its owner alone, which is gone again after an error."""
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise KeysError(f"key file {file}: {error.strerror}; choose another: --output") from None
    try:
        yield fd
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


@keys.command("list")
@_common
def list_(keys_dir: Path | None, as_json: bool) -> None:
    """List the clients that are let in.

    \b
    Example:
      sipherd keys list
    """
    allowed = _store(keys_dir).allowed()
    if as_json:
        for key in allowed:
            render.say(key)
    else:
        rows = [(key.name, key.made, key.public) for key in allowed]
        render.say(render.table(["NAME", "MADE", "PUBLIC KEY"], rows))


@keys.command()
@click.argument("name", type=_NAME)
@_common
def revoke(name: str, keys_dir: Path | None, as_json: bool) -> None:
    """Let a client in no longer.

    Its connections to herds that run are cut within a second.

    \b
    Example:
      sipherd keys revoke laptop
    """
    _store(keys_dir).revoke(name)
    render.say({"name": name, "revoked": True} if as_json else f"{name}: revoked")
