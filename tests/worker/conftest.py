"""Makes the harnesses of this folder importable; real nurseries as a fixture."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from smallherd import SmallHerd


@pytest.fixture
def herd(runtime_dir: Path) -> Iterator[SmallHerd]:
    """A nursery and the test as its supervisor."""
    with SmallHerd(runtime_dir) as herd:
        yield herd
