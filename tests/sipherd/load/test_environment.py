"""What is said of the box."""

from __future__ import annotations

from pathlib import Path

import msgspec

from sipherd.load.environment import environment


def test_this_box() -> None:
    found = environment()
    assert found["kernel"].startswith("Linux ")
    assert found["cores"] >= 1
    assert found["versions"]["pyzmq"]
    assert found["memory"].endswith("MB")
    assert msgspec.json.decode(msgspec.json.encode(found)) == found


def test_a_box_that_says_little(tmp_path: Path) -> None:
    found = environment(tmp_path)
    assert (found["memory"], found["rmem_max"]) == ("", None)
    assert found["cpu"]


def test_what_the_kernel_says(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    (proc / "sys/net/core").mkdir(parents=True)
    (proc / "sys/net/core/rmem_max").write_text("212992\n")
    (proc / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n")
    (proc / "meminfo").write_text("MemTotal:       1000000 kB\nMemAvailable:    500000 kB\n")
    found = environment(tmp_path)
    assert found["cpu"] == "Some CPU @ 2 GHz"
    assert found["memory"] == "1024.0 MB"
    assert found["rmem_max"] == 212992
