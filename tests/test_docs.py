"""What the README and the documents show is true: files load, commands exist, the example runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import sipherd
from sipherd.cli import sipherd as group
from sipherd.load.gates import parse
from sipherd.load.metrics import DISTRIBUTIONS, METRICS
from sipherd.load.profile import Arrival, Entry, Kind, LoadLimits, LoadProfile
from sipherd.load.profilefile import parse_profile
from sipherd.load.sippflags import SIPP_FLAGS
from sipherd.load.verdict import Limits
from sipherd.protocol.herdfile import load_herd_file, parse_herd
from sipherd.protocol.spec import HerdPorts, HerdSpec, OnIncoming, PhoneSpec
from sipherd.supervisor.reload import ON_THE_FLY

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
HERD_FILE = ROOT / "docs" / "herd-file.md"
BEHAVIOURS = ROOT / "docs" / "behaviours.md"
REMOTE = ROOT / "docs" / "remote.md"
SERVICE = ROOT / "docs" / "service.md"
LOAD = ROOT / "docs" / "load.md"


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(), re.M | re.S)


@pytest.mark.parametrize("document", [README, HERD_FILE], ids=lambda path: path.name)
def test_herd_files_load(document: Path) -> None:
    first, *others = blocks(document, "yaml")
    assert len(parse_herd(first, document.name, {}).phones) > 50
    for text in others:
        assert parse_herd(text, document.name, {}).phones


def test_examples_are_shown_as_they_are() -> None:
    shown = [text for text in blocks(README, "yaml") if text.startswith("# examples/")]
    assert shown
    for text in shown:
        name, _, content = text.removeprefix("# ").partition("\n")
        assert (ROOT / name).read_text().endswith(content)


@pytest.mark.parametrize(
    "file", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name
)
def test_examples_load(file: Path) -> None:
    assert load_herd_file(file, {}).phones


def test_the_document_has_every_key() -> None:
    text = HERD_FILE.read_text()
    for spec in (HerdSpec, HerdPorts, PhoneSpec, OnIncoming):
        for field in spec.__struct_fields__:
            assert re.search(rf"`(ports\.)?{field}[`:.]", text), field


def test_the_document_has_what_a_reload_can_change_of_a_herd() -> None:
    text = SERVICE.read_text()
    assert [field for field in ON_THE_FLY if f"`{field}`" not in text] == []
    assert {*HerdSpec.__struct_fields__} > ON_THE_FLY


def test_the_profile_of_the_document_is_one() -> None:
    (text,) = blocks(LOAD, "yaml")
    profile = parse_profile(text, LOAD.name, {})
    assert profile.seconds == 660


def test_the_document_has_every_key_of_a_profile() -> None:
    text = LOAD.read_text()
    for spec in (LoadProfile, Arrival, LoadLimits, Entry):
        for field in spec.__struct_fields__:
            assert re.search(rf"`(limits\.)?{field}[`:.]", text), field
    for kind in get_args(Kind):
        assert f"| `{kind}` |" in text
    for flag in SIPP_FLAGS:
        assert f"`{flag}`" in text


def test_the_document_has_every_metric() -> None:
    text = LOAD.read_text()
    assert [name for name in (*METRICS, *DISTRIBUTIONS) if f"`{name}`" not in text] == []
    for gate in re.findall(r"`([a-z_0-9]+ [<>=]+ [^`]+)`", text):
        parse(gate)


def test_the_document_has_the_limits_of_a_verdict() -> None:
    text = LOAD.read_text()
    rows = dict(re.findall(r"^\| ([a-zA-Z ]+) \| (.*) \|$", text, re.M))
    limits = Limits()

    def numbers(row: str) -> list[str]:
        return re.findall(r"[0-9.]+ (?:ms|%)|at least [0-9]+", rows[row])

    habit = f"at least {limits.habit}"
    assert numbers("late starts") == ["1 %", f"{1000 * limits.late:g} ms"]
    lag, share = f"{1000 * limits.loop_lag:g} ms", f"{limits.loop_lag_share:g} %"
    assert numbers("loop lag") == [lag, share, habit]
    lag, share = f"{1000 * limits.cpu_lag:g} ms", f"{limits.cpu_share:g} %"
    assert numbers("processors") == [f"{100 * limits.cpu:g} %", lag, share, habit]
    assert limits.socket_drops == limits.rtp_exhausted == 0
    assert f"seen for {limits.growth.seconds / 60:g} minutes" in text


def test_commands_exist() -> None:
    shown = re.findall(r"^sipherd (\w+)", "\n".join(blocks(LOAD, "sh")), re.M)
    assert {*shown} == {"load", "report", "ladder", "compare"}
    text = "\n".join([*blocks(README, "sh"), *blocks(README, "console")])
    named = re.findall(r"^(?:\$ )?sipherd (\w+)", text, re.M)
    (others,) = re.findall(r"The other commands are `([^`]*)`", README.read_text())
    assert {*named, *others.split()} == set(group.commands)


@pytest.mark.parametrize(
    "example",
    [*blocks(README, "python"), blocks(BEHAVIOURS, "python")[0]],
    ids=["call", "desk phone", "behaviour"],
)
def test_the_examples_run(runtime_dir: Path, example: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", example],
        env=os.environ | {"PYTHONPATH": str(Path(sipherd.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_links_lead_somewhere() -> None:
    for document in (README, HERD_FILE, BEHAVIOURS, REMOTE, SERVICE, LOAD):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
