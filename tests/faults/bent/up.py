"""``sipherd up --json`` with a phone that is ill.

    python up.py ILLNESS FILE

ILLNESS is what `nursery.py` knows, FILE a herd file.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sipherd import view
from sipherd.protocol.herdfile import load_herd_file
from sipherd.protocol.paths import runtime_dir
from sipherd.supervisor.service import Options, run

if __name__ == "__main__":
    illness, file = sys.argv[1:]
    options = Options(
        spec=load_herd_file(file, os.environ),
        runtime_dir=runtime_dir(None, os.environ),
        view=view.as_records,
        nursery=[sys.executable, str(Path(__file__).with_name("nursery.py")), illness],
    )
    sys.exit(run(options))
