"""What a person orders: a file, flags, or both."""

from __future__ import annotations

from pathlib import Path

import pytest

from sipherd.load.order import read_order
from sipherd.load.profile import Infile
from sipherd.protocol.errors import HerdFileError

LOAD = """
load:
  callers: "agent-*"
  callees: "desk-*"
  arrival: 20
  duration: 60s
  gates: [as_intended >= 90]
"""
PHONES = """
phones:
  - {name: "agent-{n}", count: 2, number: "{1000 + n}"}
  - {name: desk-1, number: "2001"}
"""


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "load.yaml"
    path.write_text(PHONES + LOAD)
    return path


def problems(path: Path, **flags: str) -> list[str]:
    with pytest.raises(HerdFileError) as caught:
        read_order(path, {f"-{flag}": value for flag, value in flags.items()}, {}, {})
    return caught.value.problems


def test_a_file_with_phones_is_a_herd_of_its_own(written: Path) -> None:
    order = read_order(written, {}, {}, {})
    assert order.phones is not None
    assert [phone.name for phone in order.phones.phones] == ["agent-1", "agent-2", "desk-1"]
    assert order.profile.callers == ("agent-*",)


def test_a_file_with_phones_can_be_for_a_herd_that_runs(written: Path) -> None:
    order = read_order(written, {}, {}, {}, join=True)
    assert order.phones is None
    assert order.profile.duration == 60


def test_a_profile_alone_is_for_a_herd_that_runs(tmp_path: Path) -> None:
    path = tmp_path / "load.yaml"
    path.write_text(LOAD)
    assert read_order(path, {}, {}, {}).phones is None


def test_flags_take_the_place_of_what_the_file_says(written: Path) -> None:
    flags = {"-r": "50", "-m": "100", "-d": "2000", "-l": "10"}
    fields = {"gates": ("seer >= 99",), "seed": 4, "callers": ("agent-1",)}
    profile = read_order(written, flags, fields, {}).profile
    assert profile.arrival.rate == 50
    assert (profile.limits.total, profile.limits.concurrent) == (100, 10)
    assert profile.hold.mean == 2
    assert profile.gates == ("seer >= 99",)
    assert profile.callers == ("agent-1",)
    assert profile.callees == ("desk-*",)


def test_flags_alone_are_a_profile() -> None:
    flags = {"-r": "10", "-d": "5000", "-m": "100"}
    order = read_order(None, flags, {"callers": ("agent-*",), "callees": ("sip:a@b",)}, {})
    assert order.phones is None
    assert order.profile.callees == ("sip:a@b",)
    assert order.profile.hold.mean == 5
    assert order.profile.arrival.rate == 10


def test_phones_without_a_profile_can_be_loaded_by_flags(tmp_path: Path) -> None:
    path = tmp_path / "herd.yaml"
    path.write_text(PHONES)
    order = read_order(path, {"-m": "5"}, {}, {})
    assert order.phones is not None
    assert order.profile.callers == ("*",)
    assert problems(path) == [
        f"{path}: no load; expected one beside the phones, or flags such as -r 10 -m 100"
    ]


def test_random_arrivals(written: Path) -> None:
    assert read_order(written, {}, {}, {}, poisson=True).profile.arrival.poisson
    alone = read_order(None, {"-m": "5", "-r": "3"}, {}, {}, poisson=True).profile.arrival
    assert (alone.poisson, alone.rate) == (True, 3)


@pytest.mark.parametrize(
    ("fields", "infile"),
    [
        ({"callees": ("sip:x@y",)}, Infile(file="pairs.csv", callee=None, caller=1)),
        ({"callees": ("sip:x@y",), "callers": ("agent-1",)}, None),
    ],
)
def test_who_is_named_by_flags_takes_the_place_of_a_column(
    tmp_path: Path, fields: dict[str, object], infile: Infile | None
) -> None:
    path = tmp_path / "load.yaml"
    path.write_text("load: {arrival: 1, duration: 5s, infile: {file: p, caller: 1, callee: 0}}")
    found = read_order(path, {}, fields, {}).profile.infile
    if infile is None:
        assert found is None
    else:
        assert found is not None
        assert (found.caller, found.callee) == (infile.caller, infile.callee)


def test_all_problems_of_a_file_are_told(tmp_path: Path) -> None:
    path = tmp_path / "load.yaml"
    path.write_text(PHONES.replace("desk-1", "desk 1") + LOAD.replace("20", "fast"))
    found = problems(path)
    assert any("desk 1" in problem for problem in found)
    assert any("fast" in problem for problem in found)
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "empty, expected a mapping with load"),
        ("load: [", "YAML"),
        ("load: {callers: a, callees: b, arrival: 1}", "it never ends"),
        ("load: {callers: a, callees: b, arrival: 1, duration: 5s, gates: fast}", "METRIC"),
    ],
)
def test_files_that_are_no_profile(tmp_path: Path, text: str, wanted: str) -> None:
    path = tmp_path / "load.yaml"
    path.write_text(text)
    (problem,) = problems(path)
    assert problem.startswith(f"{path}")
    assert wanted in problem


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.yaml") == [
        f"{tmp_path}/none.yaml: No such file or directory, expected a load profile"
    ]


def test_flags_that_never_end() -> None:
    with pytest.raises(ValueError, match="it never ends"):
        read_order(None, {"-r": "10"}, {}, {})
