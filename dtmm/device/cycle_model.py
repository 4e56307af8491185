"""Modelled cycles of counted regions on a Cortex-M55 with zero-wait memory.

m55-v1 is frozen. A block's cost per execution is what llvm-mca's Cortex-M55
scheduling model gives for its instructions, without those that RULES prices; a taken edge adds
`branch_penalty` unless the block ends in a low-overhead loop end. It is a model: on silicon with
caches, differences below about 10 % between different kernels are not to be trusted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dtmm.device.block_counts import RegionCounts
from dtmm.device.disassembly import Disassembly, disassemble
from dtmm.device.mca import block_cycles
from dtmm.device.toolchain import require_tool
from dtmm.errors import MeasurementError

_CONDITIONS = "eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le"


@dataclass(frozen=True)
class Rule:
    """Instructions that llvm-mca does not price: the first matching rule decides.

    cycles: per instruction; per_register: besides, for each register of its list.
    """

    pattern: str
    cycles: float
    per_register: float
    why: str


# Kept from llvm-mca, which sees straight-line code only. The figures are part of m55-v1, frozen.
# Nobody has measured them on silicon one by one.
RULES: tuple[Rule, ...] = (
    Rule(r"(le|letp) ", 0, 0, "loop end: free in steady state, the loop is in the LO branch cache"),
    Rule(r"(wls|dls)", 1, 0, "loop start"),
    Rule(rf"(b|bl|bx|blx|cbz|cbnz|b({_CONDITIONS}))(\.w|\.n)? ", 1, 0, "branch issue"),
    Rule(r"(push|pop|ldm|stm|vpush|vpop|vldm|vstm)", 1, 1, "one memory access per register"),
    Rule(r"ldr(\.w)? pc", 1, 0, "branch through memory"),
    Rule(r"(bkpt|nop|dsb|isb|tbb|tbh|udf)", 1, 0, "issue slot"),
    Rule(r"it", 1, 0, "IT; the instructions under it cost 1 each (see price_block)"),
    Rule(r"$", 1, 0, "not decoded by llvm-objdump"),
)
_COMPILED = tuple((re.compile(rule.pattern), rule) for rule in RULES)
_LOOP_END = re.compile(r"(le|letp) ")


@dataclass(frozen=True)
class BlockPrice:
    """One block: `scheduled` goes to llvm-mca, `fixed` cycles come from RULES."""

    scheduled: tuple[str, ...]
    fixed: float
    ends_in_loop: bool


@dataclass(frozen=True)
class SymbolCost:
    """What a function did within a region."""

    instructions: int
    cycles: float


@dataclass(frozen=True)
class RegionCost:
    """One region: instructions are exact, cycles are modelled; by_symbol sums to both."""

    id: int
    instructions: int
    cycles: float
    by_symbol: dict[str, SymbolCost]


@dataclass(frozen=True)
class BlockCost:
    """One translation block within a region: its first address, the label above it, its text.

    cycles are those of all its executions, taken edges included.
    """

    pc: int
    symbol: str
    instructions: tuple[str, ...]
    executions: int
    cycles: float


@dataclass(frozen=True)
class CycleModel:
    """Prices regions. The defaults are m55-v1; other values need another name.

    branch_penalty: cycles per taken edge. cold_share: a block with at most this share of its
    region's instructions costs 1 cycle per instruction, unless its text is also that of a block
    above it. page_edges: whether the edge that QEMU shows at the end of a block cut at a page
    (disassembly.Block.at_page_end) costs the penalty although nothing branches there. m55-v1 was
    made so; it adds up to about 1 %, depending on where code lies.
    """

    name: str = "m55-v1"
    branch_penalty: float = 2.0
    cold_share: float = 0.0005
    page_edges: bool = True

    def __post_init__(self) -> None:
        values = (self.branch_penalty, self.cold_share, self.page_edges)
        if self.name == "m55-v1" and values != (2.0, 0.0005, True):
            raise MeasurementError(
                f"cycle model m55-v1 is frozen: branch_penalty, cold_share, page_edges = {values} "
                "need another name"
            )

    @property
    def full_name(self) -> str:
        """With the LLVM release whose scheduling model is used, such as m55-v1/llvm-19.1.7."""
        return f"{self.name}/llvm-{require_tool('llvm-mca').version}"

    def cycles(self, elf: Path, counts: RegionCounts) -> RegionCost:
        """Prices one region; for many regions of one ELF `price` is much faster."""
        return self.price(elf, [counts])[0]

    def price(self, elf: Path, regions: Sequence[RegionCounts]) -> list[RegionCost]:
        """Prices the regions of one run of one ELF, in order.

        Raises ToolchainError when LLVM's tools are missing, MeasurementError when the counts are
        not of this ELF.
        """
        if not regions:
            return []
        rows = _Rows.of(regions)
        table = _BlockTable.of(disassemble(elf), rows)
        cycles = self._row_cycles(rows, table, len(regions))
        return _sum_up(regions, rows, table, cycles)

    def price_blocks(
        self, elf: Path, regions: Sequence[RegionCounts]
    ) -> list[tuple[BlockCost, ...]]:
        """As `price`, block by block: a region's blocks sum to its cycles and instructions."""
        if not regions:
            return []
        rows, code = _Rows.of(regions), disassemble(elf)
        cycles = self._row_cycles(rows, _BlockTable.of(code, rows), len(regions))
        blocks = [code.block(*map(int, key)) for key in rows.distinct]
        costs: list[list[BlockCost]] = [[] for _ in regions]
        for row, spent in enumerate(cycles):
            number = int(rows.block[row])
            found, pc = blocks[number], int(rows.distinct[number][0])
            runs = int(rows.executions[row])
            cost = BlockCost(pc, found.symbol, found.instructions, runs, float(spent))
            costs[int(rows.region[row])].append(cost)
        return [tuple(each) for each in costs]

    def _row_cycles(self, rows: _Rows, table: _BlockTable, regions: int) -> NDArray[np.float64]:
        """Cycles of each (region, block) pair."""
        work = rows.executions * rows.instructions
        total = np.bincount(rows.region, weights=work, minlength=regions)
        text = table.text[rows.block]
        hot = (work > self.cold_share * total[rows.region]) & (text >= 0)
        # within a region, a text that is hot anywhere is priced by llvm-mca everywhere
        pair = rows.region * (len(table.texts) + 1) + text
        scheduled = np.isin(pair, np.unique(pair[hot]))
        prices = block_cycles(table.texts[i] for i in np.unique(text[scheduled]))
        by_text = np.array([prices.get(t, 0.0) for t in table.texts] + [0.0])
        base = np.where(scheduled, by_text[text], table.scheduled_length[rows.block])
        free = table.ends_in_loop | (table.at_page_end & (not self.page_edges))
        penalty = np.where(free[rows.block], 0.0, self.branch_penalty)
        each = rows.executions * (base + table.fixed[rows.block])
        return np.asarray(each + penalty * rows.taken, dtype=np.float64)


