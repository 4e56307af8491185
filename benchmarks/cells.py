"""One measured cell: a kernel on a shape at a sparsity, and its row in the table."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from benchmarks.bounds import bound, sparse_bound
from benchmarks.shapes import ADD, CONV, DEPTHWISE, FULLY_CONNECTED, Shape
from benchmarks.split import PARTS, split
from dtmm.device import CycleModel, collect_provenance, symbols
from dtmm.device.cycle_model import BlockCost
from dtmm.latency import OpShape, Point, patterns
from dtmm.latency.harness import random_weights, run_points
from dtmm.storage import weight_format
from dtmm.storage.fkw import TAPS
from dtmm.storage.kernel_ids import CONV_CSR, CONV_FKW, CONV_IM2COL, family
from dtmm.storage.stored import VECTOR_BYTES, StorageSize, round_up

CHUNK = 48
"""Cells per firmware."""

RIVALS = (CONV_CSR, CONV_FKW)
"""Kernels for other kinds of pruning: at a sparsity they keep as many weights, not filterlets."""

HARNESS_FUNCTION = "run"
"""The function of latency/harness.c that calls operators: its few instructions are in a region."""

KINDS = {CONV: "conv2d", DEPTHWISE: "depthwise_conv2d"}
"""OpShape.kind where it is not the shape's operator."""


@dataclass(frozen=True, order=True)
class Cell:
    """kernel: kernel id; sparsity_pct: filterlets removed, in percent of all."""

    kernel: str
    shape: Shape
    sparsity_pct: int = 0

    @property
    def filterlets(self) -> int:
        """Filterlets kept; 0 for operators without them."""
        if self.shape.operator not in (CONV, DEPTHWISE):
            return 0
        total = self.shape.kernel_h * self.shape.kernel_w * self.shape.cout
        return round(total * (100 - self.sparsity_pct) / 100)

    @property
    def point(self) -> Point:
        """The point that `dtmm.latency` measures.

        The input carries the halo that the operator needs, and a padded convolution writes as much
        around its output, as it would for a like one behind it.
        """
        shape = self.shape
        halo = shape.halo if shape.operator == CONV and shape.stride == 1 else 0
        geometry = OpShape(
            KINDS.get(shape.operator, shape.operator),
            (shape.h, shape.w),
            shape.out_hw,
            kernel=(shape.kernel_h, shape.kernel_w),
            stride=(shape.stride, shape.stride),
            pad=shape.pad,
            in_halo=shape.halo,
            out_halo=halo,
        )
        return Point(geometry, self.kernel, shape.cin, shape.cout, self.filterlets)

    @property
    def macs(self) -> int:
        """Multiply-accumulates on the weights that are kept."""
        if self.shape.operator != CONV:
            return self.shape.macs
        out_h, out_w = self.shape.out_hw
        return out_h * out_w * self.weights

    @property
    def weights(self) -> int:
        """Weights kept; FKW keeps fours."""
        weights = self.filterlets * self.shape.cin
        return TAPS * round(weights / TAPS) if self.kernel == CONV_FKW else weights

    @property
    def storage(self) -> StorageSize:
        """Flash bytes of the weights as this kernel stores them; from the counts alone."""
        shape = self.shape
        if shape.operator == CONV:
            kernel = (shape.kernel_h, shape.kernel_w)
            size = weight_format(self.kernel).size
            return size(self.filterlets, shape.cout, kernel, shape.cin)
        if shape.operator == DEPTHWISE:
            pixel = round_up(shape.cin, VECTOR_BYTES)
            return StorageSize(shape.kernel_h * shape.kernel_w * pixel, 0, 12 * shape.cout)
        if shape.operator == FULLY_CONNECTED:
            return StorageSize(shape.cin * shape.cout, 0, 12 * shape.cout)
        return StorageSize(0, 0, 0)

    @property
    def bound(self) -> int:
        """The fewest cycles the core could do it in: see `benchmarks.bounds`."""
        if self.kernel in RIVALS:
            return sparse_bound(self.shape, self.weights)
        return bound(self.shape, self.filterlets, family(self.kernel) == CONV_IM2COL)

    def describe(self) -> str:
        """One line for people."""
        return f"{self.kernel} on {self.shape.describe()}, {self.sparsity_pct} % removed"


