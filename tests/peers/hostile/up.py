"""``sipherd up --json`` whose phones come from the wrong nursery.

    python up.py FAULT FILE

FAULT is what `wrong_nursery.py` knows, FILE a herd file.
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
    fault, file = sys.argv[1:]
    wrong_nursery = Path(__file__).with_name("wrong_nursery.py")
    options = Options(
        spec=load_herd_file(file, os.environ),
        runtime_dir=runtime_dir(None, os.environ),
        view=view.as_records,
        nursery=[sys.executable, str(wrong_nursery), fault],
    )
    sys.exit(run(options))
