"""The rule of the house: planning is numpy only."""

from __future__ import annotations

import subprocess
import sys


def test_import_leaves_torch_out() -> None:
    code = "import sys, dtmm.planning; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
