"""What each weight format costs beyond the kept weights, against the share of filterlets removed.

Every convolution of ResNet-12 that can be stored sparsely (all but the stem) is filled with random
int8 weights, none of them zero, and the same share of its filterlets is set to zero, drawn without
replacement. In a 1x1 convolution a filterlet is a whole filter. Filters left empty stay. Formats:

- fwcs_stored, fwcs_prepared: the two forms of docs/fwcs.md, header included, as the encoder writes
  them; the prepared form pads filterlets to whole vectors and is what the kernel reads in place;
- authors: the DTMM authors' format, 16 bits per kept filterlet and 16 per filter;
- csr: compressed sparse rows, a row per filter: a 16-bit column per weight and a 16-bit length per
  row. It does not know filterlets: the same zeros as if they were unstructured. (Row pointers
  that count from the start of the layer would not fit into 16 bits.)
- csr_delta: the same with 8-bit gaps between columns;
- csr_vectors, fkw: what the kernels of the rivals read (dtmm.storage.csr, .fkw), as many weights
  removed one by one, or by patterns and whole 3x3 kernels; FKW from 5 of 9 removed on;
- dense: what dtmm.storage writes for the dense kernel; its overhead is the zeros.

All sizes follow from the counts alone (but for csr_delta's rare fillers and how full csr_vectors'
vectors are), so one draw per point is enough. Bias, multiplier and shift of an output channel, 9
bytes, are no overhead.

The same for the pruned int8 networks (.tflite) in the folder that DTMM_MODELS names, with the
filterlets that they lack; without such a folder this part is skipped.

    python -m experiments.storage_overhead [--quick] [--figures-only] [--out FOLDER]
"""

from __future__ import annotations

import os
from pathlib import Path

import click
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import dtmm
from dtmm.artifact import write_atomic
from dtmm.data import load_dataset
from dtmm.errors import DataError
from dtmm.models import build_model
from dtmm.network.ir import Conv2D
from dtmm.pipeline.source import capture
from dtmm.planning.kernels import uses_im2col
from dtmm.table import read_table, to_latex, write_table
from experiments.experiment import Experiment, Job, commit, save_figure
from experiments.storage_formats import FORMATS, LABELS, PRUNED_ALIKE, Int8Array, row
from experiments.tflite_weights import conv_weights

MODEL = "resnet12"
DATASET = "fashion_mnist"
REMOVED = (0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95)
QUICK_REMOVED = (0, 50, 90)
"""Filterlets removed from each layer, in percent."""
SEED = 0
NAME = "storage_overhead"
MODELS_NAME = f"{NAME}_models"
PRINTED = ("fwcs_stored", "fwcs_prepared", "authors", "csr_delta", "csr_vectors", "fkw")
"""Formats of the figure and the tables; the CSV holds all."""
SIXTH_LINE = {"fkw": {"color": "black", "linestyle": ":", "marker": "v"}}
"""The style sheet has five."""

Shape = tuple[int, ...]


def conv_shapes() -> dict[str, Shape]:
    """[C_out, kh, kw, C_in] of every convolution that may be stored sparsely, by layer name."""
    dataset = load_dataset(DATASET)
    network = capture(build_model(MODEL, dataset), dataset, MODEL)
    return {
        op.name: network.params[op.weight].shape
        for op in network.ops
        if isinstance(op, Conv2D) and not uses_im2col(network, op)
    }


def pruned_weights(shape: Shape, removed_percent: int, seed: int) -> Int8Array:
    """Random int8 [C_out, kh, kw, C_in]: so many filterlets zero, every other weight non-zero."""
    random = np.random.default_rng([seed, removed_percent, *shape])
    signs = random.choice(np.array([-1, 1], np.int8), shape)
    weights: Int8Array = random.integers(1, 127, shape, np.int8, endpoint=True) * signs
    filterlets = weights.reshape(-1, shape[3])
    removed = round(len(filterlets) * removed_percent / 100)
    filterlets[random.choice(len(filterlets), removed, replace=False)] = 0
    return weights


def measure(removed_percents: tuple[int, ...]) -> pd.DataFrame:
    """One row per layer, share removed and format."""
    rows = []
    for layer, shape in conv_shapes().items():
        for removed in removed_percents:
            weights = pruned_weights(shape, removed, SEED)
            point = {"layer": layer, "removed_percent": removed}
            for name in FORMATS:
                alike = PRUNED_ALIKE[name](weights) if name in PRUNED_ALIKE else weights
                if alike is not None:
                    rows.append({**point, **row(alike, name)})
    return pd.DataFrame(rows)


def measure_models(folder: Path) -> pd.DataFrame:
    """One row per .tflite file of the folder, convolution and format.

    Raises:
        DataError: the folder holds no .tflite file, or one cannot be read.
    """
    rows = []
    for path in sorted(folder.rglob("*.tflite")):
        for layer, weights in conv_weights(path).items():
            point = {
                "model": path.stem,
                "layer": layer,
                "removed_percent": round(100 * float(1 - weights.any(axis=3).mean()), 2),
            }
            rows += [{**point, **row(weights, name)} for name in FORMATS if name != "fkw"]
    if not rows:
        raise DataError(f"DTMM_MODELS={folder}: expected .tflite files in it")
    return pd.DataFrame(rows)


