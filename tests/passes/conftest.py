"""The formulas of the symbolic tests serve the passes too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "symbolic"))
