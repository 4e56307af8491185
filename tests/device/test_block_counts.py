"""Counts of instructions and edges, against hand counts and QEMU's own instruction trace."""

from __future__ import annotations

import itertools
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from dtmm.device import CycleModel, RegionCounts, require_tool, run_firmware, symbol
from dtmm.device.block_counts import read_counts
from dtmm.device.disassembly import disassemble
from dtmm.errors import MeasurementError
from tests.device.firmware import COUNT_DOWN, Build

COUNTING = """
void count_down(uint32_t);
int main(void) {
    static const uint32_t n[] = {N};
    static volatile uint32_t number = sizeof n / sizeof *n; /* unknown: nothing to unroll */
    for (uint32_t i = 0; i < number; i++) {
        count_down(17); /* outside: must not show */
        dtmm_region_begin(i + 10);
        count_down(n[i]);
        dtmm_region_end();
    }
    return 0;
}
"""

# vector loops, calls, conditionals, a call into the C library, a switch
MIXED = """
#include <string.h>
static int8_t a[256], b[256];
__attribute__((noinline)) static int32_t dot(const int8_t *x, const int8_t *y, int n) {
    int32_t sum = 0;
    for (int i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}
__attribute__((noinline)) static int collatz(unsigned n) {
    int steps = 0;
    for (; n != 1; steps++) n = n % 2 ? 3 * n + 1 : n / 2;
    return steps;
}
__attribute__((noinline)) static unsigned spread(unsigned n) {
    return n < 2 ? n : spread(n - 1) + spread(n - 2);
}
int main(void) {
    volatile uint32_t sink = 0;
    for (uint32_t i = 0; i < 6; i++) {
        dtmm_region_begin(i);
        if (i % 3 == 0) sink += (uint32_t)dot(a, b, 77 + (int)i);
        if (i % 3 == 1) { memcpy(a, b, 100 + i); sink += (uint32_t)collatz(27 + i); }
        if (i % 3 == 2) sink += spread(8 + i);
        dtmm_region_end();
    }
    return 0;
}
"""


def counting(build: Build, *n: int) -> tuple[Path, tuple[RegionCounts, ...]]:
    elf = build(COUNTING.replace("N", ", ".join(map(str, n)), 1), assembly=COUNT_DOWN).path
    return elf, run_firmware(elf, count_regions=True, timeout_s=60).regions


def test_counts_equal_a_hand_count(build: Build) -> None:
    numbers = (1, 2, 3, 1000, 123_457)
    elf, regions = counting(build, *numbers)
    assert [region.id for region in regions] == [10, 11, 12, 13, 14]
    kernel = symbol(elf, "count_down")
    for n, region in zip(numbers, regions, strict=True):
        own = (region.pc >= kernel.address) & (region.pc < kernel.address + kernel.size)
        assert (region.instructions * region.executions)[own].sum() == 2 * n + 1
        assert region.taken[own].sum() == n
        assert CycleModel().cycles(elf, region).by_symbol["count_down"].instructions == 2 * n + 1


def test_counts_are_linear_beyond_a_simulator_s_time_slice(build: Build) -> None:
    """-icount would cut blocks every 2^26 instructions: the blocks must stay the same ones."""
    short, long = 1_000, 100_000_000
    _, (one, many) = counting(build, short, long)
    assert many.total_instructions - one.total_instructions == 2 * (long - short)
    for field in ("pc", "end", "instructions"):
        assert np.array_equal(getattr(one, field), getattr(many, field))
    assert many.executions.max() == long


