"""A long run over real phones: they must not grow, and nothing may be left of their calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from commandline import Run
from sipherd.load.records import Leftovers
from sipherd.load.soak import slopes
from sipherd.load.store import RunReader

SOAK = (Path(__file__).parents[3] / "examples" / "soak.yaml").read_text()
WARM_UP = 120.0


# Growth is judged from ten minutes on.  The whole hour is `sipherd load examples/soak.yaml`.
@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_phones_do_not_grow_and_nothing_is_left(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "soak.yaml"
    file.write_text(
        SOAK.replace("duration: 1h", "duration: 13m").replace("warm_up: 5m", "warm_up: 2m")
    )
    run("load", str(file), "--run", str(tmp_path / "run"))
    with RunReader(tmp_path / "run") as kept:
        facts = kept.facts
        found = list(slopes(kept.phone_samples(), since=WARM_UP))
    assert facts.state == "finished"
    assert facts.leftovers == Leftovers()
    assert len(found) == 3 * 20, "each phone is one process from beginning to end"
    assert all(slope.seconds >= 600 for slope in found)
    assert facts.verdict is not None
    # INVALID is said of the box alone.
    assert facts.verdict["failed"] == []
