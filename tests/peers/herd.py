"""Run a herd the way its users do: ``sipherd up FILE`` and the other commands, as processes."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import sipherd
from peers.sipp import loopback_address, wait_for

__all__ = ["Event", "HerdProcess", "PhoneAt"]

Event = dict[str, Any]

_names = itertools.count(1)

#: Where `python -m sipherd` finds what this process imported.
_ENVIRON = {"PYTHONPATH": str(Path(sipherd.__file__).parents[1])}


class PhoneAt(NamedTuple):
    """Where a phone can be called."""

    name: str
    host: str
    port: int

    @property
    def target(self) -> tuple[str, int]:
        return self.host, self.port


class HerdProcess:
    """A running supervisor with its phones.

    `phones` are entries of a herd file. `command` replaces ``python -m sipherd up``; it gets the
    herd file and must print events as that does. `keys` are more of the herd file's, `options`
    more for the command; `log` takes what it writes to stderr. Every phone is ready when this
    returns, unless `wait` is false.
    """

    def __init__(
        self,
        folder: Path,
        phones: Sequence[dict[str, Any]],
        *,
        command: Sequence[str] = (sys.executable, "-m", "sipherd", "up", "--json"),
        name: str | None = None,
        address: str | None = None,
        keys: Mapping[str, Any] | None = None,
        options: Sequence[str] = (),
        log: IO[bytes] | None = None,
        wait: bool = True,
    ) -> None:
        self.name = name or f"peers-{os.getpid()}-{next(_names)}"
        self.address = address or loopback_address()
        self._file = folder / "herd.yaml"
        # JSON is YAML.
        self._file.write_text(
            json.dumps(
                {
                    "herd": self.name,
                    "ports": {"sip": "5060-5460", "rtp": "20000-29999"},
                    "strict_ports": True,
                    **(keys or {}),
                    "phones": [{"address": self.address} | phone for phone in phones],
                }
            )
        )
        self._log = folder / "up.log"
        self._out = folder / "up.ndjson"
        with self._out.open("wb") as out, self._log.open("wb") as file:
            self._process = subprocess.Popen(
                [*command, *options, str(self._file)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log or file,
                env=os.environ | _ENVIRON,
            )
        try:
            for phone in phones if wait else ():
                self.wait_event(phone=phone["name"], kind="phone_state", state="ready", timeout=30)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait(self, timeout: float = 20.0) -> int:
        """The exit code of a supervisor that is about to end."""
        return self._process.wait(timeout)

    def events(self, **wanted: object) -> list[Event]:
        """The events so far that have these values."""
        found = []
        # The last line may be half written.
        for line in self._out.read_text().splitlines(keepends=True):
            if line.endswith("\n") and line.startswith("{"):
                event = json.loads(line)
                if "kind" in event and wanted.items() <= event.items():
                    found.append(event)
        return found

    def wait_event(self, timeout: float = 10.0, **wanted: object) -> Event:
        """The first event that has these values, now or within `timeout`."""
        return self.wait_events(1, timeout, **wanted)[0]

    def wait_events(self, count: int, timeout: float = 10.0, **wanted: object) -> list[Event]:
        """The events that have these values, as soon as there are `count`."""

        def enough() -> list[Event]:
            found = self.events(**wanted)
            if len(found) < count and not self.is_running():
                raise RuntimeError(f"the supervisor ended\n{self.report()}")
            return found if len(found) >= count else []

        try:
            return wait_for(enough, f"{count} events {wanted}", timeout)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.report()}") from None

    def phone(self, name: str) -> PhoneAt:
        added = self.wait_event(phone=name, kind="phone_added")
        return PhoneAt(name, added["address"], added["port"])

    def processes(self) -> list[int]:
        """The pids of the phones."""
        return [event["pid"] for event in self.events(kind="phone_state", state="ready")]

    def command(self, *arguments: str, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        """``sipherd ARGUMENTS`` for this herd."""
        with self.start_command(*arguments) as process:
            try:
                out, error = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                out, error = process.communicate()
                raise TimeoutError(f"sipherd {' '.join(arguments)}: {out}{error}") from None
        return subprocess.CompletedProcess(process.args, process.returncode, out, error)

    def start_command(self, *arguments: str) -> subprocess.Popen[str]:
        """``sipherd ARGUMENTS`` for this herd, in the background."""
        verb, *rest = arguments
        return subprocess.Popen(
            [sys.executable, "-m", "sipherd", verb, "--herd", self.name, *rest],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | _ENVIRON,
        )

    def stop(self, timeout: float = 20.0) -> int:
        """``sipherd stop``, and the exit code of ``sipherd up``."""
        stopped = self.command("stop", timeout=timeout)
        said = f"sipherd stop: {stopped.stdout}{stopped.stderr}"
        assert stopped.returncode == 0, f"{said}\n{self.report()}"
        return self._process.wait(timeout)

    def logged(self, **wanted: object) -> list[Event]:
        """The lines of its log so far that have these values."""
        # The last line may be half written.
        whole = [line for line in self.log().splitlines(keepends=True) if line.endswith("\n")]
        lines = [json.loads(line) for line in whole if line[:1] == "{"]
        return [line for line in lines if wanted.items() <= line.items()]

    def log(self) -> str:
        """What it wrote to stderr so far."""
        return self._log.read_text()

    def report(self) -> str:
        """What a person needs to understand a failure."""
        events = "\n".join(
            "  " + " ".join(f"{key}={value}" for key, value in event.items() if key != "at")
            for event in self.events()[-40:]
        )
        return f"{events}\n{self._log.read_text()[-4000:]}"

    def close(self) -> None:
        """End it if it still runs: what a supervisor leaves when it is killed ends by itself."""
        for patience in (1, 12):  # the second time it means "now": nobody waits for answers here
            if self.is_running():
                self._process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(patience)
        if self.is_running():
            self._process.kill()
        self._process.wait()
