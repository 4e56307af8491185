"""The simulated data cache, against counts made by hand and a cache written here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dtmm.device import CycleModel, cycle_model, require_tool, run_firmware
from dtmm.device.cache_misses import (
    CacheCounts,
    CachedMemory,
    DataCache,
    cache_plugin,
    read_cache_counts,
)
from dtmm.device.memory import REGIONS
from dtmm.device.qemu import MACHINE
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
        ({"replacement": "fifo"}, "cache replacement 'fifo': expected random or lru"),
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


SCATTERED = """
static uint8_t data[24 * 1024] __attribute__((aligned(64)));
int main(void) {
    uint32_t state = 7;
    for (uint32_t region = 0; region < 2; region++) {
        dtmm_region_begin(region);
        for (int i = 0; i < 3000; i++) {
            state = state * 1664525 + 1013904223;
            volatile uint8_t *at = data + (state >> 8) % (sizeof data - 8); /* of any alignment */
            if (state >> 31) *(volatile uint16_t *)at = (uint16_t)i;
            else state += *(volatile uint32_t *)at;
        }
        dtmm_region_end();
    }
    return 0;
}
"""


class Xorshift:
    """Marsaglia's 32-bit generator (13, 17, 5) from 1, which the plug-in says it replaces by."""

    def __init__(self) -> None:
        self.state = 1

    def below(self, limit: int) -> int:
        word = self.state
        word ^= word << 13 & 0xFFFFFFFF
        word ^= word >> 17
        word ^= word << 5 & 0xFFFFFFFF
        self.state = word
        return word % limit


def simulate(trace: list[list[str]], cache: DataCache) -> tuple[int, int, int, int]:
    """(reads, writes, read misses, write misses) of one region's accesses, the plain way."""
    resident: dict[int, list[int]] = {number: [] for number in range(cache.sets)}
    random = Xorshift()
    counts = {"R": [0, 0], "W": [0, 0]}
    for kind, address, size in trace:
        first, last = int(address, 16), int(address, 16) + int(size) - 1
        for line in range(first // cache.line_bytes, last // cache.line_bytes + 1):
            lines = resident[line % cache.sets]
            counts[kind][0] += 1
            if line in lines:
                if cache.replacement == "lru":
                    lines.append(lines.pop(lines.index(line)))
                continue
            counts[kind][1] += 1
            if len(lines) < cache.ways:
                lines.append(line)
            elif cache.replacement == "lru":
                lines.pop(0)
                lines.append(line)
            else:  # ways fill from the last to the first
                lines[cache.ways - 1 - random.below(cache.ways)] = line
    return counts["R"][0], counts["W"][0], counts["R"][1], counts["W"][1]


@pytest.fixture(scope="module")
def scattered(build: Build):
    return build(SCATTERED).path


@pytest.mark.parametrize(
    "cache",
    [
        DataCache(bytes=4096, ways=4),
        DataCache(bytes=4096, ways=4, replacement="lru"),
        DataCache(bytes=3 * 1024, ways=3, line_bytes=16, replacement="lru"),
        DataCache(bytes=2048, ways=1, line_bytes=64),
        DataCache(),
    ],
)
def test_counts_are_those_of_a_plain_cache_on_the_recorded_accesses(
    scattered, cache: DataCache, tmp_path: Path
) -> None:
    counts, trace = tmp_path / "counts", tmp_path / "trace"
    qemu = str(require_tool("qemu-system-arm").found_path)
    plugin = cache_plugin(scattered, cache, counts, trace)
    command = [qemu, *MACHINE, "-plugin", plugin, "-kernel", str(scattered)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    *regions, rest = trace.read_text().split("REGION")
    assert rest == " 1\n"
    found = read_cache_counts(counts.read_text(), [0, 1])
    dtcm, size = REGIONS["DTCM"]
    for text, each in zip(regions, found, strict=True):
        accesses = [line.split() for line in text.splitlines() if line[:1] in "RW"]
        assert len(accesses) >= 3000  # and the few of the loop itself
        assert not any(dtcm <= int(address, 16) < dtcm + size for _, address, _ in accesses)
        expected = simulate(accesses, cache)
        assert (each.reads, each.writes, each.read_misses, each.write_misses) == expected
        assert each.read_misses > 300
        assert each.bytes_read == sum(int(n) for kind, _, n in accesses if kind == "R")


def test_m55_v2_is_m55_v1_and_the_missed_lines(elf) -> None:
    model = cycle_model("m55-v2")
    run = run_firmware(elf, count_regions=True, cache=model.cache, timeout_s=60)
    plain = CycleModel().price(elf, run.regions)
    cached = model.price(elf, run.regions, run.cache)
    assert [cost.waiting for cost in plain] == [0.0] * 6
    for before, after, missed in zip(plain, cached, run.cache, strict=True):
        assert after.waiting == pytest.approx(46.9 * missed.read_misses)
        assert after.cycles == pytest.approx(before.cycles + 46.9 * missed.read_misses)
        assert (after.instructions, after.by_symbol) == (before.instructions, before.by_symbol)
    assert model.cycles(elf, run.regions[3], run.cache[3]) == cached[3]
    assert cached[0].waiting > 0


def test_m55_v2_needs_the_misses_of_its_regions(elf) -> None:
    model = cycle_model("m55-v2")
    run = run_firmware(elf, count_regions=True, cache=model.cache, timeout_s=60)
    with pytest.raises(MeasurementError, match="m55-v2 got the cache misses of 0 regions, exp"):
        model.price(elf, run.regions)
    with pytest.raises(MeasurementError, match="expected those of the same 1"):
        model.cycles(elf, run.regions[0], run.cache[5])


def test_models_by_name() -> None:
    assert cycle_model("m55-v1") == CycleModel()
    assert cycle_model("m55-v1").cache is None
    assert cycle_model("m55-v2").cache == DataCache()
    assert "32 KiB, 4 ways, 32-byte lines, 46.9 cycles" in cycle_model("m55-v2").memory_text
    with pytest.raises(MeasurementError, match="'m55-v9': expected one of m55-v1, m55-v2"):
        cycle_model("m55-v9")
    with pytest.raises(MeasurementError, match="m55-v2 is frozen: memory = None"):
        CycleModel("m55-v2")
