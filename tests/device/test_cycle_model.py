"""m55-v1 against its rules written out once more, plainly, block by block."""

from __future__ import annotations

import dataclasses
import multiprocessing
import re
import sqlite3
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from dtmm.device import CycleModel, RegionCounts, require_tool, run_firmware, symbol
from dtmm.device.block_price import data_accesses, price_block, scatters
from dtmm.device.mca import block_cycles
from dtmm.errors import MeasurementError
from tests.device.firmware import COUNT_DOWN, Build

# Vector loops over a table much larger than the rest of the code, cold paths, register lists, IT
# blocks, calls and a recursion: each rule of the model is met.
PROGRAM = """
#include <string.h>
static int8_t a[2048], b[2048];
__attribute__((noinline)) static int32_t dot(const int8_t *x, const int8_t *y, int n) {
    int32_t sum = 0;
    for (int i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}
__attribute__((noinline)) static void scale(int8_t *x, int n, int k) {
    for (int i = 0; i < n; i++) x[i] = (int8_t)(x[i] * k >> 3);
}
__attribute__((noinline)) static unsigned spread(unsigned n) {
    return n < 2 ? n : spread(n - 1) + spread(n - 2);
}
__attribute__((noinline)) static int clamp(int v, int low, int high) {
    return v < low ? low : v > high ? high : v;
}
__attribute__((noinline)) static int sort(int8_t *x, int n) {
    int swaps = 0;
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && x[j] < x[j - 1]; j--, swaps++) {
            int8_t t = x[j]; x[j] = x[j - 1]; x[j - 1] = t;
        }
    return swaps;
}
int main(void) {
    volatile uint32_t sink = 0;
    for (int i = 0; i < 2048; i++) a[i] = (int8_t)(i * 37), b[i] = (int8_t)(i * 11);
    for (uint32_t r = 0; r < 4; r++) {
        dtmm_region_begin(r);
        for (uint32_t i = 0; i < 40; i++) sink += (uint32_t)dot(a + i, b, 1000 + (int)(7 * i * r));
        if (r & 1) scale(a, 2000, (int)r);
        if (r & 2) sink += spread(12 + r), memcpy(a, b, 999);
        for (int i = 0; i < 50; i++) sink += (uint32_t)clamp(i * (int)r, 20, 40);
        if (r == 3) sink += (uint32_t)sort(a, 200);
        dtmm_region_end();
    }
    return 0;
}
"""
CONDITIONS = {"eq", "ne", "cs", "hs", "cc", "lo", "mi", "pl"}
CONDITIONS |= {"vs", "vc", "hi", "ls", "ge", "lt", "gt", "le"}