def totals(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """Sums over the layers per value of column `by` and format.

    Columns: kept, overhead and index in bytes; percent, overhead of the kept weights; bits,
    overhead per filterlet position; index_bits, what of it is the index.
    """
    table = table.assign(positions=table["out_channels"] * table["kh"] * table["kw"])
    names = ["kept_bytes", "overhead_bytes", "index_bytes", "positions"]
    sums = table.groupby([by, "format"])[names].sum().reset_index()
    return sums.assign(
        percent=100 * sums["overhead_bytes"] / sums["kept_bytes"],
        bits=8 * sums["overhead_bytes"] / sums["positions"],
        index_bits=8 * sums["index_bytes"] / sums["positions"],
    )


def draw(table: pd.DataFrame) -> Figure:
    """Overhead against the share removed, a line per format: bits per position, percent."""
    figure = Figure(figsize=(7.0, 2.4))
    sums = totals(table, "removed_percent")
    labels = {
        "bits": "Overhead (bits per position)",
        "percent": "Overhead (% of kept weights)",
    }
    for axes, (column, label) in zip(figure.subplots(1, 2), labels.items(), strict=True):
        for name in PRINTED:
            line = sums[sums["format"] == name]
            style = SIXTH_LINE.get(name, {})
            axes.plot(line["removed_percent"], line[column], label=LABELS[name], **style)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xlim(0, 100)
        axes.set_xlabel("Filterlets (CSR, FKW: weights) removed (%)")
        axes.set_ylabel(label)
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(PRINTED) // 2)
    return figure


def latex(table: pd.DataFrame, by: str, first: str, caption: str, label: str) -> str:
    """Kept bytes and each format's overhead in bits per filterlet position and in percent."""
    sums = totals(table, by)
    wide = sums.pivot(index=by, columns="format", values=["bits", "percent"])
    printed = [name for name in PRINTED if ("bits", name) in wide]
    columns = {
        first: wide.index,
        "Kept (KiB)": sums.groupby(by)["kept_bytes"].first() / 1024,
        **{f"{LABELS[name]} (bits)": wide["bits", name] for name in printed},
        **{f"{LABELS[name]} (%)": wide["percent", name] for name in printed},
    }
    digits = {name: 1 if "KiB" in name else 2 for name in columns if name != first}
    return to_latex(pd.DataFrame(columns), caption, label, digits)


def draw_all(folder: Path) -> None:
    """The figure (PDF, PNG) and the LaTeX tables beside the CSVs, from the CSVs alone.

    Raises:
        DataError: the CSV is missing or malformed.
    """
    table, _ = read_table(folder / f"{NAME}.csv")
    figure = draw(table)
    save_figure(figure, folder, NAME)
    what = "overhead beyond the kept weights, in bits per filterlet position and in percent."
    shares = latex(
        table,
        "removed_percent",
        "Removed (%)",
        f"ResNet-12's convolutions but the stem: {what}",
        "tab:storage-overhead",
    )
    half = table[table["removed_percent"] == 50]
    layers = latex(
        half,
        "layer",
        "Layer",
        f"ResNet-12, half of the filterlets removed: {what}",
        "tab:storage-overhead-layers",
    )
    write_atomic(folder / f"{NAME}.tex", shares)
    write_atomic(folder / f"{NAME}_layers.tex", layers)
    if (folder / f"{MODELS_NAME}.csv").is_file():
        models, _ = read_table(folder / f"{MODELS_NAME}.csv")
        caption = f"Pruned int8 networks: {what}"
        text = latex(models, "model", "Network", caption, "tab:storage-overhead-models")
        write_atomic(folder / f"{MODELS_NAME}.tex", text)


def provenance(model: str, weights: str) -> dict[str, object]:
    """What a CSV says of itself."""
    return {
        "experiment": f"experiments.{NAME}",
        "commit": commit(),
        "dtmm": dtmm.__version__,
        "model": model,
        "weights": weights,
        "unit": "bytes of flash; expanded_bytes: of SRAM; bits of overhead per C_out*kh*kw",
    }


def run(job: Job) -> None:
    """Measure, and write the CSVs with their provenance."""
    about = provenance(MODEL, f"random int8, seed {SEED}")
    removed = QUICK_REMOVED if job.quick else REMOVED
    write_table(job.folder / f"{NAME}.csv", measure(removed), about)
    models = os.environ.get("DTMM_MODELS")
    if not models:
        click.echo("DTMM_MODELS names no folder: real models skipped")
        return
    about = provenance("every .tflite file below DTMM_MODELS", "the models' own")
    write_table(job.folder / f"{MODELS_NAME}.csv", measure_models(Path(models)), about)


EXPERIMENT = Experiment(NAME, __doc__, run, draw_all, quick="Three shares only.")
main = EXPERIMENT.command()

if __name__ == "__main__":
    main()