def price_block(instructions: Sequence[str]) -> BlockPrice:
    """Splits a block into what llvm-mca schedules and what RULES prices.

    An instruction under IT costs 1 cycle: llvm-mca would not know that it is conditional.
    """
    scheduled: list[str] = []
    fixed, under_it = 0.0, 0
    for text in instructions:
        rule = next((rule for pattern, rule in _COMPILED if pattern.match(text)), None)
        if rule is not None:
            fixed += rule.cycles + rule.per_register * _registers(text, rule)
        elif under_it:
            fixed += 1
        else:
            scheduled.append(text)
        under_it = len(text.split()[0]) - 1 if text.startswith("it") else max(under_it - 1, 0)
    ends_in_loop = bool(_LOOP_END.match(instructions[-1]))
    return BlockPrice(tuple(scheduled), fixed, ends_in_loop)


def _registers(text: str, rule: Rule) -> int:
    """Registers in `{r4-r7, lr}`; a range of other names (none is known) counts 4."""
    if not rule.per_register:
        return 0
    count = 0
    match = re.search(r"\{(.*)\}", text)
    for part in match.group(1).split(",") if match else []:
        low, dash, high = part.strip().partition("-")
        if not dash:
            count += 1
        elif low[1:].isdigit() and high[1:].isdigit():
            count += int(high[1:]) - int(low[1:]) + 1
        else:
            count += 4
    return count


