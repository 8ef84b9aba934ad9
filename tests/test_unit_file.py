"""The unit file in examples/ says what a herd needs of systemd, and starts commands that exist."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from sipherd.cli import sipherd as group

UNIT = Path(__file__).parents[1] / "examples" / "sipherd@.service"


@pytest.fixture
def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    return parser


def test_what_a_herd_needs(unit: configparser.ConfigParser) -> None:
    service = dict(unit["Service"])
    wanted = {
        "Type": "notify",
        "RuntimeDirectory": "sipherd",
        "RuntimeDirectoryMode": "0700",
        # It is that of all instances.
        "RuntimeDirectoryPreserve": "yes",
        "KillMode": "mixed",
        "TasksMax": "infinity",
        "LimitNOFILE": "65536",
        "Restart": "on-failure",
    }
    assert service.items() >= wanted.items()
    assert int(service["WatchdogSec"]) >= 10
    # A stop takes 10 s at most, and the supervisor a moment more.
    assert int(service["TimeoutStopSec"]) > 12


@pytest.mark.parametrize("key", ["ExecStart", "ExecReload"])
def test_its_commands_exist(unit: configparser.ConfigParser, key: str) -> None:
    path, name, *arguments = unit["Service"][key].replace("%i", "lab").split()
    assert Path(path).name == "sipherd"
    context = group.commands[name].make_context(name, arguments)
    assert context.params["herd"] == "lab"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_finds_nothing_to_say(tmp_path: Path) -> None:
    copy = tmp_path / "sipherd@lab.service"
    command = shutil.which("true")
    assert command is not None
    copy.write_text(UNIT.read_text().replace("/usr/local/bin/sipherd", command))
    done = subprocess.run(
        ["systemd-analyze", "verify", copy], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
