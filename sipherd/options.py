"""Options and arguments that several commands share."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import click
from click.shell_completion import CompletionItem

from .protocol.errors import SipherdError
from .protocol.paths import list_herds, runtime_dir
from .protocol.spec import check_name, split_listen
from .ways import Remote, remote_from

__all__ = [
    "DEFAULT_HERD",
    "ENDPOINT",
    "HERD",
    "JSON",
    "KEYS_DIR",
    "RUNTIME_DIR",
    "SECONDS",
    "CallId",
    "Name",
    "PhoneName",
    "common",
    "where",
]

DEFAULT_HERD = "default"

F = TypeVar("F", bound=Callable[..., Any])


# Generic since click 8.4; older ones can't be imported with an argument here.
class _Type(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Base of the types of our parameters."""


class _Seconds(_Type):
    """A duration as a herd file has it: seconds, or such as 200ms, 2m, 1h."""

    name = "duration"
    _UNITS: ClassVar = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(ms|s|m|h)?", str(value))
        if match is None:
            self.fail(f"{value!r}: expected seconds, or such as 200ms, 2m, 1h", param, ctx)
        return float(match[1]) * self._UNITS[match[2]]


class _Endpoint(_Type):
    """Where a herd listens for clients of other machines."""

    name = "endpoint"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            split_listen(value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)
        return str(value)


class Name(_Type):
    """A name as phones and herds have it."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            check_name(value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)
        return str(value)


class _HerdName(Name):
    """The name of a herd; completes those that run."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        herds = list_herds(runtime_dir(ctx.params.get("runtime_dir"), os.environ))
        return [CompletionItem(herd) for herd in herds if herd.startswith(incomplete)]


class _Known(_Type):
    """Something the running herd can be asked to complete."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        # Nothing may be printed or take long while somebody types.
        if ctx.meta.get(_CONNECT):
            return []
        try:
            words = self._words(
                ctx.params.get("herd") or DEFAULT_HERD,
                runtime_dir(ctx.params.get("runtime_dir"), os.environ),
            )
        except SipherdError:
            return []
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]

    def _words(self, herd: str, directory: Path) -> list[str]:
        raise NotImplementedError


class PhoneName(_Known):
    """Name or number of a phone."""

    name = "phone"

    def _words(self, herd: str, directory: Path) -> list[str]:
        from .client import Connection
        from .protocol.messages import ListPhones, PhoneList

        connection = Connection(herd, directory)
        try:
            result = connection.request(ListPhones(), 1.0)
        finally:
            connection.close()
        assert isinstance(result, PhoneList)
        return [
            word for phone in result.phones for word in dict.fromkeys((phone.name, phone.number))
        ]


class CallId(_Known):
    """A call that is not over."""

    name = "call"

    def _words(self, herd: str, directory: Path) -> list[str]:
        from .client import Connection
        from .protocol.messages import CallList, ListCalls

        connection = Connection(herd, directory)
        try:
            result = connection.request(ListCalls(), 1.0)
        finally:
            connection.close()
        assert isinstance(result, CallList)
        return [call.call for call in result.calls]


ENDPOINT = _Endpoint()
SECONDS = _Seconds()
HERD = _HerdName()
KEYS_DIR = click.option(
    "--keys-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where keys are instead of ~/.config/sipherd/keys.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Objects, one on each line.")
RUNTIME_DIR = click.Path(file_okay=False, path_type=Path)


_CONNECT, _KEY = "sipherd.connect", "sipherd.key"


def _endpoint(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    ctx.meta[_CONNECT] = value


def _key_file(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    ctx.meta[_KEY] = value


_REMOTE = (
    click.option(
        "--key",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar="SIPHERD_KEY",
        expose_value=False,
        callback=_key_file,
        help="The key for --connect, of `sipherd keys new`.",
    ),
    click.option(
        "--connect",
        type=ENDPOINT,
        metavar="tcp://HOST:PORT",
        envvar="SIPHERD_CONNECT",
        expose_value=False,
        callback=_endpoint,
        help="A herd of another machine.",
    ),
)


def _is_given(context: click.Context, parameter: str) -> bool:
    """Whether it is on the command line."""
    return context.get_parameter_source(parameter) is click.core.ParameterSource.COMMANDLINE


def where(herd: str, directory: Path | None) -> Path | Remote:
    """Where the command that runs finds its herd: a runtime directory, or what `--connect` says.

    Raises:
        KeysError: `--connect` without `--key`.
    """
    context = click.get_current_context(silent=True)
    if context is not None and (endpoint := context.meta.get(_CONNECT)):
        # Only a name that was asked for must be the herd's; there is one at each endpoint.
        wanted = herd if _is_given(context, "herd") else None
        remote = remote_from(endpoint, context.meta.get(_KEY), {}, herd=wanted)
        assert remote is not None
        return remote
    if context is not None and _is_given(context, "key"):
        raise click.UsageError("--key is for --connect", context)
    return runtime_dir(directory, os.environ)


def common(
    *, herd: str | None = DEFAULT_HERD, herd_help: str = "The herd's name."
) -> Callable[[F], F]:
    """The options of every command: `herd`, `runtime_dir` and `as_json`.

    Those that have a herd to connect to get `--connect` and `--key`, too; see `where`.
    """

    def decorate(command: F) -> F:
        shown: bool = herd is not None
        for option in (
            *(_REMOTE if herd is not None else ()),
            JSON,
            click.option("--runtime-dir", type=RUNTIME_DIR, help="Where the herd's sockets are."),
            click.option("--herd", type=HERD, default=herd, show_default=shown, help=herd_help),
        ):
            command = option(command)
        return command

    return decorate
