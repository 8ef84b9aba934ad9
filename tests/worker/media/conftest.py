"""Makes `mediawire`, the harness of this folder, importable (there are no test packages)."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
