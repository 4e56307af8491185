"""The same random cases under AddressSanitizer and UndefinedBehaviorSanitizer, in a process of
their own, with buffers that end where their last needed byte ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from dtmm.device import build_host_library
from dtmm.runtime_c import include_dir, sources

RUN = """
import sys
from pathlib import Path
import numpy as np
from tests.runtime_c.checks import CHECKS
from tests.runtime_c.library import load
library = load(Path(sys.argv[1]))
for name, check in CHECKS.items():
    for seed in range(int(sys.argv[2])):
        check(library, np.random.default_rng([seed, 7, len(name)]), 0)
print("clean")
"""

OVERRUN = """
#include <stdint.h>
int read_past(const int8_t *p, int n) { return p[n]; }
"""

CATCH = """
import ctypes, sys
import numpy as np
array = np.zeros(2048, np.int8)
ctypes.CDLL(sys.argv[1]).read_past(ctypes.c_void_p(array.ctypes.data), 2048)
"""


def sanitized(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    runtime = subprocess.run(
        ["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    # the interpreter itself leaks on purpose
    options = {"LD_PRELOAD": runtime.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **options},
        check=False,
    )


def test_no_access_outside_a_buffer_and_no_undefined_behaviour(tmp_path: Path, full: bool) -> None:
    library = build_host_library(
        sources=sources(),
        out_so=tmp_path / "libdtmm.so",
        include_dirs=[include_dir()],
        sanitize=["address", "undefined"],
    )
    run = sanitized(RUN, str(library), "600" if full else "40")
    assert run.stdout.strip() == "clean", run.stderr[-3000:]


def test_the_sanitizer_sees_the_ends_of_numpy_arrays(tmp_path: Path) -> None:
    source = tmp_path / "overrun.c"
    source.write_text(OVERRUN)
    library = build_host_library(
        sources=[source], out_so=tmp_path / "overrun.so", sanitize=["address"]
    )
    assert "heap-buffer-overflow" in sanitized(CATCH, str(library)).stderr