@dataclass(frozen=True)
class _Rows:
    """All regions' blocks, one row per (region, block): int64 arrays of one length.

    `block` indexes `distinct`, the (pc, end, instructions) of every block that ran.
    """

    region: NDArray[np.int64]
    block: NDArray[np.int64]
    instructions: NDArray[np.int64]
    executions: NDArray[np.int64]
    taken: NDArray[np.int64]
    distinct: NDArray[np.int64]

    @staticmethod
    def of(regions: Sequence[RegionCounts]) -> _Rows:
        region = np.repeat(np.arange(len(regions)), [len(r.pc) for r in regions])
        instructions = np.concatenate([r.instructions for r in regions])
        keys = [np.concatenate([getattr(r, k) for r in regions]) for k in ("pc", "end")]
        table = np.stack([*keys, instructions], axis=1).reshape(-1, 3)
        distinct, block = np.unique(table, axis=0, return_inverse=True)
        executions = np.concatenate([r.executions for r in regions])
        taken = np.concatenate([r.taken for r in regions])
        return _Rows(region, block.reshape(-1), instructions, executions, taken, distinct)


@dataclass(frozen=True)
class _BlockTable:
    """Per distinct block; `text` indexes `texts`, and is -1 when RULES price all of the block."""

    text: NDArray[np.int64]
    scheduled_length: NDArray[np.int64]
    fixed: NDArray[np.float64]
    ends_in_loop: NDArray[np.bool_]
    at_page_end: NDArray[np.bool_]
    symbol: NDArray[np.int64]
    texts: list[tuple[str, ...]]
    symbols: list[str]

    @staticmethod
    def of(code: Disassembly, rows: _Rows) -> _BlockTable:
        blocks = [code.block(*map(int, key)) for key in rows.distinct]
        prices = [price_block(block.instructions) for block in blocks]
        texts: dict[tuple[str, ...], int] = {}
        symbols: dict[str, int] = {}
        text = [texts.setdefault(p.scheduled, len(texts)) if p.scheduled else -1 for p in prices]
        symbol = [symbols.setdefault(block.symbol, len(symbols)) for block in blocks]
        return _BlockTable(
            np.array(text, dtype=np.int64),
            np.array([len(p.scheduled) for p in prices], dtype=np.int64),
            np.array([p.fixed for p in prices], dtype=np.float64),
            np.array([p.ends_in_loop for p in prices], dtype=np.bool_),
            np.array([block.at_page_end for block in blocks], dtype=np.bool_),
            np.array(symbol, dtype=np.int64),
            list(texts),
            list(symbols),
        )


def _sum_up(
    regions: Sequence[RegionCounts],
    rows: _Rows,
    table: _BlockTable,
    cycles: NDArray[np.float64],
) -> list[RegionCost]:
    names = max(len(table.symbols), 1)
    pair = rows.region * names + table.symbol[rows.block]
    pairs, inverse = np.unique(pair, return_inverse=True)
    work = np.bincount(inverse, weights=rows.executions * rows.instructions)
    spent = np.bincount(inverse, weights=cycles)
    by_symbol: list[dict[str, SymbolCost]] = [{} for _ in regions]
    for key, instructions, each in zip(pairs, work, spent, strict=True):
        costs = by_symbol[int(key) // names]
        costs[table.symbols[int(key) % names]] = SymbolCost(int(instructions), float(each))
    return [
        RegionCost(
            region.id,
            region.total_instructions,
            sum(cost.cycles for cost in costs.values()),
            costs,
        )
        for region, costs in zip(regions, by_symbol, strict=True)
    ]
