"""The commands that begin a load run and end one."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from . import render
from .options import DEFAULT_HERD, HERD, JSON, RUNTIME_DIR, SECONDS
from .protocol.paths import runtime_dir as find_runtime_dir
from .protocol.spec import bracketed
from .protocol.text import printable

# What makes runs is imported by the commands: it takes a while, and most have no use for it.
if TYPE_CHECKING:
    from .load.conduct import Ended
    from .load.herds import RunHerd
    from .load.order import Order
    from .load.watch import Watch

__all__ = ["load"]

_FAILED, _CONFIGURATION, _INVALID = 1, 2, 3
_FILE = click.Path(dir_okay=False, path_type=Path)
_DIRECTORY = click.Path(file_okay=False, path_type=Path)
#: Seconds that phones get to register before a run begins without them.
_REGISTER_TIMEOUT = 35.0

F = TypeVar("F", bound=Callable[..., Any])


class _Load(click.Command):
    """`sipherd load FILE`, beside which `sipherd load stop` is a command of its own."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        if args[:1] == ["stop"]:
            return _stop.make_context(f"{info_name} stop", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


class _Metrics(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Where metrics are served."""

    name = "address"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        from .load.prometheus import split_address

        if isinstance(value, tuple):
            return value
        try:
            return split_address(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


#: Those of `load.sippflags`, which is not imported for the help of other commands.
_SIPP_FLAGS = {
    "-r": ("CALLS", "Calls per -rp."),
    "-rp": ("MS", "Length of the period of -r, in milliseconds (default 1000)."),
    "-l": ("CALLS", "Most calls at the same time."),
    "-m": ("CALLS", "Calls in all."),
    "-d": ("MS", "How long an answered call stays up, in milliseconds."),
    "-inf": ("FILE", "CSV file with callees in field 0."),
}


def _sipp_flags(command: F) -> F:
    for flag, (metavar, meaning) in reversed(_SIPP_FLAGS.items()):
        command = click.option(flag, _name(flag), metavar=metavar, help=meaning)(command)
    return command


def _name(flag: str) -> str:
    return f"sipp_{flag[1:]}"


@click.command(cls=_Load)
@click.argument("file", type=_FILE, required=False)
@click.option("--callers", multiple=True, metavar="PHONES", help="Phones that call, or a glob.")
@click.option("--callees", multiple=True, metavar="WHO", help="Phones, numbers or sip: URIs.")
@click.option("--pairing", type=click.Choice(["round_robin", "random", "fixed"]))
@click.option("--poisson", is_flag=True, help="Calls come at random, with the same mean rate.")
@click.option("--duration", type=SECONDS, help="For how long calls start.")
@click.option("--warm-up", type=SECONDS, help="Calls of the first so long are not judged.")
@click.option("--drain", type=SECONDS, help="What calls get to end by themselves at the end.")
@click.option("--media", help="What both sides play: none, tone, tone:HZ or an audio file.")
@click.option("--gate", "gates", multiple=True, help="In place of the file's; can be repeated.")
@click.option("--seed", type=int, help="Of all that is drawn by lot.")
@_sipp_flags
@click.option("--run", type=_DIRECTORY, help="Where the run is kept, instead of runs/TIME.")
@click.option("--force", is_flag=True, help="Run even if this box can't do it.")
@click.option("--junit", type=_FILE, metavar="FILE", help="Write the verdict as JUnit XML.")
@click.option(
    "--metrics", type=_Metrics(), metavar="[HOST:]PORT", help="Serve metrics for Prometheus there."
)
@JSON
@click.option("--runtime-dir", type=RUNTIME_DIR, help="Where the herd's sockets are.")
@click.option("--connect", envvar="SIPHERD_CONNECT", hidden=True)
@click.option("--herd", type=HERD, help="A herd that runs, even if FILE has phones.")
def load(file: Path | None, **given: Any) -> int:
    """Place calls at a rate, and give a verdict.

    FILE has a profile (load:). With phones beside it they are started for this run alone; without,
    or with --herd, a herd that runs is used, `default` unless --herd names it. Flags take the place
    of what FILE says, and without FILE they are all there is.

    Ctrl-C, SIGUSR1, SIGHUP and `sipherd load stop` end it gently: no new calls, the others end by
    themselves. Ctrl-C while it drains, and SIGTERM, end it now. All that is known is kept in the
    run's directory from the first call on; see `sipherd report`.

    Exit codes: 0 PASS, 1 FAIL (a gate was not reached), 2 usage or configuration, 3 INVALID (this
    box was the limit, or the run was cut short) or refused because this box can't do it, 4 the herd
    failed, 130 ended by Ctrl-C.

    \b
    Examples:
      sipherd load examples/load.yaml
      sipherd load --herd lab --callers 'agent-*' --callees sip:100@pbx.lab -r 10 -d 5000 -m 100
      sipherd load examples/load.yaml --gate 'srd_ok_p95 < 200ms' --junit verdict.xml
      sipherd load stop
    """
    return _load(file, given)


def _load(file: Path | None, given: dict[str, Any]) -> int:
    from .load.order import read_order
    from .load.profile import check_gate

    flags = {flag: given[_name(flag)] for flag in _SIPP_FLAGS if given[_name(flag)] is not None}
    names = ("callers", "callees", "pairing", "duration", "warm_up", "drain", "media", "seed")
    fields = {name: given[name] for name in names if given[name] not in (None, ())}
    for gate in given["gates"]:
        try:
            check_gate(gate)
        except ValueError as error:
            raise click.UsageError(f"--gate {gate!r}: {error}") from None
    if given["gates"]:
        fields["gates"] = given["gates"]
    if file is None and not flags and not fields:
        raise click.UsageError("Missing FILE, or flags such as -r 10 -m 100")
    join = given["herd"] is not None
    poisson = given["poisson"]
    try:
        order = read_order(file, flags, fields, os.environ, join=join, poisson=poisson)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if given["connect"] and order.phones is None:
        raise click.UsageError("a run is done where its herd is: run this on that machine")
    if (junit := given["junit"]) is not None:
        _check_writable(junit)
    return _begin(order, given)


def _check_writable(path: Path) -> None:
    """Before a run of days, rather than behind it."""
    folder = path.parent
    if not os.access(path if path.exists() else folder, os.W_OK):
        why = "not writable" if folder.is_dir() else f"there is no directory {folder}"
        raise click.UsageError(f"{path}: can't be written: {why}")


def _begin(order: Order, given: dict[str, Any]) -> int:
    from .load.conduct import conduct
    from .load.prometheus import Endpoint, RunMetrics
    from .load.rundir import fresh
    from .load.start import RunDirectory, Start

    watch = _watch(given["as_json"])
    with ExitStack() as stack:
        stack.callback(watch.close)
        start = Start(order)
        if order.phones is not None:
            refused = start.refused(order.phones, running=False)
            if refused and not given["force"]:
                return _refuse(refused)
        directory = stack.enter_context(RunDirectory(given["run"] or fresh()))
        metrics = None
        if given["metrics"] is not None:
            metrics = RunMetrics()
            host, port = given["metrics"]
            try:
                endpoint = Endpoint(metrics, host, port)
            except OSError as error:
                raise click.UsageError(
                    f"--metrics {host}:{port}: {error.strerror or error}; expected a free address"
                ) from None
            stack.callback(endpoint.close)
            watch.say(f"metrics: http://{bracketed(host)}:{endpoint.port}/metrics")
        name = given["herd"] or DEFAULT_HERD
        sockets = find_runtime_dir(given["runtime_dir"], os.environ)
        herd = start.herd(name, sockets, directory.path)
        stack.callback(herd.close)
        if order.phones is None:
            refused = start.refused(herd.spec(), running=True)
            if refused and not given["force"]:
                return _refuse(refused)
        for line in refused:
            watch.say(f"warning: {line}")
        _register(herd, watch)
        watch.say(f"herd {herd.name}, run {directory.path}")
        ended = conduct(start.plan(herd, directory.path, watch, metrics, forced=refused))
    return _conclude(ended, directory.path, given)


def _refuse(lines: list[str]) -> int:
    for line in lines:
        click.echo(f"sipherd: {printable(line)}", err=True)
    click.echo("sipherd: this box can't do that run; --force runs it all the same", err=True)
    return _INVALID


def _watch(as_json: bool) -> Watch:
    from .load.watch import AsLines, AsRecords, OnTerminal

    if as_json:
        return AsRecords()
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        return OnTerminal()
    return AsLines()


def _register(herd: RunHerd, watch: Watch) -> None:
    from .load.herds import await_registered

    def tell(done: int, of: int) -> None:
        watch.say(f"registered: {done} of {of} phones")

    if missing := await_registered(herd, _REGISTER_TIMEOUT, tell):
        first = missing[0]
        why = f": {first.registration_why}" if first.registration_why else ""
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        watch.say(f"warning: {first.name}{more} not registered{why}")


def _conclude(ended: Ended, directory: Path, given: dict[str, Any]) -> int:
    from rich.console import Console

    from .load.junit import junit_xml
    from .load.report_json import as_plain
    from .load.report_text import lines, summary

    report = ended.reading.report
    code = ended.exit
    if (path := given["junit"]) is not None:
        try:
            assert ended.reading.verdict is not None
            path.write_bytes(junit_xml(report.facts, ended.reading.verdict))
        except OSError as error:
            click.echo(f"sipherd: {path}: can't be written: {error.strerror}", err=True)
            code = _CONFIGURATION
    if given["as_json"]:
        render.say({"kind": "verdict", "run": str(directory), **as_plain(ended.reading)})
        return code
    if sys.stdout.isatty():
        Console(highlight=False).print(summary(report))
    else:
        for line in lines(report):
            render.say(line)
    # Once more: the first line is out of sight by now.
    render.say(f"\nrun {printable(str(directory))}: {report.judgement.word}")
    return code


@click.command("stop")
@click.argument("run", required=False)
@click.option(
    "--drain", "how", flag_value="drain", default="drain", help="Let its calls end (default)."
)
@click.option("--now", "how", flag_value="now", help="End its calls now.")
@JSON
def _stop(run: str | None, how: str, as_json: bool) -> int:
    """End a load run, and wait until it is over.

    RUN is its directory, or the name of one below runs/; without it the one there that goes on.
    Its verdict and report are the run's own.

    \b
    Examples:
      sipherd load stop
      sipherd load stop --now runs/2026-11-24T12-00-00
    """
    from .load.rundir import find, going_on
    from .load.runner_handle import RunnerHandle

    directory = going_on() if run is None else find(run)
    try:
        runner = RunnerHandle(directory)
    except ProcessLookupError:
        click.echo(f"sipherd: {printable(str(directory))}: its run is over", err=True)
        return _FAILED
    with runner:
        try:
            runner.send(signal.SIGUSR1 if how == "drain" else signal.SIGTERM)
        except PermissionError:
            click.echo(f"sipherd: the run belongs to another user (pid {runner.pid})", err=True)
            return _CONFIGURATION
        what = "drains" if how == "drain" else "ends"
        if not as_json:
            render.say(f"run {printable(str(directory))} {what} (pid {runner.pid})")
        runner.wait()
    about = {"kind": "run_over", "run": str(directory), "pid": runner.pid}
    render.say(about if as_json else f"run {printable(str(directory))} is over")
    return 0
