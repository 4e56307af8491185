"""Firmware without markers: counted from a symbol on, the same as a marked region."""

from __future__ import annotations

from pathlib import Path

import pytest

from dtmm.device import CycleModel, run_firmware
from dtmm.device.any_elf import measure_elf
from dtmm.errors import DtmmError, MeasurementError
from tests.device.firmware import COUNT_DOWN, Build

MAIN = """
void count_down(uint32_t);
__attribute__((noinline)) void before(void) { count_down(1000); }
__attribute__((noinline)) void after(void) { __asm volatile("nop"); }
int main(void) {
    before();
    dtmm_region_begin(0);
    count_down(17);
    dtmm_region_end();
    after();
    return 0;
}
"""


@pytest.fixture(scope="module")
def elf(build: Build) -> Path:
    return build(MAIN, assembly=COUNT_DOWN).path


def test_equals_a_marked_region(elf: Path) -> None:
    marked = CycleModel().price(elf, run_firmware(elf, count_regions=True).regions)[0]
    from_there = measure_elf(elf, "dtmm_region_end", "after")  # what the markers leave out
    both = measure_elf(elf, "dtmm_region_begin", "after")
    begin = both.by_symbol["dtmm_region_begin"]
    assert both.by_symbol["count_down"] == marked.by_symbol["count_down"]
    assert both.instructions == marked.instructions + from_there.instructions + begin.instructions


def test_counts_the_first_arrival_only(elf: Path) -> None:
    cost = measure_elf(elf, "count_down", "dtmm_region_begin")
    assert cost.by_symbol["count_down"].instructions == 2 * 1000 + 1
    assert measure_elf(elf, "count_down").instructions > cost.instructions  # to the end


@pytest.mark.parametrize(
    ("start", "message"),
    [("Fault_Handler", "ended without reaching Fault_Handler"), ("absent", "absent")],
)
def test_refusals(start: str, message: str, elf: Path) -> None:
    with pytest.raises(DtmmError, match=message):
        measure_elf(elf, start)


def test_faults(build: Build, elf: Path, tmp_path: Path) -> None:
    hangs = build("int main(void) { for (;;) { } }").path
    with pytest.raises(MeasurementError, match=r"did not end within 0\.5 s"):
        measure_elf(hangs, "main", timeout_s=0.5)
    with pytest.raises(DtmmError, match="does not exist"):
        measure_elf(tmp_path / "absent.elf", "main")
