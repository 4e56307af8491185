"""Plug-ins and figures on other releases of QEMU than Debian 12's.

A real one is used where DTMM_OTHER_QEMU names its qemu-system-arm; what a release accepts is also
played by a script, so that the detection is tested everywhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dtmm.device import CycleModel, DataCache, Run, require_tool, run_firmware
from dtmm.device.qemu_plugin import plugin_argument
from tests.device.firmware import COUNT_DOWN, Build

VARIABLE = "DTMM_OTHER_QEMU"

# Loops of vectors and scalars over data behind the cache, calls, a switch, and straight code over
# several of the pages at which QEMU cuts blocks.
PROGRAM = """
#include <string.h>
void count_down(uint32_t);
static int8_t a[20000], b[20000];
__attribute__((noinline)) static int32_t dot(const int8_t *x, const int8_t *y, int n) {
    int32_t sum = 0;
    for (int i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}
__attribute__((noinline)) static int pick(int n) {
    switch (n % 7) {
    case 0: return n;
    case 1: return n ^ 5;
    case 3: return -n;
    case 4: return n * n;
    default: return 3 * n;
    }
}
int main(void) {
    volatile int sink = 0;
    for (uint32_t r = 0; r < 3; r++) {
        dtmm_region_begin(r);
        for (int i = 0; i < 20000; i += 999) sink += dot(a, b, i);
        for (int i = 0; i < 300; i++) sink += pick(i);
        memcpy(a, b, 9999);
        if (r == 2) count_down(200);
        dtmm_region_end();
    }
    return 0;
}
"""
PAGES = COUNT_DOWN.replace(
    "    subs r0, #1", "    subs.w r0, r0, #1\nnop\n" + "mov.w r1, r2\n" * 1500
)
PAGES = PAGES.replace("    bne  count_down", "    bne.w count_down")


@pytest.mark.parametrize("oldest", [1, 2, 3, 4])
def test_a_plugin_is_built_for_the_api_that_qemu_accepts(
    toolchain: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, oldest: int
) -> None:
    """The script refuses like QEMU 7.2 (version 1) up to QEMU 9.2 and 10 (version 4)."""
    program = tmp_path / "qemu-system-arm"
    program.write_text(
        f"""#!{sys.executable}
import ctypes, os, sys
if "--version" in sys.argv:
    print("QEMU emulator version 9.9.{oldest}")
    sys.exit()
path = sys.argv[sys.argv.index("-plugin") + 1].split(",")[0]
version = ctypes.c_int.in_dll(ctypes.CDLL(path, os.RTLD_LAZY), "qemu_plugin_version").value
if version < {oldest}:
    sys.exit(f"plugin requires API version {{version}}, but this QEMU supports only a minimum "
             "version of {oldest}")
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    built, _, _ = plugin_argument("block_counts", {"out": [tmp_path / "out"]}).partition(",")
    assert api_version(Path(built)) == oldest


def api_version(plugin: Path) -> int:
    """The version that a plug-in declares, read in a process of its own."""
    code = (
        "import ctypes, os, sys; "
        "print(ctypes.c_int.in_dll(ctypes.CDLL(sys.argv[1], os.RTLD_LAZY), "
        "'qemu_plugin_version').value)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(plugin)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.fixture(scope="module")
def elf(build: Build) -> Path:
    return build(PROGRAM, assembly=PAGES).path


@pytest.fixture(scope="module")
def runs(elf: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """The same firmware on the QEMU on PATH and on the other one."""
    other = Path(os.environ.get(VARIABLE, ""))
    if not (other.is_file() and os.access(other, os.X_OK)):
        pytest.skip(f"{VARIABLE} names no other qemu-system-arm")
    folder = tmp_path_factory.mktemp("other")
    (folder / "qemu-system-arm").symlink_to(other.resolve())
    with pytest.MonkeyPatch.context() as patch:
        here = require_tool("qemu-system-arm").version
        first = run_firmware(elf, count_regions=True, cache=DataCache(), timeout_s=120)
        patch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        assert require_tool("qemu-system-arm").version != here
        return first, run_firmware(elf, count_regions=True, cache=DataCache(), timeout_s=120)


def test_instructions_and_misses_are_the_same(runs: tuple[Run, Run]) -> None:
    ours, theirs = runs
    assert [r.total_instructions for r in ours.regions] == [
        r.total_instructions for r in theirs.regions
    ]
    for one, two in zip(ours.cache, theirs.cache, strict=True):
        assert (one.read_misses, one.write_misses) == (two.read_misses, two.write_misses)
        assert (one.bytes_read, one.bytes_written) == (two.bytes_read, two.bytes_written)


def test_cycles_differ_by_the_page_edges_alone(elf: Path, runs: tuple[Run, Run]) -> None:
    """QEMU 7.2 shows an edge where a block is cut at a page; later releases do not."""
    ours, theirs = runs
    model, corrected = CycleModel(), CycleModel("without page edges", page_edges=False)
    for one, two in zip(ours.regions, theirs.regions, strict=True):
        cycles = corrected.cycles(elf, two).cycles
        # releases also cut long blocks at other places, which moves what llvm-mca sees of them
        assert corrected.cycles(elf, one).cycles == pytest.approx(cycles, rel=1e-3)
        assert model.cycles(elf, two).cycles == cycles
    straight = [model.cycles(elf, run.regions[2]).cycles for run in runs]
    assert straight[0] - straight[1] >= 2 * 200 * 4  # count_down's 200 rounds over 5 borders
