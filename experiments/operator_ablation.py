"""What SIMD, instruction parallelism and FWCS each bring to a pruned 3x3 convolution.

Every layer of the table in DESIGN section 7 on the simulated Cortex-M55 (whole operator call,
model m55-v1), in four forms:

- full: the FWCS operator as it ships;
- no SIMD: the same operator's portable C, compiled by the same compiler with the same options for
  the same core without MVE (-mcpu=cortex-m55+nomve). It is plain C with one multiply-accumulate per
  weight: no intrinsics of the DSP extension either;
- no overlap: the very instructions of `full`, priced as if no two of them ever ran in the same
  cycle: each costs what the scheduling model gives for it alone. What this switches off is above
  all the vector load that runs beside a vector multiply-accumulate;
- no FWCS: the dense operator, which multiplies the removed filterlets as zeros. Its latency does
  not depend on how many there are.

    python -m experiments.operator_ablation [--quick] [--figures-only] [--out FOLDER]
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
from benchmarks.kernels import dense_kernels, sparse_kernels
from benchmarks.shapes import Shape
from dtmm.artifact import write_atomic
from dtmm.device import CycleModel, collect_provenance
from dtmm.device.block_price import price_block
from dtmm.device.cycle_model import BlockCost
from dtmm.device.mca import block_cycles
from dtmm.latency import patterns
from dtmm.latency.harness import run_points
from dtmm.table import read_table, to_latex, write_table
from experiments.experiment import Experiment, Job, save_figure

LAYERS = shapes.TABLE[:-1]
REMOVED = (0, 50, 75, 90)
QUICK_LAYERS = LAYERS[-1:]
QUICK_REMOVED = (50,)
"""Filterlets removed, in percent."""
SEED = 1
NAME = "operator_ablation"

FORMS = {
    "full": "full",
    "no_fwcs": "no FWCS (dense)",
    "no_overlap": "no overlap",
    "no_simd": "no SIMD",
}
COLUMNS = ["h", "cin", "cout", "removed_percent", "form", "kernel", "instructions", "cycles"]


def serial_cycles(blocks: Sequence[BlockCost]) -> float:
    """Cycles of a region if each scheduled instruction ran alone.

    Only the blocks' scheduled part changes; branches, pushes and the like cost what they cost.
    """
    texts = [price_block(block.instructions).scheduled for block in blocks]
    alone = block_cycles({(text,) for scheduled in texts for text in scheduled})
    together = block_cycles({scheduled for scheduled in texts if scheduled})
    total = 0.0
    for block, scheduled in zip(blocks, texts, strict=True):
        more = sum(alone[text,] for text in scheduled) - together.get(scheduled, 0.0)
        total += block.cycles + block.executions * max(more, 0.0)
    return total


def regions(
    cells: Sequence[Cell], target: str
) -> tuple[list[tuple[BlockCost, ...]], dict[str, str]]:
    """The priced blocks of each cell, from one firmware, and its provenance."""
    model = CycleModel()
    with tempfile.TemporaryDirectory(prefix="dtmm-ablation-") as name:
        run = run_points([cell.point for cell in cells], SEED, Path(name), target)
        provenance = {k: str(v) for k, v in collect_provenance(run.elf, model).to_dict().items()}
        return model.price_blocks(run.elf.path, run.regions), provenance


def measure(
    layers: tuple[Shape, ...], removed: tuple[int, ...]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """One row per layer, share removed and form; of several kernels the fastest."""
    sparse = [
        Cell(kernel, layer, pct)
        for layer in layers
        for kernel in sparse_kernels(layer)
        if kernel.startswith("conv_fwcs")
        for pct in removed
    ]
    dense = [Cell(kernel, layer) for layer in layers for kernel in dense_kernels(layer)]
    vector, provenance = regions([*sparse, *dense], "m55")
    looped = [cell for cell in sparse if cell.kernel == "conv_fwcs"]
    scalar, _ = regions(looped, "m55-scalar")
    rows = []
    for cell, blocks in zip(sparse, vector[: len(sparse)], strict=True):
        rows.append(_row(cell, "full", blocks, _cycles(blocks)))
        rows.append(_row(cell, "no_overlap", blocks, serial_cycles(blocks)))
    for cell, blocks in zip(looped, scalar, strict=True):
        rows.append(_row(cell, "no_simd", blocks, _cycles(blocks)))
    for cell, blocks in zip(dense, vector[len(sparse) :], strict=True):
        for pct in removed:
            same = Cell(cell.kernel, cell.shape, pct)
            rows.append(_row(same, "no_fwcs", blocks, _cycles(blocks)))
    table = pd.DataFrame(rows, columns=COLUMNS)
    provenance |= {"seed": str(SEED), "patterns": patterns.DESCRIPTION}
    return _fastest(table), provenance


def _fastest(table: pd.DataFrame) -> pd.DataFrame:
    """Of several kernels the one whose full form is fastest, so that forms are of one kernel."""
    keys = ["h", "cin", "cout", "removed_percent"]
    full = table[table["form"] == "full"]
    best = full.loc[full.groupby(keys)["cycles"].idxmin(), [*keys, "kernel"]]
    overlap = table[table["form"].isin(["full", "no_overlap"])].merge(best)
    others = table[table["form"].isin(["no_simd", "no_fwcs"])]
    others = others.loc[others.groupby([*keys, "form"])["cycles"].idxmin()]
    return pd.concat([overlap, others], ignore_index=True)


def _cycles(blocks: Sequence[BlockCost]) -> float:
    return sum(block.cycles for block in blocks)


def _row(cell: Cell, form: str, blocks: Sequence[BlockCost], cycles: float) -> list[object]:
    shape = cell.shape
    instructions = sum(len(block.instructions) * block.executions for block in blocks)
    head = [shape.h, shape.cin, shape.cout, cell.sparsity_pct, form, cell.kernel]
    return [*head, instructions, round(cycles)]


def slowdowns(table: pd.DataFrame) -> pd.DataFrame:
    """A row per layer and share removed: cycles of `full`, and how many times as many each form."""
    keys = ["h", "cin", "cout", "removed_percent"]
    wide = table.pivot(index=keys, columns="form", values="cycles")
    without = {form: wide[form] / wide["full"] for form in FORMS if form != "full"}
    return pd.DataFrame({"full": wide["full"], **without}).reset_index()


def draw(table: pd.DataFrame) -> Figure:
    """Slowdown of each form, a group of bars per layer, at each share removed a panel."""
    wide = slowdowns(table)
    shares = sorted(wide["removed_percent"].unique())
    figure = Figure(figsize=(1.9 * len(shares) + 0.6, 2.4))
    panels = figure.subplots(1, len(shares), sharey=True, squeeze=False)[0]
    forms = [form for form in FORMS if form != "full"]
    for axes, share in zip(panels, shares, strict=True):
        rows = wide[wide["removed_percent"] == share].sort_values("cin")
        for n, form in enumerate(forms):
            places = np.arange(len(rows)) + 0.27 * (n - 1)
            shade = str(0.15 + 0.3 * n)
            axes.bar(places, rows[form], 0.25, label=FORMS[form], color=shade)
        axes.axhline(1, color="black", linewidth=0.6)
        axes.set_xticks(range(len(rows)), rows["cin"])
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("Input channels")
        axes.set_title(f"{share} % removed")
    panels[0].set_ylabel("Cycles, relative to full")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(forms))
    return figure


def latex(table: pd.DataFrame) -> str:
    """The slowdowns."""
    wide = slowdowns(table)
    sizes = zip(wide["h"], wide["cin"], wide["cout"], strict=True)
    columns = {
        "Layer (H, Cin, Cout)": ["{}, {}, {}".format(*size) for size in sizes],
        "Removed (%)": wide["removed_percent"],
        "full (kcycles)": wide["full"] / 1000,
        **{f"{label} (x)": wide[form] for form, label in FORMS.items() if form != "full"},
    }
    caption = "Cycles of the FWCS operator, and how many times as many without one of its parts."
    digits = {name: 2 if "(x)" in name else 0 for name in columns if "(x)" in name or "(k" in name}
    return to_latex(pd.DataFrame(columns), caption, "tab:operator-ablation", digits)


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
    table, _ = read_table(folder / f"{NAME}.csv", text=("form", "kernel"))
    figure = draw(table)
    save_figure(figure, folder, NAME)
    write_atomic(folder / f"{NAME}.tex", latex(table))


EXPERIMENT = Experiment(NAME, __doc__, run, draw_all, quick="One layer, one share.")
main = EXPERIMENT.command()

if __name__ == "__main__":
    main()
