"""Where a herd keeps its sockets: the runtime directory and the files of one herd in it.

These are the rules of supervisor and clients alike, so that they find each other without being
told.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from .errors import RuntimeDirectoryError

__all__ = ["HerdPaths", "ensure_runtime_dir", "list_herds", "runtime_dir"]

#: Bytes of a Unix socket's path: sun_path has 108, one is the closing zero.
MAX_SOCKET_PATH = 107

_REMEDY = "name another one with --runtime-dir or SIPHERD_RUNTIME_DIR"


class HerdPaths:
    """The files of one herd in the runtime directory.

    Raises:
        RuntimeDirectoryError: the path of a socket is too long for the kernel.
    """

    def __init__(self, directory: Path, herd: str) -> None:
        self.control = directory / f"{herd}.sock"
        """Socket that clients connect to."""
        self.workers = directory / f"{herd}.workers"
        """Socket that workers connect to."""
        self.lock = directory / f"{herd}.lock"
        """Locked (flock) for as long as any process of the herd lives."""
        longest = max((self.control, self.workers), key=_length)
        if _length(longest) > MAX_SOCKET_PATH:
            raise RuntimeDirectoryError(
                f"socket path {longest} has {_length(longest)} bytes, at most {MAX_SOCKET_PATH} "
                "are possible; choose a shorter directory with --runtime-dir"
            )


def _length(path: Path) -> int:
    return len(os.fsencode(path))


def runtime_dir(explicit: Path | None, environ: Mapping[str, str]) -> Path:
    """The directory that herds on this machine share, absolute; it may not exist yet.

    The first that applies: `explicit`, SIPHERD_RUNTIME_DIR, RUNTIME_DIRECTORY (set by systemd),
    XDG_RUNTIME_DIR/sipherd, for root /run/sipherd, else sipherd-UID in the temporary directory.
    """
    if explicit is not None:
        found = explicit
    elif text := environ.get("SIPHERD_RUNTIME_DIR"):
        found = Path(text)
    elif text := environ.get("RUNTIME_DIRECTORY"):
        found = Path(text.partition(":")[0])  # systemd lists several, the first is the main one
    elif text := environ.get("XDG_RUNTIME_DIR"):
        found = Path(text, "sipherd")
    elif os.geteuid() == 0:
        found = Path("/run/sipherd")
    else:
        found = Path(tempfile.gettempdir(), f"sipherd-{os.geteuid()}")
    return found.absolute()


def ensure_runtime_dir(path: Path) -> None:
    """Make the directory, for its owner alone, or check the one that is there.

    Raises:
        RuntimeDirectoryError: it can't be made or written, or somebody else could put sockets
            into it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as error:
        why = "not a directory" if isinstance(error, FileExistsError) else error.strerror
        raise RuntimeDirectoryError(f"runtime directory {path}: {why}; {_REMEDY}") from None
    if found.st_uid != os.geteuid():
        raise RuntimeDirectoryError(
            f"runtime directory {path}: owned by user {found.st_uid}, not by you; {_REMEDY}"
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise RuntimeDirectoryError(
            f"runtime directory {path}: others may write to it; chmod 700 it, or {_REMEDY}"
        )
    if not os.access(path, os.W_OK | os.X_OK):
        raise RuntimeDirectoryError(f"runtime directory {path}: not writable; {_REMEDY}")


def list_herds(directory: Path) -> list[str]:
    """Names of the herds that have a control socket here; one of a crashed herd may be stale."""
    try:
        return sorted(path.stem for path in directory.glob("*.sock") if path.is_socket())
    except OSError:
        return []
