"""``python -m sipherd.supervisor``: a supervisor for the process that starts it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import msgspec

from ..protocol.spec import HerdSpec
from .service import EXIT_CONFIGURATION, Options, run

__all__ = ["main"]


def main() -> int:
    """Run the herd that the command line describes; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sipherd.supervisor", description=__doc__)
    # Not the text itself: everybody can read a process's arguments, and it may have passwords.
    parser.add_argument("--spec-fd", required=True, type=int, help="a file with the herd as JSON")
    parser.add_argument("--runtime-dir", required=True, type=Path, help="directory of its sockets")
    parser.add_argument("--owner-fd", type=int, help="pidfd of the process it ends with")
    parser.add_argument("--ready-fd", type=int, help="descriptor that gets one line when it serves")
    words = parser.parse_args()
    for fd in (words.owner_fd, words.ready_fd):
        if fd is not None:
            os.set_inheritable(fd, False)
    try:
        with os.fdopen(words.spec_fd, "rb") as file:
            spec = msgspec.json.decode(file.read(), type=HerdSpec)
    except (OSError, msgspec.MsgspecError) as error:
        print(f"sipherd: --spec-fd {words.spec_fd}: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION
    return run(
        Options(
            spec=spec,
            runtime_dir=words.runtime_dir.absolute(),
            owner_fd=words.owner_fd,
            ready_fd=words.ready_fd,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
