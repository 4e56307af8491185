"""Modelled cycles of counted regions on a Cortex-M55: in zero-wait memory, or behind a data cache.

A block's cost per execution is what llvm-mca's Cortex-M55 scheduling model gives for its
instructions, without those that `block_price.RULES` prices; a taken edge adds `branch_penalty`
unless the block ends in a low-overhead loop end. m55-v2 adds what waiting for missed lines of a
data cache costs. Both are frozen. docs/cycle-model.md says where the figures come from, how they
compare with silicon, and what such a model cannot know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtmm.device.block_counts import RegionCounts
from dtmm.device.block_price import data_accesses, price_block, scatters
from dtmm.device.cache_misses import CacheCounts, CachedMemory, DataCache
from dtmm.device.disassembly import Disassembly, disassemble
from dtmm.device.mca import block_cycles
from dtmm.device.toolchain import require_tool
from dtmm.errors import MeasurementError

_FETCH_BYTES = 8


@dataclass(frozen=True)
class SymbolCost:
    """What a function did within a region."""

    instructions: int
    cycles: float


@dataclass(frozen=True)
class RegionCost:
    """One region: instructions are exact, cycles are modelled.

    waiting: those of `cycles` that the core waited for missed lines (0 in zero-wait memory). They
    are no function's; by_symbol sums to the instructions and to the rest of the cycles.
    """

    id: int
    instructions: int
    cycles: float
    by_symbol: dict[str, SymbolCost]
    waiting: float = 0.0


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

    Attributes:
        branch_penalty: cycles per taken edge.
        cold_share: a block with at most this share of its region's instructions costs 1 cycle per
            instruction, unless its text is also that of a block above it.
        page_edges: whether the edge that QEMU 7.2 shows at the end of a block cut at a page
            (disassembly.Block.at_page_end) costs the penalty although nothing branches there.
            m55-v1 was made so; it adds up to about 1 %, depending on where code lies.
        scatter_penalty: cycles that a gather load or scatter store takes beyond llvm-mca's 2.
        data_wait_states: cycles that each access of data waits (`block_price.data_accesses`), as
            if all data, the stack too, lay in one slow memory without a cache.
        fetch_wait_states: cycles that a fetch of 8 bytes of code waits. A block takes no less than
            its fetches, and a taken edge waits once more.
        memory: a data cache in front of slow memory, None for zero-wait memory.
        clock_mhz: for times. No figure in cycles depends on it; wait states are those at this
            clock.
    """

    name: str = "m55-v1"
    branch_penalty: float = 2.0
    cold_share: float = 0.0005
    page_edges: bool = True
    scatter_penalty: float = 0.0
    data_wait_states: float = 0.0
    fetch_wait_states: float = 0.0
    memory: CachedMemory | None = None
    clock_mhz: float = 160.0

    def __post_init__(self) -> None:
        if self.name not in _FROZEN:
            return
        wanted = {field.name: field.default for field in fields(self)} | _FROZEN[self.name]
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("name", "clock_mhz") and value != wanted[field.name]:
                raise MeasurementError(
                    f"cycle model {self.name} is frozen: {field.name} = {value} needs another "
                    f"name (expected {wanted[field.name]})"
                )

    @property
    def cache(self) -> DataCache | None:
        """The data cache whose misses `price` needs: run_firmware's argument of that name."""
        return None if self.memory is None else self.memory.cache

    def milliseconds(self, cycles: float) -> float:
        """Time of so many cycles."""
        return cycles / self.clock_mhz / 1e3

    @property
    def full_name(self) -> str:
        """With the LLVM release whose scheduling model is used, such as m55-v1/llvm-19.1.7."""
        return f"{self.name}/llvm-{require_tool('llvm-mca').version}"

    @property
    def memory_text(self) -> str:
        """How it sees memory, for provenance."""
        if self.memory is not None:
            cache = self.memory.cache
            return (
                f"data cache of {cache.bytes // 1024} KiB, {cache.ways} ways, "
                f"{cache.line_bytes}-byte lines, {self.memory.cycles_per_missed_line:g} cycles "
                "for each line that a read misses"
            )
        if self.data_wait_states or self.fetch_wait_states:
            return (
                f"{self.data_wait_states:g} (data), {self.fetch_wait_states:g} (code) wait states"
            )
        return "zero wait states"

    def cycles(
        self, elf: Path, counts: RegionCounts, misses: CacheCounts | None = None
    ) -> RegionCost:
        """Prices one region; for many regions of one ELF `price` is much faster."""
        return self.price(elf, [counts], [] if misses is None else [misses])[0]

    def price(
        self, elf: Path, regions: Sequence[RegionCounts], misses: Sequence[CacheCounts] = ()
    ) -> list[RegionCost]:
        """Prices the regions of one run of one ELF, in order.

        Args:
            misses: the run's `cache`, which a model with `memory` needs and others pass over.

        Raises ToolchainError when LLVM's tools are missing, MeasurementError when the counts are
        not of this ELF, or the misses not of these regions.
        """
        if not regions:
            return []
        rows = _Rows.of(regions)
        table = _BlockTable.of(disassemble(elf), rows)
        cycles = self._row_cycles(rows, table, len(regions))
        costs = _sum_up(regions, rows, table, cycles)
        return costs if self.memory is None else _wait(costs, misses, self)

    def price_blocks(
        self, elf: Path, regions: Sequence[RegionCounts]
    ) -> list[tuple[BlockCost, ...]]:
        """As `price` in zero-wait memory (missed lines are no block's), block by block.

        A region's blocks sum to its cycles and instructions.
        """
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
        base = base + table.fixed[rows.block]
        penalty = self.branch_penalty
        if self.scatter_penalty or self.data_wait_states:
            base = base + self.scatter_penalty * table.scatters[rows.block]
            base = base + self.data_wait_states * table.data_accesses[rows.block]
        if self.fetch_wait_states:
            fetches = np.ceil((rows.distinct[:, 1] - rows.distinct[:, 0]) / _FETCH_BYTES)
            base = np.maximum(base, (1 + self.fetch_wait_states) * fetches[rows.block])
            penalty += self.fetch_wait_states
        free = table.ends_in_loop | (table.at_page_end & (not self.page_edges))
        edge = np.where(free[rows.block], 0.0, penalty)
        return np.asarray(rows.executions * base + edge * rows.taken, dtype=np.float64)


