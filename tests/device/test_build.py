"""Firmware and host builds: where things land, what is said when they fail."""

from __future__ import annotations

import ctypes
import json
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

from dtmm.device import (
    MemoryMap,
    build_elf,
    build_host_library,
    build_host_program,
    flash_bytes,
    product_ram_bytes,
    run_firmware,
    section_sizes,
    sizes_by_prefix,
    symbol,
)
from dtmm.device.disassembly import disassemble
from dtmm.errors import ToolchainError
from tests.device.firmware import COUNT_DOWN, Build

MODEL = """
#include <stdint.h>
__attribute__((section(".dtmm.weights"))) const int8_t m_weights[1000] = {1};
__attribute__((section(".dtmm.weights.m_unused"))) const int8_t m_unused[5000] = {1};
__attribute__((section(".dtmm.index"))) const uint16_t m_index[36] = {2};
__attribute__((section(".dtmm.params"))) const int32_t m_params[20] = {3};
static const int16_t m_table[50] = {4, 5, 6};
static volatile int8_t m_arena[4096];
int32_t m_run(int i) {
    m_arena[i] = m_weights[i];
    return m_arena[i] + m_index[i % 36] + m_params[i % 20] + m_table[i % 50];
}
"""
MAIN = """
int32_t m_run(int); void count_down(uint32_t);
int main(void) {
    static volatile int zero;
    count_down(3);
    const uint32_t sum = (uint32_t)m_run(zero);
    dtmm_report_u32("SUM", &sum, 1);
    return 0;
}
"""


def test_flash_and_ram_are_told_apart(build: Build) -> None:
    elf = build(MAIN, model=MODEL, assembly=COUNT_DOWN).path
    flash = flash_bytes(elf)
    assert (flash.weights, flash.index, flash.parameters) == (1000, 72, 80)
    assert flash.constants == 100
    shipped = [symbol(elf, name).size for name in ("m_run", "count_down")]
    # functions start on 4-byte boundaries
    assert 0 <= flash.code - sum(shipped) < 8
    assert flash.harness > symbol(elf, "main").size + symbol(elf, "dtmm_report_u32").size
    assert product_ram_bytes(elf) == 4096
    assert sizes_by_prefix(elf, "m_") == 1000 + 72 + 80 + 100 + 4096 + shipped[0]
    assert section_sizes(elf)[".stack"] == MemoryMap().stack_bytes
    with pytest.raises(ToolchainError, match="no symbol 'm_unused'"):
        symbol(elf, "m_unused")
    run = run_firmware(elf, count_regions=False, timeout_s=30)
    assert run.one("SUM").numbers() == (1 + 2 + 3 + 4,)


BIG = 1_200_000
BIG_MAIN = """
extern const uint8_t big[];
int main(void) {
    uint32_t crc = 0xffffffffu; /* CRC-32 of zlib, to compare with Python's */
    for (int i = 0; i < 1200000; i++) {
        crc ^= big[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    crc = ~crc;
    dtmm_report_u32("CRC", &crc, 1);
    return 0;
}
"""


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, int]:
    """C source with 1.2 MB of weights, and their CRC-32."""
    data = np.random.default_rng(0).integers(0, 256, BIG, dtype=np.uint8).tobytes()
    file = tmp_path_factory.mktemp("big") / "big.bin"
    file.write_bytes(data)
    lines = ['.section .dtmm.weights, "a"', ".global big", f'big: .incbin "{file}"', ".text"]
    source = f"__asm__({json.dumps(chr(10).join(lines))});\n"
    return source, zlib.crc32(data)


@pytest.mark.parametrize("region", ["ITCM", "SRAM", "ISRAM", "DDR"])
def test_large_weights_link_and_run(build: Build, big: tuple[str, int], region: str) -> None:
    source, crc = big
    elf = build(BIG_MAIN, model=source, memory=MemoryMap(weights=region))
    assert elf.memory.weights == ("SRAM" if region == "ITCM" else region)
    assert elf.memory.weights in elf.memory.describe()
    assert flash_bytes(elf.path).weights == BIG
    run = run_firmware(elf.path, count_regions=False, timeout_s=30)
    assert run.one("CRC").numbers() == (crc,)


def test_weights_that_may_not_move_are_an_error(build: Build, big: tuple[str, int]) -> None:
    with pytest.raises(ToolchainError, match=r"region `ITCM' overflowed by \d+ bytes"):
        build(BIG_MAIN, model=big[0], memory=MemoryMap(weights_overflow=None))


def test_scalar_target_has_no_vector_instructions(build: Build) -> None:
    runtime = """
    #include <stdint.h>
    int32_t dot(const int8_t *a, const int8_t *b, int n) {
        int32_t s = 0;
        for (int i = 0; i < n; i++) s += a[i] * b[i];
        return s;
    }"""
    main = """
    int32_t dot(const int8_t *, const int8_t *, int);
    static int8_t a[40];
    int main(void) {
        for (int i = 0; i < 40; i++) a[i] = (int8_t)(3 * i - 60);
        const uint32_t sum = (uint32_t)dot(a, a, 40);
        dtmm_report_u32("SUM", &sum, 1);
        return 0;
    }"""
    expected = sum((3 * i - 60) ** 2 for i in range(40))
    for target, vector in (("m55", True), ("m55-scalar", False)):
        elf = build(main, runtime=runtime, target=target)
        code = disassemble(elf.path)
        own = [t for t, s in zip(code.text, code.symbol, strict=True) if s == "dot"]
        assert any(text.startswith("vmla") for text in own) == vector
        run = run_firmware(elf.path, count_regions=False, timeout_s=30)
        assert run.one("SUM").numbers() == (expected,)


