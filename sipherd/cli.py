"""The command line: `sipherd COMMAND`.

Every command returns its exit code: 0 good, 1 the call or a gate failed or is not there, 2 usage or
configuration, 3 a load run is INVALID, 4 the supervisor or a phone failed, 130 interrupted.  `main`
turns the errors that people can cause into one line on stderr.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click
import msgspec

from . import (
    call_commands,
    fault_command,
    incall_commands,
    keys_commands,
    load_commands,
    phone_commands,
    plan,
    registration_commands,
    reload_command,
    render,
    report_commands,
    view,
)
from .options import ENDPOINT, KEYS_DIR, common
from .protocol.errors import (
    CallFailed,
    CallNotFound,
    CommandRefused,
    HerdFileError,
    HerdNotRunning,
    HerdNotStarted,
    KeyNotFound,
    KeyRefused,
    KeysError,
    PhoneNotFound,
    RunError,
    RuntimeDirectoryError,
    SipherdError,
    TimedOut,
)
from .protocol.herdfile import load_herd_file
from .protocol.log_spec import LogSpec
from .protocol.paths import runtime_dir as find_runtime_dir
from .protocol.spec import HerdSpec
from .protocol.text import printable

__all__ = ["main"]

_FAILED = 1
_CONFIGURATION = 2
_SUPERVISOR_FAILED = 4
_INTERRUPTED = 130

#: Refusals that are more than the failure of a call.
_REFUSED = {
    "bad_address": _CONFIGURATION,
    "bad_ring_timeout": _CONFIGURATION,
    "bad_herd_file": _CONFIGURATION,
    "duplicate_name": _CONFIGURATION,
    "needs_new_herd": _CONFIGURATION,
    "no_port": _CONFIGURATION,
    "no_rtp_port": _CONFIGURATION,
    "not_permitted": _CONFIGURATION,
    "local_only": _CONFIGURATION,
    "internal": _SUPERVISOR_FAILED,
    "phone_crashed": _SUPERVISOR_FAILED,
    "start_failed": _SUPERVISOR_FAILED,
}

_HERD_FILE = click.Path(dir_okay=False, path_type=Path)
_OTHER_NAME = "A name for the herd instead of the file's."


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        # What can't be shown here, such as an umlaut in the C locale, is no reason to fail.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # who read us has seen enough
        code = _FAILED
        _discard_output()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        code = _CONFIGURATION
        _complain(f"can't write the output: {error.strerror}")
        _discard_output()
    sys.exit(code)


def _discard_output() -> None:
    """What is left in the buffer, which the interpreter would flush once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: Sequence[str] | None) -> int:
    try:
        return sipherd.main(arguments, prog_name="sipherd", standalone_mode=False) or 0
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "sipherd"
        _complain(f"{error.format_message().rstrip('.')}; see {path} --help")
        return _CONFIGURATION
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except HerdFileError as error:
        for problem in error.problems:
            click.echo(problem, err=True)
        return _CONFIGURATION
    except SipherdError as error:
        _complain(_explain(error))
        return _code_of(error)


def _complain(text: str) -> None:
    click.echo(f"sipherd: {printable(text)}", err=True)


def _explain(error: SipherdError) -> str:
    match error:
        case PhoneNotFound(near=()):
            return f"{error}; sipherd ps lists them"
        case KeyNotFound(near=()):
            return f"{error}; sipherd keys list lists them"
        case CallNotFound(near=()):
            return f"{error}; sipherd ps --calls lists them"
    return str(error)


def _code_of(error: SipherdError) -> int:
    match error:
        case CommandRefused(reason=reason):
            return _REFUSED.get(reason, _FAILED)
        case PhoneNotFound() | CallNotFound() | KeyNotFound() | CallFailed() | TimedOut():
            return _FAILED
        case HerdNotRunning() | RuntimeDirectoryError() | KeyRefused() | KeysError() | RunError():
            return _CONFIGURATION
        case HerdNotStarted(exit_code=code):
            return code
    return _SUPERVISOR_FAILED


def _print_version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"sipherd, version {version('sipherd')}")
        except PackageNotFoundError:  # run from its source tree
            click.echo("sipherd, version unknown: it is not installed")
        context.exit()


class _InOrder(click.Group):
    """Lists its commands in the order of their definition, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_InOrder, invoke_without_command=True)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
@click.pass_context
def sipherd(context: click.Context) -> int:
    """A herd of SIP phones on one headless Linux box.

    Every command has --json (an object on each line), and --help with an example. Exit codes: 0
    good, 1 the call or a gate failed or is not there, 2 usage or configuration, 3 a load run is
    INVALID: this box was the limit, 4 the supervisor or a phone failed, 130 interrupted.

    \b
    Begin with:
      sipherd demo
    Completion for bash, in ~/.bashrc (zsh and fish likewise):
      eval "$(_SIPHERD_COMPLETE=bash_source sipherd)"
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        return _CONFIGURATION
    return 0


