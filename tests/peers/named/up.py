"""``sipherd up --json`` whose phones ask a name server of the test's own.

    python up.py ADDRESS PORT FILE

FILE is a herd file.  As its own nursery it runs without FILE, with the nursery's arguments.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import dns.resolver

from sipherd import view
from sipherd.protocol.herdfile import load_herd_file
from sipherd.protocol.paths import runtime_dir
from sipherd.supervisor.service import Options, run
from sipherd.worker import names, nursery


def up(file: str, server: list[str]) -> int:
    """Be the supervisor."""
    options = Options(
        spec=load_herd_file(file, os.environ),
        runtime_dir=runtime_dir(None, os.environ),
        view=view.as_records,
        nursery=[sys.executable, str(Path(__file__)), *server],
    )
    return run(options)


def fork_phones(address: str, port: int, arguments: list[str]) -> None:
    """Be the nursery."""

    def system_resolver() -> dns.resolver.Resolver:
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = [address], port
        resolver.lifetime = 2.0
        return resolver

    names.system_resolver = system_resolver
    nursery.main(arguments)


if __name__ == "__main__":
    address, port, *rest = sys.argv[1:]
    if len(rest) == 1:
        sys.exit(up(rest[0], [address, port]))
    fork_phones(address, int(port), rest)
