"""What is built and installed: one top-level name, typed, at peace with supervisord."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

BUILT_FROM = (
    *("setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE"),
    *("sipherd", "supervisor", "worker", "protocol"),
)


def run(*command: str | Path, cwd: Path) -> str:
    """The command's output; its errors are in the failure if it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(what: str, source: Path, into: Path) -> Path:
    # Without isolation: setuptools is here already, and need not be fetched each time.
    run(sys.executable, "-m", "build", what, "--no-isolation", "-o", into, source, cwd=source)
    (built,) = into.iterdir()
    return built


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built, because a build writes into its tree."""
    tree = tmp_path_factory.mktemp("tree")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, tree / name)
    return tree


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("--wheel", tree, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def wheel_of_sdist(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sdist = build("--sdist", tree, tmp_path_factory.mktemp("sdist"))
    unpacked = tmp_path_factory.mktemp("unpacked")
    run("tar", "--extract", "--file", sdist, cwd=unpacked)
    (source,) = unpacked.iterdir()
    return build("--wheel", source, tmp_path_factory.mktemp("wheel"))


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = contents(wheel)
    top_level = {name.split("/")[0] for name in names}
    (dist_info,) = (name for name in top_level if name.endswith(".dist-info"))
    assert top_level == {"sipherd", dist_info}
    assert "sipherd/py.typed" in names
    assert {f"sipherd/load/report.{kind}" for kind in ("html", "css", "js")} <= names
    ours = {
        f"sipherd/{path.relative_to(ROOT)}"
        for part in ("protocol", "supervisor", "worker")
        for path in (ROOT / part).rglob("*.py")
    }
    assert ours <= names


@pytest.mark.slow
def test_the_wheel_of_the_sdist_is_the_same(wheel: Path, wheel_of_sdist: Path) -> None:
    assert contents(wheel_of_sdist) == contents(wheel)


@pytest.mark.slow
def test_both_run_beside_supervisord(wheel: Path, tmp_path: Path) -> None:
    """One wheel for both: that of the sdist is the same."""
    run(sys.executable, "-m", "venv", "venv", cwd=tmp_path)
    bin_ = tmp_path / "venv" / "bin"
    run(bin_ / "pip", "install", "--quiet", wheel, "supervisor", cwd=tmp_path)
    code = "import supervisor.supervisord, sipherd.supervisor; print(supervisor.__file__)"
    assert "sipherd" not in run(bin_ / "python", "-W", "ignore", "-c", code, cwd=tmp_path)
    assert "0.1.0" in run(bin_ / "sipherd", "--version", cwd=tmp_path)
    assert '"verdict":"pass"' in run(bin_ / "sipherd", "demo", "--json", cwd=tmp_path)
    assert run(bin_ / "supervisord", "--version", cwd=tmp_path).strip()
