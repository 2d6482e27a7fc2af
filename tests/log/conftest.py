"""What the tests of the log share: `samples.py`, beside this file, is found by all of them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
