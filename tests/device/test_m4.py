"""The simulated Cortex-M4: firmware for it runs there, counts, faults; the M55's does not."""

from __future__ import annotations

import pytest

from dtmm.device import MemoryMap, device
from dtmm.device.memory import AN386_MAP
from dtmm.errors import MeasurementError, ToolchainError
from tests.device.firmware import COUNT_DOWN, Build

MAIN = """
static volatile int32_t product = 1;
void count_down(uint32_t);
int main(void) {
  for (int i = 1; i <= 10; i++) product *= i;
  dtmm_region_begin(3);
  count_down(100);
  dtmm_region_end();
  const uint32_t values[] = {(uint32_t)product, __ARM_ARCH};
  dtmm_report_u32("VALUES", values, 2);
  return 0;
}"""


def test_it_runs_and_counts_exactly(build: Build) -> None:
    elf = build(MAIN, assembly=COUNT_DOWN, target="m4")
    assert elf.memory == AN386_MAP
    run = device("qemu-m4").run(elf.path, count_regions=True, timeout_s=30)
    assert run.one("VALUES").numbers() == (3628800, 7)
    (region,) = run.regions
    # the call and its argument besides the 201 of count_down
    assert 201 <= region.total_instructions <= 201 + 6


def test_a_fault_is_reported(build: Build) -> None:
    elf = build("int main(void) { return *(volatile int *)0x50000000; }", target="m4")
    with pytest.raises(MeasurementError, match="faulted on QEMU"):
        device("qemu-m4").run(elf.path, count_regions=False, timeout_s=30)


def test_vector_code_of_the_m55_faults_there(build: Build) -> None:
    """So a test that passes on the M4 has run portable code."""
    vector = """
    #include <arm_mve.h>
    static int32_t data[4] = {1, 2, 3, 4};
    int main(void) { return vaddvq_s32(vldrwq_s32(data)) != 10; }"""
    elf = build(vector)
    assert device("qemu").run(elf.path, count_regions=False, timeout_s=30).lines == ()
    with pytest.raises((MeasurementError, ToolchainError)):
        device("qemu-m4").run(elf.path, count_regions=False, timeout_s=5)


def test_memories_belong_to_their_board() -> None:
    with pytest.raises(ToolchainError, match=r"code='SSRAM1': expected ITCM"):
        MemoryMap(code="SSRAM1")
    with pytest.raises(
        ToolchainError, match="board 'mps4': expected one of mps3-an547, mps2-an386"
    ):
        MemoryMap(board="mps4")
    assert "SSRAM23" in AN386_MAP.linker_script()
