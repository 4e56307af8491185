"""What int8 costs in accuracy: ways of quantizing, on dense and pruned networks.

Every network is quantized in every way and run over all test images by the C library on the host,
which computes the bytes that the device computes. Drops are in points against the float network.
Pruned: half of the filterlets of every convolution but the first and the 1x1 ones gone, those of
smallest L1 norm, then fine-tuned. The paper's networks of which a checkpoint is shipped take part.

Resumable: finished cells stay in runs/experiments/quantization, and the table is written after
every cell, so that a partial one names what it lacks.

    python -m experiments.quantization [--quick] [--figures-only] [--out FOLDER]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import dtmm
from dtmm import artifact
from dtmm.artifact import write_atomic
from dtmm.config import Count, FinetuneConfig, QuantizeConfig, Share
from dtmm.data import Dataset, load_dataset
from dtmm.deploy import HostModel, plan
from dtmm.device.provenance import git_commit
from dtmm.models import build_model, load_checkpoint, shipped_checkpoint
from dtmm.network.ir import Network
from dtmm.pipeline.source import capture
from dtmm.planning import layout
from dtmm.quantization import quantize_input
from dtmm.sweep import InProcessExecutor, run_sweep
from dtmm.table import read_table, to_latex, write_table
from dtmm.training.executor import run_float
from dtmm.training.finetune import finetune
from dtmm.training.int8 import int8_errors, to_int8
from experiments.experiment import QUICK_RESULTS, Experiment, Job, save_figure

NAME = "quantization"
SCRATCH = QUICK_RESULTS / NAME
"""Finished cells, tuned networks and float logits, so that a run can be taken up again."""
QUICK_NETWORKS = (("tiny_resnet", "digits"),)
NETWORKS = (*QUICK_NETWORKS, ("resnet12", "fashion_mnist"), ("vgg11", "fashion_mnist"))
METHODS: Mapping[str, QuantizeConfig] = {
    "min-max": QuantizeConfig(),
    "percentile": QuantizeConfig(ranges="percentile"),
    "MSE": QuantizeConfig(ranges="mse"),
    "min-max, equalized": QuantizeConfig(equalize=True),
    "min-max, bias corrected": QuantizeConfig(bias_correction=True),
    "all three": QuantizeConfig(ranges="mse", equalize=True, bias_correction=True),
    "QAT": QuantizeConfig(qat_epochs=1),
}
"""What quantizes, in the order of the table; QAT starts from min-max."""
TUNING = FinetuneConfig(epochs=1, images_per_epoch=Count(20_000), lr=0.02, distill=Share(0.5))
ERROR_IMAGES = 16


def cell(model: str, dataset: str, pruned: bool, method: str) -> dict[str, Any]:
    """Accuracies of one network in one way, and the noisiest tensor's ratio."""
    data = load_dataset(dataset)
    network = _network(model, data, pruned)
    inputs = data.to_input(data.test_images)
    exact = _logits(network, data, f"{model}_{'pruned' if pruned else 'dense'}")
    int8 = to_int8(network, data, METHODS[method])
    host = HostModel(plan(int8.network, layout(int8.folded)))
    found = host.run(quantize_input(int8.network, inputs))
    errors = int8_errors(int8, inputs[:ERROR_IMAGES])
    right, before = (np.mean(each.argmax(1) == data.test_labels) for each in (found, exact))
    return {
        "float_accuracy": 100 * float(before),
        "int8_accuracy": 100 * float(right),
        "drop_points": 100 * float(before - right),
        "same_class_percent": 100 * float(np.mean(found.argmax(1) == exact.argmax(1))),
        "output_sqnr_db": errors[-1].sqnr_db,
        "lowest_sqnr_db": min(error.sqnr_db for error in errors),
        "test_images": len(inputs),
    }


