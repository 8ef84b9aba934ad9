"""A SIP program that is missing: a failure where CI is set, a skip with the reason elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PEERS = {"sipp": "sip-tester", "baresip": "baresip-core", "kamailio": "kamailio"}
HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("ci", "outcome"),
    [({"CI": "true"}, "ERROR"), ({}, "SKIPPED")],
    ids=["in CI", "elsewhere"],
)
@pytest.mark.parametrize(("peer", "package"), PEERS.items())
def test_a_missing_peer(
    tmp_path: Path, peer: str, package: str, ci: dict[str, str], outcome: str
) -> None:
    for name in ("conftest.py", "faultmatrix.py", "interop.py", "leaks.py"):
        shutil.copy(HERE / name, tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\nmarkers = peers\n")
    (tmp_path / "test_peer.py").write_text(f"def test_it({peer}): pass\n")
    environ = {key: value for key, value in os.environ.items() if key != "CI"}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "peers", "-ra", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=environ | ci | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    summary = run.stdout.partition("short test summary info")[2]
    assert summary.partition("\n")[2].startswith(outcome), run.stdout + run.stderr
    assert f"{peer} is missing: apt-get install {package}" in summary
