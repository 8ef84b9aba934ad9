"""What is to be known, and made sure of, before a run is begun."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from ..protocol.errors import HerdFileError
from ..protocol.spec import HerdSpec
from .capacity import shortages
from .closing import Closing
from .conduct import Plan
from .herds import RunHerd, anywhere
from .infile import load_infile
from .machine import this_machine
from .order import Order
from .pairing import Pairs, pairs_of
from .profile import LoadProfile
from .prometheus import RunMetrics
from .rundir import LOCK, RunLock
from .store import FACTS, StoreError
from .watch import Watch

__all__ = ["RunDirectory", "Start"]

_LOG = "herd.log"


class Start:
    """Turns an order into a plan, step by step.

    Raises:
        HerdFileError: files that the profile names can't be used.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        profile = order.profile
        self._table = None if profile.infile is None else load_infile(profile.infile.file)
        self._pairs: Pairs | None = None
        media = profile.media
        if media != "none" and not media.startswith("tone:") and not Path(media).is_file():
            raise HerdFileError([f"$.load.media: {media}: no such file, expected an audio file"])

    def refused(self, herd: HerdSpec, *, running: bool) -> list[str]:
        """What this box lacks for the run over this herd, a line each.

        Raises:
            HerdFileError: the herd can't do it, whatever the box.
        """
        profile = self._order.profile
        self._pairs = pairs = pairs_of(profile, herd.phones, self._table)
        if problems := _without_audio(profile, herd, pairs):
            raise HerdFileError(problems)
        return shortages(profile, anywhere(herd), pairs, this_machine(), running=running)

    def herd(self, name: str, directory: Path, run: Path) -> RunHerd:
        """The herd of the file, started, its log in `run`; or the one of this name, joined."""
        if self._order.phones is None:
            return RunHerd(name, directory)
        with (run / _LOG).open("ab") as log:
            return RunHerd.private(self._order.phones, directory, log)

    def plan(
        self,
        herd: RunHerd,
        directory: Path,
        watch: Watch,
        metrics: RunMetrics | None,
        *,
        forced: Sequence[str],
    ) -> Plan:
        """The plan; `refused` was asked before."""
        assert self._pairs is not None
        phones = herd.phones()
        profile = self._order.profile
        return Plan(profile, self._pairs, herd, phones, directory, watch, metrics, forced)


def _without_audio(profile: LoadProfile, herd: HerdSpec, pairs: Pairs) -> list[str]:
    """What phones are to do that have no media."""
    mute = {phone.name: phone for phone in herd.phones if phone.media == "none"}
    taking_part = {*pairs.callers, *(callee.phone for callee in pairs.callees)} - {""}
    found = []
    # Of several that take part some may be without: they have calls of signalling alone.
    if profile.media != "none" and taking_part <= mute.keys():
        found.append(
            f"$.load.media: {profile.media}: all phones that take part have `media: none`, "
            "expected some that have audio, or none here"
        )
    if any(entry.kind == "dtmf" for entry in profile.mix):
        names = [name for name in pairs.callers if name in mute and mute[name].dtmf == "rfc4733"]
        if names:
            found.append(
                f"$.load.mix: dtmf: {names[0]} has `media: none` and sends keys in it, expected "
                "phones that have audio, or `dtmf: info`"
            )
    return found


class RunDirectory(Closing):
    """The directory of a run, locked; what there is of it goes again unless there is a run in it.

    Raises:
        StoreError: it holds a run, or can't be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if (path / FACTS).exists():
            raise StoreError(f"{path} holds a run already: name another directory, or remove it")
        self._made = [each for each in (path, path.parent) if not each.exists()]
        self._lock = RunLock(path)

    def close(self) -> None:
        """Let go of it."""
        self._lock.close()
        if not (self.path / FACTS).exists():
            with contextlib.suppress(OSError):
                if (self.path / _LOG).exists() and not (self.path / _LOG).stat().st_size:
                    (self.path / _LOG).unlink()
                (self.path / LOCK).unlink()
                for directory in self._made:
                    directory.rmdir()  # unless there is something in it