def measure(
    cells: Sequence[Cell], seed: int, progress: Callable[[int, int], None] | None = None
) -> tuple[pd.DataFrame, dict[str, str]]:
    """One row per cell, in order, and how they were measured.

    Args:
        progress: called with (cells done, cells in all).

    Raises:
        MeasurementError: an operator refuses a cell, or device and host compute different outputs.
        ToolchainError: a tool is missing or fails.
    """
    rows: list[dict[str, object]] = []
    provenance: dict[str, str] = {}
    model = CycleModel()
    for start in range(0, len(cells), CHUNK):
        chunk = cells[start : start + CHUNK]
        with tempfile.TemporaryDirectory(prefix="dtmm-bench-") as name:
            run = run_points([cell.point for cell in chunk], seed, Path(name))
            priced = model.price_blocks(run.elf.path, run.regions)
            provenance = {
                key: str(value)
                for key, value in collect_provenance(run.elf, model).to_dict().items()
            }
            functions = _functions(run.elf.path)
        for cell, blocks, scratch in zip(chunk, priced, run.scratch, strict=True):
            code = _code_bytes(functions, blocks)
            rows.append(_row(cell, blocks, scratch, code, _storage(cell, seed)))
        if progress is not None:
            progress(start + len(chunk), len(cells))
    provenance |= {
        "seed": str(seed),
        "patterns": patterns.DESCRIPTION,
        "note": "weights lie in data memory beside the activations; all memory without wait states",
    }
    return pd.DataFrame(rows), provenance


def _storage(cell: Cell, seed: int) -> StorageSize:
    return random_weights(cell.point, seed).size if cell.kernel in RIVALS else cell.storage


def _row(
    cell: Cell, blocks: Sequence[BlockCost], scratch: int, code: int, storage: StorageSize
) -> dict[str, object]:
    cycles = sum(block.cycles for block in blocks)
    parts = split(blocks)
    return {
        "kernel": cell.kernel,
        **asdict(cell.shape),
        "sparsity_pct": cell.sparsity_pct,
        "instructions": sum(len(b.instructions) * b.executions for b in blocks),
        "cycles": round(cycles),
        "macs": cell.macs,
        "mac_per_cycle": round(cell.macs / cycles, 3),
        "bound_cycles": cell.bound,
        **{f"{part}_cycles": round(parts[part]) for part in PARTS},
        "gathered": gathered(blocks),
        "scratch_bytes": scratch,
        "weight_bytes": storage.weights,
        "index_bytes": storage.index,
        "code_bytes": code,
    }


_GATHER = re.compile(r"vldr[bhw]\.[su](8|16|32)\s+q\d, \[\w+, q")


def gathered(blocks: Sequence[BlockCost]) -> int:
    """Single accesses of all gathering loads."""
    return sum(
        VECTOR_BYTES * 8 // int(match[1]) * block.executions
        for block in blocks
        for text in block.instructions
        if (match := _GATHER.match(text))
    )


_Function = tuple[int, int, str]
"""(first address, bytes, name)"""


def _functions(elf: Path) -> list[_Function]:
    return sorted((s.address, s.size, s.name) for s in symbols(elf) if s.size)


def _code_bytes(functions: Sequence[_Function], blocks: Sequence[BlockCost]) -> int:
    """Bytes of all functions of which a block ran, the harness's own left out."""
    ran = {
        (address, size)
        for address, size, name in functions
        if name != HARNESS_FUNCTION
        and any(address <= block.pc < address + size for block in blocks)
    }
    return sum(size for _, size in ran)


def kernel_of(shape: Shape) -> str:
    """The kernel id of an operator that has no choice of kernels."""
    names = {DEPTHWISE: "depthwise_conv", FULLY_CONNECTED: "fully_connected", ADD: "add"}
    return names.get(shape.operator, shape.operator)