def trace(elf: Path, folder: Path) -> list[int]:
    """Addresses of all executed instructions, one per block, as QEMU logs them."""
    log = folder / "trace.txt"
    qemu = require_tool("qemu-system-arm")
    version = tuple(int(part) for part in str(qemu.version).split("."))
    single = ["-singlestep"] if version < (8, 1) else ["-accel", "tcg,one-insn-per-tb=on"]
    command = [str(qemu.found_path), "-machine", "mps3-an547", "-display", "none"]
    command += ["-serial", "none", "-monitor", "none", "-d", "exec,nochain", "-D", str(log)]
    command += ["-semihosting-config", "enable=on,target=native", *single, "-kernel", str(elf)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    found = re.findall(r"^Trace \d+: \S+ \[\w+/(\w+)/", log.read_text(), re.MULTILINE)
    return [int(address, 16) for address in found]


def regions_of(executed: list[int], elf: Path) -> list[list[int]]:
    """The addresses between the markers."""
    begin, end = symbol(elf, "dtmm_region_begin"), symbol(elf, "dtmm_region_end")
    regions: list[list[int]] = []
    active = False
    for address in executed:
        if begin.address <= address < begin.address + begin.size:
            if not active:
                regions.append([])
            active = True
        elif end.address <= address < end.address + end.size:
            active = False
        elif active:
            regions[-1].append(address)
    return regions


def test_counts_equal_an_instruction_trace(build: Build, tmp_path: Path) -> None:
    elf = build(MIXED).path
    code = disassemble(elf)
    size = dict(zip(code.address, code.size, strict=True))
    traced = regions_of(trace(elf, tmp_path), elf)
    counted = run_firmware(elf, count_regions=True, timeout_s=60).regions
    assert len(traced) == len(counted) == 6
    for addresses, region in zip(traced, counted, strict=True):
        assert region.total_instructions == len(addresses)
        executions = {pc: addresses.count(pc) for pc in set(addresses)}
        inside: dict[int, int] = {}
        phantom = 0
        for pc, end, n, count, taken in zip(
            *(getattr(region, k).tolist() for k in ("pc", "end", "instructions")),
            region.executions.tolist(),
            region.taken.tolist(),
            strict=True,
        ):
            phantom += taken if code.block(pc, end, n).at_page_end else 0
            first = code.position[pc]
            for address in code.address[first : first + n]:
                inside[address] = inside.get(address, 0) + count
        assert inside == executions
        jumps = sum(b != a + size[a] for a, b in itertools.pairwise(addresses))
        assert region.taken.sum() - phantom == jumps
    memcpy = [CycleModel().cycles(elf, r).by_symbol.get("memcpy") for r in counted]
    assert [cost is not None for cost in memcpy] == [False, True, False] * 2


def test_regions_do_not_depend_on_each_other(build: Build) -> None:
    elf, regions = counting(build, 50, 7, 50, 900, 50)
    costs = [CycleModel().cycles(elf, region).by_symbol["count_down"] for region in regions]
    assert costs[0] == costs[2] == costs[4]
    assert len(set(costs)) == 3


def test_the_same_firmware_gives_the_same_counts_and_cycles(build: Build) -> None:
    elf = build(MIXED).path
    one, two = (run_firmware(elf, count_regions=True, timeout_s=60).regions for _ in range(2))
    for a, b in zip(one, two, strict=True):
        for field in ("pc", "end", "instructions", "executions", "taken"):
            assert np.array_equal(getattr(a, field), getattr(b, field))
    assert CycleModel().price(elf, one) == CycleModel().price(elf, two)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "end in"),
        ("REGION 0\n40 44 2 1 0\n", "end in"),
        ("REGION 0\n40 44 2 1 0\nDONE 2\n", "expected .'DONE 1'"),
        ("REGION 0\n40 44 2 1\nDONE 1\n", "malformed"),
        ("REGION 0\n40 44 2 1 x\nDONE 1\n", "malformed"),
        ("REGION 0\nREGION 1\nDONE 2\n", "reported 1 regions, the plug-in counted 2"),
    ],
)
def test_damaged_counts_are_refused(text: str, message: str) -> None:
    with pytest.raises(MeasurementError, match=message):
        read_counts(text, [5])


def test_an_empty_region_counts_nothing() -> None:
    [region] = read_counts("REGION 0\nDONE 1\n", [5])
    assert (region.id, region.total_instructions, len(region.pc)) == (5, 0, 0)
