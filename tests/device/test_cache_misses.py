"""The simulated data cache, against counts made by hand and a cache written here."""

from __future__ import annotations

import pytest

from dtmm.device import run_firmware
from dtmm.device.cache_misses import CacheCounts, CachedMemory, DataCache, read_cache_counts
from dtmm.errors import MeasurementError
from tests.device.firmware import Build

WALK = """
#include <arm_mve.h>
static int8_t data[64 * 1024] __attribute__((aligned(64)));
static uint32_t words[4] __attribute__((aligned(64)));
int main(void) {
    volatile int8_t *at = data;
    for (uint32_t i = 0; i < 2; i++) { /* twice: a region's cache begins empty */
        dtmm_region_begin(0);
        for (int n = 0; n < 8192; n++) (void)at[n];
        dtmm_region_end();
    }
    dtmm_region_begin(1);
    for (int round = 0; round < 3; round++)
        for (int n = 0; n < 8192; n += 4) *(volatile uint32_t *)(data + n) = 1;
    dtmm_region_end();
    dtmm_region_begin(2);
    for (int n = 0; n < 8192; n += 16) {
        uint8x16_t v = vldrbq_u8((const uint8_t *)data + n);
        __asm volatile("" ::"w"(v));
    }
    dtmm_region_end();
    dtmm_region_begin(3);
    (void)*(volatile uint32_t *)(data + 30); /* two lines */
    dtmm_region_end();
    dtmm_region_begin(4);
    for (int round = 0; round < 2; round++)
        for (int n = 0; n < (int)sizeof data; n += 32) (void)at[n];
    dtmm_region_end();
    dtmm_report_u32("WORDS", words, 4);
    return 0;
}
"""


@pytest.fixture(scope="module")
def elf(build: Build):
    return build(WALK).path


def misses(elf, cache: DataCache) -> list[tuple[int, int]]:
    run = run_firmware(elf, count_regions=False, cache=cache, timeout_s=60)
    return [(counts.read_misses, counts.write_misses) for counts in run.cache]


def test_lines_of_a_walk(elf) -> None:
    lines = 8192 // 32
    found = misses(elf, DataCache())
    assert found[:2] == [(lines, 0), (lines, 0)]
    assert found[2] == (0, lines)  # 8 KiB stay in 32 KiB: written three times, missed once
    assert found[3] == (lines, 0)
    assert found[4] == (2, 0)
    # twice the cache: the first walk misses all, the second most of it, whatever was replaced
    assert 3 / 2 * 2048 < found[5][0] < 2 * 2048


def test_accesses(elf) -> None:
    run = run_firmware(elf, count_regions=True, cache=DataCache(), timeout_s=60)
    assert len(run.regions) == len(run.cache) == 6
    assert run.cache[0].reads == 8192
    assert run.cache[2].writes == 3 * 2048
    assert run.cache[2].id == 1


def test_bytes(elf) -> None:
    """As the C code moves them, whatever width the access has; the counters lie on the stack."""
    run = run_firmware(elf, count_regions=False, cache=DataCache(), timeout_s=60)
    literals = 64  # addresses that are loaded from the code
    moved = [(counts.bytes_read, counts.bytes_written) for counts in run.cache]
    for (read, written), (bytes_read, bytes_written) in zip(
        moved,
        [(8192, 0), (8192, 0), (0, 3 * 8192), (8192, 0), (4, 0), (2 * 65536 // 32, 0)],
        strict=True,
    ):
        assert bytes_read <= read <= bytes_read + literals
        assert written == bytes_written


def test_geometry_matters(elf) -> None:
    small = misses(elf, DataCache(bytes=4096, ways=1))
    assert small[2] == (0, 3 * 256)  # direct mapped: 8 KiB push each other out of 4 KiB
    assert misses(elf, DataCache(line_bytes=64))[0] == (128, 0)


def test_uncached_memory_never_misses(elf) -> None:
    found = misses(elf, DataCache(uncached=("ISRAM", "DTCM")))
    assert found == [(0, 0)] * 6


def test_is_deterministic(elf) -> None:
    assert misses(elf, DataCache()) == misses(elf, DataCache())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bytes": 1000}, "data cache of 1000 bytes, 4 ways, 32-byte lines: expected whole sets"),
        ({"ways": 0}, "expected whole sets"),
        ({"uncached": ("FLASH",)}, "uncached memories FLASH: expected some of ITCM, SRAM"),
    ],
)
def test_refusals(options, message: str) -> None:
    with pytest.raises(MeasurementError, match=message):
        DataCache(**options)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "REGION 0 1 2 3 4 5 6\n",
        "REGION 0 1 2 3 4 5\nDONE 1\n",
        "REGION 0 1 2 3 4 5 6 7\nDONE 1\n",
        "REGION 0 1 2 3 4 5 x\nDONE 1\n",
    ],
)
def test_a_malformed_file_is_refused(text: str) -> None:
    with pytest.raises(MeasurementError):
        read_cache_counts(text, [0])


def test_cached_memory_charges_reads_alone() -> None:
    assert CachedMemory().cycles(1000.0, CacheCounts(0, 50, 50, 10, 20)) == 1469.0
    with pytest.raises(MeasurementError, match="m55-v2 is frozen"):
        CachedMemory(cycles_per_missed_line=36.0)
    assert (
        CachedMemory("mine", DataCache(16384), 36.0).cycles(0.0, CacheCounts(0, 1, 0, 1, 0)) == 36
    )
