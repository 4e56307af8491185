"""Latency of a pruned 3x3 convolution against the share of filterlets removed.

Every layer of the table in DESIGN section 7 with its weights pruned at random, on the simulated
Cortex-M55 (cycles of the model m55-v1, whole operator call):

- FWCS (ours), dense (ours);
- the rivals, our own implementations, with as many weights removed one by one (CSR) or by patterns
  and whole 3x3 kernels (PatDNN's FKW);
- the DTMM authors' kernel and dense CMSIS-NN: figures of benchmarks/external.

The break-even point of a sparse kernel against a dense one is the share removed from which on it
is no slower, interpolated between two measured shares.

    python -m experiments.operator_latency [--quick] [--figures-only] [--out FOLDER]
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks import shapes
from benchmarks.cells import Cell, measure
from benchmarks.external import external_cycles
from benchmarks.kernels import dense_kernels, rival_kernels, sparse_kernels
from benchmarks.shapes import Shape
from dtmm.artifact import write_atomic
from dtmm.table import read_table, to_latex, write_table
from experiments.experiment import Experiment, Job, save_figure

LAYERS = shapes.TABLE[:-1]
REMOVED = (0, 5, 10, 15, 20, 30, 40, 50, 60, 70, 75, 80, 90, 95)
QUICK_LAYERS = LAYERS[-1:]
QUICK_REMOVED = (0, 10, 90)
"""Filterlets removed, in percent."""
SEED = 1
NAME = "operator_latency"

LABELS = {
    "fwcs": "FWCS (ours)",
    "fkw": "PatDNN (FKW)",
    "csr": "CSR",
    "dtmm_authors": "DTMM authors",
    "dense": "dense (ours)",
    "cmsis_nn": "CMSIS-NN (dense)",
}
DENSE = {"dense": "-", "cmsis_nn": ":"}
"""Line styles of what does not depend on the share removed."""
COLUMNS = ["operator", "h", "cin", "cout", "removed_percent", "kernel", "cycles", "source"]


def family(kernel: str) -> str:
    """The line a kernel id belongs to: conv_fwcs_c64 is fwcs."""
    return kernel.removeprefix("conv_").partition("_")[0]


def run_layers(
    layers: tuple[Shape, ...], removed: tuple[int, ...]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """One row per layer, share removed and kernel family (its fastest kernel), and provenance."""
    cells = [Cell(kernel, layer) for layer in layers for kernel in dense_kernels(layer)]
    cells += [
        Cell(kernel, layer, pct)
        for layer in layers
        for pct in removed
        for kernel in (*sparse_kernels(layer), *rival_kernels(layer, pct))
    ]
    measured, provenance = measure(cells, SEED)
    rows = measured.rename(columns={"sparsity_pct": "removed_percent"})
    rows = rows.assign(operator=rows["kernel"].map(family), source="measured")
    keys = ["operator", "h", "cin", "cout", "removed_percent"]
    fastest = rows.loc[rows.groupby(keys, sort=False)["cycles"].idxmin(), COLUMNS]
    return pd.concat([fastest, given(layers)], ignore_index=True), provenance


def given(layers: tuple[Shape, ...]) -> pd.DataFrame:
    """The rows of benchmarks/external that belong to these layers."""
    rows = [
        [kernel, shape.h, shape.cin, shape.cout, pct, kernel, round(cycles), "benchmarks/external"]
        for (kernel, shape, pct), cycles in external_cycles().items()
        if shape in layers and kernel in LABELS
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def break_even(table: pd.DataFrame, sparse: str, dense: str) -> float | None:
    """Percent removed from which on `sparse` is no slower than `dense` on one layer.

    The first share measured if it never is slower, None if it stays slower or has no rows.
    """
    line = table[table["operator"] == sparse].sort_values("removed_percent")
    flat = table.loc[table["operator"] == dense, "cycles"]
    if line.empty or flat.empty:
        return None
    limit = float(flat.iloc[0])
    removed = line["removed_percent"].to_numpy(float)
    cycles = line["cycles"].to_numpy(float)
    slower = np.flatnonzero(cycles > limit)
    if not slower.size:
        return float(removed[0])
    last = int(slower[-1])
    if last + 1 == len(cycles):
        return None
    above, below = cycles[last] - limit, limit - cycles[last + 1]
    share = above / (above + below)
    return float(removed[last] + share * (removed[last + 1] - removed[last]))


def break_evens(table: pd.DataFrame) -> pd.DataFrame:
    """One row per layer and sparse kernel: its break-even with both dense kernels, in percent."""
    rows = []
    for (size, cin, cout), layer in table.groupby(["h", "cin", "cout"], sort=False):
        for sparse in (name for name in LABELS if name not in DENSE):
            if (layer["operator"] == sparse).any():
                points = {name: break_even(layer, sparse, name) for name in DENSE}
                name = f"{size}, {cin}, {cout}"
                rows.append({"layer": name, "operator": LABELS[sparse], **points})
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame) -> Figure:
    """One panel per layer; dense kernels are level lines."""
    layers = list(table.groupby(["h", "cin", "cout"], sort=False))
    figure = Figure(figsize=(2.2 * len(layers), 2.4))
    panels = figure.subplots(1, len(layers), squeeze=False)[0]
    for axes, ((size, cin, cout), layer) in zip(panels, layers, strict=True):
        for name, label in LABELS.items():
            line = layer[layer["operator"] == name].sort_values("removed_percent")
            if line.empty:
                axes.plot([], [], label=label)  # the same style in every panel
                continue
            if name in DENSE:
                level = line["cycles"].iloc[0] / 1e6
                axes.axhline(level, label=label, color="black", linestyle=DENSE[name])
            else:
                axes.plot(line["removed_percent"], line["cycles"] / 1e6, label=label)
        axes.set_title(f"{size}x{size}, {cin} to {cout}")
        axes.set_xlim(0, 100)
        axes.set_ylim(0, None)
        axes.set_xlabel("Filterlets or weights removed (%)")
    panels[0].set_ylabel("Million cycles")
    handles, labels = panels[0].get_legend_handles_labels()
    drawn = {label for _, layer in layers for label in layer["operator"].map(LABELS)}
    shown = [(h, text) for h, text in zip(handles, labels, strict=True) if text in drawn]
    figure.legend(*zip(*shown, strict=True), loc="outside upper center", ncols=len(shown))
    return figure


def latex(table: pd.DataFrame) -> str:
    """The break-even points."""
    points = break_evens(table)
    columns = {
        "Layer (H, Cin, Cout)": points["layer"],
        "Operator": points["operator"],
        "against dense, ours (%)": points["dense"].astype(float),
        "against CMSIS-NN (%)": points["cmsis_nn"].astype(float),
    }
    caption = (
        "Share of filterlets (CSR, FKW: weights) removed from which on a sparse operator is no "
        "slower than a dense one. A dash: it stays slower."
    )
    digits = {name: 1 for name in columns if "%" in name}
    return to_latex(pd.DataFrame(columns), caption, "tab:operator-latency", digits)


def run(job: Job) -> None:
    """Measure, and write the CSV with its provenance."""
    layers, removed = (QUICK_LAYERS, QUICK_REMOVED) if job.quick else (LAYERS, REMOVED)
    table, provenance = run_layers(layers, removed)
    header = {"experiment": f"experiments.{NAME}", **provenance}
    write_table(job.folder / f"{NAME}.csv", table, header)


def draw_all(folder: Path) -> None:
    """The figure (PDF, PNG) and the LaTeX table beside the CSV, from the CSV alone.

    Raises:
        DataError: the CSV is missing or malformed.
    """
    table, _ = read_table(folder / f"{NAME}.csv", text=("operator", "kernel", "source"))
    figure = draw(table)
    save_figure(figure, folder, NAME)
    write_atomic(folder / f"{NAME}.tex", latex(table))


EXPERIMENT = Experiment(NAME, __doc__, run, draw_all, quick="One layer, three shares.")
main = EXPERIMENT.command()

if __name__ == "__main__":
    main()
