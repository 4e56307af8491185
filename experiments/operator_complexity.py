"""Does the operator's complexity formula say how long it takes?

A kept filterlet of Cin channels is ceil(Cin/16) vectors, and each vector is multiplied with the
input of every output pixel: with P output pixels, F kept filterlets and tiles of T pixels

    MACs(F)  = F * ceil(Cin/16) * P              vector multiply-accumulates
    loads(F) = MACs(F) * (T + 1) / T             vector loads: T of the input per weight vector

and the formula is loads + MACs with T = 8, one filter at a time. Two filters that keep the same
position share the input's loads, so that fewer are executed. The core runs a load beside a
multiply-accumulate, each for 2 cycles, so that 2 * max(loads, MACs) bounds the cycles from below.

Measured on every layer of the table in DESIGN section 7 on the simulated Cortex-M55: vector loads
and multiply-accumulates that were executed, and cycles (m55-v1, whole operator call).

    python -m experiments.operator_complexity [--quick] [--figures-only] [--out FOLDER]
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks import shapes
from benchmarks.cells import Cell
from benchmarks.kernels import sparse_kernels
from benchmarks.shapes import Shape
from dtmm.artifact import write_atomic
from dtmm.device import CycleModel, collect_provenance
from dtmm.device.cycle_model import BlockCost
from dtmm.latency import patterns
from dtmm.latency.harness import run_points
from dtmm.storage.stored import VECTOR_BYTES
from dtmm.table import read_table, to_latex, write_table
from experiments.experiment import Experiment, Job, save_figure

LAYERS = shapes.TABLE[:-1]
REMOVED = (0, 25, 50, 75, 90, 95)
QUICK_LAYERS = LAYERS[-2:]
QUICK_REMOVED = (0, 75)
"""Filterlets removed, in percent."""
TILE = 8
"""T: output pixels that share a vector of weights."""
SEED = 1
NAME = "operator_complexity"


def formula(cell: Cell) -> tuple[int, float]:
    """(multiply-accumulates, loads) in vectors."""
    out_h, out_w = cell.shape.out_hw
    macs = cell.filterlets * -(-cell.shape.cin // VECTOR_BYTES) * out_h * out_w
    return macs, macs * (TILE + 1) / TILE


def executed(blocks: Sequence[BlockCost], mnemonic: str) -> int:
    """How many instructions beginning with `mnemonic` ran."""
    return sum(
        block.executions * sum(text.startswith(mnemonic) for text in block.instructions)
        for block in blocks
    )


def measure(
    layers: tuple[Shape, ...], removed: tuple[int, ...]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """One row per layer and share removed (its fastest FWCS kernel), and provenance."""
    cells = [
        Cell(kernel, layer, pct)
        for layer in layers
        for kernel in sparse_kernels(layer)
        if kernel.startswith("conv_fwcs")
        for pct in removed
    ]
    model = CycleModel()
    with tempfile.TemporaryDirectory(prefix="dtmm-complexity-") as name:
        run = run_points([cell.point for cell in cells], SEED, Path(name))
        priced = model.price_blocks(run.elf.path, run.regions)
        provenance = {k: str(v) for k, v in collect_provenance(run.elf, model).to_dict().items()}
    table = pd.DataFrame([_row(cell, blocks) for cell, blocks in zip(cells, priced, strict=True)])
    keys = ["h", "cin", "cout", "removed_percent"]
    fastest = table.loc[table.groupby(keys, sort=False)["cycles"].idxmin()]
    provenance |= {"seed": str(SEED), "patterns": patterns.DESCRIPTION, "tile": str(TILE)}
    return fastest.reset_index(drop=True), provenance


def _row(cell: Cell, blocks: Sequence[BlockCost]) -> dict[str, object]:
    macs, loads = formula(cell)
    return {
        "h": cell.shape.h,
        "cin": cell.shape.cin,
        "cout": cell.shape.cout,
        "removed_percent": cell.sparsity_pct,
        "kernel": cell.kernel,
        "filterlets": cell.filterlets,
        "formula_macs": macs,
        "formula_loads": round(loads),
        "executed_macs": executed(blocks, "vmla"),
        "executed_loads": executed(blocks, "vldr"),
        "cycles": round(sum(block.cycles for block in blocks)),
    }


def fit(table: pd.DataFrame) -> tuple[float, float, float]:
    """(slope, intercept, R squared) of cycles = slope * (loads + MACs) + intercept per output.

    The intercept is in cycles per output value: requantization and the visit of every filter.
    """
    operations = (table["formula_macs"] + table["formula_loads"]).to_numpy(float)
    outputs = (table["h"] ** 2 * table["cout"]).to_numpy(float)
    cycles = table["cycles"].to_numpy(float)
    terms = np.stack([operations, outputs], axis=1)
    (slope, intercept), *_ = np.linalg.lstsq(terms, cycles, rcond=None)
    residual = cycles - terms @ (slope, intercept)
    r_squared = 1 - float(residual @ residual) / float(((cycles - cycles.mean()) ** 2).sum())
    return float(slope), float(intercept), r_squared


def draw(table: pd.DataFrame) -> Figure:
    """Measured cycles against the formula, a line per layer, and the lower bound."""
    figure = Figure()
    axes = figure.subplots()
    for (size, cin, cout), layer in table.groupby(["h", "cin", "cout"], sort=False):
        operations = layer["formula_macs"] + layer["formula_loads"]
        axes.plot(operations / 1e6, layer["cycles"] / 1e6, label=f"{size}x{size}, {cin} to {cout}")
    macs = np.array([table["formula_macs"].min(), table["formula_macs"].max()])
    both = macs * (2 * TILE + 1) / TILE
    axes.plot(both / 1e6, 2 * macs / 1e6, "k-", linewidth=0.8, marker="", label="2 cycles per MAC")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("Formula: vector loads + MACs (millions)")
    axes.set_ylabel("Measured cycles (millions)")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def latex(table: pd.DataFrame) -> str:
    """Formula, what was executed, and cycles, a row per layer and share."""
    slope, intercept, r_squared = fit(table)
    sizes = zip(table["h"], table["cin"], table["cout"], strict=True)
    columns = {
        "Layer (H, Cin, Cout)": ["{}, {}, {}".format(*size) for size in sizes],
        "Removed (%)": table["removed_percent"],
        "MACs (k)": table["formula_macs"] / 1000,
        "executed (x)": table["executed_macs"] / table["formula_macs"],
        "loads (k)": table["formula_loads"] / 1000,
        "executed (x) ": table["executed_loads"] / table["formula_loads"],
        "kcycles": table["cycles"] / 1000,
        "cycles per MAC": table["cycles"] / table["formula_macs"],
    }
    caption = (
        "Vector operations by the formula and as executed, and measured cycles. Least squares: "
        f"cycles = {slope:.3f} (loads + MACs) + {intercept:.2f} per output, R2 = {r_squared:.4f}."
    )
    digits = {name: 0 if "(k)" in name or name == "kcycles" else 2 for name in list(columns)[2:]}
    return to_latex(pd.DataFrame(columns), caption, "tab:operator-complexity", digits)


def run(job: Job) -> None:
    """Measure, and write the CSV with its provenance."""
    layers, removed = (QUICK_LAYERS, QUICK_REMOVED) if job.quick else (LAYERS, REMOVED)
    table, provenance = measure(layers, removed)
    header = {"experiment": f"experiments.{NAME}", **provenance}
    write_table(job.folder / f"{NAME}.csv", table, header)


def draw_all(folder: Path) -> None:
    """The figure (PDF, PNG) and the LaTeX table beside the CSV, from the CSV alone.

    Raises:
        DataError: the CSV is missing or malformed.
    """
    table, _ = read_table(folder / f"{NAME}.csv", text=("kernel",))
    figure = draw(table)
    save_figure(figure, folder, NAME)
    write_atomic(folder / f"{NAME}.tex", latex(table))


EXPERIMENT = Experiment(NAME, __doc__, run, draw_all, quick="Two layers, two shares.")
main = EXPERIMENT.command()

if __name__ == "__main__":
    main()
