"""Who may import whom: the parts of the package stay apart."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PARTS = ("protocol", "supervisor", "worker")

#: What modules of a part may import of ours, beside the part itself. The face is sipherd/ without
#: its links. It starts the supervisor as a command, and tells nobody else's code to run.
ALLOWED = {
    "protocol": set[str](),
    "supervisor": {"protocol"},
    "worker": {"protocol"},
    "sipherd": {"protocol"},
}

#: The one module of the face that may import the supervisor, because it runs it.
RUNS_THE_SUPERVISOR = "sipherd/cli.py"


def modules() -> list[Path]:
    """All modules, by the path they have without the links."""
    return sorted(
        path.relative_to(ROOT)
        for part in ALLOWED
        for path in (ROOT / part).rglob("*.py")
        # Python 3.13's rglob follows no links, and older ones do.
        if part != "sipherd" or path.relative_to(ROOT).parts[1] not in PARTS
    )


def imported_parts(source: str, module: Path) -> set[str]:
    """The parts whose code `source` imports, relatively or by full name."""
    package = [*(["sipherd"] if module.parts[0] in PARTS else []), *module.parent.parts]
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base += node.module.split(".") if node.module else []
            names = [".".join([*base, alias.name]) for alias in node.names]
        for name in names:
            first, *rest = name.split(".")
            if first == "sipherd":
                found.add(rest[0] if rest and rest[0] in PARTS else "sipherd")
            elif first in PARTS:  # the folder by its bare name: works in the source tree alone
                found.add(f"top-level {first}")
    return found


@pytest.mark.parametrize("module", modules(), ids=str)
def test_a_part_imports_only_what_it_may(module: Path) -> None:
    part = module.parts[0]
    allowed = ALLOWED[part] | {part}
    if module.as_posix() == RUNS_THE_SUPERVISOR:
        allowed |= {"supervisor"}
    assert imported_parts((ROOT / module).read_text(), module) <= allowed


@pytest.mark.parametrize(
    ("module", "source", "parts"),
    [
        ("worker/sip/engine.py", "from ...protocol.messages import Incoming", {"protocol"}),
        ("worker/sip/engine.py", "from ..stack import Stack", {"worker"}),
        ("worker/sip/engine.py", "from . import message", {"worker"}),
        ("worker/nursery.py", "from .. import supervisor", {"supervisor"}),
        ("worker/nursery.py", "def f():\n    import sipherd.client", {"sipherd"}),
        ("worker/nursery.py", "import supervisor.core", {"top-level supervisor"}),
        ("sipherd/__init__.py", "from .protocol import spec", {"protocol"}),
        ("sipherd/client.py", "from sipherd import worker", {"worker"}),
        ("sipherd/load/store.py", "from ..protocol import events", {"protocol"}),
        ("sipherd/load/store.py", "from ..worker import names", {"worker"}),
        ("sipherd/load/store.py", "from . import records", {"sipherd"}),
        ("sipherd/client.py", "from sipherd import Herd\nimport os", {"sipherd"}),
    ],
)
def test_the_search_for_imports(module: str, source: str, parts: set[str]) -> None:
    assert imported_parts(source, Path(module)) == parts