@sipherd.command()
@common(herd=None, herd_help="A name for the demo's own herd, instead of a made-up one.")
def demo(herd: str | None, runtime_dir: Path | None, as_json: bool) -> int:
    """Two phones, one call, and a ladder of what happened.

    They have a herd and ports of their own and disturb nobody.

    \b
    Example:
      sipherd demo
    """
    from .demo import run_demo

    return run_demo(herd, runtime_dir, as_json)


@sipherd.command()
@click.argument("file", type=_HERD_FILE)
@click.option("--quiet", "-q", is_flag=True, help="Only skipped ports, deaths and failures.")
@click.option(
    "--wait",
    type=click.Choice(["registered", "ready"]),
    default="registered",
    show_default=True,
    help="When the herd is ready: those that register have, or were refused; or all serve.",
)
@click.option(
    "--listen",
    type=ENDPOINT,
    metavar="tcp://HOST:PORT",
    help="Serve clients of other machines there, those with keys; see sipherd keys.",
)
@KEYS_DIR
@click.option(
    "--log-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="A log file for each phone, in this directory.",
)
@common(herd=None, herd_help=_OTHER_NAME)
def up(
    file: Path,
    quiet: bool,
    wait: str,
    listen: str | None,
    keys_dir: Path | None,
    log_dir: Path | None,
    herd: str | None,
    runtime_dir: Path | None,
    as_json: bool,
) -> int:
    """Start the herd of FILE and keep it up.

    It is the supervisor, in the foreground. Shows a line for each event, the phones first. Ends by
    `sipherd stop`, SIGTERM or Ctrl-C; a second Ctrl-C does not wait for answers. SIGUSR1 refuses
    new calls and ends it after the last one. SIGHUP is `sipherd reload` where there is no terminal
    that could hang up. To a service manager it speaks sd_notify.

    \b
    Examples:
      sipherd up examples/two-phones.yaml
      sipherd up herd.yaml --json >events.ndjson
      sipherd up herd.yaml --listen tcp://192.0.2.10:7060
    """
    spec = _read(file, herd, listen, log_dir)
    shown: view.View = view.AsProgress() if sys.stdout.isatty() else view.as_lines
    if quiet:
        shown = view.only_trouble
    if as_json:
        shown = view.as_records
    # The supervisor's code is for the supervisor's process alone.
    from .supervisor.service import Options, run

    directory = find_runtime_dir(runtime_dir, os.environ)
    return run(
        Options(
            spec=spec,
            runtime_dir=directory,
            view=shown,
            wait_registered=wait == "registered",
            keys_dir=keys_dir,
            reread=lambda: _read(file, herd, listen, log_dir),
        )
    )


@sipherd.command()
@click.argument("file", type=_HERD_FILE)
@common(herd=None, herd_help=_OTHER_NAME)
def check(file: Path, herd: str | None, runtime_dir: Path | None, as_json: bool) -> int:
    """Say what FILE would start, or what is wrong.

    Starts nothing. Every problem is one line.

    \b
    Example:
      sipherd check herd.yaml
    """
    spec = _read(file, herd)
    if problems := plan.shortages(spec):
        raise HerdFileError(f"{file}: {problem}" for problem in problems)
    click.echo(render.as_json(plan.as_plain(spec)) if as_json else plan.as_text(spec))
    return 0


def _read(
    file: Path, herd: str | None, listen: str | None = None, log_dir: Path | None = None
) -> HerdSpec:
    """The herd of a file, with what the command line puts in the place of the file's words."""
    spec = load_herd_file(file, os.environ)
    logs = None
    if log_dir is not None:
        logs = msgspec.structs.replace(spec.logs or LogSpec(dir="."), dir=str(log_dir.absolute()))
    given = {"herd": herd, "listen": listen, "logs": logs}
    return msgspec.structs.replace(spec, **{k: v for k, v in given.items() if v is not None})


for _command in (
    *(phone_commands.ps, phone_commands.show, phone_commands.events),
    *(call_commands.call, call_commands.answer, call_commands.reject),
    *(call_commands.cancel, call_commands.hangup),
    *(incall_commands.hold, incall_commands.retrieve, incall_commands.transfer),
    *(incall_commands.dtmf, incall_commands.play, incall_commands.record),
    *(registration_commands.register, registration_commands.unregister),
    *(phone_commands.start, phone_commands.stop, phone_commands.restart, phone_commands.reset),
    *(phone_commands.add, phone_commands.remove, reload_command.reload),
    *(load_commands.load,),
    *(keys_commands.keys, fault_command.fault),
    *(report_commands.report, report_commands.ladder, report_commands.compare),
):
    sipherd.add_command(_command)