@pytest.mark.parametrize(
    ("main", "options", "message"),
    [
        ("int main(void) { return x; }", {}, r"main\.c:2:25: error: use of undeclared"),
        ("int f(void); int main(void) { return f(); }", {}, "undefined reference to `f'"),
        ("#error no such level\nint main(void) { return 0; }", {}, "error: no such level"),
        ("int main(void) { return 0; }", {"target": "m7"}, "target 'm7': expected one of m55"),
    ],
)
def test_build_errors_are_one_line(
    build: Build, main: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(ToolchainError, match=message) as error:
        build(main, **options)
    assert "\n" not in str(error.value)


def test_a_failed_build_leaves_nothing(toolchain: None, tmp_path: Path) -> None:
    source, out = tmp_path / "main.c", tmp_path / "out.elf"
    source.write_text("int main(void) { return x; }")
    with pytest.raises(ToolchainError):
        build_elf(model_sources=[], runtime_sources=[], harness_sources=[source], out_elf=out)
    with pytest.raises(ToolchainError, match=r"absent\.c does not exist"):
        build_elf(
            model_sources=[tmp_path / "absent.c"],
            runtime_sources=[],
            harness_sources=[source],
            out_elf=out,
        )
    assert list(tmp_path.iterdir()) == [source]


def test_a_changed_header_or_define_is_seen(toolchain: None, tmp_path: Path) -> None:
    (tmp_path / "include").mkdir()
    main = tmp_path / "main.c"
    main.write_text(
        '#include "value.h"\n#include "dtmm_firmware.h"\nint main(void) {\n'
        'const uint32_t v[] = {VALUE, LEVEL};\ndtmm_report_u32("V", v, 2); return 0; }'
    )
    for value, level in ((1, 1), (2, 1), (2, 3), (1, 1)):
        (tmp_path / "include" / "value.h").write_text(f"#define VALUE {value}\n")
        elf = build_elf(
            model_sources=[],
            runtime_sources=[],
            harness_sources=[main],
            include_dirs=[tmp_path / "include"],
            defines={"LEVEL": level, "FLAG": None},
            out_elf=tmp_path / "out.elf",
        )
        run = run_firmware(elf.path, count_regions=False, timeout_s=30)
        assert run.one("V").numbers() == (value, level)


def test_changed_binary_data_is_seen(toolchain: None, tmp_path: Path) -> None:
    data, model, main = tmp_path / "data.bin", tmp_path / "model.S", tmp_path / "main.c"
    model.write_text(f'.section .dtmm.weights,"a"\n.global big\nbig: .incbin "{data}"\n')
    main.write_text(
        '#include "dtmm_firmware.h"\nextern const uint8_t big[];\n'
        'int main(void) { dtmm_report_bytes("V", 0, big, 2); return 0; }'
    )
    for content in (b"ab", b"cd"):
        data.write_bytes(content)
        elf = build_elf(
            model_sources=[model],
            runtime_sources=[],
            harness_sources=[main],
            out_elf=tmp_path / "out.elf",
        )
        run = run_firmware(elf.path, count_regions=False, timeout_s=30)
        assert run.one("V").payload() == (0, content)


def test_builds_are_reproducible(build: Build) -> None:
    one, two = (build(MAIN, model=MODEL, assembly=COUNT_DOWN).path.read_bytes() for _ in range(2))
    assert one == two


@pytest.mark.parametrize("map_options", [{"weights": "FLASH"}, {"stack": "", "code": "ROM"}])
def test_unknown_memory_region(map_options: dict[str, str]) -> None:
    with pytest.raises(ToolchainError, match="expected ITCM, SRAM, DTCM, ISRAM, DDR"):
        MemoryMap(**map_options)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 100, 512 * 1024 + 16])
def test_impossible_stack(size: int) -> None:
    with pytest.raises(ToolchainError, match=f"stack_bytes={size}: expected a multiple of 16"):
        MemoryMap(stack_bytes=size)


HOST = """
#include <stdint.h>
int32_t add(int32_t a, int32_t b) { return a + b + OFFSET; }
int read_past(int i) { volatile int a[4] = {1, 2, 3, 4}; return a[i]; }
#ifdef PROGRAM
int main(int argc, char **argv) { (void)argv; return read_past(argc + 3) == 99; }
#endif
"""


def test_host_library(toolchain: None, tmp_path: Path) -> None:
    source = tmp_path / "host.c"
    source.write_text(HOST)
    for sanitize in ([], ["undefined"]):
        out = tmp_path / f"{len(sanitize)}" / "libhost.so"
        made = build_host_library(
            sources=[source], out_so=out, defines={"OFFSET": 5}, sanitize=sanitize
        )
        assert ctypes.CDLL(str(made)).add(2, -10) == -3
    with pytest.raises(ToolchainError, match=r"cc failed .*OFFSET"):
        build_host_library(sources=[source], out_so=tmp_path / "bad.so")
    assert not (tmp_path / "bad.so").exists()


@pytest.mark.parametrize("sanitizer", ["address", "undefined"])
def test_host_program_under_a_sanitizer(toolchain: None, tmp_path: Path, sanitizer: str) -> None:
    source = tmp_path / "host.c"
    source.write_text(HOST)
    program = build_host_program(
        sources=[source],
        out=tmp_path / "host",
        defines={"OFFSET": 0, "PROGRAM": None},
        sanitize=[sanitizer],
    )
    done = subprocess.run([program], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode != 0
    assert "overflow" in done.stderr or "out of bounds" in done.stderr
