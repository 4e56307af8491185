"""Networks of others as they are given: packed without loss, in flash, SRAM and cycles.

Every int8 .tflite file below the folder that DTMM_MODELS names (MLPerf Tiny's references, the
DTMM authors' published networks, your own) is read, deployed dense, and deployed again with what
cannot change an output byte left out: dead channels leave, filterlets that are zero are not stored
where that takes fewer bytes. Nothing is trained and nothing estimated, so the loss is zero by
construction: every output byte is compared between device, host library and integer reference, and
between the deployments.

Packing chooses kernels by bytes. A third deployment is the scheduler's: the fastest kernels of the
packed network under a budget of no loss at all (experiments.zero_loss), from cycles measured on the
device, proven optimal.

Figures of TFLM with CMSIS-NN and of the authors' system are those of benchmarks/external, where it
knows the network.

    python -m experiments.transfer [--quick] [--figures-only] [--out FOLDER]
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.external import FOLDER
from benchmarks.imported import AUTHORS, RIVAL, row
from dtmm.artifact import write_atomic
from dtmm.data import load_dataset
from dtmm.deploy import run_on_device
from dtmm.errors import DataError
from dtmm.latency.code_size import measure_code_size
from dtmm.latency.measure import measure_points
from dtmm.models import build_model, load_checkpoint, shipped_checkpoint
from dtmm.network.fold import fold
from dtmm.network.tflite_writer import write_tflite
from dtmm.pipeline.import_model import (
    Imported,
    deploy_kernels,
    import_model,
    random_images,
    require_same_bytes,
)
from dtmm.pipeline.source import capture
from dtmm.pruning.modes.base import prunable, with_masks
from dtmm.quantization import quantize
from dtmm.quantization import run as run_reference
from dtmm.scheduler import solve
from dtmm.storage.kernel_ids import LISTED
from dtmm.table import read_table, to_latex, write_table
from dtmm.training.calibrate import activation_ranges
from experiments.experiment import QUICK_RESULTS, Experiment, Job, row_provenance, save_figure
from experiments.zero_loss import zero_loss_points, zero_loss_problem

NAME = "transfer"
SYSTEMS = {
    f"{AUTHORS}_cycles": "DTMM authors",
    f"{RIVAL}_cycles": "TFLM, CMSIS-NN",
    "dense_cycles": "ours, dense",
    "cycles": "ours, packed",
    "scheduled_cycles": "ours, scheduled",
}
QUICK_REMOVED = 0.5
"""Share of filterlets that the tiny network of a quick run lacks."""


def models(job: Job) -> list[Path]:
    """The files; a quick run writes a tiny one.

    Raises:
        DataError: DTMM_MODELS is not set, or holds no .tflite file.
    """
    if job.quick:
        return [tiny_model(job.folder / f"{NAME}_tiny.tflite")]
    folder = os.environ.get("DTMM_MODELS")
    paths = sorted(Path(folder).rglob("*.tflite")) if folder else []
    if not paths:
        raise DataError(
            f"DTMM_MODELS is {folder or 'not set'}, expected a folder with .tflite files below it"
        )
    return paths


def tiny_model(path: Path) -> Path:
    """The tiny network on digits in int8, a share of its filterlets at zero."""
    dataset = load_dataset("digits")
    module = build_model("tiny_resnet", dataset)
    load_checkpoint(shipped_checkpoint("tiny_resnet", "digits"), module)
    network = capture(module, dataset, "tiny_resnet")
    rng = np.random.default_rng(0)
    shapes = {op.name: network.params[op.weight].shape[:3] for op in prunable(network)}
    masks = {name: rng.random((*s, 1)) > QUICK_REMOVED for name, s in shapes.items()}
    folded = fold(with_masks(network, masks))
    ranges = activation_ranges(folded, dataset.to_input(dataset.train_images[:64]))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, write_tflite(quantize(folded, ranges)))
    return path


def measure(paths: list[Path], store: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """A row per model, and how they were measured; cycles of single operators stay in `store`."""
    others, _ = read_table(FOLDER / "networks.csv", text=("system", "network"))
    rows: list[dict[str, Any]] = []
    provenance: dict[str, str] = {}
    for path in paths:
        click.echo(path.name, err=True)
        imported = import_model(path, find_filterlets=True, images=1)
        rows.append({**row(imported, others), **_memory(imported), **scheduled(imported, store)})
        provenance = {k: str(v) for k, v in imported.measurements["packed"].provenance.items()}
    return pd.DataFrame(rows), provenance


def _memory(imported: Imported) -> dict[str, int]:
    """Bytes of flash and SRAM of both deployments, and channels that packing left out."""
    found = {"channels": imported.channels, "removed_channels": imported.removed_channels}
    for system, measured in imported.measurements.items():
        found[f"{system}_flash"] = sum(measured.flash.values())
        found[f"{system}_sram"] = sum(measured.sram.values())
    return found


def scheduled(imported: Imported, store: Path) -> dict[str, Any]:
    """The packed network with the scheduler's kernels at no loss, measured, and its proof.

    `other_kernels`: convolutions that run on another kernel than in the packed deployment.

    Raises:
        MeasurementError: an output byte differs.
    """
    packed = imported.packed
    table = measure_points(zero_loss_points(packed.network), store)
    found = solve(zero_loss_problem(packed.network, table, measure_code_size()))
    deployment = deploy_kernels(packed.network, found.kernels)
    codes = random_images(packed.network, 1)
    measured = run_on_device(deployment, codes, counted_images=1)
    expected = run_reference(packed.network, codes)
    require_same_bytes(f"model {imported.name}, scheduled", expected, deployment, codes, measured)
    ours, theirs = (
        {name: kernel.removesuffix(LISTED) for name, kernel in each.kernels.items()}
        for each in (deployment, packed)
    )
    return {
        "scheduled_cycles": round(measured.cycles),
        "predicted_cycles": round(found.latency),
        "scheduled_flash": sum(measured.flash.values()),
        "scheduled_sram": sum(measured.sram.values()),
        "estimated_loss": found.loss,
        "other_kernels": sum(theirs[name] != kernel for name, kernel in ours.items()),
        **row_provenance(0, schedule=found, measured=measured.provenance),
    }


def draw(table: pd.DataFrame) -> Figure:
    """Cycles per network and system, on a logarithmic axis."""
    figure = Figure(figsize=(7.0, 2.6))
    axes = figure.add_subplot()
    places = np.arange(len(table))
    shades = ("0.9", "0.7", "0.6", "0.3", "0.0")
    hatches = ("...", "///", "", "", "")
    present = {name: text for name, text in SYSTEMS.items() if name in table}
    for n, (column, label) in enumerate(present.items()):
        at = places + (n - (len(present) - 1) / 2) * 0.17
        axes.bar(at, table[column] / 1e6, 0.17, label=label, color=shades[n - len(present)],
                 hatch=hatches[n - len(present)], edgecolor="black", linewidth=0.4)  # fmt: skip
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylabel("Mcycles per inference (m55-v1)")
    axes.set_xticks(places, table["network"])
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figure


def latex(table: pd.DataFrame) -> str:
    """Per network: zero filterlets, flash, SRAM, cycles, and TFLM's."""
    columns: dict[str, Any] = {
        "Network": table["network"],
        "Zero filterlets (%)": 100 * table["zero_filterlets"] / table["filterlets"],
        "Flash dense (KiB)": table["dense_flash"] / 1024,
        "Flash packed (KiB)": table["packed_flash"] / 1024,
        "SRAM packed (KiB)": table["packed_sram"] / 1024,
        "Mcycles dense": table["dense_cycles"] / 1e6,
        "Mcycles packed": table["cycles"] / 1e6,
        "Mcycles scheduled": table["scheduled_cycles"] / 1e6,
    }
    for column, name in ((f"{RIVAL}_cycles", "Mcycles TFLM"), (f"{AUTHORS}_cycles", "authors")):
        if column in table:
            columns[name] = table[column] / 1e6
    digits = {name: 2 if "cycles" in name or name == "authors" else 1 for name in columns}
    del digits["Network"]
    caption = "Int8 networks of others, packed without loss."
    return to_latex(pd.DataFrame(columns), caption, "tab:transfer", digits)


def draw_all(folder: Path) -> None:
    """The figure (PDF, PNG) and the LaTeX table beside the CSV, from the CSV alone.

    Raises:
        DataError: the CSV is missing or malformed.
    """
    table, _ = read_table(folder / f"{NAME}.csv", text=("network",))
    save_figure(draw(table), folder, NAME)
    write_atomic(folder / f"{NAME}.tex", latex(table))


def run(job: Job) -> None:
    """Measure, and write the CSV with its provenance."""
    store = (job.folder if job.quick else QUICK_RESULTS) / f"{NAME}_points.jsonl"
    table, provenance = measure(models(job), store)
    about = {"experiment": f"experiments.{NAME}", **provenance, "unit": "cycles, bytes"}
    write_table(job.folder / f"{NAME}.csv", table, about)


EXPERIMENT = Experiment(
    NAME, __doc__, run, draw_all, quick="A tiny network that the run writes itself."
)
main = EXPERIMENT.command()

if __name__ == "__main__":
    main()
