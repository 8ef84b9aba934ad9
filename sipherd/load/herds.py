"""The herd of a run: one for it alone, or one that runs already."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec

from ..client import STOP_TIMEOUT, Connection, start_timeout
from ..private import start_supervisor
from ..protocol.errors import SipherdError
from ..protocol.messages import AddPhones, ListPhones, PhoneInfo, PhoneList, StopHerd
from ..protocol.paths import ensure_runtime_dir
from ..protocol.spec import HerdSpec

__all__ = ["RunHerd", "anywhere", "await_registered"]

_LOOK_EVERY = 0.2


class RunHerd:
    """A herd to which this process is connected, until `close`.

    Args:
        name: of the herd.
        directory: where its sockets are.
        supervisor: its process, if it is one for this run alone: that is stopped at the end.
    """

    def __init__(
        self, name: str, directory: Path, supervisor: subprocess.Popen[bytes] | None = None
    ) -> None:
        self.name, self.directory = name, directory
        self._supervisor = supervisor
        self.connection = Connection(name, directory)

    @classmethod
    def private(cls, spec: HerdSpec, directory: Path, log: IO[bytes]) -> RunHerd:
        """A herd for this run alone: with a name of its own, and free ports where none is fixed.

        It ends with this process, whatever ends that, and logs to `log`: on a terminal its lines
        would go right through the view of the run.

        Raises:
            HerdNotStarted: the supervisor did not come up.
            CommandRefused: a phone can't be created.
        """
        name = f"private-{os.getpid()}-{secrets.token_hex(3)}"
        ensure_runtime_dir(directory)
        empty = msgspec.structs.replace(spec, herd=name, phones=(), listen="")
        supervisor = start_supervisor(empty, directory, log)
        try:
            herd = cls(name, directory, supervisor)
        except BaseException:
            _kill(supervisor)
            raise
        try:
            phones = anywhere(spec).phones
            herd.connection.request(AddPhones(specs=phones), start_timeout(len(phones)))
        except BaseException:
            herd.close()
            raise
        return herd

    @property
    def is_private(self) -> bool:
        """Whether it is for this run alone."""
        return self._supervisor is not None

    def phones(self) -> tuple[PhoneInfo, ...]:
        """All phones, as they are now."""
        found = self.connection.request(ListPhones())
        assert isinstance(found, PhoneList)
        return found.phones

    def spec(self) -> HerdSpec:
        """What is known of it: its phones."""
        return HerdSpec(herd=self.name, phones=tuple(phone.spec for phone in self.phones()))

    def close(self) -> None:
        """Leave it; one for this run alone is stopped."""
        try:
            if self._supervisor is not None and self._supervisor.poll() is None:
                self._stop(self._supervisor)
        finally:
            self.connection.close()
            if self._supervisor is not None:
                self._supervisor.wait()

    def _stop(self, supervisor: subprocess.Popen[bytes]) -> None:
        try:
            self.connection.request(StopHerd(), STOP_TIMEOUT, awaited="the end of the herd")
            supervisor.wait(STOP_TIMEOUT)
        except BaseException as error:
            supervisor.kill()  # its phones notice, and say goodbye by themselves
            if not isinstance(error, SipherdError | subprocess.TimeoutExpired):  # Ctrl-C
                raise


def anywhere(spec: HerdSpec) -> HerdSpec:
    """The herd with free ports in the place of those of a range, which another one may use."""
    phones = [
        msgspec.structs.replace(phone, port=0) if phone.port is None else phone
        for phone in spec.phones
    ]
    return msgspec.structs.replace(spec, phones=tuple(phones))


def _kill(supervisor: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        supervisor.kill()
    supervisor.wait()


def await_registered(
    herd: RunHerd, timeout: float, tell: Callable[[int, int], None] = lambda done, of: None
) -> list[PhoneInfo]:
    """Wait until all phones that register have, or were refused; who has not is returned.

    `tell` hears how many have of how many, as often as that changes.
    """
    deadline = time.monotonic() + timeout
    known = -1
    while True:
        phones = [phone for phone in herd.phones() if phone.spec.register is not None]
        waiting = [phone for phone in phones if phone.registration not in ("registered", "failed")]
        missing = [phone for phone in phones if phone.registration != "registered"]
        if phones and len(missing) != known:
            known = len(missing)
            tell(len(phones) - known, len(phones))
        if not waiting or time.monotonic() >= deadline:
            return missing
        time.sleep(_LOOK_EVERY)