_FROZEN: dict[str, dict[str, Any]] = {"m55-v1": {}, "m55-v2": {"memory": CachedMemory()}}
"""What frozen models have other than the defaults."""


def cycle_model(name: str) -> CycleModel:
    """A frozen model by name. Raises MeasurementError, listing the known ones, on another name."""
    if name not in _FROZEN:
        raise MeasurementError(f"cycle model {name!r}: expected one of {', '.join(_FROZEN)}")
    return CycleModel(name, **_FROZEN[name])


def _wait(
    costs: Sequence[RegionCost], misses: Sequence[CacheCounts], model: CycleModel
) -> list[RegionCost]:
    """The costs with the cycles that the core waits for missed lines."""
    if model.memory is None or [cost.id for cost in costs] != [each.id for each in misses]:
        raise MeasurementError(
            f"cycle model {model.name} got the cache misses of {len(misses)} regions, expected "
            f"those of the same {len(costs)}: run the firmware with cache={model.cache}"
        )
    found = []
    for cost, counts in zip(costs, misses, strict=True):
        cycles = model.memory.cycles(cost.cycles, counts)
        found.append(replace(cost, cycles=cycles, waiting=cycles - cost.cycles))
    return found


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
    scatters: NDArray[np.int64]
    data_accesses: NDArray[np.int64]
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
            np.array([scatters(block.instructions) for block in blocks], dtype=np.int64),
            np.array([data_accesses(block.instructions) for block in blocks], dtype=np.int64),
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
