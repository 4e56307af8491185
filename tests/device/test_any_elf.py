"""Firmware without markers: counted from a symbol on, the same as a marked region."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtmm.device import CycleModel, run_firmware, section_sizes, symbols, target_flags
from dtmm.device.any_elf import measure_elf
from dtmm.device.elf import require_arm_program
from dtmm.device.toolchain import run_tool
from dtmm.errors import DtmmError, MeasurementError, ToolchainError
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
    [
        ("Fault_Handler", "ended without reaching Fault_Handler"),
        ("count_dawn", "no symbol 'count_dawn'; nearest: 'count_down'"),
        ("xyzzy", r"no symbol 'xyzzy'$"),
    ],
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


def test_files_that_are_no_firmware(elf: Path, tmp_path: Path) -> None:
    stripped, text, object_file = (tmp_path / name for name in ("s.elf", "t.elf", "o.elf"))
    stripped.write_bytes(elf.read_bytes())
    subprocess.run(["arm-none-eabi-strip", stripped], check=True)
    text.write_text("int main;")
    run_tool("clang", [*target_flags(), "-c", "-x", "c", "-", "-o", object_file], stdin="int main;")
    for path, message in (
        (Path("/bin/sh").resolve(), "is for .*, expected a program for 32-bit little-endian Arm"),
        (stripped, "no symbol 'main', nor any other: it is stripped"),
        (text, "t.elf: not an ELF file"),
        (object_file, "o.elf: is of type ET_REL, expected a linked program"),
        (tmp_path, "does not exist"),
    ):
        with pytest.raises(ToolchainError, match=message) as error:
            measure_elf(path, "main")
        assert "\n" not in str(error.value)


def test_a_name_that_two_functions_have(build: Build, tmp_path: Path) -> None:
    twin = "__attribute__((noinline, used)) static uint32_t twin(uint32_t n) { return n * %d; }"
    model = f"#include <stdint.h>\n{twin % 3}\nuint32_t other(uint32_t n) {{ return twin(n); }}"
    main = f"{twin % 5} uint32_t other(uint32_t); int main(void) {{ return twin(0) + other(0); }}"
    both = build(main, model=model).path
    with pytest.raises(ToolchainError, match=r"2 symbols are named 'twin', at 0x.*, 0x"):
        measure_elf(both, "twin")


@given(st.data())
def test_a_damaged_file_is_read_or_refused(elf: Path, data: st.DataObject) -> None:
    damaged = bytearray(elf.read_bytes())
    headers = int.from_bytes(damaged[32:36], "little")  # e_shoff: the section table is behind it
    places = st.integers(0, 51) | st.integers(headers, len(damaged) - 1)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(places)] = data.draw(st.integers(0, 255))
    path = elf.with_name("damaged.elf")
    path.write_bytes(damaged[: data.draw(st.sampled_from([len(damaged), headers + 100, 40]))])
    try:
        require_arm_program(path)
        symbols(path)
        section_sizes(path)
    except ToolchainError as error:
        assert "\n" not in str(error)