def _network(model: str, data: Dataset, pruned: bool) -> Network:
    module = build_model(model, data)
    load_checkpoint(shipped_checkpoint(model, data.name), module)
    dense = capture(module, data, model)
    if not pruned:
        return dense
    path = SCRATCH / f"{model}.dtmm"
    if not path.is_file():
        tuning = SCRATCH / f"{model}.pt"
        small = finetune(halved(dense), data, TUNING, teacher=dense, checkpoint=tuning)
        artifact.save(small, path)
        tuning.unlink(missing_ok=True)
    return artifact.load(path, Network)


def halved(network: Network) -> Network:
    """Without the half of each 3x3 convolution's filterlets of least L1 norm; the first stays."""
    params = dict(network.params)
    for op in network.convs()[1:]:
        norms = np.abs(params[op.weight]).sum(3, keepdims=True)
        if norms.shape[1:3] != (1, 1):
            params[op.weight] = np.where(norms >= np.median(norms), params[op.weight], 0)
    return replace(network, params=params)


def _logits(network: Network, data: Dataset, name: str) -> np.ndarray[Any, Any]:
    """Of the float network, computed once."""
    path = SCRATCH / f"{name}.npy"
    if not path.is_file():
        np.save(path, run_float(network, data.to_input(data.test_images)))
    logits: np.ndarray[Any, Any] = np.load(path)
    return logits


def points(quick: bool) -> list[dict[str, Any]]:
    """The cells, those of one network together; networks without a checkpoint are left out."""
    found = []
    for model, dataset in QUICK_NETWORKS if quick else NETWORKS:
        if not shipped_checkpoint(model, dataset).is_file():
            click.echo(f"{model}: no checkpoint for {dataset} is shipped, left out", err=True)
            continue
        for pruned in (False, True):
            for method in METHODS:
                point = {"model": model, "dataset": dataset, "pruned": pruned, "method": method}
                found.append(point)
    return found


def run(job: Job) -> None:
    """Measure what is missing, cell by cell."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    wanted = points(job.quick)
    rows: list[dict[str, Any]] = []
    for number, point in enumerate(wanted, 1):
        (result,) = run_sweep(cell, [point], SCRATCH / "cells.jsonl", InProcessExecutor())
        rows.append({**point, **result})
        click.echo(
            f"{number}/{len(wanted)} {point['model']}: {result['drop_points']:.2f}", err=True
        )
        missing = [f"{p['model']} {p['pruned']} {p['method']}" for p in wanted[number:]]
        about = {
            "experiment": f"experiments.{NAME}",
            "commit": git_commit(Path(__file__).parent) or "unknown",
            "dtmm": dtmm.__version__,
            "missing": "; ".join(missing) or "nothing",
            "unit": "accuracy in percent, drop in points, ratios in dB",
        }
        write_table(job.folder / f"{NAME}.csv", pd.DataFrame(rows), about)


def draw(folder: Path) -> None:
    """Drop per method, a group of bars per network; the same as a LaTeX table."""
    table, _ = read_table(folder / f"{NAME}.csv")
    table["network"] = table["model"] + table["pruned"].map({True: ", pruned", False: ""})
    wide = table.pivot(index="method", columns="network", values="drop_points")
    wide = wide.reindex([method for method in METHODS if method in wide.index])
    figure = Figure(figsize=(7.0, 2.6))
    axes = figure.subplots()
    width = 0.8 / len(wide.columns)
    for n, network in enumerate(wide.columns):
        axes.bar(np.arange(len(wide)) + n * width, wide[network], width, label=network)
    axes.axhline(0, color="black", linewidth=0.5)
    axes.set_xticks(np.arange(len(wide)) + 0.4 - width / 2, wide.index, rotation=20, ha="right")
    axes.set_ylabel("Drop against float (points)")
    axes.legend()
    save_figure(figure, folder, NAME)
    caption = "Points of test accuracy that int8 costs, per way of quantizing."
    digits = dict.fromkeys(wide.columns, 2)
    text = to_latex(wide.reset_index(), caption, "tab:quantization", digits)
    write_atomic(folder / f"{NAME}.tex", text)


EXPERIMENT = Experiment(NAME, __doc__, run, draw, quick="A small network on digits.")
main = EXPERIMENT.command()

if __name__ == "__main__":
    main()