def listing(elf: Path) -> list[tuple[int, str]]:
    """(address, instruction), as the prototype reads them: without raw bytes."""
    tool = require_tool("llvm-objdump").found_path
    command = [str(tool), "-d", "--mcpu=cortex-m55", "--no-show-raw-insn", str(elf)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.findall(r"^\s*([0-9a-f]+):\s+(\S.*)$", text, re.MULTILINE)
    plain = [re.sub(r"<[^>]*>", "", t.split("@")[0].replace("\t", " ")).strip() for _, t in found]
    return [(int(a, 16), t) for (a, _), t in zip(found, plain, strict=True)]


def fixed_cost(text: str) -> float | None:
    """Cycles of an instruction that is not left to llvm-mca, else None."""
    name, _, rest = text.partition(" ")
    base = name.removesuffix(".w").removesuffix(".n")
    if name in ("le", "letp"):
        return 0.0
    if name.startswith(("wls", "dls", "bkpt", "nop", "dsb", "isb", "tbb", "tbh", "udf", "it")):
        return 1.0
    if base in ("b", "bl", "bx", "blx", "cbz", "cbnz", *("b" + c for c in CONDITIONS)):
        return 1.0
    if name.startswith(("push", "pop", "ldm", "stm", "vpush", "vpop", "vldm", "vstm")):
        count = 0
        for part in text[text.index("{") + 1 : text.index("}")].split(","):
            ends = [int(end.strip()[1:]) for end in part.split("-")] if "-" in part else [0, 0]
            count += ends[1] - ends[0] + 1
        return 1.0 + count
    if base == "ldr" and rest.startswith("pc"):
        return 1.0
    return None


def mca_alone(texts: list[str]) -> float:
    """Marginal cycles of one block, in an llvm-mca process of its own."""
    totals = []
    for iterations in (20, 60):
        command = [str(require_tool("llvm-mca").found_path), "-mtriple=thumbv8.1m.main-none-eabi"]
        command += ["-mcpu=cortex-m55", f"-iterations={iterations}"]
        source = "\n".join(texts) + "\n"
        done = subprocess.run(command, input=source, check=True, capture_output=True, text=True)
        match = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
        assert match
        totals.append(int(match.group(1)))
    return (totals[1] - totals[0]) / 40


def plain_cycles(elf: Path, counts: RegionCounts) -> float:
    """The cycles of one region by the rules, without any sharing of work."""
    code = listing(elf)
    place = {address: i for i, (address, _) in enumerate(code)}
    blocks = []
    for pc, n, count, taken in zip(
        counts.pc.tolist(), counts.instructions.tolist(), counts.executions.tolist(),
        counts.taken.tolist(), strict=True,
    ):  # fmt: skip
        texts = [text for _, text in code[place[pc] : place[pc] + n]]
        left: list[str] = []
        extra = 0.0
        conditional = 0
        for text in texts:
            cost = fixed_cost(text)
            if cost is not None:
                extra += cost
            elif conditional:
                extra += 1
            else:
                left.append(text)
            conditional = max(conditional - 1, 0)
            if text.startswith("it"):
                conditional = len(text.split()[0]) - 1
        penalty = 0 if texts[-1].split()[0] in ("le", "letp") else 2 * taken
        blocks.append((count, n, left, extra, penalty))
    total = sum(count * n for count, n, *_ in blocks)
    hot = [left for count, n, left, *_ in blocks if left and count * n > 0.0005 * total]
    return sum(
        count * ((mca_alone(left) if left in hot else len(left)) + extra) + penalty
        for count, _, left, extra, penalty in blocks
    )


def test_cycles_equal_the_rules_applied_plainly(build: Build) -> None:
    elf = build(PROGRAM).path
    regions = run_firmware(elf, count_regions=True, timeout_s=60).regions
    costs = CycleModel().price(elf, regions)
    assert len({cost.cycles for cost in costs}) == 4
    for region, cost in zip(regions, costs, strict=True):
        assert cost.cycles == pytest.approx(plain_cycles(elf, region), rel=1e-12)
        assert cost.instructions == region.total_instructions
        assert cost.instructions == sum(c.instructions for c in cost.by_symbol.values())
        assert cost.cycles == pytest.approx(sum(c.cycles for c in cost.by_symbol.values()))
        assert CycleModel().cycles(elf, region) == cost
    assert {"main", "dot", "clamp", "spread", "sort", "memcpy"} <= set(costs[3].by_symbol)


def test_a_known_loop_costs_what_it_should(build: Build) -> None:
    """subs 1, bne 1 and 2 for each taken edge; bx lr 1 and 2."""
    main = "void count_down(uint32_t); int main(void) { dtmm_region_begin(0); count_down(5000);"
    elf = build(main + "dtmm_region_end(); return 0; }", assembly=COUNT_DOWN).path
    [region] = run_firmware(elf, count_regions=True, timeout_s=30).regions
    cost = CycleModel().cycles(elf, region).by_symbol["count_down"]
    assert cost.cycles == 5000 * 2 + 4999 * 2 + 1 + 2
    other = CycleModel(name="mine", branch_penalty=5).cycles(elf, region).by_symbol["count_down"]
    assert other.cycles == cost.cycles + 3 * 5000


@pytest.mark.parametrize(
    ("block", "scheduled", "fixed", "ends_in_loop"),
    [
        (["adds r0, r0, #1", "bx lr"], ["adds r0, r0, #1"], 1, False),
        (["push {r4, r5, lr}"], [], 4, False),
        (["push.w {r4-r9, lr}", "vpush {d8-d15}"], [], 8 + 9, False),
        (["ldm.w r0!, {r1, r2, r3}", "ldr.w pc, [r1]"], [], 4 + 1, False),
        (["vldrb.u8 q0, [r0], #16", "letp lr, 0x50"], ["vldrb.u8 q0, [r0], #16"], 0, True),
        (["dlstp.8 lr, r2"], [], 1, False),
        (["wls lr, r2, 0x40"], [], 1, False),
        (["ite eq", "moveq r0, #1", "movne r0, #2", "mov r1, r0"], ["mov r1, r0"], 3, False),
        (["it ne", "bxne lr", "mov r1, r0"], ["mov r1, r0"], 2, False),
        (["bic r0, r0, #1", "bfi r0, r1, #0, #2"], ["bic r0, r0, #1", "bfi r0, r1, #0, #2"], 0, 0),
        (["lsrs r0, r1", "ble 0x40", "nop"], ["lsrs r0, r1"], 2, False),
        (["vmov q0, q1", ""], ["vmov q0, q1"], 1, False),
    ],
)  # fmt: skip
def test_price_of_a_block(
    block: list[str], scheduled: list[str], fixed: float, ends_in_loop: bool
) -> None:
    price = price_block(block)
    assert (list(price.scheduled), price.fixed) == (scheduled, fixed)
    assert price.ends_in_loop == bool(ends_in_loop)


def test_an_edge_at_a_page_end_is_known(build: Build) -> None:
    """Straight code over many pages, with an instruction lying across each border."""
    body = "nop\n" + "mov.w r1, r2\n" * 1500
    assembly = COUNT_DOWN.replace("    subs r0, #1", f"    subs.w r0, r0, #1\n{body}").replace(
        "    bne  count_down", "    bne.w count_down"
    )
    main = "void count_down(uint32_t); int main(void) { dtmm_region_begin(0); count_down(100);"
    elf = build(main + "dtmm_region_end(); return 0; }", assembly=assembly).path
    [region] = run_firmware(elf, count_regions=True, timeout_s=30).regions
    kernel = symbol(elf, "count_down")
    first = kernel.address + 6  # of the 4-byte instructions, so 2 modulo 4 as borders are not
    assert kernel.address % 4 == 0
    crossed = (kernel.address + kernel.size - 8) // 1024 - first // 1024
    assert crossed > 3
    corrected = CycleModel(name="without page edges", page_edges=False).cycles(elf, region)
    charged = CycleModel().cycles(elf, region).cycles - corrected.cycles
    if str(require_tool("qemu-system-arm").version).startswith("7.2"):
        assert charged == crossed * 100 * 2
    else:  # later releases report the block's end right
        assert charged in (0, crossed * 100 * 2)


def test_m55_v1_is_frozen() -> None:
    changes = {"branch_penalty": 3.0, "cold_share": 0.0, "page_edges": False}
    changes |= {"scatter_penalty": 2.0, "data_wait_states": 1.0, "fetch_wait_states": 1.0}
    for name, value in changes.items():
        with pytest.raises(MeasurementError, match=f"m55-v1 is frozen: {name} = {value} needs"):
            CycleModel(**{name: value})
    assert CycleModel(clock_mhz=400.0).milliseconds(1e6) == 2.5


def test_wait_states_and_scatters(build: Build) -> None:
    """Ten rounds of a loop whose accesses and bytes are known."""
    assembly = """
    .syntax unified
    .thumb
    .section .text.walk, "ax", %progbits
    .global walk
    .type walk, %function
    .thumb_func
    .p2align 4
walk:
    movs r1, #10
1:  vldrw.u32 q1, [r0]
    vldrw.u32 q2, [r0, q0]
    vstrb.16 q3, [r0, q0]
    ldr r3, [r0]
    subs r1, r1, #1
    bne 1b
    bx lr
    .size walk, . - walk
"""
    main = """void walk(void *); static uint32_t data[64]; int main(void) {
    __asm volatile("vmov.i32 q0, #0\\nvmov.i32 q3, #0" ::: "q0", "q3");
    dtmm_region_begin(0); walk(data); dtmm_region_end(); return 0; }"""
    elf = build(main, assembly=assembly).path
    [region] = run_firmware(elf, count_regions=True, timeout_s=30).regions

    def cost(**options: float) -> float:
        return CycleModel("variant", **options).cycles(elf, region).by_symbol["walk"].cycles  # type: ignore[arg-type]

    plain = CycleModel().cycles(elf, region).by_symbol["walk"].cycles
    assert cost() == plain
    assert cost(scatter_penalty=3) - plain == 10 * 2 * 3
    assert cost(data_wait_states=2) - plain == 10 * 2 * (2 + 4 + 8 + 1)
    # ten times 3 fetches of 8 bytes (18 or, with the first instruction, 20 bytes) and one of the
    # return; nine edges back and the return. One wait state hides but for the return's fetch.
    assert cost(fetch_wait_states=1) - plain == 10 * 1 + 1
    assert cost(fetch_wait_states=20) == 10 * 3 * 21 + 21 + 10 * (2 + 20)


@pytest.mark.parametrize(
    ("text", "accesses", "gathers"),
    [
        ("vldrw.u32 q0, [r0, #16]", 2, 0),
        ("vldrb.u8 q0, [r1], #16", 2, 0),
        ("vldrw.u32 q0, [r0, q1, uxtw #2]", 4, 1),
        ("vldrw.u32 q0, [q1, #4]", 4, 1),
        ("vstrb.16 q7, [r11, q6]", 8, 1),
        ("vldrb.u8 q0, [r0, q1]", 16, 1),
        ("ldrd r0, r1, [r2], #8", 1, 0),
        ("str r0, [sp, #4]", 1, 0),
        ("vldr d0, [r0]", 1, 0),
        ("push {r4-r7, lr}", 5, 0),
        ("vpush {d8-d15}", 8, 0),
        ("vld40.8 {q0, q1, q2, q3}, [r0]", 2, 0),
        ("vmladava.s8 r0, q0, q1", 0, 0),
        ("adds r0, r0, #1", 0, 0),
    ],
)
def test_accesses_of_an_instruction(text: str, accesses: int, gathers: int) -> None:
    assert (data_accesses([text]), scatters([text])) == (accesses, gathers)


def test_the_name_holds_the_llvm_release(toolchain: None) -> None:
    assert re.fullmatch(r"m55-v1/llvm-\d+\.\d+\.\d+", CycleModel().full_name)


def test_counts_of_another_firmware_are_refused(build: Build) -> None:
    main = "int main(void) { dtmm_region_begin(0); %s dtmm_region_end(); return 0; }"
    one, two = build(main % ""), build(main % '__asm volatile("nop\\nnop\\nmov.w r0, r1");')
    regions = run_firmware(two.path, count_regions=True, timeout_s=30).regions
    with pytest.raises(MeasurementError, match="the counts are of another ELF"):
        CycleModel().price(one.path, regions)


def test_no_regions_and_an_empty_region(build: Build) -> None:
    elf = build("int main(void) { return 0; }").path
    assert CycleModel().price(elf, []) == []
    nothing = np.zeros(0, dtype=np.int64)
    cost = CycleModel().cycles(elf, RegionCounts(7, *[nothing] * 5))
    assert (cost.id, cost.instructions, cost.cycles, cost.by_symbol) == (7, 0, 0, {})


def test_thousands_of_regions_are_priced_in_one_go(build: Build) -> None:
    elf = build(PROGRAM).path
    regions = run_firmware(elf, count_regions=True, timeout_s=60).regions
    expected = CycleModel().price(elf, regions)
    many = [dataclasses.replace(region, id=i) for i in range(1000) for region in regions]
    start = time.monotonic()
    costs = CycleModel().price(elf, many)
    assert time.monotonic() - start < 10
    assert [c.cycles for c in costs] == [c.cycles for c in expected] * 1000


BLOCKS = [(f"add.w r{i}, r{j}, r{k}", f"mul r{k}, r{i}, r{j}")
          for i in range(4) for j in range(4) for k in range(4)]  # fmt: skip


def price_in_child(blocks: list[tuple[str, ...]]) -> dict[tuple[str, ...], float]:
    return block_cycles(blocks)


def test_the_price_cache_has_many_writers(
    toolchain: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DTMM_CACHE_DIR", str(tmp_path))
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        results = pool.map(price_in_child, [BLOCKS[::-1], BLOCKS[10:], BLOCKS], chunksize=1)
    truth = {BLOCKS[0]: mca_alone(list(BLOCKS[0])), BLOCKS[9]: mca_alone(list(BLOCKS[9]))}
    for result in results:
        assert all(results[0][block] == price for block, price in result.items())
    assert {block: results[0][block] for block in truth} == truth
    [file] = tmp_path.glob("*.sqlite")
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT COUNT(*) FROM price").fetchone() == (len(BLOCKS),)


def test_a_damaged_price_cache_changes_nothing(
    toolchain: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DTMM_CACHE_DIR", str(tmp_path))
    expected = block_cycles(BLOCKS[:3])
    [file] = tmp_path.glob("*.sqlite")
    file.write_bytes(b"this is no database" * 100)
    assert block_cycles(BLOCKS[:3]) == expected


def test_a_block_llvm_mca_cannot_read_costs_its_length(
    toolchain: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DTMM_CACHE_DIR", str(tmp_path))
    strange = ("frobnicate r1", "mov r0, r1")
    prices = block_cycles([strange, BLOCKS[5]])
    assert prices[strange] == 2
    assert prices[BLOCKS[5]] == mca_alone(list(BLOCKS[5]))


def test_the_same_elf_gives_the_same_figure(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run twice, the second time from another folder and with prices made anew."""
    elf = build(PROGRAM).path
    first = CycleModel().price(elf, run_firmware(elf, count_regions=True, timeout_s=60).regions)
    monkeypatch.setenv("DTMM_CACHE_DIR", str(tmp_path / "cache"))
    copy = tmp_path / "copy.elf"
    copy.write_bytes(elf.read_bytes())
    again = CycleModel().price(copy, run_firmware(copy, count_regions=True, timeout_s=60).regions)
    assert first == again
